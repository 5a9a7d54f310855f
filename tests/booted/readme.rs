//! The README, followed word for word by a new user.
//!
//! What is followed are the indented blocks of the sections "Install" and "A first configuration", in their order:
//!
//! - after a line that ends with `` `/etc/…`: ``, the block is that file;
//! - every other block is typed in, line by line, by root; a fenced block (```` ```xml ````) is only to be read.
//!
//! The machine has nothing of sersync before. What builds has been built before it was booted, so `make …` is left out:
//! the package is there, at the path where `make deb` has put it. The receiver and the sender are one machine, which has
//! the addresses of both.

use std::fs;
use std::path::Path;

use crate::instance::wait_equal;
use crate::machine::Machine;
use crate::package;
use crate::receiver::{self, PASSWORD_FILE};
use crate::wait::SOON;

/// What is typed in, in order.
const SECTIONS: [&str; 2] = ["Install", "A first configuration"];

/// Something to do.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Write a file.
    File { path: String, text: String },
    /// Type this in.
    Type(String),
}

/// Follows it to its end and expects a mirror that works.
#[track_caller]
pub fn follow(machine: &Machine) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))
        .expect("there is a README");
    let _before = Before::take(machine);
    machine.script(
        "DEBIAN_FRONTEND=noninteractive apt-get purge --yes sersync && ! command -v sersync",
    );
    // The receiver is somewhere else, and this user has a tree of its own.
    machine.script(
        "systemctl stop rsync; mkdir -p /data; echo hello > /data/file
         ip address add 172.16.1.41/32 dev lo",
    );
    machine.script("mkdir -p /root/sersync/target/debian");
    let place = machine.path("/root/sersync/target/debian/sersync_3.0.0-1_amd64.deb");
    fs::copy(machine.path(package::PACKAGE), place).expect("the machine has room for it");
    for step in steps(&text) {
        match step {
            Step::File { path, text } => machine.write(&path, &text),
            Step::Type(command) => {
                println!("# {command}");
                machine.script(&format!(
                    "cd /root/sersync; export DEBIAN_FRONTEND=noninteractive; sudo() {{ \"$@\"; }}\n{command}"
                ));
            }
        }
    }
    machine.ok(["systemctl", "is-enabled", "sersync@data"]);
    wait_equal(&machine.path("/data"), &machine.path("/nfsbackup"), SOON);
    machine.write("/data/another", "hello again\n");
    wait_equal(&machine.path("/data"), &machine.path("/nfsbackup"), SOON);
}

/// The receiver of all other cases. Dropped, it is back, and what the README has made is gone.
struct Before<'a> {
    machine: &'a Machine,
    files: [(&'static str, String); 3],
}

impl<'a> Before<'a> {
    fn take(machine: &'a Machine) -> Self {
        let files = ["/etc/rsyncd.conf", "/etc/rsync.secrets", PASSWORD_FILE];
        let files = files.map(|file| (file, machine.read(file)));
        Self { machine, files }
    }
}

impl Drop for Before<'_> {
    fn drop(&mut self) {
        // Not all of it is there when a step has failed.
        for command in [
            "systemctl disable --quiet --now sersync@data",
            "systemctl stop rsync",
            "rm --force /etc/sersync/data.xml",
            "ip address del 172.16.1.41/32 dev lo",
        ] {
            self.machine.run(command.split(' '));
        }
        for (file, text) in &self.files {
            self.machine.write(file, text);
        }
        receiver::start(self.machine);
    }
}

/// What is to be done, from the text of the README.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for heading in SECTIONS {
        let section = section(readme, heading);
        assert!(!section.is_empty(), "the README has no section `{heading}`");
        let mut before = "";
        let mut block: Vec<&str> = Vec::new();
        for line in section.iter().copied().chain(["the end"]) {
            match line.strip_prefix("    ") {
                Some(line) => block.push(line),
                None if line.trim().is_empty() => {}
                None => {
                    take(before, &std::mem::take(&mut block), &mut steps);
                    before = line;
                }
            }
        }
    }
    steps
}

/// The lines of a section, without fenced blocks.
fn section<'a>(readme: &'a str, heading: &str) -> Vec<&'a str> {
    let mut is_fenced = false;
    readme
        .lines()
        .skip_while(|line| !line.starts_with("## ") || !line[3..].starts_with(heading))
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| {
            let is_fence = line.starts_with("```");
            is_fenced ^= is_fence;
            !is_fence && !is_fenced
        })
        .collect()
}

/// Makes steps of a block and the line that introduces it.
fn take(before: &str, block: &[&str], steps: &mut Vec<Step>) {
    let file = before
        .strip_suffix("`:")
        .and_then(|before| before.rsplit('`').next())
        .filter(|path| path.starts_with('/'));
    match file {
        Some(path) if !block.is_empty() => steps.push(Step::File {
            path: path.to_owned(),
            text: block.join("\n") + "\n",
        }),
        _ => steps.extend(
            block
                .iter()
                .map(|line| line.trim_start_matches("sudo "))
                .filter(|line| !line.trim().is_empty() && !line.starts_with("make "))
                .map(|line| Step::Type((*line).to_owned())),
        ),
    }
}
