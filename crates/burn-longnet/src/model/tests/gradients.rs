//! Gradients of every parameter, in every precision.

use super::*;
use burn::module::ModuleMapper;

#[test]
fn every_parameter_learns_and_is_counted() {
    for config in configs() {
        let model = config.init(&Device::default().autodiff());
        assert_eq!(model.num_params(), config.num_params(), "{config:?}");
        let (loss, gradients) = gradients(&model, None);
        assert!((1.5..5.0).contains(&loss), "{loss}");
        let still = |gradient: &Vec<f32>| gradient.iter().all(|g| *g == 0.0);
        assert!(!gradients.iter().any(still));
    }
}

#[test]
fn a_tied_embedding_has_the_gradients_of_both_its_uses() {
    let device = Device::default().autodiff();
    let (tokens, targets) = tokens(&device);
    let model = config().with_loss_chunk(7).init(&device);
    let gradient = |loss: Tensor<1>| {
        let gradients = loss.backward();
        model.embedding.weight.grad(&gradients).unwrap()
    };
    let weight = model.embedding.weight.val().transpose();
    let hidden = model.forward_hidden(tokens.clone());
    let logits = hidden.matmul(weight.unsqueeze());
    let plain = -burn::tensor::activation::log_softmax(logits, 2)
        .gather(2, targets.clone().unsqueeze_dim(2))
        .mean();
    gradient(model.loss(tokens, targets))
        .into_data()
        .assert_approx_eq::<f32>(&gradient(plain).into_data(), Tolerance::absolute(1e-6));
}

#[test]
fn half_precision_has_a_finite_loss_and_gradients_of_its_own_dtype() {
    let (tokens, targets) = tokens(&Device::default());
    for dtype in [DType::BF16, DType::F16] {
        for config in configs() {
            for checkpointed in [false, true] {
                let model = config
                    .clone()
                    .with_checkpoint_activations(checkpointed)
                    .init(&Device::default().autodiff())
                    .map(&mut ToDtype(dtype));
                let loss = model.loss(tokens.clone(), targets.clone());
                assert_eq!(loss.dtype(), DType::F32);
                let mut seen = GradientsOf(&loss.clone().backward(), dtype, 0);
                model.visit(&mut seen);
                let loss = loss.into_scalar::<f32>();
                assert!((1.5..5.0).contains(&loss), "{loss}");
            }
        }
    }
}

/// Casts what is no embedding.
struct Layers {
    dtype: DType,
    embeddings: usize,
}

impl ModuleMapper for Layers {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.embeddings += usize::from(container_type.contains("Embedding"));
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.embeddings -= usize::from(container_type.contains("Embedding"));
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.embeddings {
            0 => ToDtype(self.dtype).map_float(param),
            _ => param,
        }
    }
}

#[test]
fn wide_embeddings_of_narrow_layers_have_wide_gradients() {
    let (tokens, targets) = tokens(&Device::default());
    let embedding = |model: &LongNetLM| {
        let gradients = model.loss(tokens.clone(), targets.clone()).backward();
        model.embedding.weight.grad(&gradients).unwrap()
    };
    for dtype in [DType::BF16, DType::F16] {
        for config in configs() {
            let model = config.init(&Device::default().autodiff());
            let (found, exact) = (
                embedding(&model.clone().map(&mut Layers {
                    dtype,
                    embeddings: 0,
                })),
                embedding(&model),
            );
            assert_eq!(found.dtype(), DType::F32);
            let off = (found - exact.clone()).square().sum() / exact.square().sum();
            let off = off.into_scalar::<f32>().sqrt();
            assert!(off < 0.05, "{off} in {dtype:?}");
        }
    }
}
