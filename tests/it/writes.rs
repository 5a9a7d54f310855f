//! How files are written: older over newer, twice within a tick, through several names, without an end, and under
//! every name a file can have.

use std::ffi::OsString;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::harness::{Mirror, SOON, pause, wait_in_sync_with_links, wait_until};
use crate::names;

#[test]
fn an_older_file_in_the_place_of_a_newer_one_arrives() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    fs::write(mirror.source("file"), "the newer one")?;
    fs::write(mirror.outside("backup"), "the old one")?;
    let times =
        FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    File::options()
        .write(true)
        .open(mirror.outside("backup"))?
        .set_times(times)?;
    mirror.in_sync();
    let copied = std::process::Command::new("cp")
        .arg("-p")
        .arg(mirror.outside("backup"))
        .arg(mirror.source("file"))
        .status()?;
    assert!(copied.success(), "cp went well");
    println!("copied over: {:?}", mirror.in_sync());
    fs::write(mirror.source("file"), "the newer one again")?;
    mirror.in_sync();
    fs::rename(mirror.outside("backup"), mirror.source("file"))?;
    println!("moved over: {:?}", mirror.in_sync());
    mirror.finish()
}

#[test]
fn an_older_file_arrives_also_with_an_update_option_in_the_params() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.params = "-artuz".to_owned();
    fs::write(mirror.source("file"), "the newer one")?;
    mirror.run()?;
    mirror.in_sync();
    let mut file = File::create(mirror.source("file"))?;
    file.write_all(b"the old one")?;
    file.set_times(
        FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)),
    )?;
    drop(file);
    mirror.in_sync();
    mirror.sersync().wait_for_problem(&["-u|--update"]);
    mirror.finish()
}

#[test]
fn the_second_of_two_writes_within_a_millisecond_arrives() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for round in 0..20 {
        let name = mirror.source(format!("twice {round}"));
        fs::write(&name, format!("first  {round}"))?;
        // From right after it to some milliseconds later: before, while and after the first one is sent.
        pause(Duration::from_micros(round * 400)); // interval between the two writes
        fs::write(&name, format!("second {round}"))?;
        mirror.in_sync();
    }
    mirror.finish()
}

#[test]
fn the_second_of_two_writes_with_one_size_and_time_arrives() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for round in 0..10 {
        let name = mirror.source(format!("twice {round}"));
        fs::write(&name, format!("first  {round}"))?;
        let modified = fs::metadata(&name)?.modified()?;
        pause(Duration::from_micros(round * 500)); // interval between the two writes
        let mut file = File::create(&name)?;
        file.write_all(format!("second {round}").as_bytes())?;
        file.set_times(FileTimes::new().set_modified(modified))?;
        drop(file);
        mirror.in_sync();
    }
    mirror.finish()
}

/// Waits for the first tenth of a second by the clock, so that what follows happens within that second.
fn begin_of_a_second() {
    wait_until(SOON, "a second begins", || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.expect("it is after 1970").subsec_millis() < 100
    });
}

/// rsync compares times in whole seconds unless it is told otherwise.
#[test]
fn the_second_of_two_writes_within_a_second_arrives_however_late_it_is_sent() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for round in 0..4 {
        begin_of_a_second();
        let name = mirror.source(format!("twice {round}"));
        fs::write(&name, format!("first  {round}"))?;
        wait_until(SOON, "the first one arrives", || {
            mirror.replica(format!("twice {round}")).exists()
        });
        // Another run holds the second one up until it looks like an old change.
        mirror.daemon.freeze();
        fs::write(mirror.source("other"), "keeps a run busy")?;
        pause(Duration::from_millis(100)); // interval in which that run begins
        fs::write(&name, format!("second {round}"))?;
        pause(Duration::from_millis(600 * round)); // interval in which the change grows old
        mirror.daemon.thaw();
        mirror.in_sync();
    }
    mirror.finish()
}

