//! The op's goldens of torchscale: `torchscale/core.json`.
//!
//! torchscale is `ByGroup`, `Detached`, and when not causal `ZeroKeys`. Where a branch has several
//! segments and its rate does not divide them, torchscale writes results to the wrong rows: of these
//! cases, flagged misaligned, the tensors `alt_clean.*` take the place of the official ones.

use crate::check::{Check, Tolerance, Want, inputs};
use crate::dilated::Dilated;
use crate::goldens::Goldens;
use crate::problem::Problem;
use longnet_pattern::Span;
use serde_json::Value;

/// The tolerances that the manifest states in words: outputs, gradients.
///
/// # Panics
///
/// If there are not two numbers among the words.
pub fn tolerances(manifest: &Value) -> [Tolerance; 2] {
    let hint = manifest["tolerance_hint"]
        .as_str()
        .expect("a tolerance hint");
    let numbers: Vec<f64> = hint
        .split([' ', ','])
        .filter_map(|w| w.parse().ok())
        .collect();
    let [out, gradients] = numbers[..] else {
        panic!("two tolerances in {hint:?}")
    };
    [out, gradients].map(|atol| Tolerance { atol, rtol: 0.0 })
}

fn list<'a, T>(case: &'a Value, key: &str, item: impl Fn(&'a Value) -> Option<T>) -> Vec<T> {
    let items = case[key]
        .as_array()
        .unwrap_or_else(|| panic!("a list {key}"));
    items.iter().map(|x| item(x).expect(key)).collect()
}

/// All comparisons of one case of the manifest.
///
/// # Panics
///
/// If the case lacks a field or a tensor.
pub fn checks(case: &Value, file: &Goldens, tolerances: [Tolerance; 2]) -> Vec<Check> {
    let name = case["name"].as_str().expect("a name");
    let tensors = file.under(&format!("{name}/"));
    ["causal", "full"]
        .iter()
        .flat_map(|mode| Mode::new(case, &tensors, mode, tolerances).checks())
        .collect()
}

struct Mode<'a> {
    label: String,
    inputs: &'a Goldens,
    tensors: Goldens,
    tolerances: [Tolerance; 2],
    misaligned: Vec<bool>,
    /// torchscale's own rule.
    official: Problem,
}

impl<'a> Mode<'a> {
    fn new(case: &Value, inputs: &'a Goldens, mode: &str, tolerances: [Tolerance; 2]) -> Self {
        let number = |key: &str| case[key].as_u64().expect(key) as usize;
        let length = |x: &Value| x.as_u64().map(|x| x as usize);
        let segments = list(case, "segment_lengths", length);
        let rates = list(case, "dilated_ratios", length);
        let branches = segments.into_iter().zip(rates).collect();
        let causal = mode == "causal";
        let pattern = Dilated {
            heads: number("num_heads"),
            branches,
            causal,
            grouped: false,
            by_group: true,
            zero_keys: !causal,
        };
        Self {
            label: format!("{}/{mode}", case["name"].as_str().expect("a name")),
            inputs,
            tensors: inputs.under(&format!("{mode}/")),
            tolerances,
            misaligned: list(case, "misaligned", Value::as_bool),
            official: Problem {
                batch: number("batch"),
                scale: Some(case["scale"].as_f64().expect("scale")),
                detached: true,
                span: Span::full(number("seq_len")),
                ..Problem::new(pattern, number("seq_len"), number("head_dim"))
            },
        }
    }

    fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        if !self.misaligned.contains(&true) {
            checks.push(self.check("", self.official.clone(), true));
            let exact = Problem {
                detached: false,
                ..self.official.clone()
            };
            checks.push(self.check("alt_fullgrad.", exact, false));
        }
        let misaligned = self.misaligned.contains(&true);
        let mut clean = self.official.clone();
        clean.pattern.zero_keys = false;
        checks.push(self.check("alt_clean.", clean.clone(), misaligned));
        clean.pattern.by_group = false;
        checks.push(self.check("alt_clean_jmodr.", clean, false));
        for (b, &branch) in self.official.pattern.branches.iter().enumerate() {
            if !self.misaligned[b] {
                let mut alone = self.official.clone();
                alone.pattern.branches = vec![branch];
                checks.push(self.check(&format!("branch{b}."), alone, false));
            }
        }
        checks.retain(|check| !check.wants.is_empty());
        checks
    }

    /// Compares with the tensors that are stored under `prefix`; out and all gradients must be there if
    /// they are `required`.
    fn check(&self, prefix: &str, problem: Problem, required: bool) -> Check {
        let mut wants = Vec::new();
        for name in ["out", "dq", "dk", "dv", "lse"] {
            let Some(golden) = self.tensors.find(&format!("{prefix}{name}")) else {
                assert!(
                    !required || name == "lse",
                    "{}: there is no tensor {prefix}{name}",
                    self.label
                );
                continue;
            };
            let golden = if name == "lse" {
                // Already heads first; torchscale's number for rows that see nothing.
                let empty = |&x: &f64| if x <= -1e8 { f64::NEG_INFINITY } else { x };
                golden.data.iter().map(empty).collect()
            } else {
                golden.heads_first().data
            };
            wants.push(Want {
                name,
                golden,
                factor: 1.0,
                tolerance: self.tolerances[usize::from(name.starts_with('d'))],
            });
        }
        let get = |name| self.inputs.get(name);
        Check {
            label: format!("{}/{prefix}", self.label),
            inputs: inputs(get("q"), get("k"), get("v"), get("grad_out")),
            problem,
            wants,
        }
    }
}
