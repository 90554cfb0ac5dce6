//! The language model.

use super::init::{embedding, linear, norm, unit};
use super::input::LmInput;
use super::layer::{LayerContext, TransformerLayer};
use super::lm_config::{LongNetLMConfig, Positions};
use super::loss::{ChunkedLoss, LossTerms, chunked_loss, chunked_nll};
use crate::dropout::{DropoutSeed, derive_seed, dropout_on};
use crate::functional::Documents;
use crate::norm::LayerNorm;
use crate::pattern::Span;
use crate::recompute;
use crate::ring::SequenceShard;
use burn::module::Module;
use burn::nn::{Embedding, Linear};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, assert_shape};

/// A decoder-only transformer with dilated attention: [LongNet](https://arxiv.org/abs/2307.02486).
///
/// Should be created with [LongNetLMConfig].
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_longnet::attention::branches;
/// use burn_longnet::model::{LongNetLMConfig, Sampling};
///
/// let device = Device::default().autodiff();
/// let lm = LongNetLMConfig::new(256, 32, 2, 4)
///     .with_branches(branches([(16, 1), (64, 4)]))
///     .init(&device);
/// let text = Tensor::<1, Int>::from_data("a rose is a rose".as_bytes(), &device);
/// let (tokens, targets) = (text.clone().slice(0..15), text.slice(1..16));
/// let loss = lm.loss(tokens.unsqueeze::<2>(), targets.unsqueeze());
/// let gradients = loss.backward();
/// assert!(lm.embedding.weight.grad(&gradients).is_some());
/// let next = lm.generate(&[b'a' as usize], 5, &Sampling::greedy());
/// assert_eq!(next.len(), 5);
/// ```
#[derive(Module, Debug)]
pub struct LongNetLM {
    /// A vector for each token, `[vocab_size, d_model]`.
    pub embedding: Embedding,
    /// A vector for each position, where positions are learned.
    pub positions: Option<Embedding>,
    /// Norm of the embeddings.
    pub embedding_norm: Option<LayerNorm>,
    /// The layers.
    pub layers: Vec<TransformerLayer>,
    /// Norm after the last layer, where the layers' own norms stand before their parts.
    pub norm: Option<LayerNorm>,
    /// `d_model` to `vocab_size`, unless tied to the embedding.
    pub head: Option<Linear>,
    #[module(skip)]
    pub(super) config: LongNetLMConfig,
}

impl LongNetLMConfig {
    /// Initialize a new [language model](LongNetLM).
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails for f32.
    pub fn init(&self, device: &Device) -> LongNetLM {
        self.validate(DType::F32)
            .unwrap_or_else(|error| panic!("{error}"));
        let norm = || norm(self.d_model, self.norm_epsilon, device);
        LongNetLM {
            embedding: embedding(self.vocab_size, self.d_model, device),
            positions: (self.positions == Positions::Learned)
                .then(|| embedding(self.max_length + self.learned_offset, self.d_model, device)),
            embedding_norm: self.norm_embedding.then(norm),
            layers: (0..self.n_layers)
                .map(|layer| self.layer(layer).init(device))
                .collect(),
            norm: self.residual.is_pre_norm().then(norm),
            head: (!self.tied_head).then(|| {
                let initializer = unit(self.d_model);
                linear(
                    self.d_model,
                    self.vocab_size,
                    self.head_bias,
                    &initializer,
                    device,
                )
            }),
            config: self.clone(),
        }
    }
}

impl LongNetLM {
    /// The configuration that the model was made from.
    pub fn config(&self) -> &LongNetLMConfig {
        &self.config
    }

