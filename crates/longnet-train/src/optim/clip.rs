//! The norm of the whole gradient.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// The norm of `grads` over all parameters of `model`.
pub fn norm<M: Module>(model: &M, grads: &GradientsParams) -> f64 {
    let mut squares = Squares {
        grads,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    match squares.sums.is_empty() {
        true => 0.0,
        false => {
            let sum: f64 = Tensor::cat(squares.sums, 0).sum().into_scalar();
            sum.sqrt()
        }
    }
}

/// Multiplies `grads` by `scale` and then, if `norm`, which they have after that, exceeds `max`, by what brings it to
/// `max` (0: no limit).
///
/// Burn clips each tensor for itself, which changes the direction of the step.
pub fn scale_and_clip<M: Module>(
    model: &M,
    grads: GradientsParams,
    scale: f64,
    norm: f64,
    max: f64,
) -> GradientsParams {
    let clip = if max > 0.0 && norm > max {
        max / norm
    } else {
        1.0
    };
    if scale * clip == 1.0 {
        return grads;
    }
    let mut scaled = Scale {
        grads,
        factor: scale * clip,
    };
    model.visit(&mut scaled);
    scaled.grads
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
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Two {
        a: Linear,
        b: Linear,
    }

    fn two() -> Two {
        let device = Device::default().autodiff();
        Two {
            a: LinearConfig::new(3, 2).init(&device),
            b: LinearConfig::new(2, 4).init(&device),
        }
    }

    /// Gradients that are `value` in every weight of `a` and `b`.
    fn grads(model: &Two, value: f64) -> GradientsParams {
        let sum = model.a.weight.val().sum() + model.b.weight.val().sum();
        GradientsParams::from_grads(sum.mul_scalar(value).backward(), model)
    }

    /// As a step does it, with the norm before clipping.
    fn clipped(
        grads: GradientsParams,
        model: &Two,
        scale: f64,
        max: f64,
    ) -> (GradientsParams, f64) {
        let norm = scale * norm(model, &grads);
        (scale_and_clip(model, grads, scale, norm, max), norm)
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
        let (cut, measured) = clipped(grads(&model, 3.0), &model, 1.0, 1.0);
        assert!((measured - norm).abs() < 1e-5, "{measured}");
        for layer in [&model.a, &model.b] {
            assert!((first(&cut, layer) - 3.0 / norm).abs() < 1e-6);
        }
        let (kept, _) = clipped(grads(&model, 3.0), &model, 1.0, norm + 1.0);
        assert_eq!(first(&kept, &model.a), 3.0);
        let (unlimited, _) = clipped(grads(&model, 3.0), &model, 1.0, 0.0);
        assert_eq!(first(&unlimited, &model.b), 3.0);
    }

    #[test]
    fn accumulated_gradients_are_averaged_before_they_are_clipped() {
        let model = two();
        let (averaged, measured) = clipped(grads(&model, 3.0), &model, 0.5, 100.0);
        assert!((measured - 1.5 * 14f64.sqrt()).abs() < 1e-5, "{measured}");
        assert_eq!(first(&averaged, &model.b), 1.5);
    }

    #[test]
    fn a_norm_that_is_not_finite_is_reported() {
        let model = two();
        let (_, measured) = clipped(grads(&model, f64::NAN), &model, 1.0, 1.0);
        assert!(measured.is_nan());
    }
}
