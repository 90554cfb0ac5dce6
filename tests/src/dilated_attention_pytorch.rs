//! The op's goldens of dilated-attention-pytorch.
//!
//! It groups heads (`Grouped`) and divides its output by the number of branches, although each head
//! runs one: a factor of these goldens, not of the op. Its block-sparse attention adds one softmax per block;
//! what is met there is the softmax over a row's blocks that stands beside it, by its own lists of blocks.

use crate::blocks::Blocks;
use crate::check::{Check, Tolerance, Want, inputs};
use crate::dilated::Dilated;
use crate::goldens::{Goldens, folder};
use crate::problem::Problem;
use serde_json::Value;
use std::path::PathBuf;

/// The folder of these goldens.
pub const FOLDER: &str = "dilated-attention-pytorch";

/// The file of a case.
///
/// # Panics
///
/// If the manifest names none.
pub fn file(case: &Value) -> PathBuf {
    folder()
        .join(FOLDER)
        .join(case["file"].as_str().expect("a file"))
}

/// The tensors of a case.
///
/// # Panics
///
/// If they cannot be read.
pub fn tensors(case: &Value) -> Goldens {
    Goldens::read(file(case))
}

/// The tolerance of a case.
///
/// # Panics
///
/// If the manifest states none.
pub fn tolerance(case: &Value) -> Tolerance {
    let number = |key: &str| case["tolerance"][key].as_f64().expect(key);
    Tolerance {
        atol: number("atol"),
        rtol: number("rtol"),
    }
}

/// A number of the case's parameters.
///
/// # Panics
///
/// If the manifest does not have it.
pub fn number(case: &Value, key: &str) -> usize {
    case["params"][key].as_u64().expect(key) as usize
}

/// Segment lengths with dilation rates of the case's parameters.
///
/// # Panics
///
/// If the manifest does not have them.
pub fn branches(case: &Value) -> Vec<(usize, usize)> {
    let list = |key: &str| -> Vec<usize> {
        let items = case["params"][key].as_array().expect(key);
        items
            .iter()
            .map(|x| x.as_u64().expect(key) as usize)
            .collect()
    };
    list("segment_lengths")
        .into_iter()
        .zip(list("dilation_rates"))
        .collect()
}

/// The comparison of one case that is an op: `out` and gradients, or `intended_out` where the other
/// project is wrong.
///
/// # Panics
///
/// If the case lacks a field or a tensor.
pub fn check(case: &Value) -> Check {
    let tensors = tensors(case);
    let branches = branches(case);
    let factor = 1.0 / branches.len() as f64;
    let pattern = Dilated {
        grouped: true,
        ..Dilated::new(
            number(case, "heads"),
            &branches,
            case["params"]["is_causal"].as_bool().expect("is_causal"),
        )
    };
    let wanted: &[(&str, &str)] = if case["peer_bug"] == true {
        &[("out", "intended_out")]
    } else {
        &[("out", "out"), ("dq", "dq"), ("dk", "dk"), ("dv", "dv")]
    };
    let wants = wanted.iter().map(|&(name, stored)| Want {
        name,
        golden: tensors.get(stored).heads_first().data,
        factor,
        tolerance: tolerance(case),
    });
    let get = |name| tensors.get(name);
    Check {
        label: case["name"].as_str().expect("a name").to_owned(),
        inputs: inputs(get("q"), get("k"), get("v"), get("dout")),
        wants: wants.collect(),
        problem: Problem {
            batch: number(case, "batch"),
            ..Problem::new(pattern, number(case, "seq_len"), number(case, "head_dim"))
        },
    }
}

/// The comparison of a case whose blocks are listed, with the softmax over all of a row's blocks.
///
/// # Panics
///
/// If the case lacks a field or a tensor.
pub fn block_check(case: &Value) -> Check {
    let tensors = tensors(case);
    let block = &case["params"]["sparse_config"]["block_size"];
    let block = block.as_u64().expect("block_size") as usize;
    let list = |name| tensors.get(name).data.iter().map(|&x| x as usize);
    let pairs: Vec<_> = list("block_rows").zip(list("block_cols")).collect();
    let sees = |i, j| pairs.contains(&(i, j));
    masked_check(case, &tensors, block, sees, "oracle_true_softmax_")
}

/// The comparison of a case with a mask of tokens that is one of blocks.
///
/// # Panics
///
/// If the case lacks a field or a tensor, or the mask cuts a block.
pub fn token_mask_check(case: &Value) -> Check {
    let tensors = tensors(case);
    let (block, n) = (number(case, "block_size"), number(case, "seq_len"));
    let mask = &tensors.get("token_mask").data;
    for i in 0..n {
        for j in 0..n {
            let first = mask[i / block * block * n + j / block * block];
            assert_eq!(mask[i * n + j], first, "the mask is one of whole blocks");
        }
    }
    let sees = |i, j| mask[i * block * n + j * block] != 0.0;
    masked_check(case, &tensors, block, sees, "")
}

fn masked_check(
    case: &Value,
    tensors: &Goldens,
    block: usize,
    sees: impl Fn(usize, usize) -> bool,
    prefix: &str,
) -> Check {
    let (n, heads) = (number(case, "seq_len"), number(case, "heads"));
    let blocks = n.div_ceil(block);
    let row = |i| (0..blocks).map(|j| sees(i, j)).collect();
    let plane: Vec<Vec<bool>> = (0..blocks).map(row).collect();
    let wants = ["out", "dq", "dk", "dv"].map(|name| Want {
        name,
        golden: tensors.get(&format!("{prefix}{name}")).heads_first().data,
        factor: 1.0,
        tolerance: tolerance(case),
    });
    let get = |name| tensors.get(name);
    let causal = case["params"]["is_causal"].as_bool().expect("is_causal");
    Check {
        label: case["name"].as_str().expect("a name").to_owned(),
        inputs: inputs(get("q"), get("k"), get("v"), get("dout")),
        wants: wants.into(),
        problem: Problem {
            batch: number(case, "batch"),
            blocks: Some(Blocks {
                size: [block; 2],
                set: vec![plane; heads],
                bias: None,
            }),
            ..Problem::new(
                Dilated::new(heads, &[], causal),
                n,
                number(case, "head_dim"),
            )
        },
    }
}
