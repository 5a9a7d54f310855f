use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::control::{self, ControlEnd, MirrorSnapshot, RemoteSnapshot, State};

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

fn snapshot(is_watched: bool, missing: Option<&str>, pending: u64) -> Snapshot {
    Snapshot {
        stopping: false,
        mirrors: vec![MirrorSnapshot {
            source: "/data".into(),
            is_watched,
            missing: missing.map(Into::into),
            ..MirrorSnapshot::default()
        }],
        remotes: vec![RemoteSnapshot {
            mirror: "/data".into(),
            target: "backup::data".into(),
            state: State::Idle,
            pending,
            percent: 100,
            ..RemoteSnapshot::default()
        }],
        ..Snapshot::default()
    }
}

fn with_bus() -> Voice {
    Voice {
        has_bus: true,
        ..Voice::default()
    }
}

fn all(voice: &mut Voice, snapshot: &Snapshot, reloads: (u64, u64), now: Instant) -> Vec<Word> {
    let (begun, ended) = reloads;
    let mut said = Vec::new();
    while let Some(words) = voice.next(snapshot, Reloads { begun, ended }, now) {
        let phases = words.iter().filter(|word| !matches!(word, Word::Status(_)));
        assert!(phases.count() <= 1, "two phases in one message: {words:?}");
        said.extend(words);
    }
    said
}

fn status(words: &[Word]) -> Vec<&str> {
    let each = words.iter();
    each.filter_map(|word| match word {
        Word::Status(status) => Some(status.as_str()),
        _ => None,
    })
    .collect()
}

#[test]
fn it_is_ready_when_every_mirror_is_watched_and_the_bus_is_settled() {
    let mut voice = Voice::default();
    let now = Instant::now();
    let walking = snapshot(false, None, 0);
    assert!(!all(&mut voice, &walking, (0, 0), now).contains(&Word::Ready));
    let watched = snapshot(true, None, 0);
    assert!(!all(&mut voice, &watched, (0, 0), now).contains(&Word::Ready));
    voice.has_bus = true;
    assert!(all(&mut voice, &watched, (0, 0), now).contains(&Word::Ready));
    assert!(!all(&mut voice, &watched, (0, 0), now).contains(&Word::Ready));
}

#[test]
fn one_mirror_that_is_still_walked_is_waited_for() {
    let mut voice = with_bus();
    let mut both = snapshot(true, None, 0);
    both.mirrors.push(MirrorSnapshot::default());
    assert!(!all(&mut voice, &both, (0, 0), Instant::now()).contains(&Word::Ready));
    both.mirrors[1].is_watched = true;
    assert!(all(&mut voice, &both, (0, 0), Instant::now()).contains(&Word::Ready));
}

#[test]
fn a_missing_source_is_ready_and_the_status_says_so() {
    let mut voice = with_bus();
    let said = all(
        &mut voice,
        &snapshot(false, Some("it is not mounted"), 0),
        (0, 0),
        Instant::now(),
    );
    assert_eq!(
        said,
        [
            Word::Ready,
            Word::Status("held: /data: it is not mounted".into())
        ]
    );
}

#[test]
fn nothing_is_said_before_there_are_mirrors() {
    let said = all(
        &mut with_bus(),
        &Snapshot::default(),
        (0, 0),
        Instant::now(),
    );
    assert_eq!(said, []);
}

#[test]
fn the_status_changes_once_a_second_and_the_last_one_is_always_said() {
    let mut voice = with_bus();
    let begin = Instant::now();
    assert_eq!(
        status(&all(&mut voice, &snapshot(true, None, 1), (0, 0), begin)).len(),
        1
    );
    assert_eq!(voice.wake, None);
    for pending in 2..100 {
        let later = begin + Duration::from_millis(pending * 9);
        assert_eq!(
            all(&mut voice, &snapshot(true, None, pending), (0, 0), later),
            []
        );
        assert_eq!(voice.wake, Some(begin + STATUS_PERIOD));
    }
    let said = all(
        &mut voice,
        &snapshot(true, None, 99),
        (0, 0),
        begin + STATUS_PERIOD,
    );
    assert_eq!(
        status(&said),
        ["mirroring /data to backup::data, 99 pending, 0 failed"]
    );
    assert_eq!(voice.wake, None);
}

#[test]
fn a_status_that_became_what_was_said_before_is_not_said_again() {
    let mut voice = with_bus();
    let begin = Instant::now();
    all(&mut voice, &snapshot(true, None, 0), (0, 0), begin);
    all(&mut voice, &snapshot(true, None, 1), (0, 0), begin);
    all(&mut voice, &snapshot(true, None, 0), (0, 0), begin);
    assert_eq!(voice.wake, None);
}

