//! The commands that talk to a running instance, as they are typed: the real program, a real bus, the real service, and a
//! daemon that says what a test wants.

mod answers;
mod completions;
mod errors;
mod harness;
mod oldface;
mod runs;
mod status;
