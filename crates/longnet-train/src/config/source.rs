//! Values from a file and from `--set`, over the defaults.

use super::suggest::closest;
use super::{Config, ConfigError, ConfigErrors, Section, check};
use crate::checkpoint::{Resume, checkpoints};
use crate::data::tokenizer::{self, TOKENIZER, TokenizerError};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A config file, at a line counted from 1, or as a whole.
    File(PathBuf, Option<usize>),
    /// A `--set` assignment, as given.
    Set(String),
    /// The field's default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Set(assignment) => write!(f, "--set {assignment}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A checked config that knows where each value comes from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The values.
    pub config: Config,
    origins: BTreeMap<String, Origin>,
}

impl Resolved {
    /// Reads `file`, if given, and then the `--set` assignments (`section.field=value`).
    ///
    /// A value after `=` is TOML; a bare word is taken as a string.
    ///
    /// # Errors
    ///
    /// All that is wrong: an unreadable file, a syntax error, unknown keys, values of the wrong
    /// type, out of range, or at odds with each other.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Self, ConfigErrors> {
        Self::load_for(file, sets, &Resume::Never)
    }

    /// As [`load`](Self::load), for a run that goes on with the copy of its tokenizer in a checkpoint, if `resume`
    /// finds one.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_for(
        file: Option<&Path>,
        sets: &[String],
        resume: &Resume,
    ) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::default();
        if let Some(path) = file {
            match std::fs::read_to_string(path) {
                Ok(text) => reader.read_text(&text, path),
                Err(error) => {
                    let message = format!("cannot read the config file: {error}");
                    reader.fail(Origin::File(path.into(), None), "", message);
                }
            }
        }
        reader.resolve(file, sets, resume)
    }

    /// As [`load`](Self::load), of `text` as if it stood in the file `path`.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path, sets: &[String]) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::default();
        reader.read_text(text, path);
        reader.resolve(Some(path), sets, &Resume::Never)
    }

    /// Puts the size of the tokenizer's vocabulary where the config leaves it open: what is written into
    /// checkpoints must not depend on a file elsewhere.
    fn count_tokens(&mut self, resume: &Resume) -> Vec<ConfigError> {
        if self.config.model.vocab > 0 {
            return Vec::new();
        }
        let (data, run) = (&self.config.data, Path::new(&self.config.train.run_dir));
        let opened = match resume.copy_of(&data.tokenizer, run) {
            Some(checkpoint) => tokenizer::open_in(&checkpoint, data),
            None => tokenizer::open(data),
        };
        match opened {
            Ok(tokenizer) => {
                self.config.model.vocab = tokenizer.vocab();
                Vec::new()
            }
            Err(error) => {
                let copy = match &error {
                    TokenizerError::Read { .. } => self.copy_of_tokenizer(),
                    _ => None,
                };
                let hint = copy.map_or(String::new(), |copy| {
                    let copy = copy.display();
                    format!(
                        "; {copy} is a copy from an earlier run: --set data.tokenizer={copy} takes it"
                    )
                });
                let key = error.field().unwrap_or("data.tokenizer");
                self.blame(key, format!("{error}{hint}")).0
            }
        }
    }

    /// The tokenizer in the newest checkpoint of the run's folder, if there is one.
    fn copy_of_tokenizer(&self) -> Option<PathBuf> {
        let run = std::path::absolute(&self.config.train.run_dir).ok()?;
        let copies = checkpoints(&run).ok()?.into_iter();
        let mut copies = copies.map(|(_, folder)| folder.join(TOKENIZER));
        copies.find(|copy| copy.is_file())
    }

    /// `message`, which names the field `key`, as an error at the place the field comes from.
    pub fn blame(&self, key: &str, message: impl ToString) -> ConfigErrors {
        ConfigErrors(vec![ConfigError {
            origin: self.origin(key).clone(),
            key: String::new(),
            message: message.to_string(),
        }])
    }

    /// Where the value of `key` (`section.field`) comes from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}

/// `text` as a TOML string, for a `--set` assignment.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

#[derive(Default)]
struct Reader {
    config: Config,
    origins: BTreeMap<String, Origin>,
    errors: Vec<ConfigError>,
}

impl Reader {
    fn fail(&mut self, origin: Origin, key: &str, message: impl Into<String>) {
        self.errors.push(ConfigError {
            origin,
            key: key.into(),
            message: message.into(),
        });
    }

    fn resolve(
        mut self,
        file: Option<&Path>,
        sets: &[String],
        resume: &Resume,
    ) -> Result<Resolved, ConfigErrors> {
        for assignment in sets {
            self.read_assignment(assignment);
        }
        let Self {
            config,
            origins,
            mut errors,
        } = self;
        let mut resolved = Resolved { config, origins };
        let name = file.and_then(Path::file_stem).unwrap_or("run".as_ref());
        let run_dir = &mut resolved.config.train.run_dir;
        *run_dir = run_dir.replace("{name}", &name.to_string_lossy());
        if errors.is_empty() {
            errors = resolved.count_tokens(resume);
        }
        if errors.is_empty() {
            errors = check::check(&resolved);
            // What a file leaves out is wrong in that file.
            for error in &mut errors {
                if let (Origin::Default, Some(path)) = (&error.origin, file) {
                    error.origin = Origin::File(path.into(), None);
                }
            }
        }
        match errors.is_empty() {
            true => Ok(resolved),
            false => Err(ConfigErrors(errors)),
        }
    }

