//! AdamW in one pass: arXiv 1711.05101.

use burn::optim::{AdamW as BurnAdamW, AdamWConfig, AdamWState, LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

/// Burn's AdamW with the same results and the same state; on Flex in f32 each step is one threaded pass
/// over each parameter.
#[derive(Clone)]
pub struct AdamW {
    burn: BurnAdamW,
    #[cfg(feature = "flex")]
    numbers: Numbers,
}

#[cfg(feature = "flex")]
#[derive(Clone, Copy)]
struct Numbers {
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
    weight_decay: f32,
}

impl AdamW {
    /// AdamW with these decays of the moments, this epsilon and this weight decay.
    pub fn new(beta_1: f32, beta_2: f32, epsilon: f32, weight_decay: f32) -> Self {
        let burn = AdamWConfig::new()
            .with_beta_1(beta_1)
            .with_beta_2(beta_2)
            .with_epsilon(epsilon)
            .with_weight_decay(weight_decay);
        Self {
            burn: burn.build(),
            #[cfg(feature = "flex")]
            numbers: Numbers {
                beta_1,
                beta_2,
                epsilon,
                weight_decay,
            },
        }
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        #[cfg(feature = "flex")]
        if fused::takes(&tensor, &grad, state.as_ref()) {
            let (tensor, state) = fused::step(self.numbers, lr, tensor, grad, state);
            return (tensor, Some(state));
        }
        self.burn.step(lr, tensor, grad, state)
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        BurnAdamW::to_device(state, device)
    }
}

#[cfg(feature = "flex")]
mod fused {
    use super::Numbers;
    use crate::rowwise::host;
    use burn::optim::{AdamWState, AdaptiveMomentumState, LearningRate};
    use burn::tensor::Tensor;
    use longnet_cpu::rowwise::{AdamW, adamw};

    pub fn takes<const D: usize>(
        tensor: &Tensor<D>,
        grad: &Tensor<D>,
        state: Option<&AdamWState<D>>,
    ) -> bool {
        let moments = state.map(|state| &state.momentum);
        // Under autodiff a step is Burn's to record.
        !tensor.is_autodiff()
            && [tensor, grad].into_iter().all(host::holds)
            && moments.is_none_or(|m| {
                m.max_moment_2.is_none() && [&m.moment_1, &m.moment_2].into_iter().all(host::holds)
            })
    }

    pub fn step<const D: usize>(
        numbers: Numbers,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, AdamWState<D>) {
        let mut state = match state {
            Some(state) => state.momentum,
            None => AdaptiveMomentumState::new(0, tensor.zeros_like(), tensor.zeros_like()),
        };
        state.time += 1;
        // In Burn's order and precision, for Burn's bits.
        let step = AdamW {
            lr: lr as f32,
            beta1: numbers.beta_1,
            beta2: numbers.beta_2,
            epsilon: numbers.epsilon,
            keep: (1.0 - lr * numbers.weight_decay as f64) as f32,
            correction1: 1.0 - numbers.beta_1.powi(state.time as i32),
            correction2: 1.0 - numbers.beta_2.powi(state.time as i32),
        };
        let grad = host::Read::new(grad.inner());
        let (tensor, (moment_1, moment_2)) = host::changed(tensor, |p| {
            let (moment_1, moment_2) = host::changed(state.moment_1, |m| {
                host::changed(state.moment_2, |v| adamw(step, p, grad.slice(), m, v)).0
            });
            (moment_1, moment_2)
        });
        let momentum = AdaptiveMomentumState::new(state.time, moment_1, moment_2);
        (tensor, AdamWState::new(momentum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Distribution};

    fn same<const D: usize>(ours: &Tensor<D>, burn: &Tensor<D>) {
        ours.to_data().assert_eq(&burn.to_data(), true);
    }

    #[test]
    fn steps_and_states_are_burn_s_bit_for_bit() {
        let device = Device::default();
        let random = |shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        for (shape, weight_decay, dtype) in [
            ([1, 1], 0.0, DType::F32),
            ([7, 5], 0.1, DType::F32),
            ([130, 257], 0.05, DType::F32),
            ([7, 5], 0.1, DType::F64),
            ([7, 5], 0.1, DType::BF16),
        ] {
            let ours = AdamW::new(0.9, 0.98, 1e-8, weight_decay);
            let start = random(shape).cast(dtype);
            let (mut a, mut b) = (start.clone(), start.clone());
            let (mut state_a, mut state_b) = (None, None);
            for _ in 0..4 {
                // Shared and transposed, as gradients may be.
                let grad = random([shape[1], shape[0]]).cast(dtype).transpose();
                (a, state_a) = ours.step(0.01, a, grad.clone(), state_a);
                (b, state_b) = ours.burn.step(0.01, b, grad, state_b);
                same(&a, &b);
                let (m, n) = (
                    &state_a.as_ref().unwrap().momentum,
                    &state_b.as_ref().unwrap().momentum,
                );
                assert_eq!(m.time, n.time);
                same(&m.moment_1, &n.moment_1);
                same(&m.moment_2, &n.moment_2);
            }
            assert_ne!(start.to_data(), a.to_data());
        }
    }
}
