//! Whole-process tests: the `sersync` binary between a real source tree and real rsync daemons, as a black box.
//!
//! Every test makes its own trees, its own rsync daemon on a free loopback port and its own sersync, so all of them
//! run side by side. What they stand on:
//!
//! | file | what it gives |
//! |---|---|
//! | `harness.rs` | `Mirror` (a source, a replica, a daemon, a sersync), `wait_until`, `wait_in_sync` |
//! | `tree.rs` | the comparison of whole trees |
//! | `rsync_daemon.rs` | a private `rsync --daemon` |
//! | `sersync.rs` | the process under test and its log |
//! | `fake.rs`, `fake/rsync.rs` | an rsync that fails as a test likes |
//! | `sshd.rs` | a private sshd with keys of its own |
//! | `bus.rs` | a private bus, and the program's own commands on it |
//! | `confxml.rs` | the configuration file it reads |
//! | `generator.rs`, `names.rs` | seeded random operations; names that break careless programs |
//!
//! The figures of the project (milliseconds, runs, bytes) are printed and belong to `make bench`. What is asserted
//! here is that trees end equal, within bounds that a slow shared machine keeps. `--nocapture` shows the figures;
//! `SERSYNC_RANDOM_SECONDS` and `SERSYNC_RANDOM_SEED` steer the random operations, `SERSYNC_PATTERN_CASES` how many lists of
//! patterns are compared with rsync.

mod bus;
mod confxml;
mod fake;
mod generator;
mod harness;
mod names;
mod rsync_daemon;
mod sersync;
mod sshd;
mod tree;

mod broadcast;
mod changes;
mod confined;
mod control;
mod crashes;
mod crontab;
mod errors;
mod fail_log;
mod filters;
mod first_push;
mod guards;
mod hanging;
mod idle;
mod isolation;
mod kept;
mod kinds;
mod known;
mod local_target;
mod max_delete;
mod odd;
mod oldface;
mod outage;
mod outcomes;
mod overrides;
mod patterns;
mod plan;
mod plugins;
mod random;
mod safety;
mod scan;
mod signals;
mod ssh;
mod stock;
mod switches;
mod writes;
