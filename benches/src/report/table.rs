//! Tables for the terminal.

use super::{Case, Row};
use crate::bars::Measure;

/// `seconds` with a unit that suits it.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.3} s"),
    }
}

fn cells(case: &Case, row: &Row) -> Vec<String> {
    let number = |x: Option<f64>, digits| x.map_or(String::new(), |x| format!("{x:.digits$}"));
    let error = row
        .error
        .map_or(String::new(), |error| format!("{error:.0e}"));
    let mut cells = vec![row.who.clone()];
    match &row.times {
        Err(why) => cells.push(format!("not timed: {why}")),
        Ok(times) => {
            let per_token = row.token_rate().filter(|_| row.tokens > Some(1));
            let ours = case.ratio("ours", &row.who).filter(|_| row.who != "ours");
            cells.extend([
                time(times.median()),
                format!("{}..{}", time(times.min()), time(times.max())),
                format!("{}", times.count()),
                number(row.gflops(), 1),
                number(per_token, 0),
                error,
                ours.map_or(String::new(), |x| format!("{x:.2}x")),
                row.note.clone(),
            ]);
        }
    }
    cells
}

/// The rows of a case.
pub fn case_table(case: &Case) -> String {
    let head = [
        "", "median", "min..max", "runs", "GFLOP/s", "tokens/s", "error", "ours is", "",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(case.rows.iter().map(|row| cells(case, row)));
    let left_out: String = (case.left_out.iter())
        .map(|what| format!("left out: {what}\n"))
        .collect();
    format!("\n{}\n{}{left_out}", case.name, aligned(&rows))
}

/// All bars.
pub fn bars_table(cases: &[Case]) -> String {
    let mut rows = vec![
        ["case", "what", "must", "aim", "is", ""]
            .map(String::from)
            .to_vec(),
    ];
    for case in cases {
        for bar in &case.bars {
            let value = bar.value(case);
            let sign = match bar.measure {
                Measure::Over(_) | Measure::Of(_) => ">=",
                Measure::PerToken | Measure::PerFlop(_) => "<=",
            };
            let factor = |x: f64| format!("{x:.2}x");
            rows.push(vec![
                case.name.clone(),
                bar.text(),
                format!("{sign} {}", factor(bar.must)),
                bar.aim.map_or(String::new(), factor),
                value.map_or(String::new(), factor),
                bar.verdict(value),
            ]);
        }
    }
    aligned(&rows)
}

/// Columns as wide as their widest cell; the last cell of a row may be wider.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter(|row| row.len() > column + 1);
            cells.map(|row| row[column].len()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(column, (cell, &width))| match column {
                0 | 7.. => format!("{cell:<width$}"),
                _ if row.len() < columns => cell.clone(),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
