//! What a checkpoint consists of: the sizes and hashes of its files.

use super::CheckpointError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Its name in the folder.
pub(super) const MANIFEST: &str = "manifest.json";

const FORMAT: u32 = 1;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
}

/// The files of a checkpoint by name, all but the manifest itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout.
    format: u32,
    /// The files.
    pub files: BTreeMap<String, Part>,
}

impl Manifest {
    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// What is wrong with `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!(
                "its format is {}, and this program reads {FORMAT}; use the version of longnet that wrote it",
                manifest.format
            ));
        }
        for (name, part) in &manifest.files {
            // Nothing outside of the folder is a part of it.
            let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\']);
            if !plain {
                return Err(format!("'{name}' is not the name of a file in the folder"));
            }
            let hash = part.sha256.as_bytes();
            if hash.len() != 64 || !hash.iter().all(u8::is_ascii_hexdigit) {
                return Err(format!("the hash of {name} is no SHA-256"));
            }
        }
        Ok(manifest)
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest is plain data")
    }

    /// The manifest of the files `names` in `folder`.
    pub(super) fn of(folder: &Path, names: &[&str]) -> Result<Self, CheckpointError> {
        let mut files = BTreeMap::new();
        for name in names {
            let path = folder.join(name);
            let part = measure(&path).map_err(|e| CheckpointError::write(&path, e))?;
            files.insert(name.to_string(), part);
        }
        Ok(Self {
            format: FORMAT,
            files,
        })
    }

    /// Reads the manifest of the checkpoint in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CheckpointError::Missing {
                    path: folder.into(),
                    part: MANIFEST.into(),
                });
            }
            Err(error) => return Err(CheckpointError::unreadable(&path, error)),
        };
        Self::parse(&bytes).map_err(|reason| CheckpointError::unreadable(&path, reason))
    }

    /// Whether the files of `folder` are those of the manifest, byte by byte.
    pub(super) fn verify(&self, folder: &Path) -> Result<(), CheckpointError> {
        self.files
            .keys()
            .try_for_each(|name| self.verify_file(folder, name))
    }

    /// Whether the file `name` of `folder` is that of the manifest, byte by byte.
    pub(super) fn verify_file(&self, folder: &Path, name: &str) -> Result<(), CheckpointError> {
        let missing = || CheckpointError::Missing {
            path: folder.into(),
            part: name.into(),
        };
        let part = self.files.get(name).ok_or_else(missing)?;
        let path = folder.join(name);
        let found = match measure(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(CheckpointError::unreadable(&path, error)),
        };
        let reason = match found.bytes == part.bytes {
            false => format!(
                "it has {} bytes, and was written with {}",
                found.bytes, part.bytes
            ),
            true if found.sha256 != part.sha256.to_ascii_lowercase() => {
                "its bytes are not those that were written (SHA-256)".into()
            }
            true => return Ok(()),
        };
        Err(CheckpointError::unreadable(&path, reason))
    }
}

fn measure(path: &Path) -> io::Result<Part> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
    let sha256 = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Part { bytes, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "abc").unwrap();
        let manifest = Manifest::of(folder.path(), &["a"]).unwrap();
        assert_eq!(manifest.files["a"].bytes, 3);
        // The example of FIPS 180-2, appendix B.1.
        assert_eq!(
            manifest.files["a"].sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let read = Manifest::parse(manifest.to_json().as_bytes()).unwrap();
        assert_eq!(read, manifest);
    }

    #[test]
    fn a_manifest_names_plain_files_only() {
        let json = |name: &str, format: u32, hash: &str| {
            format!(r#"{{"format":{format},"files":{{"{name}":{{"bytes":3,"sha256":"{hash}"}}}}}}"#)
        };
        let hash = "0".repeat(64);
        Manifest::parse(json("a", 1, &hash).as_bytes()).unwrap();
        for (bad, reason) in [
            (json("../a", 1, &hash), "not the name"),
            (json("/a", 1, &hash), "not the name"),
            (json("", 1, &hash), "not the name"),
            (json("a", 2, &hash), "its format is 2"),
            (json("a", 1, "00"), "no SHA-256"),
            ("".into(), "EOF"),
            (r#"{"format":1}"#.into(), "missing field"),
        ] {
            let error = Manifest::parse(bad.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }
}
