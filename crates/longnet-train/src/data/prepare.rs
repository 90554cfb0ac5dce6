//! Making shards: `longnet data prepare`.

use super::files::{self, Found};
use super::format::{self, Format};
use super::shard::{HEADER, MANIFEST, Manifest, ShardError, ShardHeader};
use super::tokenise::{Count, at_once, tokenise};
use super::tokenizer::{self, TOKENIZER};
use super::{DataError, Tokenizer};
use crate::config::sections::Data;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

/// How far it is, while it is at work.
#[derive(Debug, Default)]
pub struct Watch {
    /// Files to prepare.
    pub files: AtomicU64,
    /// Files that are done, or were before.
    pub files_done: AtomicU64,
    /// Bytes of all files.
    pub bytes: AtomicU64,
    /// Bytes that are read, or were before.
    pub bytes_done: AtomicU64,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The manifest of the folder.
    pub manifest: Manifest,
    /// Shards that were made.
    pub made: usize,
    /// Shards that were there already, of the same files and the same tokenizer.
    pub kept: usize,
    /// Records without text, in the files that were read now.
    pub skipped: u64,
    /// The tokenizer beside the shards, if it is a file.
    pub tokenizer: Option<PathBuf>,
}

const LOCK: &str = ".lock";
const DRAFT: &str = ".tmp";

/// Makes a shard in `folder` for each file that `data` names, as many at a time as there are cores.
///
/// A shard is written to a temporary file, synced and renamed, and the manifest is written when all are
/// there. A manifest that is there already stays until the first of its shards is replaced. Shards that are whole are kept, if their file has the same name, size and time, and the same
/// tokenizer makes the tokens: after an interruption, the same call goes on.
///
/// # Errors
///
/// A file that cannot be read or has no tokens, a folder that cannot be written or in which another
/// program prepares shards. Shards that were finished stay. `folder` is not touched if files are shards
/// already, or if it has a tokenizer of somebody else.
pub fn prepare(data: &Data, folder: &Path, watch: &Watch) -> Result<Made, DataError> {
    if !data.weights.is_empty() {
        return Err(DataError::OneSource);
    }
    let tokenizer = tokenizer::open(data)?;
    let found = files::find_outside(data, folder)?;
    if let Some(shard) = found
        .iter()
        .find(|f| Format::of(&f.name).0 == Format::Shard)
    {
        return Err(DataError::shard(&shard.path, ShardError::NotText));
    }
    let jobs = found
        .iter()
        .map(|file| Job::new(file, folder, data, &*tokenizer));
    let jobs = jobs.collect::<Result<Vec<Job>, _>>()?;
    let mut names: BTreeMap<&str, &Found> = BTreeMap::new();
    for job in &jobs {
        if let Some(first) = names.insert(&job.name, job.found) {
            return Err(DataError::SameShard {
                first: first.name.clone(),
                second: job.found.name.clone(),
            });
        }
    }
    let beside = folder.join(TOKENIZER);
    let is_same = |there: Vec<u8>| tokenizer.file().is_some_and(|content| content == there);
    if !fs::read(&beside).map_or(true, is_same) && !is_ours(folder)? {
        return Err(DataError::OtherTokenizer { path: beside });
    }

    fs::create_dir_all(folder).map_err(|e| DataError::write(folder, e))?;
    let lock = lock(folder)?;
    clear_drafts(folder)?;
    let add = |to: &AtomicU64, n: u64| to.fetch_add(n, Ordering::Relaxed);
    let there: Vec<_> = jobs.iter().map(Job::finished).collect();
    for (job, there) in jobs.iter().zip(&there) {
        add(&watch.files, 1);
        add(&watch.bytes, job.size);
        if there.is_some() {
            add(&watch.files_done, 1);
            add(&watch.bytes_done, job.size);
        }
    }
    let manifest_path = folder.join(MANIFEST);
    let listed = Listed(Mutex::new(Some(&manifest_path)));
    let made = at_once(jobs.len(), |i| {
        if let Some(header) = &there[i] {
            return Ok((header.clone(), 0));
        }
        let made = jobs[i].run(data, &*tokenizer, &listed, &watch.bytes_done)?;
        add(&watch.files_done, 1);
        Ok(made)
    })?;
    let skipped = made.iter().map(|(_, skipped)| skipped).sum();
    let shards: Vec<_> = jobs
        .iter()
        .zip(made)
        .map(|(job, (header, _))| (job.name.clone(), job.found.name.clone(), header))
        .collect();
    let manifest = Manifest::new(&*tokenizer, &shards);
    if manifest.tokens == 0 {
        return Err(DataError::NoTokens {
            file: jobs[0].found.name.clone(),
            files: jobs.len(),
            skipped,
        });
    }
    match tokenizer.file() {
        Some(content) if fs::read(&beside).is_ok_and(|there| there == content) => {}
        Some(content) => {
            listed.remove()?;
            replace(&beside, content).map_err(|e| DataError::write(&beside, e))?;
        }
        // What the shards were made with before would mislead.
        None => remove(&beside)?,
    }
    let failed = |e| DataError::write(&manifest_path, e);
    replace(&manifest_path, manifest.encode().as_bytes()).map_err(failed)?;
    drop(lock);
    remove(&folder.join(LOCK))?;
    let kept = there.iter().flatten().count();
    Ok(Made {
        manifest,
        made: jobs.len() - kept,
        kept,
        skipped,
        tokenizer: tokenizer.file().map(|_| beside),
    })
}

/// The manifest that is there from before, until what it lists is no longer there.
struct Listed<'a>(Mutex<Option<&'a Path>>);