#[test]
fn a_write_of_one_size_within_a_second_is_found_in_a_tree_that_was_away() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for round in 0..3 {
        let (here, away) = (mirror.source("tree"), mirror.outside("tree"));
        begin_of_a_second();
        fs::create_dir_all(&here)?;
        fs::write(here.join("file"), format!("first  {round}"))?;
        mirror.in_sync();
        // Nobody sees this write: what comes back is looked at as a whole.
        fs::rename(&here, &away)?;
        fs::write(away.join("file"), format!("second {round}"))?;
        fs::rename(&away, &here)?;
        mirror.in_sync();
    }
    mirror.finish()
}

#[test]
fn a_write_of_one_size_within_a_second_is_found_by_the_next_start() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for round in 0..3 {
        begin_of_a_second();
        fs::write(mirror.source("file"), format!("first  {round}"))?;
        mirror.in_sync();
        mirror.kill();
        fs::write(mirror.source("file"), format!("second {round}"))?;
        mirror.run()?;
        mirror.in_sync();
    }
    mirror.finish()
}

/// Writes through one of three names and expects all of them to be right.
fn three_names(params: &str, linked: bool) -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    params.clone_into(&mut mirror.config.params);
    fs::create_dir(mirror.source("directory"))?;
    fs::write(mirror.source("one"), "before")?;
    fs::hard_link(mirror.source("one"), mirror.source("two"))?;
    fs::hard_link(mirror.source("one"), mirror.source("directory/three"))?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("one"), "written through one name")?;
    println!("written through one of three names: {:?}", mirror.in_sync());
    File::options()
        .append(true)
        .open(mirror.source("directory/three"))?
        .write_all(b", appended to by another")?;
    mirror.in_sync();
    fs::hard_link(mirror.source("two"), mirror.source("directory/four"))?;
    fs::rename(mirror.source("one"), mirror.source("directory/one"))?;
    mirror.in_sync();
    fs::write(mirror.source("two"), "and after names were added and moved")?;
    mirror.in_sync();
    fs::set_permissions(mirror.source("two"), Permissions::from_mode(0o640))?;
    mirror.in_sync();
    let times =
        FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    File::open(mirror.source("directory/four"))?.set_times(times)?;
    mirror.in_sync();
    if linked {
        wait_in_sync_with_links(&mirror.source(""), &mirror.replica(""), SOON);
    }
    fs::remove_file(mirror.source("two"))?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn a_file_with_three_names_is_right_under_all_of_them() -> io::Result<()> {
    three_names("-a", false)
}

#[test]
fn a_file_with_three_names_stays_one_file_with_hard_links_on() -> io::Result<()> {
    three_names("-aH", true)
}

/// Makes `directory/one` and `two` one file, which the mirror knows, and does something while the process hangs: all of
/// it is read at once.
fn while_it_hangs(change: fn(&mut Mirror) -> io::Result<()>) -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    fs::create_dir(mirror.source("directory"))?;
    fs::write(mirror.source("directory/one"), "before")?;
    fs::hard_link(mirror.source("directory/one"), mirror.source("two"))?;
    fs::write(mirror.source("two"), "written through the second name")?;
    mirror.in_sync();
    pause(Duration::from_secs(3)); // what was just sent is looked at again, which would hide a mistake
    mirror.sersync().signal(Signal::STOP);
    change(&mut mirror)?;
    mirror.sersync().signal(Signal::CONT);
    mirror.in_sync();
    mirror.finish()
}

fn set_an_old_time(path: &Path) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(path)?.set_times(FileTimes::new().set_modified(time))
}

#[test]
fn a_write_through_a_known_name_that_is_replaced_at_once_reaches_the_other_names() -> io::Result<()>
{
    while_it_hangs(|mirror| {
        fs::write(
            mirror.source("two"),
            "written through a name that will be another file's",
        )?;
        fs::write(mirror.source("three"), "another file")?;
        fs::rename(mirror.source("three"), mirror.source("two"))
    })
}

