//! Whether a running child still does anything.
//!
//! `--timeout` ends an rsync whose connection is silent, and only that: not one that somebody has stopped, that waits
//! for a file system that hangs, or that waits for itself. Even one that only waits wakes up at least once in half its
//! `--timeout`, so a child that has neither run nor been woken for longer than that has hung.

use std::fs;
use std::time::Duration;

use rustix::process::Pid;

/// How often a running child is looked at; see [`waits_for_a_pipe`].
const LOOK: Duration = Duration::from_secs(2);

/// What is wrong with a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifeless {
    /// It waits for somebody to write into a pipe.
    InAPipe,
    /// It does nothing at all.
    Hung,
}

/// Comes back when the child is found in the same endless wait twice in a row, or without a sign of life for so long.
pub(super) async fn lifeless(group: Option<Pid>, patience: Option<Duration>) -> Lifeless {
    let Some(pid) = group else {
        return std::future::pending().await;
    };
    let (mut pipe, mut life) = (0, Life::default());
    loop {
        tokio::time::sleep(LOOK).await;
        pipe = if waits_for_a_pipe(pid) { pipe + 1 } else { 0 };
        if pipe == 2 {
            return Lifeless::InAPipe;
        }
        let still = LOOK * life.look(signs(pid));
        if patience.is_some_and(|patience| still >= patience) {
            return Lifeless::Hung;
        }
    }
}

/// A file may become a named pipe between rsync's list and its turn. The sender then opens the pipe and waits for a
/// writer, which `--timeout` does not end. The kernel's name for that wait shows it; where it is not to be read,
/// nothing is found and the run waits as rsync does.
fn waits_for_a_pipe(pid: Pid) -> bool {
    fs::read(format!("/proc/{}/wchan", pid.as_raw_nonzero()))
        .is_ok_and(|wait| matches!(&wait[..], b"wait_for_partner" | b"fifo_open"))
}

/// Looks are counted, not time: a machine, or a service, that was stopped as a whole makes nobody lifeless.
#[derive(Debug, Default)]
struct Life {
    signs: Option<u64>,
    still: u32,
}

impl Life {
    /// How many looks in a row have shown nothing new.
    fn look(&mut self, signs: Option<u64>) -> u32 {
        let is_still = signs.is_some() && signs == self.signs;
        self.still = if is_still { self.still + 1 } else { 0 };
        self.signs = signs;
        self.still
    }
}

/// A number that grows as long as a process does anything; `None` where that is not to be seen.
fn signs(pid: Pid) -> Option<u64> {
    let read = |name: &str| fs::read(format!("/proc/{}/{name}", pid.as_raw_nonzero())).ok();
    let (stat, status) = (read("stat")?, read("status")?);
    Some(time_used(&stat)? + switches(&String::from_utf8_lossy(&status)))
}

/// `PID (COMMAND) STATE …`, in which the command may hold anything: ticks of the processor are the fields 14 and 15.
fn time_used(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = String::from_utf8_lossy(&stat[after..]).into_owned();
    let mut ticks = rest.split_ascii_whitespace().skip(11).take(2);
    let mut next = || ticks.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// How often it has gone to sleep, or was put to sleep.
fn switches(status: &str) -> u64 {
    let lines = status
        .lines()
        .filter_map(|line| line.split_once("_ctxt_switches:"));
    lines
        .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_read_from_what_the_kernel_tells() {
        let stat = b"7 (a) (b \n) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14";
        assert_eq!(time_used(stat), Some(11 + 12));
        assert_eq!(time_used(b"7 (a) R 1"), None);
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(switches(status), 7);
        assert!(signs(rustix::process::getpid()).is_some());
    }

    #[test]
    fn only_looks_in_a_row_that_show_nothing_new_count() {
        let mut life = Life::default();
        let looks = [
            Some(1),
            Some(1),
            Some(1),
            Some(2),
            Some(2),
            None,
            None,
            Some(2),
        ];
        let still: Vec<u32> = looks.into_iter().map(|signs| life.look(signs)).collect();
        assert_eq!(still, [0, 1, 2, 0, 1, 0, 0, 0]);
    }
}
