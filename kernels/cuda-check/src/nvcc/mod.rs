//! NVIDIA's compilers, which need no GPU: NVRTC and ptxas from PyPI.

mod nvrtc;
mod ptxas;
mod wheels;

use std::path::PathBuf;

use serde::Serialize;

use crate::{Error, Source};

/// NVRTC and ptxas of one CUDA release.
pub struct Toolchain {
    nvrtc: nvrtc::Nvrtc,
    ptxas: PathBuf,
}

/// What a kernel takes of a GPU, as ptxas says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of registers that a thread puts into local memory.
    pub spill_stores: u32,
    /// Bytes that it fetches from there.
    pub spill_loads: u32,
    /// Bytes of a thread's stack: arrays indexed at run time, and spills.
    pub stack: u32,
    /// Shared memory of a block whose size the compiler knows, in bytes; CubeCL's is dynamic.
    pub static_shared: u32,
}

impl Toolchain {
    /// The compilers from the project's cache, fetched from PyPI the first time.
    ///
    /// # Errors
    ///
    /// [`Error::NoWheels`] if they are not there and pip cannot get them.
    pub fn fetch() -> Result<Self, Error> {
        let folder = wheels::fetch()?;
        Ok(Self {
            nvrtc: nvrtc::Nvrtc::load(&folder)?,
            ptxas: wheels::ptxas(&folder)?,
        })
    }

    /// Compiles `source` down to machine code.
    ///
    /// # Errors
    ///
    /// [`Error::Compile`] with the messages of the compiler that refuses it.
    pub fn compile(&self, source: &Source) -> Result<Resources, Error> {
        let ptx = self.ptx(source)?;
        ptxas::assemble(&self.ptxas, source, &ptx)
    }

    /// Compiles `source` to PTX, with the options that CubeCL's CUDA runtime uses.
    ///
    /// # Errors
    ///
    /// [`Error::Compile`] with NVRTC's messages.
    pub fn ptx(&self, source: &Source) -> Result<String, Error> {
        self.nvrtc.compile(source)
    }
}
