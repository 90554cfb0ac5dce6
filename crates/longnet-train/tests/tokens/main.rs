//! From files of all formats to the batches of a run.

mod batches;
mod formats;
mod shards;
mod tokenizers;

use longnet_train::config::sections::Data;
use longnet_train::data::tokenizer::train;
use longnet_train::data::{Tokenizer, Watch, files};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of files.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn data(&self, paths: &[&str]) -> Data {
        Data {
            paths: paths.iter().map(|p| p.to_string()).collect(),
            root: self.0.path().to_string_lossy().into(),
            ..Data::default()
        }
    }

    /// A tokenizer of `vocab` tokens that knows the words of `text`, in a file.
    fn tokenizer(&self, name: &str, text: &str, vocab: usize) -> PathBuf {
        self.write("learned.txt", text);
        let found = files::find(&self.data(&["learned.txt"])).unwrap();
        let trained = train(&found, "text", vocab, &Watch::default()).unwrap();
        fs::remove_file(self.path("learned.txt")).unwrap();
        self.write(name, trained.tokenizer.file().unwrap())
    }
}

/// Lines of words that are not all alike.
fn lines(count: usize, seed: usize) -> String {
    let words = [
        "the", "naïve", "cat", "sat", "on", "a", "mat", "in", "Zürich", "twice",
    ];
    let word = |i: usize| words[(i * i + seed) % words.len()];
    let line = |i: usize| format!("{} {} {} {i}.\n", word(i), word(i + 1), word(2 * i + seed));
    (0..count).map(line).collect()
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    use std::io::Write;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes.as_ref()).unwrap();
    packer.finish().unwrap()
}

fn zstd(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::stream::encode_all(bytes.as_ref(), 1).unwrap()
}

/// `error` without the folder.
fn shown(error: impl std::fmt::Display, folder: &Path) -> String {
    let folder = folder.to_string_lossy();
    let prefix = format!("{}/", folder.trim_end_matches('/'));
    error.to_string().replace(&prefix, "")
}
