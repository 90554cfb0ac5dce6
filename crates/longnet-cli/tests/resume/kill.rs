//! Killed at random moments while it saves after every step with slow writes, the program always
//! goes on from the last checkpoint or the one before, and ends bit for bit where an undisturbed run ends.
#![cfg(unix)]

use crate::place::Place;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KILLS: usize = 50;
/// Kills that have to hit the program while it saves.
const IN_SAVES: usize = 20;
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

/// What a save that was cut off left behind, if one was.
fn left_by_a_save(place: &Place, run: &str) -> Option<String> {
    let entries = fs::read_dir(place.path(run)).ok()?.flatten();
    let mut left: Vec<String> = Vec::new();
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
        left.push(what);
    }
    left.sort();
    (!left.is_empty()).then(|| left.join(" and "))
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
    while kills < KILLS {
        let before = steps(&place, &run);
        let begun = Instant::now();
        let mut child = command(&place, &run, "3").spawn().unwrap();
        // Not before there is something to interrupt: its first new checkpoint or draft.
        while left_by_a_save(&place, &run).is_none()
            && steps(&place, &run) == before
            && child.try_wait().unwrap().is_none()
            && begun.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        latest_start = latest_start.max(begun.elapsed());
        std::thread::sleep(wait(400));
        child.kill().unwrap();
        let killed = child.try_wait().unwrap().is_none();
        let output = child.wait_with_output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        // Where it went on: from the last checkpoint of the life before, or the one before that.
        if let Some(from) = resumed(&shown) {
            let last: Vec<_> = before.iter().take(2).collect();
            assert!(last.contains(&&from), "from {from} of {before:?}: {error}");
        } else {
            assert!(
                before.is_empty() || shown.is_empty() || shown.contains("nothing left"),
                "{shown}{error}"
            );
        }
        if killed && !output.status.success() {
            assert_eq!(output.status.code(), None, "it failed by itself: {error}");
            kills += 1;
            if let Some(what) = left_by_a_save(&place, &run) {
                *in_saves.entry(what).or_default() += 1;
            }
        }
        if steps(&place, &run).first() == Some(&STEPS) {
            assert!(
                command(&place, &run, "0")
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
            assert!(weights(&run) == whole, "{run} ended elsewhere");
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
    assert!(left_by_a_save(&place, &run).is_none(), "drafts are left");

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