impl Listed<'_> {
    fn remove(&self) -> Result<(), DataError> {
        // Whoever comes second waits until it is gone.
        let mut path = self.0.lock().expect("no thread panicked");
        if let Some(there) = *path {
            remove(there)?;
            *path = None;
        }
        Ok(())
    }
}

/// Whether `folder` has what an earlier call has left.
fn is_ours(folder: &Path) -> Result<bool, DataError> {
    let failed = |e| DataError::read(folder, e);
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_string_lossy();
        if name == MANIFEST || Format::of(&name).0 == Format::Shard {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One file and its shard.
struct Job<'a> {
    found: &'a Found,
    size: u64,
    /// What the shard is made from, as its header has it.
    source: [u8; 32],
    /// Name of the shard.
    name: String,
    path: PathBuf,
}

impl<'a> Job<'a> {
    fn new(
        found: &'a Found,
        folder: &Path,
        data: &Data,
        tokenizer: &dyn Tokenizer,
    ) -> Result<Self, DataError> {
        let metadata = fs::metadata(&found.path);
        let metadata = metadata.map_err(|e| DataError::read(&found.path, e))?;
        let modified = metadata.modified().ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let mut source = Sha256::new();
        let end = tokenizer.end().unwrap_or(-1);
        for part in [
            found.name.as_bytes(),
            &metadata.len().to_le_bytes(),
            &modified.map_or(0, |time| time.as_nanos()).to_le_bytes(),
            data.field.as_bytes(),
            &tokenizer.identity().hash,
            &end.to_le_bytes(),
        ] {
            source.update((part.len() as u64).to_le_bytes());
            source.update(part);
        }
        let name = shard_name(found);
        Ok(Self {
            found,
            size: metadata.len(),
            source: source.finalize().into(),
            path: folder.join(&name),
            name,
        })
    }

    /// The header of the shard, if it is there, whole, and of this file.
    fn finished(&self) -> Option<ShardHeader> {
        let file = File::open(&self.path).ok()?;
        let bytes = file.metadata().ok()?.len();
        let mut head = Vec::new();
        file.take(HEADER as u64).read_to_end(&mut head).ok()?;
        let header = ShardHeader::parse(&head).ok()?;
        (header.source == self.source && header.file_bytes() == bytes).then_some(header)
    }

    fn run(
        &self,
        data: &Data,
        tokenizer: &dyn Tokenizer,
        listed: &Listed,
        bytes_done: &AtomicU64,
    ) -> Result<(ShardHeader, u64), DataError> {
        let draft = draft(&self.path);
        let result = self.write(&draft, data, tokenizer, listed, bytes_done);
        if result.is_err() {
            // What is wrong is known already; this frees the disk that may be full.
            let _ = fs::remove_file(&draft);
        }
        result
    }

    fn write(
        &self,
        draft: &Path,
        data: &Data,
        tokenizer: &dyn Tokenizer,
        listed: &Listed,
        bytes_done: &AtomicU64,
    ) -> Result<(ShardHeader, u64), DataError> {
        let failed = |e: io::Error| DataError::write(draft, e);
        let out = BufWriter::with_capacity(1 << 20, File::create(draft).map_err(failed)?);
        let (out, header, skipped) = tokenise(
            self.found,
            &data.field,
            tokenizer,
            self.source,
            &Count {
                read: bytes_done,
                text: AtomicU64::new(0),
                most: u64::MAX,
            },
            out,
            &failed,
        )?;
        let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
        file.sync_all().map_err(failed)?;
        if self.path.exists() {
            listed.remove()?;
        }
        rename(draft, &self.path).map_err(|e| DataError::write(&self.path, e))?;
        Ok((header, skipped))
    }
}

/// The name of the shard of a file: readable, and another one for each file.
fn shard_name(found: &Found) -> String {
    let name = &found.name;
    let last = name.rsplit('/').next().unwrap_or(name);
    let stem: String = last
        .chars()
        .map(|c| match c.is_ascii_alphanumeric() || c == '_' {
            true => c,
            false => '-',
        })
        .take(64)
        .collect();
    let mut hash = Sha256::new_with_prefix(name);
    // In the name they are replaced, and two of them would be one.
    for part in found.path.iter().filter(|part| part.to_str().is_none()) {
        hash.update([0]);
        hash.update(part.as_encoded_bytes());
    }
    let hash: String = hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{stem}-{hash}.{}", format::SHARD)
}

/// Where `path` is written before it is whole.
pub(super) fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{DRAFT}"))
}

fn lock(folder: &Path) -> Result<File, DataError> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|e| DataError::write(&path, e))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(DataError::Busy {
            folder: folder.into(),
        }),
        // Some file systems have no locks; one program at a time is then up to the user.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Removes what an interrupted call has left unfinished.
fn clear_drafts(folder: &Path) -> Result<(), DataError> {
    let failed = |e| DataError::read(folder, e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of = name.strip_prefix('.').and_then(|n| n.strip_suffix(DRAFT));
        if of.is_some_and(|of| {
            of == MANIFEST || of == TOKENIZER || Format::of(of).0 == Format::Shard
        }) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Replaces `path` by a file with `content`, whole or not at all.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = draft(path);
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| rename(&draft, path));
    if replaced.is_err() {
        // What is wrong is known already.
        let _ = fs::remove_file(&draft);
    }
    replaced
}

fn rename(draft: &Path, path: &Path) -> io::Result<()> {
    fs::rename(draft, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn remove(path: &Path) -> Result<(), DataError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DataError::write(path, e)),
        _ => Ok(()),
    }
}
