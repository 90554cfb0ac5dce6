//! The built program on checkpoints: changes to their configs and texts, and disks that are full.

mod place;

use place::Place;
use std::fs;
use std::process::Output;

const SETS: &str = "--set";

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into()
}

#[test]
fn weights_are_used_in_the_model_they_were_trained_in() {
    let place = Place::new();
    place.good(&["train", "tiny.toml"]);
    for (set, field) in [
        ("model.heads=4", "model.heads"),
        ("model.positions=none", "model.positions"),
        ("model.d_model=32", "model.d_model"),
    ] {
        for command in ["eval", "generate"] {
            let error = place.bad(2, &[command, "--run", "runs/tiny", SETS, set]);
            let expected = format!("error: --set {set}: {field}: the weights were trained with ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
    let set = "attention.segments=[16, 32]";
    let change = "attention.segments = [16, 32], trained with [16, 64]";
    let shown = place.good(&["eval", "--run", "runs/tiny", SETS, set]);
    assert!(
        shown.contains(&format!("changed     {change}\n")),
        "{shown}"
    );
    let output = place.run(&["generate", "--run", "runs/tiny", SETS, set]);
    assert_eq!(stderr(&output), format!("warning: {change}\n"));
}

#[test]
fn an_evaluation_says_when_the_text_is_not_that_of_the_run() {
    let place = Place::new();
    place.good(&["train", "tiny.toml"]);
    let eval = ["eval", "--run", "runs/tiny"];
    let before = place.run(&eval);
    assert_eq!(stderr(&before), "");
    let shown = String::from_utf8_lossy(&before.stdout).to_string();
    let root = fs::canonicalize(place.path(".")).unwrap();
    let expected = format!(" of 4 files in {}\n", root.display());
    assert!(shown.contains(&expected), "{shown}");

    // The working directory of the evaluation does not matter.
    let run = place.path("runs/tiny");
    fs::create_dir_all(place.path("elsewhere/text")).unwrap();
    fs::write(place.path("elsewhere/text/0.txt"), "other ".repeat(900)).unwrap();
    let there = std::process::Command::new(env!("CARGO_BIN_EXE_longnet"))
        .current_dir(place.path("elsewhere"))
        .args(["eval", "--run", run.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(stderr(&there), "");
    assert!(String::from_utf8_lossy(&there.stdout).contains(&expected));

    let other = [&eval[..], &[SETS, "data.paths=elsewhere"]].concat();
    let other = place.run(&other);
    assert_eq!(stderr(&other), "");
    let shown = String::from_utf8_lossy(&other.stdout);
    assert!(
        shown.contains("text        5.4 kB of 1 files in "),
        "{shown}"
    );
    assert!(shown.contains("over 5399 tokens"), "{shown}");

    let more = [&eval[..], &[SETS, "data.valid_fraction=0.2"]].concat();
    let error = stderr(&place.run(&more));
    assert!(
        error.starts_with("warning: data.valid_fraction "),
        "{error}"
    );

    // One letter is enough.
    let path = place.path("text/2.txt");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("well", "bell", 1)).unwrap();
    let error = stderr(&place.run(&eval));
    assert!(
        error.starts_with("warning: the text is not the one that the run learned from (4 files, "),
        "{error}"
    );
}

#[test]
#[cfg(unix)]
fn a_full_disk_leaves_no_draft_and_files_have_the_mode_of_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let shell = |command: &str| {
        let command = format!(
            "umask 022; {command} '{}' train tiny.toml",
            env!("CARGO_BIN_EXE_longnet")
        );
        std::process::Command::new("sh")
            .current_dir(place.path("."))
            .args(["-c", &command])
            .output()
            .unwrap()
    };
    // Files may grow to 12 KiB: enough for config and log, too little for weights.
    let output = shell("trap '' XFSZ; ulimit -f 24;");
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("cannot write runs/tiny/.step-000005.tmp/"),
        "{error}"
    );
    let mut left: Vec<_> = fs::read_dir(place.path("runs/tiny"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    let expected = [
        ".lock",
        "config.toml",
        "log.jsonl",
        "machine.json",
        "tensorboard",
    ];
    assert_eq!(left, expected);

    assert!(shell("").status.success());
    for entry in fs::read_dir(place.path("runs/tiny/step-000012")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644, "{:?}", entry.file_name());
    }
}

#[test]
fn generate_takes_dashes_and_says_which_temperature_is_wrong() {
    let place = Place::new();
    place.good(&["train", "tiny.toml"]);
    let generate = ["generate", "--run", "runs/tiny", "--tokens", "3"];
    let text = place.good(&[&generate[..], &["--prompt", "-x"]].concat());
    assert!(text.starts_with("-x"), "{text}");
    place.good(&[&generate[..], &["--temperature", "1e308"]].concat());
    for wrong in ["-1", "nan"] {
        let error = place.bad(2, &[&generate[..], &["--temperature", wrong]].concat());
        assert!(error.contains("must be 0 or more and finite"), "{error}");
    }
}
