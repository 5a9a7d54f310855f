//! The first push: whatever the two sides hold when sersync starts, they are equal soon.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::confxml::{Localpath, Remote};
use crate::harness::{
    AFTER_BACK_OFF, KEEP, MODULE, Mirror, SOON, differences, grow, pause, stays, wait_in_sync,
    wait_until,
};
use crate::names;
use crate::rsync_daemon::{Module, RsyncDaemon, write_private};
use crate::sersync::Sersync;

/// How long something that must not happen is waited for.
const A_WHILE: Duration = Duration::from_secs(1);

/// The bytes that a daemon has received by its log.
fn received(log: &str) -> u64 {
    log.lines()
        .filter_map(|line| {
            let (_, bytes) = line.split_once("received ")?;
            bytes.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
}

#[test]
fn a_restart_without_a_change_sends_nothing() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 20, 20, 700)?;
    mirror.run()?;
    mirror.in_sync();
    mirror.is_known();
    mirror.stop();
    // The receiver writes its line when the sender is gone already.
    wait_until(SOON, "the first push is in the log", || {
        received(&mirror.daemon.log()) > 280_000
    });
    let before = mirror.daemon.log().len();
    let extra = mirror.replica("extra");
    fs::write(&extra, "of the receiver")?;
    mirror.run()?;
    wait_until(SOON, "everything is compared", || !extra.exists());
    fs::write(mirror.source("last"), "content")?;
    mirror.in_sync();
    mirror.stop();
    let log = mirror.daemon.log().split_off(before);
    // Lists of names, and none of the 280 000 bytes in them.
    let received = received(&log);
    assert!((1..100_000).contains(&received), "{received} bytes: {log}");
    Ok(())
}

#[test]
fn a_tree_that_is_there_at_the_start_arrives() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 50, 20, 700)?;
    symlink("d00001/f0001", mirror.source("a link"))?;
    fs::create_dir_all(mirror.source("empty/empty/empty"))?;
    for &name in names::ODD {
        fs::write(mirror.source(names::name(name)), name)?;
    }
    mirror.run()?;
    println!("1 000 files arrived after {:?}", mirror.in_sync());
    mirror.finish()
}

#[test]
fn what_only_the_receiver_has_is_deleted_and_what_differs_is_sent() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    grow(&mirror.source(""), 10, 10, 100)?;
    let status = Command::new("cp")
        .arg("-a")
        .arg(mirror.source("."))
        .arg(mirror.replica(""))
        .status()?;
    assert!(status.success(), "cp went well");
    fs::create_dir_all(mirror.replica("d00001/extra/extra"))?;
    fs::write(mirror.replica("d00001/extra/extra/file"), "extra")?;
    fs::write(mirror.replica("d00002/extra"), "extra")?;
    fs::write(mirror.replica("d00003/f0003"), "another length")?;
    fs::remove_dir_all(mirror.replica("d00004"))?;
    mirror.run()?;
    mirror.in_sync();
    mirror.finish()
}

#[test]
fn without_the_first_push_only_changes_are_carried() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    fs::write(mirror.source("there before"), "unchanged")?;
    fs::write(mirror.replica("extra"), "extra")?;
    mirror.run_with(&["--initial", "no"])?;
    let mut probes = 0;
    wait_until(SOON, "a change arrives", || {
        // The watches are placed at some time after the start, so there is a new change for each look.
        probes += 1;
        fs::write(mirror.source(format!("probe {probes}")), "probe")
            .expect("the source can be written to");
        pause(Duration::from_millis(20)); // interval between probes
        (1..=probes).any(|probe| mirror.replica(format!("probe {probe}")).exists())
    });
    assert!(
        mirror.replica("extra").exists(),
        "a file was deleted that no change was about"
    );
    assert!(
        !mirror.replica("there before").exists(),
        "a file was sent that has not changed"
    );
    mirror.stop();
    Ok(())
}

/// Runs a mirror that has never compared anything, until a first change has arrived.
fn never_compared(mut mirror: Mirror) -> io::Result<Mirror> {
    fs::write(mirror.source("goes"), "unchanged")?;
    fs::write(mirror.replica("goes"), "unchanged")?;
    fs::write(mirror.replica("extra"), "extra")?;
    mirror.run_with(&["--initial", "no"])?;
    wait_until(SOON, "everything is watched", || {
        mirror.log().contains("watching")
    });
    fs::write(mirror.source("changed"), "changed")?;
    wait_until(SOON, "a change arrives", || {
        mirror.replica("changed").exists()
    });
    Ok(mirror)
}

/// Where nothing can be deleted by name, all that is missing in a directory goes otherwise.
#[test]
fn before_the_first_comparison_a_removal_takes_nothing_else_along() -> io::Result<()> {
    let mut with_rules = Mirror::prepare()?;
    with_rules.config.params = "-a --exclude=*.nothing".into();
    let refusing =
        Mirror::prepare_with(|module| module.line("refuse options = delete-missing-args"))?;
    for mirror in [with_rules, refusing] {
        let mut mirror = never_compared(mirror)?;
        fs::remove_file(mirror.source("goes"))?;
        wait_until(SOON, "it goes", || !mirror.replica("goes").exists());
        mirror.stop();
        assert!(mirror.replica("extra").exists(), "what nobody removed");
    }
    Ok(())
}

