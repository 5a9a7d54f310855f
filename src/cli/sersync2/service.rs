//! `sersync2 -d` where systemd runs the machine: the same configuration as a transient service.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{Arguments, say};
use crate::cli::exit;
use crate::cli::run::name_of;
use crate::dbus::BusAddress;
use crate::dbus::units::{FoundUnit, TransientService, UnitError, Units};

/// The first word of the command lines of the service, which are those of `sersync` whatever the program is called.
pub const COMMANDS: [&str; 2] = [RUN, RELOAD];
const RUN: &str = "run";
const RELOAD: &str = "reload";

/// Files of one name in as many directories, each with a service of its own.
const MOST_NAMESAKES: usize = 100;
/// A signal that the service was sent a moment ago is known to systemd within some milliseconds; what runs on after
/// this was sent none.
const UNTIL_A_SIGNAL_IS_TOLD: Duration = Duration::from_secs(1);

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
enum Started {
    Now(TransientService),
    Before(TransientService),
}

/// Starts the service and says how to follow it; one that runs already is left as it is.
/// `called` is the name by which the program was.
pub fn start(called: &OsStr, arguments: &Arguments, config: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let plan = Plan::new(called, arguments, config);
    let started = match (runtime, plan) {
        (Ok(runtime), Ok(plan)) => runtime.block_on(plan.carry_out()),
        (Err(error), _) => return fail(exit::FAILED, &format!("failed to start: {error}")),
        (_, Err(message)) => return fail(exit::FAILED, &message),
    };
    match started {
        Ok(Started::Now(service)) => {
            tell(&service, "has been started");
            ExitCode::SUCCESS
        }
        Ok(Started::Before(service)) => {
            tell(&service, "is running already and goes on as it was started");
            let unit = &service.unit;
            say(&format!(
                "a file that has changed is read by: systemctl reload {unit} (or systemctl restart {unit}); other options are taken after a stop"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = match error {
                UnitError::Unreachable(_) => exit::UNAVAILABLE,
                UnitError::NotAllowed(_) => exit::NOT_ALLOWED,
                UnitError::Refused(_) | UnitError::Failed(_) => exit::FAILED,
            };
            let hint = match error {
                UnitError::Failed(_) => {
                    format!("; journalctl -u 'sersync2-{}*' says why", name_of(config))
                }
                _ => String::new(),
            };
            fail(code, &format!("{error}{hint}"))
        }
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    crate::cli::complain(&format!("sersync2: {message}"));
    ExitCode::from(code)
}

fn tell(service: &TransientService, what: &str) {
    let TransientService { unit, .. } = service;
    let name = instance_of(unit);
    say(&format!("{unit} {what}; `systemctl stop {unit}` ends it"));
    say(&format!(
        "follow it with: systemctl status {unit}; journalctl -u {unit} -f; sersync status {name}"
    ));
    say(&format!(
        "it is gone after a reboot; to have it at every start, let /etc/sersync/{name}.xml be its file: systemctl stop {unit}; systemctl enable --now sersync@{name}"
    ));
}

fn instance_of(unit: &str) -> &str {
    let name = unit.strip_prefix("sersync2-").unwrap_or(unit);
    name.strip_suffix(".service").unwrap_or(name)
}

/// The path by which the program was called, a link or not: the process is called by its last part, and a `killall
/// sersync2` looks for that. `None` if it leads to another program by now.
fn path_of(called: &OsStr, program: &Path) -> Option<PathBuf> {
    let is = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino()));
    let itself = is(program).ok()?;
    let leads_here = |path: &PathBuf| is(path).is_ok_and(|file| file == itself);
    if called.as_bytes().contains(&b'/') {
        return std::path::absolute(called).ok().filter(leads_here);
    }
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).filter_map(|dir| std::path::absolute(dir).ok());
    places.map(|dir| dir.join(called)).find(leads_here)
}

/// What is there of a service, once it is neither stopping nor about to: an old script that restarts it says
/// `killall sersync2` and calls it again at once.
async fn found(units: &Units, service: &TransientService) -> Result<Option<FoundUnit>, UnitError> {
    let is_it = |found: &FoundUnit| found.description == service.description;
    let mut found = units.find(&service.unit).await?;
    if found
        .as_ref()
        .is_some_and(|it| is_it(it) && !it.is_stopping)
    {
        tokio::time::sleep(UNTIL_A_SIGNAL_IS_TOLD).await;
        found = units.find(&service.unit).await?;
    }
    if found.as_ref().is_some_and(|it| is_it(it) && it.is_stopping) {
        say(&format!(
            "{} is stopping; its end is waited for",
            service.unit
        ));
        found = units.wait_for_stop(&service.unit).await?;
    }
    Ok(found)
}

/// What the service is to be, but for its name, which others may have.
struct Plan<'a> {
    arguments: &'a Arguments,
    program: String,
    config: String,
    name: String,
}

impl<'a> Plan<'a> {
    fn new(called: &OsStr, arguments: &'a Arguments, config: &Path) -> Result<Self, String> {
        let program = std::env::current_exe();
        let program = program
            .map_err(|error: io::Error| format!("failed to find its own program: {error}"))?;
        let program = path_of(called, &program).unwrap_or(program);
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| {
                format!(
                    "{} is no text, as systemd wants the words of a command to be; rename it, or leave out -d",
                    path.display()
                )
            })
        };
        Ok(Self {
            arguments,
            program: text(&program)?,
            config: text(config)?,
            name: name_of(config),
        })
    }

    /// A second file of the same name has a second service.
    async fn carry_out(&self) -> Result<Started, UnitError> {
        let units = Units::connect(&BusAddress::System).await?;
        for number in 1..=MOST_NAMESAKES {
            let service = self.service(number);
            match found(&units, &service).await? {
                None => {
                    units.start(&service).await?;
                    return Ok(Started::Now(service));
                }
                Some(found) if found.description == service.description => {
                    return Ok(Started::Before(service));
                }
                Some(_) => {}
            }
        }
        Err(UnitError::Refused(format!(
            "{MOST_NAMESAKES} services for files of this name are running"
        )))
    }

    fn service(&self, number: usize) -> TransientService {
        let name = match number {
            1 => self.name.clone(),
            _ => format!("{}_{number}", self.name),
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let initial = if self.arguments.first_push {
            "yes"
        } else {
            "no"
        };
        let processes = self.arguments.processes.to_string();
        let mut command = vec![
            self.program.as_str(),
            RUN,
            "--config",
            &self.config,
            "--instance",
            &name,
            "--bus",
            "system",
            "--initial",
            initial,
            "--processes",
            &processes,
        ];
        if let Some(kind) = self.arguments.plugin {
            command.extend(["--only-plugin", kind.name()]);
        }
        TransientService {
            unit: format!("sersync2-{name}.service"),
            description: match self.arguments.plugin {
                Some(kind) => format!("The plugin {} as {} says", kind.name(), self.config),
                None => format!("Real-time mirroring as {} says", self.config),
            },
            journal_field: format!("SERSYNC_INSTANCE={name}"),
            identifier: "sersync2".into(),
            state_directory: format!("sersync/{name}"),
            // The unit `sersync@NAME` takes its own away when it ends, as it does at once while this one has the name.
            runtime_directory: format!("sersync2/{name}"),
            command: words(&command),
            reload: words(&[&self.program, RELOAD, "--bus", "system", &name]),
        }
    }
}
