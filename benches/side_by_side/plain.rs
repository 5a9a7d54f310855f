//! The floor: the best script that can be written around a plain rsync.
//!
//! It is told of every change without delay (a byte on its standard input, where a script would read inotifywait), and
//! answers with an rsync of the whole tree. Changes that come while one runs are covered by the next. A run that fails
//! is tried again after a second.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::process::Command;
use std::time::Duration;

use super::pace;

/// First argument of this role.
pub const LOOP: &str = "--plain-loop";

const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes taken at once: all changes that can be waiting, so that they are answered by one run.
const PIPE_SIZE: usize = 64 * 1024;

/// Runs `rsync` with `arguments` once at the start, and again for every change; ends with the pipe.
pub fn run(arguments: &[OsString]) -> io::Result<()> {
    let mut waiting = vec![0; PIPE_SIZE];
    loop {
        while !Command::new("rsync").args(arguments).status()?.success() {
            pace::pause(RETRY_INTERVAL)?;
        }
        if io::stdin().read(&mut waiting)? == 0 {
            return Ok(());
        }
    }
}
