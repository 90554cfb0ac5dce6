//! dilated-attention-pytorch's multi-head attention.

use super::compare::Comparison;
use burn::tensor::{DType, Device, Tensor};
use burn_longnet::attention::{MhaInput, MultiHeadDilatedAttentionConfig, branches};
use burn_longnet::interop::StateDict;
use burn_longnet::interop::dilated_attention_pytorch::{attention_config, load_attention};
use longnet_tests::dilated_attention_pytorch as dap;
use longnet_tests::run::{numbers, tensor};
use longnet_tests::weights;
use serde_json::Value;

/// It calls the projections and norms so.
fn rename(path: &str) -> String {
    let pairs = [
        ("query_norm.", "q_ln."),
        ("key_norm.", "k_ln."),
        ("query.", "q_proj."),
        ("key.", "k_proj."),
        ("value.", "v_proj."),
        ("output.", "out_proj."),
    ];
    for (ours, theirs) in pairs {
        if let Some(rest) = path.strip_prefix(ours) {
            return format!("{theirs}{rest}");
        }
    }
    path.to_owned()
}

/// Holds the module with a case's weights to it.
pub fn meet(case: &Value) -> Result<f64, String> {
    let device = Device::flex().autodiff();
    let params = &case["params"];
    let config = MultiHeadDilatedAttentionConfig::new(
        dap::number(case, "embed_dim"),
        dap::number(case, "num_heads"),
    )
    .with_branches(branches(dap::branches(case)))
    .with_causal(params["is_causal"] == true);
    let config = attention_config(config, params["layer_norm"] != false);
    let state = StateDict::from_safetensors(dap::file(case)).map_err(|e| e.to_string())?;
    let module = load_attention(config.init(&device), state.under("state."));
    let module = module.map_err(|e| e.to_string())?;
    let tensors = dap::tensors(case);

    let load = |name: &str| -> Tensor<3> {
        let golden = tensors.get(name);
        let shape: [usize; 3] = golden.shape.clone().try_into().expect("rank 3");
        tensor(&golden.data, shape, &device, DType::F32)
    };
    let names: &[&str] = if params["cross"] == true {
        &["query", "key", "value"]
    } else {
        &["x"]
    };
    let leaves: Vec<Tensor<3>> = names.iter().map(|name| load(name).require_grad()).collect();
    let input = match &leaves[..] {
        [x] => MhaInput::self_attn(x.clone()),
        [q, k, v] => MhaInput::new(q.clone(), k.clone(), v.clone()),
        _ => unreachable!("one tensor or three"),
    };
    let out = module.forward(input).context;
    let gradients = (out.clone() * load("dout")).sum().backward();

    let tolerance = dap::tolerance(case);
    let mut comparison = Comparison::new(&tensors);
    comparison.tensor("out", &numbers(out.detach()), tolerance);
    for (name, leaf) in names.iter().zip(leaves) {
        let gradient = numbers(leaf.grad(&gradients).expect("a gradient"));
        comparison.tensor(&format!("d{name}"), &gradient, tolerance);
    }
    let gradients = weights::gradients(&module, &gradients, &rename);
    comparison.gradients(&gradients, tolerance);
    comparison.finish()
}
