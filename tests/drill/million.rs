//! A million changed paths while the remote is dead: what they cost in memory, and how long it takes afterwards.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{MODULE, Mirror, grow, pause, wait_in_sync, wait_until};
use crate::rsync_daemon::Module;

const DIRECTORIES: usize = 1_000;
const FILES: usize = 1_000;
const BYTES: usize = 20;

/// What sersync may need, in KiB.
const MOST_MEMORY: u64 = 200 << 10;
/// In times of what a plain rsync of everything takes.
const MOST_TIME: f64 = 1.5;
/// For what is no more than waited for.
const LONG: Duration = Duration::from_secs(900);

/// Does it and tells the figures.
///
/// # Errors
/// What did not hold.
pub fn drill() -> Result<(), String> {
    let figures = measure().map_err(|error| error.to_string())?;
    let (memory, times) = (
        figures.memory,
        figures.equal.as_secs_f64() / figures.plain.as_secs_f64(),
    );
    println!(
        "  a plain rsync of everything         {:.1} s",
        figures.plain.as_secs_f64()
    );
    println!("  most memory                         {memory} KiB");
    println!(
        "  connected after the return          {:.1} s",
        figures.connected.as_secs_f64()
    );
    println!(
        "  equal after the return              {:.1} s, {times:.2} times",
        figures.equal.as_secs_f64()
    );
    if memory > MOST_MEMORY {
        return Err(format!("{memory} KiB of memory"));
    }
    if times > MOST_TIME {
        return Err(format!("{times:.2} times the time of a plain rsync"));
    }
    Ok(())
}

struct Figures {
    memory: u64,
    connected: Duration,
    equal: Duration,
    plain: Duration,
}

fn measure() -> io::Result<Figures> {
    let mut mirror = Mirror::start()?;
    mirror.daemon.stop();
    let start = Instant::now();
    grow(&mirror.source(""), DIRECTORIES, FILES, BYTES)?;
    println!(
        "  {} files made in {:.1} s",
        DIRECTORIES * FILES,
        start.elapsed().as_secs_f64()
    );
    // It has seen them when it needs no more processor.
    settle(&mut mirror)?;

    let connections = mirror.daemon.connections();
    let start = Instant::now();
    mirror.daemon.start()?;
    let connected = wait_until(LONG, "it connects", || {
        mirror.daemon.connections() > connections
    });
    let all = DIRECTORIES * FILES;
    // They come in order: to count them all the time would take a processor from those that bring them.
    let last = mirror.replica(format!("d{:05}", DIRECTORIES - 1));
    wait_until(LONG, "all files are there", || {
        fs::read_dir(&last).is_ok_and(|files| files.count() >= FILES)
            && count(&mirror.replica("")).is_ok_and(|count| count >= all)
    });
    let equal = start.elapsed();
    wait_in_sync(&mirror.source(""), &mirror.replica(""), LONG);
    let memory = mirror.sersync().status_figure("VmHWM");
    mirror.stop();

    // Two such trees are enough for the memory of one machine.
    fs::remove_dir_all(mirror.replica(""))?;
    let other = mirror.at("plain");
    fs::create_dir(&other)?;
    mirror.daemon.set_modules(&[Module::new(MODULE, &other)])?;
    let start = Instant::now();
    let mut source = mirror.source("").into_os_string();
    source.push("/");
    let status = Command::new("rsync")
        .args(["-a", "--sockopts=TCP_NODELAY"])
        .arg(source)
        .arg(format!(
            "rsync://127.0.0.1:{}/{MODULE}/",
            mirror.daemon.port()
        ))
        .stdin(Stdio::null())
        .status()?;
    assert!(status.success(), "a plain rsync: {status}");
    let plain = start.elapsed();
    Ok(Figures {
        memory,
        connected,
        equal,
        plain,
    })
}

/// Waits until the memory stays the same for two seconds.
fn settle(mirror: &mut Mirror) -> io::Result<()> {
    let mut last = (0, Instant::now());
    let start = Instant::now();
    while last.1.elapsed() < Duration::from_secs(2) {
        let memory = mirror.sersync().status_figure("VmRSS");
        if memory != last.0 {
            last = (memory, Instant::now());
        }
        if start.elapsed() > LONG {
            return Err(io::Error::other("sersync does not come to rest"));
        }
        pause(Duration::from_millis(100)); // poll
    }
    println!(
        "  seen after {:.1} s, {} KiB",
        start.elapsed().as_secs_f64(),
        last.0
    );
    Ok(())
}

fn count(replica: &Path) -> io::Result<usize> {
    let mut count = 0;
    for directory in fs::read_dir(replica)? {
        let directory = directory?;
        if directory.file_type()?.is_dir() {
            count += fs::read_dir(directory.path())?.count();
        }
    }
    Ok(count)
}
