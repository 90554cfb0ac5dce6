//! Results of other projects, all cases that their manifests list. `LONGNET_GOLDENS` takes another
//! folder of the same form.

mod golden_suites;

use burn::tensor::{DType, Device, Tensor};
use burn_longnet::functional::{AttentionOptions, merge, sparse_attention_with_lse};
use golden_suites::Tally;
use longnet_pattern::{Pattern, Span};
use longnet_tests::check::Check;
use longnet_tests::goldens::{Goldens, cases, manifest};
use longnet_tests::problem::Outputs;
use longnet_tests::run::{Layout, numbers, tensor, through_autodiff, through_fallback};
use longnet_tests::{dilated_attention_pytorch as dap, oracle, torchscale};
use serde_json::Value;

/// Holds the kernels, the fallback and the oracle to `check`, in f64 where the golden asks for more
/// than f32 has. The largest error of the kernels.
fn meet(check: &Check) -> Result<f64, String> {
    let (device, layouts) = (Device::flex(), [Layout::Plain; 4]);
    // f32 carries seven digits.
    let fine = check.wants.iter().any(|want| want.tolerance.atol < 1e-7);
    let dtype = if fine { DType::F64 } else { DType::F32 };
    let (problem, x) = (&check.problem, &check.inputs);
    let runs: [(&str, Outputs); 3] = [
        ("oracle", oracle::attention(problem, x).values),
        (
            "fallback",
            through_fallback(problem, x, &device, dtype, layouts),
        ),
        (
            "kernels",
            through_autodiff(problem, x, &device.clone().autodiff(), dtype, layouts),
        ),
    ];
    let mut error = 0.0;
    for (name, got) in &runs {
        error = check.compare(got).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(error)
}

fn meet_all(checks: &[Check]) -> Result<f64, String> {
    assert!(!checks.is_empty(), "a case without a tensor to meet");
    let errors: Result<Vec<f64>, String> = checks.iter().map(meet).collect();
    Ok(errors?.into_iter().fold(0.0, f64::max))
}

#[test]
fn golden_torchscale_core() {
    let manifest = manifest("torchscale/core.json");
    let file = Goldens::read("torchscale/core.safetensors");
    let tolerances = torchscale::tolerances(&manifest);
    let mut tally = Tally::new("torchscale/core");
    for case in cases(&manifest) {
        tally.meet(case, || {
            meet_all(&torchscale::checks(case, &file, tolerances))
        });
    }
    tally.finish();
}

#[test]
fn golden_torchscale_module() {
    golden_suites::torchscale_module::run();
}

#[test]
fn golden_torchscale_lm() {
    golden_suites::torchscale_lm::run();
}

#[test]
fn golden_dilated_attention_pytorch() {
    let manifest = manifest(&format!("{}/manifest.json", dap::FOLDER));
    let mut tally = Tally::new(dap::FOLDER);
    for case in cases(&manifest) {
        match case["semantics"].as_str().expect("semantics") {
            "dilated_attention" | "improved_dilated_attention_head_axis" => {
                tally.meet(case, || meet(&dap::check(case)));
            }
            "multihead_dilated_attention" => {
                tally.meet(case, || golden_suites::multi_head::meet(case));
            }
            "ring_lse_merge" => tally.meet(case, || ring_lse_merge(case)),
            "block_sparse_sum_of_block_softmax" => {
                tally.meet(case, || meet(&dap::block_check(case)));
            }
            "ring_block_sparse_single" => {
                tally.meet(case, || meet(&dap::token_mask_check(case)));
            }
            "sparse_pattern_generator_raw" => {
                tally.meet(case, || golden_suites::patterns::generators(case));
            }
            "legacy_main_hierarchical_pattern" => {
                tally.meet(case, || golden_suites::patterns::hierarchical(case));
            }
            "hilbert_orderings" => tally.meet(case, || golden_suites::patterns::hilbert(case)),
            semantics => tally.skip(case, semantics),
        }
    }
    tally.finish();
}

/// Attention over chunks of the keys, merged one after the other.
fn ring_lse_merge(case: &Value) -> Result<f64, String> {
    let [n, heads, chunks] = ["seq_len", "heads", "chunks"].map(|key| dap::number(case, key));
    let tensors = dap::tensors(case);
    let device = Device::flex();
    let load = |name: &str| -> Tensor<4> {
        let golden = tensors.get(name).heads_first();
        let shape: [usize; 4] = golden.shape.try_into().expect("rank 4");
        tensor(&golden.data, shape, &device, DType::F64)
    };
    let (q, k, v) = (load("q"), load("k"), load("v"));
    let pattern = Pattern::dense(heads, false);
    let tolerance = dap::tolerance(case);
    let mut largest = 0f64;
    let mut compare = |got: Vec<f64>, name: String| {
        let golden = tensors.get(&name);
        let golden = if name.contains("lse") {
            golden.clone()
        } else {
            golden.heads_first()
        };
        let (difference, share) = tolerance.measure(&got, &golden.data);
        largest = largest.max(difference);
        if share > 1.0 {
            return Err(format!("{name} differs by {difference:.2e}"));
        }
        Ok(())
    };
    let mut whole: Option<(Tensor<4>, Tensor<3>)> = None;
    for chunk in 0..chunks {
        let size = n / chunks;
        let rows = chunk * size..(chunk + 1) * size;
        let options = AttentionOptions {
            span: Some(Span {
                q_start: 0,
                n_q: n,
                k_start: rows.start,
                n_k: size,
                step: 1,
            }),
            ..AttentionOptions::default()
        };
        let keys = |t: &Tensor<4>| t.clone().narrow(2, rows.start, size);
        let part = sparse_attention_with_lse(q.clone(), keys(&k), keys(&v), &pattern, &options);
        compare(numbers(part.0.clone()), format!("chunk_out.{chunk}"))?;
        compare(numbers(part.1.clone()), format!("chunk_lse.{chunk}"))?;
        let merged = match whole {
            None => part,
            Some(whole) => merge(whole, part),
        };
        compare(numbers(merged.0.clone()), format!("acc_out.{chunk}"))?;
        compare(numbers(merged.1.clone()), format!("acc_lse.{chunk}"))?;
        whole = Some(merged);
    }
    Ok(largest)
}
