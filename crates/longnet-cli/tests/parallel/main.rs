//! The built program on several ranks.

mod learned;
#[path = "../place/mod.rs"]
mod place;

use learned::{alike, args};
use place::Place;

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

#[test]
#[cfg(not(feature = "mpi"))]
fn a_program_without_mpi_says_so() {
    let place = Place::new();
    let sets = ["parallel.data=2", "parallel.engine=mpi"];
    let error = place.bad(2, &args("train.run_dir=x", &sets, &[]));
    assert!(error.contains("--features mpi"), "{error}");
}
