//! What is to be measured, how often, with which tools.

use clap::Parser;

use super::scenario::Scenario;
use super::tool::Kind;

/// Measures a plain rsync, lsyncd and sersync side by side.
#[derive(Parser)]
#[command(name = "side_by_side")]
struct Arguments {
    /// Rounds; the figures are medians over them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Leave out what takes minutes of waiting.
    #[arg(long)]
    quick: bool,
    /// Only these scenarios.
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Only these tools.
    #[arg(long, value_delimiter = ',', value_name = "TOOL")]
    tools: Vec<Kind>,
    /// Given by `cargo bench`; without it (`cargo test --benches`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The plan.
pub struct Options {
    pub rounds: u32,
    pub scenarios: Vec<Scenario>,
    pub tools: Vec<Kind>,
}

/// Reads the command line; `None` when this is not a bench run.
pub fn read() -> Option<Options> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("nothing is measured without --bench: use `make bench`");
        return None;
    }
    let scenarios = if arguments.only.is_empty() {
        Scenario::ALL
            .into_iter()
            .filter(|scenario| !(arguments.quick && scenario.takes_minutes()))
            .collect()
    } else {
        arguments.only
    };
    let tools = if arguments.tools.is_empty() {
        Kind::ALL.to_vec()
    } else {
        arguments.tools
    };
    Some(Options {
        rounds: arguments.rounds,
        scenarios,
        tools,
    })
}
