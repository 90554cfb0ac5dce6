//! Which files a config means.
//!
//! Files named one by one are taken as they are. From folders (walked to the bottom) and globs come
//! files with one of the configured endings that hold no NUL byte in their first 8 KiB; hidden files
//! and folders and folders named `target` are left out, and links to folders are not followed. A file
//! with several names or links is taken once. The order is that of the names, so that every machine
//! sees the same text. Of a folder of shards come the shards that its manifest lists.

use super::DataError;
use super::format::Format;
use super::shard::{MANIFEST, read_manifest};
use crate::config::sections::Data;
use glob::{MatchOptions, Pattern};
use std::collections::{BTreeMap, btree_map};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

/// One file of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path below the root, with forward slashes; of several, the first by alphabet.
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
    Ok(sorted(find_by_target(data, &data.paths, None)?))
}

/// As [`find`], without what lies in the folder `out`, which need not be there.
///
/// # Errors
///
/// As [`find`], and `out` is one of the paths itself.
pub fn find_outside(data: &Data, out: &Path) -> Result<Vec<Found>, DataError> {
    let out = fs::canonicalize(out).ok();
    Ok(sorted(find_by_target(data, &data.paths, out)?))
}

/// The files of each source of a mixture, with its weight: one entry of `data.paths` and `data.weights`
/// each. Without weights, all files are one source.
///
/// # Errors
///
/// As [`find`], and a file that is in two sources.
pub fn find_sources(data: &Data) -> Result<Vec<(Vec<Found>, f64)>, DataError> {
    if data.weights.is_empty() {
        return Ok(vec![(find(data)?, 1.0)]);
    }
    let mut seen: BTreeMap<PathBuf, &String> = BTreeMap::new();
    let mut sources = Vec::new();
    for (path, &weight) in data.paths.iter().zip(&data.weights) {
        let found = find_by_target(data, std::slice::from_ref(path), None)?;
        for (target, file) in &found {
            if let Some(first) = seen.insert(target.clone(), path) {
                return Err(DataError::TwoSources {
                    file: file.name.clone(),
                    first: first.clone(),
                    second: path.clone(),
                });
            }
        }
        sources.push((sorted(found), weight));
    }
    Ok(sources)
}

fn sorted(found: BTreeMap<PathBuf, Found>) -> Vec<Found> {
    let mut found: Vec<Found> = found.into_values().collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The files of some paths, by what their links lead to.
fn find_by_target(
    data: &Data,
    paths: &[String],
    out: Option<PathBuf>,
) -> Result<BTreeMap<PathBuf, Found>, DataError> {
    let root = Path::new(&data.root);
    let mut finder = Finder {
        root,
        data,
        out,
        // The config check has seen that these are globs.
        exclude: data.exclude.iter().flat_map(|g| Pattern::new(g)).collect(),
        found: BTreeMap::new(),
        other_case: false,
        excluded: 0,
        binary: 0,
        empty: 0,
    };
    for path in paths {
        finder.add(path)?;
    }
    if finder.found.is_empty() {
        return Err(DataError::NoText {
            found: finder.excluded + finder.binary + finder.empty,
            excluded: finder.excluded,
            binary: finder.binary,
            empty: finder.empty,
            hint: match finder.other_case {
                true => "; endings that differ in upper and lower case are different",
                false => "",
            },
        });
    }
    Ok(finder.found)
}

const WILDCARDS: [char; 3] = ['*', '?', '['];

struct Finder<'a> {
    root: &'a Path,
    data: &'a Data,
    /// A folder to leave out, without links in its path.
    out: Option<PathBuf>,
    exclude: Vec<Pattern>,
    /// By what their paths and links lead to.
    found: BTreeMap<PathBuf, Found>,
    /// A file would have been taken if its ending were in another case.
    other_case: bool,
    excluded: usize,
    binary: usize,
    empty: usize,
}

