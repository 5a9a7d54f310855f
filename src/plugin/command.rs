//! The plugin `command`: a program runs for each path, or once for many. No shell is between.
//!
//! It is a child with a process group of its own, which is ended as a whole when it takes too long or the service ends.
//! Once the command itself has ended, what it left in the background is no concern of ours.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::timeout;

use super::event::Event;
use super::outcome::Outcome;
use crate::config::plugin::{CommandMode, CommandPlugin};
use crate::path::escaped;

/// A command that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(60);
/// A program that has not started by then is on a file system that does not answer.
const START_LIMIT: Duration = Duration::from_secs(10);
/// So many threads at most wait for such file systems.
static STARTS: Semaphore = Semaphore::const_new(16);
/// After its end, what it said is there already, unless something that it left behind has its standard error too.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// After SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How much of its messages is kept; the first line of that is shown.
const MESSAGES_KEPT: usize = 4096;
/// The service's own affairs with the service manager.
const OURS: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// See the module.
#[derive(Debug)]
pub(super) struct Command {
    config: CommandPlugin,
    limit: Duration,
}

/// How a command that was started ended.
enum End {
    Well,
    /// By an exit of its own that says so.
    Badly(String),
    /// Somebody else's doing: it was ended.
    Ended(String),
}

impl Command {
    pub(super) fn new(config: CommandPlugin) -> Self {
        Self {
            config,
            limit: LIMIT,
        }
    }

    pub(super) fn program(&self) -> &str {
        &self.config.program
    }

    pub(super) fn wants(&self, path: &[u8]) -> bool {
        let includes = self.config.includes.as_ref();
        includes.is_none_or(|any| any.iter().any(|include| include.regex().is_match(path)))
    }

    pub(super) fn takes_many(&self) -> bool {
        self.config.mode == CommandMode::Batch
    }

