//! The chart: one SVG picture, written by hand, bars on a logarithmic scale (shorter is better).
//!
//! Colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart; each bar carries its
//! figure as well. What did not come in time ends in a striped bar at the edge.

use std::fmt::Write as _;

use super::bed::LIMIT;
use super::report::with_unit;
use super::results::{Results, Row, Unit};
use super::tool::Kind;

const WIDTH: f64 = 960.0;
const LABELS: f64 = 330.0;
const PLOT: f64 = 520.0;
const BAR: f64 = 11.0;
const GROUP_GAP: f64 = 12.0;
const LINES: f64 = 24.0;
const PANEL_HEAD: f64 = 46.0;
const HEAD: f64 = 88.0;
const FOOT: f64 = 36.0;

/// A part of the picture with an axis of its own.
struct Panel {
    unit: Unit,
    title: &'static str,
    /// Powers of ten at both ends of the axis.
    decades: (i32, i32),
}

const PANELS: [Panel; 3] = [
    Panel {
        unit: Unit::Seconds,
        title: "Waiting time",
        decades: (-3, 2),
    },
    Panel {
        unit: Unit::CpuSeconds,
        title: "CPU time",
        decades: (-2, 1),
    },
    Panel {
        unit: Unit::Runs,
        title: "rsync runs",
        decades: (0, 3),
    },
];

/// Draws the figures of `rows`.
pub fn svg(rows: &[&Row], tools: &[Kind], results: &Results, caption: &str) -> String {
    let mut body = String::new();
    let mut y = HEAD;
    for panel in &PANELS {
        let rows: Vec<&Row> = rows
            .iter()
            .copied()
            .filter(|row| {
                row.unit == panel.unit
                    && tools
                        .iter()
                        .any(|&tool| results.figure(row, tool).is_some())
            })
            .collect();
        if !rows.is_empty() {
            y = panel.draw(&mut body, y, &rows, tools, results);
        }
    }
    let height = y + FOOT;
    let mut picture = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">
<defs>
<pattern id="never" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="3" height="6" fill="#ffffff" fill-opacity="0.65"/></pattern>
</defs>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="20" y="30" font-size="18" font-weight="bold">Mirroring to an rsync daemon, side by side</text>
<text x="20" y="48" fill="#555555">Shorter is better; logarithmic scales.</text>
"##
    );
    legend(&mut picture, tools);
    picture.push_str(&body);
    let _ = writeln!(
        picture,
        r##"<text x="20" y="{:.0}" font-size="11" fill="#555555">{caption}</text>
</svg>"##,
        height - 12.0
    );
    picture
}

impl Panel {
    /// Draws the panel from `top` down; gives where it ends.
    fn draw(
        &self,
        body: &mut String,
        top: f64,
        rows: &[&Row],
        tools: &[Kind],
        results: &Results,
    ) -> f64 {
        let group = |row: &Row| {
            let bars = tools
                .iter()
                .filter(|&&tool| results.figure(row, tool).is_some())
                .count();
            // Two lines of text stand beside even a single bar.
            (BAR * decimal(bars)).max(LINES)
        };
        let height: f64 = rows.iter().map(|row| group(row) + GROUP_GAP).sum();
        let first = top + PANEL_HEAD;
        let _ = writeln!(
            body,
            r#"<text x="20" y="{:.1}" font-size="14" font-weight="bold">{}</text>"#,
            top + 20.0,
            self.title
        );
        self.draw_axis(body, first, height);
        let mut y = first + GROUP_GAP / 2.0;
        for row in rows {
            let middle = y + group(row) / 2.0;
            let _ = writeln!(
                body,
                r##"<text x="{:.0}" y="{:.1}" text-anchor="end" font-size="10" fill="#555555">{}</text>
<text x="{:.0}" y="{:.1}" text-anchor="end">{}</text>"##,
                LABELS - 10.0,
                middle - 3.0,
                row.scenario.title(),
                LABELS - 10.0,
                middle + 11.0,
                row.title
            );
            let figures = tools
                .iter()
                .filter_map(|&tool| Some((tool, results.figure(row, tool)?)));
            for (bar, (tool, figure)) in figures.enumerate() {
                self.draw_bar(body, y + BAR * decimal(bar), figure, tool);
            }
            y += group(row) + GROUP_GAP;
        }
        first + height + 8.0
    }

    fn draw_axis(&self, body: &mut String, top: f64, height: f64) {
        for decade in self.decades.0..=self.decades.1 {
            let figure = 10_f64.powi(decade);
            let x = LABELS + self.length(figure);
            let label = match self.unit {
                Unit::Seconds | Unit::CpuSeconds if decade < 0 => {
                    format!("{:.0} ms", figure * 1_000.0)
                }
                Unit::Seconds | Unit::CpuSeconds => format!("{figure:.0} s"),
                Unit::Runs | Unit::Mebibytes | Unit::PerMinute | Unit::Factor => {
                    format!("{figure:.0}")
                }
            };
            let _ = writeln!(
                body,
                r##"<line x1="{x:.1}" y1="{top:.1}" x2="{x:.1}" y2="{:.1}" stroke="#dddddd"/>
<text x="{x:.1}" y="{:.1}" text-anchor="middle" font-size="10" fill="#555555">{label}</text>"##,
                top + height,
                top - 6.0
            );
        }
    }

    fn draw_bar(&self, body: &mut String, y: f64, figure: f64, tool: Kind) {
        let is_late = figure.is_infinite();
        let length = self.length(if is_late { LIMIT.as_secs_f64() } else { figure });
        let thickness = BAR - 1.0;
        let bar = |fill: &str| {
            format!(
                r#"<rect x="{LABELS}" y="{y:.1}" width="{length:.1}" height="{thickness}" fill="{fill}"/>"#
            )
        };
        let _ = writeln!(body, "{}", bar(colour(tool)));
        if is_late {
            let _ = writeln!(body, "{}", bar("url(#never)"));
        }
        let _ = writeln!(
            body,
            r#"<text x="{:.1}" y="{:.1}" font-size="10">{}</text>"#,
            LABELS + length + 4.0,
            y + 9.0,
            with_unit(figure, self.unit).replace('>', "&gt;")
        );
    }

    /// How far from the left end of the axis a figure lies.
    fn length(&self, figure: f64) -> f64 {
        let (low, high) = (f64::from(self.decades.0), f64::from(self.decades.1));
        // Even a zero is shown as a sliver, so that its row does not look forgotten.
        let exponent = figure.max(f64::MIN_POSITIVE).log10().clamp(low, high);
        (PLOT * (exponent - low) / (high - low)).max(2.0)
    }
}

fn legend(picture: &mut String, tools: &[Kind]) {
    let mut x = 20.0;
    for &tool in tools {
        let _ = writeln!(
            picture,
            r#"<rect x="{x:.0}" y="62" width="12" height="12" fill="{}"/>
<text x="{:.0}" y="72">{tool}</text>"#,
            colour(tool),
            x + 18.0
        );
        x += 150.0;
    }
}

fn colour(tool: Kind) -> &'static str {
    match tool {
        Kind::Plain => "#999999",
        Kind::LsyncdNoDelay => "#e69f00",
        Kind::Lsyncd => "#56b4e9",
        Kind::Sersync => "#0072b2",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a handful of bars")]
fn decimal(number: usize) -> f64 {
    number as f64
}
