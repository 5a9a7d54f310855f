//! What a command asks for, and what it says when that is done.

use serde_json::json;
use sersync::control::ControlError;

use crate::harness::{Bus, Instance, Script, failed_path, program};

#[tokio::test]
async fn pause_and_resume_say_what_they_did() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;

    let paused = bus.sersync("pause").await.answer();
    assert_eq!(paused, "data: paused, no rsync runs any more\n");
    let resumed = bus.sersync("resume data").await.answer();
    assert_eq!(resumed, "data: resumed\n");
    let paused = bus.sersync("pause --json").await.json();
    assert_eq!(
        paused,
        json!({ "instance": "data", "remote": null, "state": "paused" })
    );

    assert_eq!(instance.asked(), ["pause All", "resume All", "pause All"]);
}

#[tokio::test]
async fn a_source_is_accepted_before_it_is_resumed() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;

    let resumed = bus.sersync("resume --accept-source").await.answer();
    assert_eq!(resumed, "data: the source is accepted as it is; resumed\n");
    let one = bus
        .sersync("resume --accept-source --remote 2 --json")
        .await;
    assert_eq!(
        one.json(),
        json!({ "instance": "data", "remote": 2, "state": "resumed", "accepted": true })
    );
    let expected = [
        "accept source All",
        "resume All",
        "accept source Remote(2)",
        "resume Remote(2)",
    ];
    assert_eq!(instance.asked(), expected);
}

#[tokio::test]
async fn a_remote_is_named_by_its_number_or_its_target() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;

    let paused = bus.sersync("pause --remote 2").await.answer();
    assert_eq!(
        paused,
        "data: remote 2 (/mnt/copy): paused, no rsync runs any more\n"
    );
    bus.sersync("resume --remote backup::data").await.answer();
    bus.sersync("retry --remote 1").await.answer();
    bus.sersync("resync --remote 2 --no-wait").await.answer();

    assert_eq!(
        instance.asked(),
        [
            "pause Remote(2)",
            "resume Remote(1)",
            "retry Remote(1)",
            "resync Remote(2) None"
        ]
    );
    let complaint = bus.sersync("pause --remote nas::x").await.complaint(64);
    assert_eq!(
        complaint,
        "`nas::x` is no remote, there are: 1 (backup::data), 2 (/mnt/copy)\n"
    );
}

#[tokio::test]
async fn retry_tells_how_many_are_tried() {
    let bus = Bus::start().await;
    let _instance = Instance::start(&bus, "data", Script::default()).await;

    let retried = bus.sersync("retry").await.answer();
    assert_eq!(retried, "data: 3 failed paths are tried again now\n");
    assert_eq!(bus.sersync("retry --json").await.json()["retried"], 3);
}

#[tokio::test]
async fn failed_paths_are_listed_with_their_causes() {
    let script = Script {
        failed: vec![failed_path(4, b"docs/a"), failed_path(9, b"b\xff\x1b[2J")],
        ..Script::default()
    };
    let bus = Bus::start().await;
    let _instance = Instance::start(&bus, "data", script).await;

    let listed = bus.sersync("failed").await.answer();
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines[0], "   4  docs/a");
    assert_eq!(
        lines[1],
        "      remote 1 (backup::data), 3 tries, first 10 min ago, next try in 59 min"
    );
    assert_eq!(
        lines[2],
        "      exit 23: rsync: [sender] send_files failed to open \"a\": Permission denied"
    );
    assert_eq!(lines[3], "      (13)");
    assert_eq!(lines[4], r"   9  b\xff\x1b[2J");
    assert!(lines.iter().all(|line| line.len() <= 80), "{listed}");

    let answer = bus.sersync("failed --json").await.json();
    let second = &answer["failed"][1];
    assert_eq!(second["id"], 9);
    assert_eq!(second["remote"], 1);
    assert_eq!(second["target"], "backup::data");
    assert_eq!(second["path_bytes"], json!(b"b\xff\x1b[2J"));
    assert_eq!(second["exit"], 23);
    assert_eq!(second["attempts"], 3);
    assert!(second["first_usec"].is_u64() && second["next_try_usec"].is_u64());
    assert_eq!(answer["failed"][0]["path"], "docs/a");
    assert!(answer["failed"][0].get("path_bytes").is_none());

    let of_other = bus.sersync("failed --remote 2").await.answer();
    assert_eq!(of_other, "data: no path has failed\n");
}

