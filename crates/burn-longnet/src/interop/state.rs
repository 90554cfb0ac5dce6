//! A PyTorch state dict and its way into Burn's modules.

use crate::attention::{MultiHeadSparseAttention, SparseAttention};
use crate::error::ConfigError;
use crate::norm::LayerNorm;
use burn::module::Param;
use burn::nn::{Embedding, Linear};
use burn::store::{ModuleStore, SafetensorsStore};
use burn::tensor::{Shape, Tensor, TensorData};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tensors by PyTorch's names. Weights of linear layers are `[out, in]` there.
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, TensorData>,
}

/// Why weights cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{}: {reason}; give a safetensors file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A tensor that the model has is not there.
    #[error(
        "tensor `{name}` of shape {shape:?} is missing; check that the configuration is that of the weights"
    )]
    Missing {
        /// Its name.
        name: String,
        /// The shape that the model needs.
        shape: Vec<usize>,
    },
    /// A tensor has another shape than the model's.
    #[error(
        "tensor `{name}` has shape {found:?}, the model needs {expected:?}; check that the configuration is that of the weights"
    )]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that the model needs.
        expected: Vec<usize>,
    },
    /// Tensors that the model has no place for.
    #[error(
        "the model has no place for {}; check that the configuration is that of the weights", names.join(", ")
    )]
    Unexpected {
        /// Their names.
        names: Vec<String>,
    },
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An option that this crate has no counterpart for.
    #[error("{option} is not supported: {reason}")]
    Unsupported {
        /// The option.
        option: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
}

impl<N: Into<String>> FromIterator<(N, TensorData)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (N, TensorData)>>(tensors: I) -> Self {
        let tensors = tensors.into_iter().map(|(name, data)| (name.into(), data));
        Self {
            tensors: tensors.collect(),
        }
    }
}

