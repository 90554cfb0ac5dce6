//! What a module is told reaches the op.

use super::*;

/// The module's own projections around the op, told `options` directly.
fn by_hand(
    module: &MultiHeadDilatedAttention,
    x: Tensor<3>,
    options: &AttentionOptions,
) -> Tensor<3> {
    let [batch, n, d_model] = x.dims();
    let [q, k, v] = [&module.query, &module.key, &module.value].map(|projection| {
        let x = projection.as_ref().unwrap().forward(x.clone());
        x.reshape([batch, n, 4, d_model / 4]).swap_dims(1, 2)
    });
    let context = sparse_attention(q, k, v, module.pattern(), options);
    let context = context.swap_dims(1, 2).reshape([batch, n, d_model]);
    module.output.forward(context)
}

#[test]
fn scale_and_tail_reach_the_op() {
    let x = random([2, 21, 24]);
    let plain = AttentionOptions::default();
    let scaled = AttentionOptions {
        scale: Some(0.9),
        ..AttentionOptions::default()
    };
    for (changed, options, tail) in [
        (config().with_scale(Some(0.9)), &scaled, Tail::Masked),
        (config().with_tail(Tail::ZeroKeys), &plain, Tail::ZeroKeys),
    ] {
        let module = changed.init(&Device::default());
        assert_eq!(
            module.pattern().schedule(Span::full(21)).unwrap().tail(),
            tail
        );
        let context = module.forward(MhaInput::self_attn(x.clone())).context;
        assert_close(context.clone(), by_hand(&module, x.clone(), options));
        let default = config().init(&Device::default());
        let default = default.load_record(module.into_record());
        let other = default.forward(MhaInput::self_attn(x.clone())).context;
        assert!((context - other).abs().max().into_scalar::<f32>() > 1e-3);
    }
}

#[test]
fn the_gradient_of_the_mix_reaches_the_op() {
    let device = Device::default().autodiff();
    let exact = config().init(&device);
    let detached = config().with_gradient(MixGradient::Detached).init(&device);
    let detached = detached.load_record(exact.clone().into_record());
    let x = Tensor::from_inner(random([2, 20, 24])).require_grad();
    let gradient = |y: Tensor<3>| x.grad(&y.powi_scalar(2).sum().backward()).unwrap();
    let options = |gradient| AttentionOptions {
        gradient,
        ..AttentionOptions::default()
    };
    let of = |module: &MultiHeadDilatedAttention| {
        let input = MhaInput::self_attn(x.clone()).seed(DropoutSeed::Off);
        gradient(module.forward(input).context)
    };
    for (module, kind) in [
        (&exact, MixGradient::Exact),
        (&detached, MixGradient::Detached),
    ] {
        let expected = gradient(by_hand(module, x.clone(), &options(kind)));
        assert_close(of(module), expected);
    }
    let apart = (of(&exact) - of(&detached)).abs().max();
    assert!(apart.into_scalar::<f32>() > 1e-3);
}

#[test]
fn documents_are_as_if_each_were_alone() {
    let device = Device::default();
    let module = config().with_branches(branches([(64, 1)])).init(&device);
    let x = random([1, 20, 24]);
    let ids = Tensor::<1, Int>::arange(0..20, &device)
        .greater_equal_elem(13)
        .int();
    let input = MhaInput::self_attn(x.clone()).documents(Documents::same(ids.unsqueeze()));
    let alone = [0..13, 13..20].map(|part| {
        let x = x.clone().slice_dim(1, part);
        module.forward(MhaInput::self_attn(x)).context
    });
    assert_close(
        module.forward(input).context,
        Tensor::cat(alone.to_vec(), 1),
    );
}
