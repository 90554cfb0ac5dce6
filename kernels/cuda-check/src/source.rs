use std::collections::HashMap;
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
    /// The translation unit, as NVRTC would get it but for the numbers in the names of values, which
    /// differ from run to run in CubeCL's: here they count from 0.
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
            text: renumbered(&compiled.source),
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

/// `text` with its names `v` and a number counted in the order in which they first stand there.
fn renumbered(text: &str) -> String {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let other = rest.find(is_name).unwrap_or(rest.len());
        out.push_str(&rest[..other]);
        rest = &rest[other..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = &rest[end..];
        let counted = word.strip_prefix('v').and_then(|counted| {
            let digits = counted.find(|c: char| !c.is_ascii_digit());
            let (number, suffix) = counted.split_at(digits.unwrap_or(counted.len()));
            let known = !number.is_empty() && (suffix.is_empty() || suffix == "_store");
            known.then_some((number, suffix))
        });
        match counted {
            Some((number, suffix)) => {
                let next = numbers.len();
                let number = numbers.entry(number).or_insert(next);
                out.push_str(&format!("v{number}{suffix}"));
            }
            None => out.push_str(word),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_counted_from_zero() {
        let text = "int const v17 = x.v + v9v; f(v3, v17_store, v17);";
        let counted = "int const v0 = x.v + v9v; f(v1, v0_store, v0);";
        assert_eq!(super::renumbered(text), counted);
    }
}