impl StateDict {
    /// Reads a safetensors file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn from_safetensors(path: impl AsRef<Path>) -> Result<Self, ImportError> {
        let path = path.as_ref();
        let error = |reason: String| ImportError::Read {
            path: path.to_owned(),
            reason,
        };
        let mut store = SafetensorsStore::from_file(path);
        let all = store.get_all_tensors().map_err(|e| error(e.to_string()))?;
        let read = all.iter().map(|(name, tensor)| {
            let (_, dtype, shape, _, bytes) = tensor
                .clone()
                .into_parts()
                .map_err(|e| error(format!("{name}: {e}")))?;
            Ok((name.clone(), TensorData::from_bytes(bytes, shape, dtype)))
        });
        let tensors = read.collect::<Result<_, ImportError>>()?;
        Ok(Self { tensors })
    }

    /// The tensors whose names start with `prefix`, without it.
    pub fn under(&self, prefix: &str) -> Self {
        let under = |(name, data): (&String, &TensorData)| {
            Some((name.strip_prefix(prefix)?.to_owned(), data.clone()))
        };
        Self {
            tensors: self.tensors.iter().filter_map(under).collect(),
        }
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.tensors.get(name)?.shape().to_vec())
    }

    /// Takes tensors out that have no place by design.
    pub(super) fn discard(&mut self, is_discarded: impl Fn(&str) -> bool) {
        self.tensors.retain(|name, _| !is_discarded(name));
    }

    /// An error if anything is left.
    pub(super) fn finish(self) -> Result<(), ImportError> {
        match self.tensors.is_empty() {
            true => Ok(()),
            false => Err(ImportError::Unexpected {
                names: self.tensors.into_keys().collect(),
            }),
        }
    }

    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, ImportError> {
        let data = self.tensors.remove(name).ok_or(ImportError::Missing {
            name: name.to_owned(),
            shape: shape.to_vec(),
        })?;
        if data.shape().to_vec() != shape {
            return Err(ImportError::Shape {
                name: name.to_owned(),
                found: data.shape().to_vec(),
                expected: shape.to_vec(),
            });
        }
        Ok(data)
    }

    /// Fills `param`, whose value is `convert` of the tensor of shape `stored`.
    fn fill<const D: usize>(
        &mut self,
        param: &mut Param<Tensor<D>>,
        name: &str,
        stored: Shape,
        convert: impl FnOnce(Tensor<D>) -> Tensor<D>,
    ) -> Result<(), ImportError> {
        let data = self.take(name, &stored.to_vec())?;
        *param = param.clone().map(|old| {
            let new = convert(Tensor::from_data(data, (&old.device(), old.dtype())));
            new.set_require_grad(old.is_require_grad())
        });
        Ok(())
    }

    fn plain<const D: usize>(
        &mut self,
        param: &mut Param<Tensor<D>>,
        name: &str,
    ) -> Result<(), ImportError> {
        let shape = param.lazy_shape();
        self.fill(param, name, shape, |tensor| tensor)
    }

    pub(super) fn embedding(
        &mut self,
        embedding: &mut Embedding,
        name: &str,
    ) -> Result<(), ImportError> {
        self.plain(&mut embedding.weight, &format!("{name}.weight"))
    }

    pub(super) fn norm(&mut self, norm: &mut LayerNorm, name: &str) -> Result<(), ImportError> {
        self.plain(&mut norm.gamma, &format!("{name}.weight"))?;
        match &mut norm.beta {
            Some(beta) => self.plain(beta, &format!("{name}.bias")),
            None => Ok(()),
        }
    }

    /// As [`norm`](Self::norm), where the model has one.
    pub(super) fn optional_norm(
        &mut self,
        norm: &mut Option<LayerNorm>,
        name: &str,
    ) -> Result<(), ImportError> {
        match norm {
            Some(norm) => self.norm(norm, name),
            None => Ok(()),
        }
    }

    pub(super) fn linear(&mut self, linear: &mut Linear, name: &str) -> Result<(), ImportError> {
        let [d_in, d_out] = linear.weight.lazy_shape().dims();
        let weight = format!("{name}.weight");
        let stored = Shape::new([d_out, d_in]);
        self.fill(&mut linear.weight, &weight, stored, |tensor| {
            tensor.transpose()
        })?;
        match &mut linear.bias {
            Some(bias) => self.plain(bias, &format!("{name}.bias")),
            None => Ok(()),
        }
    }

    /// `q_proj`, `k_proj` and `v_proj` under `prefix`, into three projections or one.
    pub(super) fn projections<A: SparseAttention>(
        &mut self,
        attention: &mut MultiHeadSparseAttention<A>,
        prefix: &str,
    ) -> Result<(), ImportError> {
        let names = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{prefix}{part}"));
        let [queries, keys, values] = attention.projected_widths();
        if let Some(qkv) = &mut attention.qkv {
            let fused = format!("{prefix}qkv_proj");
            if self.shape(&format!("{fused}.weight")).is_none() {
                let [q, k, v] = &names;
                let parts = [(q, queries), (k, keys), (v, values)];
                let [d_in, _] = qkv.weight.lazy_shape().dims();
                self.fuse(&parts, "weight", &[d_in], &fused)?;
                if qkv.bias.is_some() {
                    self.fuse(&parts, "bias", &[], &fused)?;
                }
            }
            return self.linear(qkv, &fused);
        }
        let MultiHeadSparseAttention {
            query, key, value, ..
        } = attention;
        for (linear, name) in [query, key, value].into_iter().zip(&names) {
            if let Some(linear) = linear {
                self.linear(linear, name)?;
            }
        }
        Ok(())
    }

    /// Puts the tensors `part` of `from`, each with its rows, one after the other where one linear
    /// layer is. `row` is the shape of a row.
    fn fuse(
        &mut self,
        from: &[(&String, usize)],
        part: &str,
        row: &[usize],
        into: &str,
    ) -> Result<(), ImportError> {
        let mut values = Vec::<f64>::new();
        for (name, rows) in from {
            let data = self.take(&format!("{name}.{part}"), &[&[*rows], row].concat())?;
            values.extend(data.iter::<f64>());
        }
        let rows = from.iter().map(|(_, rows)| rows).sum();
        let data = TensorData::new::<f64, _>(values, [&[rows], row].concat());
        self.tensors.insert(format!("{into}.{part}"), data);
        Ok(())
    }
}
