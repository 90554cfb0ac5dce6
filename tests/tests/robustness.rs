//! Unusual strides, scores, graphs and thread counts.

use burn::tensor::{DType, Device, Tensor};
use burn_longnet::functional::{AttentionOptions, sparse_attention};
use longnet_pattern::DilatedPattern;
use longnet_tests::compare::{errors, relative_rms};
use longnet_tests::dilated::Dilated;
use longnet_tests::implementations::{IMPLEMENTATIONS, bits, inputs, kernels};
use longnet_tests::problem::{Inputs, Problem};
use longnet_tests::run::{numbers, tensor};
use longnet_tests::{generate, oracle};

const F32: DType = DType::F32;

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
fn detached_gradients_are_finite_at_any_lse() {
    // exp(-lse), which zero keys are weighed with, overflows near -88.7 in f32 and from there on.
    for score in [60.0, 80.0, 88.0, 89.2, 120.0, 300.0] {
        let mut problem = Problem::new(Dilated::new(1, &[(4, 1), (8, 1)], true), 8, 1);
        (problem.scale, problem.detached) = (Some(1.0), true);
        let mut x = inputs(&problem, 0);
        x.q.fill(-score);
        x.k.fill(1.0);
        let want = oracle::attention(&problem, &x);
        for (name, run) in IMPLEMENTATIONS {
            let errors = errors(&run(&problem, &x), &want);
            assert!(errors.worst().1 < 3e-4, "{name}, {score}: {errors:?}");
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
            y.named().map(|(_, t)| bits(t, 1, 1, |_| true))
        };
        let one = on(1);
        assert!(one == on(2) && one == on(5), "{problem:?}");
    }
}