    fn read_text(&mut self, text: &str, path: &Path) {
        let whole = Origin::File(path.into(), None);
        let line = |at: usize| {
            let newlines = text[..at].bytes().filter(|&b| b == b'\n').count();
            Origin::File(path.into(), Some(newlines + 1))
        };
        // The plain table has the values, the other one has where they stand.
        let parsed = toml::from_str::<toml::Table>(text)
            .and_then(|values| DeTable::parse(text).map(|spans| (values, spans)));
        let (values, spans) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                let origin = error.span().map_or(whole, |span| line(span.start));
                return self.fail(origin, "", error.message());
            }
        };
        let mut entries = Vec::new();
        for (section, body) in spans.get_ref() {
            let (name, at) = (section.get_ref().as_ref(), section.span().start);
            match body.get_ref() {
                DeValue::Table(fields) if self.has_section(name) => {
                    entries.extend(fields.keys().map(|key| {
                        let field = key.get_ref().as_ref();
                        (key.span().start, name, Some((field, &values[name][field])))
                    }));
                }
                _ => entries.push((at, name, None)),
            }
        }
        entries.sort_by_key(|(at, ..)| *at);
        for (at, section, field) in entries {
            let origin = line(at);
            match field {
                Some((field, value)) => self.assign(section, field, value, origin),
                None if values[section].is_table() => self.unknown_section(section, origin),
                None => self.unknown(section, origin),
            }
        }
    }

    fn read_assignment(&mut self, assignment: &str) {
        let origin = Origin::Set(assignment.into());
        let Some((key, text)) = assignment.split_once('=') else {
            let message = "expected section.field=value, such as model.layers=4";
            return self.fail(origin, "", message);
        };
        let (key, text) = (key.trim(), text.trim());
        let value = toml::from_str::<toml::Table>(&format!("value = {text}"))
            .ok()
            .and_then(|mut table| table.remove("value"));
        if value.is_none() && text.starts_with(['[', '{', '"', '\'']) {
            let message = "not a TOML value; quote the strings of a list, and the whole for the shell: 'data.paths=[\"a\", \"b\"]'";
            return self.fail(origin, key, message);
        }
        let bare = toml::Value::String(text.into());
        match key.split_once('.') {
            Some((section, field)) => {
                // What is a number or a date in TOML may be meant as a word: generate.prompt=42.
                let word = value.as_ref().is_some_and(|v| {
                    !v.is_str() && !v.is_table() && !v.is_array() && self.is_word(section, field)
                });
                let value = value.filter(|_| !word).unwrap_or(bare);
                self.assign(section, field, &value, origin);
            }
            None => self.unknown(key, origin),
        }
    }

    /// Whether `section.field` holds a string now.
    fn is_word(&self, section: &str, field: &str) -> bool {
        let sections = self.config.sections();
        let found = sections.iter().find(|s| s.key() == section);
        found.is_some_and(|s| {
            s.fields().iter().any(|f| f.name == field)
                && s.get(field).is_some_and(|value| value.is_str())
        })
    }

    fn has_section(&self, name: &str) -> bool {
        self.config.sections().iter().any(|s| s.key() == name)
    }

    fn unknown_section(&mut self, name: &str, origin: Origin) {
        let keys = self.config.sections().map(|s| s.key());
        let hint = match closest(name, keys) {
            Some(key) => format!("did you mean [{key}]?"),
            None => format!(
                "the sections are {}",
                keys.map(|k| format!("[{k}]")).join(", ")
            ),
        };
        self.fail(origin, name, format!("unknown section; {hint}"));
    }

    fn assign(&mut self, section: &str, name: &str, value: &toml::Value, origin: Origin) {
        let mut sections = self.config.sections_mut();
        let Some(target) = sections.iter_mut().find(|s| s.key() == section) else {
            return self.unknown_section(section, origin);
        };
        let key = format!("{section}.{name}");
        let known = target.fields().iter().map(|f| f.name);
        if !known.clone().any(|field| field == name) {
            let guess = closest(name, known).map(|field| format!("did you mean '{field}'?"));
            let hint = guess.or_else(|| self.home_of(name));
            let hint = hint.unwrap_or_else(|| "'longnet config show' lists every key".to_string());
            return self.fail(origin, &key, format!("unknown key; {hint}"));
        }
        match target.set(name, value) {
            Ok(()) => {
                self.origins.insert(key, origin);
            }
            Err(message) => self.fail(origin, &key, message),
        }
    }

    /// A key that stands outside any section.
    fn unknown(&mut self, name: &str, origin: Origin) {
        let hint = self
            .home_of(name)
            .unwrap_or_else(|| "values stand in sections such as [model]".to_string());
        self.fail(origin, name, format!("unknown key; {hint}"));
    }

    /// The section that does have a field of this name.
    fn home_of(&self, name: &str) -> Option<String> {
        let sections = self.config.sections();
        let fields = |s: &&dyn Section| s.fields().iter().map(|f| f.name).collect::<Vec<_>>();
        let has = |s: &&&dyn Section| fields(s).contains(&name);
        match sections.iter().find(has) {
            Some(home) => Some(format!("did you mean '{}.{name}'?", home.key())),
            None => {
                let all = sections
                    .iter()
                    .flat_map(|s| fields(s).into_iter().map(|f| (s.key(), f)));
                let all: Vec<_> = all.collect();
                let guess = closest(name, all.iter().map(|(_, f)| *f))?;
                let (section, field) = all.iter().find(|(_, f)| *f == guess)?;
                Some(format!("did you mean '{section}.{field}'?"))
            }
        }
    }
}
