//! The oracle itself: against finite differences, and against what other projects computed.

use longnet_pattern::Span;
use longnet_tests::compare::relative_rms;
use longnet_tests::dilated::Dilated;
use longnet_tests::problem::{Inputs, Problem};
use longnet_tests::rng::Rng;
use longnet_tests::{check::Check, check::Tolerance, generate, goldens, oracle};
use longnet_tests::{dilated_attention_pytorch, torchscale};

/// `<out, dout> + <lse, dlse>`, with the weights that mix the branches as they are at `base` when the
/// gradient of the mix is detached.
fn loss(problem: &Problem, base: &Inputs, at: &Inputs) -> f64 {
    let out = if problem.detached {
        let whole = oracle::attention(problem, base).values.lse;
        let mut out: Vec<f64> = vec![0.0; at.dout.len()];
        for &branch in &problem.pattern.branches {
            let mut alone = problem.clone();
            alone.pattern.branches = vec![branch];
            let weights = oracle::attention(&alone, base).values.lse;
            let own = oracle::attention(&alone, at).values.out;
            for (x, (o, y)) in out.iter_mut().zip(own).enumerate() {
                let row = x / problem.d_v;
                if weights[row].is_finite() {
                    *o += (weights[row] - whole[row]).exp() * y;
                }
            }
        }
        out
    } else {
        oracle::attention(problem, at).values.out
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let lse = oracle::attention(problem, at).values.lse;
    let finite: Vec<f64> = lse
        .iter()
        .map(|x| if x.is_finite() { *x } else { 0.0 })
        .collect();
    dot(&out, &at.dout) + at.dlse.as_ref().map_or(0.0, |dlse| dot(&finite, dlse))
}

#[test]
fn its_gradients_are_those_of_finite_differences() {
    let mut checked = 0;
    for index in 0..4000 {
        let problem = generate::problem(17, index);
        // A detached mix of grouped heads has one branch a head: the branches alone would regroup.
        let regroups = problem.detached && problem.pattern.grouped;
        if problem.size() > 40_000 || regroups {
            continue;
        }
        let mut x = generate::inputs(&problem, 17, index);
        for tensor in [&mut x.k, &mut x.v] {
            tensor
                .iter_mut()
                .filter(|x| x.is_nan())
                .for_each(|x| *x = 0.5);
        }
        let gradients = oracle::attention(&problem, &x).values;
        // Along a random direction of all three tensors at once.
        let rng = &mut Rng::new(18, index);
        let step = |x: &Inputs, directions: &[Vec<f64>; 3], h: f64| {
            let mut moved = x.clone();
            for (tensor, direction) in [&mut moved.q, &mut moved.k, &mut moved.v]
                .into_iter()
                .zip(directions)
            {
                tensor
                    .iter_mut()
                    .zip(direction)
                    .for_each(|(t, d)| *t += h * d);
            }
            moved
        };
        let directions = [x.q.len(), x.k.len(), x.v.len()].map(|n| rng.normals(n));
        let h = 1e-4;
        let at = |h| loss(&problem, &x, &step(&x, &directions, h));
        // Fourth order.
        let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let mut slope = 0.0;
        let mut scale = 1e-3;
        for (g, d) in [&gradients.dq, &gradients.dk, &gradients.dv]
            .into_iter()
            .zip(&directions)
        {
            slope += g.iter().zip(d).map(|(x, y)| x * y).sum::<f64>();
            scale += g.iter().zip(d).map(|(x, y)| (x * y).abs()).sum::<f64>();
        }
        assert!(
            (slope - difference).abs() < 1e-7 * scale,
            "{index}: {slope} by formula, {difference} by difference, of {problem:?}"
        );
        checked += 1;
    }
    assert!(checked > 500, "only {checked} problems were small enough");
}

#[test]
fn golden_checks_are_met_by_the_oracle() {
    let file = goldens::Goldens::read("torchscale/core.safetensors");
    let manifest = goldens::manifest("torchscale/core.json");
    for case in goldens::cases(&manifest) {
        // Goldens stored in f32 are rounded.
        let atol = match case["store_dtype"].as_str() {
            Some("float64") => 1e-12,
            _ => 1e-6,
        };
        let tolerance = Tolerance { atol, rtol: 0.0 };
        for check in torchscale::checks(case, &file, [tolerance; 2]) {
            met(&check);
        }
    }
    let manifest = goldens::manifest("dilated-attention-pytorch/manifest.json");
    for case in goldens::cases(&manifest) {
        if case["semantics"] == "dilated_attention" {
            met(&dilated_attention_pytorch::check(case));
        }
    }
}

fn met(check: &Check) {
    let got = oracle::attention(&check.problem, &check.inputs).values;
    let largest = check.compare(&got).unwrap_or_else(|e| panic!("{e}"));
    println!("{} {largest:.1e}", check.label);
}

#[test]
fn a_single_key_gives_its_value() {
    let pattern = Dilated::new(1, &[(4, 1)], false);
    let mut problem = Problem::new(pattern, 4, 2);
    problem.span = Span::cross(1, 1);
    let x = Inputs {
        q: vec![1.0, 2.0],
        k: vec![3.0, -1.0],
        v: vec![5.0, 6.0],
        dout: vec![1.0, 1.0],
        dlse: None,
    };
    let y = oracle::attention(&problem, &x).values;
    assert!(relative_rms(&y.out, &x.v) < 1e-15);
    assert!((y.lse[0] - 1.0 / 2f64.sqrt()).abs() < 1e-15);
    assert!(y.dq.iter().all(|x| x.abs() < 1e-15));
    assert_eq!(y.dv, [1.0, 1.0]);
}
