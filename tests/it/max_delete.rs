//! `maxDelete`: what would delete more at once waits for a person, in every form of deletion; all else goes on.

use std::fs;
use std::io;
use std::time::Duration;

use crate::bus::Bus;
use crate::guards::Disk;
use crate::harness::{AFTER_BACK_OFF, Mirror, grow, stays, wait_until};
use crate::outcomes::{remove_deep, too_deep};
use crate::rsync_daemon::Module;
use crate::tree::Tree;

/// How long a deletion that must not come is waited for.
const WATCHED: Duration = Duration::from_secs(2);
/// The limit of these tests.
const LIMIT: &str = "<maxDelete start=\"true\" count=\"10\"/>";

/// A running mirror with a limit, on a bus.
struct Limited {
    mirror: Mirror,
    bus: Bus,
}

impl Limited {
    /// Three directories of 20 files, and some files beside them.
    fn start() -> io::Result<Self> {
        Self::start_with(|module| module, |_| {})
    }

    fn start_with(
        module: impl FnOnce(Module) -> Module,
        change: impl FnOnce(&mut Mirror),
    ) -> io::Result<Self> {
        let mut mirror = Mirror::prepare_with(module)?;
        mirror.config.rsync = LIMIT.into();
        change(&mut mirror);
        grow(&mirror.source(""), 3, 20, 10)?;
        for number in 0..20 {
            fs::write(mirror.source(format!("single {number}")), "x")?;
        }
        let mut limited = Self {
            mirror,
            bus: Bus::start()?,
        };
        limited.run()?;
        limited.mirror.in_sync_within(AFTER_BACK_OFF);
        // What goes during a first push with a filter is taken for what was there before it.
        limited.mirror.is_known();
        Ok(limited)
    }

    fn run(&mut self) -> io::Result<()> {
        let address = self.bus.address();
        self.mirror.run_with(&["--bus", &address])
    }

    #[track_caller]
    fn ask(&self, arguments: &[&str]) -> String {
        let said = self.bus.ask(arguments).expect("the program runs");
        assert_eq!(said.code, 0, "{arguments:?}");
        said.out
    }

