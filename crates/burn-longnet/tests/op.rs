//! The op beside dense attention in Burn's own tensor ops, with gradients by Burn's autodiff.

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData, activation};
use burn_longnet::functional::{
    AttentionOptions, Documents, merge, sparse_attention, sparse_attention_with_lse,
};
use burn_longnet::pattern::{DilatedPattern, Pattern, Span};

/// Flex, or with `LONGNET_TEST_DEVICE=wgpu` and the feature `wgpu` the default Vulkan device.
fn device() -> Device {
    match std::env::var("LONGNET_TEST_DEVICE").as_deref() {
        Err(_) | Ok("flex") => Device::flex(),
        #[cfg(feature = "wgpu")]
        Ok("wgpu") => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        Ok(other) => panic!("LONGNET_TEST_DEVICE={other}: not a device of this build"),
    }
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// `ln m`, as `[1, heads, n_q, n_k]`.
fn log_multiplicity(pattern: &Pattern, span: Span, device: &Device) -> Tensor<4> {
    let mut values = Vec::new();
    for head in 0..pattern.heads() {
        for i in 0..span.n_q {
            for j in 0..span.n_k {
                let m = pattern.multiplicity(head, span.q_start + i, span.k_start + j);
                values.push(if m == 0 { -1e30 } else { (m as f32).ln() });
            }
        }
    }
    let shape = [1, pattern.heads(), span.n_q, span.n_k];
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn close<const D: usize>(a: Tensor<D>, b: Tensor<D>, what: &str) {
    let (a, b) = (a.inner(), b.inner());
    let error = (a - b.clone()).square().mean().sqrt() / b.square().mean().sqrt();
    let error = error.into_scalar::<f32>();
    assert!(error < 1e-5, "{what}: relative RMS error {error:e}");
}

#[test]
fn the_op_is_dense_attention_with_log_multiplicities() {
    let device = device().autodiff();
    let span = Span::full(50);
    for causal in [false, true] {
        let pattern = DilatedPattern::new(4, [(8, 1), (64, 3), (20, 2)])
            .causal(causal)
            .build()
            .unwrap();
        let leaf = |heads, d| random([2, heads, 50, d], &device).require_grad();
        let (q, k, v) = (leaf(4, 8), leaf(2, 8), leaf(2, 5));
        let (w_out, w_lse) = (random([2, 4, 50, 5], &device), random([2, 4, 50], &device));

        let share = |t: Tensor<4>| t.unsqueeze_dim::<5>(2).repeat_dim(2, 2).flatten::<4>(1, 2);
        let scores = q.clone().matmul(share(k.clone()).swap_dims(2, 3)) / 8f32.sqrt();
        let scores = scores + log_multiplicity(&pattern, span, &device);
        let lse_dense = scores.clone().exp().sum_dim(3).log().squeeze_dim::<3>(3);
        let out_dense = activation::softmax(scores, 3).matmul(share(v.clone()));
        let loss = |out: Tensor<4>, lse: Tensor<3>| {
            (out * w_out.clone()).sum() + (lse * w_lse.clone()).sum()
        };
        let dense = loss(out_dense.clone(), lse_dense.clone()).backward();

        let (out, lse) = sparse_attention_with_lse(
            q.clone(),
            k.clone(),
            v.clone(),
            &pattern,
            &AttentionOptions::default(),
        );
        close(out.clone(), out_dense, "out");
        close(lse.clone(), lse_dense, "lse");
        let sparse = loss(out, lse).backward();
        for (t, what) in [(&q, "dq"), (&k, "dk"), (&v, "dv")] {
            close(t.grad(&sparse).unwrap(), t.grad(&dense).unwrap(), what);
        }
    }
}

#[test]
fn lse_alone_has_gradients() {
    let device = device().autodiff();
    let pattern = Pattern::dense(2, true);
    let leaf = || random([1, 2, 6, 4], &device).require_grad();
    let (q, k, v) = (leaf(), leaf(), leaf());
    let options = AttentionOptions::default();
    let (_, lse) = sparse_attention_with_lse(q.clone(), k.clone(), v.clone(), &pattern, &options);
    let grads = lse.sum().backward();
    assert!(q.grad(&grads).unwrap().abs().sum().into_scalar::<f32>() > 0.0);
    assert_eq!(
        v.grad(&grads).unwrap().abs().sum().into_scalar::<f32>(),
        0.0
    );
}

#[test]
fn documents_do_not_see_each_other() {
    let device = device();
    let pattern = DilatedPattern::new(2, [(4, 1), (16, 2)])
        .causal(true)
        .build()
        .unwrap();
    let draw = || random([1, 2, 12, 4], &device);
    let (q, k, v) = (draw(), draw(), draw());
    let ids = Tensor::<2, Int>::from_ints([[7, 7, 7, 7, 7, 9, 9, 9, 9, 9, 9, 9]], &device);
    let options = AttentionOptions {
        documents: Some(Documents::same(ids)),
        ..AttentionOptions::default()
    };
    let whole = sparse_attention(q.clone(), k.clone(), v.clone(), &pattern, &options);
    let first = |t: Tensor<4>| t.slice([0..1, 0..2, 0..5]);
    let alone = sparse_attention(
        first(q),
        first(k),
        first(v),
        &pattern,
        &AttentionOptions::default(),
    );
    close(first(whole), alone, "first document");
}

#[test]
fn merging_disjoint_keys_gives_the_whole() {
    let device = device().autodiff();
    let pattern = DilatedPattern::new(2, [(8, 1), (16, 2)])
        .causal(true)
        .build()
        .unwrap();
    let leaf = || random([1, 2, 16, 4], &device).require_grad();
    let (q, k, v) = (leaf(), leaf(), leaf());
    let options = AttentionOptions::default();
    let part = |range: std::ops::Range<usize>| {
        let span = Span {
            q_start: 0,
            n_q: 16,
            k_start: range.start,
            n_k: range.len(),
        };
        let options = AttentionOptions {
            span: Some(span),
            ..AttentionOptions::default()
        };
        let cut = |t: &Tensor<4>| t.clone().slice([0..1, 0..2, range.clone()]);
        sparse_attention_with_lse(q.clone(), cut(&k), cut(&v), &pattern, &options)
    };
    let (out, lse) = merge(part(0..5), merge(part(5..6), part(6..16)));
    let (whole, whole_lse) =
        sparse_attention_with_lse(q.clone(), k.clone(), v.clone(), &pattern, &options);
    close(out.clone(), whole.clone(), "out");
    close(lse.clone(), whole_lse.clone(), "lse");
    let w = random([1, 2, 16, 4], &device);
    let merged = ((out * w.clone()).sum() + lse.sum()).backward();
    let direct = ((whole * w).sum() + whole_lse.sum()).backward();
    for (t, what) in [(&q, "dq"), (&k, "dk"), (&v, "dv")] {
        close(t.grad(&merged).unwrap(), t.grad(&direct).unwrap(), what);
    }
}

#[test]
#[should_panic(expected = "q has 3 heads (dim 1), the pattern has 2")]
fn heads_that_differ_from_the_pattern_panic() {
    let t = random([1, 3, 4, 4], &Device::flex());
    let options = AttentionOptions::default();
    sparse_attention(t.clone(), t.clone(), t, &Pattern::dense(2, true), &options);
}
