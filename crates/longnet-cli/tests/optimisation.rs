//! Runs with the options of optimisation, as a user starts them.

mod place;

use place::Place;
use std::fs;

fn log(place: &Place, run: &str) -> Vec<serde_json::Value> {
    let log = fs::read_to_string(place.path(&format!("runs/{run}/log.jsonl"))).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn train<'a>(sets: &[&'a str]) -> Vec<&'a str> {
    let sets = sets.iter().flat_map(|set| ["--set", *set]);
    ["train", "tiny.toml"].into_iter().chain(sets).collect()
}

#[test]
fn every_optimizer_trains_a_language_model() {
    let place = Place::new();
    for name in [
        "adamw",
        "adam",
        "adafactor",
        "adagrad",
        "adan",
        "lamb",
        "lion",
        "muon",
        "rmsprop",
        "sgd",
    ] {
        let optimizer = format!("train.optimizer={name}");
        let run = format!("train.run_dir=runs/{name}");
        place.good(&train(&[&optimizer, &run, "generate.tokens=1"]));
        let log = log(&place, name);
        let losses: Vec<_> = log.iter().filter(|line| line["split"] == "train").collect();
        assert_eq!(losses.len(), 12, "{name}");
        let loss = |at: usize| losses[at]["loss"].as_f64().unwrap();
        assert!(loss(11) < loss(0), "{name}: {} to {}", loss(0), loss(11));
    }
}

#[test]
fn skipped_steps_are_shown_and_logged() {
    let place = Place::new();
    // The first step makes weights with which no loss is a number.
    let args = train(&[
        "train.lr=1e30",
        "train.warmup=0",
        "train.clip=0",
        "train.on_nonfinite=skip",
        "train.steps=200",
        "train.eval_every=200",
    ]);
    let shown = place.good(&[&args[..], &["--stop-at", "8"]].concat());
    assert!(shown.contains("  skipped 7  "), "{shown}");
    let log = log(&place, "tiny");
    let steps: Vec<_> = log.iter().filter(|line| line["split"] == "train").collect();
    assert_eq!((steps[0]["skipped"].as_f64(), steps.len()), (Some(0.0), 8));
    assert_eq!(steps[7]["skipped"].as_f64(), Some(7.0));
    assert!(steps[0]["loss"].is_number() && steps[7]["loss"].is_null());

    // What was skipped before the break counts, too.
    let output = place.run(&[&args[..], &["--resume", "auto"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: step 101: "), "{error}");
    assert!(
        error.contains("100 steps in a row were like this"),
        "{error}"
    );
}

#[test]
fn what_is_added_and_scaled_is_logged_and_evaluations_are_of_the_average() {
    let place = Place::new();
    let shown = place.good(&train(&[
        "train.precision=f16",
        "train.scale_growth=4",
        "train.z_loss=1e-3",
        "train.label_smoothing=0.1",
        "train.ema=0.9",
        "model.recompute=[0]",
        "generate.tokens=1",
    ]));
    let log = log(&place, "tiny");
    assert_eq!(log[0]["loss_scale"].as_f64(), Some(65536.0));
    let scales = log.iter().filter_map(|line| line["loss_scale"].as_f64());
    assert_eq!(scales.fold(0.0, f64::max), 262144.0);
    assert!(log[0]["z_loss"].as_f64().unwrap() > 0.0);
    assert!(log[0]["smoothing"].is_number());
    // What the run says of its last model is what 'eval' says of the checkpoint: both are averaged.
    let validation = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with("validation  loss "));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        line.split(" at ").next().unwrap().to_string()
    };
    let folder = place.path("runs/tiny/step-000012");
    let evaluated = validation(&place.good(&["eval", "--run", "runs/tiny"]));
    assert_eq!(validation(&shown), evaluated);
    let weights = |name: &str| fs::read(folder.join(name)).unwrap();
    assert!(weights("ema.safetensors") != weights("model.safetensors"));
}

#[test]
fn what_the_optimizer_does_not_read_is_refused_before_anything_is_done() {
    let place = Place::new();
    let error = place.bad(2, &train(&["train.optimizer=sgd", "train.beta1=0.5"]));
    assert!(
        error.starts_with("error: --set train.") && error.contains("\"sgd\" does not read beta1"),
        "{error}"
    );
    assert!(!place.path("runs").exists());
}