impl Finder<'_> {
    fn add(&mut self, given: &str) -> Result<(), DataError> {
        let path = self.root.join(given);
        let is_glob = given.contains(WILDCARDS);
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() && self.is_out(&path) => {
                return Err(DataError::IsOut { folder: path });
            }
            Ok(found) if found.is_dir() => return self.walk(&path),
            Ok(found) if found.is_file() => return self.take(path, true),
            Ok(_) => return Err(DataError::NotText { path }),
            Err(_) if is_glob => {}
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(e) => return Err(DataError::read(&path, e)),
        }
        let root = std::path::absolute(self.root).unwrap_or(self.root.into());
        let given = given.to_string();
        match is_glob {
            false => Err(DataError::NotFound { path: given, root }),
            true if self.glob(&given)? => Ok(()),
            true => Err(DataError::NoMatch { glob: given, root }),
        }
    }

    /// Takes what matches a glob; whether anything does.
    fn glob(&mut self, given: &str) -> Result<bool, DataError> {
        // The search begins in the folder that the parts before the first wildcard name.
        let parts: Vec<_> = Path::new(given).components().collect();
        let text = |part: &Component| part.as_os_str().to_string_lossy().into_owned();
        let literal = parts
            .iter()
            .take_while(|part| !text(part).contains(WILDCARDS));
        let (folder, rest) = parts.split_at(literal.count());
        let folder = self.root.join(folder.iter().collect::<PathBuf>());
        let rest = rest.iter().map(text).collect::<Vec<_>>().join("/");
        let depth = match rest.contains("**") {
            true => usize::MAX,
            false => rest.split('/').count(),
        };
        // The config check has seen that this is a glob.
        let pattern = Pattern::new(&rest).unwrap_or_default();
        Ok(folder.is_dir() && self.search(&folder, "", &pattern, depth)?)
    }

    fn search(
        &mut self,
        folder: &Path,
        below: &str,
        pattern: &Pattern,
        depth: usize,
    ) -> Result<bool, DataError> {
        let options = MatchOptions {
            require_literal_leading_dot: true,
            require_literal_separator: true,
            ..MatchOptions::new()
        };
        let mut any = false;
        for Entry { path, name, is_dir } in entries(folder)? {
            if is_dir && self.is_out(&path) {
                continue;
            }
            let name = format!("{below}{name}");
            if pattern.matches_with(&name, options) {
                any = true;
                match is_dir {
                    true => self.walk(&path)?,
                    false => self.take(path, false)?,
                }
            } else if is_dir && depth > 1 {
                any |= self.search(&path, &(name + "/"), pattern, depth - 1)?;
            }
        }
        Ok(any)
    }

    fn walk(&mut self, folder: &Path) -> Result<(), DataError> {
        if folder.join(MANIFEST).is_file() {
            for entry in read_manifest(folder)?.shards {
                self.insert(folder.join(entry.file))?;
            }
            return Ok(());
        }
        for entry in entries(folder)? {
            match entry.is_dir {
                true if self.is_out(&entry.path) => {}
                true => self.walk(&entry.path)?,
                false => self.take(entry.path, false)?,
            }
        }
        Ok(())
    }

    fn is_out(&self, folder: &Path) -> bool {
        let is = |out: &PathBuf| fs::canonicalize(folder).is_ok_and(|real| real == *out);
        self.out.as_ref().is_some_and(is)
    }

    fn take(&mut self, path: PathBuf, by_name: bool) -> Result<(), DataError> {
        let name = self.below_root(&path);
        let endings = Format::endings(&name);
        let mut extensions = self
            .data
            .extensions
            .iter()
            .map(|e| e.trim_start_matches('.'));
        let listed = extensions.clone().any(|e| endings.contains(&e));
        let wanted = by_name || self.data.extensions.is_empty() || listed;
        let same = |e: &str| endings.iter().any(|ending| e.eq_ignore_ascii_case(ending));
        self.other_case |= !wanted && extensions.any(same);
        if !wanted || self.exclude.iter().any(|g| g.matches(&name)) {
            self.excluded += 1;
            return Ok(());
        }
        if !by_name && Format::of(&name).0 == Format::Shard {
            // Shards are taken by their manifest: without one, some may be missing.
            let folder = path.parent().unwrap_or(&path).to_path_buf();
            return Err(match folder.join(MANIFEST).is_file() {
                true => DataError::OfFolder { path, folder },
                false => DataError::Unfinished { folder },
            });
        }
        let mut head = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(8192).read_to_end(&mut head))
            .map_err(|e| DataError::read(&path, e))?;
        if head.is_empty() {
            self.empty += 1;
            return Ok(());
        }
        if !by_name && head.contains(&0) && !Format::is_binary(&name) {
            self.binary += 1;
            return Ok(());
        }
        self.insert(path)
    }

    fn insert(&mut self, path: PathBuf) -> Result<(), DataError> {
        let real = fs::canonicalize(&path).map_err(|e| DataError::read(&path, e))?;
        let name = self.below_root(&path);
        let found = Found { name, path };
        match self.found.entry(real) {
            btree_map::Entry::Occupied(mut entry) if found.name < entry.get().name => {
                entry.insert(found);
            }
            btree_map::Entry::Occupied(_) => {}
            btree_map::Entry::Vacant(entry) => {
                entry.insert(found);
            }
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

/// A file, or a folder that is no link: links to folders may lead back here.
struct Entry {
    path: PathBuf,
    name: String,
    is_dir: bool,
}

/// What `folder` holds, without what is left out and what is no text: pipes, devices, dead links.
fn entries(folder: &Path) -> Result<Vec<Entry>, DataError> {
    let failed = |e| DataError::read(folder, e);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_dir = entry.file_type().map_err(failed)?.is_dir();
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy().into_owned();
        if !left_out(&name) && (is_dir || path.is_file()) {
            entries.push(Entry { path, name, is_dir });
        }
    }
    Ok(entries)
}

fn left_out(name: &str) -> bool {
    name.starts_with('.') || name == "target"
}
