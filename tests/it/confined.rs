//! An rsync reaches nothing but its source and what it needs, whatever becomes of the source while it runs.

use std::fs;
use std::io;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::confxml::Remote;
use crate::fake::{Asked, Stage, let_go_on};
use crate::harness::{KEEP, Mirror, SOON, grow, pause, wait_in_sync, wait_until};
use crate::rsync_daemon::write_private;
use crate::sersync::Sersync;

const SECRET: &str = "for root alone\n";

/// What sersync says once where it cannot confine anything.
const UNCONFINED: &str = "rsync is not confined";

fn has_landlock(mirror: &Mirror) -> bool {
    let is_known = !mirror.log().contains(UNCONFINED);
    if !is_known {
        println!("this kernel has no Landlock");
    }
    is_known
}

/// Has rsync list a directory, puts a link in its place before the files are opened, and says whether what the link leads
/// to was sent.
fn swap_under_the_first_push(mirror: &mut Mirror, arguments: &[&str]) -> io::Result<bool> {
    // The first file takes longer than the swap.
    fs::create_dir(mirror.source("dir"))?;
    fs::write(mirror.source("dir/a"), vec![b'a'; 2 << 20])?;
    fs::write(mirror.outside("a"), SECRET)?;
    for number in 0..300 {
        fs::write(mirror.source(format!("dir/f{number:03}")), "mine\n")?;
        fs::write(mirror.outside(format!("f{number:03}")), SECRET)?;
    }
    mirror.config.params = "-a --bwlimit=1000".into();
    mirror.run_with(arguments)?;
    let replica = mirror.replica("dir");
    let begins = |name: &fs::DirEntry| name.file_name().as_encoded_bytes().starts_with(b".a.");
    wait_until(SOON, "the first file is on its way", || {
        let mut entries = fs::read_dir(&replica).into_iter().flatten().flatten();
        entries.any(|entry| begins(&entry))
    });
    fs::rename(mirror.source("dir"), mirror.at("dir"))?;
    symlink(mirror.at("outside"), mirror.source("dir"))?;
    let start = Instant::now();
    let mut leaked = false;
    while !replica.is_symlink() {
        let files = fs::read_dir(&replica).into_iter().flatten().flatten();
        leaked |= files
            .filter_map(|file| fs::read(file.path()).ok())
            .any(|content| content == SECRET.as_bytes());
        assert!(start.elapsed() < SOON, "the link did not arrive");
        pause(Duration::from_millis(1));
    }
    Ok(leaked)
}

/// Only a receiver that root has changed the root of keeps absolute links as they are.
fn end(mut mirror: Mirror) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return mirror.finish();
    }
    mirror.stop();
    Ok(())
}

#[test]
fn nothing_is_sent_from_where_a_link_leads_that_took_the_place_of_a_directory() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let leaked = swap_under_the_first_push(&mut mirror, &[])?;
    assert!(!leaked || !has_landlock(&mirror), "a secret was sent");
    end(mirror)
}

#[test]
fn without_bounds_it_is_sent() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let leaked = swap_under_the_first_push(&mut mirror, &["--confine", "no"])?;
    assert!(leaked, "then the test above shows nothing");
    end(mirror)
}

#[test]
fn a_run_reads_its_source_and_what_it_was_given_and_writes_nowhere() -> io::Result<()> {
    let mut mirror = Mirror::prepare_with(|module| module.secret("user", "word"))?;
    let (password, rules) = (
        mirror.at("odd place/password"),
        mirror.at("odd place/rules"),
    );
    fs::create_dir(mirror.at("odd place"))?;
    write_private(&password, "word\n")?;
    fs::write(&rules, "*.tmp\n")?;
    fs::write(mirror.at("odd place/other"), "")?;
    fs::write(mirror.outside("secret"), SECRET)?;
    symlink(mirror.at("outside"), mirror.source("link"))?;
    // The source is reached by a link.
    symlink(mirror.at("source"), mirror.at("way"))?;
    mirror.config.mirrors[0].watch = mirror.at("way");
    mirror.config.auth = Some(("user".into(), password.clone()));
    mirror.config.params = format!("-a --exclude-from='{}'", rules.display());
    let stage = Stage::set_up(&mirror)?;
    let listener = UnixListener::bind(mirror.at("ask"))?;
    mirror.run_by(stage.command_to_ask(&mirror, &mirror.at("ask")))?;
    let mut run = Asked::next(&listener)?;
    if has_landlock(&mirror) {
        for path in [
            &mirror.at("source"),
            &mirror.source(KEEP),
            &password,
            &rules,
        ] {
            assert!(run.can("read", path)?, "{}", path.display());
        }
        for path in ["/etc/passwd", "/etc/hosts", "/usr", "/dev/null"] {
            let is_readable = fs::File::open(path).is_ok();
            assert_eq!(run.can("read", path)?, is_readable, "{path}");
        }
        for path in ["/etc", "/etc/shadow", "/root", "/", "/proc/1/environ"] {
            assert!(!run.can("read", path)?, "{path}");
        }
        for path in [
            "odd place/other",
            "outside",
            "outside/secret",
            "source/link/secret",
            "replica",
        ] {
            assert!(!run.can("read", mirror.at(path))?, "{path}");
        }
        for path in ["source/new", "new", "replica/new"] {
            assert!(!run.can("write", mirror.at(path))?, "{path}");
        }
        assert!(run.can("write", "/dev/null")?);
    }
    drop(run);
    let_go_on(listener);
    end(mirror)
}

