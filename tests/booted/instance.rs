//! One instance: a source, a replica behind the rsync daemon, `/etc/sersync/NAME.xml`, and the unit between them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::machine::Machine;
use crate::receiver::{self, PASSWORD_FILE, USER};
use crate::said::Said;
use crate::tree::Tree;
use crate::wait::{SOON, wait_for};

/// The file every source has from the start, which no test touches: an empty source deletes nothing.
pub const KEEP: &str = "always here";

/// An instance with a name of its own; dropped, it is stopped and forgotten.
#[derive(Debug)]
pub struct Instance<'a> {
    pub machine: &'a Machine,
    name: &'static str,
    below: &'static str,
}

impl<'a> Instance<'a> {
    /// All of it but a running service.
    pub fn prepare(machine: &'a Machine, name: &'static str) -> Self {
        Self::prepare_below("/srv", machine, name)
    }

    /// The same with its trees below another directory than `/srv`, which is in memory and empty after a reboot.
    pub fn prepare_below(below: &'static str, machine: &'a Machine, name: &'static str) -> Self {
        let instance = Self {
            machine,
            name,
            below,
        };
        // A case that failed may have left it stopped.
        receiver::start(machine);
        instance.write(KEEP, "kept\n");
        instance.set_module("");
        instance.configure(&[name]);
        instance
    }

    /// All of it, running and equal.
    #[track_caller]
    pub fn start(machine: &'a Machine, name: &'static str) -> Self {
        let instance = Self::prepare(machine, name);
        instance.systemctl("start").succeeded();
        instance.in_sync(SOON);
        instance
    }

    /// The name, as in `sersync@NAME`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name of the unit.
    pub fn unit(&self) -> String {
        format!("sersync@{}.service", self.name)
    }

    /// The configuration file, as the machine names it.
    pub fn file(&self) -> String {
        format!("/etc/sersync/{}.xml", self.name)
    }

    /// Writes a configuration for these modules of the receiver.
    pub fn configure(&self, modules: &[&str]) {
        let mut remotes = String::new();
        for module in modules {
            writeln!(remotes, r#"      <remote ip="127.0.0.1" name="{module}"/>"#)
                .expect("a String takes everything");
        }
        let (file, watch) = (self.file(), self.source_path());
        self.machine.write(
            &file,
            &format!(
                r#"<head version="2.5">
  <inotify>
    <attrib start="true"/>
  </inotify>
  <sersync>
    <localpath watch="{watch}">
{remotes}    </localpath>
    <rsync>
      <commonParams params="-a"/>
      <auth start="true" users="{USER}" passwordfile="{PASSWORD_FILE}"/>
    </rsync>
  </sersync>
</head>
"#
            ),
        );
    }

    /// Sets lines of its module at the receiver, such as `exclude = locked`.
    pub fn set_module(&self, more: &str) {
        receiver::set_module(self.machine, self.name, &self.replica_path(), more);
    }

    /// Adds lines to the unit, until the instance is dropped.
    pub fn drop_in(&self, lines: &str) {
        let file = format!("/run/systemd/system/{}.d/test.conf", self.unit());
        self.machine.write(&file, lines);
        self.machine.ok(["systemctl", "daemon-reload"]);
    }

    /// The source, as the machine names it.
    pub fn source_path(&self) -> String {
        format!("{}/{}/source", self.below, self.name)
    }

    /// The replica, as the machine names it.
    pub fn replica_path(&self) -> String {
        format!("{}/{}/replica", self.below, self.name)
    }

    /// A path in the source, as this process can open it.
    pub fn source(&self, path: impl AsRef<Path>) -> PathBuf {
        self.machine.path(self.source_path()).join(path)
    }

    /// A path in the replica, as this process can open it.
    pub fn replica(&self, path: impl AsRef<Path>) -> PathBuf {
        self.machine.path(self.replica_path()).join(path)
    }

    /// Writes a file of the source.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        self.machine
            .write(&format!("{}/{path}", self.source_path()), text);
    }

    /// Makes `count` files of `bytes` bytes in a new directory of the source.
    #[track_caller]
    pub fn grow(&self, directory: &str, count: usize, bytes: usize) {
        for number in 0..count {
            self.write(&format!("{directory}/{number}"), &"x".repeat(bytes));
        }
    }

    /// In what the replica is not like the source.
    pub fn differences(&self) -> Vec<String> {
        differences(&self.source(""), &self.replica(""))
    }