    /// Runs it once: the path is an argument, or the paths are its standard input.
    pub(super) async fn run(&self, events: &[Event]) -> Outcome {
        let CommandPlugin {
            program,
            prefix,
            suffix,
            ..
        } = &self.config;
        let mut command = tokio::process::Command::new(program);
        command.args(prefix);
        let mut list = None;
        match self.config.mode {
            CommandMode::Path => {
                command.args(events.iter().map(Event::os_path));
            }
            CommandMode::Batch => {
                let names = events.iter().map(|event| [&event.path[..], b"\0"].concat());
                list = Some(names.collect::<Vec<_>>().concat());
            }
        }
        command
            .args(suffix)
            .stdin(if list.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::null())
            .stderr(if self.config.discards_messages {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .process_group(0)
            .kill_on_drop(true);
        for name in OURS {
            command.env_remove(name);
        }
        let child = match start(command, program).await {
            Ok(child) => child,
            Err(outcome) => return outcome,
        };
        match finish(child, list, self.limit).await {
            End::Well => Outcome::Done,
            // It was told, and what it makes of that is its own affair.
            End::Badly(_) if self.config.ignore_error => Outcome::Done,
            End::Badly(cause) | End::Ended(cause) => Outcome::Failed(cause),
        }
    }
}

/// Starts it in a thread of its own: where the program is on a file system that does not answer, that never returns.
async fn start(mut command: tokio::process::Command, program: &str) -> Result<Child, Outcome> {
    let starting = async {
        let permit = STARTS.acquire().await.map_err(io::Error::other)?;
        let (tell, told) = oneshot::channel();
        let (runtime, program) = (Handle::current(), program.to_owned());
        let start = move || {
            let (_entered, _permit) = (runtime.enter(), permit);
            // That waits as the start would, and whoever has given up by then has no use for it.
            let _ = Path::new(&program).metadata();
            if tell.is_closed() {
                return;
            }
            let started = command.spawn();
            let _ = tell.send(started.map_err(|error| not_started(&program, &error)));
        };
        thread::Builder::new()
            .name("plugin-start".into())
            .spawn(start)?;
        told.await.map_err(io::Error::other)
    };
    match timeout(START_LIMIT, starting).await {
        Ok(Ok(started)) => started,
        Ok(Err(error)) => Err(not_started(program, &error)),
        Err(_) => Err(Outcome::Away(format!(
            "the program `{program}` does not start within {} s, as where its file system does not answer",
            START_LIMIT.as_secs()
        ))),
    }
}

/// Somebody may be about to install it, or to mend its mode.
fn not_started(program: &str, error: &io::Error) -> Outcome {
    match error.kind() {
        ErrorKind::NotFound if Path::new(program).is_file() => Outcome::Away(format!(
            "what runs the script `{program}` is missing: install what its first line names"
        )),
        ErrorKind::NotFound => Outcome::Away(format!(
            "the program `{program}` is missing: install it, or name another in `prefix`"
        )),
        ErrorKind::PermissionDenied => Outcome::Away(format!(
            "the program `{program}` may not be run: {error}; make it executable"
        )),
        _ => Outcome::Failed(format!("failed to start `{program}`: {error}")),
    }
}

/// Waits for its end. What it leaves in the background is not waited for, and goes on.
async fn finish(mut child: Child, list: Option<Vec<u8>>, limit: Duration) -> End {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let (mut kept, mut stderr) = (Vec::new(), stderr);
    let has_ended = Notify::new();
    let feed = async move {
        if let (Some(mut stdin), Some(list)) = (stdin, list) {
            // One that does not want to know all of it says by its exit how it went.
            let _ = stdin.write_all(&list).await;
        }
    };
    let talk = async {
        let talk = async { tokio::join!(feed, keep_messages(stderr.as_mut(), &mut kept)) };
        let silence = async {
            has_ended.notified().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            _ = talk => true,
            () = silence => false,
        }
    };
    let end = async {
        let end = end(&mut child, limit).await;
        has_ended.notify_one();
        end
    };
    let (status, is_silent) = tokio::join!(end, talk);
    if let Some(stderr) = stderr.filter(|_| !is_silent) {
        // Whoever has it still would die of saying something that nobody reads.
        tokio::spawn(discard(stderr));
    }
    match status {
        Some(status) => judge(status, &first_line(&kept)),
        None => End::Ended(format!(
            "it took longer than {} s and was ended",
            limit.as_secs_f32()
        )),
    }
}

/// Waits for its exit; `None` if it was ended for taking too long, with its children.
async fn end(child: &mut Child, limit: Duration) -> Option<io::Result<ExitStatus>> {
    let mut group = Group::of(child);
    if let Ok(status) = timeout(limit, child.wait()).await {
        group.disarm();
        return Some(status);
    }
    group.signal(Signal::TERM);
    if timeout(GRACE, child.wait()).await.is_ok() {
        // Its own children may not have listened.
        group.signal(Signal::KILL);
        group.disarm();
    }
    None
}

fn judge(status: io::Result<ExitStatus>, message: &str) -> End {
    let said = |status: ExitStatus| {
        if message.is_empty() {
            status.to_string()
        } else {
            format!("{status}: {message}")
        }
    };
    match status {
        Ok(status) if status.success() => End::Well,
        Ok(status) if status.code().is_some() => End::Badly(said(status)),
        Ok(status) => End::Ended(said(status)),
        Err(error) => End::Ended(format!("failed to wait for it: {error}")),
    }
}

/// Reads all that it says, so that it is never kept waiting, and keeps the beginning.
async fn keep_messages(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let room = MESSAGES_KEPT - kept.len();
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
}

/// Reads on until nobody has it any more.
async fn discard(mut pipe: impl AsyncRead + Unpin) {
    // What cannot be read is as good as at its end.
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
}

fn first_line(said: &[u8]) -> String {
    let line = said.split(|byte| *byte == b'\n').next();
    escaped(line.unwrap_or_default()).to_string()
}

/// A process group that does not outlive this, unless it has ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may be gone already.
            let _ = kill_process_group(group, signal);
        }
    }

    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

    use super::*;

    /// A command of one script, to be ended after so long.
    fn of_shell(script: &str, ignore_error: bool, limit: Duration) -> Command {
        let config = CommandPlugin {
            program: "/bin/sh".into(),
            prefix: vec!["-c".into(), script.into()],
            suffix: Vec::new(),
            mode: CommandMode::Path,
            discards_messages: false,
            ignore_error,
            includes: None,
        };
        Command { config, limit }
    }

    async fn run(command: &Command) -> Outcome {
        let event = Event {
            path: b"/data/a".to_vec(),
            is_directory: false,
            is_gone: false,
        };
        command.run(&[event]).await
    }

    #[tokio::test]
    async fn only_its_own_exit_is_ignored() {
        let soon = Duration::from_millis(300);
        for ignore_error in [true, false] {
            let told = async |script, limit| run(&of_shell(script, ignore_error, limit)).await;
            let exit = told("echo no >&2; exit 3", LIMIT).await;
            let expected = if ignore_error {
                Outcome::Done
            } else {
                Outcome::Failed("exit status: 3: no".into())
            };
            assert_eq!(exit, expected);
            let late = told("exec sleep 60", soon).await;
            let ended = "it took longer than 0.3 s and was ended";
            assert_eq!(late, Outcome::Failed(ended.into()), "{ignore_error}");
            let killed = told("kill -9 $$", LIMIT).await;
            assert!(
                matches!(&killed, Outcome::Failed(cause) if cause.contains("signal")),
                "{killed:?}"
            );
            let mut missing = of_shell("", ignore_error, LIMIT);
            missing.config.program = "/nonexistent/program".into();
            let missing = run(&missing).await;
            assert!(matches!(missing, Outcome::Away(_)), "{missing:?}");
        }
    }

    #[tokio::test]
    async fn what_it_leaves_behind_is_not_waited_for() {
        let start = Instant::now();
        let script = "sleep 20 & echo first >&2; exit 1";
        let outcome = run(&of_shell(script, false, LIMIT)).await;
        assert_eq!(outcome, Outcome::Failed("exit status: 1: first".into()));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    #[test]
    fn what_is_missing_is_named_and_waited_for() {
        let room = tempfile::tempdir().expect("a temporary directory");
        let script = room.path().join("script");
        let told = |script: &Path| {
            let error = std::process::Command::new(script).spawn();
            let error = error.expect_err("it cannot be started");
            match not_started(&script.display().to_string(), &error) {
                Outcome::Away(cause) => cause.replace(&room.path().display().to_string(), ""),
                other => panic!("{other:?}"),
            }
        };
        let missing = told(&script);
        assert!(
            missing.starts_with("the program `/script` is missing:"),
            "{missing}"
        );
        std::fs::write(&script, "#!/nonexistent/shell\n").expect("our directory");
        let refused = told(&script);
        assert!(refused.contains("`/script` may not be run"), "{refused}");
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&script, mode).expect("our file");
        let headless = told(&script);
        assert!(
            headless.contains("what runs the script `/script` is missing"),
            "{headless}"
        );
    }
}
