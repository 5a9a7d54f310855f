//! A private bus, instances on it with a daemon that says what a test wants, and the program.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use sersync::control::{
    self, Board, ControlEnd, ControlError, Drift, FailedPath, LogControl, LogLevel, LogTarget,
    MirrorSnapshot, Notice, RemoteSnapshot, Request, State,
};
use sersync::dbus::{BusAddress, Identity, Presence, serve};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Nothing here takes a tenth of it on a machine that is not overloaded.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The number of every run.
pub const RUN: u64 = 7;

/// A bus daemon where everybody may do everything.
pub struct Bus {
    dir: TempDir,
    _daemon: Child,
}

impl Bus {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = format!(
            r#"<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context="default">
               <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow send_type="signal"/>
               <allow eavesdrop="true"/></policy></busconfig>"#,
            dir.path().join("bus").display()
        );
        let file = dir.path().join("bus.conf");
        std::fs::write(&file, config).expect("our directory");
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Where limits cannot be raised it complains each time.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("dbus-daemon is installed");
        // It prints the address when it listens.
        let output = daemon.stdout.take().expect("piped");
        let mut line = String::new();
        timeout(DEADLINE, BufReader::new(output).read_line(&mut line))
            .await
            .expect("dbus-daemon starts in time")
            .expect("its output is read");
        assert!(line.starts_with("unix:path="), "dbus-daemon said `{line}`");
        Self {
            dir,
            _daemon: daemon,
        }
    }

    pub fn address(&self) -> String {
        format!("unix:path={}", self.dir.path().join("bus").display())
    }

    /// The program, with arguments as they are typed, on this bus.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = program(arguments);
        command.arg("--bus").arg(self.address());
        command
    }

    /// The same as a person types it; what the program says on either way comes out of standard output.
    pub fn at_a_terminal(&self, arguments: &str) -> Command {
        let program = env!("CARGO_BIN_EXE_sersync");
        let line = format!("'{program}' {arguments} --bus '{}'", self.address());
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn sersync(&self, arguments: &str) -> Ended {
        Ended::of(self.command(arguments)).await
    }
}

