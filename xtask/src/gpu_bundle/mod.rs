//! One archive with the tests and the benchmark of the CUDA kernels, for a machine with a GPU that builds nothing.

mod build;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask gpu-bundle [--headers FOLDER]...

Builds the tests and the benchmark for CUDA, without CUDA or a GPU, and packs them with a script and
PyTorch's side of the benchmark: target/gpu-bundle/longnet-gpu.tar.gz. On a machine with an NVIDIA GPU:

  tar -xzf longnet-gpu.tar.gz && longnet-gpu/run.sh RESULTS

--headers FOLDER    take CUDA's headers in FOLDER along, for a machine that has none";

/// What the archive unpacks to.
const NAME: &str = "longnet-gpu";

/// The most bytes of an archive.
const MOST: u64 = 64 << 20;

const SCRIPT: &str = include_str!("run.sh");
const PYTORCH: &str = include_str!("../../../benches/pytorch/gpu.py");

/// Makes the archive and prints where it is and its size.
pub fn run(options: &[&str]) -> ExitCode {
    let mut headers = Vec::new();
    let mut rest = options.iter();
    while let Some(&option) = rest.next() {
        match (option, rest.next()) {
            ("--headers", Some(folder)) => headers.push(PathBuf::from(folder)),
            ("--help" | "-h", _) => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    match bundle(&headers) {
        Ok((archive, bytes)) => {
            let mib = bytes as f64 / f64::from(1 << 20);
            println!("{} ({mib:.1} MiB)", archive.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// The archive and its bytes.
fn bundle(headers: &[PathBuf]) -> Result<(PathBuf, u64), String> {
    let target = build::target().join("gpu-bundle");
    let programs = build::programs(&target)?;
    let folder = target.join(NAME);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(at(&folder))?;
    }
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    for program in &programs {
        let to = folder.join(&program.name);
        fs::copy(&program.path, &to).map_err(at(&to))?;
    }
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(at(&path))
    };
    write("run.sh", SCRIPT)?;
    write("gpu.py", PYTORCH)?;
    write("commit", &format!("{}\n", build::commit()))?;
    executable(&folder.join("run.sh"))?;
    let include = folder.join("include");
    for from in headers {
        copy_all(from, &include)?;
    }
    let archive = target.join(format!("{NAME}.tar.gz"));
    let status = Command::new("tar")
        .arg("-czf")
        .arg(&archive)
        .arg("-C")
        .args([&target, Path::new(NAME)])
        .status()
        .map_err(|error| format!("tar cannot be run: {error}"))?;
    if !status.success() {
        return Err("tar has failed".into());
    }
    let bytes = fs::metadata(&archive).map_err(at(&archive))?.len();
    if bytes >= MOST {
        let mib = bytes >> 20;
        return Err(format!(
            "{} has {mib} MiB, {} are allowed",
            archive.display(),
            MOST >> 20
        ));
    }
    Ok((archive, bytes))
}

/// Every file of `from`, in the same folders of `to`.
fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let from = entry.map_err(at(from))?.path();
        let to = to.join(from.file_name().expect("an entry has a name"));
        if from.is_dir() {
            copy_all(&from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(at(&from))?;
        }
    }
    Ok(())
}

fn executable(path: &Path) -> Result<(), String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(at(path))?;
    }
    let _ = path;
    Ok(())
}

/// An error with the path that it is of.
fn at(path: &Path) -> impl Fn(std::io::Error) -> String + use<> {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}
