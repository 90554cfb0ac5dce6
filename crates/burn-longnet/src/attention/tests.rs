//! Tests of multi-head dilated attention.

mod options;

use super::{MhaInput, MultiHeadDilatedAttention, QkNorm};
use crate::DropoutSeed;
use crate::attention::{InnerNorm, MultiHeadDilatedAttentionConfig, branches};
use crate::functional::{AttentionOptions, Documents, sparse_attention};
use crate::pattern::{MixGradient, Span, Tail};
use crate::position::AttentionPosition;
use crate::testing::{GradientsOf, ToDtype};
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::attention::{MhaInput as BurnInput, MultiHeadAttentionConfig};
use burn::tensor::{DType, Device, Distribution, Int, Tensor, Tolerance};

fn config() -> MultiHeadDilatedAttentionConfig {
    MultiHeadDilatedAttentionConfig::new(24, 4).with_branches(branches([(8, 1), (16, 2)]))
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::default())
}

fn assert_close<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
    a.into_data()
        .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(2e-5));
}

#[test]
fn one_undilated_branch_is_burns_multi_head_attention_on_the_same_record() {
    let device = Device::default();
    let burn = MultiHeadAttentionConfig::new(24, 4).init(&device);
    let dilated = config().with_branches(branches([(64, 1)])).init(&device);
    let dilated = dilated.load_record(burn.clone().into_record());
    let (x, memory) = (random([2, 20, 24]), random([2, 33, 24]));
    let mask = random([2, 33]).greater_elem(0.8);
    assert_close(
        dilated.forward(MhaInput::self_attn(x.clone())).context,
        burn.forward(BurnInput::self_attn(x.clone())).context,
    );
    assert_close(
        dilated
            .forward(
                MhaInput::new(x.clone(), memory.clone(), memory.clone()).mask_pad(mask.clone()),
            )
            .context,
        burn.forward(BurnInput::new(x, memory.clone(), memory).mask_pad(mask))
            .context,
    );
}

#[test]
fn a_fused_projection_is_the_three_side_by_side() {
    let device = Device::default();
    let config = config().with_n_kv_heads(Some(2)).with_d_value(Some(5));
    let separate = config.init(&device);
    let mut fused = config.with_fused_qkv(true).init(&device);
    let parts = [&separate.query, &separate.key, &separate.value].map(|p| p.clone().unwrap());
    let weight = Tensor::cat(parts.iter().map(|p| p.weight.val()).collect(), 1);
    let biases = parts.iter().map(|p| p.bias.as_ref().unwrap().val());
    let qkv = fused.qkv.as_mut().unwrap();
    assert_eq!(qkv.weight.dims(), weight.dims());
    qkv.weight = Param::from_tensor(weight);
    qkv.bias = Some(Param::from_tensor(Tensor::cat(biases.collect(), 0)));
    fused.output = separate.output.clone();
    let (x, memory) = (random([2, 20, 24]), random([2, 30, 24]));
    for input in [
        MhaInput::self_attn(x.clone()),
        MhaInput::new(x, memory.clone(), memory),
    ] {
        assert_close(
            fused.forward(input.clone()).context,
            separate.forward(input).context,
        );
    }
}

#[test]
fn every_parameter_has_a_gradient_with_every_option() {
    struct Nonzero<'a>(&'a burn::tensor::Gradients, usize);
    impl ModuleVisitor for Nonzero<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.0).expect("a gradient");
            assert!(gradient.abs().max().into_scalar::<f32>() > 0.0);
            self.1 += 1;
        }
    }
    let device = Device::default().autodiff();
    let x = random([2, 20, 24]);
    let all = config().with_causal(true).with_n_kv_heads(Some(2));
    for (config, parameters) in [
        (all.clone(), 8),
        (
            all.clone()
                .with_qk_norm(QkNorm::PerHead)
                .with_inner_norm(InnerNorm::LayerNorm)
                .with_position(AttentionPosition::xpos()),
            14,
        ),
        (
            all.with_qk_norm(QkNorm::Full)
                .with_inner_norm(InnerNorm::QueryNorm)
                .with_position(AttentionPosition::rotary())
                .with_fused_qkv(true),
            8,
        ),
    ] {
        let module = config.init(&device);
        let x = Tensor::from_inner(x.clone());
        let out = module.forward(MhaInput::self_attn(x).seed(3)).context;
        // The bias of the keys moves all scores of a row alike unless something follows it.
        let gradients = out.powi_scalar(3).sum().backward();
        let mut nonzero = Nonzero(&gradients, 0);
        module.visit(&mut nonzero);
        assert_eq!(nonzero.1, parameters);
    }
}

