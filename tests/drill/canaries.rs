//! Files that never change while everything around them does: one that is not at a replica was deleted by mistake.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::pause;

/// The directories that hold them, below the source; what else is in there changes all the time.
pub const DIRECTORIES: [&str; 6] = [
    "canaries",
    "canaries/first",
    "canaries/first/second",
    "canaries/first/second/third",
    "canaries/odd \nname",
    "canaries/still",
];
/// In each of them.
const EACH: usize = 8;
/// Between two looks at all of them.
const LOOK: Duration = Duration::from_millis(10);
/// No more are listed.
const MOST_TOLD: usize = 100;

/// Makes them.
pub fn place(source: &Path) -> io::Result<()> {
    for directory in DIRECTORIES {
        fs::create_dir_all(source.join(directory))?;
    }
    for path in all() {
        fs::write(source.join(&path), path.as_os_str().as_encoded_bytes())?;
    }
    Ok(())
}

fn all() -> impl Iterator<Item = PathBuf> {
    DIRECTORIES.iter().flat_map(|directory| {
        (0..EACH).map(move |number| Path::new(directory).join(format!("canary {number}")))
    })
}

/// Somebody who looks at them all the time.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    missed: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<u64>,
}

impl Watch {
    /// From now on they must be at these replicas.
    pub fn over(replicas: Vec<PathBuf>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let missed: Arc<Mutex<Vec<String>>> = Arc::default();
        let (stop, report) = (Arc::clone(&is_over), Arc::clone(&missed));
        let start = Instant::now();
        let thread = thread::spawn(move || {
            let canaries: Vec<PathBuf> = replicas
                .iter()
                .flat_map(|replica| all().map(|path| replica.join(path)))
                .collect();
            let mut are_there = vec![true; canaries.len()];
            let mut looks = 0;
            while !stop.load(Relaxed) {
                for (canary, was_there) in canaries.iter().zip(&mut are_there) {
                    let is_there = fs::symlink_metadata(canary).is_ok();
                    if *was_there && !is_there {
                        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                        if report.len() < MOST_TOLD {
                            report.push(format!(
                                "{} after {:?}",
                                canary.display(),
                                start.elapsed()
                            ));
                        }
                    }
                    *was_there = is_there;
                }
                looks += 1;
                pause(LOOK); // interval between two looks
            }
            looks
        });
        Self {
            is_over,
            missed,
            thread,
        }
    }

    /// What was missed so far, in sentences.
    pub fn missed(&self) -> Vec<String> {
        let missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        missed.clone()
    }

    /// Ends the watch; how often they were looked at.
    pub fn end(self) -> u64 {
        self.is_over.store(true, Relaxed);
        self.thread.join().unwrap_or(0)
    }
}
