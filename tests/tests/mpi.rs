//! Ranks that are processes, started by `mpirun`: what they compute, and how a job ends in which one fails.

use longnet_tests::report::report;
use longnet_tests::rng::Rng;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A deadline that no healthy rank misses here.
const AMPLE: Duration = Duration::from_secs(60);

/// What may pass between the end of a deadline and that of the job.
const GRACE: Duration = Duration::from_secs(10);

/// Whether there is an `mpirun`; prints a line if not.
///
/// # Panics
///
/// If there is none and `LONGNET_REQUIRE` contains the word `mpi`.
fn mpirun() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok();
    if !found {
        let required = std::env::var("LONGNET_REQUIRE").unwrap_or_default();
        let required = required.split([',', ' ']).any(|word| word == "mpi");
        assert!(
            !required,
            "LONGNET_REQUIRE asks for mpi, and there is no mpirun"
        );
        report("skipped: no mpirun (Debian: apt install mpich)");
    }
    found
}

struct Job {
    mpirun: Child,
    output: BufReader<ChildStdout>,
    /// Process ids by rank; none of a rank that has ended before it could say.
    processes: Vec<Option<u32>>,
}

struct Ended {
    succeeded: bool,
    took: Duration,
    output: String,
    errors: String,
}

impl Job {
    /// Starts `ranks` processes and reads which ones they are.
    fn start(ranks: usize, task: &str, deadline: Duration) -> Self {
        let program = env!("CARGO_BIN_EXE_mpi_rank");
        let ms = deadline.as_millis().to_string();
        Self::launch(ranks, &["-n", &ranks.to_string(), program, task, &ms])
    }

    /// As [`start`](Self::start), with these arguments of `mpirun`.
    fn launch(ranks: usize, args: &[&str]) -> Self {
        let mut mpirun = Command::new("mpirun")
            // Open MPI asks before it starts more ranks than cores, or as root.
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
            .env("RUST_BACKTRACE", "0")
            // The ranks share the cores.
            .env("RAYON_NUM_THREADS", "1")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mpirun starts");
        let mut output = BufReader::new(mpirun.stdout.take().expect("it is piped"));
        let mut processes = vec![None; ranks];
        // Some rank may be done before another has said who it is.
        let mut line = String::new();
        while processes.contains(&None) && output.read_line(&mut line).expect("lines") > 0 {
            let words: Vec<_> = line.split_whitespace().collect();
            if let ["rank", rank, "is", "process", process] = words[..] {
                processes[rank.parse::<usize>().unwrap()] = Some(process.parse().unwrap());
            }
            line.clear();
        }
        Self {
            mpirun,
            output,
            processes,
        }
    }

    fn signal(&self, rank: usize, signal: &str) {
        let process = self.processes[rank].expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", signal, &process]).status();
        assert!(sent.expect("kill starts").success());
    }

    /// Waits for the end, for at most `limit`.
    fn end(mut self, limit: Duration) -> Ended {
        let begun = Instant::now();
        let mut errors = self.mpirun.stderr.take().expect("it is piped");
        let errors = thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).map(|_| text)
        });
        let output = thread::spawn(move || {
            let mut text = String::new();
            self.output.read_to_string(&mut text).map(|_| text)
        });
        let status = loop {
            if let Some(status) = self.mpirun.try_wait().expect("mpirun can be waited for") {
                break status;
            }
            if begun.elapsed() > limit {
                self.mpirun.kill().expect("mpirun can be killed");
                panic!("the job has not ended within {limit:?}");
            }
            thread::sleep(Duration::from_millis(5));
        };
        let took = begun.elapsed();
        for process in self.processes.into_iter().flatten() {
            let stat = format!("/proc/{process}/stat");
            let runs = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
            while runs() {
                assert!(begun.elapsed() < limit, "process {process} is left");
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ended {
            succeeded: status.success(),
            took,
            output: output.join().unwrap().unwrap(),
            errors: errors.join().unwrap().unwrap(),
        }
    }
}

/// The job fails within the deadline, and says all of `words`.
#[track_caller]
fn fails(job: Job, deadline: Duration, words: &[&str]) -> Ended {
    let ended = job.end(deadline + GRACE);
    assert!(!ended.succeeded, "{}", ended.output);
    for word in words {
        assert!(ended.errors.contains(word), "{word}: {}", ended.errors);
    }
    ended
}

