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

#[test]
fn layers_take_the_kinds_in_turn_and_later_tokens_change_nothing() {
    let device = Device::default();
    for positions in [Positions::XPos, Positions::Rotary, Positions::Learned] {
        let config = LongNetLMConfig {
            n_layers: 6,
            ..config()
        };
        let config = config
            .with_positions(positions)
            .with_layer_attention(kinds());
        let lm = config.init(&device);
        assert_eq!(config.num_params(), lm.num_params());
        let adaptive = |layer: &TransformerLayer| {
            format!("{:?}", layer.attention.attention).starts_with("Adaptive")
        };
        let found: Vec<bool> = lm.layers.iter().map(adaptive).collect();
        assert_eq!(found, [false, false, true, false, false, false]);
        let tokens: Vec<i32> = (0..30).map(|i| i * 7 % 11).collect();
        let logits = |tokens: &[i32]| {
            let tokens = Tensor::<1, Int>::from_data(tokens, &device);
            lm.forward(tokens.unsqueeze::<2>()).slice_dim(1, 0..20)
        };
        let mut others = tokens.clone();
        others[20..].fill(3);
        logits(&others)
            .into_data()
            .assert_eq(&logits(&tokens).into_data(), true);
    }
}

#[test]
fn every_kind_learns() {
    let device = Device::default().autodiff();
    let config = LongNetLMConfig {
        n_layers: 4,
        ..config()
    };
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
