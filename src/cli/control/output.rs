//! Standard output and the terminal behind it.

use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

/// Lines are not wrapped any wider, however wide the terminal: long ones are hard to read.
const WIDEST: usize = 120;
/// Nor any narrower.
const NARROWEST: usize = 40;
/// The width where nobody says another.
const USUAL: usize = 80;

/// Standard output. A reader that has gone away (`sersync failed | head`) is no error, and changes no answer.
#[derive(Debug)]
pub(super) struct Output {
    is_open: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { is_open: true }
    }

    /// Whether somebody still reads.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Writes at once.
    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        if !self.is_open {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_open = false;
                Ok(())
            }
            result => result,
        }
    }

    /// Writes and ends the line.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.write(&format!("{text}\n"))
    }
}

/// Comes back when nobody reads standard output any more, as `head` that has seen enough; never where that cannot be
/// seen, as of a file.
pub(super) async fn nobody_reads() {
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    // Without checks: it stays in the mode it is in, and nothing is written by this.
    let watch = |stdout| Sender::from_owned_fd_unchecked(stdout).ok();
    match stdout.ok().and_then(watch) {
        Some(watched) if watched.ready(Interest::ERROR).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

/// Columns and rows of the terminal on standard output, if it is one.
pub(super) fn terminal() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() {
        return None;
    }
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Some((size.ws_col.into(), size.ws_row.into()))
        }
        _ => Some((USUAL, 24)),
    }
}

/// Columns to wrap text at.
pub(super) fn width() -> usize {
    terminal().map_or(USUAL, |(columns, _)| columns.clamp(NARROWEST, WIDEST))
}

/// A line on standard error that is written over itself; silent where nobody would see that.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
    is_begun: bool,
}

impl Progress {
    pub(super) fn new(is_wanted: bool) -> Self {
        Self {
            is_shown: is_wanted && io::stderr().is_terminal(),
            is_begun: false,
        }
    }

    pub(super) fn show(&mut self, what: &str, percent: u32) {
        const BAR: usize = 40;
        if !self.is_shown {
            return;
        }
        let percent = percent.min(100);
        let done = BAR * percent as usize / 100;
        let bar = format!("{}{}", "#".repeat(done), "-".repeat(BAR - done));
        // Progress nobody can see is no reason to stop.
        let _ = write!(io::stderr(), "\r{what} [{bar}] {percent:>3} %\x1b[K");
        self.is_begun = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_begun {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
