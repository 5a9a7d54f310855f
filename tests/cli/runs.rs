//! Runs that are waited for.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sersync::control::{ControlError, Drift, DriftKind, Notice};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::time::timeout;

use crate::harness::{Bus, DEADLINE, Ended, Instance, RUN, Script};

/// Waits until a process does something of its own at a signal.
async fn catches(pid: u32, signal: Signal) {
    let is_caught = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & 1 << (signal.as_raw() - 1) != 0)
    };
    let waiting = async {
        while !is_caught() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.expect("it waits for it");
}

#[tokio::test]
async fn resync_waits_for_the_end_also_of_a_run_that_is_over_before_its_number_is_known() {
    let bus = Bus::start().await;
    let script = Script {
        run: Some(true),
        ..Script::default()
    };
    let instance = Instance::start(&bus, "data", script).await;

    let ended = bus.sersync("resync").await.answer();
    assert_eq!(ended, "data: run 7: all is equal\n");
    let answer = bus.sersync("resync --json").await.json();
    assert_eq!(
        answer,
        json!({ "instance": "data", "run": 7, "ok": true, "detail": "all is equal" })
    );
    bus.sersync("resync --remote 2 --path /srv/data/docs")
        .await
        .answer();
    assert_eq!(
        instance.asked(),
        [
            "resync All None",
            "resync All None",
            r#"resync Remote(2) Some("/srv/data/docs")"#
        ]
    );
}

