//! What `/proc` says about a process and its descendants.

use std::fs;
use std::io;
use std::time::Duration;

/// Ticks of `/proc/PID/stat` in a second: USER_HZ, which Linux fixes at 100 for all programs.
const TICKS_PER_SECOND: u32 = 100;

/// `pid` and all its living descendants.
pub fn tree_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end between the two reads; then it is no descendant any more.
        if let Some(parent) = stat_field(child, PARENT) {
            parents.push((child, parent));
        }
    }
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(
            parents
                .iter()
                .filter(|&&(_, its_parent)| its_parent == u64::from(parent))
                .map(|&(child, _)| child),
        );
        next += 1;
    }
    Ok(tree)
}

/// CPU time of `pid`, its living descendants, and all children they have waited for.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let ticks: u64 = tree_of(pid)?
        .into_iter()
        .flat_map(|pid| CPU_TIMES.map(|field| stat_field(pid, field).unwrap_or_default()))
        .sum();
    Ok(Duration::from_secs(ticks) / TICKS_PER_SECOND)
}

/// Resident memory of `pid` and its descendants in KiB.
pub fn resident_kibibytes(pid: u32) -> io::Result<u64> {
    Ok(tree_of(pid)?
        .into_iter()
        .map(|pid| status_field(&format!("/proc/{pid}/status"), "VmRSS:"))
        .sum())
}

/// How often any thread of `pid` and its descendants has gone to sleep, and so was woken, up to now.
pub fn wake_ups(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for pid in tree_of(pid)? {
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
        {
            let status = task?.path().join("status");
            sum += status_field(&status.to_string_lossy(), "voluntary_ctxt_switches:");
        }
    }
    Ok(sum)
}

// Fields of /proc/PID/stat, counted from the one after the command's name.
const PARENT: usize = 1;
const CPU_TIMES: [usize; 4] = [11, 12, 13, 14]; // utime, stime, and those of waited-for children

fn stat_field(pid: u32, field: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may itself hold blanks and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(field)?.parse().ok()
}

fn status_field(file: &str, name: &str) -> u64 {
    fs::read_to_string(file)
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        })
        .unwrap_or_default()
}
