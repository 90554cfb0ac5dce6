//! The checkpoints of a run.

use super::{BEST, CheckpointError, LATEST};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the checkpoint after `step` steps.
pub(super) fn name(step: usize) -> String {
    format!("step-{step:06}")
}

/// The step of the checkpoint `name`, if it is the name of one.
pub(super) fn step(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("step-")?;
    let plain = digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The checkpoints in the folder `run` with their steps, the newest first. Whether they are whole is not
/// looked at.
///
/// # Errors
///
/// The folder cannot be read.
pub fn checkpoints(run: &Path) -> Result<Vec<(usize, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CheckpointError::unreadable(run, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| CheckpointError::unreadable(run, e))?;
        if let Some(step) = entry.file_name().to_str().and_then(step) {
            found.push((step, entry.path()));
        }
    }
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found)
}

/// The folder that the pointer `latest` or `best` of `run` names, if there is one.
fn pointed(run: &Path, pointer: &str) -> Option<PathBuf> {
    let name = fs::read_to_string(run.join(pointer)).ok()?;
    // A pointer leads nowhere else.
    step(name.trim()).map(|_| run.join(name.trim()))
}

/// The checkpoint that `latest` of `run` names.
pub(super) fn latest(run: &Path) -> Option<PathBuf> {
    pointed(run, LATEST)
}

/// The checkpoint that `best` of `run` names: that with the lowest loss on the validation text.
pub fn best(run: &Path) -> Option<PathBuf> {
    pointed(run, BEST)
}

/// Removes all but the newest `keep` checkpoints up to `step`, the one just written, and the best one, and what
/// earlier saves left unfinished. Later ones are not whole, or the run would have gone on there: they count for
/// nothing, and are replaced when the run gets there.
pub(super) fn tidy(run: &Path, step: usize, keep: usize) -> Result<(), CheckpointError> {
    let best = best(run);
    let so_far = checkpoints(run)?.into_iter().filter(|(at, _)| *at <= step);
    for (_, folder) in so_far.skip(keep) {
        if Some(&folder) == best.as_ref() {
            continue;
        }
        super::save::discard(&folder)?;
    }
    super::save::clear_drafts(run)
}
