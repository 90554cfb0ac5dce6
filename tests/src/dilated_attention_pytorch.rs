//! The op's goldens of dilated-attention-pytorch.
//!
//! It groups heads (`Grouped`) and divides its output by the number of branches, although each head
//! runs one: a factor of these goldens, not of the op.

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