#[test]
fn a_receiver_of_this_machine_writes_the_target_and_the_backup() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::create_dir(mirror.at("kept"))?;
    fs::create_dir(mirror.at("scratch"))?;
    fs::write(mirror.source("replaced"), "first\n")?;
    mirror.config.mirrors[0].remotes = vec![Remote::Local(mirror.at("replica"))];
    mirror.config.params = format!("-aH --temp-dir={}", mirror.at("scratch").display());
    mirror.config.rsync = format!(
        "<backup start=\"true\" dir=\"{}\"/>",
        mirror.at("kept").display()
    );
    let stage = Stage::set_up(&mirror)?;
    let listener = UnixListener::bind(mirror.at("ask"))?;
    mirror.run_by(stage.command_to_ask(&mirror, &mirror.at("ask")))?;
    let mut run = Asked::next(&listener)?;
    if has_landlock(&mirror) {
        for path in ["replica/new", "kept/new", "scratch/new"] {
            assert!(run.can("write", mirror.at(path))?, "{path}");
            fs::remove_file(mirror.at(path))?;
        }
        for path in ["source/new", "outside/new", "new"] {
            assert!(!run.can("write", mirror.at(path))?, "{path}");
        }
    }
    drop(run);
    let_go_on(listener);
    mirror.in_sync();
    // Renames and hard links from one directory to another.
    fs::create_dir_all(mirror.source("one/two"))?;
    fs::write(mirror.source("one/two/file"), "first\n")?;
    fs::hard_link(mirror.source("one/two/file"), mirror.source("other"))?;
    mirror.in_sync();
    replace(&mirror, "replaced", "second\n")?;
    mirror.in_sync();
    wait_until(SOON, "what was replaced is kept", || {
        fs::read(mirror.at("kept/replaced")).is_ok_and(|kept| kept == b"first\n")
    });
    mirror.finish()
}

/// Puts another file in the place of one, by one change: of two that are sent one after the other, the second would take
/// the place of what is kept of the first.
fn replace(mirror: &Mirror, name: &str, content: &str) -> io::Result<()> {
    fs::write(mirror.outside(name), content)?;
    fs::rename(mirror.outside(name), mirror.source(name))
}

#[test]
fn a_backup_directory_that_is_not_there_yet_is_made() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::write(mirror.source("file"), "first\n")?;
    mirror.config.mirrors[0].remotes = vec![Remote::Local(mirror.at("replica"))];
    let kept = mirror.at("made/kept");
    mirror.config.rsync = format!("<backup start=\"true\" dir=\"{}\"/>", kept.display());
    fs::create_dir(mirror.at("made"))?;
    mirror.run()?;
    mirror.in_sync();
    for (version, before) in [("second", "first\n"), ("third", "second\n")] {
        replace(&mirror, "file", &format!("{version}\n"))?;
        mirror.in_sync();
        wait_until(SOON, "what was replaced is kept", || {
            fs::read(kept.join("file")).is_ok_and(|content| content == before.as_bytes())
        });
    }
    mirror.finish()
}

#[test]
fn links_are_followed_out_of_the_source_where_the_params_say_so() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::write(mirror.outside("file"), "linked\n")?;
    symlink(mirror.outside("file"), mirror.source("link"))?;
    mirror.config.params = "-aL".into();
    mirror.run()?;
    wait_until(SOON, "what the link leads to arrives", || {
        fs::read(mirror.replica("link")).is_ok_and(|content| content == b"linked\n")
    });
    mirror.stop();
    Ok(())
}

