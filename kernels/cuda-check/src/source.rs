use std::hash::{DefaultHasher, Hash, Hasher};

use cubecl::prelude::CubeKernel;
use cubecl::{Compiler, define_kernel};
use cubecl_cpp::shared::CppCompiler;
use cubecl_cpp::target::Cuda;

use crate::{Arch, Error};

/// A kernel as CUDA C++.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The kernel's entry point.
    pub entry: String,
    /// The GPU that it is for.
    pub arch: Arch,
    /// The translation unit, as NVRTC would get it.
    pub text: String,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: usize,
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
}

impl Source {
    /// The source of `kernel` for `arch`.
    ///
    /// # Errors
    ///
    /// [`Error::Emit`] if expanding the kernel panics or CubeCL refuses it.
    pub fn of<K: CubeKernel + ?Sized>(kernel: &K, arch: Arch) -> Result<Self, Error> {
        let refused = |reason: String| Error::Emit {
            kernel: kernel.name().into(),
            reason,
        };
        let definition = define_kernel(kernel).map_err(|error| refused(error.to_string()))?;
        let entry = definition.settings.kernel_name.clone();
        let dim = definition.settings.cube_dim;
        let compiled = CppCompiler::<Cuda>::default()
            .compile(definition, &arch.options())
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            entry,
            arch,
            text: compiled.to_string(),
            shared_bytes: compiled.shared_memory_size,
            block: [dim.x, dim.y, dim.z],
        })
    }

    /// Equal sources have equal numbers, within one build.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}
