//! Plans beside what the built program needs.

mod place;

use place::Place;
use std::fs;

/// Runs of different shapes, of 150 MB and more, in few tokens: the tests are not optimised.
#[cfg(target_os = "linux")]
const CASES: [(&str, &[&str]); 8] = [
    ("activations", &["data.context=2048", "model.layers=4"]),
    (
        "a long context",
        &[
            "data.context=8192",
            "model.d_model=128",
            "model.layers=2",
            "attention.segments=[1024, 8192]",
            "attention.dilations=[1, 8]",
        ],
    ),
    (
        "recomputing all layers but one",
        &[
            "data.context=4096",
            "model.d_model=192",
            "model.layers=5",
            "model.recompute=[0, 1, 3, 4]",
        ],
    ),
    (
        "weights and an average, saved",
        &[
            "data.context=64",
            "model.d_model=512",
            "model.layers=4",
            "train.ema=0.99",
        ],
    ),
    (
        "gates, other norms, learned positions, dropout, accumulation",
        &[
            "data.context=512",
            "model.layers=3",
            "model.activation=swiglu",
            "model.norm=pre",
            "model.positions=learned",
            "model.tie=false",
            "model.dropout=0.1",
            "train.batch=4",
            "train.accumulate=2",
            "train.optimizer=lion",
        ],
    ),
    (
        "few keys, relu, norms after the parts",
        &[
            "data.context=1024",
            "model.layers=4",
            "model.kv_heads=1",
            "model.activation=relu",
            "model.norm=post",
            "model.positions=xpos",
            "train.batch=2",
        ],
    ),
    (
        "scores of many small blocks",
        &[
            "data.context=4096",
            "model.layers=2",
            "model.heads=8",
            "attention.kind=adaptive",
            "attention.block=8",
            "attention.top_k=2",
        ],
    ),
    (
        "a large vocabulary's worth of logits",
        &[
            "data.context=4096",
            "model.layers=1",
            "train.loss_chunk=4096",
            "model.embedding_norm=true",
        ],
    ),
];

fn place() -> Place {
    let place = Place::new();
    let config = "[model]\nd_model = 256\nheads = 4\n[attention]\nsegments = [256, 1024]\ndilations = [1, 4]\n\
                  [data]\npaths = [\"long.txt\"]\nvalid_fraction = 0.2\n[train]\nsteps = 2\nwarmup = 1\n";
    fs::write(place.path("plan.toml"), config).unwrap();
    let line = |i: usize| format!("line {i} of {} is {}\n", i * i % 977, i * 7919 % 10007);
    fs::write(
        place.path("long.txt"),
        (0..4000).map(line).collect::<String>(),
    )
    .unwrap();
    place
}

#[test]
#[cfg(target_os = "linux")]
fn a_plan_is_within_a_tenth_of_what_the_program_needs() {
    check(&CASES[..1]);
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "half a minute and more: with --ignored"]
fn plans_are_within_a_tenth_of_what_the_program_needs() {
    check(&CASES[1..]);
}

#[cfg(target_os = "linux")]
fn check(cases: &[(&str, &[&str])]) {
    let place = place();
    let before = names(&place);
    for (name, sets) in cases {
        let mut args = vec!["train", "plan.toml", "--dry-run"];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        let shown = place.good(&args);
        println!("{name}:\n{shown}");
        assert!(
            shown.contains("\nThe plan held: within 10 %.\n"),
            "{name}:\n{shown}"
        );
    }
    assert_eq!(names(&place), before, "a dry run leaves nothing behind");
}

#[cfg(target_os = "linux")]
fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path(".")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_plan_says_what_fits_and_how_long_it_takes() {
    let place = place();
    let plan = |more: &[&str]| {
        let mut args = vec!["plan", "plan.toml", "--set", "data.context=4096"];
        args.extend(more);
        place.good(&args)
    };
    let shown = plan(&["--memory", "2GB", "--flops", "1T", "--mfu", "0.5"]);
    for expected in [
        "parameters         3.24 M\n",
        "step               4096 tokens, 1 x 4096 in one pass\n",
        "  activations",
        "this step fits into 2.00 GB",
        "longest context    ",
        "tokens/s at 1.00 TFLOP/s and a utilisation of 50 %",
    ] {
        assert!(shown.contains(expected), "no '{expected}' in:\n{shown}");
    }
    assert!(!shown.contains("projection"));
    let small = plan(&["--memory", "20M"]);
    assert!(
        small.contains("does not fit into 20.0 MB") && small.contains("none: "),
        "{small}"
    );
    let many = plan(&["--devices", "4"]);
    assert!(
        many.contains("on each of 4 devices") && many.contains("A projection"),
        "{many}"
    );

    for (args, expected) in [
        (["--memory", "80XB"], "an amount of memory such as 80GB"),
        (["--flops", "fast"], "FLOPs a second"),
        (["--mfu", "40"], "must be above 0 and at most 1"),
        (["--devices", "0"], "--devices"),
    ] {
        let mut all = vec!["plan", "plan.toml"];
        all.extend(args);
        let error = place.bad(2, &all);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}
