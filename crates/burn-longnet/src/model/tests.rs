//! Tests of the language model.

mod dropout;
mod gradients;
mod kinds;
mod masks;
mod validation;

use super::{
    Activation, LayerContext, Residual, Sampling, TransformerLayer, TransformerLayerConfig,
};
use super::{LmInput, LongNetLM, LongNetLMConfig, Positions};
use crate::DropoutSeed;
use crate::attention::{QkNorm, branches};
use crate::testing::{GradientsOf, ToDtype};
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
