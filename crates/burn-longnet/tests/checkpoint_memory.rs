//! What activation checkpointing is for: the peak memory of a training step. In a test binary of its
//! own, since the peak is that of the process.

#![cfg(target_os = "linux")]

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use burn_longnet::attention::branches;
use burn_longnet::model::{LongNetLM, LongNetLMConfig};
use std::fs;

const LENGTH: usize = 1024;

/// A line of `/proc/self/status`, in MiB.
fn status(field: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.expect("a size").parse::<f64>().expect("a number") / 1024.0
}

/// The peak of the resident memory in a forward and a backward pass, in MiB. What an earlier pass has freed may
/// still be resident, so the passes that need less come first.
fn peak(lm: &LongNetLM) -> f64 {
    let ids = Tensor::<1, Int>::arange(0..LENGTH as i64, &Device::default()).unsqueeze::<2>();
    let ids = ids.remainder_scalar(17);
    fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
    lm.loss(ids.clone(), ids).backward();
    status("VmHWM")
}

#[test]
fn checkpointing_lowers_the_peak_of_a_training_step_by_the_number_of_layers_or_so() {
    let config = LongNetLMConfig::new(17, 64, 12, 2)
        .with_branches(branches([(256, 1), (LENGTH, 8)]))
        .with_loss_chunk(256);
    let plain = config.init(&Device::default().autodiff());
    let config = config.with_checkpoint_activations(true);
    let same = |config: LongNetLMConfig| {
        let lm = config.init(&Device::default().autodiff());
        lm.load_record(plain.clone().into_record())
    };
    let every_second = (0..12).step_by(2).collect();
    let half = same(config.clone().with_checkpoint_layers(Some(every_second)));
    let checkpointed = same(config);
    // First without counting: threads and their scratch are made once.
    peak(&checkpointed);
    let before = status("VmRSS");
    let [low, middle, high] = [&checkpointed, &half, &plain].map(|lm| peak(lm) - before);
    println!(
        "peak of {LENGTH} tokens: {low:.0} MiB checkpointed, {middle:.0} MiB half of it, {high:.0} MiB plain"
    );
    assert!(low * 4.0 < high, "{low} MiB checkpointed, {high} MiB plain");
    assert!(
        (0.4..0.75).contains(&(middle / high)),
        "{middle} MiB with every second layer checkpointed, {high} MiB plain"
    );
}
