//! Killed at random moments while it saves after every step with slow writes, the program always
//! goes on from the last checkpoint or the one before, and ends bit for bit where an undisturbed run ends.
#![cfg(unix)]

use crate::place::Place;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const KILLS: usize = 50;
/// Kills that have to hit the program while it saves; there are more kills where these have not been reached.
const IN_SAVES: usize = 20;
const MOST_KILLS: usize = 200;
const STEPS: usize = 30;

const SETS: [&str; 6] = [
    "train.steps=30",
    "train.eval_every=7",
    "train.checkpoint_every=1",
    "train.keep=2",
    "model.dropout=0.1",
    "generate.tokens=1",
];

fn command(place: &Place, run: &str, slow: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longnet"));
    command
        .current_dir(place.path("."))
        .args(["train", "tiny.toml", "--resume", "auto", "--set"])
        .arg(format!("train.run_dir={run}"))
        .args(SETS.iter().flat_map(|set| ["--set", set]))
        .env("LONGNET_SLOW_SAVE", slow)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The steps of the checkpoints in a run, the newest first.
fn steps(place: &Place, run: &str) -> Vec<usize> {
    let entries = fs::read_dir(place.path(run));
    let names = entries.into_iter().flatten().flatten();
    let step = |name: String| name.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<usize> = names
        .filter_map(|entry| step(entry.file_name().to_string_lossy().into()))
        .collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    steps
}

/// The steps of drafts that may be whole: they go to their places at the next start.
fn drafts(place: &Place, run: &str) -> Vec<usize> {
    let entries = fs::read_dir(place.path(run))
        .into_iter()
        .flatten()
        .flatten();
    let whole = entries.filter(|entry| entry.path().join("manifest.json").exists());
    let step = |name: String| {
        let digits = name.strip_prefix(".step-")?.strip_suffix(".tmp")?;
        digits.parse().ok()
    };
    whole
        .filter_map(|entry| step(entry.file_name().to_string_lossy().into()))
        .collect()
}

/// What saves that were cut off left behind: each name, its time and what it is.
fn left_by_saves(place: &Place, run: &str) -> BTreeMap<(String, Option<SystemTime>), String> {
    let entries = fs::read_dir(place.path(run))
        .into_iter()
        .flatten()
        .flatten();
    let mut left = BTreeMap::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().to_string();
        if !name.ends_with(".tmp") {
            continue;
        }
        let what = match name.as_str() {
            n if n.ends_with(".old.tmp") => "an old checkpoint, half removed".into(),
            n if n.starts_with(".step-") => {
                let parts = fs::read_dir(entry.path()).map_or(0, |parts| parts.count());
                format!("a draft with {parts} of 5 files")
            }
            n => format!("{n}, not yet in its place"),
        };
        let time = entry.metadata().and_then(|of| of.modified()).ok();
        left.insert((name, time), what);
    }
    left
}

/// "resumed     runs/0/step-000007, after step 7" as 7.
fn resumed(shown: &str) -> Option<usize> {
    let (_, rest) = shown.split_once("\nresumed ")?;
    let (_, rest) = rest.split_once("after step ")?;
    rest.lines().next()?.parse().ok()
}

#[test]
fn killed_fifty_times_it_ends_as_if_it_had_never_been() {
    let place = Place::new();
    assert!(
        command(&place, "runs/whole", "0")
            .output()
            .unwrap()
            .status
            .success()
    );
    let weights = |run: &str| {
        let folder = format!("{run}/step-{STEPS:06}");
        fs::read(place.path(&folder).join("model.safetensors")).unwrap()
    };
    let whole = weights("runs/whole");
    // Of steps and evaluations, but for the last one on all text, which a killed run may not reach.
    let losses = |run: &str| -> Vec<String> {
        let log = fs::read_to_string(place.path(&format!("{run}/log.jsonl"))).unwrap();
        let line = |line: &str| -> Option<String> {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let kept =
                ["split", "step", "loss", "gradient_norm"].map(|name| value[name].to_string());
            (value["split"] != "final").then(|| kept.join(" "))
        };
        log.lines().filter_map(line).collect()
    };
    let all_losses = losses("runs/whole");

    // A fixed sequence of waits; what they hit differs from machine to machine.
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut wait = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        Duration::from_millis(random % most)
    };
    let (mut kills, mut in_saves, mut ended) = (0, BTreeMap::<String, usize>::new(), 0);
    let mut run = "runs/0".to_string();
    let mut latest_start = Duration::ZERO;
    while kills < KILLS || (in_saves.values().sum::<usize>() < IN_SAVES && kills < MOST_KILLS) {
        let (before, drafts) = (steps(&place, &run), drafts(&place, &run));
        // What an earlier kill left is not this one's.
        let left_before = left_by_saves(&place, &run);
        let new = |left: BTreeMap<_, String>| {
            let new = left
                .into_iter()
                .filter(|(key, _)| !left_before.contains_key(key));
            new.map(|(_, what)| what).collect::<Vec<_>>()
        };
        let begun = Instant::now();
        let mut child = command(&place, &run, "6").spawn().unwrap();
        // Not before there is something to interrupt: its first new checkpoint or draft. A start writes pointers, too.
        let is_pointer = |what: &String| what.ends_with("not yet in its place");
        while new(left_by_saves(&place, &run)).iter().all(is_pointer)
            && (steps(&place, &run).iter()).all(|s| before.contains(s) || drafts.contains(s))
            && child.try_wait().unwrap().is_none()
            && begun.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        latest_start = latest_start.max(begun.elapsed());
        std::thread::sleep(wait(400));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        // Where it went on: from the last checkpoint of the life before, whole as a draft at least, or the one before that.
        match resumed(&shown) {
            Some(from) => {
                let mut last = before.iter().take(2).chain(&drafts);
                assert!(
                    last.any(|&step| step == from),
                    "from {from} of {before:?}, drafts {drafts:?}: {error}"
                );
            }
            None => assert!(before.is_empty(), "it did not go on: {shown}{error}"),
        }
        if !output.status.success() {
            assert_eq!(output.status.code(), None, "it failed by itself: {error}");
            kills += 1;
            let hit = new(left_by_saves(&place, &run));
            if !hit.is_empty() {
                *in_saves.entry(hit.join(" and ")).or_default() += 1;
            }
        }
        if steps(&place, &run).first() == Some(&STEPS) {
            let last = command(&place, &run, "0").output().unwrap();
            assert!(last.status.success());
            assert!(weights(&run) == whole, "{run} ended elsewhere");
            assert_eq!(losses(&run), all_losses, "{run}: another log");
            ended += 1;
            run = format!("runs/{ended}");
        }
    }
    let output = command(&place, &run, "0").output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(weights(&run) == whole, "{run} ended elsewhere");
    assert_eq!(losses(&run), all_losses, "{run}: another log");
    assert!(left_by_saves(&place, &run).is_empty(), "drafts are left");

    let hit: usize = in_saves.values().sum();
    println!(
        "{kills} kills, {hit} of them while a checkpoint was written, over {} runs:",
        ended + 1
    );
    for (what, count) in &in_saves {
        println!("  {count:3}  {what}");
    }
    assert!(
        hit >= IN_SAVES,
        "only {hit} kills hit a save; longest start {latest_start:?}"
    );
}
