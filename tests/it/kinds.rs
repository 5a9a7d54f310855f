//! Names that become something else: directories, links, files and special files in one another's place.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::process::{Signal, kill_process};

use crate::fake::{Asked, Stage};
use crate::harness::{Mirror, SOON, grow, pause, wait_until};
use crate::tree::{Kind, Node, Tree};

/// A file beside the source that nothing may carry to the receiver.
const MARKER: &str = "MARKER-OUTSIDE-THE-SOURCE";

/// A mirror with a release to link to, a directory `current`, and a marker outside.
fn with_releases() -> io::Result<Mirror> {
    let mut mirror = Mirror::prepare()?;
    fs::create_dir_all(mirror.outside("release"))?;
    fs::write(mirror.outside("release").join(MARKER), "not to be sent")?;
    grow(&mirror.source("releases/7"), 3, 3, 100)?;
    grow(&mirror.source("current"), 3, 3, 50)?;
    mirror.run()?;
    mirror.in_sync();
    Ok(mirror)
}

/// Equal, and nothing of what is outside was sent or touched.
fn finish_without_the_marker(mut mirror: Mirror) -> io::Result<()> {
    mirror.in_sync();
    assert!(
        !Tree::read(&mirror.replica(""))?.has_name(MARKER),
        "a file from outside the source was sent"
    );
    assert_eq!(
        Tree::read(&mirror.outside("release"))?.len(),
        1,
        "a run wrote or deleted outside of the replica"
    );
    assert_eq!(
        fs::read(mirror.outside("release").join(MARKER))?,
        b"not to be sent"
    );
    mirror.finish()
}

#[test]
fn a_directory_replaced_by_a_link_is_a_link_at_the_receiver() -> io::Result<()> {
    let mut mirror = with_releases()?;
    fs::remove_dir_all(mirror.source("current"))?;
    symlink("releases/7", mirror.source("current"))?;
    println!("directory to link: {:?}", mirror.in_sync());
    // What is written through the link belongs to the release.
    fs::write(mirror.source("current/d00001/f0001"), "through the link")?;
    mirror.in_sync();
    finish_without_the_marker(mirror)
}

#[test]
fn a_link_replaced_by_a_directory_is_a_directory_at_the_receiver() -> io::Result<()> {
    let mut mirror = with_releases()?;
    fs::remove_dir_all(mirror.source("current"))?;
    symlink(mirror.outside("release"), mirror.source("current"))?;
    mirror.in_sync();
    fs::remove_file(mirror.source("current"))?;
    fs::create_dir(mirror.source("current"))?;
    fs::write(mirror.source("current/own"), "in the directory")?;
    println!("link to directory: {:?}", mirror.in_sync());
    finish_without_the_marker(mirror)
}

#[test]
fn a_directory_with_pending_changes_that_becomes_a_link_outside_sends_nothing_from_there()
-> io::Result<()> {
    let mirror = with_releases()?;
    fs::write(
        mirror.source("current").join(MARKER),
        "a file of the same name inside",
    )?;
    for round in 0..100 {
        // Changes below `current` are known and pending while it turns into a link, and the other way round.
        fs::write(
            mirror.source("current").join(MARKER),
            format!("inside {round}"),
        )?;
        fs::write(
            mirror.source("current/d00001/f0001"),
            format!("inside {round}"),
        )?;
        fs::rename(mirror.source("current"), mirror.source("kept aside"))?;
        symlink(mirror.outside("release"), mirror.source("current"))?;
        if round < 99 {
            fs::remove_file(mirror.source("current"))?;
            fs::rename(mirror.source("kept aside"), mirror.source("current"))?;
        }
    }
    fs::remove_dir_all(mirror.source("kept aside"))?;
    finish_without_the_marker(mirror)
}

#[test]
fn a_link_to_a_directory_outside_carries_the_link_alone() -> io::Result<()> {
    let mut mirror = with_releases()?;
    symlink(mirror.outside("release"), mirror.source("link out"))?;
    mirror.in_sync();
    fs::write(mirror.source("link out/made through it"), "outside")?;
    fs::remove_file(mirror.outside("release/made through it"))?;
    fs::remove_file(mirror.source("link out"))?;
    symlink("releases", mirror.source("link out"))?;
    mirror.in_sync();
    finish_without_the_marker(mirror)
}

