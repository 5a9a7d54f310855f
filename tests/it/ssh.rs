//! Mirrors over ssh, to a real sshd: one log-in for all, which heals; names of all kinds; what a log-in can fail at.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{AFTER_BACK_OFF, KEEP, SOON, grow, pause, wait_in_sync, wait_until};
use crate::names;
use crate::sersync::Sersync;
use crate::sshd::{Sshd, connections, signal_connection};

/// A source, a directory behind sshd, and a sersync between them.
struct OverSsh {
    // The process is dropped first, the trees last.
    sersync: Option<Sersync>,
    sshd: Sshd,
    replica: PathBuf,
    /// `--timeout`.
    seconds: u32,
    /// The element of the configuration, if there is to be one.
    filter: &'static str,
    /// Elements of `<rsync>`.
    guards: &'static str,
    /// Attributes of the remote, beside its `name`.
    remote: String,
    /// `options` of `<ssh>`.
    options: &'static str,
    temp: TempDir,
}

impl OverSsh {
    /// Not running yet. `None` where there is no sshd.
    fn prepare() -> io::Result<Option<Self>> {
        Self::prepare_with("")
    }

    fn prepare_with(sshd_lines: &str) -> io::Result<Option<Self>> {
        let Some(sshd) = Sshd::start_with(sshd_lines)? else {
            return Ok(None);
        };
        let temp = TempDir::with_prefix("sersync-ssh-")?;
        for name in ["source", "replica", "run", "state"] {
            fs::create_dir(temp.path().join(name))?;
        }
        fs::write(temp.path().join("source").join(KEEP), "kept\n")?;
        Ok(Some(Self {
            sersync: None,
            sshd,
            replica: temp.path().join("replica"),
            seconds: 100,
            filter: "",
            guards: "",
            remote: r#"ip="127.0.0.1""#.into(),
            options: "",
            temp,
        }))
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temp.path().join(name)
    }

    fn source(&self, name: impl AsRef<Path>) -> PathBuf {
        self.at("source").join(name)
    }

    /// Starts sersync with a configuration file.
    fn run(&mut self) -> io::Result<()> {
        let escaped = |path: &Path| {
            let text = path.to_str().expect("the tests' own paths are text");
            text.replace('&', "&amp;")
                .replace('"', "&quot;")
                .replace('<', "&lt;")
        };
        let mut xml = String::from("<head>\n");
        xml.push_str(self.filter);
        xml.push_str("<inotify><attrib start=\"true\"/></inotify>\n<sersync>\n");
        writeln!(
            xml,
            "<localpath watch=\"{}\"><remote {} name=\"{}\"/></localpath>",
            escaped(&self.at("source")),
            self.remote,
            escaped(&self.replica),
        )
        .expect("a String takes everything");
        writeln!(
            xml,
            "<rsync><commonParams params=\"-a\"/><userDefinedPort start=\"true\" port=\"{}\"/>\
             <timeout start=\"true\" time=\"{}\"/><ssh start=\"true\" identity=\"{}\" knownHosts=\"{}\" options=\"{}\"/>{}</rsync>",
            self.sshd.port(),
            self.seconds,
            escaped(&self.sshd.identity()),
            escaped(&self.sshd.known_hosts()),
            self.options,
            self.guards,
        )
        .expect("a String takes everything");
        xml.push_str("</sersync>\n</head>\n");
        fs::write(self.at("confxml.xml"), xml)?;
        let mut command = Sersync::command();
        command
            .env("RUNTIME_DIRECTORY", self.at("run"))
            .args(["run", "--bus", "none", "--config"])
            .arg(self.at("confxml.xml"));
        self.sersync = Some(Sersync::spawn(command, &self.at("log"))?);
        Ok(())
    }

    /// Waits until one child alone has been there for a while: that which waits for the next change.
    #[track_caller]
    fn wait_for_standby(&mut self) {
        const A_WHILE: Duration = Duration::from_millis(500);
        let (mut seen, mut since) = (Vec::new(), Instant::now());
        wait_until(SOON, "a child waits", || {
            let now = self.sersync().rsync_children();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            seen.len() == 1 && since.elapsed() > A_WHILE
        });
    }

    fn sersync(&mut self) -> &mut Sersync {
        self.sersync.as_mut().expect("sersync runs")
    }

