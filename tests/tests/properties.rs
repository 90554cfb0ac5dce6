//! What must hold whatever the numbers are.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use burn_longnet::functional::{AttentionOptions, sparse_attention};
use longnet_pattern::{DilatedPattern, Dropout, Pattern, Span};
use longnet_tests::blocks::Blocks;
use longnet_tests::compare::{errors, relative_rms};
use longnet_tests::dilated::Dilated;
use longnet_tests::implementations::{
    IMPLEMENTATIONS, PLAIN, bits, fallback, inputs, kernels, problems,
};
use longnet_tests::oracle;
use longnet_tests::problem::{Inputs, Outputs, Problem};
use longnet_tests::rng::Rng;
use longnet_tests::run::{differentiate, numbers, tensor};

const F32: DType = DType::F32;

#[test]
fn a_change_in_the_future_leaves_the_past_bit_identical() {
    let causal =
        |p: &mut Problem| p.pattern.causal && p.span == Span::full(p.span.n_k) && p.span.n_k > 1;
    for (index, problem) in problems(150, causal) {
        let n = problem.span.n_k;
        let cut = Rng::new(4, index).range(1, n - 1);
        let x = inputs(&problem, index);
        let mut changed = x.clone();
        let other = inputs(&problem, index + 1_000_000);
        let parts = [
            (&mut changed.q, &other.q, problem.d),
            (&mut changed.k, &other.k, problem.d),
            (&mut changed.v, &other.v, problem.d_v),
        ];
        for (tensor, other, width) in parts {
            for (row, (to, from)) in tensor
                .chunks_mut(width)
                .zip(other.chunks(width))
                .enumerate()
            {
                if row % n >= cut {
                    to.copy_from_slice(from);
                }
            }
        }
        for (name, run) in IMPLEMENTATIONS {
            let (before, after) = (run(&problem, &x), run(&problem, &changed));
            let past = |y: &Outputs| {
                (
                    bits(&y.out, n, problem.d_v, |row| row < cut),
                    bits(&y.lse, n, 1, |row| row < cut),
                )
            };
            assert_eq!(
                past(&before),
                past(&after),
                "{name}, cut {cut}: {problem:?}"
            );
        }
    }
}

#[test]
fn one_branch_of_the_whole_length_is_dense_attention() {
    let device = Device::flex().autodiff();
    for (n, d, d_v, causal) in [
        (1, 4, 4, true),
        (33, 8, 8, true),
        (130, 16, 5, true),
        (67, 7, 12, false),
    ] {
        let mut problem = Problem::new(Dilated::new(3, &[(n, 1)], causal), n, d);
        (problem.batch, problem.d_v) = (2, d_v);
        let mut x = inputs(&problem, n as u64);
        x.dlse = None;
        let want = differentiate(&problem, &x, &device, F32, PLAIN, |q, k, v| {
            let options = AttentionModuleOptions {
                is_causal: causal,
                ..AttentionModuleOptions::default()
            };
            let lse = Tensor::zeros([2, 3, n], &device);
            (attention(q, k, v, None, None, options), lse)
        });
        for (name, run) in IMPLEMENTATIONS {
            let got = run(&problem, &x);
            for ((tensor, got), (_, want)) in got.named().into_iter().zip(want.named()) {
                // A row with one key has no gradient in q; both round differently from 0.
                let zero = want.iter().all(|x| x.abs() < 1e-6);
                let far = if zero {
                    got.iter().fold(0f64, |a, x| a.max(x.abs()))
                } else {
                    relative_rms(got, want)
                };
                assert!(
                    tensor == "lse" || far < 3e-6,
                    "{name}, n {n}: {tensor} {far:e}"
                );
            }
        }
    }
}

#[test]
fn a_row_that_sees_nothing_is_zero_with_zero_gradients() {
    // One branch of rate 3: head h covers rows on its residue only. Batch entry 1 is all padding.
    let n = 20;
    let mut problem = Problem::new(Dilated::new(4, &[(8, 3)], true), n, 5);
    problem.batch = 2;
    problem.hidden = Some((0..2 * n).map(|x| x >= n).collect());
    let x = inputs(&problem, 1);
    assert!(x.dout.iter().all(|x| *x != 0.0));
    let x = Inputs {
        dlse: Some(vec![1.0; 2 * 4 * n]),
        ..x
    };
    for detached in [false, true] {
        problem.detached = detached;
        for (name, run) in IMPLEMENTATIONS {
            let y = run(&problem, &x);
            for row in 0..2 * 4 * n {
                let (b, h, i) = (row / n / 4, row / n % 4, row % n);
                let sees = b == 0 && i % 8 % 3 == h % 3;
                let width = problem.d;
                let empty = |t: &[f64]| t[row * width..][..width].iter().all(|x| *x == 0.0);
                assert_eq!(empty(&y.out), !sees, "{name} out {b} {h} {i}");
                assert_eq!(
                    y.lse[row] == f64::NEG_INFINITY,
                    !sees,
                    "{name} lse {b} {h} {i}"
                );
                assert!(sees || empty(&y.dq), "{name} dq {b} {h} {i}");
                // Keys are seen by their own row at least.
                assert_eq!(empty(&y.dv), !sees, "{name} dv {b} {h} {i}");
                assert!(sees || empty(&y.dk), "{name} dk {b} {h} {i}");
            }
        }
    }
}