#[test]
fn a_reload_has_a_begin_and_an_end() {
    let mut voice = with_bus();
    let (snapshot, now) = (snapshot(true, None, 0), Instant::now());
    all(&mut voice, &snapshot, (0, 0), now);
    assert_eq!(all(&mut voice, &snapshot, (1, 0), now), [Word::Reloading]);
    assert_eq!(all(&mut voice, &snapshot, (1, 0), now), []);
    assert_eq!(all(&mut voice, &snapshot, (1, 1), now), [Word::Ready]);
    assert_eq!(
        all(&mut voice, &snapshot, (3, 3), now),
        [Word::Reloading, Word::Ready],
        "reloads that were over before they were told of"
    );
}

#[test]
fn a_reload_during_the_start_does_not_make_it_ready() {
    let mut voice = with_bus();
    let (walking, now) = (snapshot(false, None, 0), Instant::now());
    for reloads in [(0, 0), (1, 0), (1, 1), (2, 1)] {
        assert_eq!(
            status(&all(&mut voice, &walking, reloads, now)).len(),
            usize::from(reloads.0 == 0)
        );
        assert!(!voice.is_ready());
    }
    let said = all(&mut voice, &snapshot(true, None, 0), (2, 1), now);
    assert_eq!(said[0], Word::Ready);
    assert_eq!(said.last(), Some(&Word::Reloading));
    assert_eq!(
        all(&mut voice, &snapshot(true, None, 0), (2, 2), now)[0],
        Word::Ready
    );
}

#[test]
fn a_name_with_a_newline_says_nothing_of_its_own() {
    let mut odd = snapshot(true, Some("gone"), 0);
    odd.mirrors[0].source = PathBuf::from("/data\nMAINPID=1");
    let said = all(&mut with_bus(), &odd, (0, 0), Instant::now());
    assert_eq!(status(&said), ["held: /data?MAINPID=1: gone"]);
}

/// What a heart says, and the means to wait for it.
#[derive(Default)]
struct Ear(Mutex<Vec<Word>>, tokio::sync::Notify);

impl Ear {
    fn hear(&self, words: Vec<Word>) {
        self.0.lock().expect("the words").extend(words);
        self.1.notify_one();
    }

    async fn wait_for(&self, count: usize) -> Vec<Word> {
        let heard = async {
            loop {
                let words = self.0.lock().expect("the words").clone();
                if words.len() >= count {
                    return words;
                }
                self.1.notified().await;
            }
        };
        timeout(DEADLINE, heard).await.expect("it says something")
    }
}

const FAST: Duration = Duration::from_millis(10);

#[tokio::test]
async fn the_start_is_extended_only_while_the_walk_gets_on() {
    let (ear, walked) = (Ear::default(), AtomicU64::new(1));
    let asked = AtomicU64::new(0);
    let heart = Heart {
        pulse: async || {
            asked.fetch_add(1, Ordering::Relaxed);
            walked.load(Ordering::Relaxed)
        },
        say: async |words| ear.hear(words),
        watchdog: None,
        pulse_at_start: FAST,
    };
    let (_ready, is_ready) = watch::channel(false);
    let stop = CancellationToken::new();
    let test = async {
        let said = ear.wait_for(1).await;
        assert_eq!(said, [Word::Extend(EXTENSION)]);
        let before = asked.load(Ordering::Relaxed);
        let asked_again = async {
            while asked.load(Ordering::Relaxed) < before + 3 {
                sleep(FAST).await;
            }
        };
        timeout(DEADLINE, asked_again).await.expect("it goes on");
        assert_eq!(ear.wait_for(1).await.len(), 1, "nothing was walked");
        walked.store(2, Ordering::Relaxed);
        ear.wait_for(2).await;
        stop.cancel();
    };
    tokio::join!(heart.beat(is_ready, &stop), test);
}

#[tokio::test]
async fn the_watchdog_is_fed_only_while_everything_answers() {
    let ear = Ear::default();
    let (answers, asked) = (watch::Sender::new(true), AtomicU64::new(0));
    let heart = Heart {
        pulse: || {
            asked.fetch_add(1, Ordering::Relaxed);
            let mut answers = answers.subscribe();
            async move { answers.wait_for(|yes| *yes).await.map_or(0, |_| 1) }
        },
        say: async |words| ear.hear(words),
        watchdog: Some(FAST * 2),
        pulse_at_start: DEADLINE,
    };
    let (_ready, is_ready) = watch::channel(true);
    let stop = CancellationToken::new();
    let test = async {
        assert_eq!(ear.wait_for(2).await[..2], [Word::Watchdog, Word::Watchdog]);
        answers.send_replace(false);
        let (before, fed) = (asked.load(Ordering::Relaxed), ear.wait_for(0).await.len());
        let asked_again = async {
            while asked.load(Ordering::Relaxed) < before + 3 {
                sleep(FAST).await;
            }
        };
        timeout(DEADLINE, asked_again).await.expect("it goes on");
        // One answer may have been under way.
        assert!(ear.wait_for(0).await.len() <= fed + 1);
        answers.send_replace(true);
        ear.wait_for(fed + 2).await;
        stop.cancel();
    };
    tokio::join!(heart.beat(is_ready, &stop), test);
}

