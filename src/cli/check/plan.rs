//! `sersync check --plan`: what the first push would send and delete, without doing it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::cli::control::json::with_path;
use crate::cli::control::text::{name, sentence};
use crate::cli::{PlanArgs, complain, exit};
use crate::config::{Config, MirrorConfig, RemoteConfig};
use crate::control::counted;
use crate::fail_log::FailLog;
use crate::lane::context::{Context, filtered};
use crate::lane::guard::{Beginning, Guard, Memory};
use crate::lane::places::Places;
use crate::lane::preview::{Listed, Preview};
use crate::links::LinkIndex;
use crate::path::SourceRoot;
use crate::rsync::{Program, find_program};
use crate::saved::Key;
use crate::saved::known::Known;
use crate::ssh;

/// Paths of each kind that are shown without `--all`.
const SHOWN: usize = 20;

/// Shows, for each target, what the first push would do. Exit status 0; 1 if that is not known of one; 78.
#[must_use]
pub fn run(file: &Path, how: &PlanArgs) -> ExitCode {
    super::show(file, false, |config, out| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(show(config, how, out))
    })
}

async fn show(config: &Config, how: &PlanArgs, out: &mut dyn Write) -> io::Result<ExitCode> {
    let Some(program) = find_program() else {
        complain("rsync was not found in PATH; install the package `rsync`");
        return Ok(ExitCode::from(exit::FAILED));
    };
    let sockets = ssh::Sockets::default();
    let most = if how.all { usize::MAX } else { SHOWN };
    let mut code = ExitCode::SUCCESS;
    for mirror in &config.mirrors {
        for remote in &mirror.remotes {
            let previewed = match SourceRoot::open(&mirror.source) {
                Ok(root) => {
                    let context = context(mirror, remote, &root, &program, &sockets);
                    Arc::new(context).preview(most).await
                }
                Err(error) => Err(format!("the source cannot be opened: {error}")),
            };
            if previewed.is_err() {
                code = ExitCode::from(exit::FAILED);
            }
            if how.json {
                writeln!(out, "{}", answer(mirror, remote, &previewed))?;
            } else {
                write_plan(mirror, remote, &previewed, how.all, out)?;
            }
        }
    }
    Ok(code)
}

fn context(
    mirror: &MirrorConfig,
    remote: &RemoteConfig,
    root: &SourceRoot,
    program: &Path,
    sockets: &ssh::Sockets,
) -> Context {
    let (remote, filter, hides) = filtered(remote, mirror.filter.as_ref());
    let one_file_system = remote.params.one_file_system();
    // What a running instance knows is its own: this is a first contact.
    let guard = Guard::new(Beginning {
        key: Key {
            source: mirror.source.clone(),
            target: remote.target.to_string(),
        },
        known: Known::default(),
        file: None,
        memory: Memory::default(),
        filter: filter.clone(),
        one_file_system,
        initial_push: true,
        accepted: false,
    });
    Context {
        source: mirror.source.clone(),
        identity: root.identity(),
        lasting: root.lasting(),
        guard: Arc::new(guard),
        removals: mirror.switches.removals(),
        links: Arc::new(LinkIndex::default()),
        // Nothing is sent, and whoever asks reads what he may read.
        program: Program::unconfined(program.to_path_buf()),
        ssh: ssh::Connection::to(&remote, sockets).map(Arc::new),
        remote,
        filter,
        hides,
        places: Places::new(1),
        fail_log: FailLog::new(None),
        stop: CancellationToken::new(),
        crowd: Arc::new(Notify::new()),
        progress: watch::Sender::new(100),
    }
}

fn write_plan(
    mirror: &MirrorConfig,
    remote: &RemoteConfig,
    previewed: &Result<Preview, String>,
    all: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let head = format!("{} -> {}", mirror.display_source(), remote.target);
    let preview = match previewed {
        Ok(preview) => preview,
        Err(cause) => {
            return writeln!(
                out,
                "{head}: nothing would be sent or deleted now: {}",
                sentence(cause)
            );
        }
    };
    writeln!(
        out,
        "{head}: would delete {}, send {} ({}) and change the attributes of {}",
        entries(preview.deleted.count),
        entries(preview.sent.count),
        counted(preview.bytes, "byte", "bytes"),
        preview.attributes,
    )?;
    for note in &preview.notes {
        writeln!(out, "note: {}", sentence(note))?;
    }
    // What is deleted does not come back, so it comes first.
    for (word, listed) in [("delete", &preview.deleted), ("send", &preview.sent)] {
        for path in &listed.paths {
            match path.as_bytes() {
                b"" => writeln!(out, "{word} .")?,
                path => writeln!(out, "{word} {}", name(path))?,
            }
        }
        let more = listed.count - listed.paths.len() as u64;
        if more > 0 && !all {
            writeln!(out, "{word}: {more} more; --all shows them")?;
        }
    }
    Ok(())
}

fn entries(count: u64) -> String {
    counted(count, "entry", "entries")
}

/// Keys are only ever added: `source` (a path), `target`, and `error`, or `delete`, `send`, `attributes`, `bytes`,
/// `notes`, `deletes` and `sends`: lists of `path`. A path that is not UTF-8 has its bytes beside it.
fn answer(
    mirror: &MirrorConfig,
    remote: &RemoteConfig,
    previewed: &Result<Preview, String>,
) -> Value {
    use std::os::unix::ffi::OsStrExt as _;
    let paths = |listed: &Listed| -> Vec<Value> {
        let paths = listed.paths.iter();
        paths
            .map(|path| with_path(json!({}), "path", path.as_bytes()))
            .collect()
    };
    let answer = match previewed {
        Err(cause) => json!({ "target": remote.target.to_string(), "error": cause }),
        Ok(preview) => json!({
            "target": remote.target.to_string(),
            "delete": preview.deleted.count,
            "send": preview.sent.count,
            "attributes": preview.attributes,
            "bytes": preview.bytes,
            "notes": preview.notes,
            "deletes": paths(&preview.deleted),
            "sends": paths(&preview.sent),
        }),
    };
    with_path(answer, "source", mirror.source.as_os_str().as_bytes())
}
