//! The built program: 'longnet eval' by context length, and on tasks.

mod place;

use place::Place;
use serde_json::Value;
use std::fs;

/// A place with a run of a few steps.
fn trained(sets: &[&str]) -> Place {
    let place = Place::new();
    let mut args = vec!["train", "tiny.toml", "--set", "data.valid_fraction=0.3"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    place.good(&args);
    place
}

const EVAL: [&str; 3] = ["eval", "--run", "runs/tiny"];

fn eval(args: &[&'static str]) -> Vec<&'static str> {
    [&EVAL[..], args].concat()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn text_is_measured_by_length_and_mode_as_table_json_and_svg() {
    let place = trained(&[]);
    let files = ["--json", "out.json", "--svg", "out.svg"];
    let lengths = ["--lengths", "16,64,32,16,128", "--sliding", "8"];
    let shown = place.good(&eval(&[&lengths[..], &files[..]].concat()));
    // The first lines are those of an evaluation without anything else.
    let lines: Vec<&str> = shown.lines().collect();
    let starts = ["checkpoint  ", "text   ", "validation  loss ", "entropy  "];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{shown}");
    }
    assert!(lines[4].starts_with("The model is "), "{shown}");
    assert!(shown.contains("128*  sliding 8"), "{shown}");
    assert!(shown.contains("64   full"), "{shown}");
    assert!(
        shown.contains("* beyond training, which was with 64 tokens"),
        "{shown}"
    );
    assert!(
        shown.ends_with("the longest of attention.segments is 64.\n"),
        "{shown}"
    );

    let results = json(&fs::read_to_string(place.path("out.json")).unwrap());
    assert_eq!(results["schema"], 1);
    assert_eq!(results["trained_context"], 64);
    let text = &results["text"];
    let rows = text["lengths"].as_array().unwrap();
    let keys: Vec<(u64, Option<u64>, bool)> = rows
        .iter()
        .map(|row| {
            let beyond = row["beyond_training"].as_bool().unwrap();
            (
                row["length"].as_u64().unwrap(),
                row["stride"].as_u64(),
                beyond,
            )
        })
        .collect();
    let expected = [16, 32, 64, 128].map(|n| [(n, None, n > 64), (n, Some(8), n > 64)]);
    assert_eq!(keys, expected.concat());
    // Windows of the context, one after the other, are what the first lines measure.
    let (whole, same) = (&text["whole"], &rows[4]);
    assert_eq!(whole["tokens"], same["tokens"]);
    for key in ["loss", "perplexity", "bits_per_byte"] {
        let (a, b) = (number(&whole[key]), number(&same[key]));
        assert!((a - b).abs() < 1e-4 * a, "{key}: {a} and {b}");
    }
    for row in rows {
        assert_eq!(row["tokens"], whole["tokens"], "{row}");
        let positions = row["positions"].as_array().unwrap();
        let counted: u64 = positions
            .iter()
            .map(|p| p["tokens"].as_u64().unwrap())
            .sum();
        assert_eq!(counted, whole["tokens"].as_u64().unwrap());
        let bits = number(&row["loss"]) / std::f64::consts::LN_2;
        assert!((bits - number(&row["bits_per_byte"])).abs() < 1e-9);
    }
    // A token with more context before it is predicted better.
    let loss = |row: usize| number(&rows[row]["loss"]);
    assert!(loss(1) < loss(0), "{shown}");
    let svg = fs::read_to_string(place.path("out.svg")).unwrap();
    assert!(svg.contains("Loss on the validation text by context length"));

    let short = place.good(&eval(&["--text-tokens", "100", "--json", "-"]));
    let short = json(&short);
    let rows = short["text"]["lengths"].as_array().unwrap();
    let lengths: Vec<u64> = rows.iter().map(|r| r["length"].as_u64().unwrap()).collect();
    assert_eq!(lengths, [16, 32, 64]);
    assert!(rows.iter().all(|row| row["tokens"] == 100), "{short}");
}

#[test]
fn tasks_need_no_text_and_are_determined_by_their_seed() {
    let place = trained(&[]);
    fs::remove_dir_all(place.path("text")).unwrap();
    let tasks = [
        "--tasks",
        "passkey,recall",
        "--samples",
        "2",
        "--pairs",
        "2,8",
    ];
    let lengths = ["--lengths", "64,300", "--depths", "0,1"];
    let args = eval(&[&tasks[..], &lengths[..]].concat());
    let shown = place.good(&args);
    for expected in [
        "Passkey retrieval, 2 keys at each length and depth (guessing: 0.001 %)",
        "300*   100 %      0.0 %",
        "64   has no room for the prompt",
        "Associative recall, 2 sequences of each length and number of pairs (guessing: 10.0 %)",
        "64        8   have no room",
    ] {
        assert!(shown.contains(expected), "no '{expected}' in:\n{shown}");
    }
    assert!(!shown.contains("validation"), "{shown}");

    let with = |more: &[&'static str]| place.good(&[&args[..], &["--json", "-"], more].concat());
    let (one, again, other) = (with(&[]), with(&[]), with(&["--seed", "1"]));
    assert_eq!(one, again);
    assert_ne!(one, other);
    let results = json(&one);
    assert!(results["text"].is_null());
    assert_eq!(results["passkey"]["skipped"], json("[64]"));
    let cells = results["passkey"]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    assert_eq!(cells[1]["depth"], 1.0);
    assert_eq!(
        (&cells[1]["asked"], &cells[1]["right"]),
        (&json("2"), &json("0"))
    );
    let recall = &results["recall"];
    assert_eq!(recall["skipped"], json("[[64, 8]]"));
    let asked: Vec<&Value> = recall["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["asked"])
        .collect();
    assert_eq!(asked, [4, 4, 16]);
}

#[test]
fn what_cannot_be_measured_is_said_before_anything_is_spent() {
    let place = trained(&["model.positions=learned"]);
    for (args, said) in [
        (
            &["--lengths", "16,65"][..],
            "--set eval.lengths=[16, 65]: eval.lengths: 65: model.positions = \"learned\": the model has a vector for each of data.context = 64",
        ),
        (
            &["--lengths", "1"],
            "eval.lengths = [1]: each length must be from 2 to ",
        ),
        (
            &["--lengths", "16,32", "--sliding", "17"],
            "sliding = 17 would leave tokens out between windows of 16",
        ),
        (
            &["--sliding", "17"],
            "eval.sliding: windows of 16 tokens cannot be moved by 17",
        ),
        (
            &["--text-tokens", "63"],
            "eval.lengths: 64: the validation text has 63 tokens to score",
        ),
        (
            &["--tasks", "text,passky"],
            "the string \"passky\"; did you mean 'passkey'?",
        ),
        (&["--tasks", "passkey"], "eval.lengths: passkey needs 2"),
        (
            &["--tasks", "recall", "--lengths", "32"],
            "eval.lengths: recall needs 40 tokens or more, and the longest length is 32",
        ),
        (&["--depths", "0,1.5"], "must be shares from 0 to 1"),
        (&["--depths", "nan"], "must be shares from 0 to 1"),
        (&["--pairs", "677"], "must be numbers from 1 to 676"),
        (&["--samples", "0"], "must be 1 or more"),
    ] {
        let output = place.run(&eval(args));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(said), "{args:?}: {error}");
    }
    place.good(&eval(&["--lengths", "16,64"]));
}

#[test]
fn a_file_that_cannot_be_written_is_known_at_once_and_none_is_left_half() {
    let place = trained(&[]);
    for flag in ["--json", "--svg"] {
        for path in ["nowhere/x", "text"] {
            let error = place.bad(1, &[&EVAL[..], &[flag, path]].concat());
            let said = format!("error: {flag} {path}: ");
            assert!(error.starts_with(&said), "{error}");
        }
    }
    let error = place.bad(2, &eval(&["--json", "-", "--svg", "-"]));
    assert!(error.contains("name a file"), "{error}");
    #[cfg(target_os = "linux")]
    {
        let output = place.run(&eval(&["--text-tokens", "64", "--json", "/dev/full"]));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.starts_with("error: --json /dev/full: "), "{error}");
    }
    // An error that comes later leaves the file that was there, and nothing beside it.
    fs::write(place.path("old.json"), "old").unwrap();
    let weights = place.path("runs/tiny/step-000012/model.safetensors");
    fs::write(weights, "broken").unwrap();
    place.bad(1, &eval(&["--json", "old.json"]));
    assert_eq!(fs::read_to_string(place.path("old.json")).unwrap(), "old");
    let mut left: Vec<_> = fs::read_dir(place.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["old.json", "runs", "text", "tiny.toml"]);
}

#[test]
#[cfg(unix)]
fn files_are_written_and_runs_run_where_nobody_reads_what_is_printed() {
    let place = Place::new();
    let unread = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_longnet"))
            .current_dir(place.path("."))
            .args(args)
            .stdout(writer)
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{args:?}");
    };
    unread(&["train", "tiny.toml"]);
    assert!(place.path("runs/tiny/step-000012").is_dir());
    let few = eval(&["--text-tokens", "64"]);
    unread(&[&few[..], &["--json", "out.json", "--svg", "out.svg"]].concat());
    json(&fs::read_to_string(place.path("out.json")).unwrap());
    assert!(place.path("out.svg").is_file());
    unread(&[&few[..], &["--json", "second.json", "--svg", "-"]].concat());
    assert!(place.path("second.json").is_file());
}
