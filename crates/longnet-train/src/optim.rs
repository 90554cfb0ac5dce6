//! AdamW as the paper trains, and the norm of the whole gradient.

use crate::config::sections::Train;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use burn_longnet::optim::AdamW;

/// AdamW for `model`: matrices decay; norms, biases and embeddings do not.
pub fn optimizer<M: Module>(train: &Train, model: &M) -> ModuleOptimizer {
    let adamw = |decay: f64| {
        let [beta1, beta2, eps] = [train.beta1, train.beta2, train.eps].map(|x| x as f32);
        AdamW::new(beta1, beta2, eps, decay as f32)
    };
    let mut plain = Plain::default();
    model.visit(&mut plain);
    ModuleOptimizer::from(adamw(train.weight_decay)).with_group(
        ParamGroup::from_ids(plain.ids),
        adamw(0.0),
        None,
    )
}

/// Collects the parameters that do not decay.
#[derive(Default)]
struct Plain {
    path: Vec<String>,
    ids: Vec<ParamId>,
}

impl ModuleVisitor for Plain {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let embedding = self.path.iter().any(|part| part.contains("Embedding"));
        if D < 2 || embedding {
            self.ids.push(param.id);
        }
    }

    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.path.push(container_type.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

/// Multiplies `grads` by `scale` and then, if their norm over all parameters of `model` exceeds
/// `max`, by what brings it to `max` (0: no limit). Returns the norm before clipping.
///
/// Burn clips each tensor for itself, which changes the direction of the step.
pub fn scale_and_clip<M: Module>(
    model: &M,
    grads: GradientsParams,
    scale: f64,
    max: f64,
) -> (GradientsParams, f64) {
    let mut squares = Squares {
        grads: &grads,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    if squares.sums.is_empty() {
        return (grads, 0.0);
    }
    let norm = scale
        * Tensor::cat(squares.sums, 0)
            .sum()
            .into_scalar::<f64>()
            .sqrt();
    let clip = if max > 0.0 && norm > max {
        max / norm
    } else {
        1.0
    };
    if scale * clip == 1.0 {
        return (grads, norm);
    }
    let mut scaled = Scale {
        grads,
        factor: scale * clip,
    };
    model.visit(&mut scaled);
    (scaled.grads, norm)
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sums.push(grad.square().sum());
        }
    }
}

struct Scale {
    grads: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            self.grads.register(param.id, grad.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Module;
    use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Two {
        a: Linear,
        b: Linear,
        embedding: Embedding,
    }

    fn two() -> Two {
        let device = Device::default().autodiff();
        Two {
            a: LinearConfig::new(3, 2).init(&device),
            b: LinearConfig::new(2, 4).init(&device),
            embedding: EmbeddingConfig::new(5, 3).init(&device),
        }
    }

    /// Gradients that are `value` in every weight of `a` and `b`.
    fn grads(model: &Two, value: f64) -> GradientsParams {
        let sum = model.a.weight.val().sum() + model.b.weight.val().sum();
        GradientsParams::from_grads(sum.mul_scalar(value).backward(), model)
    }

    fn first(grads: &GradientsParams, layer: &Linear) -> f64 {
        let grad = grads.get::<2>(layer.weight.id).unwrap();
        grad.slice([0..1, 0..1]).into_scalar::<f64>()
    }

    #[test]
    fn the_norm_is_over_all_parameters_and_one_factor_clips_them_all() {
        let model = two();
        // 6 and 8 weights, each with gradient 3.
        let norm = 3.0 * 14f64.sqrt();
        let (clipped, measured) = scale_and_clip(&model, grads(&model, 3.0), 1.0, 1.0);
        assert!((measured - norm).abs() < 1e-5, "{measured}");
        for layer in [&model.a, &model.b] {
            assert!((first(&clipped, layer) - 3.0 / norm).abs() < 1e-6);
        }
        let (kept, _) = scale_and_clip(&model, grads(&model, 3.0), 1.0, norm + 1.0);
        assert_eq!(first(&kept, &model.a), 3.0);
        let (unlimited, _) = scale_and_clip(&model, grads(&model, 3.0), 1.0, 0.0);
        assert_eq!(first(&unlimited, &model.b), 3.0);
    }

    #[test]
    fn accumulated_gradients_are_averaged_before_they_are_clipped() {
        let model = two();
        let (averaged, measured) = scale_and_clip(&model, grads(&model, 3.0), 0.5, 100.0);
        assert!((measured - 1.5 * 14f64.sqrt()).abs() < 1e-5, "{measured}");
        assert_eq!(first(&averaged, &model.b), 1.5);
    }

    #[test]
    fn a_norm_that_is_not_finite_is_reported() {
        let model = two();
        let (_, measured) = scale_and_clip(&model, grads(&model, f64::NAN), 1.0, 1.0);
        assert!(measured.is_nan());
    }

    #[test]
    fn matrices_decay_and_biases_and_embeddings_do_not() {
        let model = two();
        let train = Train {
            weight_decay: 0.5,
            ..Train::default()
        };
        let mut optimizer = optimizer(&train, &model);
        // A gradient of 0 leaves decay alone to change a parameter.
        let all = model.a.weight.val().sum()
            + model.a.bias.as_ref().unwrap().val().sum()
            + model.embedding.weight.val().sum();
        let grads = GradientsParams::from_grads(all.mul_scalar(0.0).backward(), &model);
        let bias = model.a.bias.as_ref().unwrap().val().into_data();
        let (matrix, table) = (
            model.a.weight.val().into_data(),
            model.embedding.weight.val().into_data(),
        );
        let model = optimizer.step(0.1, model, grads);
        let expected = Tensor::<2>::from_data(matrix, &Device::default()).mul_scalar(0.95);
        model
            .a
            .weight
            .val()
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Default::default());
        model
            .embedding
            .weight
            .val()
            .into_data()
            .assert_eq(&table, true);
        let after = model.a.bias.as_ref().unwrap().val().into_data();
        after.assert_eq(&bias, true);
    }
}
