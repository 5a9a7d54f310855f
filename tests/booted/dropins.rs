//! The drop-ins for the unit, from where the package has put them, used as they say.

use crate::instance::{Instance, wait_equal};
use crate::journal_entries::{Entry, entries};
use crate::machine::Machine;
use crate::receiver::{PASSWORD_FILE, USER};
use crate::wait::{SOON, wait_for, wait_until};

const EXAMPLES: &str = "/usr/share/doc/sersync/examples";
const SSHD: &str = "/usr/sbin/sshd";
const KEY: &str = "/root/.ssh/id_sersync";
const KNOWN_HOSTS: &str = "/root/.ssh/known_hosts";

/// A drop-in of one instance; dropped, it is gone.
struct DropIn<'a> {
    machine: &'a Machine,
    directory: String,
}

impl<'a> DropIn<'a> {
    /// Copies it to where its comment says, with one text for another.
    #[track_caller]
    fn copy(instance: &Instance<'a>, name: &str, this: &str, that: &str) -> Self {
        let machine = instance.machine;
        let directory = format!("/etc/systemd/system/{}.d", instance.unit());
        let text = machine.read(&format!("{EXAMPLES}/{name}"));
        assert!(text.contains(&directory.replace(instance.name(), "data")));
        machine.write(&format!("{directory}/{name}"), &text.replace(this, that));
        machine.ok(["systemctl", "daemon-reload"]);
        Self { machine, directory }
    }
}

impl Drop for DropIn<'_> {
    fn drop(&mut self) {
        self.machine.run(["rm", "-r", &self.directory]);
        self.machine.run(["systemctl", "daemon-reload"]);
    }
}

fn configure(instance: &Instance<'_>, remote: &str, rsync: &str) {
    let text = format!(
        r#"<head version="2.5">
  <sersync>
    <localpath watch="{}">
      <remote {remote}/>
    </localpath>
    <rsync>
      <commonParams params="-a"/>
      {rsync}
    </rsync>
  </sersync>
</head>
"#,
        instance.source_path()
    );
    instance.machine.write(&instance.file(), &text);
}

pub fn a_target_on_this_machine_needs_its_drop_in_and_is_written_with_it(machine: &Machine) {
    const TARGET: &str = "/var/copies/copied";
    let instance = Instance::prepare(machine, "copied");
    configure(&instance, &format!(r#"path="{TARGET}""#), "");
    instance.write("of another/file", "content");
    let source = instance.source_path();
    machine.script(&format!(
        "mkdir -p {TARGET}
         cd '{source}/of another' && chown 1234:4321 . file && chmod 2750 . && chmod 0400 file"
    ));
    instance.systemctl("start").succeeded();
    let unit = format!("_SYSTEMD_UNIT={}", instance.unit());
    wait_for(SOON, "it says what to do", || {
        let said = entries(machine, &[&unit, "PRIORITY=4", "PRIORITY=3"]);
        let all: Vec<&str> = said.iter().map(Entry::message).collect();
        if all.iter().any(|said| said.contains("local-target.conf")) {
            Ok(())
        } else {
            Err(all.join("\n"))
        }
    });

    let _drop_in = DropIn::copy(&instance, "local-target.conf", "/backup/data", TARGET);
    instance.systemctl("restart").succeeded();
    wait_equal(&instance.source(""), &machine.path(TARGET), SOON);
    let owner = machine.ok(["stat", "-c", "%u:%g %a", &format!("{TARGET}/of another")]);
    assert_eq!(owner.trim(), "1234:4321 2750");
    instance.write("another", "content");
    wait_equal(&instance.source(""), &machine.path(TARGET), SOON);
    machine.ok(["rm", "-r", "/var/copies"]);
}

pub fn a_password_may_be_a_credential(machine: &Machine) {
    let instance = Instance::prepare(machine, "sealed");
    let file = format!("/run/credentials/{}/rsync-password", instance.unit());
    configure(
        &instance,
        r#"ip="127.0.0.1" name="sealed""#,
        &format!(r#"<auth start="true" users="{USER}" passwordfile="{file}"/>"#),
    );
    let secret = "/etc/sersync/sealed.password";
    machine.script(&format!("mv {PASSWORD_FILE} {secret}"));
    let _drop_in = DropIn::copy(&instance, "password-credential.conf", "", "");
    instance.systemctl("start").succeeded();
    machine.script(&format!("mv {secret} {PASSWORD_FILE}"));
    instance.in_sync(SOON);
    instance.carries("with the credential");
}

pub fn ssh_keeps_the_keys_of_hosts_with_its_drop_in(machine: &Machine) {
    if !machine.path(SSHD).exists() {
        eprintln!("NOT TESTED: {SSHD} is missing (on Debian: apt-get install openssh-server)");
        return;
    }
    let instance = Instance::prepare(machine, "by_ssh");
    configure(
        &instance,
        &format!(r#"ip="127.0.0.1" name="{}""#, instance.replica_path()),
        &format!(
            r#"<userDefinedPort start="true" port="2222"/>
      <ssh start="true" identity="{KEY}" options="StrictHostKeyChecking=accept-new"/>"#
        ),
    );
    machine.script(&format!(
        "mkdir -p -m 700 /root/.ssh /run/sshd
         rm -f {KEY} {KEY}.pub {KNOWN_HOSTS}
         ssh-keygen -q -t ed25519 -N '' -f {KEY} && cp {KEY}.pub /root/.ssh/authorized_keys
         ssh-keygen -A
         systemd-run --quiet --unit=test-sshd {SSHD} -D -p 2222 -o ListenAddress=127.0.0.1 -o UsePAM=no"
    ));
    let port = ["ss", "-Hltn", "sport = :2222"];
    wait_until(SOON, "sshd listens", || !machine.ok(port).is_empty());
    instance.systemctl("start").succeeded();
    instance.in_sync(SOON);
    assert!(
        !machine.path(KNOWN_HOSTS).exists(),
        "nothing is open to it there"
    );

    let _drop_in = DropIn::copy(&instance, "ssh.conf", "", "");
    instance.systemctl("restart").succeeded();
    instance.carries("by ssh");
    // Names may be hashed there.
    machine.ok(["ssh-keygen", "-F", "[127.0.0.1]:2222"]);
    instance.systemctl("stop").succeeded();
    machine.ok(["systemctl", "stop", "test-sshd"]);
    machine.ok(["rm", "-r", "/root/.ssh"]);
}
