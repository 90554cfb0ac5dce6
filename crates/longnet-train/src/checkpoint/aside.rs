//! An earlier run in the place of a new one.

use super::{CONFIG, CheckpointError, LATEST, LOG};
use std::fs;
use std::path::{Path, PathBuf};

/// Whether there is an earlier run in `run`. An empty folder holds none, with a lock or without.
///
/// # Errors
///
/// What is there is no run, or cannot be read.
pub fn occupied(run: &Path) -> Result<bool, CheckpointError> {
    if !run.exists() {
        return Ok(false);
    }
    let failed = |reason: String| CheckpointError::SetAside {
        path: run.into(),
        reason,
    };
    if !run.is_dir() {
        return Err(failed("it is a file".into()));
    }
    let entries = fs::read_dir(run).map_err(|e| failed(e.to_string()))?;
    let is_lock = |entry: &fs::DirEntry| entry.file_name() == super::lock::LOCK;
    if entries.flatten().all(|entry| is_lock(&entry)) {
        return Ok(false);
    }
    let has = |name| run.join(name).is_file();
    // One that ended before its log began has its lock.
    match has(LATEST) || (has(CONFIG) && (has(LOG) || has(super::lock::LOCK))) {
        true => Ok(true),
        false => Err(failed(
            "it holds files but no run ('latest', or config.toml and log.jsonl)".into(),
        )),
    }
}

/// Moves an earlier run in `run` out of the way, to the first free `run.1`, `run.2`, ..., if there is one.
///
/// # Errors
///
/// As [`occupied`], and a run that cannot be moved.
pub fn set_aside(run: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    // Without a slash at the end, which would make a number the name of a new entry.
    let run: PathBuf = run.components().collect();
    if !occupied(&run)? {
        return Ok(None);
    }
    let failed = |reason: String| CheckpointError::SetAside {
        path: run.clone(),
        reason,
    };
    let Some(name) = run.file_name() else {
        return Err(failed("it has no name that could be changed".into()));
    };
    let numbered = |i: usize| {
        let mut name = name.to_owned();
        name.push(format!(".{i}"));
        run.with_file_name(name)
    };
    let aside = (1..).map(numbered).find(|p| p.symlink_metadata().is_err());
    let aside = aside.expect("numbers do not end");
    fs::rename(&run, &aside).map_err(|e| failed(e.to_string()))?;
    Ok(Some(aside))
}
