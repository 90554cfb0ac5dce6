//! The built program: a tiny run from config to text, and what wrong uses are told.

mod place;

use place::{CONFIG, Place};
use std::fs;
use std::path::Path;

/// The number before `unit` in the line of `text` that starts with `start`.
fn number(text: &str, start: &str, unit: &str) -> f64 {
    let line = text
        .lines()
        .find(|l| l.starts_with(start))
        .unwrap_or_else(|| panic!("no {start}: {text}"));
    let before = line.split(unit).next().unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

fn log(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("log.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_run_learns_logs_saves_and_is_evaluated_and_sampled_afterwards() {
    let place = Place::new();
    let shown = place.good(&["train", "tiny.toml"]);
    for expected in [
        "text        4 files: ",
        "step  1/12  loss ",
        "step  6/12  valid  loss ",
        "checkpoint  runs/tiny/step-000012 (12 steps)\n",
        "sample      temperature 0.8",
        "longnet generate --run runs/tiny",
    ] {
        assert!(shown.contains(expected), "no '{expected}' in:\n{shown}");
    }

    let run = place.path("runs/tiny");
    for name in ["step-000005", "step-000010", "step-000012"] {
        assert!(run.join(name).join("model.safetensors").is_file(), "{name}");
    }
    assert_eq!(
        fs::read_to_string(run.join("latest")).unwrap(),
        "step-000012"
    );
    let saved = fs::read_to_string(run.join("step-000012/config.toml")).unwrap();
    assert!(
        saved.contains("d_model = 16") && saved.contains("# tiny.toml:3"),
        "{saved}"
    );

    let log = log(&run);
    let train: Vec<_> = log.iter().filter(|line| line["split"] == "train").collect();
    assert_eq!(train.len(), 12);
    let loss = |line: &serde_json::Value| line["loss"].as_f64().unwrap();
    assert!(loss(train[11]) < loss(train[0]) - 0.3, "{log:?}");
    assert_eq!(train[11]["step"], 12);
    let bits = train[3]["bits_per_byte"].as_f64().unwrap();
    assert!((bits - loss(train[3]) / std::f64::consts::LN_2).abs() < 1e-9);
    assert_eq!(
        log.iter().filter(|line| line["split"] == "valid").count(),
        2
    );

    // The weights on disk are the model that was evaluated at the end.
    let trained = number(&shown, "validation", " bits/byte");
    let evaluated = place.good(&["eval", "--run", "runs/tiny"]);
    assert_eq!(number(&evaluated, "validation", " bits/byte"), trained);
    let earlier = place.good(&["eval", "--checkpoint", "runs/tiny/step-000005"]);
    assert!(number(&earlier, "validation", " bits/byte") > trained);
    let shorter = place.good(&["eval", "--run", "runs/tiny", "--set", "data.context=32"]);
    assert!(number(&shorter, "validation", " bits/byte") > 0.0);

    let generate = |seed: &str| {
        let args = [
            "generate",
            "--run",
            "runs/tiny",
            "--prompt",
            "line 1",
            "--tokens",
            "40",
            "--seed",
            seed,
        ];
        place.good(&args)
    };
    let text = generate("1");
    assert!(text.starts_with("line 1") && text.len() > 40, "{text}");
    assert_eq!(text, generate("1"));
    assert_ne!(text, generate("2"));
    let nucleus = |seed| {
        let args = [
            "generate",
            "--run",
            "runs/tiny",
            "--top-p",
            "1e-9",
            "--seed",
            seed,
        ];
        place.good(&args)
    };
    assert_eq!(nucleus("1"), nucleus("2"), "the likeliest token alone");
}

#[test]
fn the_same_seed_gives_the_same_run_and_the_earlier_run_is_kept() {
    let place = Place::new();
    place.good(&["train", "tiny.toml", "--set", "model.dropout=0.1"]);
    let again = place.good(&["train", "tiny.toml", "--set", "model.dropout=0.1"]);
    assert!(
        again.contains("(the run that was there is now runs/tiny.1; "),
        "{again}"
    );
    let weights =
        |run: &str| fs::read(place.path(run).join("step-000012/model.safetensors")).unwrap();
    assert!(
        weights("runs/tiny") == weights("runs/tiny.1"),
        "two results"
    );
    let state = |run: &str| fs::read(place.path(run).join("step-000012/state.json")).unwrap();
    assert!(state("runs/tiny") == state("runs/tiny.1"), "two states");
    place.good(&["train", "tiny.toml", "--set", "train.seed=1"]);
    assert!(
        weights("runs/tiny") != weights("runs/tiny.1"),
        "the seed is not used"
    );
}

#[test]
fn accumulated_passes_are_one_step_over_all_their_windows() {
    let place = Place::new();
    place.good(&["train", "tiny.toml"]);
    place.good(&[
        "train",
        "tiny.toml",
        "--set",
        "train.batch=1",
        "--set",
        "train.accumulate=2",
        "--set",
        "train.run_dir=runs/accumulated",
    ]);
    let (one, two) = (
        log(&place.path("runs/tiny")),
        log(&place.path("runs/accumulated")),
    );
    for key in ["loss", "gradient_norm"] {
        for step in [0, 4] {
            let (a, b) = (
                one[step][key].as_f64().unwrap(),
                two[step][key].as_f64().unwrap(),
            );
            assert!(
                (a - b).abs() < 1e-3 * a,
                "{key} of step {step}: {a} and {b}"
            );
        }
    }
}

#[test]
fn a_wrong_config_or_command_line_exits_with_2_and_says_what_is_wrong() {
    let place = Place::new();
    fs::write(place.path("bad.toml"), CONFIG.replace("layers", "layrs")).unwrap();
    for command in ["train", "config"] {
        let check = ["check"];
        let mut args = vec![command];
        args.extend(check.iter().filter(|_| command == "config"));
        args.push("bad.toml");
        assert_eq!(
            place.bad(2, &args),
            "error: bad.toml:5: model.layrs: unknown key; did you mean 'layers'?\n"
        );
    }
    let error = place.bad(2, &["train", "tiny.toml", "--set", "model.heads=3"]);
    assert!(
        error.starts_with("error: --set model.heads=3: model.heads = 3: "),
        "{error}"
    );
    let error = place.bad(2, &["train", "tiny.toml", "--backend", "cuda"]);
    assert!(error.contains("--features cuda"), "{error}");
    let error = place.bad(2, &["train", "nowhere.toml"]);
    assert!(
        error.starts_with("error: nowhere.toml: cannot read the config file"),
        "{error}"
    );
    let error = place.bad(2, &["eval"]);
    assert!(error.contains("--run <DIR>"), "{error}");
    assert!(!place.path("runs").exists(), "a run began");
}

#[test]
fn config_show_and_check_print_origins_and_warnings() {
    let place = Place::new();
    let shown = place.good(&["config", "show", "tiny.toml", "--set", "train.steps=40"]);
    let line = |start: &str| shown.lines().find(|l| l.starts_with(start)).unwrap();
    assert!(line("d_model = 16 ").ends_with("# tiny.toml:3"), "{shown}");
    assert!(line("steps = 40 ").ends_with("# --set"), "{shown}");
    assert!(line("lr_floor = ").ends_with("# default"), "{shown}");
    assert!(line("# eps is not set").ends_with("# default"), "{shown}");

    let checked = place.good(&["config", "check", "tiny.toml"]);
    assert!(checked.starts_with("ok\nparameters "), "{checked}");
    assert!(!checked.contains("warning"), "{checked}");
    let checked = place.good(&[
        "config",
        "check",
        "tiny.toml",
        "--set",
        "attention.dilations=[2, 4]",
    ]);
    assert!(checked.contains("warning: head 0: "), "{checked}");
}

#[test]
fn data_and_checkpoints_that_are_not_there_are_named() {
    let place = Place::new();
    let error = place.bad(2, &["train", "tiny.toml", "--set", "data.paths=*.py"]);
    assert!(
        error.starts_with(
            "error: --set data.paths=*.py: data.paths: no file matches the glob '*.py'"
        ),
        "{error}"
    );
    let error = place.bad(2, &["train", "tiny.toml", "--set", "data.context=100000"]);
    assert!(
        error.starts_with("error: --set data.context=100000: ")
            && error.contains("one window takes data.context + 1 = 100001"),
        "{error}"
    );
    let error = place.bad(1, &["eval", "--run", "runs/none"]);
    assert!(
        error.starts_with("error: there is no run at runs/none; "),
        "{error}"
    );
    let sets = ["--set", "train.run_dir=text/0.txt/run"];
    let error = place.bad(2, &[&["train", "tiny.toml"], &sets[..]].concat());
    assert!(
        error.starts_with(
            "error: --set train.run_dir=text/0.txt/run: cannot write text/0.txt/run: "
        ),
        "{error}"
    );
    fs::create_dir_all(place.path("runs/empty")).unwrap();
    let error = place.bad(1, &["generate", "--run", "runs/empty"]);
    assert!(
        error.contains("runs/empty holds no finished checkpoint"),
        "{error}"
    );
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_still_loads() {
    let place = Place::new();
    place.good(&["train", "tiny.toml"]);
    let weights = place.path("runs/tiny/step-000012/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    fs::write(&weights, &whole[..whole.len() / 2]).unwrap();
    let error = place.bad(1, &["eval", "--run", "runs/tiny"]);
    assert!(
        error.starts_with("error: cannot read runs/tiny/step-000012/model.safetensors: "),
        "{error}"
    );
    fs::remove_file(&weights).unwrap();
    let error = place.bad(1, &["eval", "--run", "runs/tiny"]);
    assert!(
        error.contains("step-000012 has no model.safetensors"),
        "{error}"
    );
    place.good(&["eval", "--checkpoint", "runs/tiny/step-000010"]);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_step_and_text() {
    let place = Place::new();
    let sets = [
        "--set",
        "train.lr=1e30",
        "--set",
        "train.warmup=0",
        "--set",
        "train.clip=0",
    ];
    let args = [&["train", "tiny.toml"], &sets[..]].concat();
    let output = place.run(&args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: step 2: the loss is "), "{error}");
    assert!(
        error.contains("or clipping (train.clip = 1.0) may help"),
        "{error}"
    );
    assert!(
        error.contains("the batch was text/") && error.contains(".txt from byte "),
        "{error}"
    );
}

#[test]
fn layers_of_several_kinds_are_configured_trained_resumed_and_run() {
    let place = Place::new();
    let sets = [
        "model.layers=3",
        "model.heads=4",
        "attention.kind=[\"block-sparse\", \"adaptive\", \"dilated\"]",
        "attention.pattern=\"[window(32) | global(16) x 2, branches(16/1, 64/4) x 2]\"",
        "attention.block=16",
        "attention.top_k=2",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let checked = place.good(&[&["config", "check", "tiny.toml"], &sets[..]].concat());
    assert!(checked.starts_with("ok\n"), "{checked}");
    let train = [&["train", "tiny.toml"], &sets[..]].concat();
    place.good(&[&train[..], &["--set", "train.run_dir=whole"]].concat());
    place.good(&[&train[..], &["--stop-at", "7"]].concat());
    place.good(&[&train[..], &["--resume", "auto"]].concat());
    let weights =
        |run: &str| fs::read(place.path(run).join("step-000012/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("runs/tiny"), "two results");
    place.good(&["generate", "--run", "runs/tiny", "--tokens", "3"]);
    for (set, reason) in [
        (
            "attention.pattern=windw(3)",
            "unknown pattern 'windw' at column 1; did you mean 'window'?",
        ),
        (
            "attention.pattern=\"[window(32) x 3]\"",
            "the list of patterns is for 3 heads, but there are 4",
        ),
        (
            "attention.kind=dilated",
            "is read by block-sparse layers only",
        ),
        ("attention.block=0", "must be 1 or more"),
    ] {
        let error = place.bad(
            2,
            &[
                &["config", "check", "tiny.toml"],
                &sets[..],
                &["--set", set],
            ]
            .concat(),
        );
        assert!(error.contains(reason), "{error}");
    }
    let table = [
        "--set",
        "attention.pattern={union=[{window=32}, \"global(16)\"]}",
    ];
    let shown = place.good(&[&["config", "show", "tiny.toml"], &sets[..], &table].concat());
    assert!(
        shown.contains("pattern = \"window(32) | global(16)\""),
        "{shown}"
    );
}
