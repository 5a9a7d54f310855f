//! `sersync status`.

use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sersync::control::{RemoteSnapshot, State};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::harness::{Bus, DEADLINE, Instance, Script, remote};

fn unreachable() -> RemoteSnapshot {
    let now = SystemTime::now();
    RemoteSnapshot {
        state: State::Degraded,
        pending: 12,
        failed: 1,
        oldest_pending: Some(now - Duration::from_secs(7200)),
        last_success: Some(now - Duration::from_secs(7200)),
        next_try: Some(now + Duration::from_secs(7200)),
        last_error: "rsync: failed to connect to backup (192.0.2.1): Connection timed out (110)\n\
                     rsync error: error in socket IO (code 10)\x1b[2J"
            .into(),
        ..remote(1, "backup::data")
    }
}

#[tokio::test]
async fn status_fits_eighty_columns_and_says_what_is_wrong() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;
    instance
        .board
        .update(|snapshot| snapshot.remotes[0] = unreachable());

    let shown = bus.sersync("status").await.answer();
    assert_eq!(
        shown,
        r"data: degraded
  source        /srv/data
  pending       12 paths, the oldest seen 2 h ago
  failed        1 path, see `sersync failed data`

  remote 1: backup::data
    state         degraded
    pending       12 paths, the oldest seen 2 h ago
    failed        1 path
    last success  2 h ago
    last error    rsync: failed to connect to backup (192.0.2.1): Connection
                  timed out (110) rsync error: error in socket IO (code
                  10)\x1b[2J
    next try      in 119 min

  remote 2: /mnt/copy
    state         idle
    pending       nothing
    last success  never
"
    );
    let one = bus.sersync("status --remote 2").await.answer();
    assert!(!one.contains("backup::data"), "{one}");
    assert!(one.contains("remote 2: /mnt/copy"), "{one}");
}

#[tokio::test]
async fn what_holds_the_whole_instance_is_said() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;
    instance.board.update(|snapshot| {
        snapshot.mirrors[0].missing = Some("it is another directory".into());
    });

    let shown = bus.sersync("status").await.answer();
    assert!(shown.starts_with("data: held\n"), "{shown}");
    assert!(shown.contains("it is another directory"), "{shown}");
}

#[tokio::test]
async fn every_running_instance_is_shown() {
    let bus = Bus::start().await;
    let _one = Instance::start(&bus, "photos", Script::default()).await;
    let _two = Instance::start(&bus, "data", Script::default()).await;

    let shown = bus.sersync("status").await.answer();
    let heads: Vec<_> = shown
        .lines()
        .filter(|line| line.ends_with(": idle"))
        .collect();
    assert_eq!(heads, ["data: idle", "photos: idle"]);
    let shown = bus.sersync("status photos").await.answer();
    assert!(!shown.contains("data: idle"), "{shown}");
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn the_keys_of_json_stay_what_they_are() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;
    instance
        .board
        .update(|snapshot| snapshot.remotes[0] = unreachable());

    let answer = bus.sersync("status --json").await.json();
    assert_eq!(keys(&answer), ["instances"]);
    let data = &answer["instances"][0];
    assert_eq!(
        keys(data),
        [
            "config_file",
            "failed",
            "instance",
            "last_sync_usec",
            "oldest_pending_usec",
            "overflows",
            "pending",
            "percent",
            "remotes",
            "state",
            "status",
            "unwatched",
            "version",
            "watches",
        ]
    );
    assert_eq!(data["config_file"], "/etc/sersync/data.xml");
    assert_eq!(data["state"], "degraded");
    assert_eq!(data["pending"], 12);
    assert_eq!(data["watches"], 12);
    let remote = &data["remotes"][0];
    assert_eq!(
        keys(remote),
        [
            "bytes_sent",
            "failed",
            "last_error",
            "last_success_usec",
            "next_try_usec",
            "number",
            "oldest_pending_usec",
            "paths_deleted",
            "paths_sent",
            "pending",
            "percent",
            "runs",
            "source",
            "state",
            "target",
        ]
    );
    assert_eq!(remote["source"], "/srv/data");
    assert_eq!(remote["target"], "backup::data");
    assert!(remote["next_try_usec"].is_u64());
    assert_eq!(data["remotes"][1]["next_try_usec"], json!(null));
}

struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watching {
    fn begin(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it was built");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    async fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let found = async {
            loop {
                let line = self.lines.next_line().await.expect("text");
                let line = line.expect("it goes on");
                if wanted(&line) {
                    return line;
                }
            }
        };
        timeout(DEADLINE, found).await.expect("in time")
    }
}

#[tokio::test]
async fn watching_shows_every_change_until_the_instance_goes() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;
    let mut watching = Watching::begin(bus.command("status data --watch"));

    watching.until(|line| line == "data: idle").await;
    instance
        .board
        .update(|snapshot| snapshot.remotes[0].state = State::Paused);
    watching.until(|line| line == "data: paused").await;
    instance.end().await;

    let output = timeout(DEADLINE, watching.child.wait_with_output()).await;
    let output = output.expect("it ends in time").expect("it is ours");
    assert_eq!(output.status.code(), Some(69));
    let error = String::from_utf8(output.stderr).expect("text");
    assert_eq!(error, "instance `data` is not running\n");
}

#[tokio::test]
async fn watching_all_sees_instances_come_and_go() {
    let bus = Bus::start().await;
    let _one = Instance::start(&bus, "data", Script::default()).await;
    let mut watching = Watching::begin(bus.command("status --watch --json"));
    let is_of = |number: usize| {
        move |line: &str| {
            let answer: Value = serde_json::from_str(line).expect("JSON");
            answer["instances"].as_array().map(Vec::len) == Some(number)
        }
    };

    watching.until(is_of(1)).await;
    let two = Instance::start(&bus, "photos", Script::default()).await;
    watching.until(is_of(2)).await;
    two.end().await;
    watching.until(is_of(1)).await;
}

#[tokio::test]
async fn a_terminal_is_redrawn_in_place() {
    let bus = Bus::start().await;
    let instance = Instance::start(&bus, "data", Script::default()).await;
    let mut watching = Watching::begin(bus.at_a_terminal("status --watch"));

    watching
        .until(|line| line.ends_with("\x1b[Hdata: idle\x1b[K"))
        .await;
    instance
        .board
        .update(|snapshot| snapshot.remotes[0].state = State::Paused);
    watching
        .until(|line| line == "\x1b[J\x1b[Hdata: paused\x1b[K")
        .await;
}

#[tokio::test]
async fn watching_ends_when_nobody_reads_any_more() {
    let bus = Bus::start().await;
    let _instance = Instance::start(&bus, "data", Script::default()).await;
    let mut watching = Watching::begin(bus.command("status data --watch"));
    watching.until(|line| line == "data: idle").await;
    let Watching { mut child, lines } = watching;
    drop(lines);
    let status = timeout(DEADLINE, child.wait()).await;
    let status = status
        .expect("it ends without a change")
        .expect("it is ours");
    assert_eq!(status.code(), Some(0));
}