    /// Waits until the replica is like the source.
    #[track_caller]
    pub fn in_sync(&self, within: Duration) {
        wait_equal(&self.source(""), &self.replica(""), within);
    }

    /// Writes a file with a new content and waits until it has arrived.
    #[track_caller]
    pub fn carries(&self, path: &str) {
        let before = fs::read_to_string(self.source(path)).unwrap_or_default();
        self.write(path, &format!("{before}once more\n"));
        self.in_sync(SOON);
    }

    /// The same where `stuck` is the one path that cannot arrive.
    #[track_caller]
    pub fn carries_beside(&self, path: &str, stuck: &str) {
        self.write(path, "beside\n");
        wait_for(SOON, &format!("{path} arrives"), || {
            let mut found = self.differences();
            found.retain(|difference| !difference.contains(stuck));
            if found.is_empty() {
                Ok(())
            } else {
                Err(found.join("; "))
            }
        });
    }

    /// `systemctl VERB UNIT`.
    #[track_caller]
    pub fn systemctl(&self, verb: &str) -> Said {
        self.machine.run(["systemctl", verb, &self.unit()])
    }

    /// A property that `systemctl show` knows.
    #[track_caller]
    pub fn shows(&self, property: &str) -> String {
        let said = self
            .machine
            .ok(["systemctl", "show", "--value", "-p", property, &self.unit()]);
        said.trim_end().to_owned()
    }

    /// The process of the service, as the machine numbers it.
    #[track_caller]
    pub fn main_pid(&self) -> u32 {
        self.shows("MainPID")
            .parse()
            .expect("systemctl shows a number")
    }

    /// Waits until the unit is active with another process than `before`.
    #[track_caller]
    pub fn wait_for_restart(&self, before: u32, within: Duration) -> u32 {
        wait_for(within, "the service is restarted", || {
            let (state, pid) = (self.shows("ActiveState"), self.main_pid());
            if state == "active" && pid != 0 && pid != before {
                Ok(pid)
            } else {
                Err(format!("{state}, process {pid}"))
            }
        })
    }

    /// Waits until a property that `systemctl show` knows has `words` in it, and gives it.
    #[track_caller]
    pub fn wait_for_show(&self, property: &str, words: &str) -> String {
        wait_for(
            SOON,
            &format!("{property} of {} has `{words}`", self.unit()),
            || {
                let value = self.shows(property);
                if value.contains(words) {
                    Ok(value)
                } else {
                    Err(value)
                }
            },
        )
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        let unit = self.unit();
        if std::thread::panicking() {
            for command in [
                &["systemctl", "status", "--full", "--lines=0", &unit][..],
                &["journalctl", "--no-hostname", "-n", "60", "-u", &unit],
                &["tail", "-n", "15", receiver::LOG],
            ] {
                eprintln!("{}", self.machine.run(command));
            }
        }
        self.machine.run(["systemctl", "disable", "--quiet", &unit]);
        self.machine.run(["systemctl", "stop", &unit]);
        self.machine.run(["systemctl", "reset-failed", &unit]);
        let drop_ins = self.machine.path(format!("/run/systemd/system/{unit}.d"));
        if fs::remove_dir_all(drop_ins).is_ok() {
            self.machine.run(["systemctl", "daemon-reload"]);
        }
        // Nothing depends on it any more; a later test has another name.
        let _ = fs::remove_file(self.machine.path(self.file()));
        // After a reboot its trees are new ones, which are not what the remotes were last equal to.
        let state = format!("/var/lib/sersync/{}", self.name);
        let _ = fs::remove_dir_all(self.machine.path(state));
    }
}

/// In what `replica` is not like `source`.
pub fn differences(source: &Path, replica: &Path) -> Vec<String> {
    Tree::read(source)
        .and_then(|here| here.differences(&Tree::read(replica)?))
        .unwrap_or_else(|error| vec![format!("the trees cannot be compared: {error}")])
}

/// Waits until two trees are equal.
#[track_caller]
pub fn wait_equal(source: &Path, replica: &Path, within: Duration) {
    wait_for(within, "the trees are equal", || {
        match differences(source, replica) {
            none if none.is_empty() => Ok(()),
            some => Err(format!(
                "{} differences: {}",
                some.len(),
                some[..some.len().min(10)].join("; ")
            )),
        }
    });
}
