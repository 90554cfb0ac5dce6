//! All tests of a file under every instruction set.

use std::process::Command;

/// In the process that `cargo test` starts: runs the tests of this executable again under each level
/// that they do not run under anyway. In those runs: checks that the level is what was forced.
pub fn run_again_under_every_level() {
    let level = longnet_cpu::level().unwrap();
    if let Ok(forced) = std::env::var("LONGNET_CPU") {
        assert_eq!(level, forced);
        return;
    }
    let levels = longnet_cpu::levels();
    assert_eq!(level, levels[0]);
    for forced in &levels[1..] {
        let run = Command::new(std::env::current_exe().unwrap())
            .env("LONGNET_CPU", forced)
            .output()
            .unwrap();
        let [out, err] = [&run.stdout, &run.stderr].map(|text| String::from_utf8_lossy(text));
        assert!(run.status.success(), "LONGNET_CPU={forced}\n{out}\n{err}");
    }
}
