//! A source on a file system that does not answer, as of an NFS server that is gone: `bindfs`, which is stopped.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bus::Bus;
use crate::confxml::{Localpath, Remote};
use crate::harness::{AFTER_BACK_OFF, KEEP, Mirror, SOON, grow, wait_in_sync, wait_until};

/// What a reload or an end may take: a moment for what runs, and what a system call is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

/// A directory that shows another one as long as it is let. Dropped, it is taken away.
struct Bindfs {
    server: Child,
    at: PathBuf,
}

impl Bindfs {
    /// `None` where there is none, or this user may not mount.
    fn mount(backing: &Path, at: PathBuf) -> io::Result<Option<Self>> {
        let device = fs::metadata(&at)?.dev();
        let server = Command::new("bindfs")
            .args(["-f", "--no-allow-other"])
            .args([backing, &at])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(server) = server else {
            println!("skipped: there is no bindfs");
            return Ok(None);
        };
        let mut mounted = Self { server, at };
        let start = Instant::now();
        while fs::metadata(&mounted.at)?.dev() == device {
            if mounted.server.try_wait()?.is_some() {
                println!("skipped: nothing can be mounted here");
                return Ok(None);
            }
            assert!(start.elapsed() < SOON, "bindfs does not mount");
            crate::harness::pause(Duration::from_millis(5)); // poll
        }
        Ok(Some(mounted))
    }

    /// From now on nothing that is asked of it comes back.
    fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.server), signal).expect("it is a child of ours");
    }
}

impl Drop for Bindfs {
    fn drop(&mut self) {
        // Where it has ended, or is not mounted, each of these fails, as it should.
        let _ = kill_process(Pid::from_child(&self.server), Signal::CONT);
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_source_that_does_not_answer_holds_up_neither_others_nor_a_reload_nor_an_end() -> io::Result<()>
{
    let bus = Bus::start()?;
    let mut mirror = Mirror::prepare()?;
    let (backing, second) = (mirror.at("backing"), mirror.at("second"));
    grow(&backing, 5, 5, 100)?;
    grow(&second, 1, 1, 100)?;
    let replica = mirror.at("second replica");
    fs::create_dir(&replica)?;
    fs::rename(mirror.source(KEEP), backing.join(KEEP))?;
    let Some(server) = Bindfs::mount(&backing, mirror.source(""))? else {
        return Ok(());
    };
    mirror.config.mirrors.push(Localpath {
        watch: second.clone(),
        remotes: vec![Remote::Local(replica.clone())],
    });
    mirror.run_with(&["--bus", &bus.address()])?;
    mirror.in_sync();
    wait_in_sync(&second, &replica, SOON);
    mirror.is_known();

    server.freeze();
    // A job is in the midst of it.
    assert_eq!(bus.ask(&["resync", "--no-wait"])?.code, 0);
    fs::write(second.join("meanwhile"), "content")?;
    wait_in_sync(&second, &replica, SOON);
    assert_eq!(bus.ask(&["status"])?.code, 0);
    mirror.config.params = "-a --bwlimit=10m".into();
    mirror.config.write()?;
    let asked = Instant::now();
    assert_eq!(bus.ask(&["reload"])?.code, 0);
    println!("reloaded within {:?}", asked.elapsed());
    assert!(asked.elapsed() < PATIENCE);
    fs::write(second.join("after the reload"), "content")?;
    wait_in_sync(&second, &replica, SOON);
    wait_until(PATIENCE, "it is said", || {
        mirror.log().contains("does not answer, nothing is sent")
    });

    server.thaw();
    mirror.in_sync_within(AFTER_BACK_OFF);
    fs::write(backing.join("later"), "content")?;
    assert_eq!(bus.ask(&["resync"])?.code, 0);
    mirror.in_sync_within(AFTER_BACK_OFF);

    server.freeze();
    assert_eq!(bus.ask(&["resync", "--no-wait"])?.code, 0);
    mirror.sersync().signal(Signal::TERM);
    let asked = Instant::now();
    let status = mirror.sersync().wait(PATIENCE);
    println!("ended within {:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0), "{status}");
    Ok(())
}