/// Puts a file system of its own, or another `/etc`, into the view of sersync alone.
pub fn in_a_view_of_its_own(script: &str, command: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c"]);
    unshare.arg(format!("{script} && exec \"$@\"")).arg("sh");
    unshare.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    unshare
}

/// `sersync run` for a mirror, to be started in another way than by the harness.
pub fn command(mirror: &Mirror) -> Command {
    let mut command = Sersync::command();
    command
        .args(["run", "--bus", "none", "--config"])
        .arg(&mirror.config.file)
        .arg("--state-dir")
        .arg(mirror.at("state"));
    command
}

#[test]
fn what_is_mounted_below_the_source_is_sent() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut mirror = Mirror::prepare()?;
    fs::create_dir(mirror.source("disk"))?;
    fs::create_dir(mirror.source("bound"))?;
    grow(&mirror.at("outside"), 2, 2, 100)?;
    let script = format!(
        "mount -t tmpfs none '{disk}' && mkdir '{disk}/sub' && echo new > '{disk}/sub/file' && mount --bind '{}' '{}'",
        mirror.at("outside").display(),
        mirror.source("bound").display(),
        disk = mirror.source("disk").display(),
    );
    mirror.run_by(in_a_view_of_its_own(&script, &command(&mirror)))?;
    wait_until(SOON, "what is on the disk arrives", || {
        fs::read(mirror.replica("disk/sub/file")).is_ok_and(|content| content == b"new\n")
    });
    wait_in_sync(&mirror.at("outside"), &mirror.replica("bound"), SOON);
    mirror.stop();
    Ok(())
}

/// Somebody whom every system has …
const NAME: &str = "daemon";
/// … and who has this number in sersync's view.
const NUMBER: u32 = 61_234;

fn number_of(passwd: &str, name: &str) -> Option<u32> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    let mut found = lines.find_map(|mut line| (line.next() == Some(name)).then_some(line))?;
    found.nth(1)?.parse().ok()
}

/// The receiver gives files to whoever has the owner's name. A confined rsync that can no longer read `/etc/passwd`, as
/// it was replaced, would send numbers instead.
#[test]
fn owners_keep_their_names_when_somebody_adds_a_user() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let there = number_of(&passwd, NAME).expect("a user of that name");
    // In a changed root it would know no names.
    let mut mirror =
        Mirror::prepare_with(|module| module.line("use chroot = no").line("numeric ids = no"))?;
    let etc = mirror.at("etc");
    let copied = Command::new("cp")
        .arg("-a")
        .arg("/etc")
        .arg(&etc)
        .status()?;
    assert!(copied.success());
    let renumbered = passwd.replace(
        &format!("\n{NAME}:x:{there}:"),
        &format!("\n{NAME}:x:{NUMBER}:"),
    );
    let add_a_user = || {
        fs::write(etc.join("passwd+"), &renumbered)?;
        fs::rename(etc.join("passwd+"), etc.join("passwd"))
    };
    add_a_user()?;
    fs::write(mirror.source("file"), "")?;
    chown(mirror.source("file"), Some(NUMBER), None)?;
    let stage = Stage::set_up(&mirror)?;
    let listener = UnixListener::bind(mirror.at("ask"))?;
    let script = format!("mount --bind '{}' /etc", etc.display());
    let command = stage.command_to_ask(&mirror, &mirror.at("ask"));
    mirror.run_by(in_a_view_of_its_own(&script, &command))?;
    let owner = |name: &str| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(mirror.replica(name))
            .ok()
            .map(|file| file.uid())
    };
    // Under the first push.
    loop {
        let run = Asked::next(&listener)?;
        if run.kind == "tree" {
            add_a_user()?;
            break;
        }
    }
    let_go_on(listener);
    wait_until(SOON, "the file has its owner", || {
        owner("file") == Some(there)
    });
    mirror.is_known();
    // While a child waits for its list.
    for number in 0..5 {
        add_a_user()?;
        let name = format!("file{number}");
        fs::write(mirror.source(&name), "")?;
        chown(mirror.source(&name), Some(NUMBER), None)?;
        wait_until(SOON, "the file has its owner", || {
            owner(&name) == Some(there)
        });
    }
    mirror.stop();
    Ok(())
}
