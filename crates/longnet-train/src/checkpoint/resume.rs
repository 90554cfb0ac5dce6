//! Where a run goes on.

use super::list::checkpoints;
use super::manifest::{MANIFEST, Manifest};
use super::{CONFIG, CheckpointError, EMA, MODEL, OPTIMIZER, OpenError, State, state, weights};
use crate::config::sections::Data;
use crate::config::{Config, ConfigError, ConfigErrors, Resolved, Section};
use crate::data::tokenizer::open_trained;
use crate::data::{Fingerprint, TOKENIZER, Tokenizer, TokenizerError};
use crate::optim::record::load_some;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn_longnet::model::Positions;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Whether a run begins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// It goes on from the newest whole checkpoint in its folder, if there is one.
    Auto,
    /// It goes on from a checkpoint, or the newest one of a run.
    From(PathBuf),
    /// It begins anew.
    #[default]
    Never,
}

impl FromStr for Resume {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "never" => Self::Never,
            path => Self::From(path.into()),
        })
    }
}

/// A whole checkpoint to go on from: each of its files was compared with its hash, by one rank where there are several.
#[derive(Debug)]
pub struct Point {
    folder: PathBuf,
    has_average: bool,
    trained: Config,
    /// Where the run stood.
    pub state: State,
}

impl Resume {
    /// The checkpoint to go on from, for a run in the folder `run`. `skipped` hears of checkpoints that are
    /// not whole.
    ///
    /// # Errors
    ///
    /// There is none where one is asked for, or none that is whole.
    pub fn point(
        &self,
        run: &Path,
        skipped: impl FnMut(&CheckpointError),
    ) -> Result<Option<Point>, OpenError> {
        match self {
            Self::Never => Ok(None),
            Self::Auto => newest(run, skipped),
            Self::From(path) if is_checkpoint(path) => {
                let point = Point::open(path)?;
                point.is_last_of(run)?;
                Ok(Some(point))
            }
            Self::From(path) => match newest(path, skipped)? {
                Some(point) => Ok(Some(point)),
                None => Err(CheckpointError::NothingToResume { path: path.clone() }.into()),
            },
        }
    }
}

impl Resume {
    /// The newest checkpoint of the run in the folder `run` that this goes on with and that has a copy of the
    /// tokenizer named `tokenizer`. Whether it is whole is not looked at.
    pub(crate) fn copy_of(&self, tokenizer: &str, run: &Path) -> Option<PathBuf> {
        let of_run = |run: &Path| {
            let found = checkpoints(run).unwrap_or_default().into_iter();
            found.map(|(_, folder)| folder).collect()
        };
        let found: Vec<PathBuf> = match self {
            Self::Never => Vec::new(),
            Self::Auto => of_run(run),
            Self::From(path) if is_checkpoint(path) => vec![path.clone()],
            Self::From(path) => of_run(path),
        };
        let has_copy = |folder: &PathBuf| {
            let trained = || Resolved::load(Some(&folder.join(CONFIG)), &[]);
            folder.join(TOKENIZER).is_file()
                && trained().is_ok_and(|trained| trained.config.data.tokenizer == tokenizer)
        };
        found.into_iter().find(has_copy)
    }
}

/// Whether `path` is a checkpoint and no run, by its manifest or, if it lost that, by its name.
fn is_checkpoint(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.join(MANIFEST).exists() || (name.starts_with("step-") && path.is_dir())
}

fn newest(
    run: &Path,
    mut skipped: impl FnMut(&CheckpointError),
) -> Result<Option<Point>, OpenError> {
    let mut newest = None;
    for (_, folder) in checkpoints(run)? {
        match Point::open(&folder) {
            Ok(point) => return Ok(Some(point)),
            Err(OpenError::Checkpoint(error)) => {
                skipped(&error);
                newest.get_or_insert(error.to_string());
            }
            // Its bytes are those that were written; it is another version's.
            Err(error) => return Err(error),
        }
    }
    match newest {
        None => Ok(None),
        Some(reason) => {
            let path = run.into();
            Err(CheckpointError::NoneWhole { path, reason }.into())
        }
    }
}

impl Point {
    fn open(folder: &Path) -> Result<Self, OpenError> {
        Manifest::read(folder)?.verify(folder)?;
        Self::verified(folder)
    }

