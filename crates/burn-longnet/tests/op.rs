//! The op beside dense attention in Burn's own tensor ops, with gradients by Burn's autodiff.

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData, activation};
use burn_longnet::functional::{
    AttentionOptions, Documents, merge, sparse_attention, sparse_attention_with_lse,
};
use burn_longnet::pattern::{BlockGrid, BlockMask, DilatedPattern, Pattern, Span};

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

/// A causal mask of two heads in blocks of 10 x 16 over 50 positions.
fn block_mask() -> BlockMask {
    let mask = BlockMask::new(2, BlockGrid::cross(50, 50, 10, 16)).causal(true);
    let mask = mask.build_from_fn(|head, i, j| (i + head).is_multiple_of(2) || j + 1 >= i / 2);
    mask.unwrap()
}

/// The bias of each pair, `[batch, heads, n, n]`, 0 where no block is listed.
fn spread(bias: Tensor<2>, mask: &BlockMask) -> Tensor<4> {
    let [batch, blocks] = bias.dims();
    let device = bias.device();
    let mut places = Vec::new();
    for head in 0..2 {
        for i in 0..50 {
            for j in 0..50 {
                let place = mask.bias_index(head, i / 10, j / 16);
                places.push(place.unwrap_or(blocks) as i32);
            }
        }
    }
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [5000]), &device);
    let bias = Tensor::cat(vec![bias, Tensor::zeros([batch, 1], &device)], 1);
    bias.select(1, places).reshape([batch, 2, 50, 50])
}

#[test]
fn a_bias_is_added_to_the_scores_of_its_block() {
    let device = device().autodiff();
    let mask = block_mask();
    let pattern = Pattern::from(mask.clone());
    for entries in [1, 2] {
        let leaf = |heads, d| random([2, heads, 50, d], &device).require_grad();
        let (q, k, v) = (leaf(2, 8), leaf(2, 8), leaf(2, 5));
        let bias = random([entries, mask.blocks()], &device).require_grad();
        let (w_out, w_lse) = (random([2, 2, 50, 5], &device), random([2, 2, 50], &device));
        let loss = |out: Tensor<4>, lse: Tensor<3>| {
            (out * w_out.clone()).sum() + (lse * w_lse.clone()).sum()
        };
        let scores = q.clone().matmul(k.clone().swap_dims(2, 3)) / 8f32.sqrt();
        let scores = scores + log_multiplicity(&pattern, Span::full(50), &device);
        let scores = scores + spread(bias.clone(), &mask);
        let lse_dense = scores.clone().exp().sum_dim(3).log().squeeze_dim::<3>(3);
        let out_dense = activation::softmax(scores, 3).matmul(v.clone());
        let dense = loss(out_dense.clone(), lse_dense.clone()).backward();

        let options = AttentionOptions {
            bias: Some(bias.clone()),
            ..AttentionOptions::default()
        };
        let (out, lse) =
            sparse_attention_with_lse(q.clone(), k.clone(), v.clone(), &pattern, &options);
        close(out.clone(), out_dense, "out");
        close(lse.clone(), lse_dense, "lse");
        let sparse = loss(out, lse).backward();
        for (t, what) in [(&q, "dq"), (&k, "dk"), (&v, "dv")] {
            close(t.grad(&sparse).unwrap(), t.grad(&dense).unwrap(), what);
        }
        let [a, b] = [&sparse, &dense].map(|grads| bias.grad(grads).unwrap());
        close(a, b, "dbias");
    }
}

#[test]
fn only_the_bias_may_be_trained() {
    // The scoring network of a learned pattern beside frozen projections, in half precision.
    let device = device().autodiff();
    let mask = block_mask();
    let bias = random([1, mask.blocks()], &device).require_grad();
    let draw = || random([1, 2, 50, 4], &device).cast(burn::tensor::DType::F16);
    let options = AttentionOptions {
        bias: Some(bias.clone()),
        ..AttentionOptions::default()
    };
    let out = sparse_attention(draw(), draw(), draw(), &mask.into(), &options);
    let grads = out.square().sum().backward();
    let gradient = bias.grad(&grads).unwrap();
    assert!(gradient.clone().abs().sum().into_scalar::<f32>() > 0.0);
    assert_eq!(gradient.dims(), bias.dims());
}

#[test]
#[should_panic(expected = "options.bias needs a block mask")]
fn a_dilated_pattern_refuses_a_bias() {
    let t = random([1, 2, 4, 4], &Device::flex());
    let options = AttentionOptions {
        bias: Some(Tensor::zeros([1, 1], &Device::flex())),
        ..AttentionOptions::default()
    };
    sparse_attention(t.clone(), t.clone(), t, &Pattern::dense(2, true), &options);
}

#[test]
#[should_panic(expected = "options.bias has shape [1, 3], expected [1, ")]
fn a_bias_of_another_size_is_refused() {
    let t = random([2, 2, 50, 4], &Device::flex());
    let options = AttentionOptions {
        bias: Some(Tensor::zeros([1, 3], &Device::flex())),
        ..AttentionOptions::default()
    };
    sparse_attention(t.clone(), t.clone(), t, &block_mask().into(), &options);
}

#[test]
#[should_panic(expected = "keys reach position 65, but the blocks of the mask end at 64")]
fn a_mask_shorter_than_the_sequence_is_refused() {
    let q = random([1, 2, 50, 4], &Device::flex());
    let k = random([1, 2, 65, 4], &Device::flex());
    let options = AttentionOptions::default();
    sparse_attention(q, k.clone(), k, &block_mask().into(), &options);
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
            step: 1,
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