#[test]
fn before_the_first_comparison_a_file_that_was_cut_off_takes_nothing_along() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.params = "-a --bwlimit=20m".into();
    let mut mirror = never_compared(mirror)?;
    fs::write(mirror.source("big"), vec![b'x'; 16 << 20])?;
    wait_until(SOON, "it is half written", || {
        let entries = fs::read_dir(mirror.replica("")).into_iter().flatten();
        let mut names = entries.flatten().map(|entry| entry.file_name());
        names.any(|name| name.as_encoded_bytes().starts_with(b".big."))
    });
    mirror.daemon.stop();
    mirror.daemon.start()?;
    wait_until(AFTER_BACK_OFF, "it arrives", || {
        mirror.replica("big").exists()
    });
    stays(A_WHILE, "what was there before stays", || {
        mirror.replica("extra").exists()
    });
    mirror.stop();
    Ok(())
}

/// The configuration of the tutorial most users began with, but for paths, address and port: every element of the
/// file that came with the original, a password, and `-artuz`.
#[test]
fn the_configuration_of_the_old_tutorial_mirrors_with_its_password() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let module = Module::new("nfsbackup", &mirror.replica("")).secret("rsync_backup", "oldboy");
    mirror.daemon.set_modules(&[module])?;
    let password_file = mirror.at("rsync.password");
    write_private(&password_file, "oldboy\n")?;
    let text = format!(
        r#"<?xml version="1.0" encoding="ISO-8859-1"?>
<head version="2.5">
    <host hostip="localhost" port="8008"></host>
    <debug start="false"/>
    <fileSystem xfs="false"/>
    <filter start="false">
        <exclude expression="(.*)\.svn"></exclude>
        <exclude expression="(.*)\.gz"></exclude>
        <exclude expression="^info/*"></exclude>
        <exclude expression="^static/*"></exclude>
    </filter>
    <inotify>
        <delete start="true"/>
        <createFolder start="true"/>
        <createFile start="false"/>
        <closeWrite start="true"/>
        <moveFrom start="true"/>
        <moveTo start="true"/>
        <attrib start="false"/>
        <modify start="false"/>
    </inotify>
    <sersync>
        <localpath watch="{source}">
            <remote ip="127.0.0.1" name="nfsbackup"/>
            <!--<remote ip="192.168.8.39" name="tongbu"/>-->
        </localpath>
        <rsync>
            <commonParams params="-artuz"/>
            <auth start="true" users="rsync_backup" passwordfile="{password_file}"/>
            <userDefinedPort start="true" port="{port}"/>
            <timeout start="true" time="100"/>
            <ssh start="false"/>
        </rsync>
        <failLog path="{fail_log}" timeToExecute="60"/>
        <crontab start="false" schedule="600">
            <crontabfilter start="false">
                <exclude expression="*.php"></exclude>
                <exclude expression="info/*"></exclude>
            </crontabfilter>
        </crontab>
        <plugin start="false" name="command"/>
    </sersync>
    <plugin name="command">
        <param prefix="/bin/sh" suffix="" ignoreError="true"/>
        <filter start="false">
            <include expression="(.*)\.php"/>
            <include expression="(.*)\.sh"/>
        </filter>
    </plugin>
    <plugin name="socket">
        <localpath watch="/opt/tongbu">
            <deshost ip="192.168.138.20" port="8009"/>
        </localpath>
    </plugin>
    <plugin name="refreshCDN">
        <localpath watch="/data0/htdocs/cms.xoyo.com/site/">
            <cdninfo domainname="ccms.chinacache.com" port="80" username="xxxx" passwd="xxxx"/>
            <sendurl base="http://pic.xoyo.com/cms"/>
            <regexurl regex="false" match="cms.xoyo.com/site([/a-zA-Z0-9]*).xoyo.com/images"/>
        </localpath>
    </plugin>
</head>
"#,
        source = mirror.source("").display(),
        password_file = password_file.display(),
        port = mirror.daemon.port(),
        fail_log = mirror.at("rsync_fail_log.sh").display(),
    );
    let file = mirror.at("tutorial.xml");
    fs::write(&file, text)?;
    grow(&mirror.source(""), 10, 10, 100)?;
    let sersync = Sersync::run(&file, &mirror.at("state"), &mirror.log_file(), &[])?;
    wait_in_sync(&mirror.source(""), &mirror.replica(""), SOON);
    fs::write(mirror.source("1.txt"), "a change")?;
    fs::remove_dir_all(mirror.source("d00003"))?;
    wait_in_sync(&mirror.source(""), &mirror.replica(""), SOON);
    sersync.stop();
    assert!(
        !mirror.log().contains("oldboy"),
        "the password is in the log"
    );
    Ok(())
}

