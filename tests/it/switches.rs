//! The switches of `<inotify>`: each alone, and together, by events and by a full push.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::generator::Generator;
use crate::harness::{AFTER_BACK_OFF, KEEP, Mirror, SOON, grow, stays, wait_until};

/// How long something that must not happen is waited for.
const A_WHILE: Duration = Duration::from_millis(400);
/// A file that stays open is sent after two seconds even if no switch wants it at once. So soon it comes by a switch.
const BEFORE_THAT: Duration = Duration::from_millis(1_800);

const ALL: [&str; 8] = [
    "delete",
    "createFolder",
    "createFile",
    "closeWrite",
    "moveFrom",
    "moveTo",
    "attrib",
    "modify",
];

/// A mirror in which only these switches are on, not yet running.
fn only(on: &[&str]) -> io::Result<Mirror> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.switches = ALL.map(|name| (name, on.contains(&name))).to_vec();
    Ok(mirror)
}

/// The switches of the stock file with some turned.
fn stock_but(turned: &[&str]) -> io::Result<Mirror> {
    let mut mirror = Mirror::prepare()?;
    turn(&mut mirror, turned);
    Ok(mirror)
}

fn turn(mirror: &mut Mirror, turned: &[&str]) {
    let stock = ["delete", "createFolder", "closeWrite", "moveFrom", "moveTo"];
    let switches = ALL.map(|name| (name, stock.contains(&name) != turned.contains(&name)));
    mirror.config.switches = switches.to_vec();
}

fn has(mirror: &Mirror, path: &str) -> bool {
    mirror.replica(path).symlink_metadata().is_ok()
}

/// Waits until a change that was made after all others has arrived, and a little longer.
#[track_caller]
fn settle(mirror: &Mirror, marker: &str) -> io::Result<()> {
    fs::write(mirror.source(marker), marker)?;
    wait_until(SOON, "a later change arrives", || has(mirror, marker));
    stays(A_WHILE, "it stays", || has(mirror, marker));
    Ok(())
}

/// Removes and moves away some entries, lets the events be dealt with, then has everything compared by a restart.
/// `left` is what is to stay of them each time: deleted file, deleted tree, file and tree moved out.
#[track_caller]
fn removals(mut mirror: Mirror, left: [bool; 4]) -> io::Result<()> {
    let names = [
        "deleted",
        "deleted-tree/d00001/f0001",
        "moved",
        "moved-tree/d00001/f0001",
    ];
    for name in ["deleted", "moved", "becomes-a-directory"] {
        fs::write(mirror.source(name), name)?;
    }
    for name in ["deleted-tree", "moved-tree", "becomes-a-file"] {
        grow(&mirror.source(name), 2, 3, 10)?;
    }
    mirror.run()?;
    mirror.in_sync();
    fs::remove_file(mirror.source("deleted"))?;
    fs::remove_dir_all(mirror.source("deleted-tree"))?;
    fs::rename(mirror.source("moved"), mirror.outside("moved"))?;
    fs::rename(mirror.source("moved-tree"), mirror.outside("moved-tree"))?;
    // What stands in the way of a change of kind goes whatever the switches say.
    fs::remove_file(mirror.source("becomes-a-directory"))?;
    fs::create_dir(mirror.source("becomes-a-directory"))?;
    fs::write(mirror.source("becomes-a-directory/x"), "x")?;
    fs::remove_dir_all(mirror.source("becomes-a-file"))?;
    fs::write(mirror.source("becomes-a-file"), "x")?;
    settle(&mirror, "marker")?;
    wait_until(SOON, "kinds change", || {
        mirror.replica("becomes-a-file").is_file() && has(&mirror, "becomes-a-directory/x")
    });
    is_left(&mirror, names, left);
    mirror.stop();
    fs::write(mirror.source("second marker"), "while it is stopped")?;
    mirror.run()?;
    wait_until(SOON, "the full push sends", || {
        has(&mirror, "second marker")
    });
    is_left(&mirror, names, left);
    mirror.stop();
    Ok(())
}

/// What goes does so after what is new was sent.
#[track_caller]
fn is_left(mirror: &Mirror, names: [&str; 4], expected: [bool; 4]) {
    let found = || names.map(|name| has(mirror, name));
    wait_until(SOON, "what is to go goes, and nothing else", || {
        found() == expected
    });
    stays(A_WHILE, "the rest stays", || found() == expected);
}

#[test]
fn with_delete_and_move_from_all_that_is_missing_goes() -> io::Result<()> {
    removals(stock_but(&[])?, [false; 4])
}

#[test]
fn without_delete_what_is_deleted_stays_and_what_is_moved_away_goes() -> io::Result<()> {
    removals(stock_but(&["delete"])?, [true, true, false, false])
}

#[test]
fn without_move_from_what_is_moved_away_stays_and_what_is_deleted_goes() -> io::Result<()> {
    removals(stock_but(&["moveFrom"])?, [false, false, true, true])
}

