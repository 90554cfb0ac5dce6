//! torchscale's language model: weights in; hidden states, logits, loss and all gradients out.

use super::Tally;
use super::compare::Comparison;
use super::torchscale_module::{state, tolerances};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_longnet::interop::torchscale::{DecoderArgs, load_lm};
use longnet_tests::goldens::{Goldens, cases, manifest};
use longnet_tests::run::numbers;
use longnet_tests::weights;
use serde_json::Value;

/// torchscale's name of a parameter.
fn rename(path: &str) -> String {
    let parts = [
        ("layers.", "layers."),
        ("attention_norm.", "self_attn_layer_norm."),
        ("attention.inner_norm.", "self_attn.inner_attn_ln."),
        ("attention.query.", "self_attn.q_proj."),
        ("attention.key.", "self_attn.k_proj."),
        ("attention.value.", "self_attn.v_proj."),
        ("attention.output.", "self_attn.out_proj."),
        ("feed_forward.inner.", "ffn.fc1."),
        ("feed_forward.outer.", "ffn.fc2."),
        ("feed_forward.norm.", "ffn.ffn_layernorm."),
        ("feed_forward_norm.", "final_layer_norm."),
        ("embedding.", "embed_tokens."),
        ("embedding_norm.", "layernorm_embedding."),
        ("positions.", "embed_positions."),
        ("norm.", "layer_norm."),
        ("head.", "output_projection."),
    ];
    let (ours, theirs) = parts
        .into_iter()
        .find(|(ours, _)| path.starts_with(ours))
        .unwrap_or_else(|| panic!("an unknown parameter {path}"));
    let rest = &path[ours.len()..];
    match rest.split_once('.') {
        Some((layer, rest)) if ours == "layers." => format!("layers.{layer}.{}", rename(rest)),
        _ => format!("{theirs}{rest}"),
    }
}

/// All cases of `torchscale/lm.json`, plainly and with activations recomputed in the backward pass.
pub fn run() {
    let file = Goldens::read("torchscale/lm.safetensors");
    let mut tally = Tally::new("torchscale/lm");
    for case in cases(&manifest("torchscale/lm.json")) {
        let name = case["name"].as_str().expect("a name");
        let tensors = file.under(&format!("{name}/"));
        tally.meet(case, || {
            let plain = meet(case, &tensors, false)?;
            let recomputed = meet(case, &tensors, true).map_err(|e| format!("recomputed: {e}"))?;
            Ok(plain.max(recomputed))
        });
    }
    tally.finish();
}

fn meet(case: &Value, tensors: &Goldens, recompute: bool) -> Result<f64, String> {
    let device = Device::flex().autodiff();
    let arguments: DecoderArgs =
        serde_json::from_value(case["config"].clone()).map_err(|e| e.to_string())?;
    let state = state("lm", case)?;
    let config = arguments.config(&state).map_err(|e| e.to_string())?;
    let config = config.with_checkpoint_activations(recompute);
    let model = load_lm(&config, state, &device).map_err(|e| e.to_string())?;

    let ids = |name: &str| -> Tensor<2, Int> {
        let golden = tensors.get(name);
        let shape: [usize; 2] = golden.shape.clone().try_into().expect("rank 2");
        let ids: Vec<i64> = golden.data.iter().map(|x| *x as i64).collect();
        Tensor::from_data(TensorData::new(ids, shape), &Device::flex())
    };
    let (tokens, targets) = (ids("tokens"), ids("targets"));
    let [outputs, grads] = tolerances();
    let mut comparison = Comparison::new(tensors);
    for (i, hidden) in model.hidden_states(tokens.clone()).into_iter().enumerate() {
        comparison.tensor(&format!("hidden{i}"), &numbers(hidden.detach()), outputs);
    }
    let logits = model.forward(tokens.clone()).detach();
    comparison.tensor("logits", &numbers(logits), outputs);
    let loss = model.loss(tokens, targets);
    comparison.tensor("loss", &numbers(loss.clone().detach()), outputs);
    let gradients = weights::gradients(&model, &loss.backward(), &rename);
    comparison.gradients(&gradients, grads);
    comparison.finish()
}
