//! The whole of what was measured, as JSON.

use super::Case;
use crate::machine::Machine;
use serde_json::{Value, json};

/// All cases with all times.
pub fn json(machine: &Machine, torch: &str, threads: usize, cases: &[Case]) -> Value {
    let mut machine = machine.json();
    machine["torch"] = json!(torch);
    machine["threads"] = json!(threads);
    let cases: Vec<Value> = cases.iter().map(case).collect();
    json!({"machine": machine, "cases": cases})
}

fn case(case: &Case) -> Value {
    let rows: Vec<Value> = (case.rows.iter())
        .map(|row| {
            let times = row.times.as_ref();
            json!({
                "who": row.who,
                "note": row.note,
                "flops": row.flops,
                "tokens": row.tokens,
                "relative_error": row.error,
                "not_timed": times.err(),
                "median_seconds": row.median(),
                "spread": times.ok().map(|times| times.spread()),
                "seconds": times.ok().map(|times| times.all()),
                "gflops": row.gflops(),
                "tokens_per_second": row.token_rate(),
            })
        })
        .collect();
    let bars: Vec<Value> = (case.bars.iter())
        .map(|bar| {
            let value = bar.value(case);
            json!({
                "what": bar.text(),
                "must": bar.must,
                "aim": bar.aim,
                "value": value,
                "verdict": bar.verdict(value),
            })
        })
        .collect();
    json!({"name": case.name, "rows": rows, "bars": bars, "left_out": case.left_out})
}