    /// Deletions are held with this number, the replica keeps all it had, and a new file is sent all the same.
    #[track_caller]
    fn is_held_with(&mut self, count: u64, names: usize) {
        let words = format!("{count} entries would be deleted at once, and `maxDelete` allows 10");
        self.mirror.sersync().wait_for_problem(&["held", &words]);
        let status = self.ask(&["status", "--json"]);
        assert!(status.contains(r#""state":"held""#), "{status}");
        assert!(status.contains(&words), "{status}");
        let news = self.mirror.source(format!("sent while held {count}"));
        fs::write(&news, "x").expect("written");
        let replica = self.mirror.replica("");
        let arrived = replica.join(news.file_name().expect("a name"));
        wait_until(Duration::from_secs(15), "files are sent", || {
            arrived.exists()
        });
        stays(WATCHED, "nothing is deleted", || {
            Tree::read(&replica).is_ok_and(|tree| tree.len() > names)
        });
    }

    fn is_held(&self) -> bool {
        self.ask(&["status", "--json"])
            .contains(r#""state":"held""#)
    }

    #[track_caller]
    fn accept(&self, count: u64) {
        let said = self.ask(&["resume", "--accept-deletions"]);
        assert!(
            said.contains(&format!("{count} entries are deleted")),
            "{said}"
        );
    }

    /// What was asked for again in the moment of the acceptance waits for the next time.
    #[track_caller]
    fn finish(mut self) -> io::Result<()> {
        self.mirror.in_sync_within(AFTER_BACK_OFF);
        self.mirror.finish()
    }

    fn names(&self) -> usize {
        Tree::read(&self.mirror.replica("")).map_or(0, |tree| tree.len())
    }
}

#[test]
fn a_directory_with_more_than_max_delete_waits_until_a_person_accepts_it_once() -> io::Result<()> {
    let limited = Limited::start()?;
    let names = limited.names();
    fs::remove_dir_all(limited.mirror.source("d00001"))?;
    // The directory, or some of its files before it was gone.
    wait_until(Duration::from_secs(15), "it is held", || {
        limited.mirror.log().contains("would be deleted at once")
    });
    let kept = limited.names();
    assert!(kept + 10 >= names, "{kept} of {names}");
    let replica = limited.mirror.replica("");
    stays(WATCHED, "nothing more is deleted", || {
        Tree::read(&replica).is_ok_and(|tree| tree.len() >= kept)
    });
    let said = limited.ask(&["resume", "--accept-deletions"]);
    // A slice may be a single entry.
    let words = ["entries are deleted", "entry is deleted"];
    assert!(words.iter().any(|words| said.contains(words)), "{said}");
    // What arrived in slices was counted in slices: the rest may need a second word.
    wait_until(Duration::from_secs(30), "it is deleted", || {
        if limited.is_held() {
            limited.ask(&["resume", "--accept-deletions"]);
        }
        limited.mirror.log().contains("is no longer held")
    });
    assert!(!limited.mirror.replica("d00001").exists());
    // The next time is another one.
    let said = limited
        .mirror
        .log()
        .matches("would be deleted at once")
        .count();
    fs::rename(
        limited.mirror.source("d00002"),
        limited.mirror.outside("d00002"),
    )?;
    wait_until(Duration::from_secs(15), "it is held again", || {
        limited
            .mirror
            .log()
            .matches("would be deleted at once")
            .count()
            > said
    });
    assert!(limited.mirror.replica("d00002/f0019").exists());
    limited.accept(21);
    limited.finish()
}

#[test]
fn a_few_deletions_go_at_once_and_many_in_a_row_are_held() -> io::Result<()> {
    let limited = Limited::start()?;
    let gone = |number: usize| !limited.mirror.replica(format!("single {number}")).exists();
    for number in 0..10 {
        fs::remove_file(limited.mirror.source(format!("single {number}")))?;
        wait_until(Duration::from_secs(15), "it is deleted", || gone(number));
    }
    fs::remove_file(limited.mirror.source("single 10"))?;
    wait_until(Duration::from_secs(15), "the eleventh is held", || {
        limited
            .mirror
            .log()
            .contains("1 entry would be deleted at once")
    });
    stays(WATCHED, "it is not deleted", || !gone(10));
    Ok(())
}

#[test]
fn what_is_put_back_releases_the_rest() -> io::Result<()> {
    let mut limited = Limited::start()?;
    let away = limited.mirror.outside("d");
    fs::rename(limited.mirror.source("d00001"), &away)?;
    let names = limited.names();
    limited.is_held_with(21, names);
    fs::rename(&away, limited.mirror.source("d00001"))?;
    fs::remove_file(limited.mirror.source("single 3"))?;
    wait_until(Duration::from_secs(60), "it goes on by itself", || {
        limited.mirror.log().contains("is no longer held")
    });
    limited.finish()
}

#[test]
fn a_first_push_that_would_delete_more_sends_everything_and_deletes_nothing() -> io::Result<()> {
    let mut limited = Limited::start()?;
    limited.mirror.stop();
    grow(&limited.mirror.replica("old"), 2, 10, 10)?;
    fs::write(limited.mirror.source("changed while away"), "x")?;
    let names = limited.names();
    limited.run()?;
    limited.is_held_with(23, names);
    assert!(limited.mirror.replica("changed while away").exists());
    limited.accept(23);
    limited.finish()
}

#[test]
fn a_receiver_that_does_not_take_names_is_guarded_alike() -> io::Result<()> {
    let refuse = |module: Module| module.line("refuse options = delete-missing-args");
    let mut limited = Limited::start_with(refuse, |_| {})?;
    let names = limited.names();
    fs::rename(
        limited.mirror.source("d00001"),
        limited.mirror.outside("d00001"),
    )?;
    limited.is_held_with(21, names);
    limited.accept(21);
    limited.finish()
}

#[test]
fn with_a_filter_deletions_are_guarded_alike() -> io::Result<()> {
    let mut limited = Limited::start_with(
        |module| module,
        |mirror| mirror.config.excludes = vec![r"(.*)\.tmp"],
    )?;
    let names = limited.names();
    fs::rename(
        limited.mirror.source("d00001"),
        limited.mirror.outside("d00001"),
    )?;
    limited.is_held_with(21, names);
    limited.accept(21);
    limited.mirror.in_sync_within(AFTER_BACK_OFF);
    limited.mirror.stop();
    // And in a comparison of everything.
    grow(&limited.mirror.replica("old"), 2, 10, 10)?;
    let names = limited.names();
    limited.run()?;
    limited.is_held_with(23, names);
    limited.accept(23);
    limited.finish()
}

#[test]
fn nothing_to_accept_is_said() -> io::Result<()> {
    let limited = Limited::start()?;
    let said = limited.ask(&["resume", "--accept-deletions"]);
    assert!(said.contains("no deletions are held"), "{said}");
    Ok(())
}

#[test]
fn a_directory_that_gives_way_to_a_file_counts_with_its_content() -> io::Result<()> {
    let mut limited = Limited::start()?;
    let give_way = |limited: &Limited, name: &str| -> io::Result<()> {
        fs::rename(limited.mirror.source(name), limited.mirror.outside(name))?;
        fs::write(limited.mirror.source(name), "a file")
    };
    limited.ask(&["pause"]);
    give_way(&limited, "d00001")?;
    fs::write(limited.mirror.source("beside"), "x")?;
    limited.ask(&["resume"]);
    let names = limited.names();
    limited.is_held_with(20, names);
    assert!(limited.mirror.replica("beside").exists());
    limited.accept(20);
    fs::write(limited.mirror.source("d00002/one more"), "x")?;
    limited.mirror.in_sync_within(AFTER_BACK_OFF);
    // And found by a comparison of everything.
    limited.mirror.stop();
    give_way(&limited, "d00002")?;
    let names = limited.names();
    limited.run()?;
    limited.is_held_with(21, names);
    limited.accept(21);
    limited.finish()
}

#[test]
fn a_first_contact_is_held_before_the_limit_is() -> io::Result<()> {
    let mut limited = Limited {
        mirror: Mirror::prepare()?,
        bus: Bus::start()?,
    };
    limited.mirror.config.rsync = LIMIT.into();
    fs::write(limited.mirror.source("mine"), "x")?;
    grow(&limited.mirror.replica("theirs"), 10, 12, 10)?;
    let names = limited.names();
    limited.run()?;
    limited
        .mirror
        .sersync()
        .wait_for_problem(&["held", "first comparison would remove 131 of 131"]);
    let replica = limited.mirror.replica("");
    stays(WATCHED, "nothing is sent or deleted", || {
        Tree::read(&replica).is_ok_and(|tree| tree.len() == names)
    });
    limited.ask(&["resume", "--accept-source"]);
    limited.is_held_with(131, names);
    limited.accept(131);
    limited.mirror.in_sync_within(AFTER_BACK_OFF);
    limited.finish()
}

#[test]
fn what_a_tree_that_was_taken_apart_owes_is_guarded_alike() -> io::Result<()> {
    let mut limited = Limited::start()?;
    limited.mirror.stop();
    too_deep(&limited.mirror.source("deep"))?;
    grow(&limited.mirror.replica("old"), 2, 10, 10)?;
    let names = Tree::read(&limited.mirror.replica("old"))?.len();
    limited.run()?;
    let words = "23 entries would be deleted at once";
    limited.mirror.sersync().wait_for_problem(&["held", words]);
    let old = limited.mirror.replica("old");
    stays(WATCHED, "nothing is deleted", || {
        Tree::read(&old).is_ok_and(|tree| tree.len() == names)
    });
    fs::write(limited.mirror.source("d00001/later"), "x")?;
    wait_until(AFTER_BACK_OFF, "files are sent", || {
        limited.mirror.replica("d00001/later").exists()
    });
    limited.accept(23);
    wait_until(AFTER_BACK_OFF, "what was accepted goes", || !old.exists());
    // More at once than is allowed, whether or not the other was dealt with by then, unless it arrives in slices.
    remove_deep(&limited.mirror.source("deep"));
    let deep = limited.mirror.replica("deep");
    wait_until(AFTER_BACK_OFF, "it goes", || {
        if limited.is_held() {
            limited.ask(&["resume", "--accept-deletions"]);
        }
        !deep.exists()
    });
    limited.mirror.in_sync_within(AFTER_BACK_OFF);
    limited.finish()
}

#[test]
fn what_is_removed_on_a_volume_is_guarded_alike() -> io::Result<()> {
    let mut limited = Limited::start()?;
    limited.mirror.stop();
    let place = limited.mirror.source("data/vol");
    let Some(disk) = Disk::new(&limited.mirror, "disk", place)? else {
        return Ok(());
    };
    disk.bind();
    grow(&limited.mirror.source("data/vol"), 2, 20, 10)?;
    grow(&limited.mirror.replica("data/vol/old"), 2, 10, 10)?;
    let names = limited.names();
    limited.run()?;
    limited.is_held_with(23, names);
    limited.accept(23);
    limited.mirror.in_sync_within(AFTER_BACK_OFF);
    // And of what goes while it runs.
    let gone = limited.mirror.source("data/vol/d00001");
    let names = limited.names();
    fs::rename(gone, limited.mirror.source("data/vol/moved"))?;
    limited.is_held_with(21, names);
    limited.accept(21);
    limited.mirror.in_sync_within(AFTER_BACK_OFF);
    limited.finish()
}
