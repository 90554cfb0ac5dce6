//! Results over part of the keys or of the queries: merging, decoding, lse on its own.

use burn::tensor::{DType, Device, Tensor};
use burn_longnet::functional::{AttentionOptions, merge, sparse_attention_with_lse};
use longnet_pattern::Span;
use longnet_tests::compare::{errors, relative_rms};
use longnet_tests::implementations::{PLAIN, inputs, problems};
use longnet_tests::oracle;
use longnet_tests::problem::{Outputs, Problem};
use longnet_tests::rng::Rng;
use longnet_tests::run::{differentiate, numbers, options, tensor};

const F32: DType = DType::F32;

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
            step,
        } = problem.span;
        let cut = Rng::new(6, index).range(1, n_k - 1);
        let got = differentiate(&problem, &x, &device, F32, PLAIN, |q, k, v| {
            let part = |first: usize, length: usize| {
                let mut options = all.clone();
                options.span = Some(Span {
                    q_start,
                    n_q,
                    k_start: k_start + first * step,
                    n_k: length,
                    step,
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
            dbias: Vec::new(),
        };
        let errors = errors(&got, &want);
        assert!(errors.worst().1 < 1e-5, "{errors:?} {problem:?}");
    }
}
