//! The built program: prompts, filters, stop strings and seeds of 'longnet generate'.

mod place;

use place::Place;
use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

/// A place with a run of a few steps.
fn trained() -> Place {
    let place = Place::new();
    place.good(&["train", "tiny.toml", "--set", "train.steps=40"]);
    place
}

const GENERATE: [&str; 3] = ["generate", "--run", "runs/tiny"];

fn generate(args: &[&'static str]) -> Vec<&'static str> {
    [&GENERATE[..], args].concat()
}

/// Runs the program with `input` on its standard input.
fn piped(place: &Place, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_longnet"))
        .current_dir(place.path("."))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn prompts_come_from_a_flag_a_file_or_standard_input() {
    let place = trained();
    let flag = place.good(&generate(&["--prompt", "line 7"]));
    assert!(flag.starts_with("line 7") && flag.len() > 20, "{flag}");
    fs::write(place.path("prompt"), "line 7").unwrap();
    let file = place.good(&generate(&["--prompt-file", "prompt"]));
    assert_eq!(file, flag);
    let stdin = generate(&["--prompt-file", "-"]);
    let output = piped(&place, &stdin, b"line 7");
    assert_eq!(String::from_utf8_lossy(&output.stdout), flag);

    // Bytes that are no UTF-8 are a prompt of bytes, and nothing is one too.
    let output = piped(&place, &stdin, b"\xff\xfe line");
    assert!(output.status.success() && output.stdout.starts_with(b"\xff\xfe line"));
    let output = piped(&place, &stdin, b"");
    let empty = place.good(&generate(&["--prompt", ""]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), empty);
    assert!(empty.len() > 10, "{empty}");

    let long = "line 7\n".repeat(40);
    let output = piped(&place, &stdin, long.as_bytes());
    let warning = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout.starts_with(long.as_bytes()));
    assert_eq!(
        warning,
        "warning: the prompt has 280 tokens, and the model reads the last data.context = 64 of them\n"
    );
    let tail = &long[long.len() - 64..];
    let short = piped(&place, &stdin, tail.as_bytes());
    assert!(short.stderr.is_empty());
    assert_eq!(output.stdout[long.len()..], short.stdout[tail.len()..]);

    let error = place.bad(1, &generate(&["--prompt-file", "nowhere"]));
    assert!(
        error.starts_with("error: --prompt-file nowhere: "),
        "{error}"
    );
    let error = place.bad(2, &generate(&["--prompt", "a", "--prompt-file", "prompt"]));
    assert!(error.contains("cannot be used with"), "{error}");
}

#[test]
fn filters_that_leave_one_token_write_what_greedy_decoding_writes() {
    let place = trained();
    let with = |args: &[&'static str]| place.good(&generate(args));
    let greedy = with(&["--temperature", "0"]);
    for one in [["--top-k", "1"], ["--top-p", "1e-9"], ["--min-p", "1"]] {
        assert_eq!(with(&one), greedy, "{one:?}");
    }
    assert_ne!(with(&["--top-k", "0", "--seed", "1"]), greedy);
    let penalised = with(&["--temperature", "0", "--repetition-penalty", "5"]);
    assert_ne!(penalised, greedy);
    let args = ["--temperature", "0", "--repetition-penalty", "5"];
    let none_counts = [&args[..], &["--repetition-window", "1"]].concat();
    assert_ne!(with(&none_counts), penalised);
    for (flag, wrong, said) in [
        (
            "--min-p",
            "1.5",
            "generate.min_p = 1.5: must be from 0 to 1",
        ),
        ("--min-p", "nan", "must be from 0 to 1"),
        ("--repetition-penalty", "0", "must be from 0.01 to 100"),
        ("--stop", "", "an empty string is everywhere"),
        ("--num", "0", "--num"),
    ] {
        let error = place.bad(2, &[&GENERATE[..], &[flag, wrong]].concat());
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let place = trained();
    let args = ["--prompt", "line 1", "--temperature", "0", "--tokens", "60"];
    let whole = place.good(&generate(&args));
    let new = whole.trim_end_matches('\n').strip_prefix("line 1").unwrap();
    // Of the new text, three bytes that are there for the first time.
    let at = (4..new.len() - 3).find(|&at| new.find(&new[at..at + 3]) == Some(at));
    let at = at.unwrap();
    let stop = &new[at..at + 3];
    let stopped =
        place.good(&[&GENERATE[..], &args, &["--stop", "\u{1}", "--stop", stop]].concat());
    assert_eq!(
        stopped,
        format!("line 1{}\n", &new[..at]),
        "{stop:?} in {whole:?}"
    );
}

#[test]
fn several_texts_have_seeds_one_after_the_other() {
    let place = trained();
    let one = |seed| place.good(&[&GENERATE[..], &["--prompt", "li", "--seed", seed]].concat());
    let three = place.good(&generate(&["--prompt", "li", "--seed", "7", "--num", "3"]));
    let expected = format!(
        "=== 1 of 3, seed 7\n{}\n=== 2 of 3, seed 8\n{}\n=== 3 of 3, seed 9\n{}",
        one("7"),
        one("8"),
        one("9")
    );
    assert_eq!(three, expected);
}

#[test]
fn text_comes_while_it_is_written_and_a_reader_that_goes_ends_it_quietly() {
    let place = trained();
    let mut child = Command::new(env!("CARGO_BIN_EXE_longnet"))
        .current_dir(place.path("."))
        .args(generate(&["--prompt", "line", "--tokens", "1000000"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 24];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"line"));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{output:?}");
}
