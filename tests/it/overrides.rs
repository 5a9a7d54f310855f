//! What a `remote` says for itself, in place of what `rsync` says for all: each remote here takes nothing else.

use std::fs;
use std::io;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{SOON, wait_in_sync, wait_until};
use crate::rsync_daemon::{Module, RsyncDaemon, write_private};
use crate::sersync::Sersync;
use crate::sshd::Sshd;

#[test]
fn each_remote_has_its_own_user_password_port_options_and_way() -> io::Result<()> {
    let temp = TempDir::with_prefix("sersync-own-")?;
    let at = |name: &str| -> PathBuf { temp.path().join(name) };
    for name in ["source", "common", "own", "over ssh"] {
        fs::create_dir(at(name))?;
    }
    fs::write(at("source").join("file.txt"), "content")?;
    fs::write(at("source").join("file.tmp"), "left out by one")?;
    write_private(&at("common.secret"), "common password\n")?;
    write_private(&at("own.secret"), "own password\n")?;
    let module = |name: &str| Module::new(name, &at(name));
    let common = RsyncDaemon::start_new(&[module("common").secret("all", "common password")])?;
    let own = RsyncDaemon::start_new(&[module("own").secret("one", "own password")])?;
    let sshd = Sshd::start()?;
    let over_ssh = sshd.as_ref().map_or_else(String::new, |sshd| {
        format!(
            "<remote ip=\"127.0.0.1\" name=\"{}\" ssh=\"true\" port=\"{}\"/>",
            at("over ssh").display(),
            sshd.port()
        )
    });
    let keys = sshd.as_ref().map_or_else(String::new, |sshd| {
        format!(
            "identity=\"{}\" knownHosts=\"{}\"",
            sshd.identity().display(),
            sshd.known_hosts().display()
        )
    });
    let xml = format!(
        "<head><sersync><localpath watch=\"{source}\">
           <remote ip=\"127.0.0.1\" name=\"common\"/>
           <remote ip=\"127.0.0.1\" name=\"own\" users=\"one\" passwordfile=\"{own_secret}\" port=\"{own_port}\"
                   params=\"-a --exclude=*.tmp\"/>
           {over_ssh}
         </localpath><rsync>
           <commonParams params=\"-a\"/>
           <auth start=\"true\" users=\"all\" passwordfile=\"{secret}\"/>
           <userDefinedPort start=\"true\" port=\"{port}\"/>
           <ssh start=\"false\" {keys}/>
         </rsync></sersync></head>",
        source = at("source").display(),
        own_secret = at("own.secret").display(),
        own_port = own.port(),
        secret = at("common.secret").display(),
        port = common.port(),
    );
    fs::write(at("confxml.xml"), xml)?;
    let sersync = Sersync::run(&at("confxml.xml"), &at("state"), &at("log"), &[])?;

    for round in 0..3 {
        fs::write(at("source").join("file.txt"), format!("round {round}"))?;
        wait_in_sync(&at("source"), &at("common"), SOON);
        if sshd.is_some() {
            wait_in_sync(&at("source"), &at("over ssh"), SOON);
        }
        wait_until(SOON, "the file is at the remote of its own", || {
            fs::read_to_string(at("own").join("file.txt"))
                .is_ok_and(|text| text == format!("round {round}"))
        });
    }
    assert!(!at("own").join("file.tmp").exists());
    sersync.stop();
    Ok(())
}
