use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::emulate::cache;
use crate::error::at;

/// CUDA 12.9, in the order of use.
const WHEELS: [&str; 4] = [
    "nvidia-cuda-nvrtc-cu12==12.9.86",
    "nvidia-cuda-runtime-cu12==12.9.79",
    "nvidia-cuda-cccl-cu12==12.9.27",
    "nvidia-cuda-nvcc-cu12==12.9.86",
];

/// The folder with CUDA's parts: `cuda_nvrtc`, `cuda_runtime`, `cuda_cccl`, `cuda_nvcc`.
pub fn fetch() -> Result<PathBuf, Error> {
    let folder = cache().join("cuda-wheels");
    let complete = folder.join("12.9");
    let parts = complete.join("nvidia");
    if parts.exists() {
        return Ok(parts);
    }
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let work = tempfile::tempdir_in(&folder).map_err(at(&folder))?;
    let target = work.path().join("site");
    eprintln!("Fetching NVIDIA's compilers from PyPI, once: about 100 MB.");
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps"])
        .args(["--only-binary", ":all:", "--target"])
        .arg(&target)
        .args(WHEELS)
        .output();
    let unavailable = |reason: String| Error::NoWheels(reason, complete.clone());
    let output = output.map_err(|error| unavailable(format!("python3 cannot be run: {error}")))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        let last = messages.lines().rfind(|line| !line.trim().is_empty());
        return Err(unavailable(last.unwrap_or("pip has failed").to_string()));
    }
    // Another program may have been quicker.
    if let Err(error) = fs::rename(&target, &complete)
        && !parts.exists()
    {
        return Err(at(&complete)(error));
    }
    Ok(parts)
}

/// The assembler, made executable.
pub fn ptxas(folder: &Path) -> Result<PathBuf, Error> {
    let path = folder.join("cuda_nvcc/bin/ptxas");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&path, permissions).map_err(at(&path))?;
    }
    Ok(path)
}
