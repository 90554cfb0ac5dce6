//! The language model.

use super::init::{embedding, linear, norm, unit};
use super::layer::{LayerContext, TransformerLayer};
use super::lm_config::{LongNetLMConfig, Positions};
use super::loss::{ChunkedLoss, chunked_cross_entropy, chunked_nll};
use crate::dropout::{derive_seed, draw_seed, dropout};
use crate::functional::Documents;
use crate::pattern::Span;
use crate::recompute;
use burn::module::Module;
use burn::nn::{Embedding, LayerNorm, Linear};
use burn::tensor::{Bool, DType, Device, Int, Tensor, assert_shape};

/// A decoder-only transformer with dilated attention: [LongNet](https://arxiv.org/abs/2307.02486).
///
/// Should be created with [LongNetLMConfig].
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
    config: LongNetLMConfig,
}

/// Tokens with what goes along. A tensor of tokens alone converts into it.
#[derive(Clone, Debug)]
pub struct LmInput {
    tokens: Tensor<2, Int>,
    documents: Option<Tensor<2, Int>>,
    mask_pad: Option<Tensor<2, Bool>>,
    seed: Option<u64>,
}

impl From<Tensor<2, Int>> for LmInput {
    fn from(tokens: Tensor<2, Int>) -> Self {
        Self {
            tokens,
            documents: None,
            mask_pad: None,
            seed: None,
        }
    }
}

impl LmInput {
    /// Tokens `[batch, n]`.
    pub fn new(tokens: Tensor<2, Int>) -> Self {
        tokens.into()
    }

    /// Document ids `[batch, n]`: a position sees its own document only.
    pub fn documents(mut self, documents: impl Into<Option<Tensor<2, Int>>>) -> Self {
        self.documents = documents.into();
        self
    }

    /// Hides positions: `[batch, n]`, true is padding.
    pub fn mask_pad(mut self, mask_pad: impl Into<Option<Tensor<2, Bool>>>) -> Self {
        self.mask_pad = mask_pad.into();
        self
    }

