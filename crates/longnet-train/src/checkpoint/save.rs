//! Writing a checkpoint, whole or not at all.

use super::Point;
use super::list::{best, latest, name, step, tidy};
use super::manifest::{MANIFEST, Manifest};
use super::{BEST, CONFIG, CheckpointError, EMA, LATEST, MODEL, OPTIMIZER, STATE, State};
use crate::config::Resolved;
use crate::data::TOKENIZER;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What goes into a checkpoint.
pub struct Contents<'a, M> {
    /// The resolved config.
    pub config: &'a Resolved,
    /// The weights.
    pub model: &'a M,
    /// Their average over steps, if there is one.
    pub averaged: Option<&'a M>,
    /// The optimiser.
    pub optimizer: Optimizer<'a>,
    /// The file of the tokenizer, if it has one.
    pub tokenizer: Option<&'a [u8]>,
    /// The rest. The ids of the parameters are filled in.
    pub state: State,
}

/// The state of an optimiser.
pub enum Optimizer<'a> {
    /// All of it is here.
    Own(&'a ModuleOptimizer),
    /// It was collected from several ranks.
    Gathered(OptimizerRecord),
}

/// A checkpoint that was written.
#[derive(Debug)]
pub struct Saved {
    /// Its folder.
    pub folder: PathBuf,
    /// Why older ones could not be removed, if they could not. The next save tries again.
    pub untidy: Option<CheckpointError>,
}

/// Writes a checkpoint into the folder `run`, points `latest` at it (and `best`, if it is that), and
/// removes older ones but for the newest `train.keep` and the best.
///
/// # Errors
///
/// A file that cannot be written. Earlier checkpoints are then as they were.
pub fn save<M: Module>(
    run: &Path,
    contents: Contents<'_, M>,
    is_best: bool,
) -> Result<Saved, CheckpointError> {
    let (at, keep) = (contents.state.step, contents.config.config.train.keep);
    let name = name(at);
    let (folder, draft) = (run.join(&name), draft(run, &name));
    clear(&draft)?;
    let result = fill(&draft, contents).and_then(|()| replace(&draft, &folder));
    if result.is_err() {
        // What is wrong is known already; this frees the disk that may be full.
        let _ = clear(&draft);
    }
    result?;
    sync(run)?;
    if is_best {
        point(run, BEST, &name)?;
    }
    point(run, LATEST, &name)?;
    // Also of what the new one has replaced, which was the only whole one until it stood.
    let untidy = tidy(run, at, keep).err();
    Ok(Saved { folder, untidy })
}

/// Points `latest` of `run` at its checkpoint `at`, and `best`, if `is_best`: what a save does that a process did
/// not live to do.
///
/// # Errors
///
/// A pointer cannot be written.
pub fn point_at(run: &Path, at: &Point, is_best: bool) -> Result<(), CheckpointError> {
    let name = name(at.state.step);
    if is_best && best(run).is_none_or(|best| !best.ends_with(&name)) {
        point(run, BEST, &name)?;
    }
    match latest(run) {
        Some(latest) if latest.ends_with(&name) => Ok(()),
        _ => point(run, LATEST, &name),
    }
}

fn draft(run: &Path, name: &str) -> PathBuf {
    run.join(format!(".{name}.tmp"))
}

fn fill<M: Module>(draft: &Path, contents: Contents<'_, M>) -> Result<(), CheckpointError> {
    let Contents {
        config,
        model,
        averaged,
        optimizer,
        tokenizer,
        mut state,
    } = contents;
    fs::create_dir_all(draft).map_err(|e| CheckpointError::write(draft, e))?;
    pause();
    write(&draft.join(CONFIG), &config.to_string())?;
    weights(draft, MODEL, model)?;
    let mut parts = vec![CONFIG, MODEL, OPTIMIZER, STATE];
    if let Some(averaged) = averaged {
        weights(draft, EMA, averaged)?;
        parts.push(EMA);
    }
    if let Some(content) = tokenizer {
        let path = draft.join(TOKENIZER);
        fs::write(&path, content).map_err(|e| CheckpointError::write(&path, e))?;
        parts.push(TOKENIZER);
    }
    let path = draft.join(OPTIMIZER);
    let record = match optimizer {
        Optimizer::Own(optimizer) => optimizer.to_record(),
        Optimizer::Gathered(record) => record,
    };
    record
        .save(&path)
        .map_err(|e| CheckpointError::write(&path, e))?;
    pause();
    state.parameters = parameters(model);
    let state = serde_json::to_string_pretty(&state).expect("a state is plain data");
    write(&draft.join(STATE), &state)?;
    for part in &parts {
        sync(&draft.join(part))?;
    }
    // Of what is on the disk now: the hashes are of the bytes that a reader will find.
    let manifest = Manifest::of(draft, &parts)?;
    write(&draft.join(MANIFEST), &manifest.to_json())?;
    sync(&draft.join(MANIFEST))?;
    sync(draft)
}

fn weights<M: Module>(draft: &Path, name: &str, model: &M) -> Result<(), CheckpointError> {
    let path = draft.join(name);
    // One entry: several come in random order, and the same weights must make the same file.
    let mut store = SafetensorsStore::from_file(&path)
        .clear_metadata()
        .metadata("producer", "burn-longnet");
    model
        .save_into(&mut store)
        .map_err(|e| CheckpointError::write(&path, e))?;
    // The store makes a file that nobody else can read; the umask decides for the others.
    fs::metadata(draft.join(CONFIG))
        .and_then(|like| fs::set_permissions(&path, like.permissions()))
        .map_err(|e| CheckpointError::write(&path, e))?;
    pause();
    Ok(())
}

