//! Ranks that are processes, started by `mpirun`.

#[path = "parallel/learned.rs"]
mod learned;
mod place;

use learned::{alike, args};
use place::Place;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program on `ranks` processes. `mark` finds them again.
fn command(place: &Place, ranks: usize, mark: &str, args: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command
        .current_dir(place.path("."))
        .args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_longnet")])
        .args(args)
        .args(["--set", "parallel.engine=mpi"])
        .env("LONGNET_TEST_MARK", mark)
        // Two cores have room for no more.
        .env("RAYON_NUM_THREADS", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Whether `mpirun` is there; where `LONGNET_REQUIRE` contains `mpi` it has to be.
fn is_there() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok();
    let required = std::env::var("LONGNET_REQUIRE").is_ok_and(|all| all.contains("mpi"));
    assert!(
        found || !required,
        "LONGNET_REQUIRE asks for mpirun, and there is none"
    );
    if !found {
        eprintln!("skipped: there is no mpirun");
    }
    found
}

fn good(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into()
}

#[test]
fn processes_learn_as_one_does_and_say_it_once() {
    if !is_there() {
        return;
    }
    let place = Place::new();
    place.good(&args("train.run_dir=one", &[], &[]));
    for (run, sets) in [
        ("two", &["parallel.data=2", "parallel.zero=true"][..]),
        ("ring", &["parallel.ring=2"]),
        ("four", &["parallel.ring=2", "parallel.data=2"]),
    ] {
        let folder = format!("train.run_dir={run}");
        let ranks = if run == "four" { 4 } else { 2 };
        let shown = good(
            command(&place, ranks, run, &args(&folder, sets, &[]))
                .output()
                .unwrap(),
        );
        assert_eq!(shown.matches("\nrun         ").count(), 1, "{shown}");
        assert_eq!(shown.matches("\nsample      ").count(), 1, "{shown}");
        alike(&place, "one", run);
    }
}

#[test]
fn as_many_processes_as_ranks_are_asked_for() {
    if !is_there() {
        return;
    }
    let place = Place::new();
    let args = args("train.run_dir=x", &["parallel.data=4"], &[]);
    let output = command(&place, 2, "x", &args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("are 4 ranks, but there are 2"),
        "{error}"
    );
    // Alone, without mpirun, it says how to start it.
    let sets = ["parallel.data=2", "parallel.engine=mpi"];
    let error = place.bad(2, &learned::args("train.run_dir=x", &sets, &[]));
    assert!(error.contains("mpirun -n 2 longnet train"), "{error}");
    assert!(!place.path("x").exists());
}

/// The processes of the ranks of `mark`, by rank.
fn ranks(mark: &str) -> Vec<(usize, u32)> {
    let marked = format!("LONGNET_TEST_MARK={mark}");
    let rank = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let exe = fs::read_link(entry.path().join("exe")).ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let variables: Vec<_> = environment
            .split(|&b| b == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let ours = exe.ends_with("longnet") && variables.iter().any(|v| *v == marked);
        let names = ["PMI_RANK=", "OMPI_COMM_WORLD_RANK="];
        let number = |v: &std::borrow::Cow<'_, str>| {
            names
                .iter()
                .find_map(|name| v.strip_prefix(name)?.parse().ok())
        };
        let number = variables.iter().find_map(number);
        number.filter(|_| ours).map(|rank| (rank, pid))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.filter_map(rank).collect();
    all.sort_unstable();
    all
}

/// Waits, but not for ever.
fn end(mut child: Child, most: Duration) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > most {
            let _ = child.kill();
            panic!("the run goes on {most:?} after a rank was killed");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Killed at random moments, any rank takes all others with it within the deadline, and what is left goes on with as many
/// ranks or fewer, to the end of an undisturbed run.
#[test]
fn killed_ten_times_the_run_ends_each_time_and_goes_on() {
    if !is_there() {
        return;
    }
    let place = Place::new();
    let quick = [
        "train.steps=200",
        "train.eval_every=100",
        "train.checkpoint_every=4",
        "parallel.deadline=20",
    ];
    place.good(&args("train.run_dir=one", &quick, &[]));
    let (mut kills, mut random) = (0, 0x9e37_79b9_7f4a_7c15u64);
    let mut draw = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    let (mut life, mut ended) = (0, 0);
    while kills < 10 {
        let mark = format!("{}-{life}", std::process::id());
        life += 1;
        // 2 ranks and 4 in turn.
        let (count, mesh) = match life % 2 {
            0 => (2, ["parallel.data=2", "parallel.ring=1"]),
            _ => (4, ["parallel.data=2", "parallel.ring=2"]),
        };
        let sets = [&quick[..], &mesh].concat();
        let run = format!("killed{ended}");
        let folder = format!("train.run_dir={run}");
        let args = args(&folder, &sets, &["--resume", "auto"]);
        let latest = || {
            let latest = place.path(&format!("{run}/latest"));
            fs::read_to_string(latest).unwrap_or_default()
        };
        let before = latest();
        let mut child = command(&place, count, &mark, &args).spawn().unwrap();
        let begun = Instant::now();
        // Two lives in three are killed after their first checkpoint, the others at any time.
        if draw(3) > 0 {
            while latest() == before
                && child.try_wait().unwrap().is_none()
                && begun.elapsed() < Duration::from_secs(120)
            {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        std::thread::sleep(Duration::from_millis(draw(1500)));
        let found = ranks(&mark);
        if child.try_wait().unwrap().is_some() || found.is_empty() {
            let output = end(child, Duration::from_secs(60));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "it failed by itself: {error}");
            alike(&place, "one", &run);
            ended += 1;
            continue;
        }
        let (_, pid) = found[draw(found.len() as u64) as usize];
        let killed = Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status();
        assert!(killed.unwrap().success() || child.try_wait().unwrap().is_some());
        let output = end(child, Duration::from_secs(25));
        assert!(
            !output.status.success() || found.len() < count,
            "rank {pid} was killed"
        );
        kills += 1;
        // None of them lives on.
        let begun = Instant::now();
        while !ranks(&mark).is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(25),
                "{:?} live on",
                ranks(&mark)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let run = format!("killed{ended}");
    let folder = format!("train.run_dir={run}");
    place.good(&args(&folder, &quick, &["--resume", "auto"]));
    alike(&place, "one", &run);
}
