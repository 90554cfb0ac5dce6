//! Tests of the language model.

use super::{Activation, LayerContext, Residual, Sampling, TransformerLayerConfig};
use super::{LmInput, LongNetLM, LongNetLMConfig, Positions};
use crate::DropoutSeed;
use crate::attention::{QkNorm, branches};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Distribution, Gradients, Int, Tensor, Tolerance};

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
    assert_eq!(
        field(config().with_attention_dropout(1.5)),
        "attention_dropout"
    );
    assert_eq!(field(LongNetLMConfig::new(13, 16, 0, 4)), "n_layers");
    for broken in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(field(config().with_rotary_theta(broken)), "rotary_theta");
        assert_eq!(
            field(config().with_xpos_scale_base(broken)),
            "xpos_scale_base"
        );
    }
    for broken in [-1e-5, f64::NAN] {
        assert_eq!(field(config().with_norm_epsilon(broken)), "norm_epsilon");
    }
    let far = config()
        .with_branches(branches([(1 << 20, 1)]))
        .with_max_length(1 << 20);
    let error = far.validate(DType::F32).unwrap_err();
    assert!(error.to_string().contains("scale_base"), "{error}");
}

#[test]
fn a_config_survives_its_text() {
    use burn::config::Config;
    for config in configs() {
        let text = config.to_string();
        assert_eq!(
            LongNetLMConfig::load_binary(text.as_bytes()).unwrap(),
            config
        );
    }
    let text = config().to_string();
    for name in ["\"xpos\"", "\"sub-ln\"", "\"gelu\"", "\"modulo\""] {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn a_layer_without_a_seed_drops_nothing_under_autodiff_either() {
    let device = Device::default().autodiff();
    let layer = config()
        .with_dropout(0.5)
        .with_attention_dropout(0.5)
        .with_activation_dropout(0.5)
        .layer()
        .init(&device);
    let x = Tensor::<3>::random([1, 20, 16], Distribution::Default, &device);
    let run = |seed| {
        let context = LayerContext {
            seed,
            ..LayerContext::default()
        };
        layer.forward(x.clone(), &context).into_data()
    };
    let inner = layer
        .valid()
        .forward(x.clone().inner(), &LayerContext::default());
    assert_eq!(run(None), inner.into_data());
    assert_ne!(run(Some(1)), run(None));
}

#[test]
fn dropout_of_the_model_can_be_turned_off_under_autodiff() {
    let device = Device::default().autodiff();
    let model = config()
        .with_dropout(0.5)
        .with_attention_dropout(0.5)
        .init(&device);
    let (tokens, _) = tokens(&Device::default());
    let off = model.forward(LmInput::new(tokens.clone()).seed(DropoutSeed::Off));
    assert_eq!(
        off.into_data(),
        model.valid().forward(tokens.clone()).into_data()
    );
    let drawn = || model.forward(tokens.clone()).into_data();
    assert_ne!(drawn(), drawn());
}

#[test]
fn a_layer_that_cannot_work_is_an_error_that_names_the_field() {
    let field = |change: fn(&mut TransformerLayerConfig)| {
        let mut layer = config().layer();
        change(&mut layer);
        match layer.validate() {
            Err(crate::ConfigError::Value { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(|layer| layer.n_layers = 0), "n_layers");
    assert_eq!(field(|layer| layer.dropout = 1.5), "dropout");
    assert_eq!(field(|layer| layer.norm_epsilon = f64::NAN), "norm_epsilon");
    assert_eq!(field(|layer| layer.feed_forward.dropout = 1.5), "dropout");
    assert_eq!(field(|layer| layer.feed_forward.d_ff = 0), "d_ff");
    assert_eq!(
        field(|layer| layer.feed_forward.d_model = 8),
        "feed_forward.d_model"
    );
    assert_eq!(field(|layer| layer.feed_forward.gain = f64::NAN), "gain");
}

#[test]
#[should_panic(expected = "at least one token, but the tokens have shape [2, 0]")]
fn no_token_at_all_is_refused() {
    let device = Device::default();
    let none = Tensor::<2, Int>::zeros([2, 0], &device);
    config().init(&device).forward(none);
}
