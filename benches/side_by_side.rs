//! `make bench`: a plain rsync, lsyncd and sersync do the same work in one go, and a table says how fast each was.
//!
//! Every tool mirrors a tree of its own to an rsync daemon of its own on the loopback interface, which asks for a
//! password. The rounds are interleaved (all tools in round one, then all in round two), so that a slow minute of the
//! machine hits everybody, and the figures are medians over the rounds. Nothing is measured by a tool's own word: the
//! bench writes the files, watches the receiver, reads the daemon's log and the kernel's accounts.
//!
//! ```text
//!  scenario ──writes──► source ──tool──► rsync daemon ──► replica ◄──polls── scenario
//!                                 │            └─ log: number of runs            │
//!                                 └─ control group: CPU                          ▼
//!                                                                   results ──► table, Markdown, SVG
//! ```
//!
//! "Plain rsync" is the floor: `rsync -a --delete` of the whole tree, started at once for every change, as the best
//! possible script around inotifywait would (see `plain`).

use std::env;
use std::ffi::OsStr;
use std::process::ExitCode;

mod side_by_side {
    pub mod bed;
    pub mod chart;
    pub mod cpu;
    pub mod options;
    pub mod plain;
    pub mod processes;
    pub mod report;
    pub mod results;
    pub mod scenario;
    pub mod sshd;
    pub mod tool;

    // The same stage as that of the demonstration.
    #[path = "../../tests/demo/compare.rs"]
    pub mod compare;
    #[path = "../../tests/demo/confxml.rs"]
    pub mod confxml;
    #[path = "../../tests/demo/pace.rs"]
    pub mod pace;
    #[path = "../../tests/demo/receiver.rs"]
    pub mod receiver;
    #[path = "../../tests/demo/service.rs"]
    pub mod service;
}

use side_by_side::{cpu, options, plain, scenario};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let result = match arguments.first().and_then(|first| OsStr::to_str(first)) {
        // The bench starts itself under two other roles.
        Some(cpu::ENTER) => cpu::enter_and_exec(&arguments[1..]),
        Some(plain::LOOP) => plain::run(&arguments[1..]),
        _ => options::read().map_or(Ok(()), |options| scenario::run_all(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
