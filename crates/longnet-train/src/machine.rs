//! The machine that a run is on, as far as its speed depends on it.

use crate::peak;
use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The file in the folder of a run.
const FILE: &str = "machine.json";

/// What a device is and can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The device, as Burn names it.
    pub device: String,
    /// The name of the machine.
    pub host: String,
    /// Threads that the CPU backend uses.
    pub threads: usize,
    /// The most FLOPs a second that a matrix product of f32 reached.
    pub matmul_flops: f64,
}

impl Machine {
    /// `device` here, measured now. None if the device fails, which a run will say better.
    pub fn measure(device: &Device) -> Option<Self> {
        Some(Self {
            // Whole, so that it survives its text to the last digit.
            matmul_flops: peak::matmul(device, DType::F32).ok()?.round(),
            ..Self::unmeasured(device)
        })
    }

    fn unmeasured(device: &Device) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            device: format!("{:?}", device.clone().inner()),
            host: host.trim().into(),
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            matmul_flops: 0.0,
        }
    }

    /// `device` as the record of the run in `run` has it, so that a run that goes on is measured against
    /// the same peak; measured and recorded where the record is of another machine or not there.
    pub fn of_run(run: &Path, device: &Device) -> Option<Self> {
        let path = run.join(FILE);
        let recorded = fs::read(&path).ok();
        let recorded: Option<Self> = recorded.and_then(|text| serde_json::from_slice(&text).ok());
        let here = Self::unmeasured(device);
        let same = |known: &Self| {
            let matmul_flops = known.matmul_flops;
            matmul_flops > 0.0
                && *known
                    == Self {
                        matmul_flops,
                        ..here.clone()
                    }
        };
        if let Some(known) = recorded.filter(same) {
            return Some(known);
        }
        let machine = Self::measure(device)?;
        let text = serde_json::to_string_pretty(&machine).expect("a machine is plain data");
        // Only a cache: what cannot be written here will fail where it matters.
        let _ = fs::write(path, text + "\n");
        Some(machine)
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_the_peak_it_was_begun_with_on_the_same_machine_only() {
        let run = tempfile::tempdir().unwrap();
        let device = Device::flex();
        let first = Machine::of_run(run.path(), &device).unwrap();
        assert!(first.matmul_flops > 1e6, "{first:?}");
        assert_eq!(Machine::of_run(run.path(), &device), Some(first.clone()));
        let elsewhere = Machine {
            host: "another".into(),
            matmul_flops: 1.0,
            ..first
        };
        let write = |text: &str| fs::write(run.path().join(FILE), text).unwrap();
        for text in [&serde_json::to_string(&elsewhere).unwrap(), "{", ""] {
            write(text);
            let again = Machine::of_run(run.path(), &device).unwrap();
            assert!(again.matmul_flops > 1e6 && again.host == first_host());
        }
    }

    fn first_host() -> String {
        Machine::unmeasured(&Device::flex()).host
    }
}