    /// Drops by this seed. Without it dropout is on under autodiff, with a seed from the device's
    /// generator.
    pub fn seed(mut self, seed: impl Into<Option<u64>>) -> Self {
        self.seed = seed.into();
        self
    }
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
                .map(|_| self.layer().init(device))
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
    fn embed(&self, tokens: Tensor<2, Int>, seed: Option<u64>) -> Tensor<3> {
        let [_, n] = tokens.dims();
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
            x = x + vectors.unsqueeze();
        }
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(x);
        }
        dropout(x, self.config.dropout, seed)
    }

    fn seed(&self, given: Option<u64>, device: &Device) -> Option<u64> {
        let LongNetLMConfig {
            dropout,
            attention_dropout,
            activation_dropout,
            ..
        } = self.config;
        let drops = dropout > 0.0 || attention_dropout > 0.0 || activation_dropout > 0.0;
        given.or_else(|| (drops && device.is_autodiff()).then(|| draw_seed(device)))
    }

    /// The output of the embedding and of each layer, before the last norm.
    fn states(&self, input: LmInput, mut each: impl FnMut(&Tensor<3>)) -> Tensor<3> {
        let [batch, n] = input.tokens.dims();
        // Of the parameters, not of the tokens: those need no autodiff.
        let seed = self.seed(input.seed, &self.embedding.weight.device());
        let place = |place| seed.map(|seed| derive_seed(seed, place));
        let mut x = self.embed(input.tokens, place(0));
        each(&x);
        let span = Span::full(n);
        let tables = match self.layers.first() {
            Some(layer) => layer.attention.tables(span, &x),
            None => None,
        };
        if let Some(documents) = &input.documents {
            assert_shape!(documents, [batch, n]);
        }
        let context = LayerContext {
            tables,
            mask_pad: input.mask_pad.map(Tensor::inner),
            documents: input.documents.map(|ids| Documents::same(ids.inner())),
            span: Some(span),
            seed: None,
        };
        for (i, layer) in self.layers.iter().enumerate() {
            let context = LayerContext {
                seed: place(1 + i as u64),
                ..context.clone()
            };
            x = match self.config.checkpoint_activations {
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
    /// If documents or mask have another shape; if the sequence is longer than learned positions or
    /// xPos's scale base allow.
    pub fn forward_hidden(&self, input: impl Into<LmInput>) -> Tensor<3> {
        let x = self.states(input.into(), |_| ());
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    /// The head's weight `[d_model, vocab_size]` and bias.
    fn head(&self) -> (Tensor<2>, Option<Tensor<1>>) {
        match &self.head {
            Some(head) => (head.weight.val(), head.bias.as_ref().map(|bias| bias.val())),
            None => (self.embedding.weight.val().transpose(), None),
        }
    }

    /// The head's logits for hidden states `[batch, n, d_model]`: `[batch, n, vocab_size]`.
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let (weight, bias) = self.head();
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
        let (hidden, targets) = self.rows(input.into(), targets);
        let (weight, bias) = self.head();
        chunked_cross_entropy(hidden, weight, bias, targets, options)
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
        let (weight, bias) = self.head();
        chunked_nll(hidden, weight, bias, targets, &self.chunks(ignore_index)).reshape(shape)
    }

    fn chunks(&self, ignore_index: Option<i64>) -> ChunkedLoss {
        ChunkedLoss {
            chunk: self.config.loss_chunk,
            ignore_index,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{QkNorm, branches};
    use crate::model::{Activation, Residual, Sampling};
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::{Gradients, Tolerance};

    fn config() -> LongNetLMConfig {
        LongNetLMConfig::new(13, 16, 3, 4)
            .with_branches(branches([(8, 1), (16, 2)]))
            .with_max_length(40)
    }

    /// One of every choice at least once.
    fn configs() -> Vec<LongNetLMConfig> {
        vec![
            config(),
            config()
                .with_residual(Residual::DeepNorm)
                .with_activation(Activation::Swish)
                .with_positions(Positions::Rotary)
                .with_tied_head(false)
                .with_qk_norm(QkNorm::PerHead)
                .with_n_kv_heads(Some(2)),
            config()
                .with_residual(Residual::PreNorm)
                .with_activation(Activation::SwiGlu)
                .with_positions(Positions::Learned)
                .with_learned_offset(2)
                .with_tied_head(false)
                .with_head_bias(true)
                .with_qk_norm(QkNorm::Full)
                .with_norm_embedding(true)
                .with_scale_embedding(true),
            config()
                .with_residual(Residual::PostNorm)
                .with_activation(Activation::Relu)
                .with_positions(Positions::None)
                .with_bias(false)
                .with_fused_qkv(true)
                .with_d_head(Some(6)),
        ]
    }

    fn tokens(device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
        let id = |at: usize| ((at * at + 3 * at) % 13) as i64;
        let row = |start: usize| std::array::from_fn::<i64, 30, _>(|i| id(start + i));
        let batch = |start| Tensor::from_data([row(start), row(start + 50)], device);
        (batch(0), batch(1))
    }

    struct All<'a>(&'a Gradients, Vec<Vec<f32>>);

    impl ModuleVisitor for All<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.0).expect("a gradient");
            self.1.push(gradient.into_data().try_to_vec().unwrap());
        }
    }

    fn gradients(model: &LongNetLM, seed: Option<u64>) -> (f32, Vec<Vec<f32>>) {
        let (tokens, targets) = tokens(&Device::default());
        let loss = model.loss(LmInput::new(tokens).seed(seed), targets);
        let gradients = loss.backward();
        let mut all = All(&gradients, Vec::new());
        model.visit(&mut all);
        (loss.into_scalar(), all.1)
    }

    #[test]
    fn every_parameter_learns_and_is_counted() {
        for config in configs() {
            let model = config.init(&Device::default().autodiff());
            assert_eq!(model.num_params(), config.num_params(), "{config:?}");
            let (loss, gradients) = gradients(&model, None);
            assert!((1.5..5.0).contains(&loss), "{loss}");
            let still = |gradient: &Vec<f32>| gradient.iter().all(|g| *g == 0.0);
            assert!(!gradients.iter().any(still));
        }
    }

    #[test]
    fn the_presets_have_the_sizes_in_their_names() {
        let body = |config: LongNetLMConfig| {
            config.validate(DType::F32).unwrap();
            config.num_params() as f64 / 1e6
        };
        // The paper counts embeddings of some vocabulary too in its smaller names.
        for (config, millions) in [
            (LongNetLMConfig::longnet_125m(1), 85.1),
            (LongNetLMConfig::longnet_350m(1), 302.5),
            (LongNetLMConfig::longnet_760m(1), 680.1),
            (LongNetLMConfig::longnet_2_7b(1), 2518.9),
        ] {
            let found = body(config);
            assert!((found / millions - 1.0).abs() < 2e-3, "{found}");
        }
    }

    #[test]
    fn checkpointed_layers_have_the_gradients_of_plain_ones_dropout_included() {
        let device = Device::default().autodiff();
        for config in configs() {
            let config = config
                .with_dropout(0.1)
                .with_attention_dropout(0.2)
                .with_activation_dropout(0.1);
            let plain = config.init(&device);
            let mut checkpointed = plain.clone();
            checkpointed.config.checkpoint_activations = true;
            assert_eq!(
                gradients(&plain, Some(9)),
                gradients(&checkpointed, Some(9))
            );
            assert_ne!(gradients(&plain, Some(9)), gradients(&plain, Some(8)));
        }
    }

    #[test]
    fn the_loss_is_the_mean_over_the_likelihoods_of_all_logits() {
        let device = Device::default();
        let (tokens, targets) = tokens(&device);
        for config in configs() {
            let model = config.with_loss_chunk(7).init(&device);
            let logits = model.forward(tokens.clone());
            let log = burn::tensor::activation::log_softmax(logits, 2);
            let nll = -log
                .gather(2, targets.clone().unsqueeze_dim(2))
                .squeeze_dim::<2>(2);
            let chunked = model.nll(tokens.clone(), targets.clone(), None);
            chunked
                .into_data()
                .assert_approx_eq::<f32>(&nll.clone().into_data(), Tolerance::absolute(1e-5));
            let loss = model
                .loss(tokens.clone(), targets.clone())
                .into_scalar::<f32>();
            assert!((loss - nll.mean().into_scalar::<f32>()).abs() < 1e-5);
        }
    }

    #[test]
    fn the_future_leaves_the_past_bit_identical_and_documents_do_not_mix() {
        let device = Device::default();
        let (tokens, _) = tokens(&device);
        let model = config().init(&device);
        let changed = tokens
            .clone()
            .slice_assign([0..2, 20..30], tokens.clone().slice([0..2, 0..10]));
        let past = |tokens: Tensor<2, Int>| model.forward(tokens).slice_dim(1, 0..20).into_data();
        assert_eq!(past(tokens.clone()), past(changed));

        let ids = Tensor::<1, Int>::arange(0..30, &device)
            .div_scalar(16)
            .unsqueeze::<2>();
        let input = |tokens| LmInput::new(tokens).documents(ids.clone().expand([2, 30]));
        let other = tokens
            .clone()
            .slice_assign([0..2, 0..16], tokens.clone().slice([0..2, 9..25]));
        let second = |tokens| {
            model
                .forward(input(tokens))
                .slice_dim(1, 16..30)
                .into_data()
        };
        assert_eq!(second(tokens.clone()), second(other));
    }

    #[test]
    fn generation_continues_with_the_likeliest_tokens_one_after_the_other() {
        let device = Device::default();
        let model = config().init(&device);
        let prompt = [3, 1, 4, 1, 5];
        let greedy = model.generate(&prompt, 6, &Sampling::greedy());
        let mut all = prompt.to_vec();
        for token in &greedy {
            let ids: Vec<i64> = all.iter().map(|t| *t as i64).collect();
            let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &device).unsqueeze();
            let logits = model.forward(LmInput::new(ids));
            let last = logits.slice_dim(1, all.len() - 1..all.len());
            assert_eq!(last.argmax(2).into_scalar::<i64>(), *token as i64);
            all.push(*token);
        }
        let sampled = |seed| {
            let sampling = Sampling {
                seed,
                ..Sampling::default()
            };
            model.generate(&prompt, 40, &sampling)
        };
        assert_eq!(sampled(1), sampled(1));
        assert_ne!(sampled(1), sampled(2));
        assert_eq!(sampled(1).len(), 40);
    }

    #[test]
    fn what_cannot_work_is_an_error_that_names_the_field() {
        let field = |config: LongNetLMConfig| match config.validate(DType::F32) {
            Err(crate::ConfigError::Value { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(LongNetLMConfig::new(0, 16, 3, 4)), "vocab_size");
        assert_eq!(field(LongNetLMConfig::new(13, 16, 3, 3)), "n_heads");
        assert_eq!(field(config().with_head_bias(true)), "head_bias");
        assert_eq!(field(config().with_dropout(-0.1)), "dropout");
        let far = config()
            .with_branches(branches([(1 << 20, 1)]))
            .with_max_length(1 << 20);
        let error = far.validate(DType::F32).unwrap_err();
        assert!(error.to_string().contains("scale_base"), "{error}");
    }
}
