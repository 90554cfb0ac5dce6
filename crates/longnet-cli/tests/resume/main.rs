//! The built program goes on where it stopped, bit for bit.

mod full_disk;
mod kill;
#[path = "../place/mod.rs"]
mod place;

use place::Place;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const STEPS: usize = 20;

/// 13 or 14 windows of 64 tokens for each of the 16 that a batch takes: an epoch ends every 14 steps or so.
const CONFIG: [&str; 6] = [
    "train.steps=20",
    "train.batch=16",
    "train.eval_every=8",
    "train.checkpoint_every=6",
    "train.decay=linear",
    "generate.tokens=1",
];

fn args<'a>(run: &'a str, sets: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "tiny.toml", "--set", run];
    args.extend(CONFIG.iter().chain(sets).flat_map(|set| ["--set", *set]));
    args.extend(more);
    args
}

/// The weights, the state but for the ids of parameters, and the log without its times.
fn result(place: &Place, run: &str) -> (Vec<u8>, String, Vec<String>) {
    let folder = place.path(&format!("runs/{run}/step-{STEPS:06}"));
    let log = fs::read_to_string(place.path(&format!("runs/{run}/log.jsonl"))).unwrap();
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let kept = ["split", "step", "loss", "gradient_norm", "learning_rate"];
        let kept = kept.map(|name| format!("{name} {}", value[name]));
        kept.join(" ")
    };
    (
        fs::read(folder.join("model.safetensors")).unwrap(),
        fs::read_to_string(folder.join("state.json")).unwrap(),
        log.lines().map(line).collect(),
    )
}

fn same(place: &Place, run: &str, what: &str) {
    let (weights, state, log) = result(place, "whole");
    let (other_weights, other_state, other_log) = result(place, run);
    assert_eq!(state, other_state, "{what}: states");
    assert_eq!(log, other_log, "{what}: logs");
    assert!(weights == other_weights, "{what}: weights");
    let average = |run| {
        let file = format!("runs/{run}/step-{STEPS:06}/ema.safetensors");
        fs::read(place.path(&file)).ok()
    };
    assert!(average("whole") == average(run), "{what}: averages");
}

#[test]
fn stopped_and_resumed_is_never_stopped() {
    let cases: [(&[&str], &[usize]); 6] = [
        // At evaluations, at checkpoints, at the end of an epoch, in the middle of one.
        (&[], &[1, 6, 8, 13, 14, 15, 16, 19]),
        (&["model.dropout=0.1", "attention.dropout=0.1"], &[7, 14]),
        (&["train.accumulate=3", "train.batch=5"], &[3, 11]),
        (&["model.recompute=true", "model.dropout=0.1"], &[9]),
        (
            &[
                "train.precision=f16",
                "train.scale_growth=2",
                "train.optimizer=muon",
                "train.ema=0.9",
                "train.z_loss=1e-3",
                "train.label_smoothing=0.1",
                "train.batch_schedule=[[1, 3], [9, 7]]",
                "data.context_schedule=[[1, 16], [6, 64]]",
            ],
            // Before a change of context, and of the batch.
            &[5, 8],
        ),
        (&["train.precision=bf16", "train.optimizer=adafactor"], &[7]),
    ];
    for (sets, stops) in cases {
        let place = Place::new();
        place.good(&args("train.run_dir=runs/whole", sets, &[]));
        for stop in stops {
            let run = format!("train.run_dir=runs/{stop}");
            let at = stop.to_string();
            let shown = place.good(&args(&run, sets, &["--stop-at", &at]));
            let expected = format!("stopped by --stop-at {stop} after step {stop} of 20; ");
            assert!(shown.contains(&expected), "{shown}");
            let shown = place.good(&args(&run, sets, &["--resume", "auto"]));
            let expected = format!("resumed     runs/{stop}/step-{stop:06}, after step {stop}\n");
            assert!(shown.contains(&expected), "{shown}");
            same(&place, &at, &format!("{sets:?} stopped after {stop}"));
        }
    }
}