/// The program without a bus.
pub fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sersync"));
    command.args(arguments.split_whitespace());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What the program said, and its exit code.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub async fn of(mut command: Command) -> Self {
        let output = timeout(DEADLINE, command.output()).await;
        Self::from(output.expect("it ends in time").expect("it was built"))
    }

    /// The answer, where it succeeded.
    pub fn answer(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.err, "", "{self:?}");
        self.out
    }

    /// The answer in JSON, which is one line.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).expect("JSON")
    }

    /// The complaint, where it failed with `code`.
    pub fn complaint(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        self.err
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        assert_eq!(output.status.signal(), None, "{output:?}");
        Self {
            code: output.status.code().expect("it exited"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// What the daemon of an instance has to say.
#[derive(Default)]
pub struct Script {
    /// To everything that acts.
    pub refusal: Option<ControlError>,
    pub failed: Vec<FailedPath>,
    pub drift: Vec<Drift>,
    /// Whether a run succeeds; `None`: it never ends.
    pub run: Option<bool>,
    /// Whether a flush does; `None`: it waits for ever.
    pub flush: Option<bool>,
}

/// An instance on a bus.
pub struct Instance {
    pub board: Board,
    asked: Arc<Mutex<Vec<String>>>,
    news: mpsc::Receiver<()>,
    daemon: JoinHandle<()>,
    served: JoinHandle<()>,
    stop: CancellationToken,
}

impl Instance {
    pub async fn start(bus: &Bus, name: &str, script: Script) -> Self {
        let (control, ControlEnd { requests, board }) = control::channel();
        board.update(|snapshot| {
            snapshot.mirrors = vec![MirrorSnapshot {
                source: "/srv/data".into(),
                is_watched: true,
                watches: 12,
                ..MirrorSnapshot::default()
            }];
            snapshot.remotes = vec![remote(1, "backup::data"), remote(2, "/mnt/copy")];
        });
        let asked = Arc::default();
        let (tell, news) = mpsc::channel(100);
        let daemon = tokio::spawn(answer(
            requests,
            board.clone(),
            script,
            Arc::clone(&asked),
            tell,
        ));
        let identity = Identity {
            instance: name.into(),
            config_file: Some(format!("/etc/sersync/{name}.xml").into()),
            version: "3.0.0".into(),
        };
        let stop = CancellationToken::new();
        let (ready, first_try) = oneshot::channel();
        let served = tokio::spawn(serve(
            BusAddress::Address(bus.address()),
            identity,
            control,
            Arc::new(Log(Mutex::new(LogLevel::Info))),
            stop.clone(),
            ready,
        ));
        let presence = timeout(DEADLINE, first_try).await;
        assert_eq!(presence.expect("in time"), Ok(Presence::Serving));
        Self {
            board,
            asked,
            news,
            daemon,
            served,
            stop,
        }
    }

    /// What the daemon was asked so far, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }

    /// Waits until the daemon is asked something more.
    pub async fn is_asked(&mut self) {
        let news = timeout(DEADLINE, self.news.recv()).await;
        news.expect("it is asked in time").expect("it lives");
    }

    /// Leaves the bus at once, with everybody who waits.
    pub async fn end(self) {
        self.daemon.abort();
        self.stop.cancel();
        let served = timeout(DEADLINE, self.served).await;
        served.expect("it ends in time").expect("it does not panic");
    }
}

#[derive(Debug)]
struct Log(Mutex<LogLevel>);

impl LogControl for Log {
    fn level(&self) -> LogLevel {
        *self.0.lock().expect("nobody panicked")
    }

    fn set_level(&self, level: LogLevel) {
        *self.0.lock().expect("nobody panicked") = level;
    }

    fn target(&self) -> LogTarget {
        LogTarget::Journal
    }
}

pub fn remote(number: u32, target: &str) -> RemoteSnapshot {
    RemoteSnapshot {
        number,
        mirror: "/srv/data".into(),
        target: target.into(),
        state: State::Idle,
        percent: 100,
        ..RemoteSnapshot::default()
    }
}

pub fn failed_path(id: u64, path: &[u8]) -> FailedPath {
    FailedPath {
        id,
        remote: 1,
        path: path.into(),
        exit: 23,
        message: "rsync: [sender] send_files failed to open \"a\": Permission denied (13)".into(),
        attempts: 3,
        first: SystemTime::now() - Duration::from_secs(600),
        next_try: Some(SystemTime::now() + Duration::from_secs(3600)),
    }
}

async fn answer(
    mut requests: mpsc::Receiver<Request>,
    board: Board,
    script: Script,
    asked: Arc<Mutex<Vec<String>>>,
    news: mpsc::Sender<()>,
) {
    let Script {
        refusal,
        failed,
        drift,
        run,
        flush,
    } = script;
    let refused = refusal.map_or(Ok(()), Err);
    // What is never answered must not be dropped: that would be an answer.
    let mut unanswered = Vec::new();
    while let Some(request) = requests.recv().await {
        let begin = |reply: control::Reply<u64>| {
            // It may finish before whoever asked knows its number.
            if let (Some(ok), Ok(())) = (run, &refused) {
                let detail = if ok {
                    "all is equal"
                } else {
                    "not all is equal"
                };
                board.notice(Notice::RunFinished {
                    id: RUN,
                    ok,
                    detail: detail.into(),
                });
            }
            let _ = reply.send(refused.clone().map(|()| RUN));
        };
        let words = match request {
            Request::Pause(scope, reply) => {
                let _ = reply.send(refused.clone());
                format!("pause {scope:?}")
            }
            Request::Resume(scope, reply) => {
                let _ = reply.send(refused.clone());
                format!("resume {scope:?}")
            }
            Request::AcceptSource(scope, reply) => {
                let _ = reply.send(refused.clone());
                format!("accept source {scope:?}")
            }
            Request::Reload(reply) => {
                let _ = reply.send(refused.clone());
                "reload".into()
            }
            Request::Resync(what, reply) => {
                begin(reply);
                format!("resync {:?} {:?}", what.scope, what.path)
            }
            Request::Verify(what, reply) => {
                begin(reply);
                format!("verify {:?} {:?}", what.scope, what.path)
            }
            Request::Flush(limit, reply) => {
                match (&refused, flush) {
                    (Err(error), _) => drop(reply.send(Err(error.clone()))),
                    (Ok(()), Some(ok)) => drop(reply.send(Ok(ok))),
                    (Ok(()), None) => unanswered.push(reply),
                }
                format!("flush {limit:?}")
            }
            Request::RetryFailed(scope, reply) => {
                let _ = reply.send(refused.clone().map(|()| 3));
                format!("retry {scope:?}")
            }
            Request::AcceptDeletions(scope, reply) => {
                let _ = reply.send(refused.clone().map(|()| 500));
                format!("accept deletions {scope:?}")
            }
            Request::ListFailed {
                after_id,
                limit,
                reply,
            } => {
                let later = failed.iter().filter(|path| path.id > after_id);
                let page = later.take(limit as usize).cloned().collect();
                let _ = reply.send(Ok(page));
                "list failed".into()
            }
            Request::ListDrift {
                run,
                skip,
                limit,
                reply,
            } => {
                assert_eq!(run, RUN);
                let later = drift.iter().skip(skip as usize);
                let _ = reply.send(Ok(later.take(limit as usize).cloned().collect()));
                "list drift".into()
            }
        };
        asked.lock().expect("nobody panicked").push(words);
        let _ = news.try_send(());
    }
}
