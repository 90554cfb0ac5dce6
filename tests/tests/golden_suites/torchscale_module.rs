//! torchscale's attention module, with its projections, sub-LayerNorm and xPos, and xPos alone.

use super::Tally;
use super::compare::Comparison;
use burn::tensor::{DType, Device, Tensor};
use burn_longnet::attention::{InnerNorm, MhaInput, MultiHeadDilatedAttentionConfig, branches};
use burn_longnet::interop::StateDict;
use burn_longnet::interop::torchscale::{attention_config, load_attention};
use burn_longnet::pattern::Tail;
use burn_longnet::position::{AttentionPosition, Centre, XPos};
use longnet_tests::check::Tolerance;
use longnet_tests::goldens::{Goldens, cases, folder, manifest};
use longnet_tests::run::{numbers, tensor};
use longnet_tests::{torchscale, weights};
use serde_json::Value;

/// The manifests of modules state no tolerance: those of the op, of outputs and gradients.
pub fn tolerances() -> [Tolerance; 2] {
    torchscale::tolerances(&manifest("torchscale/core.json"))
}

pub fn number(case: &Value, key: &str) -> usize {
    case[key].as_u64().expect(key) as usize
}

/// Segment lengths with dilation rates.
pub fn pairs(case: &Value) -> Vec<(usize, usize)> {
    let list = |key: &str| -> Vec<usize> {
        let items = case[key].as_array().expect(key);
        items
            .iter()
            .map(|x| x.as_u64().expect(key) as usize)
            .collect()
    };
    list("segs").into_iter().zip(list("rats")).collect()
}

/// A tensor of `goldens`.
pub fn load<const D: usize>(goldens: &Goldens, name: &str, device: &Device) -> Tensor<D> {
    let golden = goldens.get(name);
    let shape: [usize; D] = golden.shape.clone().try_into().expect("rank");
    tensor(&golden.data, shape, device, DType::F32)
}

/// The weights of a case of `torchscale/<suite>.safetensors`.
pub fn state(suite: &str, case: &Value) -> Result<StateDict, String> {
    let path = folder().join(format!("torchscale/{suite}.safetensors"));
    let all = StateDict::from_safetensors(path).map_err(|e| e.to_string())?;
    let name = case["name"].as_str().expect("a name");
    Ok(all.under(&format!("{name}/state.")))
}

fn rename(path: &str) -> String {
    let pairs = [
        ("inner_norm.", "inner_attn_ln."),
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

/// All cases of `torchscale/module.json`.
pub fn run() {
    let manifest = manifest("torchscale/module.json");
    let file = Goldens::read("torchscale/module.safetensors");
    let epsilon = manifest["layernorm_eps"].as_f64().expect("an epsilon");
    let mut tally = Tally::new("torchscale/module");
    for case in cases(&manifest) {
        let name = case["name"].as_str().expect("a name");
        let tensors = file.under(&format!("{name}/"));
        tally.meet(case, || {
            let causal = mode(case, &tensors, epsilon, "causal")?;
            Ok(causal.max(mode(case, &tensors, epsilon, "full")?))
        });
    }
    for case in manifest["xpos"].as_array().expect("a list of xPos cases") {
        let name = case["name"].as_str().expect("a name");
        tally.meet(case, || xpos(case, &file.under(&format!("{name}/"))));
    }
    tally.finish();
}

fn mode(case: &Value, tensors: &Goldens, epsilon: f64, mode: &str) -> Result<f64, String> {
    let device = Device::flex().autodiff();
    let causal = mode == "causal";
    let config = MultiHeadDilatedAttentionConfig::new(number(case, "E"), number(case, "H"))
        .with_branches(branches(pairs(case)))
        .with_causal(causal)
        .with_tail(if causal { Tail::Masked } else { Tail::ZeroKeys })
        .with_norm_epsilon(epsilon)
        .with_position(if case["xpos"] == true {
            AttentionPosition::xpos()
        } else {
            AttentionPosition::None
        })
        .with_inner_norm(if case["subln"] == true {
            InnerNorm::LayerNorm
        } else {
            InnerNorm::None
        });
    let module = attention_config(config).init(&device);
    let module = load_attention(module, state("module", case)?).map_err(|e| e.to_string())?;
    let x = load::<3>(tensors, "x", &device).require_grad();
    let out = module.forward(MhaInput::self_attn(x.clone())).context;
    let upstream = load::<3>(tensors, "grad_out", &device);
    let gradients = (out.clone() * upstream).sum().backward();

    let [outputs, grads] = tolerances();
    let out = numbers(out.detach());
    let goldens = tensors.under(&format!("{mode}/"));
    let mut comparison = Comparison::new(&goldens);
    comparison.tensor("out", &out, outputs);
    let dx = numbers(x.grad(&gradients).expect("a gradient"));
    comparison.tensor("dx", &dx, grads);
    let gradients = weights::gradients(&module, &gradients, &rename);
    comparison.gradients(&gradients, grads);
    let largest = comparison.finish().map_err(|e| format!("{mode}: {e}"))?;
    if causal && tensors.find("incremental/out").is_some() {
        let mut comparison = Comparison::new(tensors);
        comparison.tensor("incremental/out", &out, outputs);
        return Ok(comparison.finish()?.max(largest));
    }
    Ok(largest)
}

/// `XPOS.forward(x, offset)`: queries scaled up, keys scaled down, around the middle of all positions.
fn xpos(case: &Value, tensors: &Goldens) -> Result<f64, String> {
    let device = Device::flex();
    let [length, offset, width] = ["length", "offset", "head_dim"].map(|key| number(case, key));
    let end = offset + length;
    let xpos = XPos {
        theta: 1e4,
        scale_base: case["scale_base"].as_f64().expect("a base"),
        centre: Centre::Position(end.div_ceil(2) as f64),
    };
    let x = load::<3>(tensors, "x", &device).unsqueeze_dim::<4>(1);
    let [outputs, _] = tolerances();
    let mut comparison = Comparison::new(tensors);
    let query = xpos.query_table(offset..end, width, DType::F32, &device);
    comparison.tensor("up", &numbers(query.apply(x.clone())), outputs);
    let key = xpos.key_table(offset..end, width, DType::F32, &device);
    comparison.tensor("down", &numbers(key.apply(x)), outputs);
    comparison.finish()
}