#[test]
fn the_last_queries_over_all_keys_are_the_last_rows_of_the_whole() {
    let x = random([2, 20, 24]);
    let position = [AttentionPosition::rotary(), AttentionPosition::xpos()];
    for config in position.map(|p| config().with_causal(true).with_position(p)) {
        let module = config.init(&Device::default());
        let whole = module.forward(MhaInput::self_attn(x.clone())).context;
        let last = x.clone().slice_dim(1, 17..20);
        let input = MhaInput::new(last, x.clone(), x.clone()).span(Span::decode(3, 20));
        let decoded = module.forward(input).context;
        assert_close(decoded, whole.slice_dim(1, 17..20));
    }
}

#[test]
fn dropout_follows_its_seed_and_is_off_without_autodiff() {
    let device = Device::default();
    let module = config().with_dropout(0.5).init(&device);
    let x = random([1, 16, 24]);
    let run = |seed: Option<u64>| {
        let input = MhaInput::self_attn(x.clone()).seed(seed);
        module.forward(input).context.into_data()
    };
    assert_eq!(run(Some(1)), run(Some(1)));
    assert_ne!(run(Some(1)), run(Some(2)));
    assert_ne!(run(Some(1)), run(None));
    assert_eq!(run(None), run(None));
    let (training, x) = (module.train(), Tensor::from_inner(x));
    let drawn = || training.forward(MhaInput::self_attn(x.clone())).context;
    assert_ne!(drawn().into_data(), drawn().into_data());
}

#[test]
fn what_cannot_work_is_an_error_that_names_the_field() {
    let field = |config: MultiHeadDilatedAttentionConfig| match config.validate() {
        Err(crate::ConfigError::Value { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        field(MultiHeadDilatedAttentionConfig::new(24, 5)),
        "n_heads"
    );
    assert_eq!(field(config().with_n_kv_heads(Some(3))), "n_kv_heads");
    assert_eq!(field(config().with_dropout(1.0)), "dropout");
    assert_eq!(
        field(config().with_inner_norm(InnerNorm::QueryNorm)),
        "inner_norm"
    );
    let odd = config().with_d_head(Some(3));
    assert_eq!(
        field(odd.with_position(AttentionPosition::rotary())),
        "d_head"
    );
    let mixed = config().with_fused_qkv(true).with_key_bias(false);
    assert_eq!(field(mixed), "fused_qkv");
    for broken in [f64::NAN, f64::INFINITY] {
        assert_eq!(field(config().with_scale(Some(broken))), "scale");
        assert_eq!(field(config().with_context_scale(broken)), "context_scale");
        assert_eq!(field(config().with_norm_epsilon(-broken)), "norm_epsilon");
        let position = AttentionPosition::Rotary { theta: broken };
        assert_eq!(field(config().with_position(position)), "position.theta");
    }
    config().with_branches(vec![]).validate().unwrap_err();
}

#[test]
#[should_panic(expected = "with_causal(true)")]
fn a_mask_of_pairs_is_refused_with_the_remedy() {
    let mask = random([1, 4, 4]).greater_elem(0.0);
    let _ = MhaInput::self_attn(random([1, 4, 24])).mask_attn(mask);
}

#[test]
fn half_precision_stays_half_and_learns() {
    for dtype in [DType::BF16, DType::F16] {
        let device = Device::default().autodiff();
        let module = config()
            .with_causal(true)
            .with_qk_norm(QkNorm::PerHead)
            .with_position(AttentionPosition::xpos())
            .init(&device)
            .map(&mut ToDtype(dtype));
        let x = Tensor::from_inner(random([2, 20, 24]).cast(dtype));
        let out = module
            .forward(MhaInput::self_attn(x).seed(DropoutSeed::Off))
            .context;
        assert_eq!(out.dtype(), dtype);
        let mut seen = GradientsOf(&out.sum().backward(), dtype, 0);
        module.visit(&mut seen);
        assert_eq!(seen.2, 12);
    }
}