#[test]
fn the_mirror_command_needs_no_configuration() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let second = mirror.at("second");
    fs::create_dir(&second)?;
    grow(&mirror.source(""), 5, 5, 100)?;
    let mut command = Sersync::command();
    command
        .arg("mirror")
        .arg(mirror.source(""))
        .arg(mirror.replica(""))
        .arg(&second);
    command.env("STATE_DIRECTORY", mirror.at("state"));
    let sersync = Sersync::spawn(command, &mirror.log_file())?;
    for replica in [mirror.replica(""), second.clone()] {
        wait_in_sync(&mirror.source(""), &replica, SOON);
    }
    fs::write(mirror.source("later"), "a change")?;
    fs::remove_dir_all(mirror.source("d00002"))?;
    for replica in [mirror.replica(""), second] {
        wait_in_sync(&mirror.source(""), &replica, SOON);
    }
    sersync.stop();
    Ok(())
}

#[test]
fn the_mirror_command_takes_a_daemon_and_a_source_with_any_name() -> io::Result<()> {
    let mirror = Mirror::prepare()?;
    let source = mirror.at(names::name(b"- an odd \"name\" `with` $all\xff"));
    fs::rename(mirror.source(""), &source)?;
    let target = format!("rsync://127.0.0.1:{}/{MODULE}", mirror.daemon.port());
    let mut command = Sersync::command();
    command.arg("mirror").arg(&source).arg(target);
    command.env("STATE_DIRECTORY", mirror.at("state"));
    let sersync = Sersync::spawn(command, &mirror.log_file())?;
    wait_in_sync(&source, &mirror.replica(""), SOON);
    fs::write(source.join("later"), "a change")?;
    wait_in_sync(&source, &mirror.replica(""), SOON);
    sersync.stop();
    Ok(())
}

#[test]
fn a_daemon_and_a_local_directory_are_kept_equal_together() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let local = mirror.at("local copy & more");
    fs::create_dir(&local)?;
    mirror.config.mirrors[0]
        .remotes
        .push(Remote::Local(local.clone()));
    grow(&mirror.source(""), 5, 5, 100)?;
    mirror.run()?;
    mirror.in_sync();
    wait_in_sync(&mirror.source(""), &local, SOON);
    fs::write(mirror.source("later"), "a change")?;
    fs::remove_file(mirror.source("d00001/f0001"))?;
    mirror.in_sync();
    wait_in_sync(&mirror.source(""), &local, SOON);
    mirror.finish()
}

#[test]
fn several_sources_of_one_file_go_their_own_ways() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let (source, replica) = (
        mirror.at("\u{7b2c}\u{4e8c} source"),
        mirror.at("second replica"),
    );
    fs::create_dir(&source)?;
    fs::create_dir(&replica)?;
    fs::write(source.join(KEEP), "kept, too")?;
    let modules = [
        Module::new(MODULE, &mirror.replica("")),
        Module::new("second", &replica),
    ];
    mirror.daemon.set_modules(&modules)?;
    let second = Localpath {
        watch: source.clone(),
        remotes: vec![Remote::module("second")],
    };
    mirror.config.mirrors.push(second);
    mirror.run()?;
    mirror.in_sync();
    wait_in_sync(&source, &replica, SOON);
    fs::write(mirror.source("first"), "of the first")?;
    fs::write(source.join("second"), "of the second")?;
    mirror.in_sync();
    wait_in_sync(&source, &replica, SOON);
    assert!(
        !differences(&source, &mirror.replica(""))?.is_empty(),
        "both went to one replica"
    );
    mirror.finish()
}

/// Nothing but sersync's own connections may be counted, or the numbers of runs below mean nothing.
#[test]
fn a_first_push_is_few_connections() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    let quiet = RsyncDaemon::start_new(&[])?;
    assert_eq!(
        quiet.connections(),
        0,
        "waiting for a daemon must not connect to it"
    );
    grow(&mirror.source(""), 100, 20, 100)?;
    mirror.run()?;
    mirror.in_sync();
    let connections = mirror.daemon.connections();
    println!("{connections} connections for a first push of 2 000 files");
    assert!(connections <= 10, "{connections} connections for one tree");
    mirror.finish()
}

#[test]
fn how_far_times_may_differ_is_for_the_params_to_say() -> io::Result<()> {
    let mut mirror = Mirror::prepare()?;
    mirror.config.params = "-a --modify-window=1".to_owned();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_001);
    for (path, content, time) in [
        (mirror.source("near"), "here", time),
        (
            mirror.replica("near"),
            "even",
            time - Duration::from_secs(1),
        ),
        (mirror.source("far"), "here", time),
        (mirror.replica("far"), "even", time - Duration::from_secs(2)),
    ] {
        fs::write(&path, content)?;
        File::options()
            .write(true)
            .open(&path)?
            .set_times(FileTimes::new().set_modified(time))?;
    }
    mirror.run()?;
    mirror.is_known();
    assert_eq!(fs::read(mirror.replica("far"))?, b"here");
    assert_eq!(
        fs::read(mirror.replica("near"))?,
        b"even",
        "as the params say"
    );
    mirror.stop();
    Ok(())
}
