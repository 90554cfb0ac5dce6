//! The built program with values and places that it must refuse.

mod place;

use place::Place;
use std::fs;

fn train(sets: &[&'static str]) -> Vec<&'static str> {
    let mut args = vec!["train", "tiny.toml"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    args
}

#[test]
fn a_run_moves_nothing_but_an_earlier_run() {
    let place = Place::new();
    for (set, file) in [
        ("train.run_dir=text", "text/0.txt"),
        ("train.run_dir=text/0.txt", "text/0.txt"),
        ("train.run_dir=.", "tiny.toml"),
    ] {
        let error = place.bad(2, &train(&[set]));
        assert!(
            error.starts_with(&format!("error: --set {set}: cannot set aside ")),
            "{error}"
        );
        assert!(place.path(file).is_file(), "{file} is gone");
    }
    // A slash at the end does not change the place.
    for _ in 0..2 {
        place.good(&train(&["train.run_dir=sl/", "train.steps=2"]));
    }
    assert!(place.path("sl.1/log.jsonl").is_file());
    assert!(place.path("sl/log.jsonl").is_file());
    fs::create_dir(place.path("empty")).unwrap();
    place.good(&train(&["train.run_dir=empty", "train.steps=2"]));
    assert!(!place.path("empty.1").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_an_error() {
    use std::process::{Command, Stdio};
    let place = Place::new();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_longnet"));
    command
        .current_dir(place.path("."))
        .args(["config", "show", "tiny.toml"])
        .stdout(full());
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.starts_with("error: cannot write standard output: "),
        "{error}"
    );
    assert_eq!(command.stderr(full()).status().unwrap().code(), Some(1));
}
