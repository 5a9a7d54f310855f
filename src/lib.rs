//! One-way, real-time mirroring of directory trees to rsync remotes.
//!
//! This page is the map. The program is the library with a small `main`; nothing here is meant for other programs.
//!
//! # Words
//!
//! A *mirror* is one source directory and where it goes; a *remote* is one target of a mirror; a *lane* is the sending
//! side of one mirror to one remote. A *change* says "this path may differ now", never "do this operation". The *dirty
//! set* of a lane holds the changes no run has taken yet; a *batch* is what a *job* takes of it at once. A *path run*
//! is an rsync of listed paths, a *tree run* a recursive one with deletion (the first push is a tree run of the root).
//! An *outcome* is what a run did; the *fail queue* holds the paths that failed by themselves.
//!
//! # Flow
//!
//! ```text
//!  kernel ─► watch ─Change─► mirror ─► dirty set (one per lane) ─take─► lane ─► rsync child ─► Outcome
//!              │ Overflowed, Uncovered, RootGone        ▲                                        │
//!              └────────────────────────────────────────┤   failed paths ─► fail queue ─┘ back when due
//!  bus ─Request─► daemon ─Question─► mirror ─► lane     └── unreachable: the whole batch back, the lane backs off
//!  plugins ◄─ paths that every remote has ◄─ lanes, mirrors
//!  bus, service manager ◄─ Snapshot, Notice ◄─ board ◄─ lanes, mirrors
//! ```
//!
//! Changes are states, not operations: when a batch runs the source is looked at, and what is there is sent, what is
//! gone is deleted. So order, duplicates and restarts do not matter, and a batch can always be tried again.
//!
//! # Invariants
//!
//! 1. A change leaves a dirty set only inside a batch; a batch ends as synced, or back in the dirty set, or in the fail
//!    queue, or withheld until somebody accepts what it would delete. Never nowhere. ([`dirty`], [`lane`])
//! 2. A full queue, a kernel overflow, a directory that cannot be watched or an error nobody foresaw escalates to "the
//!    whole (sub)tree is dirty", never to loss. ([`watch`])
//! 3. Per remote, runs overlap only as one path job beside one large file and one tree; what the path job did below the
//!    long ones is dirty again when they end, and what they could trip over waits for them. The last word is always
//!    ours. ([`lane`])
//! 4. A tree subsumes its paths, and memory is bounded: too many dirty paths collapse to their common directories.
//!    ([`dirty`])
//! 5. Decisions are pure functions of state, event and `now`; tasks only carry them out.
//! 6. No transfer result, no bus, no journal and no plugin can end or block the daemon. A rejected reload changes nothing.
//!    ([`daemon`], [`dbus`], [`journal`])
//! 7. Nothing is deleted at a receiver unless the source root is the directory this mirror began with and the one that the
//!    remote was last equal to, and has an entry; nor where a file system was mounted and is not, or another one; nor most
//!    of what a remote has at the first contact. What is done to a target on this machine counts only while it is the same
//!    directory under the same mount, from the first run on. What is not so waits for the old state or for a person. ([`lane::guard`],
//!    [`lane::volumes`], [`lasting`], [`mirror`])
//! 8. No shell, ever: argument vectors and NUL lists; a file name is bytes. ([`rsync::args`], [`path`])
//!    What becomes of a source under a run gets nothing from outside of it sent, where the kernel has Landlock; not over ssh,
//!    and not where the params follow links. ([`rsync::confine`])
//! 9. After any end, clean or not, the next start restores the truth by itself: its first push compares everything.
//! 10. What everybody on the bus may read holds counts and causes, never the path of a file. ([`control`])
//!
//! # Layers
//!
//! Imports go one way, from the top of this table to its bottom; a test reads them.
//!
//! | layer | modules |
//! |---|---|
//! | program | [`cli`] |
//! | composition root | [`daemon`] |
//! | tasks | [`mirror`], [`lane::task`], [`lane::transfer`], [`lane::verify`], [`lane::preview`], `lane::sample`, [`lane::attempt`], [`lane::context`], [`lane::guard`] |
//! | adapters, each the only user of its system interface | [`watch`] (inotify, and which file systems others write to), [`rsync`] (children), [`ssh`] (shared connections), [`resolve`] and [`links`] (the source), [`local_target`] (a target on this machine), [`mounts`] (what is mounted), [`plugin`] (who is told of it), [`dbus`] (the bus), [`systemd`] (the notify protocol), [`journal`] (the log), [`store`] (saved state), [`fail_log`] (the record of what failed), [`sysctl`] (the kernel's limits) |
//! | policy, plain data but for the files that a configuration names | [`lane`], [`dirty`], [`fail_queue`], [`saved`], [`by_hand`], [`plugin::owed`], [`plugin::queue`], [`rsync::args`], [`rsync::confine`], [`rsync::outcome`], [`rsync::ended`], [`rsync::itemized`], [`rsync::progress`], [`rsync::rules`], [`rsync::skipped`], [`ssh::args`], [`config`], [`filter`] |
//! | words | [`path`], [`lasting`], [`change`], [`control`], [`message_id`] |

pub mod by_hand;
pub mod change;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dbus;
pub mod dirty;
pub mod fail_log;
pub mod fail_queue;
pub mod filter;
pub mod journal;
pub mod lane;
pub mod lasting;
pub mod links;
pub mod local_target;
pub mod message_id;
pub mod mirror;
pub mod mounts;
pub mod path;
pub mod plugin;
pub mod resolve;
pub mod rsync;
pub mod saved;
pub mod ssh;
pub mod store;
pub mod sysctl;
pub mod systemd;
pub mod watch;
