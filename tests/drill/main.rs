//! `make drill`: random operations on a source while faults are injected at random, for as long as asked. Whatever
//! happens, nothing is lost, nothing is deleted by mistake, and after the last fault both replicas become equal by
//! themselves.
//!
//! ```text
//! make drill                        # ten minutes
//! make drill SECONDS=3600 SEED=7    # as long as you like, with the faults of an earlier drill
//! make drill MILLION=1              # a million changes while the remote is dead
//! make drill RACES=200              # the source is unmounted at so many random moments (tests/it/guards.rs)
//! ```
//!
//! No fault sets the clock, which is the whole machine's. What waits does so by the monotonic one.
//!
//! One source goes to two replicas, each by a sersync of its own, through a proxy to one rsync daemon. The sersync called
//! `mortal` is killed, stopped and started among other things; the one called `lasting` gets every other fault and lives
//! to the end, so that its memory can be compared. The tests in `tests/it` look at each fault alone; here they meet.
//!
//! | file | what it gives |
//! |---|---|
//! | `room.rs` | namespaces of its own: what is mounted, limited or left behind in them is nobody else's matter |
//! | `stage.rs` | the source, the two sides, the daemon and the bus |
//! | `proxy.rs` | connections that are cut, slow, silent or half open |
//! | `writer.rs` | the generator of `tests/it` and what changes around the canaries |
//! | `canaries.rs` | files that never change and must be at the replicas at all times |
//! | `faults.rs` | each kind of fault: how it begins and how it ends |
//! | `director.rs` | which faults happen when; whether all is equal afterwards |
//! | `table.rs` | what is said at the end |
//! | `million.rs` | a million changed paths while the remote is dead |
//!
//! `SERSYNC_DRILL_SECONDS` and `SERSYNC_DRILL_SEED` steer it; `cargo test` runs half a minute of it.

mod canaries;
mod director;
mod faults;
mod million;
mod proxy;
mod room;
mod stage;
mod table;
mod writer;

#[path = "../it/confxml.rs"]
#[expect(dead_code, reason = "shared with tests/it, which asks for more")]
mod confxml;
#[path = "../it/generator.rs"]
#[expect(dead_code, reason = "shared with tests/it, which asks for more")]
mod generator;
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "shared with tests/it, which asks for more")]
mod harness;
#[path = "../it/names.rs"]
#[expect(dead_code, reason = "shared with tests/it, which asks for more")]
mod names;
#[path = "../it/rsync_daemon.rs"]
#[expect(dead_code, reason = "shared with tests/it, which asks for more")]
mod rsync_daemon;
#[path = "../it/sersync.rs"]
#[expect(dead_code, reason = "shared with tests/it, which asks for more")]
mod sersync;
#[path = "../it/tree.rs"]
#[expect(dead_code, reason = "shared with tests/it, which asks for more")]
mod tree;

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};

use crate::room::Room;

/// How long it takes where nobody asks for more.
const A_PART: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(Room::default())).exit_code();
    }
    match Room::enter() {
        Ok(room::Entered::Inside(room)) => libtest_mimic::run(&arguments, trials(room)).exit_code(),
        Ok(room::Entered::Over(code)) => code,
        Err(error) => {
            eprintln!("drill: {error}");
            ExitCode::FAILURE
        }
    }
}

fn trials(room: Room) -> Vec<Trial> {
    let million = Trial::test("a_million_changes_wait_for_a_dead_remote", || {
        million::drill().map_err(Into::into)
    });
    vec![
        Trial::test("nothing_is_lost_or_deleted_by_mistake", move || {
            let seconds = number("SERSYNC_DRILL_SECONDS").map_or(A_PART, Duration::from_secs);
            let seed = number("SERSYNC_DRILL_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
            director::drill(room, seconds, seed).map_err(Into::into)
        }),
        // It takes a gigabyte of memory for its trees, and minutes.
        million.with_ignored_flag(true),
    ]
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}
