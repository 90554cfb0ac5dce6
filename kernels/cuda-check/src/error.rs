use std::path::PathBuf;

/// What can go wrong between a kernel and its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// CubeCL cannot make CUDA C++ of the kernel.
    #[error("{kernel}: CubeCL cannot emit it: {reason}")]
    Emit {
        /// The kernel's name.
        kernel: String,
        /// CubeCL's words.
        reason: String,
    },
    /// The source holds something that the emulator does not know.
    #[error("{kernel}: the emulator does not know this: {reason}")]
    Translate {
        /// The kernel's name.
        kernel: String,
        /// What it is.
        reason: String,
    },
    /// The host has no C++ compiler.
    #[error("no C++ compiler: g++ cannot be run ({0}); install it, or name another in CXX")]
    NoCompiler(std::io::Error),
    /// A compiler refuses the source.
    #[error("{kernel}: {compiler} refuses it:\n{log}")]
    Compile {
        /// The kernel's name.
        kernel: String,
        /// The compiler's name.
        compiler: &'static str,
        /// Its messages.
        log: String,
    },
    /// NVIDIA's compilers are not here and cannot be fetched.
    #[error(
        "NVIDIA's compilers cannot be fetched from PyPI: {0}\nthey are expected under {1} and come \
         with `python3 -m pip install`, which needs the network once"
    )]
    NoWheels(String, PathBuf),
    /// A shared library cannot be loaded.
    #[error("{path}: cannot be loaded: {reason}")]
    Load {
        /// The library.
        path: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// A launch that the emulator ended.
    #[error("{kernel}: {reason}")]
    Launch {
        /// The kernel's name.
        kernel: String,
        /// Which thread did what.
        reason: String,
    },
    /// A file or program that cannot be used.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
}

/// For `map_err`: an input or output error with its path.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
    move |reason| Error::Io {
        path: path.into(),
        reason,
    }
}