#[test]
fn a_link_is_carried_as_it_is() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    for target in [
        "nowhere",
        "..",
        ".",
        "/",
        "//etc//",
        "loop",
        "-x",
        "a\nb",
        "/rsyncd-munged/x",
    ] {
        let link = mirror.source("loop");
        // Removed and made anew, as `ln -sfn` does it.
        let _ = fs::remove_file(&link);
        symlink(target, &link)?;
        mirror.in_sync();
    }
    symlink("x".repeat(4000), mirror.source("long"))?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn a_file_replaced_by_a_directory_and_back_is_what_it_is_at_the_source() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let thing = mirror.source("thing");
    fs::write(&thing, "a file")?;
    mirror.in_sync();
    fs::remove_file(&thing)?;
    grow(&thing, 2, 2, 100)?;
    println!("file to directory: {:?}", mirror.in_sync());
    fs::remove_dir_all(&thing)?;
    fs::write(&thing, "a file again")?;
    println!("directory to file: {:?}", mirror.in_sync());
    for round in 0..50 {
        fs::remove_file(&thing)?;
        grow(&thing, 1, 2, 100)?;
        fs::remove_dir_all(&thing)?;
        fs::write(&thing, format!("a file in round {round}"))?;
    }
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn a_parent_replaced_by_a_file_takes_its_content_with_it() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source("a/b"), 3, 3, 100)?;
    mirror.run()?;
    mirror.in_sync();
    // Changed below, then gone with its parents.
    fs::write(mirror.source("a/b/d00001/f0001"), "changed")?;
    fs::remove_file(mirror.source("a/b/d00001/f0002"))?;
    fs::remove_dir_all(mirror.source("a/b"))?;
    fs::write(mirror.source("a/b"), "a file")?;
    mirror.in_sync();
    fs::write(mirror.source("a/c"), "changed")?;
    fs::remove_dir_all(mirror.source("a"))?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn pipes_and_devices_are_carried() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, mirror.source("pipe"), FileType::Fifo, mode, 0)?;
    mirror.in_sync();
    if mknodat(
        CWD,
        mirror.source("null"),
        FileType::CharacterDevice,
        mode,
        makedev(1, 3),
    )
    .is_ok()
    {
        mirror.in_sync();
        fs::remove_file(mirror.source("null"))?;
        mknodat(
            CWD,
            mirror.source("null"),
            FileType::CharacterDevice,
            mode,
            makedev(1, 5),
        )?;
        mirror.in_sync();
    } else {
        println!("skipped: this user may not make devices");
    }
    fs::remove_file(mirror.source("pipe"))?;
    fs::write(mirror.source("pipe"), "a file now")?;
    mirror.in_sync();
    mirror.finish()
}

/// rsync opens what was a file when it made its list, and an open of a pipe without a writer has no end.
#[test]
fn a_file_that_becomes_a_pipe_while_it_is_sent_does_not_hang_the_mirror() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    // The receiver stands still, so that the list is made and the content is not yet asked for.
    mirror.daemon.freeze();
    let connections = mirror.daemon.connections();
    for name in ["first", "second", "third"] {
        fs::write(mirror.source(name), "a file")?;
    }
    pause(Duration::from_millis(500)); // interval in which the run begins
    for name in ["first", "second", "third"] {
        fs::remove_file(mirror.source(name))?;
        mknodat(
            CWD,
            mirror.source(name),
            FileType::Fifo,
            Mode::from_raw_mode(0o640),
            0,
        )?;
    }
    mirror.daemon.thaw();
    println!(
        "{:?} after the receiver went on",
        mirror.in_sync_within(Duration::from_secs(60))
    );
    println!("{} connections", mirror.daemon.connections() - connections);
    mirror.finish()
}

