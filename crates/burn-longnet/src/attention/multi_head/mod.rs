//! Multi-head sparse attention, where Burn's `MultiHeadAttention` stood.

mod config;

pub use config::{
    InnerNorm, MultiHeadAdaptiveAttentionConfig, MultiHeadBlockSparseAttentionConfig,
    MultiHeadDilatedAttentionConfig, QkNorm,
};

pub(crate) use config::scaled;

use super::adaptive::AdaptiveAttention;
use super::block_sparse::BlockSparseAttention;
use super::core::SparseAttention;
use super::dilated::{AttentionInput, DilatedAttention};
use crate::dropout::DropoutSeed;
use crate::functional::Documents;
use crate::norm::LayerNorm;
use crate::pattern::{Pattern, Span};
use crate::position::{AttentionPosition, PositionTables};
use crate::ring::SequenceShard;
use crate::rowwise::{linear, project};
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::nn::Linear;
use burn::tensor::{Bool, Tensor, assert_shape};

/// Multi-head attention over the pairs of a pattern.
///
/// It stands where Burn's `MultiHeadAttention` stood: the same parameters under the same names, the
/// same way to call it, but memory and time in proportion to the visible pairs, and so no weights in
/// its output.
///
/// Should be created with the configuration of one kind, such as [`MultiHeadDilatedAttentionConfig`].
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_longnet::attention::{MhaInput, MultiHeadDilatedAttentionConfig, branches};
///
/// let device = Device::default();
/// let attention = MultiHeadDilatedAttentionConfig::new(32, 4)
///     .with_branches(branches([(64, 1), (128, 2)]))
///     .init(&device);
/// let x = Tensor::<3>::random([2, 100, 32], Distribution::Default, &device);
/// let context = attention.forward(MhaInput::self_attn(x)).context;
/// assert_eq!(context.dims(), [2, 100, 32]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct MultiHeadSparseAttention<A> {
    /// `d_model` to `n_heads * d_head`, unless fused.
    pub query: Option<Linear>,
    /// `d_model` to `n_kv_heads * d_head`, unless fused.
    pub key: Option<Linear>,
    /// `d_model` to `n_kv_heads * d_value`, unless fused.
    pub value: Option<Linear>,
    /// Query, key and value in one, if fused.
    pub qkv: Option<Linear>,
    /// `n_heads * d_value` to `d_model`.
    pub output: Linear,
    /// Norm of the queries, over a head or over all of them.
    pub query_norm: Option<LayerNorm>,
    /// Norm of the keys, over a head or over all of them.
    pub key_norm: Option<LayerNorm>,
    /// Norm of the merged heads.
    pub inner_norm: Option<LayerNorm>,
    /// The core.
    pub attention: A,
    #[module(skip)]
    pub(super) qk_norm: QkNorm,
    pub(super) shares_norm: bool,
    #[module(skip)]
    pub(super) position: AttentionPosition,
    pub(super) d_model: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) d_head: usize,
    pub(super) d_value: usize,
    pub(super) context_scale: f64,
}

/// Multi-head attention over the pairs of dilated branches:
/// [LongNet](https://arxiv.org/abs/2307.02486).
pub type MultiHeadDilatedAttention = MultiHeadSparseAttention<DilatedAttention>;

/// Multi-head attention over the blocks of a [`BlockPattern`](crate::pattern::BlockPattern).
pub type MultiHeadBlockSparseAttention = MultiHeadSparseAttention<BlockSparseAttention>;

/// Multi-head attention over the blocks that [`AdaptiveAttention`] chooses.
pub type MultiHeadAdaptiveAttention = MultiHeadSparseAttention<AdaptiveAttention>;

impl<A: Module + ModuleDisplay> ModuleDisplay for MultiHeadSparseAttention<A> {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("d_model", &self.d_model)
            .add("n_heads", &self.n_heads)
            .add("n_kv_heads", &self.n_kv_heads)
            .add("d_head", &self.d_head)
            .add("position", &format!("{:?}", self.position))
            .add("attention", &self.attention)
            .optional()
    }
}

