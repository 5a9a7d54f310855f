//! A configuration without a file: `sersync mirror SOURCE TARGET…`.

use std::ffi::OsString;
use std::path::{Path, PathBuf, absolute};

use super::escape::Escaped;
use super::overlap::{self, Placed};
use super::problem::{At, ConfigError, Problems};
use super::remote::DEFAULT_TIMEOUT;
use super::validate::STOCK_RETRY_PERIOD;
use super::values::absolute_path;
use super::{Config, MirrorConfig, Params, RemoteConfig, Scan, Switches, Target};

/// rsync's options, where nobody gave any.
const PARAMS: &str = "-a";

/// There are no places in a command line.
const NOWHERE: At = At(0);

impl Config {
    /// The configuration of `sersync mirror SOURCE TARGET…`: everything is mirrored, modes and times included.
    ///
    /// A relative source is taken from the working directory. A target is an absolute path,
    /// `[user@]host::module[/path]`, `rsync://[user@]host[:port]/module[/path]`, `[user@]host:/path` or
    /// `ssh://[user@]host[:port]/path`. The password in `password_file`, relative or not, is for all the daemons among
    /// them.
    ///
    /// # Errors
    ///
    /// Every problem of the arguments at once.
    pub fn for_mirror(
        source: &Path,
        targets: &[OsString],
        password_file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut problems = Problems::in_command_line();
        let source = from_here(source)
            .ok_or_else(|| "is empty; write the directory to mirror".to_owned())
            .and_then(|source| absolute_path(&source))
            .map_err(|reason| problems.error(NOWHERE, format!("the source {reason}")))
            .ok();
        let mut targets = read_targets(targets, &mut problems);
        if let Some(file) = password_file {
            set_password_file(file, &mut targets, &mut problems);
        }
        report_overlaps(source.as_deref(), &targets, &mut problems);

        let findings = problems.finish();
        let Some(source) = source.filter(|_| !findings.has_errors) else {
            return Err(ConfigError::new(findings.problems));
        };
        let params = Params::check(PARAMS, false).params;
        let remotes = targets.into_iter().map(|target| RemoteConfig {
            target,
            params: params.clone(),
            timeout: DEFAULT_TIMEOUT,
            max_delete: None,
            backup: None,
        });
        let mirror = MirrorConfig {
            source,
            remotes: remotes.collect(),
            switches: Switches {
                attrib: true,
                ..Switches::default()
            },
            filter: None,
            scan: Scan::default(),
        };
        Ok(Self {
            mirrors: vec![mirror],
            debug: false,
            retry_period: STOCK_RETRY_PERIOD,
            fail_log_path: None,
            filter: None,
            crontab: None,
            plugins: Vec::new(),
            started_plugins: Vec::new(),
        })
    }
}

fn read_targets(targets: &[OsString], problems: &mut Problems<'_>) -> Vec<Target> {
    if targets.is_empty() {
        problems.error(
            NOWHERE,
            "no target; write an absolute path, host::module, rsync://host/module or host:/path",
        );
    }
    let mut read = Vec::new();
    for argument in targets {
        match Target::from_argument(argument) {
            Ok(target) => read.push(target),
            Err(reason) => {
                let shown = Escaped::path(Path::new(argument));
                problems.error(NOWHERE, format!("the target `{shown}` {reason}"));
            }
        }
    }
    read
}

/// From the working directory; `None` if it is empty.
fn from_here(path: &Path) -> Option<PathBuf> {
    absolute(path).ok()
}

/// Only a daemon asks for this password.
fn set_password_file(file: &Path, targets: &mut [Target], problems: &mut Problems<'_>) {
    let Some(file) = from_here(file) else {
        return problems.error(
            NOWHERE,
            "--password-file is empty; write the file with the password",
        );
    };
    let mut is_used = false;
    for target in targets.iter_mut() {
        if let Target::Daemon { password_file, .. } = target {
            *password_file = Some(file.clone());
            is_used = true;
        }
    }
    if !is_used && !targets.is_empty() {
        problems.error(
            NOWHERE,
            "--password-file is for the module of an rsync daemon, and no target is one; write rsync://USER@HOST/MODULE, or leave the option out: ssh has its own keys",
        );
    }
}

fn report_overlaps(source: Option<&Path>, targets: &[Target], problems: &mut Problems<'_>) {
    let sources: Vec<_> = source
        .map(|what| Placed { at: NOWHERE, what })
        .into_iter()
        .collect();
    let targets: Vec<_> = targets
        .iter()
        .map(|what| Placed { at: NOWHERE, what })
        .collect();
    overlap::check(&sources, &targets, problems);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_becomes_a_configuration() {
        let targets = ["/backup/data".into(), "u@host::m".into()];
        let config = Config::for_mirror(Path::new("/data/"), &targets, None).unwrap();
        let mirror = &config.mirrors[0];
        assert_eq!(mirror.source, Path::new("/data"));
        assert_eq!(mirror.remotes[1].target.to_string(), "u@host::m");
        assert_eq!(mirror.remotes[0].params.args(), ["-a"]);
        assert!(mirror.switches.attrib);
    }

    #[test]
    fn a_relative_source_is_taken_from_the_working_directory() {
        let config = Config::for_mirror(Path::new("./www/"), &["host::m".into()], None).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(config.mirrors[0].source, here.join("www"));
    }

    #[test]
    fn every_problem_of_a_command_line_comes_at_once() {
        let targets = ["data".into(), "root@host:x".into(), "/data/copy".into()];
        let error = Config::for_mirror(Path::new("/data"), &targets, None).unwrap_err();
        assert_eq!(error.problems().len(), 3, "{error}");
        let error = Config::for_mirror(Path::new("../data"), &[], None).unwrap_err();
        assert_eq!(error.problems().len(), 2, "{error}");
        assert!(Config::for_mirror(Path::new(""), &["host::m".into()], None).is_err());
    }

    #[test]
    fn a_password_is_for_the_daemons_alone() {
        let mirror = |targets: &[&str], file: &str| {
            let targets: Vec<OsString> = targets.iter().map(OsString::from).collect();
            Config::for_mirror(Path::new("/data"), &targets, Some(Path::new(file)))
        };
        let config = mirror(&["/backup", "rsync://u@host/m"], "secret").unwrap();
        let here = std::env::current_dir().unwrap();
        let Target::Daemon { password_file, .. } = &config.mirrors[0].remotes[1].target else {
            panic!("it is a daemon");
        };
        assert_eq!(
            password_file.as_deref(),
            Some(here.join("secret").as_path())
        );
        let error = mirror(&["/backup", "host:/m"], "/secret").unwrap_err();
        assert!(error.to_string().contains("no target is one"), "{error}");
        assert!(mirror(&["host::m"], "").is_err());
    }
}
