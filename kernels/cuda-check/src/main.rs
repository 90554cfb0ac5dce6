//! Compiles the project's CUDA kernels for GPUs that are not here, and emulates them.
//!
//! `cargo xtask cuda-check --help`

mod report;
mod variants;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use longnet_cuda_check::emulate::{self, Order};
use longnet_cuda_check::nvcc::Toolchain;
use longnet_cuda_check::{Arch, Error, Recorder, required};

use report::Row;
use variants::Variant;

/// Proves CUDA kernels right without a GPU: compiles them with NVRTC and ptxas for sm_80 and sm_90a, and
/// runs them on the host against a reference in f64.
#[derive(Parser)]
#[command(name = "cargo xtask cuda-check")]
struct Options {
    /// Only variants whose name contains this.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Does not compile for GPUs.
    #[arg(long, conflicts_with = "compile_only")]
    emulate_only: bool,
    /// Does not emulate.
    #[arg(long)]
    compile_only: bool,
    /// Writes the table of the compiled kernels to this file, as JSON.
    #[arg(long, value_name = "PATH", conflicts_with = "emulate_only")]
    json: Option<PathBuf>,
    /// Lists the variants.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let named = |variant: &Variant| {
        let filter = options.filter.as_deref().unwrap_or_default();
        variant.name.contains(filter)
    };
    let variants: Vec<Variant> = variants::all().into_iter().filter(named).collect();
    if variants.is_empty() {
        eprintln!("no variant has this name; --list names them");
        return ExitCode::FAILURE;
    }
    if options.list {
        for variant in &variants {
            println!("{}", variant.name);
        }
        return ExitCode::SUCCESS;
    }

    let mut right = true;
    if !options.emulate_only {
        right &= compile(&variants, options.json.as_deref());
    }
    if !options.compile_only {
        right &= emulate(&variants);
    }
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Compiles all kernels of all variants; whether they compile, the hot ones without spills.
fn compile(variants: &[Variant], json: Option<&std::path::Path>) -> bool {
    let toolchain = match Toolchain::fetch() {
        Ok(toolchain) => toolchain,
        Err(error @ Error::NoWheels(..)) if !required("cuda-compilers") => {
            println!("not compiled for GPUs: {error}");
            return true;
        }
        Err(error) => {
            eprintln!("{error}");
            return false;
        }
    };
    let mut right = true;
    let mut rows = Vec::new();
    for (variant, arch) in variants
        .iter()
        .flat_map(|variant| Arch::ALL.map(|arch| (variant, arch)))
    {
        let recorder = Recorder::new(arch);
        // What it computes on a device that runs nothing means nothing.
        let _ = (variant.run)(recorder.client());
        let compiled = recorder.take().and_then(|sources| {
            sources
                .iter()
                .map(|source| Ok(Row::new(variant, source, toolchain.compile(source)?)))
                .collect::<Result<Vec<Row>, Error>>()
        });
        match compiled {
            Ok(compiled) => rows.extend(compiled),
            Err(error) => {
                eprintln!("{}, {}: {error}", variant.name, arch.target());
                right = false;
            }
        }
    }
    print!("{}", report::table(&rows));
    for row in rows.iter().filter(|row| row.hot && row.spills()) {
        eprintln!("{} spills registers on {}", row.variant, row.arch);
        right = false;
    }
    if let Some(path) = json
        && let Err(error) = report::write(&rows, path)
    {
        eprintln!("{}: {error}", path.display());
        right = false;
    }
    right
}

/// Runs all variants on the host; whether they agree with the reference, in every order of the
/// threads.
fn emulate(variants: &[Variant]) -> bool {
    let mut right = true;
    for variant in variants {
        let start = Instant::now();
        for order in [Order::Ascending, Order::Descending, Order::Drawn(1)] {
            let Some(client) = emulate::client_with(Arch::Sm80, order) else {
                return true;
            };
            if let Err(error) = (variant.run)(&client) {
                eprintln!("{}, threads {order:?}: {error}", variant.name);
                right = false;
                break;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("emulated in {seconds:5.1} s: {}", variant.name);
    }
    right
}
