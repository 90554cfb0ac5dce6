//! The built program on several ranks.

mod learned;
#[path = "../place/mod.rs"]
mod place;

use learned::{alike, args};
use place::Place;
#[cfg(unix)]
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

#[test]
fn ranks_that_are_threads_learn_as_one_and_any_number_goes_on() {
    let place = Place::new();
    place.good(&args("train.run_dir=one", &[], &[]));
    let two = ["parallel.data=2", "parallel.ring=2"];
    place.good(&args("train.run_dir=two", &two, &[]));
    alike(&place, "one", "two");

    // 1, 4, 2 and 1 ranks in turn, by way of whole and shared states of the optimiser.
    let run = "train.run_dir=mixed";
    place.good(&args(run, &[], &["--stop-at", "3"]));
    let shared = ["parallel.data=4", "parallel.zero=true"];
    let shown = place.good(&args(run, &shared, &["--resume", "auto", "--stop-at", "6"]));
    assert!(
        shown.contains("changed     parallel.data = 4, was 1"),
        "{shown}"
    );
    let fewer = ["parallel.data=2", "parallel.zero=true"];
    place.good(&args(run, &fewer, &["--resume", "auto", "--stop-at", "9"]));
    place.good(&args(run, &[], &["--resume", "auto"]));
    alike(&place, "one", "mixed");
}

#[test]
fn what_ranks_cannot_do_is_told_before_anything_begins() {
    let place = Place::new();
    let error = place.bad(2, &args("train.run_dir=x", &["parallel.data=3"], &[]));
    assert!(error.contains("a batch of 4 cannot be"), "{error}");
    let error = place.bad(2, &args("train.run_dir=x", &["parallel.ring=64"], &[]));
    assert!(
        error.contains("a context of 64 tokens is too short for 64 ranks"),
        "{error}"
    );
    let adaptive = [
        "parallel.ring=2",
        "attention.kind=adaptive",
        "attention.block=16",
    ];
    let error = place.bad(2, &args("train.run_dir=x", &adaptive, &[]));
    assert!(error.contains("adaptive layers choose blocks"), "{error}");
    let error = place.bad(
        2,
        &args("train.run_dir=x", &["parallel.data=2"], &["--dry-run"]),
    );
    assert!(error.contains("--dry-run measures one rank"), "{error}");
    assert!(!place.path("x").exists());
}

/// A run of two ranks after its first step, with what it is going to print.
#[cfg(unix)]
fn two_ranks(place: &Place, deadline: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let sets = ["parallel.data=2", deadline, "train.steps=100000"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_longnet"))
        .current_dir(place.path("."))
        .args(args("train.run_dir=x", &sets, &[]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    lines.find(|line| line.starts_with("step "));
    (child, lines)
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(sent.unwrap().success());
}

/// A rank has waited longer than the deadline, if one was waiting when the process was stopped.
#[test]
#[cfg(unix)]
fn ranks_that_cannot_work_together_end_with_a_code_of_their_own() {
    let place = Place::new();
    let (mut child, lines) = two_ranks(&place, "parallel.deadline=2");
    // It prints more than a pipe holds.
    let reader = thread::spawn(move || lines.count());
    let stops = (0..50).take_while(|_| {
        signal(&child, "STOP");
        thread::sleep(Duration::from_millis(2200));
        signal(&child, "CONT");
        thread::sleep(Duration::from_millis(300));
        child.try_wait().unwrap().is_none()
    });
    assert!(stops.count() < 50, "it goes on");
    reader.join().unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("raise the deadline") && error.contains("--resume auto"),
        "{error}"
    );
}

#[test]
#[cfg(unix)]
fn sigterm_saves_and_ends_all_ranks_well() {
    let place = Place::new();
    let (mut child, lines) = two_ranks(&place, "parallel.deadline=60");
    signal(&child, "TERM");
    let shown: String = lines.map(|line| line + "\n").collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{shown}");
    assert!(shown.contains("stopped by SIGTERM after step "), "{shown}");
    // The checkpoint is whole, and a run on one rank goes on from it.
    let more = ["--resume", "auto", "--stop-at", "1"];
    let shown = place.good(&args("train.run_dir=x", &["train.steps=100000"], &more));
    assert!(shown.contains("resumed     "), "{shown}");
}

#[test]
#[cfg(not(feature = "mpi"))]
fn a_program_without_mpi_says_so() {
    let place = Place::new();
    let sets = ["parallel.data=2", "parallel.engine=mpi"];
    let error = place.bad(2, &args("train.run_dir=x", &sets, &[]));
    assert!(error.contains("--features mpi"), "{error}");
}
