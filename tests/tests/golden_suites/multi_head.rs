//! dilated-attention-pytorch's multi-head attention.

use super::compare::Comparison;
use burn::tensor::{DType, Device, Tensor};
use burn_longnet::attention::{
    InnerNorm, MhaInput, MultiHeadDilatedAttention, MultiHeadDilatedAttentionConfig, QkNorm,
    branches,
};
use burn_longnet::pattern::HeadAssignment;
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
    let pairs = dap::branches(case);
    let norm = params["layer_norm"] != false;
    let config = MultiHeadDilatedAttentionConfig::new(
        dap::number(case, "embed_dim"),
        dap::number(case, "num_heads"),
    )
    // Each head runs one branch, and yet it divides by their number.
    .with_context_scale(1.0 / pairs.len() as f64)
    .with_branches(branches(pairs))
    .with_head_assignment(HeadAssignment::Grouped)
    .with_causal(params["is_causal"] == true)
    .with_dropout(0.0)
    .with_qk_norm(if norm { QkNorm::Full } else { QkNorm::None })
    .with_inner_norm(if norm {
        InnerNorm::QueryNorm
    } else {
        InnerNorm::None
    });
    let tensors = dap::tensors(case);
    let module: MultiHeadDilatedAttention = config.init(&device);
    let module = weights::load(module, &tensors.under("state."), &rename, &[]);

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
    for (name, gradient) in weights::gradients(&module, &gradients, &rename) {
        comparison.tensor(&format!("grad.{name}"), &gradient, tolerance);
    }
    comparison.finish()
}
