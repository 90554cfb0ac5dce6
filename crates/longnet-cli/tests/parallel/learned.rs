//! Runs, and what they learned.

use crate::place::Place;
use std::fs;

/// What a log says of each step and evaluation, without times: split, step, loss.
pub fn losses(place: &Place, run: &str) -> Vec<(String, u64, f64)> {
    let log = fs::read_to_string(place.path(&format!("{run}/log.jsonl"))).unwrap();
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        (
            value["split"].as_str().unwrap().to_string(),
            value["step"].as_u64().unwrap(),
            value["loss"].as_f64().unwrap(),
        )
    };
    log.lines().map(line).collect()
}

/// Two runs learned the same, to rounding that grows with the steps.
pub fn alike(place: &Place, run: &str, other: &str) {
    let (one, two) = (losses(place, run), losses(place, other));
    let what = |all: &[(String, u64, f64)]| -> Vec<_> {
        all.iter()
            .map(|(split, step, _)| (split.clone(), *step))
            .collect()
    };
    assert_eq!(what(&one), what(&two), "{run} {other}");
    for (a, b) in one.iter().zip(&two) {
        assert!((a.2 - b.2).abs() / b.2 < 1e-4, "{run} {other}: {a:?} {b:?}");
    }
}

/// The arguments of a run in the folder `run`.
pub fn args<'a>(run: &'a str, sets: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "tiny.toml"];
    let quick = ["train.batch=4", "model.dropout=0", "generate.tokens=1", run];
    args.extend(quick.iter().chain(sets).flat_map(|set| ["--set", *set]));
    args.extend(more);
    args
}
