//! Memory does not grow with the square of the length.
#![cfg(target_os = "linux")]

use longnet_tests::report::report;
use std::process::Command;

#[test]
fn forward_and_backward_at_16384_stay_far_below_dense_scores() {
    // In a process of its own: the peak of this one is that of whatever tests ran in it.
    let output = Command::new(env!("CARGO_BIN_EXE_long_context"))
        .args(["16384", "backward"])
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    report(&format!("memory: {}", text.trim()));
    let peak: f64 = text
        .split("peak resident memory ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|mib| mib.parse().ok())
        .expect("a peak");
    // The tensors take 16 MiB each; the scores of a single head would take 1024.
    assert!(peak < 512.0, "{peak} MiB");
}