    #[track_caller]
    fn in_sync(&self) -> Duration {
        self.in_sync_within(SOON)
    }

    #[track_caller]
    fn in_sync_within(&self, within: Duration) -> Duration {
        wait_in_sync(&self.at("source"), &self.replica, within)
    }

    /// Waits until the former version of a file is kept.
    #[track_caller]
    fn in_sync_with_backup(&self, name: &str, former: &str) {
        let kept = self.replica.join(".replaced").join(name);
        wait_until(SOON, "the former version is kept", || {
            fs::read_to_string(&kept).is_ok_and(|found| found == former)
        });
    }

    /// Becomes equal, ends well, and leaves nothing behind.
    #[track_caller]
    fn finish(mut self) {
        self.in_sync();
        self.sersync.take().expect("sersync runs").stop();
        let run = self.at("run");
        wait_until(SOON, "the connection ends with sersync", || {
            connections(&run).is_empty()
        });
        let left: Vec<_> = fs::read_dir(run).expect("it is there").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Starts, waits for an error with these words, mends the cause, and goes on.
    #[track_caller]
    fn says_and_is_mended(mut self, words: &[&str], mend: impl FnOnce(&Self) -> io::Result<()>) {
        self.run().expect("sersync starts");
        self.sersync().wait_for_problem(words);
        assert!(self.sersync().is_running());
        mend(&self).expect("it can be mended");
        self.in_sync_within(AFTER_BACK_OFF);
        self.finish();
    }
}

#[test]
fn two_hundred_changes_over_ssh_take_one_log_in() -> io::Result<()> {
    const CHANGES: u32 = 200;
    const EVERY: Duration = Duration::from_millis(100);
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    grow(&over.source("tree"), 5, 20, 500)?;
    over.run()?;
    over.in_sync();
    let mut latencies = Vec::new();
    for number in 0..CHANGES {
        let begun = Instant::now();
        let name = format!("tree/d{:05}/changed {}", number % 5, number % 50);
        let text = format!("{number}\n");
        fs::write(over.source(&name), &text)?;
        let arrived = over.replica.join(&name);
        wait_until(SOON, "the change arrives", || {
            fs::read_to_string(&arrived).is_ok_and(|there| there == text)
        });
        latencies.push(begun.elapsed());
        pause(EVERY.saturating_sub(begun.elapsed())); // interval
    }
    latencies.sort();
    println!(
        "over ssh, standby: median {:.1?}, worst {:.1?} of {CHANGES}",
        latencies[latencies.len() / 2],
        latencies[latencies.len() - 1],
    );
    assert_eq!(over.sshd.log_ins(), 1);
    over.finish();
    Ok(())
}

#[test]
fn a_connection_that_was_killed_is_made_again() -> io::Result<()> {
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.run()?;
    over.in_sync();
    let run = over.at("run");
    for round in 1..=3 {
        over.wait_for_standby();
        signal_connection(&run, Signal::KILL);
        wait_until(SOON, "it is gone", || connections(&run).is_empty());
        fs::write(over.source("file"), format!("{round}"))?;
        println!("after a kill: {:.1?}", over.in_sync());
        let count = over.sshd.log_ins();
        assert_eq!(count, round + 1, "one log-in for each connection");
    }
    assert!(!over.sersync().log().contains("unreachable"));
    over.finish();
    Ok(())
}

#[test]
fn a_connection_that_hangs_is_made_again() -> io::Result<()> {
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.seconds = 2;
    over.run()?;
    over.in_sync();
    over.wait_for_standby();
    let run = over.at("run");
    let hanging = connections(&run);
    signal_connection(&run, Signal::STOP);
    fs::write(over.source("file"), "after that")?;
    println!("after a hang: {:.1?}", over.in_sync_within(AFTER_BACK_OFF));
    for pid in hanging {
        rustix::process::kill_process(pid, Signal::KILL)?;
    }
    over.finish();
    Ok(())
}

#[test]
fn names_of_all_kinds_go_over_ssh_into_a_directory_of_any_name() -> io::Result<()> {
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.replica = over.at("a b $(touch pwned) `touch pwned` it's \"ü\" & ; ~ \\ #");
    fs::create_dir(&over.replica)?;
    over.run()?;
    over.in_sync();
    for name in names::ODD {
        let name = names::name(name);
        fs::write(over.source(name), name.as_encoded_bytes())?;
        fs::create_dir(over.source("dir").join(name)).or_else(|_| {
            fs::create_dir(over.source("dir"))?;
            fs::create_dir(over.source("dir").join(name))
        })?;
    }
    over.in_sync();
    for name in names::ODD {
        fs::remove_file(over.source(names::name(name)))?;
    }
    fs::remove_dir_all(over.source("dir"))?;
    over.in_sync();
    let home = std::env::var_os("HOME").unwrap_or_default();
    assert!(!Path::new(&home).join("pwned").exists());
    over.finish();
    Ok(())
}

#[test]
fn the_command_line_takes_a_target_over_ssh_and_sshs_own_configuration_counts() -> io::Result<()> {
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.replica = over.at("with\na new line");
    fs::create_dir(&over.replica)?;
    // An ssh that reads its configuration from here and not from a home directory.
    let configuration = format!(
        "Host receiver\nHostName 127.0.0.1\nPort {}\nIdentityFile \"{}\"\nUserKnownHostsFile \"{}\"\nLocalForward 1 127.0.0.1:1\n",
        over.sshd.port(),
        over.sshd.identity().display(),
        over.sshd.known_hosts().display(),
    );
    fs::write(over.at("ssh_config"), configuration)?;
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
        over.at("ssh_config").display()
    );
    fs::write(over.at("ssh"), script)?;
    fs::set_permissions(over.at("ssh"), fs::Permissions::from_mode(0o755))?;
    let path = std::env::var("PATH").expect("there is a PATH");
    let mut command = Sersync::command();
    command
        .env("PATH", format!("{}:{path}", over.temp.path().display()))
        .env("TMPDIR", over.temp.path())
        .arg("mirror")
        .arg(over.at("source"))
        .arg(format!("receiver:{}", over.replica.display()));
    over.sersync = Some(Sersync::spawn(command, &over.at("log"))?);
    over.in_sync();
    fs::write(over.source("file"), "content")?;
    over.in_sync();
    assert_eq!(over.sshd.log_ins(), 1);
    let temp = over.temp.path().to_path_buf();
    over.finish();
    let left = fs::read_dir(temp).map_or(0, Iterator::count);
    assert_eq!(
        left, 0,
        "the directory of the sockets is gone, and so is all else"
    );
    Ok(())
}

