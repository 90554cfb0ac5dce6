//! An earlier run in the place of a new one.

use super::{CONFIG, CheckpointError, LATEST, LOG};
use std::fs;
use std::path::{Path, PathBuf};

/// Moves an earlier run in `run` out of the way, to the first free `run.1`, `run.2`, ... An empty
/// folder stays.
///
/// # Errors
///
/// What is there is no run, or cannot be moved.
pub fn set_aside(run: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    // Without a slash at the end, which would make a number the name of a new entry.
    let run: PathBuf = run.components().collect();
    if !run.exists() {
        return Ok(None);
    }
    let failed = |reason: String| CheckpointError::SetAside {
        path: run.clone(),
        reason,
    };
    if !run.is_dir() {
        return Err(failed("it is a file".into()));
    }
    let entries = fs::read_dir(&run).map_err(|e| failed(e.to_string()))?;
    if entries.count() == 0 {
        return Ok(None);
    }
    let has = |name| run.join(name).is_file();
    let is_run = has(LATEST) || (has(CONFIG) && has(LOG));
    if !is_run {
        return Err(failed(
            "it holds files but no run ('latest', or config.toml and log.jsonl)".into(),
        ));
    }
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
