//! Memory-mapped files.

use super::{DataError, files::Found};
use memmap2::Mmap;
use std::fs::File;

/// The files of a text, mapped into memory.
#[derive(Debug)]
pub struct Text {
    files: Vec<(String, Mmap)>,
}

impl Text {
    /// Maps `files`.
    ///
    /// # Errors
    ///
    /// A file that cannot be opened or mapped.
    pub fn open(files: &[Found]) -> Result<Self, DataError> {
        let map = |found: &Found| {
            let mapped = File::open(&found.path).and_then(|file| {
                // SAFETY: the map is only read. A program that truncates the file while it is
                // mapped makes reads fail with SIGBUS, and one that rewrites it changes the bytes
                // under us: any byte is a valid token, so neither breaks memory safety.
                unsafe { Mmap::map(&file) }
            });
            mapped
                .map(|bytes| (found.name.clone(), bytes))
                .map_err(|e| DataError::read(&found.path, e))
        };
        let files = files.iter().map(map).collect::<Result<_, _>>()?;
        Ok(Self { files })
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Name of a file, below the root of the data.
    pub fn name(&self, file: usize) -> &str {
        &self.files[file].0
    }

    /// Bytes of a file.
    pub fn bytes(&self, file: usize) -> &[u8] {
        &self.files[file].1
    }
}
