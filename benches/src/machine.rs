//! What the numbers were measured on.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::{fs, thread};

/// Instruction sets that matter here, by their names in `/proc/cpuinfo`.
const FEATURES: [&str; 12] = [
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "amx_tile",
    "amx_bf16",
    "asimd",
];

/// A description of this machine, and of what the program was built from.
#[derive(Clone, Debug)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub features: Vec<&'static str>,
    /// The kernels that `longnet-cpu` chose.
    pub level: &'static str,
    /// The GPU that takes part, and its driver.
    pub gpu: Option<String>,
    pub memory_gib: f64,
    pub rustc: String,
    pub commit: String,
    pub date: String,
}

impl Machine {
    /// This one. What cannot be found out is "unknown".
    pub fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name| field(&cpuinfo, name);
        let flags = field("flags").or(field("Features")).unwrap_or_default();
        let has = |feature: &&str| flags.split_whitespace().any(|flag| flag == *feature);
        let model = field("model name").unwrap_or_else(|| std::env::consts::ARCH.into());
        let numbers = ["cpu family", "model", "stepping"].map(field);
        let cpu = match numbers {
            [Some(family), Some(number), Some(stepping)] => {
                format!("{model}, family {family} model {number} stepping {stepping}")
            }
            _ => model,
        };
        Self {
            cpu,
            cores: thread::available_parallelism().map_or(1, usize::from),
            features: FEATURES.into_iter().filter(has).collect(),
            level: longnet_cpu::level().unwrap_or("unknown"),
            gpu: None,
            memory_gib: memory("MemTotal:").unwrap_or(0.0) / f64::from(1 << 30),
            rustc: built_with(option_env!("LONGNET_RUSTC"), || {
                output("rustc", &["--version"])
            }),
            commit: built_with(option_env!("LONGNET_COMMIT"), commit),
            date: output("date", &["-u", "+%F"]),
        }
    }

    /// A name for files: the words of the GPU's name, or those of the CPU's, its model number and cores.
    pub fn short_name(&self) -> String {
        if let Some(gpu) = &self.gpu {
            let words = gpu.split([',', ';']).next().unwrap_or_default();
            return words
                .to_lowercase()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join("-");
        }
        let cpu = self
            .cpu
            .replace("(R)", "")
            .replace("(TM)", "")
            .to_lowercase();
        let words = cpu.split(|c: char| !c.is_ascii_alphanumeric());
        let filler = ["", "family", "stepping", "processor", "cpu"];
        let words: Vec<&str> = words
            .filter(|word| !filler.contains(word))
            .take(5)
            .collect();
        format!("{}-{}c", words.join("-"), self.cores)
    }

    pub fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "instruction_sets": self.features,
            "level": self.level,
            "gpu": self.gpu,
            "memory_gib": self.memory_gib,
            "rustc": self.rustc,
            "commit": self.commit,
            "date": self.date,
        })
    }

    /// The lines of a report's head.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{}, {} cores", self.cpu, self.cores),
            format!("{}; {:.0} GiB", self.features.join(" "), self.memory_gib),
            format!("longnet-cpu's kernels: {}", self.level),
            format!("{}, commit {}, {}", self.rustc, self.commit, self.date),
        ];
        lines.extend(self.gpu.clone());
        lines
    }
}

/// What was found out when the program was built, for one that runs elsewhere, or else what is so here.
fn built_with(known: Option<&str>, here: impl FnOnce() -> String) -> String {
    known.map_or_else(here, str::to_owned)
}

/// The first CUDA device: its name by CubeCL, then what the driver's own program says of it.
#[cfg(feature = "cuda")]
pub fn cuda() -> Option<String> {
    let name = longnet_tests::device::cuda()?.identity()?.name;
    let query = "--query-gpu=name,memory.total,driver_version,clocks.max.sm,power.limit";
    let driver = output("nvidia-smi", &[query, "--format=csv,noheader", "--id=0"]);
    Some(format!("{name}; nvidia-smi: {driver}"))
}

/// Bytes that new allocations may take; `None` where `/proc` does not say.
pub fn available_memory() -> Option<f64> {
    memory("MemAvailable:")
}

fn memory(name: &str) -> Option<f64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0)
}

fn field(cpuinfo: &str, name: &str) -> Option<String> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn commit() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let hash = output("git", &["-C", folder, "rev-parse", "--short=12", "HEAD"]);
    // Results of earlier runs change nothing that is measured.
    let results = Path::new(folder).join("results");
    let except = format!(":(exclude){}", results.display());
    let changes = ["-C", folder, "status", "--porcelain", "--", ":/", &except];
    match output("git", &changes).as_str() {
        "" | "unknown" => hash,
        _ => format!("{hash} with changes"),
    }
}

/// What a program prints, on one line; empty if it prints nothing.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_name_has_words_model_and_cores() {
        let machine = Machine {
            cpu: "Intel(R) Xeon(R) Processor, family 6 model 207 stepping 2".into(),
            cores: 2,
            ..Machine::here()
        };
        assert_eq!(machine.short_name(), "intel-xeon-6-model-207-2c");
    }

    #[test]
    fn the_short_name_is_that_of_a_gpu_that_takes_part() {
        let machine = Machine {
            gpu: Some("NVIDIA H200; nvidia-smi: unknown".into()),
            ..Machine::here()
        };
        assert_eq!(machine.short_name(), "nvidia-h200");
        assert_eq!(machine.lines().last(), machine.gpu.as_ref());
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let info = "model\t\t: 207\nmodel name\t: A B\n";
        assert_eq!(field(info, "model name").as_deref(), Some("A B"));
        assert_eq!(field(info, "model").as_deref(), Some("207"));
        assert_eq!(field(info, "name"), None);
    }
}
