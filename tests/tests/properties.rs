//! What must hold whatever the numbers are.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Tensor};
use burn_longnet::functional::{
    AttentionOptions, merge, sparse_attention, sparse_attention_with_lse,
};
use longnet_pattern::{DilatedPattern, Dropout, Pattern, Span};
use longnet_tests::compare::{errors, relative_rms};
use longnet_tests::problem::{Dilated, Inputs, Outputs, Problem};
use longnet_tests::rng::Rng;
use longnet_tests::run::{
    Layout, differentiate, numbers, options, tensor, through_autodiff, through_fallback,
};
use longnet_tests::{generate, oracle};

const PLAIN: [Layout; 4] = [Layout::Plain; 4];
const F32: DType = DType::F32;

fn kernels(problem: &Problem, x: &Inputs) -> Outputs {
    through_autodiff(problem, x, &Device::flex().autodiff(), F32, PLAIN)
}

fn fallback(problem: &Problem, x: &Inputs) -> Outputs {
    through_fallback(problem, x, &Device::flex(), F32, PLAIN)
}

const IMPLEMENTATIONS: [(&str, fn(&Problem, &Inputs) -> Outputs); 2] =
    [("kernels", kernels), ("fallback", fallback)];

/// Numbers that are exact in f32.
fn inputs(problem: &Problem, index: u64) -> Inputs {
    generate::inputs(problem, 3, index).rounded(|x| f64::from(x as f32))
}

/// The generated problems that `keep` accepts, changed by it.
fn problems(count: usize, keep: impl Fn(&mut Problem) -> bool) -> Vec<(u64, Problem)> {
    let all = (0..).map(|index| (index, generate::problem(3, index)));
    all.filter_map(|(index, mut problem)| keep(&mut problem).then_some((index, problem)))
        .take(count)
        .collect()
}

/// The rows of `[batch * heads, n, width]` for which `keep` holds.
fn rows(x: &[f64], n: usize, width: usize, keep: impl Fn(usize) -> bool) -> Vec<u64> {
    let rows = x.chunks(width).enumerate();
    rows.filter(|(row, _)| keep(row % n))
        .flat_map(|(_, row)| row.iter().map(|x| x.to_bits()))
        .collect()
}

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
                    rows(&y.out, n, problem.d_v, |row| row < cut),
                    rows(&y.lse, n, 1, |row| row < cut),
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
fn what_a_row_that_sees_nothing_holds_does_not_matter_to_the_kernels() {
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
    let errors = errors(&kernels(&problem, &x), &want);
    assert!(errors.worst().1 < 1e-5, "{errors:?}");
}

#[test]
fn partial_results_merge_to_the_whole_with_their_gradients() {
    let whole = |p: &mut Problem| {
        p.detached = false;
        p.pattern.zero_keys = false;
        p.span.n_k > 1
    };
    let device = Device::flex().autodiff();
    for (index, problem) in problems(150, whole) {
        let x = inputs(&problem, index);
        let pattern = problem.pattern.pattern();
        let all = options(&problem, &device);
        let Span {
            q_start,
            n_q,
            k_start,
            n_k,
        } = problem.span;
        let cut = Rng::new(6, index).range(1, n_k - 1);
        let got = differentiate(&problem, &x, &device, F32, PLAIN, |q, k, v| {
            let part = |first: usize, length: usize| {
                let mut options = all.clone();
                options.span = Some(Span {
                    q_start,
                    n_q,
                    k_start: k_start + first,
                    n_k: length,
                });
                options.mask_pad = options.mask_pad.map(|m| m.narrow(1, first, length));
                if let Some(documents) = &mut options.documents {
                    documents.key = documents.key.clone().narrow(1, first, length);
                }
                let keys = |t: &Tensor<4>| t.clone().narrow(2, first, length);
                sparse_attention_with_lse(q.clone(), keys(&k), keys(&v), &pattern, &options)
            };
            merge(part(0, cut), part(cut, n_k - cut))
        });
        let errors = errors(&got, &oracle::attention(&problem, &x));
        assert!(
            errors.worst().1 < 1e-5,
            "{errors:?} at cut {cut}: {problem:?}"
        );
    }
}