#[tokio::test]
async fn a_relative_path_is_taken_from_where_one_stands() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;
    let mut command = bus.command("verify --no-wait --path docs");
    command.current_dir("/usr");

    Ended::of(command).await.answer();
    assert_eq!(instance.asked(), [r#"verify All Some("/usr/docs")"#]);
}

#[tokio::test]
async fn a_resync_that_fails_is_a_failure() {
    let bus = Bus::start().await;
    let script = Script {
        run: Some(false),
        ..Script::default()
    };
    let _instance = Instance::start(&bus, "data", script).await;

    let complaint = bus.sersync("resync").await.complaint(1);
    assert_eq!(complaint, "data: run 7: not all is equal\n");
    let answer = bus.sersync("resync --json").await;
    assert_eq!(answer.code, 1);
    assert_eq!(answer.json()["ok"], false);
}

#[tokio::test]
async fn who_does_not_wait_learns_the_number() {
    let bus = Bus::start().await;
    let _instance = Instance::start(&bus, "data", Script::default()).await;

    let begun = bus.sersync("resync --no-wait").await.answer();
    assert_eq!(begun, "data: run 7 has begun\n");
    let begun = bus.sersync("verify --no-wait --json").await.json();
    assert_eq!(begun, json!({ "instance": "data", "run": 7 }));
}

#[tokio::test]
async fn verify_lists_differences_with_names_that_cannot_harm_a_terminal() {
    let bus = Bus::start().await;
    let found = |path: &[u8], kind| Drift {
        remote: 2,
        path: path.into(),
        kind,
    };
    let script = Script {
        run: Some(false),
        drift: vec![
            found("图/a b".as_bytes(), DriftKind::Content),
            found(b"x\n\x1b]0;\xff", DriftKind::Missing),
        ],
        ..Script::default()
    };
    let _instance = Instance::start(&bus, "data", script).await;

    let ended = bus.sersync("verify").await;
    assert_eq!(ended.code, 1);
    assert_eq!(
        ended.out,
        "content 2 图/a b\nmissing 2 x\\x0a\\x1b]0;\\xff\n"
    );
    assert_eq!(ended.err, "data: 2 differences found\n");

    let ended = bus.sersync("verify --json").await;
    assert_eq!(ended.code, 1);
    let answer = ended.json();
    assert_eq!(answer["run"], 7);
    assert_eq!(answer["ok"], false);
    assert_eq!(
        answer["drift"][0],
        json!({ "remote": 2, "kind": "content", "path": "图/a b" })
    );
    assert_eq!(answer["drift"][1]["path_bytes"], json!(b"x\n\x1b]0;\xff"));
}

#[tokio::test]
async fn verify_is_content_where_all_is_equal() {
    let bus = Bus::start().await;
    let script = Script {
        run: Some(true),
        ..Script::default()
    };
    let _instance = Instance::start(&bus, "data", script).await;

    let ended = bus.sersync("verify").await.answer();
    assert_eq!(ended, "data: run 7: all is equal\n");
    let answer = bus.sersync("verify --json").await.json();
    assert_eq!(answer["drift"], json!([]));
}

fn much_drift() -> Script {
    let drift = (0..30_000).map(|number| Drift {
        remote: 1,
        path: format!("a/rather/long/path/{number}").into(),
        kind: DriftKind::Extra,
    });
    Script {
        run: Some(true),
        drift: drift.collect(),
        ..Script::default()
    }
}

#[tokio::test]
async fn more_differences_than_a_page_are_all_listed() {
    let bus = Bus::start().await;
    let _instance = Instance::start(&bus, "data", much_drift()).await;

    let ended = bus.sersync("verify").await;
    assert_eq!(ended.code, 1);
    assert_eq!(ended.out.lines().count(), 30_000);
    assert_eq!(ended.err, "data: 30000 differences found\n");
}

#[tokio::test]
async fn a_reader_that_goes_away_changes_no_answer() {
    let bus = Bus::start().await;
    let _instance = Instance::start(&bus, "data", much_drift()).await;
    let mut command = bus.command("verify");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built");

    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = timeout(DEADLINE, lines.next_line()).await;
    assert_eq!(
        first.expect("in time").expect("text").as_deref(),
        Some("extra 1 a/rather/long/path/0")
    );
    drop(lines);

    let output = timeout(DEADLINE, child.wait_with_output()).await;
    let ended = Ended::from(output.expect("in time").expect("it ends"));
    assert_eq!(ended.complaint(1), "data: 30000 differences found\n");
}

fn finished(id: u64) -> Notice {
    Notice::RunFinished {
        id,
        ok: true,
        detail: format!("run {id} is over"),
    }
}

#[tokio::test]
async fn a_run_that_takes_its_time_is_waited_for_and_no_other() {
    let bus = Bus::start().await;
    let mut instance = Instance::start(&bus, "data", Script::default()).await;
    let waiting = bus.sersync("resync");
    let finishing = async {
        instance.is_asked().await;
        // A whole other command later, the first one has long read the number of its run.
        bus.sersync("status").await.answer();
        instance.board.notice(finished(RUN + 1));
        instance.board.notice(finished(RUN));
    };
    let (ended, ()) = tokio::join!(waiting, finishing);
    assert_eq!(ended.answer(), "data: run 7: run 7 is over\n");
}

#[tokio::test]
async fn a_person_sees_how_far_a_run_is() {
    let bus = Bus::start().await;
    let mut instance = Instance::start(&bus, "data", Script::default()).await;
    let mut command = bus.at_a_terminal("resync");
    command.stdout(Stdio::piped());
    let mut child = command.spawn().expect("script is installed");
    instance.is_asked().await;
    instance.board.update(|snapshot| {
        for remote in &mut snapshot.remotes {
            remote.percent = 40;
        }
    });

    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("40 %") {
        let read = timeout(DEADLINE, output.read_until(b'%', &mut seen)).await;
        assert_ne!(read.expect("in time").expect("it is read"), 0, "{seen:?}");
    }
    let seen = String::from_utf8(seen).expect("text");
    let bar = "\rdata [################------------------------]  40 %";
    assert!(seen.contains(bar), "{seen:?}");

    instance.board.notice(finished(RUN));
    let mut rest = String::new();
    let read = timeout(DEADLINE, output.read_to_string(&mut rest)).await;
    read.expect("in time").expect("text");
    assert!(
        rest.ends_with("\r\x1b[Kdata: run 7: run 7 is over\r\n"),
        "{rest:?}"
    );
}

#[tokio::test]
async fn a_service_that_goes_away_is_not_waited_for() {
    for command in ["resync", "verify", "flush"] {
        let bus = Bus::start().await;
        let mut instance = Instance::start(&bus, "data", Script::default()).await;
        let waiting = bus.sersync(command);
        let going = async {
            instance.is_asked().await;
            instance.end().await;
        };
        let (ended, ()) = tokio::join!(waiting, going);
        let complaint = ended.complaint(69);
        assert!(complaint.contains("end"), "{command}: {complaint}");
    }
}

#[tokio::test]
async fn who_stops_waiting_is_told_that_the_run_goes_on() {
    for command in ["resync", "verify"] {
        let bus = Bus::start().await;
        let mut instance = Instance::start(&bus, "data", Script::default()).await;
        let mut waiting = bus.command(command);
        waiting.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = waiting.spawn().expect("it was built");
        let pid = child.id().expect("it runs");
        let ended = child.wait_with_output();
        let interrupting = async {
            instance.is_asked().await;
            // A whole other command later, the first one has long read the number of its run.
            bus.sersync("status").await.answer();
            catches(pid, Signal::INT).await;
            let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
            kill_process(pid, Signal::INT).expect("it takes signals");
        };
        let (ended, ()) = tokio::join!(timeout(DEADLINE, ended), interrupting);
        let ended = Ended::from(ended.expect("in time").expect("it is ours"));
        let complaint = ended.complaint(130);
        assert!(complaint.starts_with("data: run 7 goes on"), "{complaint}");
    }
}

#[tokio::test]
async fn a_path_in_no_source_is_a_wrong_command_line() {
    let bus = Bus::start().await;
    let script = Script {
        refusal: Some(ControlError::NotFound("/x is in no source".into())),
        ..Script::default()
    };
    let _instance = Instance::start(&bus, "data", script).await;
    for command in ["resync --path /x", "verify --path /x"] {
        let complaint = bus.sersync(command).await.complaint(64);
        assert_eq!(complaint, "/x is in no source\n");
    }
}
