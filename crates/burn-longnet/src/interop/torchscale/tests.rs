//! Tests of the import of torchscale's weights.

use super::{DecoderArgs, load_lm};
use crate::interop::state::{ImportError, StateDict};
use crate::model::{LongNetLM, Positions};
use burn::tensor::Device;
use burn::tensor::TensorData;

fn args() -> DecoderArgs {
    DecoderArgs {
        vocab_size: 7,
        decoder_embed_dim: 8,
        decoder_attention_heads: 2,
        decoder_ffn_embed_dim: 12,
        decoder_layers: 1,
        segment_length: vec![4, 8],
        dilated_ratio: vec![1, 2],
        ..DecoderArgs::default()
    }
}

fn state(extra: &[(&str, &[usize])]) -> StateDict {
    let attention = ["q_proj", "k_proj", "v_proj", "out_proj"];
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embed_tokens.weight".into(), vec![7, 8]),
        ("output_projection.weight".into(), vec![7, 8]),
        ("layers.0.ffn.fc1.weight".into(), vec![12, 8]),
        ("layers.0.ffn.fc1.bias".into(), vec![12]),
        ("layers.0.ffn.fc2.weight".into(), vec![8, 12]),
        ("layers.0.ffn.fc2.bias".into(), vec![8]),
    ];
    for part in attention {
        shapes.push((format!("layers.0.self_attn.{part}.weight"), vec![8, 8]));
        shapes.push((format!("layers.0.self_attn.{part}.bias"), vec![8]));
    }
    for (norm, size) in [
        ("layers.0.self_attn.inner_attn_ln", 8),
        ("layers.0.self_attn_layer_norm", 8),
        ("layers.0.ffn.ffn_layernorm", 12),
        ("layers.0.final_layer_norm", 8),
        ("layer_norm", 8),
    ] {
        shapes.push((format!("{norm}.weight"), vec![size]));
        shapes.push((format!("{norm}.bias"), vec![size]));
    }
    shapes.extend(
        extra
            .iter()
            .map(|(name, shape)| (name.to_string(), shape.to_vec())),
    );
    let fill = |(name, shape): (String, Vec<usize>)| {
        let count = shape.iter().product();
        let values = (0..count).map(|i| i as f32).collect();
        (name, TensorData::new::<f32, _>(values, shape))
    };
    shapes.into_iter().map(fill).collect()
}

fn load(args: &DecoderArgs, state: StateDict) -> Result<LongNetLM, ImportError> {
    load_lm(&args.config(&state)?, state, &Device::default().autodiff())
}

#[test]
fn weights_are_transposed_and_still_learn() {
    let lm = load(&args(), state(&[])).unwrap();
    let inner = &lm.layers[0].feed_forward.inner.weight;
    assert!(inner.is_require_grad());
    let row = inner.val().slice([0..1, 0..12]).into_data();
    let expected: Vec<f32> = (0..12).map(|out| (out * 8) as f32).collect();
    assert_eq!(row.try_to_vec::<f32>().unwrap(), expected);
    assert_eq!(
        lm.embedding
            .weight
            .val()
            .slice([0..1, 7..8])
            .into_scalar::<f32>(),
        7.0
    );
}

#[test]
fn a_fused_projection_takes_the_three() {
    let config = args().config(&state(&[])).unwrap().with_fused_qkv(true);
    let lm = load_lm(&config, state(&[]), &Device::default()).unwrap();
    let qkv = lm.layers[0].attention.qkv.as_ref().unwrap();
    let first = qkv.weight.val().slice([0..1, 0..24]).into_data();
    let expected: Vec<f32> = (0..24).map(|out| (out % 8 * 8) as f32).collect();
    assert_eq!(first.try_to_vec::<f32>().unwrap(), expected);
}

#[test]
fn learned_positions_are_found_in_the_state() {
    let state = state(&[("embed_positions.weight", &[34, 8])]);
    let config = args().config(&state).unwrap();
    assert_eq!(config.positions, Positions::Learned);
    assert_eq!((config.max_length, config.learned_offset), (32, 2));
    load(&args(), state).unwrap();
}

#[test]
fn what_does_not_fit_is_named() {
    let error = load(&args(), state(&[("lm.extra", &[1])])).unwrap_err();
    assert!(error.to_string().contains("lm.extra"), "{error}");
    let more = DecoderArgs {
        decoder_layers: 2,
        ..args()
    };
    let error = load(&more, state(&[])).unwrap_err().to_string();
    assert!(
        error.contains("`layers.1.self_attn.q_proj.weight` of shape [8, 8]"),
        "{error}"
    );
    let wide = DecoderArgs {
        decoder_ffn_embed_dim: 16,
        ..args()
    };
    let error = load(&wide, state(&[])).unwrap_err().to_string();
    assert!(
        error.contains("`layers.0.ffn.fc1.weight` has shape [12, 8]"),
        "{error}"
    );
    let experts = DecoderArgs {
        moe_freq: 2,
        ..args()
    };
    let error = experts.config(&state(&[])).unwrap_err().to_string();
    assert!(error.contains("moe_freq"), "{error}");
    let error = StateDict::from_safetensors("nowhere.safetensors").unwrap_err();
    assert!(error.to_string().contains("nowhere.safetensors"), "{error}");
}

#[test]
fn arguments_that_cannot_work_are_errors() {
    let odd = DecoderArgs {
        decoder_attention_heads: 3,
        ..args()
    };
    let empty = DecoderArgs {
        segment_length: vec![],
        dilated_ratio: vec![],
        ..args()
    };
    for (args, said) in [(odd, "n_heads = 3"), (empty, "no branches")] {
        match load(&args, state(&[])) {
            Err(ImportError::Config(error)) => {
                assert!(error.to_string().contains(said), "{error}");
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn of_three_projections_that_become_one_the_missing_is_named() {
    let config = args().config(&state(&[])).unwrap().with_fused_qkv(true);
    for missing in ["k_proj.weight", "v_proj.bias"] {
        let mut state = state(&[]);
        let name = format!("layers.0.self_attn.{missing}");
        state.discard(|tensor| tensor == name);
        let error = load_lm(&config, state, &Device::default()).unwrap_err();
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
    let wide = state(&[("layers.0.self_attn.k_proj.weight", &[4, 8])]);
    let error = load_lm(&config, wide, &Device::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("k_proj.weight` has shape [4, 8]"),
        "{error}"
    );
}
