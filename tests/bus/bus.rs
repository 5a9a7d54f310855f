//! A private bus daemon, and commands that use it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zbus::Connection;

use crate::client::DEADLINE;

/// What the installed system bus allows: nobody may own or call anything but what a policy file says.
const RULES: &str = r#"
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
"#;

/// A bus daemon of the test's own.
pub struct Bus {
    dir: TempDir,
    daemon: Option<Child>,
}

impl Bus {
    /// A bus with the policy of `dist/dbus`.
    pub async fn start() -> Self {
        let mut bus = Self::planned();
        bus.begin().await;
        bus
    }

    /// A bus where the policy was forgotten.
    pub async fn start_without_policy() -> Self {
        let mut bus = Self::planned();
        bus.configure("");
        bus.begin().await;
        bus
    }

    /// A bus that does not run yet.
    pub fn planned() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Other users are to reach the socket.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("our directory");
        let bus = Self { dir, daemon: None };
        let policy = dist("org.sersync1.conf");
        let uid = geteuid().as_raw();
        // Who runs the tests may own what root may, else they would be for root alone.
        let ours = format!(
            r#"<include>{}</include>
               <policy user="{uid}"><allow own_prefix="org.sersync1"/><allow own="org.freedesktop.PolicyKit1"/></policy>"#,
            policy.display()
        );
        bus.configure(&ours);
        bus
    }

    fn configure(&self, policy: &str) {
        let socket = self.dir.path().join("bus");
        let config = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth>{RULES}{policy}</busconfig>",
            socket.display()
        );
        fs::write(self.dir.path().join("bus.conf"), config).expect("our directory");
    }

    pub async fn begin(&mut self) {
        let complaints = self.dir.path().join("complaints");
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!(
                "--config-file={}",
                self.dir.path().join("bus.conf").display()
            ))
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&complaints).expect("our directory"))
            .kill_on_drop(true)
            .spawn()
            .expect("dbus-daemon is installed");
        // It prints the address when it listens.
        let output = daemon.stdout.take().expect("piped");
        let mut line = String::new();
        let read = timeout(DEADLINE, BufReader::new(output).read_line(&mut line)).await;
        read.expect("dbus-daemon starts in time")
            .expect("its output is read");
        let complaints = fs::read_to_string(complaints).unwrap_or_default();
        assert!(line.starts_with("unix:path="), "{line}{complaints}");
        self.daemon = Some(daemon);
    }

    pub async fn end(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.kill().await.expect("it is ours");
    }

    /// From now on it does nothing, as if the machine were overloaded.
    pub fn freeze(&self) {
        let pid = self.daemon.as_ref().and_then(Child::id);
        let pid = pid.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.expect("it runs"), Signal::STOP).expect("it is ours");
    }

    pub fn address(&self) -> String {
        format!("unix:path={}", self.dir.path().join("bus").display())
    }

    pub async fn client(&self) -> Connection {
        zbus::connection::Builder::address(self.address().as_str())
            .method_timeout(DEADLINE)
            .build()
            .await
            .expect("the bus runs")
    }

    /// `busctl` on this bus.
    pub async fn busctl(&self, arguments: &[&str]) -> Output {
        run(self.busctl_command(arguments)).await
    }

    /// What `busctl` prints, if it succeeds.
    pub async fn busctl_says(&self, arguments: &[&str]) -> String {
        let output = self.busctl(arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "busctl {arguments:?}: {error}");
        String::from_utf8(output.stdout)
            .expect("text")
            .trim()
            .to_owned()
    }

    /// The same for the user nobody.
    pub async fn busctl_of_nobody(&self, arguments: &[&str]) -> Output {
        run(nobody(self.busctl_command(arguments))).await
    }

    /// What `dbus-send`, which shows the names of errors, makes of a call by the user nobody.
    pub async fn dbus_send_of_nobody(&self, name: &str, path: &str, method: &str) -> Output {
        let mut command = Command::new("dbus-send");
        command.arg(format!("--bus={}", self.address()));
        command.arg(format!("--dest={name}"));
        command.args(["--print-reply", path, method]);
        run(nobody(command)).await
    }

    fn busctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("busctl");
        command.arg(format!("--address={}", self.address()));
        command.args(["--no-pager", "--allow-interactive-authorization=no"]);
        command.args(arguments);
        command
    }
}

/// A file that is installed.
pub fn dist(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dist/dbus")
        .join(name)
}

/// Only root can be somebody else. Says so where it is not.
pub fn can_be_nobody() -> bool {
    let can = geteuid().is_root();
    if !can {
        eprintln!("skipped: only root can call as another user");
    }
    can
}

fn nobody(command: Command) -> Command {
    let command = command.into_std();
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    other.arg(command.get_program()).args(command.get_args());
    other
}

async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    command.env("LC_ALL", "C");
    timeout(DEADLINE, command.output())
        .await
        .expect("the command ends in time")
        .expect("busctl, dbus-send and setpriv are installed")
}