#[test]
fn what_a_row_that_sees_nothing_holds_does_not_matter() {
    // Rows 0 and 1 see hidden keys only, and each head covers every other row.
    let mut problem = Problem::new(Dilated::new(2, &[(2, 2)], false), 4, 3);
    problem.hidden = Some(vec![true, true, false, false]);
    let mut x = inputs(&problem, 0);
    let lse = oracle::attention(&problem, &x).values.lse;
    for (row, lse) in lse.iter().enumerate() {
        if *lse == f64::NEG_INFINITY {
            x.q[row * 3..][..3].fill(f64::NAN);
        }
    }
    let want = oracle::attention(&problem, &x);
    for (name, run) in IMPLEMENTATIONS {
        let errors = errors(&run(&problem, &x), &want);
        assert!(errors.worst().1 < 1e-5, "{name} {errors:?}");
    }
}

#[test]
fn dropout_drops_the_same_pairs_everywhere() {
    // With values e_j, out_ij is the weight of pair (i, j).
    let n = 37;
    let dropout = Dropout {
        p: 0.3,
        seed: 0xfeed_0000_1234,
    };
    let mut problem = Problem::new(Dilated::new(2, &[(n, 1), (12, 2)], false), n, 4);
    (problem.d_v, problem.batch) = (n, 2);
    problem.dropout = Some((dropout.p, dropout.seed));
    let mut x = inputs(&problem, 0);
    for (row, value) in x.v.chunks_mut(n).enumerate() {
        value.fill(0.0);
        value[row % n] = 1.0;
    }
    let kernels = kernels(&problem, &x).out;
    let fallback = fallback(&problem, &x).out;
    for (at, (a, b)) in kernels.iter().zip(&fallback).enumerate() {
        let (row, j) = (at / n, at % n);
        let (b_, h, i) = (row / n / 2, row / n % 2, row % n);
        let kept = dropout.factor(b_, 2, h, i, j) != 0.0;
        assert_eq!(
            (*a != 0.0, *b != 0.0),
            (kept, kept),
            "pair {b_} {h} {i} {j}"
        );
    }
}

#[test]
fn one_key_head_for_all_query_heads_is_repeated_keys() {
    let device = Device::flex();
    let rng = &mut Rng::new(9, 0);
    let (n, heads) = (50, 6);
    let q = tensor(&rng.normals(heads * n * 8), [1, heads, n, 8], &device, F32);
    let k = tensor(&rng.normals(n * 8), [1, 1, n, 8], &device, F32);
    let v = tensor(&rng.normals(n * 8), [1, 1, n, 8], &device, F32);
    let pattern: Pattern = DilatedPattern::new(heads, [(10, 1), (50, 5)])
        .causal(true)
        .build()
        .expect("valid");
    let options = AttentionOptions::default();
    let shared = sparse_attention(q.clone(), k.clone(), v.clone(), &pattern, &options);
    let repeated = sparse_attention(
        q,
        k.repeat_dim(1, heads),
        v.repeat_dim(1, heads),
        &pattern,
        &options,
    );
    assert!(relative_rms(&numbers(shared), &numbers(repeated)) < 1e-6);
}

/// Kernels and fallback on a problem with block masks must be near the same on another one.
fn same(a: &Problem, b: &Problem, x: &Inputs, what: &str) {
    for (name, run) in IMPLEMENTATIONS {
        let (a, b) = (run(a, x), run(b, x));
        for ((tensor, a), (_, b)) in a.named().into_iter().zip(b.named()) {
            if tensor != "dbias" {
                let far = relative_rms(a, b);
                assert!(far < 3e-6, "{name}, {what}: {tensor} {far:e}");
            }
        }
    }
}

#[test]
fn a_mask_of_all_blocks_is_one_branch_of_the_whole_length() {
    for (n, causal, size) in [
        (65, true, [16, 16]),
        (90, false, [7, 32]),
        (33, true, [64, 5]),
    ] {
        let mut dense = Problem::new(Dilated::new(3, &[(n, 1)], causal), n, 8);
        dense.batch = 2;
        let blocks = n.div_ceil(size[0]);
        let mut masked = dense.clone();
        masked.blocks = Some(Blocks {
            size,
            set: vec![vec![vec![true; n.div_ceil(size[1])]; blocks]; 3],
            bias: None,
        });
        same(&masked, &dense, &inputs(&dense, n as u64), "dense");
    }
}

