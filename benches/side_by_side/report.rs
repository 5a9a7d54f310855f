//! The report: a table on the screen, the same as Markdown, and the chart beside it.

use std::fmt;
use std::fs;
use std::io;
use std::iter;
use std::path::PathBuf;
use std::thread;

use super::bed::LIMIT;
use super::chart;
use super::cpu::Meter;
use super::options::Options;
use super::results::{ROWS, Results, Row, Unit};
use super::tool::{Kind, version_of};

const TITLE_WIDTH: usize = 36;
const COLUMN_WIDTH: usize = 16;

/// Where the figures come from.
pub struct Machine {
    processors: usize,
    kernel: String,
    rsync: String,
    lsyncd: String,
    accounting: &'static str,
}

impl Machine {
    /// Looks at the machine this runs on.
    pub fn look() -> io::Result<Self> {
        let missing = || "none".to_owned();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let rsync = version_of("rsync", "--version")
            .ok_or_else(|| io::Error::other("rsync is not installed"))?;
        let rsync = rsync.split_whitespace().nth(2).unwrap_or(&rsync).to_owned();
        let lsyncd = version_of("lsyncd", "--version")
            .and_then(|line| Some(line.split_whitespace().next_back()?.to_owned()));
        Ok(Self {
            processors: thread::available_parallelism()?.get(),
            kernel: kernel.trim().to_owned(),
            rsync,
            lsyncd: lsyncd.unwrap_or_else(missing),
            accounting: Meter::new().description(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} processors, Linux {}, rsync {}, lsyncd {}; CPU time from {}",
            self.processors, self.kernel, self.rsync, self.lsyncd, self.accounting
        )
    }
}

/// Prints the table and writes `results.md` and `results.svg`.
pub fn publish(
    machine: &Machine,
    options: &Options,
    tools: &[Kind],
    results: &Results,
) -> io::Result<()> {
    let rounds = match options.rounds {
        1 => "one round".to_owned(),
        rounds => format!("medians of {rounds} rounds"),
    };
    let caption = format!("{machine}; {rounds}");
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| options.scenarios.contains(&row.scenario))
        .collect();
    print!("\n{}\n{caption}\n", text(&rows, tools, results));

    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&directory)?;
    let (table, picture) = (directory.join("results.md"), directory.join("results.svg"));
    fs::write(
        &table,
        format!("{}\n{caption}\n", markdown(&rows, tools, results)),
    )?;
    fs::write(&picture, chart::svg(&rows, tools, results, &caption))?;
    println!("\nalso in {} and {}", table.display(), picture.display());
    Ok(())
}

fn text(rows: &[&Row], tools: &[Kind], results: &Results) -> String {
    let line = |title: &str, cells: Vec<String>| {
        cells
            .iter()
            .fold(format!("{title:<TITLE_WIDTH$}"), |line, cell| {
                line + &format!("{cell:>COLUMN_WIDTH$}")
            })
    };
    let head = line("", tools.iter().map(Kind::to_string).collect());
    let body = with_headings(rows, str::to_owned, |row| {
        line(&format!("  {}", row.title), cells(results, row, tools))
    });
    format!("{head}\n{body}")
}

fn markdown(rows: &[&Row], tools: &[Kind], results: &Results) -> String {
    let line = |title: &str, cells: Vec<String>| format!("| {title} | {} |", cells.join(" | "));
    let head = line("", tools.iter().map(Kind::to_string).collect());
    let rule = format!("|---|{}", "---:|".repeat(tools.len()));
    let body = with_headings(
        rows,
        |title| line(&format!("**{title}**"), vec![String::new(); tools.len()]),
        |row| line(row.title, cells(results, row, tools)),
    );
    format!("{head}\n{rule}\n{body}")
}

/// One line for each row, and one before the first row of each scenario.
fn with_headings(
    rows: &[&Row],
    heading: impl Fn(&str) -> String,
    line: impl Fn(&Row) -> String,
) -> String {
    rows.chunk_by(|one, next| one.scenario == next.scenario)
        .flat_map(|rows| {
            iter::once(heading(rows[0].scenario.title())).chain(rows.iter().map(|row| line(row)))
        })
        .map(|line| line + "\n")
        .collect()
}

fn cells(results: &Results, row: &Row, tools: &[Kind]) -> Vec<String> {
    tools.iter().map(|&tool| cell(results, row, tool)).collect()
}

fn cell(results: &Results, row: &Row, tool: Kind) -> String {
    results
        .figure(row, tool)
        .map_or_else(|| "–".to_owned(), |figure| with_unit(figure, row.unit))
}

/// A figure as people read it: three digits or so, and its unit.
pub fn with_unit(figure: f64, unit: Unit) -> String {
    if figure.is_infinite() {
        return format!("> {} s", LIMIT.as_secs());
    }
    match unit {
        Unit::Seconds | Unit::CpuSeconds if figure < 1.0 => {
            let milliseconds = figure * 1_000.0;
            let decimals = usize::from(milliseconds < 100.0);
            format!("{milliseconds:.decimals$} ms")
        }
        Unit::Seconds | Unit::CpuSeconds => format!("{figure:.2} s"),
        Unit::Runs => format!("{figure:.0}"),
        Unit::Mebibytes => format!("{figure:.1} MiB"),
        Unit::Factor => format!("{figure:.2} times"),
        Unit::PerMinute => format!("{figure:.0} a minute"),
    }
}
