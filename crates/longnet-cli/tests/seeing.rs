//! The built program's pictures, scripts and helps.

mod place;

use place::Place;
use std::fs;
use std::process::Command;

#[test]
fn curves_of_runs_are_drawn_from_their_logs() {
    let place = Place::new();
    for run in ["a", "b"] {
        let run = format!("train.run_dir=runs/{run}");
        place.good(&["train", "tiny.toml", "--set", &run]);
    }
    let shown = place.good(&["plot", "runs/a"]);
    assert_eq!(shown, "runs/a/curves.svg\nruns/a/curves.png\n");
    let svg = fs::read_to_string(place.path("runs/a/curves.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("<title>runs/a</title>"));
    let png = fs::read(place.path("runs/a/curves.png")).unwrap();
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");

    let both = [
        "plot",
        "runs/a",
        "runs/b/log.jsonl",
        "--metric",
        "lr,bits,mfu",
    ];
    let more = ["--over", "tokens", "--log", "--smooth", "3", "--out", "-"];
    let svg = place.good(&[&both[..], &more[..]].concat());
    assert!(svg.contains("<title>2 runs</title>") && svg.ends_with("</svg>\n"));
    assert!(!place.path("curves.svg").exists());

    for (code, args, expected) in [
        (1, vec!["plot", "runs/c"], "cannot read runs/c: "),
        (
            2,
            vec!["plot", "runs/a", "--metric", "los"],
            "did you mean 'loss'?",
        ),
        (
            2,
            vec!["plot", "runs/a", "--out", "a.jpg"],
            "name it .svg or .png",
        ),
        (2, vec!["plot", "runs/a", "--smooth", "0"], "--smooth"),
        (2, vec!["plot"], "<RUN>"),
        (
            1,
            vec!["plot", "tiny.toml"],
            "tiny.toml:1: not a line of a run's log",
        ),
    ] {
        let error = place.bad(code, &args);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}

#[test]
fn a_run_records_what_it_did_and_where() {
    let place = Place::new();
    let shown = place.good(&["train", "tiny.toml", "--set", "train.log_seconds=0.001"]);
    assert!(shown.contains("  mfu "), "{shown}");
    let text = fs::read_to_string(place.path("runs/tiny/log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let train: Vec<_> = lines
        .iter()
        .filter(|line| line["split"] == "train")
        .collect();
    // 2 sequences of 64 tokens a step.
    assert_eq!(train[11]["tokens"], 12 * 128);
    for name in ["mfu", "tokens_per_s", "seconds", "time", "seconds_left"] {
        assert!(
            train[5][name].as_f64().unwrap() > 0.0,
            "{name}: {}",
            train[5]
        );
    }
    assert_eq!(train[11]["seconds_left"], 0.0);
    assert!(train[11]["seconds"].as_f64() > train[0]["seconds"].as_f64());
    let events = fs::read_dir(place.path("runs/tiny/tensorboard")).unwrap();
    let sizes: Vec<u64> = events
        .map(|e| e.unwrap().metadata().unwrap().len())
        .collect();
    assert!(sizes.len() == 1 && sizes[0] > 12 * 200, "{sizes:?}");
    let machine = fs::read(place.path("runs/tiny/machine.json")).unwrap();
    let machine: serde_json::Value = serde_json::from_slice(&machine).unwrap();
    assert!(machine["matmul_flops"].as_f64().unwrap() > 1e6, "{machine}");
}

#[test]
fn a_doctor_says_what_is_there_and_what_fails() {
    let place = Place::new();
    let shown = place.good(&["doctor"]);
    for expected in [
        "program       longnet ",
        "processor ",
        "backend       flex: built in",
        "dtypes ",
        "peak ",
        "A run can start.\n",
    ] {
        assert!(shown.contains(expected), "no '{expected}' in:\n{shown}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_longnet"))
        .args(["doctor", "--backend", "flax"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(env!("CARGO_BIN_EXE_longnet"))
        .arg("doctor")
        .env("LONGNET_CPU", "abacus")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("LONGNET_CPU=abacus"), "{shown}");
}

#[test]
fn shells_and_editors_get_what_they_complete_with() {
    let place = Place::new();
    for (shell, expected) in [
        ("bash", "_longnet()"),
        ("zsh", "#compdef longnet"),
        ("fish", "complete -c longnet"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let script = place.good(&["completions", shell]);
        assert!(
            script.contains(expected) && script.contains("dry-run"),
            "{shell}"
        );
    }
    let schema: serde_json::Value =
        serde_json::from_str(&place.good(&["config", "schema"])).unwrap();
    assert_eq!(
        schema["properties"]["model"]["properties"]["layers"]["type"],
        "integer"
    );
}

#[test]
fn colours_are_as_they_are_asked_for() {
    let place = Place::new();
    let coloured = |args: &[&str], no_color: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_longnet"))
            .current_dir(place.path("."))
            .args(args)
            .env("NO_COLOR", no_color)
            .output()
            .unwrap();
        assert!(!output.status.success());
        output.stderr.contains(&0x1b)
    };
    // Errors of the program, and of the parser of arguments.
    for args in [&["plot", "nothing"][..], &["plot"]] {
        let with = |color| [&["--color", color][..], args].concat();
        assert!(!coloured(args, ""), "{args:?}");
        assert!(coloured(&with("always"), ""), "{args:?}");
        assert!(coloured(&with("always"), "1"), "{args:?}");
        assert!(!coloured(&with("never"), ""), "{args:?}");
        assert!(!coloured(&with("auto"), "1"), "{args:?}");
    }
    let error = place.bad(2, &["plot", "x", "--color=green"]);
    assert!(error.contains("green"), "{error}");
}

#[test]
fn helps_have_examples_and_exit_codes() {
    let place = Place::new();
    let help = place.good(&["--help"]);
    for expected in [
        "Exit codes:",
        "130, 143",
        "NO_COLOR",
        "longnet plan",
        "doctor",
    ] {
        assert!(help.contains(expected), "no '{expected}' in:\n{help}");
    }
    for command in ["train", "eval", "generate", "plan", "plot", "completions"] {
        let help = place.good(&[command, "--help"]);
        assert!(help.contains("Example"), "{help}");
    }
}
