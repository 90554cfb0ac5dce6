//! One process a run.

use super::CheckpointError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

/// The file that is locked.
pub(super) const LOCK: &str = ".lock";

/// Holds the folder of a run for this process, until it is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the folder `run`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// Another process holds it, or its lock file cannot be written.
    pub fn take(run: &Path) -> Result<Self, CheckpointError> {
        let path = run.join(LOCK);
        let failed = |error: std::io::Error| CheckpointError::Folder {
            path: run.into(),
            reason: error.to_string(),
        };
        std::fs::create_dir_all(run).map_err(failed)?;
        // Not truncated: it may name the process that holds it.
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let known = file.read_to_string(&mut pid).is_ok() && !pid.is_empty();
                return Err(CheckpointError::InUse {
                    path: run.into(),
                    pid: match known {
                        true => format!(" (process {})", pid.trim()),
                        false => String::new(),
                    },
                });
            }
            // Some network file systems have no locks; training there goes on without.
            Err(TryLockError::Error(_)) => {}
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}