#[test]
fn a_time_set_in_a_directory_that_was_just_renamed_reaches_the_names_elsewhere() -> io::Result<()> {
    while_it_hangs(|mirror| {
        fs::rename(mirror.source("directory"), mirror.source("renamed"))?;
        set_an_old_time(&mirror.source("renamed/one"))
    })
}

#[test]
fn a_time_set_in_a_directory_that_is_then_removed_reaches_the_names_elsewhere() -> io::Result<()> {
    while_it_hangs(|mirror| {
        set_an_old_time(&mirror.source("directory/one"))?;
        fs::remove_dir_all(mirror.source("directory"))
    })
}

#[test]
fn a_time_set_through_a_name_that_another_file_with_several_gets_reaches_the_names_elsewhere()
-> io::Result<()> {
    while_it_hangs(|mirror| {
        set_an_old_time(&mirror.source("two"))?;
        fs::write(mirror.source("three"), "another file")?;
        fs::hard_link(mirror.source("three"), mirror.source("four"))?;
        fs::rename(mirror.source("three"), mirror.source("two"))
    })
}

#[test]
fn a_time_set_through_a_name_that_is_then_removed_reaches_a_name_in_a_renamed_directory()
-> io::Result<()> {
    while_it_hangs(|mirror| {
        mirror.sersync().signal(Signal::CONT);
        fs::rename(mirror.source("directory"), mirror.source("renamed"))?;
        mirror.in_sync();
        mirror.sersync().signal(Signal::STOP);
        set_an_old_time(&mirror.source("two"))?;
        fs::remove_file(mirror.source("two"))
    })
}

#[test]
fn a_name_taken_away_from_a_file_with_several_is_a_file_of_its_own() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.params = "-aH".to_owned();
    fs::write(mirror.source("one"), "shared")?;
    fs::hard_link(mirror.source("one"), mirror.source("two"))?;
    mirror.run()?;
    wait_in_sync_with_links(&mirror.source(""), &mirror.replica(""), SOON);
    // What editors do: the link is broken, the other name keeps the old content.
    fs::write(mirror.source("two.new"), "its own")?;
    fs::rename(mirror.source("two.new"), mirror.source("two"))?;
    wait_in_sync_with_links(&mirror.source(""), &mirror.replica(""), SOON);
    fs::write(mirror.source("one"), "no longer shared")?;
    wait_in_sync_with_links(&mirror.source(""), &mirror.replica(""), SOON);
    mirror.finish()
}

#[test]
fn a_file_that_is_written_and_kept_open_arrives_in_some_seconds() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let mut log = File::create(mirror.source("open log"))?;
    log.write_all(b"a first line\n")?;
    println!(
        "written and not closed: {:?} for the first line",
        mirror.in_sync_within(Duration::from_secs(30))
    );
    log.write_all(b"a second line\n")?;
    println!(
        "{:?} for the second",
        mirror.in_sync_within(Duration::from_secs(30))
    );
    log.rewind()?;
    log.write_all(b"A FIRST LINE\n")?;
    println!(
        "{:?} for a change in place",
        mirror.in_sync_within(Duration::from_secs(60))
    );
    drop(log);
    mirror.finish()
}

#[test]
fn an_appended_log_arrives_while_it_grows_and_right_in_the_end() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let before = mirror.daemon.connections();
    for line in 0..150 {
        File::options()
            .create(true)
            .append(true)
            .open(mirror.source("log"))?
            .write_all(format!("line {line} of the log\n").as_bytes())?;
        pause(Duration::from_millis(20)); // interval between the lines of a busy log
    }
    wait_until(SOON, "some of it has arrived", || {
        mirror.replica("log").exists()
    });
    let took = mirror.in_sync();
    println!(
        "150 appends in 3 s: equal {took:?} after, {} connections",
        mirror.daemon.connections() - before
    );
    mirror.finish()
}

