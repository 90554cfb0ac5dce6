//! Files that the command line names for results.

use crate::exit::Failure;
use crate::out::out_bytes;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Where a result goes. A file is there as a whole or not at all, and that it can be written is known
/// before the result is.
#[derive(Debug)]
pub struct Target {
    flag: &'static str,
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Standard output.
    Stdout,
    /// A file, written under this name beside it until it is whole.
    File(PathBuf),
    /// What is no file, such as /dev/null, takes what comes.
    Device(File),
}

impl Target {
    /// The file `path`, which `flag` names; "-" is standard output.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn new(flag: &'static str, path: &Path) -> Result<Self, Failure> {
        let place = if path.as_os_str() == "-" {
            Ok(Place::Stdout)
        } else if path.is_dir() || path.file_name().is_none() {
            Err(io::Error::new(ErrorKind::IsADirectory, "is a folder"))
        } else if path.exists() && !path.is_file() {
            File::options().write(true).open(path).map(Place::Device)
        } else {
            let mut name = path.file_name().unwrap_or_default().to_os_string();
            name.push(format!(".{}.partial", std::process::id()));
            let beside = path.with_file_name(name);
            // Only to know that it works: an evaluation that is killed shall leave nothing.
            File::create(&beside)
                .and_then(|_| fs::remove_file(&beside))
                .map(|()| Place::File(beside))
        };
        let path = path.to_path_buf();
        match place {
            Ok(place) => Ok(Self { flag, path, place }),
            Err(reason) => Err(Failure::File { flag, path, reason }),
        }
    }

    /// Whether nothing else may be written to standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self.place, Place::Stdout)
    }

    /// Writes the result.
    ///
    /// # Errors
    ///
    /// It cannot be written, such as on a full disk.
    pub fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.place {
            Place::Stdout => return out_bytes(bytes),
            Place::Device(file) => file.write_all(bytes),
            Place::File(beside) => replace(&self.path, beside, bytes),
        };
        written.map_err(|reason| Failure::File {
            flag: self.flag,
            path: self.path.clone(),
            reason,
        })
    }
}

/// Writes `path` by way of `beside`, of which nothing stays.
fn replace(path: &Path, beside: &Path, bytes: &[u8]) -> io::Result<()> {
    let write = |mut file: File| file.write_all(bytes).and_then(|()| file.sync_all());
    let result = File::create(beside)
        .and_then(write)
        .and_then(|()| fs::rename(beside, path));
    if result.is_err() {
        // The first error is the one to be told.
        let _ = fs::remove_file(beside);
    }
    result
}