#[test]
fn two_empty_partial_results_merge_to_an_empty_one() {
    let device = Device::flex().autodiff();
    let empty = || {
        (
            Tensor::<4>::zeros([1, 2, 3, 4], &device).require_grad(),
            Tensor::<3>::full([1, 2, 3], f32::NEG_INFINITY, &device).require_grad(),
        )
    };
    let (one, two) = (empty(), empty());
    let (out, lse) = merge(one.clone(), two.clone());
    assert!(numbers(out.clone()).iter().all(|x| *x == 0.0));
    assert!(numbers(lse.clone()).iter().all(|x| *x == f64::NEG_INFINITY));
    let gradients = (out.sum() + lse.sum()).backward();
    for (out, lse) in [one, two] {
        let dlse = numbers(lse.grad(&gradients).expect("a gradient"));
        assert!(dlse.iter().all(|x| *x == 0.0), "{dlse:?}");
        let dout = numbers(out.grad(&gradients).expect("a gradient"));
        assert!(dout.iter().all(|x| *x == 0.0), "{dout:?}");
    }
}

#[test]
fn an_empty_partial_result_changes_nothing() {
    let device = Device::flex();
    let rng = &mut Rng::new(8, 0);
    let out = tensor(&rng.normals(24), [1, 2, 3, 4], &device, F32);
    let lse = tensor(&rng.normals(6), [1, 2, 3], &device, F32);
    let empty = || (out.zeros_like(), lse.full_like(f32::NEG_INFINITY));
    for (o, l) in [
        merge((out.clone(), lse.clone()), empty()),
        merge(empty(), (out.clone(), lse.clone())),
    ] {
        assert_eq!(numbers(o), numbers(out.clone()));
        assert_eq!(numbers(l), numbers(lse.clone()));
    }
}

#[test]
fn decoding_equals_the_causal_forward_row_by_row() {
    let device = Device::flex();
    let causal = |p: &mut Problem| {
        p.dropout = None;
        p.pattern.zero_keys = false;
        p.pattern.causal = true;
        p.span = Span::full(p.span.n_k.min(70));
        p.hidden = None;
        p.documents = None;
        p.batch == 1
    };
    for (index, problem) in problems(25, causal) {
        let n = problem.span.n_k;
        let x = inputs(&problem, index);
        let q = tensor(&x.q, problem.q_shape(), &device, F32);
        let k = tensor(&x.k, problem.k_shape(), &device, F32);
        let v = tensor(&x.v, problem.v_shape(), &device, F32);
        let pattern = problem.pattern.pattern();
        let full = options(&problem, &device);
        let (out, lse) =
            sparse_attention_with_lse(q.clone(), k.clone(), v.clone(), &pattern, &full);
        // Rows in steps of different length: one at a time, then three, then one again.
        let mut row = 0;
        while row < n {
            let rows = if row % 7 == 3 { 3.min(n - row) } else { 1 };
            let past = row + rows;
            let options = AttentionOptions {
                span: Some(Span::decode(rows, past)),
                ..full.clone()
            };
            let (o, l) = sparse_attention_with_lse(
                q.clone().narrow(2, row, rows),
                k.clone().narrow(2, 0, past),
                v.clone().narrow(2, 0, past),
                &pattern,
                &options,
            );
            let want = numbers(out.clone().narrow(2, row, rows));
            let error = relative_rms(&numbers(o), &want);
            assert!(error < 2e-6, "row {row}: {error:e} {problem:?}");
            let want = numbers(lse.clone().narrow(2, row, rows));
            for (l, want) in numbers(l).into_iter().zip(want) {
                assert!(l == want || (l - want).abs() < 1e-5, "lse of row {row}");
            }
            row += rows;
        }
    }
}

