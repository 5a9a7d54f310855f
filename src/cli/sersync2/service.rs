//! `sersync2 -d` where systemd runs the machine: the same configuration as a transient service.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::{Arguments, say};
use crate::cli::exit;
use crate::cli::run::name_of;
use crate::dbus::BusAddress;
use crate::dbus::units::{TransientService, UnitError, Units};

/// Files of one name in as many directories, each with a service of its own.
const MOST_NAMESAKES: usize = 100;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
enum Started {
    Now(TransientService),
    Before(TransientService),
}

/// Starts the service and says how to follow it; one that runs already is left as it is.
pub fn start(arguments: &Arguments, config: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let plan = Plan::new(arguments, config);
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
        "it is gone after a reboot; to have it at every start, let /etc/sersync/{name}.xml be its file: systemctl enable --now sersync@{name}"
    ));
}

fn instance_of(unit: &str) -> &str {
    let name = unit.strip_prefix("sersync2-").unwrap_or(unit);
    name.strip_suffix(".service").unwrap_or(name)
}

/// What the service is to be, but for its name, which others may have.
struct Plan<'a> {
    arguments: &'a Arguments,
    program: String,
    config: String,
    name: String,
}

impl<'a> Plan<'a> {
    fn new(arguments: &'a Arguments, config: &Path) -> Result<Self, String> {
        let program = std::env::current_exe();
        let program = program
            .map_err(|error: io::Error| format!("failed to find its own program: {error}"))?;
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
            match units.running(&service.unit).await? {
                None => {
                    units.start(&service).await?;
                    return Ok(Started::Now(service));
                }
                Some(description) if description == service.description => {
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
            "run",
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
            directory: format!("sersync/{name}"),
            command: words(&command),
            reload: words(&[&self.program, "reload", "--bus", "system", &name]),
        }
    }
}