    /// The vectors that go into the first layer, `[batch, n, d_model]`.
    fn embed(
        &self,
        tokens: Tensor<2, Int>,
        seed: Option<u64>,
        shard: Option<&SequenceShard>,
    ) -> Tensor<3> {
        let n = shard.map_or(tokens.dims()[1], SequenceShard::n);
        let mut x = self.embedding.forward(tokens);
        if self.config.scale_embedding {
            x = x * (self.config.d_model as f64).sqrt();
        }
        if let Some(positions) = &self.positions {
            let longest = self.config.max_length;
            assert!(
                n <= longest,
                "the sequence has {n} tokens, but positions are learned up to max_length = {longest}"
            );
            let start = self.config.learned_offset;
            let vectors = positions.weight.val().slice_dim(0, start..start + n);
            let vectors = match shard {
                Some(shard) => shard.take(vectors, 0),
                None => vectors,
            };
            x = x + vectors.unsqueeze();
        }
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(x);
        }
        // Embeddings may be wider than the layers: their gradients are sums over all places of a token,
        // which 16 bits would soon add nothing to.
        if let Some(layer) = self.layers.first() {
            x = in_dtype(x, layer.attention_norm.gamma.val().dtype());
        }
        dropout_on(x, self.config.dropout, seed, shard)
    }

    fn seed(&self, given: DropoutSeed, device: &Device) -> Option<u64> {
        let LongNetLMConfig {
            dropout,
            attention_dropout,
            activation_dropout,
            ..
        } = self.config;
        let kinds = &self.config.layer_attention;
        let drops = dropout > 0.0
            || attention_dropout > 0.0
            || activation_dropout > 0.0
            || kinds.iter().any(|kind| kind.is_noisy());
        drops.then(|| given.resolve(device)).flatten()
    }

    /// The output of the embedding and of each layer, before the last norm.
    fn states(&self, input: LmInput, mut each: impl FnMut(&Tensor<3>)) -> Tensor<3> {
        let [batch, n] = input.tokens.dims();
        assert!(
            batch > 0 && n > 0,
            "the model needs at least one token, but the tokens have shape [{batch}, {n}]"
        );
        let shard = input.shard.as_ref();
        if let Some(shard) = shard {
            let rows = shard.rows();
            assert_eq!(
                n,
                rows,
                "there are {n} tokens, but rank {} of the shard holds {rows} of {} positions",
                shard.rank(),
                shard.n()
            );
        }
        // Of the parameters, not of the tokens: those need no autodiff.
        let seed = self.seed(input.seed, &self.embedding.weight.device());
        let place = |place| seed.map(|seed| derive_seed(seed, place));
        let mut x = self.embed(input.tokens, place(0), shard);
        each(&x);
        // xPos is centred by the pattern: layers of several kinds make their own.
        let differ = self.config.layer_attention.len() > 1;
        let shared = !(differ && self.config.positions == Positions::XPos);
        let first = self.layers.first().filter(|_| shared);
        let tables = first.and_then(|layer| match shard {
            Some(shard) => layer.attention.shard_tables(shard, &x),
            None => layer.attention.tables(Span::full(n), &x),
        });
        if let Some(documents) = &input.documents {
            assert_shape!(documents, [batch, n]);
        }
        let context = LayerContext {
            tables,
            mask_pad: input.mask_pad.map(Tensor::inner),
            documents: input.documents.map(|ids| Documents::same(ids.inner())),
            span: shard.is_none().then_some(Span::full(n)),
            shard: input.shard,
            seed: None,
        };
        for (i, layer) in self.layers.iter().enumerate() {
            let context = LayerContext {
                seed: place(1 + i as u64),
                ..context.clone()
            };
            x = match self.config.recomputes(i) {
                true => recompute(layer, x, move |layer: &TransformerLayer, x| {
                    layer.forward(x, &context)
                }),
                false => layer.forward(x, &context),
            };
            each(&x);
        }
        x
    }

    /// The output of the embedding and of each layer, before the last norm: `n_layers + 1` tensors
    /// `[batch, n, d_model]`.
    ///
    /// # Panics
    ///
    /// As [`forward_hidden`](Self::forward_hidden).
    pub fn hidden_states(&self, input: impl Into<LmInput>) -> Vec<Tensor<3>> {
        let mut all = Vec::new();
        self.states(input.into(), |x| all.push(x.clone()));
        all
    }

    /// What the head reads.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, n]`, each in `0..vocab_size`
    /// - output: `[batch, n, d_model]`
    ///
    /// # Panics
    ///
    /// If there is no token; if documents or mask have another shape; if the sequence is longer than learned positions or
    /// xPos's scale base allow.
    pub fn forward_hidden(&self, input: impl Into<LmInput>) -> Tensor<3> {
        let x = self.states(input.into(), |_| ());
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// The head's weight `[d_model, vocab_size]` and bias, for hidden states of `dtype`.
    fn head(&self, dtype: DType) -> (Tensor<2>, Option<Tensor<1>>) {
        match &self.head {
            Some(head) => (head.weight.val(), head.bias.as_ref().map(|bias| bias.val())),
            None => (
                in_dtype(self.embedding.weight.val(), dtype).transpose(),
                None,
            ),
        }
    }

    /// The head's logits for hidden states `[batch, n, d_model]`: `[batch, n, vocab_size]`.
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let (weight, bias) = self.head(hidden.dtype());
        burn::tensor::module::linear(hidden, weight, bias)
    }

    /// All logits, `[batch, n, vocab_size]`. Mind the memory: training uses [`loss`](Self::loss).
    ///
    /// # Panics
    ///
    /// As [`forward_hidden`](Self::forward_hidden).
    pub fn forward(&self, input: impl Into<LmInput>) -> Tensor<3> {
        self.logits(self.forward_hidden(input))
    }

    /// Mean cross entropy in nats, `[1]`, of targets `[batch, n]`, computed in chunks.
    ///
    /// # Panics
    ///
    /// As [`forward_hidden`](Self::forward_hidden), and if the targets' shape is not the tokens'.
    pub fn loss(&self, input: impl Into<LmInput>, targets: Tensor<2, Int>) -> Tensor<1> {
        self.loss_with(input, targets, &self.chunks(None))
    }

    /// As [`loss`](Self::loss), told how.
    ///
    /// # Panics
    ///
    /// As [`loss`](Self::loss).
    pub fn loss_with(
        &self,
        input: impl Into<LmInput>,
        targets: Tensor<2, Int>,
        options: &ChunkedLoss,
    ) -> Tensor<1> {
        self.loss_terms(input, targets, options).total
    }

    /// As [`loss_with`](Self::loss_with), with the parts of the loss.
    ///
    /// # Panics
    ///
    /// As [`loss`](Self::loss).
    pub fn loss_terms(
        &self,
        input: impl Into<LmInput>,
        targets: Tensor<2, Int>,
        options: &ChunkedLoss,
    ) -> LossTerms {
        let (hidden, targets) = self.rows(input.into(), targets);
        let (weight, bias) = self.head(hidden.dtype());
        chunked_loss(hidden, weight, bias, targets, options)
    }

    /// The negative log-likelihood in nats of each target, `[batch, n]`, without gradients; 0 where
    /// the target is `ignore_index`.
    ///
    /// # Panics
    ///
    /// As [`loss`](Self::loss).
    pub fn nll(
        &self,
        input: impl Into<LmInput>,
        targets: Tensor<2, Int>,
        ignore_index: Option<i64>,
    ) -> Tensor<2> {
        let shape = targets.dims();
        let (hidden, targets) = self.rows(input.into(), targets);
        let (weight, bias) = self.head(hidden.dtype());
        chunked_nll(hidden, weight, bias, targets, &self.chunks(ignore_index)).reshape(shape)
    }

    fn chunks(&self, ignore_index: Option<i64>) -> ChunkedLoss {
        ChunkedLoss {
            chunk: self.config.loss_chunk,
            ignore_index,
            ..ChunkedLoss::default()
        }
    }

    fn rows(&self, input: LmInput, targets: Tensor<2, Int>) -> (Tensor<2>, Tensor<1, Int>) {
        let [batch, n] = input.tokens.dims();
        assert_shape!(targets, [batch, n]);
        let hidden = self.forward_hidden(input);
        let rows = [batch * n, self.config.d_model];
        (hidden.reshape(rows), targets.reshape([batch * n]))
    }
}

/// `x` in `dtype`, with gradients in its own.
fn in_dtype<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    match x.dtype() == dtype {
        true => x,
        false => x.cast(FloatDType::from(dtype)),
    }
}
