//! Writing a checkpoint, whole or not at all.

use super::{CONFIG, CheckpointError, LATEST, MODEL, OPTIMIZER, STATE, State};
use crate::config::Resolved;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::ModuleOptimizer;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Tensor;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes a checkpoint at `state` into the folder `run` and points `latest` at it. The ids of the
/// parameters in `state` are filled in.
///
/// # Errors
///
/// A file that cannot be written. Earlier checkpoints are then as they were.
pub fn save<M: Module>(
    run: &Path,
    config: &Resolved,
    model: &M,
    optimizer: &ModuleOptimizer,
    state: State,
) -> Result<PathBuf, CheckpointError> {
    let name = format!("step-{:06}", state.step);
    let (folder, draft) = (run.join(&name), run.join(format!(".{name}.tmp")));
    clear(&draft)?;
    let result = fill(&draft, config, model, optimizer, state)
        .and_then(|()| clear(&folder))
        .and_then(|()| rename(&draft, &folder))
        .and_then(|()| point(run, &name));
    if result.is_err() {
        // What is wrong is known already; this frees the disk that may be full.
        let _ = clear(&draft);
    }
    result.map(|()| folder)
}

fn fill<M: Module>(
    draft: &Path,
    config: &Resolved,
    model: &M,
    optimizer: &ModuleOptimizer,
    mut state: State,
) -> Result<(), CheckpointError> {
    fs::create_dir_all(draft).map_err(|e| CheckpointError::write(draft, e))?;
    write(&draft.join(CONFIG), &config.to_string())?;
    let path = draft.join(MODEL);
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
    let path = draft.join(OPTIMIZER);
    optimizer
        .save(&path)
        .map_err(|e| CheckpointError::write(&path, e))?;
    let mut ids = Ids::default();
    model.visit(&mut ids);
    state.parameters = ids.found;
    let state = serde_json::to_string_pretty(&state).expect("a state is plain data");
    write(&draft.join(STATE), &state)?;
    for part in [MODEL, OPTIMIZER, CONFIG, STATE] {
        sync(&draft.join(part))?;
    }
    sync(draft)
}

/// Points `latest` of `run` at the checkpoint `name`.
fn point(run: &Path, name: &str) -> Result<(), CheckpointError> {
    let pointer = run.join(".latest.tmp");
    write(&pointer, name)?;
    sync(&pointer)?;
    rename(&pointer, &run.join(LATEST))?;
    sync(run)
}

fn rename(from: &Path, to: &Path) -> Result<(), CheckpointError> {
    fs::rename(from, to).map_err(|e| CheckpointError::write(to, e))
}

fn write(path: &Path, text: &str) -> Result<(), CheckpointError> {
    fs::write(path, text).map_err(|e| CheckpointError::write(path, e))
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