#[test]
fn without_both_nothing_goes() -> io::Result<()> {
    removals(stock_but(&["delete", "moveFrom"])?, [true; 4])
}

#[test]
fn the_same_holds_with_a_filter() -> io::Result<()> {
    for (turned, left) in [
        (&["delete"][..], [true, true, false, false]),
        (&["moveFrom"][..], [false, false, true, true]),
        (&["delete", "moveFrom"][..], [true; 4]),
    ] {
        let mut mirror = stock_but(turned)?;
        mirror.config.excludes = vec![r"(.*)\.tmp"];
        println!("{turned:?}");
        removals(mirror, left)?;
    }
    Ok(())
}

/// There, what is missing in a directory is told from what it holds, which knows of no switch.
#[test]
fn the_same_holds_where_nothing_can_be_deleted_by_name() -> io::Result<()> {
    for (turned, left) in [
        ("delete", [true, true, false, false]),
        ("moveFrom", [false, false, true, true]),
    ] {
        let mut mirror = stock_but(&[turned])?;
        mirror.config.params = "-a --exclude=*.nothing".into();
        println!("{turned}, with an exclude");
        removals(mirror, left)?;
        let mut mirror =
            Mirror::prepare_with(|module| module.line("refuse options = delete-missing-args"))?;
        turn(&mut mirror, &[turned]);
        println!("{turned}, by the receiver");
        removals(mirror, left)?;
    }
    Ok(())
}

