//! Models whose layers have attention of several kinds.

use super::*;
use crate::attention::BlockScorer;
use crate::model::LayerAttention;

fn kinds() -> Vec<LayerAttention> {
    let block_sparse = |text: &str| LayerAttention::BlockSparse {
        pattern: text.parse().unwrap(),
        block: 4,
    };
    vec![
        LayerAttention::Dilated,
        block_sparse("window(8) | global(4)"),
        LayerAttention::Adaptive {
            top_k: 2,
            block: 4,
            scorer: BlockScorer::Learned,
        },
        block_sparse("[branches(16/1, 32/2) x 2, window(8) x 2]"),
    ]
}

/// What goes with xPos, too.
fn without_scorer(kinds: Vec<LayerAttention>) -> Vec<LayerAttention> {
    let mean = |kind| match kind {
        LayerAttention::Adaptive { top_k, block, .. } => LayerAttention::Adaptive {
            top_k,
            block,
            scorer: BlockScorer::Mean,
        },
        other => other,
    };
    kinds.into_iter().map(mean).collect()
}

#[test]
fn layers_take_the_kinds_in_turn_and_later_tokens_change_nothing() {
    let device = Device::default();
    for positions in [Positions::XPos, Positions::Rotary, Positions::Learned] {
        let config = LongNetLMConfig {
            n_layers: 6,
            ..config()
        };
        let kinds = match positions {
            Positions::XPos => without_scorer(kinds()),
            _ => kinds(),
        };
        let config = config.with_positions(positions).with_layer_attention(kinds);
        let lm = config.init(&device);
        assert_eq!(config.num_params(), lm.num_params());
        let adaptive = |layer: &TransformerLayer| {
            format!("{:?}", layer.attention.attention).starts_with("Adaptive")
        };
        let found: Vec<bool> = lm.layers.iter().map(adaptive).collect();
        assert_eq!(found, [false, false, true, false, false, false]);
        let tokens: Vec<i32> = (0..30).map(|i| i * 7 % 11).collect();
        let logits = |tokens: &[i32], count: usize| {
            let tokens = Tensor::<1, Int>::from_data(tokens, &device);
            let logits = lm.forward(tokens.unsqueeze::<2>());
            logits.slice_dim(1, 0..count).into_data()
        };
        // At the edges of blocks of 4 and inside of them.
        for at in [1, 3, 17, 18, 20, 29] {
            let mut others = tokens.clone();
            others[at..].fill(3);
            let before = logits(&tokens, at);
            logits(&others, at).assert_eq(&before, true);
            let shorter = logits(&tokens[..at], at);
            shorter.assert_approx_eq::<f32>(&before, Tolerance::absolute(1e-4));
        }
    }
}

#[test]
fn a_learned_scorer_and_xpos_are_refused_together() {
    let config = config().with_positions(Positions::XPos);
    let error = config
        .clone()
        .with_layer_attention(kinds())
        .validate(DType::F32);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("positions = xpos") && error.contains("rotary"),
        "{error}"
    );
    let config = config.with_layer_attention(without_scorer(kinds()));
    config.validate(DType::F32).unwrap();
}

#[test]
fn xpos_is_checked_for_the_pattern_of_every_kind() {
    // The segments of the branches are short, but a window has none.
    let config = config()
        .with_positions(Positions::XPos)
        .with_max_length(1 << 22);
    config.validate(DType::F32).unwrap();
    let kinds = |text: &str| {
        vec![
            LayerAttention::Dilated,
            LayerAttention::BlockSparse {
                pattern: text.parse().unwrap(),
                block: 4,
            },
        ]
    };
    for text in ["window(8)", "[branches(16/1) x 2, window(8) x 2]"] {
        let config = config.clone().with_layer_attention(kinds(text));
        let error = config.validate(DType::F32).unwrap_err();
        assert!(matches!(error, crate::ConfigError::Position(_)), "{error}");
    }
    let dilated = config.with_layer_attention(kinds("[branches(16/1) x 2, branches(24/1) x 2]"));
    dilated.validate(DType::F32).unwrap();
}

#[test]
fn branches_are_checked_only_where_a_layer_has_them() {
    let config = config().with_branches(Vec::new());
    assert!(config.validate(DType::F32).is_err());
    let config = config.with_layer_attention(vec![LayerAttention::BlockSparse {
        pattern: "window(8)".parse().unwrap(),
        block: 4,
    }]);
    config.validate(DType::F32).unwrap();
    config.init(&Device::default());
}

#[test]
fn warnings_are_of_all_heads_and_of_no_layers_there_are_none() {
    let config = config().with_layer_attention(vec![LayerAttention::BlockSparse {
        pattern: "[branches(16/4) x 2, window(8) x 2]".parse().unwrap(),
        block: 4,
    }]);
    let warnings = config.warnings(40).join("\n");
    assert!(
        warnings.contains("of heads 0 to 1: head 0: 30 of 40 rows"),
        "{warnings}"
    );
    let none = LongNetLMConfig {
        n_layers: 0,
        ..config
    };
    assert!(none.warnings(40).is_empty());
    assert!(none.validate(DType::F32).is_err());
}

#[test]
fn layers_computed_again_choose_the_same_blocks_under_noise() {
    let device = Device::default().autodiff();
    let config = LongNetLMConfig {
        n_layers: 4,
        ..config()
    };
    let config = config
        .with_positions(Positions::Rotary)
        .with_layer_attention(kinds());
    let plain = config.init(&device);
    let again = config.with_checkpoint_activations(true).init(&device);
    let again = again.load_record(plain.clone().into_record());
    assert_eq!(gradients(&plain, Some(5)), gradients(&again, Some(5)));
    assert_ne!(gradients(&plain, Some(5)), gradients(&plain, Some(6)));
}

#[test]
fn every_kind_learns() {
    let device = Device::default().autodiff();
    let config = LongNetLMConfig {
        n_layers: 4,
        ..config()
    };
    let config = config.with_positions(Positions::Rotary);
    let lm = config.with_layer_attention(kinds()).init(&device);
    let tokens: Vec<i32> = (0..31).map(|i| i * 7 % 11).collect();
    let tokens = Tensor::<1, Int>::from_data(tokens.as_slice(), &device).unsqueeze::<2>();
    let input = LmInput::new(tokens.clone().slice_dim(1, 0..30)).seed(5);
    let grads = lm.loss(input, tokens.slice_dim(1, 1..31)).backward();
    for layer in &lm.layers {
        let grad = layer.attention.query.as_ref().unwrap().weight.grad(&grads);
        assert!(grad.unwrap().abs().max().into_scalar::<f32>() > 0.0);
        if let crate::attention::AnyAttention::Adaptive(attention) = &layer.attention.attention {
            let scorer = attention.query_score.as_ref().unwrap();
            let grad = scorer.weight.grad(&grads).unwrap();
            assert!(grad.abs().max().into_scalar::<f32>() > 0.0);
        }
    }
}
