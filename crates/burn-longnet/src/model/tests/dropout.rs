//! What is dropped, and when.

use super::*;

#[test]
fn checkpointed_layers_have_the_gradients_of_plain_ones_dropout_included() {
    let device = Device::default().autodiff();
    for config in configs() {
        let config = config
            .with_dropout(0.1)
            .with_attention_dropout(0.2)
            .with_activation_dropout(0.1);
        let plain = config.init(&device);
        for layers in [None, Some(vec![1]), Some(vec![0, 2]), Some(vec![])] {
            let mut checkpointed = plain.clone();
            checkpointed.config.checkpoint_activations = true;
            checkpointed.config.checkpoint_layers = layers;
            assert_eq!(
                gradients(&plain, Some(9)),
                gradients(&checkpointed, Some(9))
            );
        }
        assert_ne!(gradients(&plain, Some(9)), gradients(&plain, Some(8)));
    }
}

#[test]
fn a_layer_without_a_seed_drops_nothing_under_autodiff_either() {
    let device = Device::default().autodiff();
    let layer = config()
        .with_dropout(0.5)
        .with_attention_dropout(0.5)
        .with_activation_dropout(0.5)
        .layer(0)
        .init(&device);
    let x = Tensor::<3>::random([1, 20, 16], Distribution::Default, &device);
    let run = |seed| {
        let context = LayerContext {
            seed,
            ..LayerContext::default()
        };
        layer.forward(x.clone(), &context).into_data()
    };
    let inner = layer
        .valid()
        .forward(x.clone().inner(), &LayerContext::default());
    assert_eq!(run(None), inner.into_data());
    assert_ne!(run(Some(1)), run(None));
}

#[test]
fn dropout_of_the_model_can_be_turned_off_under_autodiff() {
    let device = Device::default().autodiff();
    let model = config()
        .with_dropout(0.5)
        .with_attention_dropout(0.5)
        .init(&device);
    let (tokens, _) = tokens(&Device::default());
    let off = model.forward(LmInput::new(tokens.clone()).seed(DropoutSeed::Off));
    assert_eq!(
        off.into_data(),
        model.valid().forward(tokens.clone()).into_data()
    );
    let drawn = || model.forward(tokens.clone()).into_data();
    assert_ne!(drawn(), drawn());
}