#[test]
fn a_run_is_resumed_as_often_as_need_be_and_an_ended_one_has_nothing_left() {
    let place = Place::new();
    place.good(&args("train.run_dir=runs/whole", &[], &[]));
    let run = "train.run_dir=runs/often";
    for stop in ["2", "3", "10", "18"] {
        place.good(&args(run, &[], &["--stop-at", stop, "--resume", "auto"]));
    }
    place.good(&args(run, &[], &["--resume", "auto"]));
    same(&place, "often", "stopped four times");
    let shown = place.good(&args(run, &[], &["--resume", "auto"]));
    assert!(shown.contains("there is nothing left to do"), "{shown}");
}

#[test]
fn a_run_goes_on_in_another_folder_and_the_first_one_stays() {
    let place = Place::new();
    place.good(&args("train.run_dir=runs/whole", &[], &[]));
    let from = "runs/whole/step-000012";
    let error = place.bad(
        1,
        &args("train.run_dir=runs/whole", &[], &["--resume", from]),
    );
    assert!(
        error.contains("the run has later checkpoints, such as runs/whole/step-000020"),
        "{error}"
    );
    place.good(&args("train.run_dir=runs/other", &[], &["--resume", from]));
    same(&place, "other", "from step 12");
    assert!(place.path("runs/whole/step-000020").is_dir());
    // Set aside by accident, it is found again.
    place.good(&args("train.run_dir=runs/x", &[], &["--stop-at", "9"]));
    place.good(&args("train.run_dir=runs/x", &[], &["--stop-at", "4"]));
    let resume = ["--resume", "runs/x.1"];
    place.good(&args("train.run_dir=runs/x", &[], &resume));
    assert!(place.path("runs/x.2/step-000004").is_dir());
    same(&place, "x", "from a run that was set aside");
}

#[test]
fn what_changes_is_said_and_what_cannot_work_is_refused() {
    let place = Place::new();
    let run = "train.run_dir=runs/a";
    place.good(&args(run, &[], &["--stop-at", "5"]));
    let auto = ["--resume", "auto"];
    for (set, reason) in [
        (
            "model.d_model=32",
            "model.d_model = 32: the run that is resumed has 16, and its weights mean nothing",
        ),
        (
            "data.valid_fraction=0.2",
            "data.valid_fraction = 0.2: the run that is resumed has 0.1, and its place in the text",
        ),
        (
            "data.paths=text/0.txt",
            "the text is not the one that the run learns from (4 files, ",
        ),
    ] {
        let error = place.bad(2, &args(run, &[set], &auto));
        assert!(
            error.starts_with(&format!("error: --set {set}: ")),
            "{error}"
        );
        assert!(error.contains(reason), "{error}");
    }
    let shown = place.good(&args(
        run,
        &["train.lr=0.002", "data.context=32"],
        &["--resume", "auto", "--stop-at", "8"],
    ));
    assert!(
        shown.contains("changed     data.context = 32, was 64\n")
            && shown.contains("changed     train.lr = 0.002, was 0.01\n"),
        "{shown}"
    );
    let error = place.bad(1, &args(run, &[], &["--resume", "runs/none"]));
    assert!(
        error.starts_with("error: --resume runs/none: there is neither a run nor a checkpoint"),
        "{error}"
    );
}

