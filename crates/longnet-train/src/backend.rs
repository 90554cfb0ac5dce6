//! Where to compute.

use crate::config::closest;
use burn::tensor::{DType, Device};

/// The backends of Burn by the name of the cargo feature that brings each.
const BACKENDS: [&str; 7] = ["flex", "cuda", "rocm", "metal", "vulkan", "wgpu", "cpu"];

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No backend has this name.
    #[error("--backend {name}: unknown backend{hint}; the backends are {}", BACKENDS.join(", "))]
    Unknown {
        /// The name given.
        name: String,
        /// "; did you mean ...", or nothing.
        hint: String,
    },
    /// The program was built without the backend.
    #[error(
        "--backend {name}: this program was built without it; build with --features {name} (cargo run --release -p longnet-cli --features {name} -- ...)"
    )]
    NotBuilt {
        /// The backend and its feature.
        name: String,
    },
    /// `LONGNET_CPU` names no instruction set of this machine.
    #[error("{message}")]
    Cpu {
        /// What it names, and what there is.
        message: String,
    },
}

/// The backends by name, and whether the program was built with each.
pub fn backends() -> [(&'static str, bool); BACKENDS.len()] {
    BACKENDS.map(|name| {
        let built = match name {
            "flex" => cfg!(feature = "flex"),
            "cuda" => cfg!(feature = "cuda"),
            "rocm" => cfg!(feature = "rocm"),
            "metal" => cfg!(feature = "metal"),
            "vulkan" => cfg!(feature = "vulkan"),
            "wgpu" => cfg!(feature = "wgpu"),
            _ => cfg!(feature = "cpu"),
        };
        (name, built)
    })
}

/// Whether ranks can be processes.
pub fn has_mpi() -> bool {
    cfg!(feature = "mpi")
}

/// The instruction set whose kernels the CPU backend uses, and all that this machine has kernels for. None
/// without the CPU backend, or with a `LONGNET_CPU` that is none of them.
pub fn cpu_kernels() -> Option<(&'static str, Vec<&'static str>)> {
    #[cfg(feature = "flex")]
    return Some((
        burn_longnet::backend::cpu_level().ok()?,
        burn_longnet::backend::cpu_levels(),
    ));
    #[cfg(not(feature = "flex"))]
    None
}

/// The number formats that `device` computes in.
pub fn dtypes(device: &Device) -> Vec<&'static str> {
    let all = [
        ("f64", DType::F64),
        ("f32", DType::F32),
        ("f16", DType::F16),
        ("bf16", DType::BF16),
    ];
    let usable = all
        .into_iter()
        .filter(|(_, dtype)| device.supports_dtype(*dtype));
    usable.map(|(name, _)| name).collect()
}

/// For a program to call at its start: what the CPU backend frees it will soon need again.
pub fn prepare_process() {
    #[cfg(feature = "flex")]
    burn_longnet::backend::keep_freed_memory();
}

/// The default device of the backend `name`.
///
/// # Errors
///
/// An unknown name, a backend whose cargo feature is off, or a `LONGNET_CPU` that this machine does not have.
pub fn device(name: &str) -> Result<Device, BackendError> {
    match name {
        #[cfg(feature = "flex")]
        "flex" => match burn_longnet::backend::cpu_level() {
            Ok(_) => Ok(Device::flex()),
            Err(error) => Err(BackendError::Cpu {
                message: error.to_string(),
            }),
        },
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        #[cfg(feature = "rocm")]
        "rocm" => Ok(Device::rocm(0)),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(Default::default())),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(Default::default())),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(Default::default())),
        #[cfg(feature = "cpu")]
        "cpu" => Ok(Device::cpu()),
        _ if BACKENDS.contains(&name) => Err(BackendError::NotBuilt { name: name.into() }),
        _ => Err(BackendError::Unknown {
            name: name.into(),
            hint: closest(name, BACKENDS)
                .map(|guess| format!("; did you mean '{guess}'?"))
                .unwrap_or_default(),
        }),
    }
}

/// Device `index` of the backend `name`, for the rank of that number on a machine. Only CUDA and ROCm count devices;
/// ranks of other backends share the one there is.
///
/// # Errors
///
/// As [`device`].
pub fn device_of_rank(name: &str, index: usize) -> Result<Device, BackendError> {
    match (name, index) {
        #[cfg(feature = "cuda")]
        ("cuda", index) => Ok(Device::cuda(index)),
        #[cfg(feature = "rocm")]
        ("rocm", index) => Ok(Device::rocm(index)),
        _ => device(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_is_not_there_is_named_with_its_feature() {
        assert_eq!(
            device("flax").unwrap_err().to_string(),
            "--backend flax: unknown backend; did you mean 'flex'?; the backends are flex, cuda, rocm, metal, vulkan, wgpu, cpu"
        );
        #[cfg(not(feature = "rocm"))]
        assert!(
            device("rocm")
                .unwrap_err()
                .to_string()
                .contains("--features rocm"),
            "the feature is not named"
        );
    }
}
