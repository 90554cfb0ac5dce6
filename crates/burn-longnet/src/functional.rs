//! Sparse attention as functions of tensors.

use crate::ops::{AttentionSpec, Bias, Labels, SparseAttentionOps};
use crate::precision;
use burn::backend::Dispatch;
use burn::tensor::{Bool, DType, Device, Int, IntDType, Tensor};
use longnet_pattern::{Dropout, HIDDEN, MixGradient, Pattern, Precision, Span, Tail};

/// What an attention call may be told beside its pattern. The default is plain attention.
#[derive(Clone, Debug, Default)]
pub struct AttentionOptions {
    /// The factor of the scores. Default: `1 / sqrt(d)`.
    pub scale: Option<f64>,
    /// How the weights that mix branches are treated in the backward pass; a block mask mixes nothing. Default:
    /// exact.
    pub gradient: MixGradient,
    /// How exact the products of f32 tensors must be. Default: the highest precision.
    pub precision: Precision,
    /// Attention dropout. Default: none.
    pub dropout: Option<Dropout>,
    /// `[batch, n_k]`: true hides a key, as Burn's padding masks do. Default: none.
    pub mask_pad: Option<Tensor<2, Bool>>,
    /// Queries see keys of their own document only. Default: one document.
    pub documents: Option<Documents>,
    /// `[1 or batch, blocks]`: what is added to the scores of each listed block of a block mask, in the order
    /// of [`BlockMask::bias_starts`](longnet_pattern::BlockMask::bias_starts): head by head, query block by
    /// query block, key blocks ascending. Differentiable; `-inf` hides a block. Default: none.
    pub bias: Option<Tensor<2>>,
    /// Where queries and keys sit. Default: both from position 0.
    pub span: Option<Span>,
}

/// Which document each position belongs to. Ids are compared as 32-bit integers: larger ones are cut to
/// their low 32 bits, and `i32::MIN` is in no document.
#[derive(Clone, Debug)]
pub struct Documents {
    /// Ids of the queries' documents, `[batch, n_q]`.
    pub query: Tensor<2, Int>,
    /// Ids of the keys' documents, `[batch, n_k]`.
    pub key: Tensor<2, Int>,
}

impl Documents {
    /// Self-attention: queries and keys are the same positions.
    pub fn same(ids: Tensor<2, Int>) -> Self {
        Self {
            query: ids.clone(),
            key: ids,
        }
    }
}

/// Exact attention over the pairs of `pattern`: one softmax over all keys that a row sees, a key seen
/// `m` times counted `m` times. A row that sees nothing is zero.
///
/// Keys that `mask_pad` hides may hold anything, NaN too. A key that only some rows may not see (a later
/// position, another document) must be finite, as in any blocked implementation.
///
/// # Shapes
///
/// - q `[batch, heads, n_q, d]`
/// - k `[batch, kv_heads, n_k, d]`, v `[batch, kv_heads, n_k, d_v]`; head `h` reads kv head
///   `h / (heads / kv_heads)`
/// - returns `[batch, heads, n_q, d_v]`
///
/// # Panics
///
/// If shapes or dtypes do not fit each other, the pattern or the options; if there is a bias and `pattern` is
/// not a block mask; if a block mask ends before the sequence; if `pattern` has [`Tail::ZeroKeys`] and the call has documents or a span that is not one whole sequence.
pub fn sparse_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    pattern: &Pattern,
    options: &AttentionOptions,
) -> Tensor<4> {
    sparse_attention_with_lse(q, k, v, pattern, options).0
}

/// As [`sparse_attention`], with the log of each row's softmax denominator, `[batch, heads, n_q]`, in
/// f32 (f64 for f64 inputs). Both are differentiable; `lse` of a row that sees nothing is -inf.
///
/// # Panics
///
/// As [`sparse_attention`].
pub fn sparse_attention_with_lse(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    pattern: &Pattern,
    options: &AttentionOptions,
) -> (Tensor<4>, Tensor<3>) {
    check_shapes(&q, &k, &v, pattern);
    let [batch, _, n_q, d] = q.dims();
    let n_k = k.dims()[2];
    let span = options.span.unwrap_or(Span::cross(n_q, n_k));
    assert_eq!(
        (span.n_q, span.n_k),
        (n_q, n_k),
        "options.span has (n_q, n_k) = ({}, {}), the tensors have ({n_q}, {n_k})",
        span.n_q,
        span.n_k
    );
    check_dropout(options);
    let schedule = pattern
        .schedule(span)
        .unwrap_or_else(|error| panic!("{error}"));
    if schedule.tail() == Tail::ZeroKeys && options.documents.is_some() {
        panic!("tail = ZeroKeys is not defined with documents; use tail = Masked");
    }
    let labels = match labels(options, [batch, n_q, n_k], &q.device()) {
        Some([q, k]) => Labels::Pair {
            q: q.into_dispatch(),
            k: k.into_dispatch(),
        },
        None => Labels::None,
    };
    let bias = match bias(options, pattern, batch, q.dtype()) {
        Some(bias) => Bias::Blocks(bias.into_dispatch()),
        None => Bias::None,
    };
    let spec = AttentionSpec {
        schedule,
        scale: options.scale.unwrap_or(1.0 / (d as f64).sqrt()),
        gradient: options.gradient,
        precision: options.precision,
        dropout: options.dropout.filter(|dropout| dropout.p > 0.0),
    };
    let (out, lse) = <Dispatch as SparseAttentionOps>::sparse_attention_forward(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        labels,
        bias,
        spec,
    );
    (Tensor::from_dispatch(out), Tensor::from_dispatch(lse))
}

