//! A running average of the weights.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn_longnet::model::LongNetLM;

/// The exponential moving average of a model's weights, in their own precision.
///
/// The decay rate begins low, `(1 + step) / (10 + step)`, since the first weights are random, and it is a
/// function of the step alone, so that a resumed run needs nothing but the weights.
pub struct Average {
    /// Taken while the next one is made.
    lm: Option<LongNetLM>,
    decay: f64,
}

const BETWEEN_STEPS: &str = "there is an average between steps";

impl Average {
    /// Of `lm` alone; or `lm` is an average, to go on with.
    pub fn new(lm: &LongNetLM, decay: f64) -> Self {
        Self {
            lm: Some(lm.valid()),
            decay,
        }
    }

    /// The averaged model, for inference.
    pub fn lm(&self) -> &LongNetLM {
        self.lm.as_ref().expect(BETWEEN_STEPS)
    }

    /// Moves towards `lm`, the model after `step` steps.
    pub fn update(&mut self, lm: &LongNetLM, step: usize) {
        let step = step as f64;
        let decay = self.decay.min((1.0 + step) / (10.0 + step));
        let mut weights = Weights::default();
        lm.visit(&mut weights);
        let average = self.lm.take().expect(BETWEEN_STEPS);
        self.lm = Some(average.map(&mut Towards {
            weights: weights.0,
            share: 1.0 - decay,
        }));
    }
}

/// Collects weights by parameter; Burn's container for that is named after gradients.
#[derive(Default)]
struct Weights(GradientsParams);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val().inner());
    }
}

struct Towards {
    weights: GradientsParams,
    share: f64,
}

impl ModuleMapper for Towards {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let weights = self.weights.remove::<D>(param.id);
        let weights = weights.expect("the average has the parameters of the model");
        let share = self.share;
        // Not a weighted sum of both: what does not change must stay what it is.
        param.map(|average| average.clone() + (weights - average) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use burn_longnet::attention::branches;
    use burn_longnet::model::LongNetLMConfig;

    struct Set(f64);

    impl ModuleMapper for Set {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = self.0;
            param.map(|x| {
                let requires = x.is_require_grad();
                (x.detach() * 0.0 + value)
                    .detach()
                    .set_require_grad(requires)
            })
        }
    }

    fn first(lm: &LongNetLM) -> f64 {
        let weight = lm.embedding.weight.val();
        weight.slice([0..1, 0..1]).into_scalar()
    }

    #[test]
    fn the_average_follows_slowly_and_begins_fast() {
        let device = Device::default().autodiff();
        let lm = LongNetLMConfig::new(5, 8, 1, 2)
            .with_branches(branches([(8, 1)]))
            .init(&device);
        let at = |value| lm.clone().map(&mut Set(value));
        let mut average = Average::new(&at(1.0), 0.9);
        average.update(&at(2.0), 1);
        let mut expected = 1.0 + (2.0 - 1.0) * (1.0 - 2.0 / 11.0);
        assert!((first(average.lm()) - expected).abs() < 1e-6);
        average.update(&at(3.0), 1000);
        expected += (3.0 - expected) * 0.1;
        assert!((first(average.lm()) - expected).abs() < 1e-6);
        assert!(!average.lm().embedding.weight.val().is_autodiff());
    }

    #[test]
    fn weights_that_stay_have_themselves_as_average() {
        let device = Device::default().autodiff();
        let lm = LongNetLMConfig::new(5, 8, 1, 2)
            .with_branches(branches([(8, 1)]))
            .init(&device);
        let mut average = Average::new(&lm, 0.999);
        for step in 1..5 {
            average.update(&lm, step);
        }
        struct All(Vec<TensorData>);
        impl ModuleVisitor for All {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.push(param.val().into_data());
            }
        }
        let all = |lm: &LongNetLM| {
            let mut all = All(Vec::new());
            lm.visit(&mut all);
            all.0
        };
        assert_eq!(all(average.lm()), all(&lm));
        assert!(!all(&lm).is_empty());
    }
}
