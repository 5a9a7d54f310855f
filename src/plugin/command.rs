//! The plugin `command`: a program runs for each path, or once for many. No shell is between.
//!
//! It is a child with a process group of its own, which is ended as a whole when it takes too long or the service ends.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use super::event::Event;
use super::outcome::Outcome;
use crate::config::plugin::{CommandMode, CommandPlugin};
use crate::path::escaped;

/// A command that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(60);
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
}

impl Command {
    pub(super) fn new(config: CommandPlugin) -> Self {
        Self { config }
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
        let child = match command.spawn() {
            Ok(child) => child,
            // Somebody may be about to install it.
            Err(error) => return not_started(program, &error),
        };
        match finish(child, list).await {
            None => Outcome::Done,
            Some(_) if self.config.ignore_error => Outcome::Done,
            Some(cause) => Outcome::Failed(cause),
        }
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

/// Waits for its end. `None` if it ended well, else why not.
async fn finish(mut child: Child, list: Option<Vec<u8>>) -> Option<String> {
    let mut group = Group::of(&child);
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let feed = async move {
        if let (Some(mut stdin), Some(list)) = (stdin, list) {
            // One that does not want to know all of it says by its exit how it went.
            let _ = stdin.write_all(&list).await;
        }
    };
    let whole = async {
        let (status, (), messages) = tokio::join!(child.wait(), feed, first_line(stderr));
        (status, messages)
    };
    if let Ok((status, message)) = tokio::time::timeout(LIMIT, whole).await {
        group.disarm();
        return failure(status, &message);
    }
    group.signal(Signal::TERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
        // Its own children may not have listened.
        group.signal(Signal::KILL);
        group.disarm();
    }
    Some(format!(
        "it took longer than {} s and was ended",
        LIMIT.as_secs()
    ))
}

fn failure(status: io::Result<ExitStatus>, message: &str) -> Option<String> {
    match status {
        Ok(status) if status.success() => None,
        Ok(status) if message.is_empty() => Some(status.to_string()),
        Ok(status) => Some(format!("{status}: {message}")),
        Err(error) => Some(format!("failed to wait for it: {error}")),
    }
}

/// The first line of what it says. All of it is read, so that it is never kept waiting.
async fn first_line(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else {
        return String::new();
    };
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let room = MESSAGES_KEPT - kept.len();
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
    let line = kept.split(|byte| *byte == b'\n').next().unwrap_or_default();
    escaped(line).to_string()
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

    use super::*;

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