/// The name of whom the tests run as, as the system knows it.
fn name_of_the_user() -> io::Result<String> {
    let said = std::process::Command::new("id").arg("-un").output()?;
    assert!(said.status.success(), "{said:?}");
    Ok(String::from_utf8_lossy(&said.stdout).trim_end().to_owned())
}

#[test]
fn it_logs_in_as_the_user_and_with_the_options_of_the_configuration() -> io::Result<()> {
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    // The receiver's key is known by another name alone.
    over.sshd.make_known_as("the-receiver")?;
    over.options = "HostKeyAlias=the-receiver ConnectTimeout=10";
    for (remote, name) in [
        (r#"ip="nobody-here@127.0.0.1""#, "nobody-here"),
        (r#"ip="127.0.0.1" users="nobody-else""#, "nobody-else"),
    ] {
        over.remote = remote.into();
        over.run()?;
        let asked_for = format!("Invalid user {name} from");
        wait_until(SOON, "it asks to be let in by that name", || {
            over.sshd.log().contains(&asked_for)
        });
        over.sersync()
            .wait_for_problem(&["Permission denied (publickey)"]);
        over.sersync.take().expect("sersync runs").stop();
    }
    let user = name_of_the_user()?;
    over.remote = format!(r#"ip="127.0.0.1" users="{user}""#);
    over.run()?;
    over.in_sync();
    fs::write(over.source("file"), "content")?;
    over.in_sync();
    let let_in = format!("Accepted publickey for {user} from");
    assert!(over.sshd.log().contains(&let_in), "{}", over.sshd.log());
    over.finish();
    Ok(())
}

/// The home directory of root, as the system knows it.
fn home_of_root() -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let root = users
        .lines()
        .find(|line| line.split(':').nth(2) == Some("0"))?;
    root.split(':').nth(5).map(ToOwned::to_owned)
}

#[test]
fn without_a_word_of_keys_ssh_finds_those_in_the_home_directory_of_the_user_and_not_in_that_of_the_environment()
-> io::Result<()> {
    let Some(home) = home_of_root().filter(|_| rustix::process::geteuid().is_root()) else {
        eprintln!("NOT TESTED: only root can have another home directory for a while");
        return Ok(());
    };
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    let program = env!("CARGO_BIN_EXE_sersync");
    if [over.temp.path(), Path::new(program)]
        .iter()
        .any(|path| path.starts_with(&home))
    {
        eprintln!("NOT TESTED: the tests are themselves in {home}");
        return Ok(());
    }
    let xml = format!(
        "<head><sersync><localpath watch=\"{}\"><remote ip=\"127.0.0.1\" name=\"{}\"/></localpath>\
         <rsync><commonParams params=\"-a\"/><userDefinedPort start=\"true\" port=\"{}\"/><ssh start=\"true\"/></rsync></sersync></head>",
        over.at("source").display(),
        over.replica.display(),
        over.sshd.port(),
    );
    fs::write(over.at("confxml.xml"), xml)?;
    // In a mount namespace of its own, with a home directory that holds a key and a known host and nothing else.
    let script = r#"mount -t tmpfs tmpfs "$1" && mkdir -m 700 "$1/.ssh" &&
        install -m 600 "$2" "$1/.ssh/id_ed25519" && install -m 600 "$3" "$1/.ssh/known_hosts" &&
        shift 3 && exec "$@""#;
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--", "sh", "-c", script, "sh", &home]);
    command
        .arg(over.sshd.identity())
        .arg(over.sshd.known_hosts());
    command
        .arg(program)
        .args(["run", "--bus", "none", "--config"]);
    command.arg(over.at("confxml.xml"));
    command.env("RUNTIME_DIRECTORY", over.at("run"));
    // As a service without a home directory of its own has it.
    command
        .env("HOME", "/")
        .env_remove("SSH_AUTH_SOCK")
        .env_remove("NOTIFY_SOCKET");
    over.sersync = Some(Sersync::spawn(command, &over.at("log"))?);
    over.in_sync();
    fs::write(over.source("file"), "content")?;
    over.finish();
    Ok(())
}

#[test]
fn a_key_that_is_not_let_in_is_told() -> io::Result<()> {
    let Some(over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.sshd.let_in("another key")?;
    let words = ["Permission denied (publickey)", "authorized_keys"];
    over.says_and_is_mended(&words, |over| over.sshd.let_in("key"));
    Ok(())
}

#[test]
fn a_host_key_that_is_not_the_known_one_is_told() -> io::Result<()> {
    let Some(over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.sshd.make_known("another key")?;
    let words = ["has changed", "ssh-keygen -R"];
    over.says_and_is_mended(&words, |over| over.sshd.make_known("host key"));
    Ok(())
}

#[test]
fn a_host_key_that_is_not_known_is_told() -> io::Result<()> {
    let Some(over) = OverSsh::prepare()? else {
        return Ok(());
    };
    fs::remove_file(over.sshd.known_hosts())?;
    let words = ["Host key verification failed", "by hand"];
    over.says_and_is_mended(&words, |over| over.sshd.make_known("host key"));
    Ok(())
}

#[test]
fn an_identity_that_is_not_there_is_told() -> io::Result<()> {
    let Some(over) = OverSsh::prepare()? else {
        return Ok(());
    };
    let (key, elsewhere) = (over.sshd.identity(), over.at("elsewhere"));
    fs::rename(&key, &elsewhere)?;
    let words = ["identity file cannot be read", "No such file"];
    over.says_and_is_mended(&words, |_| fs::rename(elsewhere, key));
    Ok(())
}

#[test]
fn a_directory_that_is_not_at_the_receiver_is_told_and_not_made() -> io::Result<()> {
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.replica = over.at("not mounted");
    let replica = over.replica.clone();
    over.says_and_is_mended(&["not mounted", "by hand"], |_| {
        assert!(!replica.exists());
        fs::create_dir(&replica)
    });
    Ok(())
}

#[test]
fn a_receiver_without_rsync_is_told() -> io::Result<()> {
    let Some(over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.sshd.let_in_for("/nowhere/rsync --server")?;
    let words = ["no rsync at the receiver", "install rsync"];
    over.says_and_is_mended(&words, |over| over.sshd.let_in("key"));
    Ok(())
}

#[test]
fn a_receiver_that_allows_rsync_alone_is_enough() -> io::Result<()> {
    match OverSsh::prepare()? {
        Some(over) => goes_by_rsync_alone(over),
        None => Ok(()),
    }
}

#[test]
fn with_a_filter_too_a_receiver_that_allows_rsync_alone_is_enough() -> io::Result<()> {
    let Some(mut over) = OverSsh::prepare()? else {
        return Ok(());
    };
    over.filter = r#"<filter start="true"><exclude expression="(.*)\.nothing"/></filter>"#;
    goes_by_rsync_alone(over)
}

#[test]
fn a_plan_and_what_guards_deletions_work_over_ssh_too() -> io::Result<()> {
    match OverSsh::prepare()? {
        Some(over) => is_guarded(over, "/"),
        None => Ok(()),
    }
}

#[test]
fn a_plan_and_what_guards_deletions_work_where_rsync_alone_is_allowed() -> io::Result<()> {
    let Some(over) = OverSsh::prepare()? else {
        return Ok(());
    };
    let rrsync = ["/usr/bin/rrsync", "/usr/local/bin/rrsync"];
    let Some(rrsync) = rrsync.into_iter().find(|file| Path::new(file).exists()) else {
        eprintln!("NOT TESTED: rrsync is missing (it comes with rsync)");
        return Ok(());
    };
    let below = over.temp.path().to_path_buf();
    over.sshd
        .let_in_for(&format!("{rrsync} -no-lock {}", below.display()))?;
    let below = below.to_str().expect("text").to_owned();
    is_guarded(over, &below)
}

/// `below` is what the receiver takes for its root.
fn is_guarded(mut over: OverSsh, below: &str) -> io::Result<()> {
    over.guards = r#"<maxDelete start="true" count="3"/><backup start="true" dir=".replaced"/>"#;
    grow(&over.source("tree"), 1, 5, 10)?;
    fs::write(over.source("file"), "first")?;
    let real = over.replica.clone();
    let seen = real.strip_prefix(below).expect("it is below");
    over.replica = Path::new("/").join(seen);
    over.run()?;
    over.replica.clone_from(&real);
    wait_until(SOON, "everything is sent", || {
        real.join("tree/d00000/f0004").exists() && real.join("file").exists()
    });
    fs::write(over.source("file"), "and second")?;
    over.in_sync_with_backup("file", "first");
    let plan = || -> io::Result<String> {
        let said = Sersync::command()
            .args(["check", "--plan"])
            .arg(over.at("confxml.xml"))
            .output()?;
        assert!(said.status.success(), "{said:?}");
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    };
    let said = plan()?;
    assert!(
        said.contains("would delete 0 entries, send 0 entries"),
        "{said}"
    );
    fs::rename(over.source("tree"), over.at("away"))?;
    let said = plan()?;
    assert!(said.contains("would delete 7 entries"), "{said}");
    over.sersync()
        .wait_for_problem(&["7 entries would be deleted at once"]);
    assert!(real.join("tree/d00000/f0004").exists());
    over.sersync.take().expect("sersync runs").stop();
    Ok(())
}

fn goes_by_rsync_alone(mut over: OverSsh) -> io::Result<()> {
    let rrsync = ["/usr/bin/rrsync", "/usr/local/bin/rrsync"];
    let Some(rrsync) = rrsync.into_iter().find(|file| Path::new(file).exists()) else {
        eprintln!("NOT TESTED: rrsync is missing (it comes with rsync)");
        return Ok(());
    };
    over.sshd
        .let_in_for(&format!("{rrsync} -no-lock {}", over.temp.path().display()))?;
    let real = std::mem::replace(&mut over.replica, "/replica".into());
    over.run()?;
    over.replica = real;
    over.in_sync();
    grow(&over.source("tree"), 3, 3, 10)?;
    over.in_sync();
    fs::remove_dir_all(over.source("tree"))?;
    over.in_sync();
    over.finish();
    Ok(())
}