/// What becomes of the socket itself is rsync's matter (`-a` makes one); it may hold nothing else up.
#[test]
fn a_socket_does_not_disturb() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let socket = UnixListener::bind(mirror.source("socket"))?;
    fs::write(mirror.source("beside"), "content")?;
    wait_until(SOON, "the file beside it arrives", || {
        mirror.replica("beside").exists()
    });
    drop(socket);
    fs::remove_file(mirror.source("socket"))?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_written_through() -> io::Result<()> {
    let mut mirror = with_releases()?;
    let outside = mirror.outside("release").join(MARKER);
    fs::write(mirror.source("file"), "a file")?;
    mirror.in_sync();
    fs::remove_file(mirror.source("file"))?;
    symlink(&outside, mirror.source("file"))?;
    mirror.in_sync();
    // The receiver has a link to a file outside; the source a file: the link has to give way, not its target.
    fs::remove_file(mirror.source("file"))?;
    fs::write(mirror.source("file"), "a file again")?;
    mirror.in_sync();
    assert!(matches!(
        Node::read(&mirror.replica("file"))?.kind,
        Kind::File { .. }
    ));
    finish_without_the_marker(mirror)
}

/// A run that lists the directory late finds a link, and its receiver puts that under the feet of the other, which has
/// begun to send into the directory.
#[test]
fn what_is_sent_into_a_directory_while_it_becomes_a_link_stays_nowhere_else() -> io::Result<()> {
    const LONG: usize = 3_000;
    let mut mirror = Mirror::prepare()?;
    mirror.config.params = "-a --bwlimit=30".into();
    fs::create_dir(mirror.outside("dir"))?;
    fs::write(mirror.outside("dir/old"), "moved in")?;
    fs::write(mirror.source("victim"), "in the root")?;
    let stage = Stage::set_up(&mirror)?;
    let listener = UnixListener::bind(mirror.at("ask"))?;
    let mut command = stage.command_to_ask(&mirror, &mirror.at("ask"));
    command.env("SERSYNC_LOG", "trace");
    mirror.run_by(command)?;
    let (held, runs) = mpsc::channel();
    let holds = Arc::new(AtomicBool::new(false));
    let holding = Arc::clone(&holds);
    thread::spawn(move || {
        while let Ok(run) = Asked::next(&listener) {
            let is_held = run.kind == "tree" || run.kind == "send";
            if is_held && holding.load(Ordering::Relaxed) {
                let _ = held.send(run);
            }
        }
    });
    let next = |kind| {
        let run = runs.recv_timeout(SOON).expect("a run");
        assert_eq!(run.kind, kind);
        run
    };
    mirror.in_sync();

    holds.store(true, Ordering::Relaxed);
    fs::rename(mirror.outside("dir"), mirror.source("dir"))?;
    let late = next("tree");
    // What changes while another run of paths is on its way is in one run, the next.
    fs::write(mirror.source("beside"), "content")?;
    let before = next("send");
    for name in ["a long one", "stray", "victim"] {
        let content = "in the directory";
        fs::write(mirror.source("dir").join(name), content.repeat(LONG))?;
    }
    wait_until(SOON, "all three are on the way to the lane", || {
        mirror.log().contains("path: \"dir/victim\"")
    });
    drop(before);
    drop(next("send"));
    wait_until(SOON, "the first file is on its way", || {
        let mut entries = fs::read_dir(mirror.replica("dir")).into_iter().flatten();
        entries.any(|entry| entry.is_ok_and(|entry| is_temporary(&entry)))
    });
    let frozen = mirror.daemon.freeze_connections();
    wait_until(SOON, "all is read", || {
        mirror.sersync().most_read_by_a_child() > 3 * 16 * LONG as u64
    });
    fs::rename(mirror.source("dir"), mirror.at("dir"))?;
    symlink(".", mirror.source("dir"))?;
    holds.store(false, Ordering::Relaxed);
    drop(late);
    wait_until(SOON, "the receiver has the link", || {
        mirror.replica("dir").is_symlink()
    });
    for process in frozen {
        let _ = kill_process(process, Signal::CONT);
    }
    wait_until(SOON, "the receiver looks for its temporary file", || {
        mirror.daemon.log().contains("rename \"/dir/.a long one.")
    });
    println!("equal again: {:?}", mirror.in_sync());
    mirror.finish()
}

/// Whether rsync is writing it.
fn is_temporary(entry: &fs::DirEntry) -> bool {
    entry
        .file_name()
        .as_encoded_bytes()
        .starts_with(b".a long one.")
}