/// Whether `path` arrives before it would without a switch, in one of some tries: the machine may be busy.
fn arrives_before_its_close(
    mirror: &Mirror,
    mut write: impl FnMut(&Mirror, &str) -> io::Result<(File, &'static str)>,
) -> io::Result<bool> {
    for attempt in 0..5 {
        let name = format!("open{attempt}");
        let start = Instant::now();
        let (open, content) = write(mirror, &name)?;
        let arrived =
            || fs::read(mirror.replica(&name)).is_ok_and(|there| there == content.as_bytes());
        wait_until(SOON, "it arrives at last", arrived);
        let took = start.elapsed();
        drop(open);
        if took < BEFORE_THAT {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn with_create_file_a_new_file_is_sent_before_it_is_closed() -> io::Result<()> {
    let create = |mirror: &Mirror, name: &str| Ok((File::create(mirror.source(name))?, ""));
    for (on, soon) in [(&["createFile"][..], true), (&[], false)] {
        let mut mirror = only(on)?;
        mirror.run()?;
        mirror.in_sync();
        assert_eq!(arrives_before_its_close(&mirror, create)?, soon, "{on:?}");
        mirror.stop();
    }
    Ok(())
}

#[test]
fn with_modify_a_file_is_followed_while_it_is_held_open() -> io::Result<()> {
    let rewrite = |mirror: &Mirror, name: &str| {
        let mut file = File::options().append(true).open(mirror.source(name))?;
        file.write_all(b" and more")?;
        Ok((file, "content and more"))
    };
    for (on, soon) in [(&["modify"][..], true), (&["closeWrite"][..], false)] {
        let mut mirror = only(on)?;
        for attempt in 0..5 {
            fs::write(mirror.source(format!("open{attempt}")), "content")?;
        }
        mirror.run()?;
        mirror.in_sync();
        assert_eq!(arrives_before_its_close(&mirror, rewrite)?, soon, "{on:?}");
        mirror.stop();
    }
    Ok(())
}

#[test]
fn without_close_write_and_modify_new_files_are_sent_whole_and_old_ones_by_a_full_push_alone()
-> io::Result<()> {
    let mut mirror = only(&[])?;
    fs::write(mirror.source("old"), "old")?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("old"), "rewritten")?;
    settle(&mirror, "new")?;
    assert_eq!(fs::read_to_string(mirror.replica("old"))?, "old");
    assert_eq!(fs::read_to_string(mirror.replica("new"))?, "new");
    mirror.stop();
    mirror.run()?;
    mirror.finish()
}

#[test]
fn with_close_write_a_rewritten_file_is_sent() -> io::Result<()> {
    let mut mirror = only(&["closeWrite"])?;
    fs::write(mirror.source("old"), "old")?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.source("old"), "rewritten")?;
    mirror.finish()
}

#[test]
fn with_create_file_alone_the_content_of_a_new_file_arrives_too() -> io::Result<()> {
    let mut mirror = only(&["createFile"])?;
    mirror.run()?;
    mirror.in_sync();
    let mut file = File::create(mirror.source("new"))?;
    wait_until(SOON, "it arrives", || has(&mirror, "new"));
    file.write_all(b"content")?;
    drop(file);
    mirror.finish()
}

#[test]
fn without_create_folder_an_empty_directory_waits_for_a_file_in_it() -> io::Result<()> {
    let mut mirror = stock_but(&["createFolder"])?;
    mirror.run()?;
    mirror.in_sync();
    fs::create_dir_all(mirror.source("a/b/c"))?;
    settle(&mirror, "marker")?;
    assert!(!has(&mirror, "a"));
    fs::write(mirror.source("a/b/c/x"), "x")?;
    mirror.finish()
}

#[test]
fn without_move_to_what_is_moved_in_waits_for_a_full_push() -> io::Result<()> {
    let mut mirror = stock_but(&["moveTo"])?;
    mirror.run()?;
    mirror.in_sync();
    fs::write(mirror.outside("file"), "file")?;
    grow(&mirror.outside("tree"), 2, 2, 10)?;
    fs::rename(mirror.outside("file"), mirror.source("file"))?;
    fs::rename(mirror.outside("tree"), mirror.source("tree"))?;
    fs::rename(mirror.source(KEEP), mirror.source("another name"))?;
    settle(&mirror, "marker")?;
    assert!(!has(&mirror, "file") && !has(&mirror, "tree") && !has(&mirror, "another name"));
    // It is watched all the same.
    fs::write(mirror.source("tree/d00000/new"), "new")?;
    wait_until(SOON, "a file in it arrives", || {
        has(&mirror, "tree/d00000/new")
    });
    mirror.stop();
    mirror.run()?;
    mirror.finish()
}

#[test]
fn attrib_decides_whether_modes_and_times_are_followed() -> io::Result<()> {
    for (on, follows) in [(&["attrib"][..], true), (&[], false)] {
        let mut mirror = only(on)?;
        fs::write(mirror.source("file"), "file")?;
        fs::create_dir(mirror.source("dir"))?;
        mirror.run()?;
        mirror.in_sync();
        let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for name in ["file", "dir"] {
            fs::set_permissions(mirror.source(name), fs::Permissions::from_mode(0o700))?;
            File::open(mirror.source(name))?.set_modified(long_ago)?;
        }
        if !follows {
            settle(&mirror, "marker")?;
            let mode = fs::metadata(mirror.replica("file"))?.permissions().mode();
            assert_ne!(mode & 0o777, 0o700);
            mirror.stop();
            mirror.run()?;
        }
        mirror.finish()?;
    }
    Ok(())
}

#[test]
fn with_all_switches_off_a_full_push_sends_everything_and_removes_nothing() -> io::Result<()> {
    let mut mirror = only(&[])?;
    fs::write(mirror.source("gone"), "gone")?;
    mirror.run()?;
    mirror.in_sync();
    mirror.stop();
    fs::remove_file(mirror.source("gone"))?;
    grow(&mirror.source("tree"), 2, 5, 10)?;
    mirror.run()?;
    wait_until(SOON, "all is sent", || has(&mirror, "tree/d00001/f0004"));
    stays(A_WHILE, "nothing is removed", || has(&mirror, "gone"));
    fs::remove_file(mirror.replica("gone"))?;
    mirror.finish()
}

#[test]
fn with_all_switches_on_random_operations_end_equal() -> io::Result<()> {
    let mut mirror = only(&ALL)?;
    mirror.run()?;
    mirror.in_sync();
    let generator = Generator::new(31, mirror.source(""), mirror.outside(""), true);
    generator.run(Duration::from_secs(3));
    mirror.finish()
}

#[test]
fn with_only_one_of_delete_and_move_from_a_removal_that_waits_is_not_forgotten() -> io::Result<()> {
    for by_reload in [true, false] {
        let mut mirror = stock_but(&["moveFrom"])?;
        for name in ["deleted", "moved"] {
            fs::write(mirror.source(name), name)?;
        }
        grow(&mirror.source("deleted-tree"), 2, 3, 10)?;
        mirror.run()?;
        mirror.in_sync();
        mirror.daemon.stop();
        // The end below takes what was not read by then.
        mirror.sersync().signal(Signal::STOP);
        fs::remove_file(mirror.source("deleted"))?;
        fs::remove_dir_all(mirror.source("deleted-tree"))?;
        fs::rename(mirror.source("moved"), mirror.outside("moved"))?;
        fs::write(mirror.source("new"), "new")?;
        mirror.sersync().signal(Signal::CONT);
        mirror.sersync().wait_for_problem(&["unreachable"]);
        // A reload that changes the mirror, and an end, both begin anew with a comparison, which removes nothing here.
        mirror.config.params = "-a --no-perms --perms".into();
        if by_reload {
            mirror.config.write()?;
            mirror.sersync().signal(Signal::HUP);
            wait_until(SOON, "the file is read again", || {
                mirror.log().contains("new configuration is in force")
            });
        } else {
            mirror.stop();
            mirror.run()?;
        }
        mirror.daemon.start()?;
        wait_until(AFTER_BACK_OFF, "what was deleted goes", || {
            has(&mirror, "new") && !has(&mirror, "deleted") && !has(&mirror, "deleted-tree")
        });
        stays(A_WHILE, "what was moved away stays", || {
            has(&mirror, "moved")
        });
        mirror.stop();
    }
    Ok(())
}