#[test]
fn damaged_checkpoints_are_left_out_and_said() {
    let place = Place::new();
    place.good(&args("train.run_dir=runs/whole", &[], &[]));
    let run = "train.run_dir=runs/a";
    let auto = args(run, &[], &["--resume", "auto"]);
    let newest = || place.path("runs/a/step-000014");
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let damages: [Damage; 4] = [
        ("model.safetensors: its bytes are not those", &|| {
            let path = newest().join("model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        (
            "optimizer.bpk: it has 0 bytes, and was written with",
            &|| {
                fs::write(newest().join("optimizer.bpk"), "").unwrap();
            },
        ),
        ("step-000014 has no state.json", &|| {
            fs::remove_file(newest().join("state.json")).unwrap();
        }),
        ("manifest.json: ", &|| {
            let path = newest().join("manifest.json");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, &text[..text.len() / 2]).unwrap();
        }),
    ];
    for (reason, damage) in damages {
        let _ = fs::remove_dir_all(place.path("runs/a"));
        place.good(&args(run, &[], &["--stop-at", "14"]));
        damage();
        let named = ["--resume", "runs/a/step-000014"];
        let error = place.bad(1, &args(run, &[], &named));
        assert!(error.contains(reason), "{error}");
        let output = place.run(&auto);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        assert!(
            error.starts_with("warning: not whole, left out: ") && error.contains(reason),
            "{error}"
        );
        same(&place, "a", reason);
    }
    for entry in fs::read_dir(place.path("runs/a")).unwrap().flatten() {
        let _ = fs::remove_file(entry.path().join("manifest.json"));
    }
    let error = place.bad(1, &auto);
    let expected = "error: no checkpoint of runs/a is whole, so that there is nothing to resume; of the newest: checkpoint runs/a/step-000020 has no manifest.json";
    assert!(error.contains(expected), "{error}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_and_sigterm_save_and_end_well_also_in_the_middle_of_accumulation() {
    let place = Place::new();
    // Two steps of 60 passes: most signals come in the middle of one.
    let sets = ["train.accumulate=60", "train.batch=1", "train.steps=20"];
    place.good(&args("train.run_dir=runs/whole", &sets, &[]));
    let run = "train.run_dir=runs/a";
    let mut shown = String::new();
    for signal in ["INT", "TERM"].iter().cycle().take(6) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_longnet"))
            .current_dir(place.path("."))
            .args(args(run, &sets, &["--resume", "auto"]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The first line about a step: there is something to save.
        let step = lines.find(|line| line.as_ref().unwrap().starts_with("step "));
        if step.is_some() {
            let pid = child.id().to_string();
            let status = Command::new("kill").args(["-s", signal, &pid]).status();
            assert!(status.unwrap().success());
        }
        shown = lines.map(|line| line.unwrap() + "\n").collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{shown}");
        if step.is_none() || !shown.contains("stopped by ") {
            break;
        }
    }
    assert!(
        shown.contains("stopped by SIGTERM after step ") && shown.contains("--resume auto goes on"),
        "{shown}"
    );
    place.good(&args(run, &sets, &["--resume", "auto"]));
    same(&place, "a", "six signals");
}

#[test]
#[cfg(unix)]
fn a_stop_in_the_last_evaluation_is_made_up_for() {
    let place = Place::new();
    // Half of the text is evaluated in the end, window by window.
    let sets = [
        "data.valid_fraction=0.5",
        "data.context=32",
        "train.batch=1",
        "train.eval_windows=1",
    ];
    place.good(&args("train.run_dir=runs/whole", &sets, &[]));
    // Where the machine is slow to send the signal, the evaluation may end before.
    let stopped = (0..20).find(|attempt| {
        let run = format!("train.run_dir=runs/{attempt}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_longnet"))
            .current_dir(place.path("."))
            .args(args(&run, &sets, &[]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_last = |line: String| line.starts_with("step 20/20  valid");
        assert!(lines.any(|line| is_last(line.unwrap())), "no last step");
        let pid = child.id().to_string();
        let status = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(status.unwrap().success());
        let shown: String = lines.map(|line| line.unwrap() + "\n").collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{shown}");
        let expected =
            "stopped by SIGTERM after step 20 of 20; the same command with --resume auto";
        shown.contains(expected)
    });
    let stopped = stopped.expect("a signal in time").to_string();
    let run = format!("train.run_dir=runs/{stopped}");
    let shown = place.good(&args(&run, &sets, &["--resume", "auto"]));
    assert!(shown.contains("\nvalidation "), "{shown}");
    same(&place, &stopped, "stopped in the last evaluation");
    let shown = place.good(&args(&run, &sets, &["--resume", "auto"]));
    assert!(shown.contains("there is nothing left to do"), "{shown}");
}

#[test]
fn a_run_in_progress_is_nobody_else_s() {
    let place = Place::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_longnet"))
        .current_dir(place.path("."))
        .args(args("train.run_dir=runs/a", &["train.steps=100000"], &[]))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().starts_with("step "));
    let error = place.bad(2, &args("train.run_dir=runs/a", &[], &[]));
    child.kill().unwrap();
    child.wait().unwrap();
    let expected = format!(
        "the run at runs/a is being trained by another process (process {})",
        child.id()
    );
    assert!(error.contains(&expected), "{error}");
    assert!(!place.path("runs/a.1").exists());
    // The lock goes with its process.
    place.good(&args("train.run_dir=runs/a", &["train.steps=3"], &[]));
}