#[tokio::test]
async fn more_failed_paths_than_a_page_are_all_listed() {
    let script = Script {
        failed: (1..=2345).map(|id| failed_path(id, b"x")).collect(),
        ..Script::default()
    };
    let bus = Bus::start().await;
    let _instance = Instance::start(&bus, "data", script).await;

    let answer = bus.sersync("failed --json").await.json();
    assert_eq!(answer["failed"].as_array().map(Vec::len), Some(2345));
}

#[tokio::test]
async fn flush_says_whether_everything_is_there() {
    let bus = Bus::start().await;
    let there = Script {
        flush: Some(true),
        ..Script::default()
    };
    let instance = Instance::start(&bus, "there", there).await;
    let missing = Script {
        flush: Some(false),
        ..Script::default()
    };
    let _other = Instance::start(&bus, "missing", missing).await;

    let flushed = bus.sersync("flush there --timeout 2.5").await.answer();
    assert_eq!(
        flushed,
        "there: everything that changed is at every remote\n"
    );
    assert_eq!(instance.asked(), ["flush 2.5s"]);

    let complaint = bus.sersync("flush missing --timeout 2.5").await;
    assert_eq!(
        complaint.complaint(1),
        "missing: not everything that changed is at every remote after 2.5 s\n"
    );
    let answer = bus.sersync("flush missing --timeout 2.5 --json").await;
    assert_eq!(answer.code, 1);
    assert_eq!(
        answer.json(),
        json!({ "instance": "missing", "flushed": false })
    );
    for wrong in ["0", "-1", "soon", "inf"] {
        let ended = bus.sersync(&format!("flush there --timeout={wrong}")).await;
        assert_eq!(ended.code, 64, "{wrong}");
    }
}

#[tokio::test]
async fn what_would_wait_for_a_person_fails_at_once_with_the_reason() {
    for (refusal, words) in [
        (ControlError::Held("no way".into()), "no way"),
        (
            ControlError::Paused("remote 1".into()),
            "remote 1 is paused: resume it first",
        ),
        (
            ControlError::Failed(2),
            "2 paths have failed: `sersync failed` tells more",
        ),
    ] {
        let bus = Bus::start().await;
        let script = Script {
            refusal: Some(refusal),
            ..Script::default()
        };
        let _instance = Instance::start(&bus, "data", script).await;
        let complaint = bus.sersync("flush").await.complaint(1);
        assert_eq!(complaint, format!("{words}\n"));
    }
}

#[tokio::test]
async fn a_refused_reload_shows_every_problem_with_its_place() {
    let bus = Bus::start().await;
    let problems = "data.xml:3:7: unknown element `fliter`\ndata.xml:9:1: no remote";
    let script = Script {
        refusal: Some(ControlError::InvalidConfiguration(problems.into())),
        ..Script::default()
    };
    let _refusing = Instance::start(&bus, "refusing", script).await;
    let _instance = Instance::start(&bus, "data", Script::default()).await;

    let complaint = bus.sersync("reload refusing").await.complaint(78);
    assert_eq!(complaint, format!("{problems}\n"));
    let reloaded = bus.sersync("reload data").await.answer();
    assert_eq!(reloaded, "data: the configuration is read again\n");
    let answer = bus.sersync("reload data --json").await.json();
    assert_eq!(answer, json!({ "instance": "data", "reloaded": true }));
}

#[tokio::test]
async fn the_log_level_is_shown_and_set() {
    let bus = Bus::start().await;
    let _instance = Instance::start(&bus, "data", Script::default()).await;

    assert_eq!(bus.sersync("log-level").await.answer(), "info\n");
    let set = bus.sersync("log-level debug data").await.answer();
    assert_eq!(set, "data: logs debug and what is more urgent\n");
    assert_eq!(bus.sersync("log-level data").await.answer(), "debug\n");
    let answer = bus.sersync("log-level --json").await.json();
    assert_eq!(answer, json!({ "instance": "data", "level": "debug" }));

    let complaint = bus.sersync("log-level loud").await.complaint(69);
    assert!(complaint.contains("`loud` is not running"), "{complaint}");
    assert!(complaint.contains("notice, info, debug"), "{complaint}");
    let complaint = bus.sersync("log-level loud data").await.complaint(64);
    assert!(complaint.contains("`loud` is no level"), "{complaint}");
}

#[tokio::test]
async fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = crate::harness::Ended::of(program(&format!("completions {shell}"))).await;
        let script = script.answer();
        for word in ["run", "check", "resync", "log-level", "no-wait"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let none = crate::harness::Ended::of(program("completions tcsh")).await;
    assert_eq!(none.code, 64);
}