/// [Multi-head sparse attention](MultiHeadSparseAttention) forward pass input argument.
#[derive(Debug, Clone)]
pub struct MhaInput {
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    /// Whether the three are the same tensor.
    is_self: bool,
    mask_pad: Option<Tensor<2, Bool>>,
    documents: Option<Documents>,
    span: Option<Span>,
    shard: Option<SequenceShard>,
    tables: Option<PositionTables>,
    seed: DropoutSeed,
}

/// [Multi-head sparse attention](MultiHeadSparseAttention) outputs.
#[derive(Debug, Clone)]
pub struct MhaOutput {
    /// The context tensor `[batch, n_q, d_model]`.
    pub context: Tensor<3>,
}

impl MhaInput {
    /// Self-attention over `[batch, n, d_model]`.
    pub fn self_attn(tensor: Tensor<3>) -> Self {
        Self {
            is_self: true,
            ..Self::new(tensor.clone(), tensor.clone(), tensor)
        }
    }

    /// Queries `[batch, n_q, d_model]` over keys and values `[batch, n_k, d_model]`.
    pub fn new(query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Self {
        Self {
            query,
            key,
            value,
            is_self: false,
            mask_pad: None,
            documents: None,
            span: None,
            shard: None,
            tables: None,
            seed: DropoutSeed::Draw,
        }
    }

    /// Hides keys: `[batch, n_k]`, true is padding.
    pub fn mask_pad(mut self, mask_pad: impl Into<Option<Tensor<2, Bool>>>) -> Self {
        self.mask_pad = mask_pad.into();
        self
    }

    /// Burn's mask of pairs, which would take memory in proportion to their number.
    ///
    /// # Panics
    ///
    /// Always: a causal mask is `with_causal(true)` in the configuration, a mask of documents is
    /// [`documents`](Self::documents).
    pub fn mask_attn(self, _mask_attn: Tensor<3, Bool>) -> Self {
        panic!(
            "sparse attention takes no n_q x n_k mask; for a causal one configure with_causal(true), for documents give their ids with MhaInput::documents"
        )
    }

    /// Lets queries see keys of their own document only.
    pub fn documents(mut self, documents: impl Into<Option<Documents>>) -> Self {
        self.documents = documents.into();
        self
    }

    /// Where queries and keys sit. Without it both start at position 0.
    pub fn span(mut self, span: impl Into<Option<Span>>) -> Self {
        self.span = span.into();
        self
    }

    /// The input is this rank's part of a sequence that is sharded over several ranks. There is no span then.
    pub fn shard(mut self, shard: impl Into<Option<SequenceShard>>) -> Self {
        self.shard = shard.into();
        self
    }

    /// The tables of [`MultiHeadSparseAttention::tables`], for callers with many layers. Without
    /// them they are made for this call.
    pub fn tables(mut self, tables: impl Into<Option<PositionTables>>) -> Self {
        self.tables = tables.into();
        self
    }

    /// Drops attention weights by this seed, or not at all. Without it dropout is on under autodiff,
    /// with a seed from the device's generator.
    pub fn seed(mut self, seed: impl Into<DropoutSeed>) -> Self {
        self.seed = seed.into();
        self
    }
}

impl MultiHeadDilatedAttention {
    /// The pattern of visible pairs.
    pub fn pattern(&self) -> &Pattern {
        self.attention.pattern()
    }
}

impl<A: SparseAttention> MultiHeadSparseAttention<A> {
    /// Factors of the positions in `span` that all layers configured like this one can share.
    ///
    /// # Panics
    ///
    /// If xPos's factors leave the number format.
    pub fn tables(&self, span: Span, x: &Tensor<3>) -> Option<PositionTables> {
        self.position
            .tables(
                || self.attention.pattern_over(span),
                span,
                self.d_head,
                x.dtype(),
                &x.device(),
            )
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`tables`](Self::tables), of the positions of a shard.
    ///
    /// # Panics
    ///
    /// As [`tables`](Self::tables).
    pub fn shard_tables(&self, shard: &SequenceShard, x: &Tensor<3>) -> Option<PositionTables> {
        let pattern = || self.attention.pattern_over(Span::full(shard.n()));
        let (width, dtype) = (self.d_head, x.dtype());
        self.position
            .shard_tables(
                pattern,
                shard.shards(),
                shard.rank(),
                width,
                dtype,
                &x.device(),
            )
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Applies the forward pass on the input tensors.
    ///
    /// # Shapes
    ///
    /// - query: `[batch, n_q, d_model]`
    /// - key, value: `[batch, n_k, d_model]`
    /// - output: `[batch, n_q, d_model]`
    ///
    /// # Panics
    ///
    /// If the shapes are not these, xPos's factors leave the number format, or dropout would draw a
    /// seed inside [`recompute`](crate::recompute).
    pub fn forward(&self, input: MhaInput) -> MhaOutput {
        let [batch, n_q, _] = input.query.dims();
        let [_, n_k, _] = input.key.dims();
        assert_shape!(input.query, [_, _, self.d_model]);
        assert_shape!(input.key, [batch, _, self.d_model]);
        assert_shape!(input.value, [batch, n_k, self.d_model]);
        let tables = input.tables.or_else(|| match &input.shard {
            Some(shard) => self.shard_tables(shard, &input.query),
            None => {
                let span = input.span.unwrap_or(Span::cross(n_q, n_k));
                self.tables(span, &input.query)
            }
        });

        let [query, key, value] = self.project(input.query, input.key, input.value, input.is_self);
        let query = self.heads(query, self.n_heads, &self.query_norm);
        let key = self.heads(key, self.n_kv_heads, &self.key_norm);
        let value = self.heads(value, self.n_kv_heads, &None);
        let (query, key) = match tables {
            Some(tables) => tables.apply(query, key),
            None => (query, key),
        };

        let context = self.attention.attend(
            AttentionInput::new(query, key, value)
                .mask_pad(input.mask_pad)
                .documents(input.documents)
                .span(input.span)
                .shard(input.shard)
                .seed(input.seed),
        );
        let mut context =
            context
                .swap_dims(1, 2)
                .reshape([batch, n_q, self.n_heads * self.d_value]);
        if self.context_scale != 1.0 {
            context = context * self.context_scale;
        }
        let shared = self.query_norm.as_ref().filter(|_| self.shares_norm);
        if let Some(norm) = self.inner_norm.as_ref().or(shared) {
            context = norm.forward(context);
        }
        MhaOutput {
            context: project(&self.output, context),
        }
    }

    /// Sizes of the projected queries, keys and values.
    pub(crate) fn projected_widths(&self) -> [usize; 3] {
        [
            self.n_heads * self.d_head,
            self.n_kv_heads * self.d_head,
            self.n_kv_heads * self.d_value,
        ]
    }

    fn project(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        is_self: bool,
    ) -> [Tensor<3>; 3] {
        let widths = self.projected_widths();
        let ends = [widths[0], widths[0] + widths[1], widths.iter().sum()];
        let part = |i: usize| ends[i] - widths[i]..ends[i];
        match (&self.qkv, &self.query, &self.key, &self.value) {
            (Some(fused), ..) if is_self => {
                let all = project(fused, query);
                [0, 1, 2].map(|i| all.clone().slice_dim(2, part(i)))
            }
            (Some(fused), ..) => {
                let (weight, bias) = (fused.weight.val(), fused.bias.as_ref().map(|b| b.val()));
                let project = |(i, x): (usize, Tensor<3>)| {
                    let bias = bias.clone().map(|bias| bias.slice_dim(0, part(i)));
                    linear(x, weight.clone().slice_dim(1, part(i)), bias)
                };
                [(0, query), (1, key), (2, value)].map(project)
            }
            (None, Some(q), Some(k), Some(v)) => {
                [project(q, query), project(k, key), project(v, value)]
            }
            _ => unreachable!("a projection is fused or separate"),
        }
    }

    /// `[batch, n, heads * width]` to `[batch, heads, n, width]`, with the norm where it is asked for.
    fn heads(&self, x: Tensor<3>, heads: usize, norm: &Option<LayerNorm>) -> Tensor<4> {
        let [batch, n, width] = x.dims();
        let split = |x: Tensor<3>| x.reshape([batch, n, heads, width / heads]);
        let x = match (norm, self.qk_norm) {
            (Some(norm), QkNorm::Full) => split(norm.forward(x)),
            (Some(norm), _) => norm.forward(split(x)),
            (None, _) => split(x),
        };
        x.swap_dims(1, 2)
    }
}