    /// The checkpoint in `folder`, which another rank has compared with its hashes.
    ///
    /// # Errors
    ///
    /// It cannot be read here.
    pub fn verified(folder: &Path) -> Result<Self, OpenError> {
        let manifest = Manifest::read(folder)?;
        for part in [CONFIG, MODEL, OPTIMIZER, super::STATE] {
            if !manifest.files.contains_key(part) {
                let (path, part) = (folder.into(), part.into());
                return Err(CheckpointError::Missing { path, part }.into());
            }
        }
        Ok(Self {
            folder: folder.into(),
            has_average: manifest.files.contains_key(EMA),
            trained: Resolved::load(Some(&folder.join(CONFIG)), &[])?.config,
            state: state(folder)?,
        })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of its run.
    pub fn run(&self) -> &Path {
        self.folder.parent().unwrap_or(Path::new("."))
    }

    /// Whether it is a checkpoint of the run in the folder `run`.
    pub fn is_of(&self, run: &Path) -> bool {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let parent = match self.run() {
            empty if empty.as_os_str().is_empty() => real(Path::new(".")),
            parent => real(parent),
        };
        parent.is_some() && parent == real(run)
    }

    /// Going on from it in its own folder must not write over later checkpoints.
    fn is_last_of(&self, run: &Path) -> Result<(), CheckpointError> {
        if !self.is_of(run) {
            return Ok(());
        }
        let later = checkpoints(run)?.into_iter().find(|(step, folder)| {
            *step > self.state.step
                && Manifest::read(folder).is_ok_and(|m| m.verify(folder).is_ok())
        });
        match later {
            Some((_, later)) => Err(CheckpointError::Later {
                path: self.folder.clone(),
                later,
            }),
            None => Ok(()),
        }
    }

    /// The tokenizer that the run learns with, unless `now` names another.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn tokenizer(&self, now: &Data) -> Result<Arc<dyn Tokenizer>, TokenizerError> {
        open_trained(&self.folder, now, &self.trained.data)
    }

    /// `model` with the weights of the checkpoint.
    ///
    /// # Errors
    ///
    /// Weights of another shape.
    pub fn weights<M: Module>(&self, model: M) -> Result<M, CheckpointError> {
        weights(&self.folder.join(MODEL), model)
    }

    /// `model` with the average of the weights, if the run kept one.
    ///
    /// # Errors
    ///
    /// Weights of another shape.
    pub fn averaged<M: Module>(&self, model: M) -> Result<Option<M>, CheckpointError> {
        match self.has_average {
            true => weights(&self.folder.join(EMA), model).map(Some),
            false => Ok(None),
        }
    }

    /// `optimizer` of `model` with the state of the checkpoint, of `some` parameters by their ids if not of all.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is of other parameters.
    pub fn optimizer<M: Module>(
        &self,
        optimizer: ModuleOptimizer,
        model: &M,
        some: Option<&dyn Fn(u64) -> bool>,
    ) -> Result<ModuleOptimizer, CheckpointError> {
        let path = self.folder.join(OPTIMIZER);
        if super::save::parameters(model) != self.state.parameters {
            let reason = "its parameters have other names or ids than those of the model".into();
            return Err(CheckpointError::Mismatch { path, reason });
        }
        let loaded = match some {
            None => optimizer.load(&path),
            Some(keep) => load_some(&path, keep).map(|record| optimizer.load_record(record)),
        };
        loaded.map_err(|e| CheckpointError::unreadable(&path, e))
    }

    /// Whether the text is the one that the run learns from.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn expect_text(&self, now: &Fingerprint) -> Result<(), CheckpointError> {
        match *now == self.state.text {
            true => Ok(()),
            false => Err(CheckpointError::OtherText {
                before: self.state.text.to_string(),
                now: now.to_string(),
            }),
        }
    }

    /// What `now` changes, such as "train.lr = 0.001, was 0.0006".
    ///
    /// # Errors
    ///
    /// Changes that a run cannot go on with.
    pub fn changes(&self, now: &Resolved) -> Result<Vec<String>, ConfigErrors> {
        let (mut shown, mut refused) = (Vec::new(), Vec::new());
        for (before, after) in self
            .trained
            .sections()
            .into_iter()
            .zip(now.config.sections())
        {
            for change in super::differences(before, after) {
                let key = format!("{}.{}", after.key(), change.name);
                match refusal(after, change.name, &now.config) {
                    None => shown.push(format!("{key} = {}, was {}", change.after, change.before)),
                    Some(reason) => refused.push(ConfigError {
                        origin: now.origin(&key).clone(),
                        key: format!("{key} = {}", change.after),
                        message: format!(
                            "the run that is resumed has {}, and {reason}; leave it as it was, or train anew with --resume never",
                            change.before
                        ),
                    }),
                }
            }
        }
        match refused.is_empty() {
            true => Ok(shown),
            false => Err(ConfigErrors(refused)),
        }
    }
}

/// Why a run cannot go on with another value of a field.
fn refusal(section: &dyn Section, field: &str, now: &Config) -> Option<&'static str> {
    match (section.key(), field) {
        ("model", "dropout" | "recompute") => None,
        ("model", _) => Some("its weights mean nothing to another model"),
        // Whether the text is the same, its fingerprint tells.
        ("data", "root" | "paths" | "extensions" | "exclude" | "tokenizer" | "field") => None,
        ("data", "context") if now.model.positions == Positions::Learned => {
            Some("it has a learned vector for each position")
        }
        ("data", "context" | "context_schedule") => None,
        ("data", _) => Some("its place in the text would mean nothing"),
        ("train", "seed") => Some("its place in the text would mean nothing in another order"),
        ("attention", "kind" | "scorer") => Some("its weights may mean nothing to another kind"),
        ("train", "optimizer") => Some("the state of one optimiser means nothing to another"),
        _ => None,
    }
}
