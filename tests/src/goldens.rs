//! Reading reference results: a JSON manifest beside safetensors files.

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder with the goldens: `LONGNET_GOLDENS`, or the one of this crate. A relative one is meant from
/// the workspace's root, where tests are started, though cargo runs them in the folder of this crate.
pub fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    match std::env::var_os("LONGNET_GOLDENS") {
        Some(folder) => here.join("..").join(folder),
        None => here.join("goldens"),
    }
}

/// A manifest of the goldens folder.
///
/// # Panics
///
/// If it cannot be read.
pub fn manifest(path: &str) -> Value {
    let path = folder().join(path);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; is LONGNET_GOLDENS right?", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The cases that a manifest lists.
///
/// # Panics
///
/// If it lists none.
pub fn cases(manifest: &Value) -> &[Value] {
    let cases = manifest["cases"].as_array().expect("a list of cases");
    assert!(!cases.is_empty(), "the manifest lists no cases");
    cases
}

/// A tensor of a golden file, its numbers as f64.
#[derive(Clone, Debug)]
pub struct Golden {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub data: Vec<f64>,
}

/// The tensors of a safetensors file, by name.
#[derive(Clone, Debug)]
pub struct Goldens(BTreeMap<String, Golden>);

impl Goldens {
    /// Reads a file of the goldens folder.
    ///
    /// # Panics
    ///
    /// If it cannot be read, or holds a dtype other than F32, F64, I32, I64, U8.
    pub fn read(path: impl AsRef<Path>) -> Self {
        let path = folder().join(path);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file =
            SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensors = file.iter().map(|(name, view)| {
            let data = match view.dtype() {
                Dtype::F32 => numbers(view.data(), |b| f64::from(f32::from_le_bytes(b))),
                Dtype::F64 => numbers(view.data(), f64::from_le_bytes),
                Dtype::I32 => numbers(view.data(), |b| f64::from(i32::from_le_bytes(b))),
                Dtype::I64 => numbers(view.data(), |b| i64::from_le_bytes(b) as f64),
                Dtype::U8 => numbers(view.data(), |[b]| f64::from(b)),
                other => panic!("{}: {name} is {other:?}", path.display()),
            };
            let shape = view.shape().to_vec();
            (name.to_owned(), Golden { shape, data })
        });
        Self(tensors.collect())
    }

    /// The tensors whose names start with `prefix`, without it.
    pub fn under(&self, prefix: &str) -> Self {
        let tensors = self.0.iter().filter_map(|(name, tensor)| {
            let rest = name.strip_prefix(prefix)?;
            Some((rest.to_owned(), tensor.clone()))
        });
        Self(tensors.collect())
    }

    /// A tensor, if the file has it.
    pub fn find(&self, name: &str) -> Option<&Golden> {
        self.0.get(name)
    }

    /// A tensor.
    ///
    /// # Panics
    ///
    /// If the file lacks it.
    pub fn get(&self, name: &str) -> &Golden {
        self.find(name)
            .unwrap_or_else(|| panic!("no tensor {name}; there are {:?}", self.names()))
    }

    /// All names.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty(), "truncated tensor");
    chunks.iter().map(|chunk| number(*chunk)).collect()
}

impl Golden {
    /// `[batch, seq, heads, dim]` as `[batch, heads, seq, dim]`: how these goldens and Burn order
    /// heads. Its own inverse.
    ///
    /// # Panics
    ///
    /// If it is not of rank 4.
    pub fn heads_first(&self) -> Self {
        let [batch, seq, heads, dim] = self.shape[..] else {
            panic!("rank 4, not {:?}", self.shape)
        };
        let mut data = Vec::with_capacity(self.data.len());
        for b in 0..batch {
            for h in 0..heads {
                for n in 0..seq {
                    let row = (b * seq + n) * heads + h;
                    data.extend_from_slice(&self.data[row * dim..][..dim]);
                }
            }
        }
        Self {
            shape: vec![batch, heads, seq, dim],
            data,
        }
    }
}
