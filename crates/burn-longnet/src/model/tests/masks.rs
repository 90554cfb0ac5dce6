//! What a position sees.

use super::*;

#[test]
fn the_future_leaves_the_past_bit_identical_and_documents_do_not_mix() {
    let device = Device::default();
    let (tokens, _) = tokens(&device);
    let model = config().init(&device);
    let changed = tokens
        .clone()
        .slice_assign([0..2, 20..30], tokens.clone().slice([0..2, 0..10]));
    let past = |tokens: Tensor<2, Int>| model.forward(tokens).slice_dim(1, 0..20).into_data();
    assert_eq!(past(tokens.clone()), past(changed));

    let ids = Tensor::<1, Int>::arange(0..30, &device)
        .div_scalar(16)
        .unsqueeze::<2>();
    let input = |tokens| LmInput::new(tokens).documents(ids.clone().expand([2, 30]));
    let other = tokens
        .clone()
        .slice_assign([0..2, 0..16], tokens.clone().slice([0..2, 9..25]));
    let second = |tokens| {
        model
            .forward(input(tokens))
            .slice_dim(1, 16..30)
            .into_data()
    };
    assert_eq!(second(tokens.clone()), second(other));
}

#[test]
fn padding_is_as_if_it_were_not_there() {
    let device = Device::default();
    let (tokens, _) = tokens(&device);
    let model = config().with_branches(branches([(64, 1)])).init(&device);
    // Before the rest, where causality alone would not hide it.
    let position = Tensor::<1, Int>::arange(0..30, &device).unsqueeze::<2>();
    let padding = position.lower_elem(9).expand([2, 30]);
    let last = |tokens: Tensor<2, Int>| {
        let input = LmInput::new(tokens).mask_pad(padding.clone());
        model.forward(input).slice_dim(1, 9..30)
    };
    let padded = last(tokens.clone());
    let other = tokens.clone().slice_fill([0..2, 0..9], 5);
    assert_eq!(padded.clone().into_data(), last(other).into_data());
    let alone = model.forward(tokens.slice_dim(1, 9..30));
    let tolerance = Tolerance::absolute(1e-4);
    padded
        .into_data()
        .assert_approx_eq::<f32>(&alone.into_data(), tolerance);
}
