//! What cannot work is said.

use super::*;

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
    let layers = |layers: Vec<usize>| config().with_checkpoint_layers(Some(layers));
    assert_eq!(field(layers(vec![0, 3])), "checkpoint_layers");
    layers(vec![2, 0]).validate(DType::F32).unwrap();
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
fn a_layer_that_cannot_work_is_an_error_that_names_the_field() {
    let field = |change: fn(&mut TransformerLayerConfig)| {
        let mut layer = config().layer(0);
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
