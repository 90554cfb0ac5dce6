//! A picture: a bar for every contender of every case, as long as its speed.

use super::{Case, Row};
use crate::machine::Machine;
use std::fmt::Write;

const WIDTH: usize = 860;
/// Where bars start, and their longest.
const LEFT: usize = 190;
const LONGEST: f64 = 430.0;
const LINE: usize = 18;

/// Speeds of all cases. Bars of different cases have scales of their own.
pub fn svg(machine: &Machine, torch: &str, threads: usize, cases: &[Case]) -> String {
    let mut body = String::new();
    let mut y = 24;
    text(
        &mut body,
        16,
        y,
        "title",
        "Speed, higher is better (medians)",
    );
    let more = format!("PyTorch {torch}, {threads} threads each");
    for line in machine.lines().iter().chain([&more]) {
        y += LINE;
        text(&mut body, 16, y, "quiet", line);
    }
    for case in cases {
        let speeds: Vec<(&Row, f64, String)> = case.rows.iter().filter_map(speed).collect();
        let most = speeds.iter().map(|s| s.1).fold(0.0, f64::max);
        if speeds.is_empty() {
            continue;
        }
        y += 2 * LINE;
        text(&mut body, 16, y, "case", &case.name);
        for (row, speed, label) in speeds {
            y += LINE;
            text(&mut body, 28, y, "", &row.who);
            let class = match row.who.as_str() {
                "ours" => "ours",
                who if who.starts_with("n ") => "ours",
                "sgemm" => "peak",
                _ => "other",
            };
            let (width, top) = (speed / most * LONGEST, y - 11);
            let _ = writeln!(
                body,
                r#"<rect class="{class}" x="{LEFT}" y="{top}" width="{width:.1}" height="13"/>"#
            );
            text(&mut body, LEFT + width as usize + 6, y, "", &label);
        }
        for bar in &case.bars {
            y += LINE;
            let value = bar.value(case);
            let is = value.map_or(String::new(), |value| format!(" is {value:.2}x,"));
            let must = bar.must;
            let line = format!("{}{is} bar {must:.2}x: {}", bar.text(), bar.verdict(value));
            text(&mut body, LEFT, y, "quiet", &line);
        }
    }
    let height = y + LINE;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">
<style>
text {{ font: 12px sans-serif; fill: #222 }}
.title {{ font-size: 16px; font-weight: bold }}
.case {{ font-weight: bold }}
.quiet {{ fill: #666 }}
.ours {{ fill: #1b6ca8 }}
.other {{ fill: #b8b8b8 }}
.peak {{ fill: #e0b050 }}
</style>
<rect width="{WIDTH}" height="{height}" fill="white"/>
{body}</svg>
"#
    )
}

/// A bar's length and label.
fn speed(row: &Row) -> Option<(&Row, f64, String)> {
    let median = row.median()?;
    let time = match median {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    };
    if let Some(gflops) = row.gflops() {
        return Some((row, gflops, format!("{gflops:.0} GFLOP/s, {time}")));
    }
    let rate = row.token_rate()?;
    Some((row, rate, format!("{rate:.0} tokens/s, {time}")))
}

fn text(to: &mut String, x: usize, y: usize, class: &str, line: &str) {
    let line = line.replace('&', "&amp;").replace('<', "&lt;");
    // Writing to a string cannot fail.
    let _ = writeln!(to, r#"<text class="{class}" x="{x}" y="{y}">{line}</text>"#);
}