#[test]
fn a_window_of_blocks_is_dense_attention_under_its_mask() {
    let device = Device::flex().autodiff();
    let (n, d, block) = (100, 8, 12);
    for causal in [false, true] {
        let mut problem = Problem::new(Dilated::new(2, &[(n, 1)], causal), n, d);
        let near = |i: usize, j: usize| i.abs_diff(j) <= 2;
        let row = |i| (0..n.div_ceil(block)).map(|j| near(i, j)).collect();
        problem.blocks = Some(Blocks {
            size: [block; 2],
            set: vec![(0..n.div_ceil(block)).map(row).collect(); 2],
            bias: None,
        });
        let mut x = inputs(&problem, 4);
        x.dlse = None;
        let hidden: Vec<bool> = (0..n * n)
            .map(|pair| (pair / n, pair % n))
            .map(|(i, j)| !near(i / block, j / block) || causal && j > i)
            .collect();
        let hidden = Tensor::<2, Bool>::from_data(TensorData::new(hidden, [n, n]), &device);
        let hidden = hidden.unsqueeze::<4>().expand([1, 2, n, n]);
        let want = differentiate(&problem, &x, &device, F32, PLAIN, |q, k, v| {
            let options = AttentionModuleOptions::default();
            let lse = Tensor::zeros([1, 2, n], &device);
            (attention(q, k, v, Some(hidden), None, options), lse)
        });
        for (name, run) in IMPLEMENTATIONS {
            let got = run(&problem, &x);
            for ((tensor, got), (_, want)) in got.named().into_iter().zip(want.named()) {
                let far = relative_rms(got, want);
                assert!(tensor == "lse" || far < 3e-6, "{name}: {tensor} {far:e}");
            }
        }
    }
}

#[test]
fn segments_as_blocks_are_the_branch_with_these_segments() {
    for causal in [false, true] {
        let dilated = Problem::new(Dilated::new(2, &[(12, 1)], causal), 50, 8);
        let mut masked = dilated.clone();
        let diagonal = |i| (0..5).map(|j| i == j).collect();
        masked.blocks = Some(Blocks {
            size: [12; 2],
            set: vec![(0..5).map(diagonal).collect(); 2],
            bias: None,
        });
        same(&masked, &dilated, &inputs(&dilated, 8), "segments");
    }
}

#[test]
fn permuted_heads_give_permuted_results() {
    // Heads 0 and 2 are alike, 1 is not; each has its own bias.
    let (n, d, heads) = (70, 8, 3);
    let mut problem = Problem::new(Dilated::new(heads, &[(n, 1)], true), n, d);
    let table = |head: usize| -> Vec<Vec<bool>> {
        let set = |i: usize, j: usize| i == j || (i * 3 + j + head % 2).is_multiple_of(3);
        (0..7)
            .map(|i| (0..5).map(|j| set(i, j)).collect())
            .collect()
    };
    let mut blocks = Blocks {
        size: [10, 16],
        set: (0..heads).map(table).collect(),
        bias: None,
    };
    let listed = blocks.listed(true);
    let rng = &mut Rng::new(12, 0);
    blocks.bias = Some(
        listed
            .iter()
            .map(|_| f64::from(rng.normal() as f32))
            .collect(),
    );
    problem.blocks = Some(blocks.clone());
    let x = inputs(&problem, 3);
    let order = [2, 0, 1];
    let planes = |t: &[f64]| -> Vec<f64> {
        let size = t.len() / heads;
        order
            .iter()
            .flat_map(|h| t[h * size..][..size].to_vec())
            .collect()
    };
    let of_heads = |t: &[f64]| -> Vec<f64> {
        let of = |head: &usize| {
            let own = listed.iter().zip(t).filter(|(block, _)| block[0] == *head);
            own.map(|(_, x)| *x).collect::<Vec<_>>()
        };
        order.iter().flat_map(of).collect()
    };
    let permuted = Inputs {
        q: planes(&x.q),
        k: planes(&x.k),
        v: planes(&x.v),
        dout: planes(&x.dout),
        dlse: x.dlse.as_ref().map(|t| planes(t)),
    };
    let mut other = problem.clone();
    other.blocks = Some(Blocks {
        set: order.map(|h| blocks.set[h].clone()).into(),
        bias: blocks.bias.as_ref().map(|t| of_heads(t)),
        ..blocks
    });
    for (name, run) in IMPLEMENTATIONS {
        let (a, b) = (run(&problem, &x), run(&other, &permuted));
        for ((tensor, a), (_, b)) in a.named().into_iter().zip(b.named()) {
            let a = match tensor {
                "dbias" => of_heads(a),
                _ => planes(a),
            };
            assert_eq!(a, b, "{name}: {tensor}");
        }
    }
}