/// Merges two partial results over disjoint keys: `(out, lse)` of their union, in the dtype of `lse`
/// and then back in that of `out`. Of two empty partials it is `(0, -inf)`, with zero gradients.
///
/// # Shapes
///
/// out `[batch, heads, n_q, d_v]`, lse `[batch, heads, n_q]`
pub fn merge(
    (out1, lse1): (Tensor<4>, Tensor<3>),
    (out2, lse2): (Tensor<4>, Tensor<3>),
) -> (Tensor<4>, Tensor<3>) {
    let (dtype, wide) = (out1.dtype(), lse1.dtype());
    // The larger lse is a constant: it cancels. Finite where both are -inf, so that nothing below
    // computes inf - inf.
    let top = lse1
        .clone()
        .detach()
        .max_pair(lse2.clone().detach())
        .clamp_min(-1e30);
    let weight = |lse: Tensor<3>| (lse - top.clone()).exp();
    let (w1, w2) = (weight(lse1), weight(lse2));
    let sum = w1.clone() + w2.clone();
    let empty = sum.clone().detach().equal_elem(0.0);
    // A row without keys: ln 1 = 0 and out / 1 = 0 have finite gradients, which the weights zero.
    let sum = sum.mask_fill(empty.clone(), 1.0);
    let lse = (top + sum.clone().log()).mask_fill(empty, f64::NEG_INFINITY);
    let part = |out: Tensor<4>, w: Tensor<3>| out.cast(wide) * (w / sum.clone()).unsqueeze_dim(3);
    let out = (part(out1, w1) + part(out2, w2)).cast(dtype);
    (out, lse)
}

pub(crate) fn check_dropout(options: &AttentionOptions) {
    if let Some(dropout) = options.dropout {
        assert!(
            (0.0..=1.0).contains(&dropout.p),
            "dropout.p is {}; a probability is in 0..=1",
            dropout.p
        );
    }
}

pub(crate) fn check_shapes(q: &Tensor<4>, k: &Tensor<4>, v: &Tensor<4>, pattern: &Pattern) {
    let ([batch, heads, _, d], [k_batch, kv_heads, n_k, k_d]) = (q.dims(), k.dims());
    let [v_batch, v_heads, v_n, _] = v.dims();
    assert_eq!(
        heads,
        pattern.heads(),
        "q has {heads} heads (dim 1), the pattern has {}",
        pattern.heads()
    );
    assert_eq!(
        (batch, d),
        (k_batch, k_d),
        "q {:?} and k {:?} must agree in batch (dim 0) and head size (dim 3)",
        q.dims(),
        k.dims()
    );
    assert_eq!(
        (k_batch, kv_heads, n_k),
        (v_batch, v_heads, v_n),
        "k {:?} and v {:?} must agree in batch, heads and length (dims 0, 1, 2)",
        k.dims(),
        v.dims()
    );
    assert!(
        kv_heads > 0 && heads.is_multiple_of(kv_heads),
        "k has {kv_heads} heads (dim 1), which must divide the {heads} heads of q"
    );
    let dtypes = [q.dtype(), k.dtype(), v.dtype()];
    assert!(
        dtypes.iter().all(|dtype| *dtype == dtypes[0]),
        "q, k and v must have one dtype, got {dtypes:?}"
    );
    assert!(
        matches!(
            dtypes[0],
            DType::F64 | DType::F32 | DType::F16 | DType::BF16
        ),
        "attention takes f64, f32, f16 or bf16 tensors, got {:?}",
        dtypes[0]
    );
}

/// The bias in the dtype of lse.
pub(crate) fn bias(
    options: &AttentionOptions,
    pattern: &Pattern,
    batch: usize,
    dtype: DType,
) -> Option<Tensor<2>> {
    let bias = options.bias.as_ref()?;
    let Pattern::Blocks(mask) = pattern else {
        panic!("options.bias needs a block mask: a dilated pattern has no blocks");
    };
    let (dims, blocks) = (bias.dims(), mask.blocks());
    assert!(
        [[1, blocks], [batch, blocks]].contains(&dims),
        "options.bias has shape {dims:?}, expected [1, {blocks}] or [{batch}, {blocks}]: a value for each listed block"
    );
    Some(bias.clone().cast(precision::wide(dtype)))
}

/// The labels of queries and keys that stand for masks and documents.
pub(crate) fn labels(
    options: &AttentionOptions,
    [batch, n_q, n_k]: [usize; 3],
    device: &Device,
) -> Option<[Tensor<2, Int>; 2]> {
    if options.mask_pad.is_none() && options.documents.is_none() {
        return None;
    }
    let check = |name: &str, dims: [usize; 2], n: usize| {
        assert_eq!(
            dims,
            [batch, n],
            "{name} has shape {dims:?}, expected [{batch}, {n}]"
        );
    };
    let (query, mut key) = match &options.documents {
        Some(Documents { query, key }) => {
            check("documents.query", query.dims(), n_q);
            check("documents.key", key.dims(), n_k);
            (
                query.clone().cast(IntDType::I32),
                key.clone().cast(IntDType::I32),
            )
        }
        None => {
            let zeros = |n| Tensor::<2, Int>::zeros([batch, n], (device, DType::I32));
            (zeros(n_q), zeros(n_k))
        }
    };
    if let Some(mask) = &options.mask_pad {
        check("mask_pad", mask.dims(), n_k);
        key = key.mask_fill(mask.clone(), HIDDEN);
    }
    Some([query, key])
}