#[test]
fn every_name_a_file_can_have_is_carried() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let every = || names::every_byte().into_iter();
    let odd = || names::ODD.iter().map(|bytes| names::name(bytes).to_owned());
    fs::create_dir(mirror.source("files"))?;
    fs::create_dir(mirror.source("directories"))?;
    for name in every().chain(odd()) {
        fs::write(mirror.source("files").join(&name), name.as_encoded_bytes())?;
    }
    for name in odd() {
        let directory = mirror.source("directories").join(&name);
        fs::create_dir(&directory)?;
        fs::write(directory.join(&name), "in a directory of the same name")?;
    }
    mirror.in_sync();
    // One at a time: each name is the whole list of a run.
    for name in odd() {
        fs::write(mirror.source(&name), "alone")?;
        wait_until(SOON, &format!("{name:?} arrives"), || {
            mirror.replica(&name).exists()
        });
        fs::remove_file(mirror.source(&name))?;
        wait_until(SOON, &format!("{name:?} goes"), || {
            !mirror.replica(&name).exists()
        });
    }
    for name in odd() {
        fs::remove_dir_all(mirror.source("directories").join(&name))?;
    }
    for name in every() {
        // Some of the names are there twice.
        let _ = fs::remove_file(mirror.source("files").join(name));
    }
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn names_and_paths_as_long_as_they_can_be_are_carried() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    fs::write(
        mirror.source(OsString::from("n".repeat(255))),
        "a long name",
    )?;
    let mut path = mirror.source("");
    while path.as_os_str().len() < 3_500 {
        path.push("d".repeat(200));
    }
    fs::create_dir_all(&path)?;
    fs::write(path.join("file"), "deep down")?;
    mirror.in_sync();
    fs::write(path.join("file"), "deep down, changed")?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn a_large_file_changed_in_the_middle_arrives_right() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let mut bytes = vec![0; 40_000_000];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    fs::write(mirror.source("large"), &bytes)?;
    // Small ones need not wait for it; how long they do is a figure of the bench.
    fs::write(mirror.source("small"), "content")?;
    println!("40 MB and a small one: {:?}", mirror.in_sync());
    bytes[20_000_000] ^= 1;
    let mut file = File::options().write(true).open(mirror.source("large"))?;
    file.seek(io::SeekFrom::Start(20_000_000))?;
    file.write_all(&bytes[20_000_000..20_000_001])?;
    drop(file);
    println!("one byte of it changed: {:?}", mirror.in_sync());
    mirror.finish()
}

/// Two directories with a file each change places: `made` makes one of them.
fn directories_change_places(made: fn(&Path, &str) -> io::Result<()>) -> io::Result<()> {
    for rules in ["", "<exclude pattern=\"*.tmp\"/>"] {
        let mut mirror = Mirror::prepare()?;
        mirror.config.rules = rules.into();
        mirror.run()?;
        mirror.in_sync();
        for (name, content) in [("current", "1"), ("new", "2")] {
            let dir = mirror.source(name);
            fs::create_dir(&dir)?;
            made(&dir.join("VERSION"), content)?;
        }
        mirror.in_sync();
        fs::rename(mirror.source("current"), mirror.source("old"))?;
        fs::rename(mirror.source("new"), mirror.source("current"))?;
        let current = mirror.replica("current/VERSION");
        wait_until(SOON, "the new content is there", || {
            fs::read(&current).is_ok_and(|text| text == b"2")
        });
        mirror.finish()?;
    }
    Ok(())
}

#[test]
fn a_directory_in_the_place_of_another_of_the_same_second_arrives() -> io::Result<()> {
    directories_change_places(|file, content| fs::write(file, content))
}

#[test]
fn a_directory_in_the_place_of_another_with_the_same_sizes_and_times_arrives() -> io::Result<()> {
    directories_change_places(|file, content| {
        fs::write(file, content)?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::options().write(true).open(file)?.set_modified(time)
    })
}
