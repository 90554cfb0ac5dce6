//! The op as a Burn backend extension.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};
use longnet_pattern::{Dropout, MixGradient, Precision, Schedule};

/// Everything about an attention call that is not a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Which pairs are visited.
    pub schedule: Schedule,
    /// The factor of the scores.
    pub scale: f64,
    /// How the weights that mix branches are treated in the backward pass; a block mask mixes nothing, and its
    /// gradient is exact.
    pub gradient: MixGradient,
    /// How exact products of f32 must be; a backend may be more exact.
    pub precision: Precision,
    /// Attention dropout.
    pub dropout: Option<Dropout>,
}

/// Padding masks and document ids, as one pair of label tensors: a query sees a key iff their labels
/// are equal and the key's is not [`HIDDEN`](longnet_pattern::HIDDEN).
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub enum Labels<B: Backend> {
    /// Every query may see every key.
    None,
    /// 32-bit labels of queries `[batch, n_q]` and keys `[batch, n_k]`.
    Pair {
        /// Labels of the queries.
        q: IntTensor<B>,
        /// Labels of the keys.
        k: IntTensor<B>,
    },
}

/// What is added to the scores of each listed block of a block mask.
#[derive(ExtensionType, Clone, Debug)]
#[extension_type(fusion: cfg(feature = "cube"))]
pub enum Bias<B: Backend> {
    /// Nothing.
    None,
    /// `[1 or batch, blocks]` in the dtype of lse, in the order of
    /// [`BlockMask::bias_starts`](longnet_pattern::BlockMask::bias_starts). `-inf` hides a block.
    Blocks(FloatTensor<B>),
}

/// What fusion is told of the results, so that it can wait with the call. It trusts these shapes.
#[cfg(feature = "cube")]
mod outputs {
    use super::{AttentionSpec, BiasMetadata, LabelsMetadata};
    use burn::backend::fusion::custom::TensorSpec;
    use burn::tensor::{DType, Shape};

    fn wide(q: &TensorSpec) -> DType {
        match q.dtype {
            DType::F64 => DType::F64,
            _ => DType::F32,
        }
    }

    pub fn forward(
        q: &TensorSpec,
        _: &TensorSpec,
        v: &TensorSpec,
        _: &LabelsMetadata,
        _: &BiasMetadata,
        _: &AttentionSpec,
    ) -> (TensorSpec, TensorSpec) {
        let [batch, heads, n_q, _] = q.shape.dims();
        let out = Shape::new([batch, heads, n_q, v.shape[3]]);
        (
            TensorSpec::new(out, q.dtype),
            TensorSpec::new(Shape::new([batch, heads, n_q]), wide(q)),
        )
    }

    pub fn backward(
        q: &TensorSpec,
        k: &TensorSpec,
        v: &TensorSpec,
        _: &LabelsMetadata,
        bias: &BiasMetadata,
        _: &TensorSpec,
        _: &TensorSpec,
        _: &TensorSpec,
        _: &TensorSpec,
        _: &AttentionSpec,
    ) -> (TensorSpec, TensorSpec, TensorSpec, TensorSpec) {
        let dbias = match bias {
            BiasMetadata::None => TensorSpec::new(Shape::new([0]), wide(q)),
            BiasMetadata::Blocks(bias) => bias.clone(),
        };
        (q.clone(), k.clone(), v.clone(), dbias)
    }
}

/// Exact sparse attention: forward and one fused backward.
///
/// The default bodies are plain tensor ops and run on any backend. Use
/// [`functional::sparse_attention`](crate::functional::sparse_attention) rather than calling this.
#[backend_extension(
    Cube: cfg(feature = "cube"),
    Flex: cfg(feature = "flex"),
    Remote: cfg(feature = "remote"),
    Autodiff,
    Fusion: cfg(feature = "cube")
)]
pub trait SparseAttentionOps: Backend {
    /// Attention over the pairs of `spec.schedule`.
    ///
    /// # Shapes
    ///
    /// - q `[batch, heads, n_q, d]`, k `[batch, kv_heads, n_k, d]`, v `[batch, kv_heads, n_k, d_v]`
    /// - out `[batch, heads, n_q, d_v]` in the dtype of q; lse `[batch, heads, n_q]` in f32, f64 when
    ///   q is f64
    #[fusion(meta = outputs::forward)]
    fn sparse_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] labels: Labels<Self>,
        #[extension_type] bias: Bias<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::backend::fallback::forward::<Self>(q, k, v, labels, bias, &spec)
    }

    /// The gradients of q, k, v and the bias, given those of out and lse. That of the bias has its shape and
    /// the dtype of lse; without a bias its shape is `[0]`.
    #[fusion(meta = outputs::backward)]
    fn sparse_attention_backward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] labels: Labels<Self>,
        #[extension_type] bias: Bias<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        dout: FloatTensor<Self>,
        dlse: FloatTensor<Self>,
        spec: AttentionSpec,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        crate::backend::fallback::backward::<Self>(
            q, k, v, labels, bias, out, lse, dout, dlse, &spec,
        )
    }
}
