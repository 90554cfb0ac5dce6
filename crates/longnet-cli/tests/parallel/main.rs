//! The built program on several ranks.

#[path = "../place/mod.rs"]
mod place;

use place::Place;
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

#[test]
fn ranks_that_are_threads_learn_as_one_and_any_number_goes_on() {
    let place = Place::new();
    place.good(&args("train.run_dir=one", &[], &[]));
    let two = ["parallel.data=2", "parallel.ring=2"];
    place.good(&args("train.run_dir=two", &two, &[]));
    alike(&place, "one", "two");

    // 1, 4, 2 and 1 ranks in turn, by way of whole and shared states of the optimiser.
    let run = "train.run_dir=mixed";
    place.good(&args(run, &[], &["--stop-at", "3"]));
    let shared = ["parallel.data=4", "parallel.zero=true"];
    let shown = place.good(&args(run, &shared, &["--resume", "auto", "--stop-at", "6"]));
    assert!(
        shown.contains("changed     parallel.data = 4, was 1"),
        "{shown}"
    );
    let fewer = ["parallel.data=2", "parallel.zero=true"];
    place.good(&args(run, &fewer, &["--resume", "auto", "--stop-at", "9"]));
    place.good(&args(run, &[], &["--resume", "auto"]));
    alike(&place, "one", "mixed");
}

#[test]
fn what_ranks_cannot_do_is_told_before_anything_begins() {
    let place = Place::new();
    let error = place.bad(2, &args("train.run_dir=x", &["parallel.data=3"], &[]));
    assert!(error.contains("a batch of 4 cannot be"), "{error}");
    let error = place.bad(2, &args("train.run_dir=x", &["parallel.ring=64"], &[]));
    assert!(
        error.contains("a context of 64 tokens is too short for 64 ranks"),
        "{error}"
    );
    let adaptive = [
        "parallel.ring=2",
        "attention.kind=adaptive",
        "attention.block=16",
    ];
    let error = place.bad(2, &args("train.run_dir=x", &adaptive, &[]));
    assert!(error.contains("adaptive layers choose blocks"), "{error}");
    let error = place.bad(
        2,
        &args("train.run_dir=x", &["parallel.data=2"], &["--dry-run"]),
    );
    assert!(error.contains("--dry-run measures one rank"), "{error}");
    assert!(!place.path("x").exists());
}

#[test]
fn a_program_without_mpi_says_so() {
    let place = Place::new();
    let sets = ["parallel.data=2", "parallel.engine=mpi"];
    let error = place.bad(2, &args("train.run_dir=x", &sets, &[]));
    assert!(error.contains("--features mpi"), "{error}");
}
