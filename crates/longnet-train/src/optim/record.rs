//! Records of an optimiser's state in parts: their tensors and scalars are named after the ids of parameters.

use burn::optim::OptimizerRecord;
use burn::store::RecordError;
use burn::tensor::Bytes;
use burn_pack::{Reader, Scalar, Tensor, Writer};
use std::collections::BTreeMap;
use std::path::Path;

/// The record that all of `parts` make, which are of different parameters.
///
/// # Errors
///
/// One of them is no record.
pub fn merged(parts: Vec<Vec<u8>>) -> Result<OptimizerRecord, RecordError> {
    let mut all = Parts::default();
    for part in parts {
        all.add(Reader::from_bytes(Bytes::from_bytes_vec(part))?, &|_| true)?;
    }
    all.record()
}

/// What the file `path` has of the parameters that `keep` knows.
///
/// # Errors
///
/// It cannot be read.
pub fn load_some(path: &Path, keep: &dyn Fn(u64) -> bool) -> Result<OptimizerRecord, RecordError> {
    let mut some = Parts::default();
    some.add(Reader::from_file(path)?, keep)?;
    some.record()
}

#[derive(Default)]
struct Parts {
    tensors: Vec<Tensor>,
    scalars: BTreeMap<String, Scalar>,
    paths: BTreeMap<String, String>,
}

impl Parts {
    fn add(&mut self, reader: Reader, keep: &dyn Fn(u64) -> bool) -> Result<(), RecordError> {
        // "12.moment" and "12" are about parameter 12.
        let kept = |name: &String| {
            let id = name.split('.').next().and_then(|id| id.parse().ok());
            id.is_some_and(keep)
        };
        let scalars = reader.scalars().clone().into_iter();
        self.scalars.extend(scalars.filter(|(name, _)| kept(name)));
        let paths = reader.metadata().clone().into_iter();
        self.paths.extend(paths.filter(|(name, _)| kept(name)));
        let tensors = reader.into_tensors()?.into_iter();
        self.tensors
            .extend(tensors.filter(|tensor| tensor.param_id.is_some_and(keep)));
        Ok(())
    }

    fn record(self) -> Result<OptimizerRecord, RecordError> {
        let mut writer = Writer::new(self.tensors);
        for (name, value) in &self.scalars {
            writer = writer.with_scalar(name, *value);
        }
        for (name, path) in &self.paths {
            writer = writer.with_metadata(name, path);
        }
        OptimizerRecord::from_bytes(writer.into_bytes()?)
    }
}
