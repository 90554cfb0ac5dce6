//! `longnet doctor`.

use crate::args::BackendArgs;
use crate::exit::Failure;
use crate::out::out;
use longnet_train::backend::{self, backends};
use longnet_train::estimate::si;
use longnet_train::machine::Machine;
use longnet_train::memory;
use longnet_train::plan::bytes;
use std::process::Command;

/// What a processor may have that kernels use.
const INSTRUCTIONS: [&str; 14] = [
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
];

pub fn run(args: BackendArgs) -> Result<(), Failure> {
    let mut text = format!("program       longnet {}\n", env!("CARGO_PKG_VERSION"));
    text += &format!(
        "system        {} {}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    text += &processor();
    if let Some((all, free)) = memory::machine() {
        text += &format!(
            "memory        {}, {} of it free\n",
            bytes(all as f64),
            bytes(free as f64)
        );
    }
    text += &variables();
    text += &format!("mpirun        {}\n", mpirun());
    text += match backend::has_mpi() {
        true => "mpi           built in: ranks can be processes\n",
        false => "mpi           not built in (--features mpi): ranks are threads\n",
    };
    for (name, built) in backends() {
        let built = if built { "built in" } else { "not built in" };
        text += &format!("backend       {name}: {built}\n");
    }
    out(&text)?;
    out(&device(&args.backend)?)?;
    out("A run can start.\n")
}

/// Cores and instruction sets.
fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |names: [&str; 2]| {
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(name, _)| names.contains(&name.trim()));
        found.next().map(|(_, value)| value.trim().to_string())
    };
    let model = field(["model name", "Model"]).unwrap_or_else(|| "unknown".into());
    let flags = field(["flags", "Features"]).unwrap_or_default();
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let has: Vec<&str> = INSTRUCTIONS
        .into_iter()
        .filter(|name| flags.contains(name))
        .collect();
    let mut text = format!("processor     {model}, {cores} cores for this process\n");
    if !has.is_empty() {
        text += &format!("instructions  {}\n", has.join(" "));
    }
    let amx = has.contains(&"amx_bf16");
    text += match amx {
        true => "amx           yes: attention.precision = \"high\" is faster\n",
        false => "amx           no\n",
    };
    text + &backend::cpu_kernels().map_or(String::new(), |(used, all)| {
        format!("kernels       {used}, of {}\n", all.join(", "))
    })
}

/// The environment variables that change what the program does.
fn variables() -> String {
    let names = ["NO_COLOR", "RAYON_NUM_THREADS"];
    let mut set: Vec<String> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            let ours = name.starts_with("LONGNET_") || names.contains(&name.as_str());
            ours.then(|| format!("{name}={}", value.to_string_lossy()))
        })
        .collect();
    set.sort();
    match set.is_empty() {
        true => "variables     none of LONGNET_* is set\n".into(),
        false => format!("variables     {}\n", set.join(" ")),
    }
}

/// The version of MPI's launcher.
fn mpirun() -> String {
    let output = Command::new("mpirun").arg("--version").output();
    let missing = || "not found (only runs on several machines would need it)".to_string();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // MPICH's has it in the second line, Open MPI's in the first.
            let lines = text.lines().take_while(|line| !line.trim().is_empty());
            let mut words = lines.take(2).flat_map(str::split_whitespace).peekable();
            match words.peek() {
                Some(_) => words.collect::<Vec<_>>().join(" "),
                None => missing(),
            }
        }
        _ => missing(),
    }
}

/// The device of the backend that was asked for, tried out.
fn device(name: &str) -> Result<String, Failure> {
    let device = backend::device(name)?;
    let dtypes = backend::dtypes(&device).join(" ");
    let failed = || Failure::Device { name: name.into() };
    let machine = Machine::measure(&device).ok_or_else(failed)?;
    Ok(format!(
        "device        {}\n\
         dtypes        {dtypes}\n\
         peak          {}FLOP/s in products of f32 matrices, of which utilisation is a share\n",
        machine.device,
        si(machine.matmul_flops)
    ))
}