#[test]
fn every_operation_gives_what_it_should() {
    if !mpirun() {
        return;
    }
    for ranks in [1, 2, 4] {
        let ended = Job::start(ranks, "operations", AMPLE).end(2 * AMPLE);
        assert!(ended.succeeded, "{}", ended.errors);
        assert_eq!(
            ended.output.matches("done").count(),
            ranks,
            "{}",
            ended.output
        );
        assert_eq!(ended.errors, "");
        report(&format!("{ranks} ranks, all operations: {:?}", ended.took));
    }
}

#[test]
fn ring_attention_is_attention_on_one_device() {
    if !mpirun() {
        return;
    }
    for ranks in [2, 4] {
        let ended = Job::start(ranks, "ring", AMPLE).end(2 * AMPLE);
        assert!(ended.succeeded, "{}", ended.errors);
        report(&format!("{ranks} ranks, ring attention: {:?}", ended.took));
    }
}

#[test]
fn ranks_that_disagree_end_the_job() {
    if !mpirun() {
        return;
    }
    let cases: [(&str, &[&str]); 4] = [
        (
            "length",
            &[
                "rank 1",
                "4 values of F32",
                "3 values of F32",
                "a shift by 1",
            ],
        ),
        ("kind", &["rank 1", "a barrier", "a reduction of 3 values"]),
        (
            "unexpected",
            &["rank 0 sent 3 values of F32 to rank 1 in a shift by 1"],
        ),
        ("missing", &["rank 1 expects something of rank 0"]),
    ];
    for (task, words) in cases {
        fails(Job::start(2, task, AMPLE), Duration::ZERO, words);
    }
}

#[test]
fn a_rank_that_fails_ends_the_job() {
    if !mpirun() {
        return;
    }
    let short = Duration::from_millis(500);
    fails(
        Job::start(4, "panic", AMPLE),
        Duration::ZERO,
        &["rank 1", "it panicked: out of luck"],
    );
    fails(
        Job::start(4, "late", short),
        short,
        &["waited 500ms for rank 1", "a barrier"],
    );
    fails(Job::start(4, "return", short), short, &["rank 1"]);
}

#[test]
fn a_stopped_rank_ends_the_job_within_the_deadline() {
    if !mpirun() {
        return;
    }
    let deadline = Duration::from_secs(1);
    let mut rng = Rng::new(7, 0);
    for _ in 0..2 {
        let job = Job::start(4, "loop", deadline);
        thread::sleep(Duration::from_secs_f64(rng.unit()));
        let rank = rng.next() as usize % 4;
        job.signal(rank, "STOP");
        let word = format!("for rank {rank} in");
        let ended = fails(job, deadline, &["waited 1s", &word]);
        report(&format!(
            "rank {rank} stopped: the job ended after {:?}",
            ended.took
        ));
    }
}

#[test]
fn a_killed_rank_ends_the_job() {
    if !mpirun() {
        return;
    }
    let mut rng = Rng::new(8, 0);
    for _ in 0..10 {
        let job = Job::start(4, "loop", AMPLE);
        thread::sleep(Duration::from_secs_f64(0.5 * rng.unit()));
        let rank = rng.next() as usize % 4;
        job.signal(rank, "KILL");
        let ended = fails(job, Duration::ZERO, &[]);
        report(&format!(
            "rank {rank} killed: the job ended after {:?}",
            ended.took
        ));
    }
}

#[test]
fn a_process_that_never_starts_ends_the_job_within_the_deadline() {
    if !mpirun() {
        return;
    }
    let deadline = Duration::from_millis(500);
    let program = env!("CARGO_BIN_EXE_mpi_rank");
    let one = ["-n", "1", program, "operations", "500", ":"];
    let other = ["-n", "1", "sleep", "20"];
    let job = Job::launch(0, &[&one[..], &other].concat());
    fails(job, deadline, &["has not started within 500ms"]);
}

/// Takes 8 GiB: `cargo test -p longnet-tests --features mpi --release --test mpi -- --ignored`.
#[test]
#[ignore = "takes 8 GiB"]
fn a_message_may_be_larger_than_two_gibibytes() {
    if mpirun() {
        let ended = Job::start(2, "large", AMPLE).end(2 * AMPLE);
        assert!(ended.succeeded, "{}", ended.errors);
        report(&format!("2^31 + 5 bytes: {:?}", ended.took));
    }
}