/// Points `pointer` of `run` at the checkpoint `name`.
fn point(run: &Path, pointer: &str, name: &str) -> Result<(), CheckpointError> {
    let next = run.join(format!(".{pointer}.tmp"));
    write(&next, name)?;
    sync(&next)?;
    rename(&next, &run.join(pointer))?;
    sync(run)
}

/// Puts `draft` in the place of `folder`. A checkpoint that is there already may be the only one: where the file
/// system can, both change places in one step; elsewhere it is set aside first, from where [`recover`] puts it back.
/// Either way it stays as a draft, which [`clear_drafts`] removes.
fn replace(draft: &Path, folder: &Path) -> Result<(), CheckpointError> {
    if exchange(draft, folder) {
        pause();
        return Ok(());
    }
    let aside = aside(folder);
    if folder.symlink_metadata().is_ok() {
        clear(&aside)?;
        rename(folder, &aside)?;
    }
    let result = rename(draft, folder);
    if result.is_err() {
        // Nothing is there, or it stays aside for the next start.
        let _ = fs::rename(&aside, folder);
    }
    result
}

/// Whether two folders could change places. Not on every file system: NFS and FAT have no such call, and
/// `LONGNET_NO_EXCHANGE` is for tests of what is done there.
fn exchange(draft: &Path, folder: &Path) -> bool {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        std::env::var_os("LONGNET_NO_EXCHANGE").is_none()
            && renameat_with(CWD, draft, CWD, folder, RenameFlags::EXCHANGE).is_ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = (draft, folder);
        false
    }
}

/// Where the checkpoint `folder` is while another one takes its place.
fn aside(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}{ASIDE}"))
}

/// Ends the name of a checkpoint that was set aside.
const ASIDE: &str = ".aside.tmp";

/// Puts what a save that was cut off left beside its place into it, where no checkpoint is in that place: the draft if
/// it is whole, otherwise what was set aside for it. To be called with the run's [`Lock`](super::Lock) held, before its
/// checkpoints are looked for. `restored` hears of each.
///
/// # Errors
///
/// The folder `run` cannot be read or written.
pub fn recover(run: &Path, mut restored: impl FnMut(&Path)) -> Result<(), CheckpointError> {
    let failed = |e| CheckpointError::write(run, e);
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(run).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_str().and_then(|name| name.strip_prefix('.'));
        let name = name.and_then(|n| n.strip_suffix(ASIDE).or(n.strip_suffix(".tmp")));
        found.extend(name.filter(|n| step(n).is_some()).map(String::from));
    }
    for name in found {
        let (folder, draft) = (run.join(&name), draft(run, &name));
        if folder.symlink_metadata().is_ok() {
            continue;
        }
        let is_whole = Manifest::read(&draft).is_ok_and(|m| m.verify(&draft).is_ok());
        let from = if is_whole { draft } else { aside(&folder) };
        if from.is_dir() {
            rename(&from, &folder)?;
            sync(run)?;
            restored(&folder);
        }
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    fs::rename(from, to).map_err(|e| CheckpointError::write(to, e))?;
    pause();
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), CheckpointError> {
    fs::write(path, text).map_err(|e| CheckpointError::write(path, e))?;
    pause();
    Ok(())
}

/// For tests that end the program while it saves: waits for `LONGNET_SLOW_SAVE` milliseconds after each
/// part that is written, and ends after as many parts as `LONGNET_END_SAVE` says.
fn pause() {
    static PARTS: AtomicUsize = AtomicUsize::new(1);
    if let Some(last) = std::env::var_os("LONGNET_END_SAVE")
        && last.to_string_lossy().parse() == Ok(PARTS.fetch_add(1, Ordering::Relaxed))
    {
        std::process::abort();
    }
    if let Some(wait) = std::env::var_os("LONGNET_SLOW_SAVE")
        && let Ok(millis) = wait.to_string_lossy().parse()
    {
        std::thread::sleep(Duration::from_millis(millis));
    }
}

/// Removes a checkpoint. Its name goes first, so that a part of it is never taken for a whole one.
pub(super) fn discard(folder: &Path) -> Result<(), CheckpointError> {
    let Some(name) = folder.file_name() else {
        return Ok(());
    };
    let old = folder.with_file_name(format!(".{}.old.tmp", name.to_string_lossy()));
    clear(&old)?;
    match fs::rename(folder, &old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CheckpointError::write(folder, error)),
        Ok(()) => clear(&old),
    }
}

/// Removes what saves have left in `run`: what they replaced, and what they did not end.
pub(super) fn clear_drafts(run: &Path) -> Result<(), CheckpointError> {
    let failed = |e| CheckpointError::write(run, e);
    for entry in fs::read_dir(run).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(".step-") && name.ends_with(".tmp") {
            clear(&entry.path())?;
        }
    }
    Ok(())
}

fn clear(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CheckpointError::write(folder, e)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), CheckpointError> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| CheckpointError::write(path, e))
}

/// The ids of the parameters of `model` by name.
pub(super) fn parameters<M: Module>(model: &M) -> BTreeMap<String, u64> {
    #[derive(Default)]
    struct Ids {
        path: Vec<String>,
        found: BTreeMap<String, u64>,
    }
    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.insert(self.path.join("."), param.id.val());
        }

        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
    }
    let mut ids = Ids::default();
    model.visit(&mut ids);
    ids.found
}
