//! Which files a config means.
//!
//! Files named one by one are taken as they are. From folders (walked to the bottom) and globs come
//! files with one of the configured endings that hold no NUL byte in their first 8 KiB; hidden files
//! and folders and folders named `target` are left out. The order is that of the names, so that
//! every machine sees the same text.

use super::DataError;
use crate::config::sections::Data;
use glob::{MatchOptions, Pattern};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// One file of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path below the root, with forward slashes.
    pub name: String,
    /// Where it can be opened.
    pub path: PathBuf,
}

/// The files that `data` names, each once, sorted by name.
///
/// # Errors
///
/// A path that does not exist, a glob without a match, a folder that cannot be read, or no file left.
pub fn find(data: &Data) -> Result<Vec<Found>, DataError> {
    let root = Path::new(&data.root);
    let mut finder = Finder {
        root,
        data,
        // The config check has seen that these are globs.
        exclude: data.exclude.iter().flat_map(|g| Pattern::new(g)).collect(),
        found: BTreeMap::new(),
        excluded: 0,
        binary: 0,
        empty: 0,
    };
    for path in &data.paths {
        finder.add(path)?;
    }
    match finder.found.is_empty() {
        false => Ok(finder
            .found
            .into_iter()
            .map(|(name, path)| Found { name, path })
            .collect()),
        true => Err(DataError::NoText {
            found: finder.excluded + finder.binary + finder.empty,
            excluded: finder.excluded,
            binary: finder.binary,
            empty: finder.empty,
        }),
    }
}

struct Finder<'a> {
    root: &'a Path,
    data: &'a Data,
    exclude: Vec<Pattern>,
    found: BTreeMap<String, PathBuf>,
    excluded: usize,
    binary: usize,
    empty: usize,
}

impl Finder<'_> {
    fn add(&mut self, given: &str) -> Result<(), DataError> {
        let path = self.root.join(given);
        if path.is_dir() {
            return self.walk(&path);
        }
        if path.is_file() {
            return self.take(path, true);
        }
        let base = self.root;
        let root = || std::path::absolute(base).unwrap_or(base.into());
        if !given.contains(['*', '?', '[']) {
            let path = given.to_string();
            return Err(DataError::NotFound { path, root: root() });
        }
        // An absolute glob stands for itself, as with `Path::join`.
        let pattern = match Path::new(given).is_absolute() {
            true => given.to_string(),
            false => format!("{}/{given}", Pattern::escape(&self.root.to_string_lossy())),
        };
        let options = MatchOptions {
            require_literal_leading_dot: true,
            require_literal_separator: true,
            ..MatchOptions::new()
        };
        let matches = glob::glob_with(&pattern, options).map_err(|_| DataError::NoMatch {
            glob: given.into(),
            root: root(),
        })?;
        let mut any = false;
        for entry in matches {
            let path = entry.map_err(|e| DataError::read(e.path(), e.error().kind().into()))?;
            if self.below_root(&path).split('/').any(left_out) {
                continue;
            }
            any = true;
            match path.is_dir() {
                true => self.walk(&path)?,
                false => self.take(path, false)?,
            }
        }
        match any {
            true => Ok(()),
            false => Err(DataError::NoMatch {
                glob: given.into(),
                root: root(),
            }),
        }
    }

    fn walk(&mut self, folder: &Path) -> Result<(), DataError> {
        let entries = fs::read_dir(folder).map_err(|e| DataError::read(folder, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| DataError::read(folder, e))?;
            let kind = entry
                .file_type()
                .map_err(|e| DataError::read(&entry.path(), e))?;
            if left_out(&entry.file_name().to_string_lossy()) {
                continue;
            }
            // Links to folders are not followed: they may lead back here.
            match kind.is_dir() {
                true => self.walk(&entry.path())?,
                false if entry.path().is_file() => self.take(entry.path(), false)?,
                false => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf, by_name: bool) -> Result<(), DataError> {
        let name = self.below_root(&path);
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let extensions = &self.data.extensions;
        let wanted = by_name || extensions.is_empty() || extensions.iter().any(|e| **e == *ending);
        if !wanted || self.exclude.iter().any(|g| g.matches(&name)) {
            self.excluded += 1;
            return Ok(());
        }
        let mut head = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(8192).read_to_end(&mut head))
            .map_err(|e| DataError::read(&path, e))?;
        if head.is_empty() {
            self.empty += 1;
        } else if !by_name && head.contains(&0) {
            self.binary += 1;
        } else {
            self.found.insert(name, path);
        }
        Ok(())
    }

    fn below_root(&self, path: &Path) -> String {
        let below = path.strip_prefix(self.root).unwrap_or(path);
        let parts = below.components().map(|c| c.as_os_str().to_string_lossy());
        let parts: Vec<_> = parts.filter(|part| part != ".").collect();
        parts.join("/")
    }
}

fn left_out(name: &str) -> bool {
    name.starts_with('.') || name == "target"
}
