//! What is done to every tool, round by round.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;

use super::options::Options;
use super::pace;
use super::report::{self, Machine};
use super::results::Results;
use super::sshd::Sshd;
use super::tool::Kind;

mod changes;
mod idle;
mod remotes;
mod trees;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Single changes, 0.2 s apart.
    Single,
    /// The same over ssh.
    Ssh,
    /// 5 000 small files at once, then `rm -rf` of them.
    Storm,
    /// A log that grows 50 times a second.
    Append,
    /// Half of 20 000 directories removed.
    Prune,
    /// 20 000 files changed while the receiver is down.
    Outage,
    /// Three remotes, and a fourth one that is dead.
    FanOut,
    /// Nothing happens for a minute.
    Idle,
}

impl Scenario {
    /// In the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Single,
        Self::Ssh,
        Self::Storm,
        Self::Append,
        Self::Prune,
        Self::Outage,
        Self::FanOut,
        Self::Idle,
    ];

    /// The heading of its rows.
    pub fn title(self) -> &'static str {
        match self {
            Self::Single => "Single changes, 0.2 s apart",
            Self::Ssh => "Single changes over ssh",
            Self::Storm => "5 000 files of 1 KiB in 100 directories at once",
            Self::Append => "A file appended 50 times a second for 8 s",
            Self::Prune => "10 000 of 20 000 directories removed",
            Self::Outage => "Receiver down while 20 000 files change",
            Self::FanOut => "5 000 files to several remotes",
            Self::Idle => "Idle with 10 000 directories",
        }
    }

    /// Whether most of its time is waiting for minutes to pass.
    pub fn takes_minutes(self) -> bool {
        self == Self::Idle
    }

    /// Who of `tools` takes part, and who at the same time: all idle tools share one minute, as they disturb nobody.
    fn parties(self, tools: &[Kind]) -> Vec<Vec<Kind>> {
        let alone = tools.iter().map(|&tool| vec![tool]);
        match self {
            Self::Ssh if !Sshd::is_installed() => {
                eprintln!("sshd is not installed, so nothing goes over ssh");
                Vec::new()
            }
            Self::FanOut | Self::Ssh => alone.filter(|party| party == &[Kind::Sersync]).collect(),
            Self::Idle => vec![
                tools
                    .iter()
                    .copied()
                    .filter(|tool| tool.is_daemon())
                    .collect(),
            ],
            _ => alone.collect(),
        }
    }

    fn measure(self, party: &[Kind], results: &mut Results) -> io::Result<()> {
        let one = match self {
            Self::Idle => return idle::measure(party, results),
            Self::Single => changes::single,
            Self::Ssh => changes::over_ssh,
            Self::Storm => trees::storm,
            Self::Append => changes::append,
            Self::Prune => trees::prune,
            Self::Outage => remotes::outage,
            Self::FanOut => remotes::fan_out,
        };
        party.iter().try_for_each(|&tool| one(tool, results))
    }
}

impl fmt::Display for Scenario {
    /// The name by which `--only` knows it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        formatter.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Runs everything that `options` ask for and prints the report.
pub fn run_all(options: &Options) -> io::Result<()> {
    pace::watch_for_interrupts()?;
    let machine = Machine::look()?;
    let mut tools = options.tools.clone();
    tools.retain(|tool| {
        let is_installed = tool.is_installed();
        if !is_installed {
            eprintln!("{tool} is not installed and left out");
        }
        is_installed
    });
    eprintln!("{machine}");
    let mut results = Results::default();
    let mut failures = 0;
    for round in 1..=options.rounds {
        for &scenario in &options.scenarios {
            for party in scenario.parties(&tools) {
                let names: Vec<String> = party.iter().map(Kind::to_string).collect();
                let names = names.join(", ");
                eprint!(
                    "round {round} of {}: {scenario:<9}{names:<16}",
                    options.rounds
                );
                let start = Instant::now();
                match scenario.measure(&party, &mut results) {
                    Ok(()) => eprintln!("{:>8.1} s", start.elapsed().as_secs_f64()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                    // A tool that fails has no figure here; the others go on.
                    Err(error) => {
                        eprintln!(" failed: {error}");
                        failures += 1;
                    }
                }
            }
        }
    }
    report::publish(&machine, options, &tools, &results)?;
    if failures == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "{failures} measurements failed, see above"
        )))
    }
}

/// Writes `count` files with `content` to each of `directories` directories below `top`, telling `on_changed` of each.
fn write_files(
    source: &Path,
    top: &str,
    directories: usize,
    count: usize,
    content: &[u8],
    mut on_changed: impl FnMut() -> io::Result<()>,
) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::with_capacity(directories * count);
    for directory in 0..directories {
        let directory = Path::new(top).join(format!("d{directory:04}"));
        std::fs::create_dir_all(source.join(&directory))?;
        for file in 0..count {
            let path = directory.join(format!("f{file:04}"));
            std::fs::write(source.join(&path), content)?;
            on_changed()?;
            paths.push(path);
        }
    }
    Ok(paths)
}