#[test]
fn lse_alone_has_the_right_gradients() {
    let device = Device::flex().autodiff();
    for (index, problem) in problems(100, |_| true) {
        let mut x = inputs(&problem, index);
        x.dout.fill(0.0);
        let dlse = vec![1.0; problem.lse_shape().iter().product()];
        x.dlse = Some(dlse);
        let want = oracle::attention(&problem, &x);
        let leaf =
            |data: &[f64], shape: [usize; 4]| tensor(data, shape, &device, F32).require_grad();
        let q = leaf(&x.q, problem.q_shape());
        let k = leaf(&x.k, problem.k_shape());
        let v = leaf(&x.v, problem.v_shape());
        let (_, lse) = sparse_attention_with_lse(
            q.clone(),
            k.clone(),
            v.clone(),
            &problem.pattern.pattern(),
            &options(&problem, &device),
        );
        let gradients = lse.sum().backward();
        let grad = |t: &Tensor<4>| numbers(t.grad(&gradients).expect("a gradient"));
        let got = Outputs {
            out: want.values.out.clone(),
            lse: want.values.lse.clone(),
            dq: grad(&q),
            dk: grad(&k),
            dv: grad(&v),
        };
        let errors = errors(&got, &want);
        assert!(errors.worst().1 < 1e-5, "{errors:?} {problem:?}");
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
fn scores_may_be_large() {
    // Every score is 900 or -900: exp of neither is finite or nonzero in f32.
    for sign in [1.0, -1.0] {
        let n = 50;
        let problem = Problem::new(Dilated::new(2, &[(16, 1), (64, 2)], true), n, 4);
        let mut x = inputs(&problem, 0);
        x.q.fill(sign * 30.0);
        x.k.fill(15.0);
        let want = oracle::attention(&problem, &x);
        assert!(want.values.lse.iter().all(|x| x.abs() > 890.0));
        for (name, run) in IMPLEMENTATIONS {
            let errors = errors(&run(&problem, &x), &want);
            // lse of 900 is good to 6e-5, and so is exp of it.
            assert!(errors.worst().1 < 3e-4, "{name} {errors:?}");
        }
    }
}

#[test]
fn a_sum_as_loss_and_broadcast_keys_work() {
    // The gradient of a sum, and expanded keys, have strides of zero.
    let device = Device::flex().autodiff();
    let mut problem = Problem::new(Dilated::new(3, &[(8, 1), (24, 3)], true), 41, 6);
    problem.batch = 2;
    let mut x = inputs(&problem, 0);
    x.dout.fill(1.0);
    x.dlse = None;
    let half = x.k.len() / 2;
    x.k.copy_within(..half, half);
    let want = oracle::attention(&problem, &x).values;
    let q = tensor(&x.q, problem.q_shape(), &device, F32).require_grad();
    let k = tensor(&x.k[..half], [1, 3, 41, 6], &device, F32).require_grad();
    let v = tensor(&x.v, problem.v_shape(), &device, F32).require_grad();
    let out = sparse_attention(
        q.clone(),
        k.clone().expand(problem.k_shape()),
        v.clone(),
        &problem.pattern.pattern(),
        &AttentionOptions::default(),
    );
    assert!(relative_rms(&numbers(out.clone().detach()), &want.out) < 1e-6);
    let gradients = out.sum().backward();
    let grad = |t: &Tensor<4>| numbers(t.grad(&gradients).expect("a gradient"));
    let dk: Vec<f64> = (0..half).map(|x| want.dk[x] + want.dk[half + x]).collect();
    for (got, want) in [(grad(&q), &want.dq), (grad(&k), &dk), (grad(&v), &want.dv)] {
        let error = relative_rms(&got, want);
        assert!(error < 1e-5, "{error:e}");
    }
}

#[test]
fn tensors_without_gradients_may_take_part() {
    // Only q is trained; the same under gradient checkpointing.
    let pattern = DilatedPattern::new(2, [(8, 1), (16, 2)])
        .build()
        .expect("valid");
    let problem = Problem::new(Dilated::new(2, &[(8, 1), (16, 2)], false), 20, 4);
    let x = Inputs {
        dlse: None,
        ..inputs(&problem, 0)
    };
    let want = oracle::attention(&problem, &x).values;
    for device in [
        Device::flex().autodiff(),
        Device::flex().autodiff().gradient_checkpointing(),
    ] {
        let load = |data: &[f64], shape| tensor(data, shape, &device, F32);
        let q = load(&x.q, problem.q_shape()).require_grad();
        let (k, v) = (load(&x.k, problem.k_shape()), load(&x.v, problem.v_shape()));
        let out = sparse_attention(
            q.clone(),
            k.clone(),
            v,
            &pattern,
            &AttentionOptions::default(),
        );
        let gradients = (out * load(&x.dout, problem.out_shape())).sum().backward();
        let dq = numbers(q.grad(&gradients).expect("a gradient"));
        assert!(relative_rms(&dq, &want.dq) < 1e-5);
        assert!(k.grad(&gradients).is_none());
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    // Long enough that the kernels hand work to other threads.
    for index in 0..6 {
        let problem = generate::long_problem(3, index);
        let x = inputs(&problem, index);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let y = pool.expect("a pool").install(|| kernels(&problem, &x));
            y.named().map(|(_, t)| rows(t, 1, 1, |_| true))
        };
        let one = on(1);
        assert!(one == on(2) && one == on(5), "{problem:?}");
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