const ROLE: &str = "SERSYNC_TEST_ROLE";

/// Runs itself once more as the service: the environment of a running process is nobody's to change.
#[test]
fn a_service_manager_hears_of_a_whole_life() {
    if std::env::var_os(ROLE).is_some() {
        return live();
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let socket = listen(&dir.path().join("notify"));
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "systemd::tests::a_service_manager_hears_of_a_whole_life",
        ])
        .env(ROLE, "service")
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .env("WATCHDOG_USEC", "100000")
        .env_remove("WATCHDOG_PID")
        .spawn()
        .expect("a child");
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard
        .iter()
        .any(|message: &String| message.contains("STOPPING=1"))
    {
        let length = socket.recv(&mut buffer).expect("a message in time");
        heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    assert!(child.wait().expect("its end").success());
    let of = |word: &str| {
        let at = heard.iter().position(|message| message.contains(word));
        at.unwrap_or_else(|| panic!("no {word} in {heard:?}"))
    };
    assert_eq!(
        heard[0],
        "STATUS=scanning /data to backup::data, 0 pending, 0 failed\n"
    );
    assert!(of("READY=1") < of("WATCHDOG=1"));
    assert!(of("READY=1") < of("RELOADING=1\n"));
    assert!(heard[of("RELOADING=1\n")].contains("MONOTONIC_USEC="));
    let ready = heard.iter().filter(|message| message.contains("READY=1"));
    assert_eq!(ready.count(), 2, "{heard:?}");
    assert_eq!(
        heard.last().map(String::as_str),
        Some("STOPPING=1\nSTATUS=ending\n")
    );
}

fn listen(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    socket
}

/// A service: it starts, reloads, works until its watchdog was fed some times, and ends.
#[tokio::main(flavor = "current_thread")]
async fn live() {
    let (control, ControlEnd { board, .. }) = control::channel();
    let (stop, fed) = (CancellationToken::new(), watch::Sender::new(0));
    let manager = ServiceManager::default();
    let pulse = {
        let fed = fed.clone();
        move || {
            fed.send_modify(|count| *count += 1);
            std::future::ready(1)
        }
    };
    let telling = tokio::spawn(manager.clone().run(
        control.snapshots(),
        std::future::ready(()),
        pulse,
        stop.clone(),
    ));
    let mut feeding = fed.subscribe();
    board.update(|state| *state = snapshot(false, None, 0));
    tokio::task::yield_now().await;
    board.update(|state| *state = snapshot(true, None, 0));
    beats(&mut feeding).await;
    let reloading = manager.reloading();
    beats(&mut feeding).await;
    drop(reloading);
    beats(&mut feeding).await;
    stop.cancel();
    telling.await.expect("its end");
}

/// The next but one: all that was to be said before is said then.
async fn beats(feeding: &mut watch::Receiver<u64>) {
    let now = *feeding.borrow();
    let later = feeding.wait_for(|count| *count > now + 1).await;
    assert!(later.is_ok(), "its heart has stopped");
}

#[test]
fn the_status_says_what_goes_where_how_far_it_is_and_what_is_wrong() {
    let idle = snapshot(true, None, 14);
    let with = |state, percent, last_error: &str| {
        let mut snapshot = idle.clone();
        snapshot.remotes[0].state = state;
        snapshot.remotes[0].percent = percent;
        snapshot.remotes[0].last_error = last_error.into();
        snapshot
    };
    let mut two = idle.clone();
    two.remotes.push(two.remotes[0].clone());
    let mut alone = idle.clone();
    alone.remotes.clear();
    let ending = Snapshot {
        stopping: true,
        ..idle.clone()
    };
    for (snapshot, status) in [
        (
            idle.clone(),
            "mirroring /data to backup::data, 14 pending, 0 failed",
        ),
        (two, "mirroring /data to 2 remotes, 28 pending, 0 failed"),
        (
            alone,
            "mirroring changes of /data, to plugins alone, 0 pending, 0 failed",
        ),
        (
            with(State::Scanning, 40, ""),
            "scanning /data to backup::data, 40 %, 14 pending, 0 failed",
        ),
        (
            with(State::Paused, 100, ""),
            "paused: mirroring /data to backup::data, 14 pending, 0 failed",
        ),
        (
            with(State::Degraded, 100, "refused (10)"),
            "degraded: mirroring /data to backup::data, 14 pending, 0 failed: refused (10)",
        ),
        (
            snapshot(false, Some("not mounted"), 0),
            "held: /data: not mounted",
        ),
        (ending, "ending"),
    ] {
        assert_eq!(snapshot.status(), status);
    }
}
