use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::error::at;
use crate::translate::translate;
use crate::{Error, Source};

const HEADER: &str = include_str!("../../emulator/cuda_emulator.h");
const RUNTIME: &str = include_str!("../../emulator/cuda_emulator.cpp");

/// Libraries that nobody has used for this long are removed.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

const COMMON: [&str; 8] = [
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-gnu-unique",
    "-fno-exceptions",
    "-fno-strict-aliasing",
    // Neither the device nor this program contracts products and sums by the host's leave.
    "-ffp-contract=off",
    // Fibers change over by longjmp, which the checked one takes for an error.
    "-U_FORTIFY_SOURCE",
];

/// The C++ compiler: `CXX`, or else g++.
pub fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "g++".into())
}

/// Where the project keeps what it can make again.
pub fn cache() -> PathBuf {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("burn-longnet")
}

/// The shared library that runs `source`, from the cache if it was made before.
pub fn library(source: &Source) -> Result<PathBuf, Error> {
    let text = translate(&source.text, &source.entry, source.arch.version()).map_err(|reason| {
        Error::Translate {
            kernel: source.entry.clone(),
            reason,
        }
    })?;
    let folder = folder()?;
    let mut hasher = DefaultHasher::new();
    (&text, HEADER, RUNTIME, compiler(), COMMON).hash(&mut hasher);
    let name = format!("{}-{:016x}.so", source.entry, hasher.finish());
    let path = folder.join(name);
    if path.exists() {
        // Its age is since it was last used.
        if let Ok(file) = fs::File::open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        return Ok(path);
    }

    let work = tempfile::tempdir_in(&folder).map_err(at(&folder))?;
    let runtime = runtime(&folder)?;
    for (name, text) in [("cuda_emulator.h", HEADER), ("kernel.cpp", &text)] {
        let path = work.path().join(name);
        fs::write(&path, text).map_err(at(path))?;
    }
    let object = work.path().join("kernel.o");
    let built = work.path().join("kernel.so");
    run(
        &source.entry,
        Command::new(compiler())
            .args(COMMON)
            .args(["-O1", "-w", "-c", "-fsanitize=thread"])
            .args(["--param", "tsan-instrument-func-entry-exit=0"])
            .arg(work.path().join("kernel.cpp"))
            .arg("-o")
            .arg(&object),
    )?;
    // Linked without the sanitizer's own library: the runtime has its functions.
    run(
        &source.entry,
        Command::new(compiler())
            .arg("-shared")
            .args([&object, &runtime])
            .arg("-o")
            .arg(&built),
    )?;
    // Two programs may make the same: the last one's stays.
    fs::rename(&built, &path).map_err(at(&path))?;
    Ok(path)
}

/// The folder of the libraries, with old ones removed once per run.
fn folder() -> Result<PathBuf, Error> {
    static CLEANED: OnceLock<()> = OnceLock::new();
    let folder = cache().join("cuda-emulated");
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    CLEANED.get_or_init(|| {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > KEPT));
            if old {
                let _ = fs::remove_file(entry.path());
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    });
    Ok(folder)
}

/// The emulator's own part, compiled once.
fn runtime(folder: &Path) -> Result<PathBuf, Error> {
    let mut hasher = DefaultHasher::new();
    (HEADER, RUNTIME, compiler(), COMMON).hash(&mut hasher);
    let path = folder.join(format!("emulator-{:016x}.o", hasher.finish()));
    if path.exists() {
        return Ok(path);
    }
    let work = tempfile::tempdir_in(folder).map_err(at(folder))?;
    for (name, text) in [("cuda_emulator.h", HEADER), ("cuda_emulator.cpp", RUNTIME)] {
        let path = work.path().join(name);
        fs::write(&path, text).map_err(at(path))?;
    }
    let built = work.path().join("emulator.o");
    run(
        "the emulator",
        Command::new(compiler())
            .args(COMMON)
            .args(["-O2", "-c"])
            .arg(work.path().join("cuda_emulator.cpp"))
            .arg("-o")
            .arg(&built),
    )?;
    fs::rename(&built, &path).map_err(at(&path))?;
    Ok(path)
}

fn run(kernel: &str, command: &mut Command) -> Result<(), Error> {
    let output = command.output().map_err(Error::NoCompiler)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Compile {
        kernel: kernel.into(),
        compiler: "the host's C++ compiler",
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
