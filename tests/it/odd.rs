//! Trees and files that are unlike others: very deep, very wide, very large and empty, in a circle, or not at rest.
//!
//! Names of every byte and of every length are in `writes.rs`, pipes, sockets and devices in `kinds.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Mirror, pause, wait_until};

#[test]
fn ten_thousand_entries_of_one_directory_arrive_and_go() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::create_dir(mirror.source("before"))?;
    let fill = |name: &str| {
        (0..10_000).try_for_each(|number| fs::write(mirror.source(format!("{name}/{number}")), ""))
    };
    fill("before")?;
    fs::create_dir(mirror.source("while it runs"))?;
    let within = Duration::from_secs(60);
    let (before, running) = (mirror.source("before"), mirror.source("while it runs"));
    mirror.run()?;
    for number in 0..10_000 {
        fs::write(running.join(number.to_string()), "")?;
    }
    println!("20 000 entries: {:?}", mirror.in_sync_within(within));
    for number in 0..5_000 {
        fs::remove_file(running.join(number.to_string()))?;
    }
    println!("half of one gone: {:?}", mirror.in_sync_within(within));
    fs::remove_dir_all(before)?;
    mirror.in_sync_within(within);
    mirror.finish()
}

#[test]
fn a_tree_of_300_levels_is_mirrored_to_its_bottom() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let bottom: PathBuf = std::iter::repeat_n("level", 300).collect();
    fs::create_dir_all(mirror.source(&bottom))?;
    fs::write(mirror.source(bottom.join("file")), "content")?;
    mirror.in_sync();
    fs::write(mirror.source(bottom.join("file")), "changed")?;
    mirror.in_sync();
    fs::rename(mirror.source("level/level"), mirror.source("away"))?;
    mirror.in_sync();
    fs::remove_dir_all(mirror.source("away"))?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn links_in_a_circle_lead_nobody_round() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::create_dir_all(mirror.source("a/b"))?;
    symlink("../..", mirror.source("a/b/up"))?;
    symlink("two", mirror.source("one"))?;
    symlink("one", mirror.source("two"))?;
    symlink("self/self", mirror.source("self"))?;
    mirror.run()?;
    mirror.in_sync();
    for round in 0..5 {
        fs::write(
            mirror.source(format!("a/b/up/a/b/file {round}")),
            "through the link",
        )?;
        fs::remove_file(mirror.source("two"))?;
        symlink(format!("a/b/up/one/{round}"), mirror.source("two"))?;
        mirror.in_sync();
    }
    mirror.finish()
}

#[test]
fn a_huge_file_that_is_almost_empty_arrives_without_its_holes_with_s() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.params = "-a --sparse".into();
    mirror.run()?;
    mirror.in_sync();
    let file = File::create(mirror.source("huge"))?;
    file.set_len(2 << 30)?;
    file.write_all_at(b"in the middle", 1 << 30)?;
    drop(file);
    let written = |path: PathBuf| fs::metadata(path).map(|file| (file.len(), file.blocks()));
    wait_until(Duration::from_secs(100), "it arrives", || {
        written(mirror.replica("huge")).is_ok_and(|(length, _)| length == 2 << 30)
    });
    let (_, blocks) = written(mirror.replica("huge"))?;
    assert!(blocks < 10_000, "{blocks} blocks");
    // A small one beside it does not wait.
    fs::write(mirror.source("small"), "content")?;
    wait_until(Duration::from_secs(15), "it arrives", || {
        mirror.replica("small").exists()
    });
    fs::remove_file(mirror.source("huge"))?;
    mirror.in_sync_within(Duration::from_secs(60));
    mirror.finish()
}

/// Files that grow, shrink, vanish and come back while they are read.
#[test]
fn files_that_are_never_at_rest_are_right_when_they_are() -> io::Result<()> {
    let mut mirror = Mirror::start()?;
    let (root, is_over) = (mirror.source(""), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> io::Result<()> {
            let mut round = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                round += 1;
                for number in 0..4_u32 {
                    let path = root.join(format!("restless {number}"));
                    match (round + number) % 4 {
                        0 => drop(fs::remove_file(&path)),
                        1 => OpenOptions::new()
                            .create(true)
                            .append(true)
                            .open(&path)?
                            .write_all(&vec![1; 3_000_000])?,
                        2 => OpenOptions::new()
                            .create(true)
                            .write(true)
                            .truncate(false)
                            .open(&path)?
                            .set_len(1000)?,
                        _ => fs::write(&path, vec![round as u8; 1_000_000])?,
                    }
                }
                pause(Duration::from_millis(3)); // interval between rounds
            }
            Ok(())
        });
        pause(Duration::from_secs(5)); // interval in which they are restless
        is_over.store(true, Ordering::Relaxed);
        writer.join().expect("the writer went well")
    })?;
    println!(
        "equal {:?} after they are at rest",
        mirror.in_sync_within(Duration::from_secs(30))
    );
    mirror.finish()
}
