//! `make demo`: a tree is changed and mirrored in front of the user, each change with the time it took to arrive.
//!
//! Everything is real and private: the built `sersync`, a `confxml.xml` in the form of the old tutorials, and an rsync
//! daemon on the loopback interface that asks for a password. All of it is below one temporary directory. At the end
//! both daemons are stopped and the directory is removed, also after an error or Ctrl-C; with `--keep` they stay.
//!
//! The time shown runs from the return of the last system call of a change (`close`, `rename`, `unlink`) to the moment
//! the receiver's tree shows it, seen by polling five thousand times a second.

mod compare;
mod confxml;
mod pace;
mod receiver;
mod screen;
mod service;
mod stage;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use compare::Expected;
use stage::Stage;

/// Shows sersync at work: one source, one receiver behind an rsync daemon, a dozen changes.
#[derive(Parser)]
struct Options {
    /// Leave everything running at the end, to play with.
    #[arg(long)]
    keep: bool,
    /// The program to show; the one built beside this example if left out.
    #[arg(long, value_name = "PROGRAM")]
    sersync: Option<PathBuf>,
}

/// Between two changes: long enough to read the line, and for the mirror to come to rest.
const BREATH: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    pace::watch_for_interrupts()?;
    let program = match &options.sersync {
        Some(program) => program.clone(),
        None => built_beside_this_example()?,
    };
    let mut stage = Stage::set(program)?;
    let result = play(&mut stage);
    if let Err(error) = result {
        if error.kind() != io::ErrorKind::Interrupted {
            screen::print_end_of(&stage.log());
        }
        return Err(error);
    }
    if options.keep {
        stage.keep_running();
        Ok(())
    } else {
        stage.clear()
    }
}

/// The changes, in the order a day would bring them.
fn play(stage: &mut Stage) -> io::Result<()> {
    let source = stage.source();
    stage.introduce();

    fill(&source)?;
    stage.start_sersync("sersync starts: first push of 13 files")?;
    let note = source.join("docs/note.txt");
    pause()?;

    fs::write(&note, "milk\n")?;
    stage.show(
        "create     docs/note.txt",
        &["docs/note.txt"],
        Expected::Alike,
    )?;
    fs::OpenOptions::new()
        .append(true)
        .open(&note)?
        .write_all(b"bread\n")?;
    stage.show(
        "edit       docs/note.txt",
        &["docs/note.txt"],
        Expected::Alike,
    )?;
    fs::rename(&note, source.join("docs/list.txt"))?;
    stage.show_rename(
        "rename     docs/note.txt to list.txt",
        "docs/note.txt",
        "docs/list.txt",
    )?;
    fs::remove_file(source.join("docs/list.txt"))?;
    stage.show(
        "delete     docs/list.txt",
        &["docs/list.txt"],
        Expected::Gone,
    )?;
    let odd = "docs/a `b` $(c) 'd' \"e\" #f\ng";
    fs::write(
        source.join(odd),
        "a name with blanks, quotes, backquotes and a newline\n",
    )?;
    stage.show(
        "create     docs/a `b` $(c) 'd' \"e\" #f\\ng",
        &[odd],
        Expected::Alike,
    )?;

    let photos = write_many(&source, "photos", 1_000, "a photo")?;
    stage.show("create     photos/, 1 000 files", &photos, Expected::Alike)?;
    fs::rename(source.join("photos"), source.join("album"))?;
    stage.show_rename("rename     photos/ to album/", "photos", "album")?;
    fs::remove_dir_all(source.join("album"))?;
    stage.show("rm -rf     album/", &["album"], Expected::Gone)?;

    stage.stop_receiver();
    let mail = write_many(&source, "mail", 200, "a letter")?;
    pause()?;
    stage.start_receiver()?;
    stage.show(
        "receiver was down while 200 files came",
        &mail,
        Expected::Alike,
    )?;

    stage.stop_sersync()?;
    write_many(&source, "mail", 200, "another letter")?;
    fs::remove_file(source.join("www/news.html"))?;
    stage.start_sersync("sersync was stopped while 200 changed")?;

    stage.prove()
}

/// A small tree to begin with.
fn fill(source: &Path) -> io::Result<()> {
    for (directory, files) in [
        (
            "docs",
            ["charter.txt", "minutes.txt", "budget.csv", "plan.txt"].as_slice(),
        ),
        (
            "www",
            &[
                "index.html",
                "news.html",
                "contact.html",
                "robots.txt",
                ".htaccess",
            ],
        ),
        ("www/css", &["site.css", "print.css"]),
        ("conf", &["app.ini", "users.ini"]),
    ] {
        fs::create_dir_all(source.join(directory))?;
        for file in files {
            let path = source.join(directory).join(file);
            fs::write(path, format!("this is {file}\n").repeat(20))?;
        }
    }
    Ok(())
}

/// Writes `count` files into `directory`; gives their paths.
fn write_many(
    source: &Path,
    directory: &str,
    count: u32,
    content: &str,
) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(source.join(directory))?;
    (0..count)
        .map(|number| {
            let path = Path::new(directory).join(format!("{number:04}.txt"));
            fs::write(source.join(&path), format!("{content}, number {number}\n"))?;
            Ok(path)
        })
        .collect()
}

fn pause() -> io::Result<()> {
    pace::pause(BREATH)
}

/// `target/release/sersync`, seen from `target/release/examples/demo`.
fn built_beside_this_example() -> io::Result<PathBuf> {
    let example = std::env::current_exe()?;
    let program = example
        .ancestors()
        .nth(2)
        .map(|directory| directory.join("sersync"));
    program.filter(|program| program.is_file()).ok_or_else(|| {
        io::Error::other(
            "no `sersync` is built beside this example; build it, or name one with --sersync",
        )
    })
}
