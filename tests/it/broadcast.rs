//! What everybody may hear of a failure names no file, whatever rsync says; the log has its words.

use std::fs;
use std::io;

use serde_json::json;

use crate::bus::Bus;
use crate::fake::Stage;
use crate::harness::{AFTER_BACK_OFF, Mirror, SOON, wait_until};

/// A file that is nobody's business.
const SECRET: &str = "merger-with-acme";

/// Lets every run end like this, and asks for all that is broadcast. The log must have `logged`, everybody `told`.
fn hear(exit: i32, stderr: &str, logged: &str, told: &str) -> io::Result<()> {
    let (mut mirror, bus) = (Mirror::prepare()?, Bus::start()?);
    let stage = Stage::set_up(&mirror)?;
    mirror.run_by(stage.command_on(&bus.address(), &mirror))?;
    mirror.in_sync();
    stage.lay("bad", json!({ "exit": exit, "stderr": stderr }))?;
    let mut number = 0;
    wait_until(SOON, "the log has the cause", || {
        // The first may still go to a child that waits, and knows nothing of the scene.
        number += 1;
        fs::write(mirror.source("again and again"), number.to_string()).expect("written");
        mirror.log().contains(logged)
    });
    wait_until(SOON, "everybody hears why", || {
        let said = bus.ask(&["status"]).expect("the program runs");
        said.out.contains(told)
    });
    for question in [
        &["status"][..],
        &["status", "--json"],
        &["verify"],
        &["resync"],
        &["flush", "--timeout", "1"],
    ] {
        let said = bus.ask(question)?;
        let text = said.out + &said.err;
        assert!(!text.contains(SECRET), "{question:?} says {text}");
    }
    stage.clear("bad")?;
    mirror.in_sync_within(AFTER_BACK_OFF);
    mirror.finish()
}

#[test]
fn a_connection_that_drops_after_a_file_has_failed_is_not_put_down_to_that_file() -> io::Result<()>
{
    let closed = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]";
    let stderr = format!("file has vanished: \"/data/{SECRET}\"\n{closed}");
    hear(
        12,
        &stderr,
        &format!("is unreachable, changes are kept: {closed}"),
        "connection unexpectedly closed",
    )
}

#[test]
fn a_receiver_that_ends_at_a_file_is_told_without_its_name() -> io::Result<()> {
    let stderr =
        format!("rsync: [Receiver] mkdir \"/data/{SECRET}\" failed: Read-only file system (30)");
    hear(11, &stderr, &stderr, "ead-only file system")
}
