//! Layer normalisation: arXiv 1607.06450.

use crate::precision::wide;
#[cfg(feature = "flex")]
use crate::rowwise::host;
use crate::vjp::Inputs;
use burn::backend::DispatchTensor;
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, FloatDType, Tensor, assert_shape};
#[cfg(feature = "flex")]
use longnet_cpu::rowwise;

/// Configuration of [`LayerNorm`].
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// The size of the last axis.
    pub d_model: usize,
    /// Added to the variance. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
}

/// Burn's `LayerNorm`, with a gradient written by hand: it keeps its input alone, where Burn's keeps
/// the results of each of its steps.
///
/// Should be created with [LayerNormConfig].
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// The factor, `[d_model]`.
    pub gamma: Param<Tensor<1>>,
    /// The summand, `[d_model]`.
    pub beta: Option<Param<Tensor<1>>>,
    epsilon: f64,
}

impl LayerNormConfig {
    /// Initialize a new [layer norm](LayerNorm).
    pub fn init(&self, device: &Device) -> LayerNorm {
        LayerNorm {
            gamma: Initializer::Ones.init([self.d_model], device),
            beta: Some(Initializer::Zeros.init([self.d_model], device)),
            epsilon: self.epsilon,
        }
    }
}

impl LayerNorm {
    /// Normalises the last axis; in f32 for f16 and bf16.
    ///
    /// # Shapes
    ///
    /// - x, output: `[..., d_model]`
    ///
    /// # Panics
    ///
    /// If the last axis of `x` is not `d_model`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let gamma = self.gamma.val();
        let [d_model] = gamma.dims();
        assert_shape!(x, [.., d_model]);
        let beta = self.beta.as_ref().map(|beta| beta.val());
        let mut inputs = Inputs::new(&x.device());
        inputs.push(x.clone());
        inputs.push(gamma.clone());
        if let Some(beta) = &beta {
            inputs.push(beta.clone());
        }
        let step = Step {
            x: x.inner(),
            gamma: gamma.inner(),
            beta: beta.as_ref().map(|beta| beta.dtype().into()),
            epsilon: self.epsilon,
        };
        let y = step.forward(beta.map(Tensor::inner));
        inputs.finish(y, move |dy| step.backward(dy))
    }
}

/// One normalisation, without autodiff.
struct Step<const D: usize> {
    x: Tensor<D>,
    gamma: Tensor<1>,
    /// The dtype of beta, if there is one.
    beta: Option<FloatDType>,
    epsilon: f64,
}

impl<const D: usize> Step<D> {
    fn dtype(&self) -> FloatDType {
        self.x.dtype().into()
    }

    /// Whether one pass of [`longnet_cpu`] does it.
    #[cfg(feature = "flex")]
    fn is_fused(&self) -> bool {
        host::holds(&self.x) && host::holds(&self.gamma)
    }

    #[cfg(feature = "flex")]
    fn slices(&self) -> (host::Read, host::Read) {
        let read = (self.x.clone(), self.gamma.clone());
        (host::Read::new(read.0), host::Read::new(read.1))
    }

    fn forward(&self, beta: Option<Tensor<1>>) -> Tensor<D> {
        #[cfg(feature = "flex")]
        if self.is_fused() && beta.as_ref().is_none_or(host::holds) {
            let beta = beta.map(host::Read::new);
            let beta = beta.as_ref().map_or(&[][..], |beta| beta.slice());
            let (x, gamma) = self.slices();
            let y = rowwise::layer_norm(x.slice(), gamma.slice(), beta, self.epsilon as f32);
            return host::tensor(y, self.x.dims());
        }
        let wide = wide(self.x.dtype());
        let (x, gamma) = (self.x.clone().cast(wide), self.gamma.clone().cast(wide));
        let beta = beta.map(|beta| beta.cast(wide));
        layer_norm(x, gamma, beta, self.epsilon).cast(self.dtype())
    }

    /// With `n = (x - mean) / std` and `g = gamma dy`: `dx = (g - mean(g) - n mean(g n)) / std`.
    fn backward(self, dy: Tensor<D>) -> Vec<Option<DispatchTensor>> {
        #[cfg(feature = "flex")]
        if self.is_fused() && host::holds(&dy) {
            let (x, gamma) = self.slices();
            let (dx, (dgamma, dbeta)) = host::changed(dy, |dy| {
                rowwise::layer_norm_backward(dy, x.slice(), gamma.slice(), self.epsilon as f32)
            });
            let vector = |v: Vec<f32>, dtype| host::tensor(v, self.gamma.dims()).cast(dtype);
            let mut all = vec![
                Some(dx.into_dispatch()),
                Some(vector(dgamma, FloatDType::F32).into_dispatch()),
            ];
            all.extend(
                self.beta
                    .map(|dtype| Some(vector(dbeta, dtype).into_dispatch())),
            );
            return all;
        }
        let (wide, narrow, last) = (wide(self.x.dtype()), self.dtype(), D - 1);
        let shape = self.x.dims();
        let width = shape[last];
        let rows = [self.x.shape().num_elements() / width.max(1), width];
        let dy = dy.cast(wide).reshape(rows);
        let x = self.x.cast(wide).reshape(rows);

        let centred = x.clone() - x.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let inverse = variance.add_scalar(self.epsilon).sqrt().recip();
        let normal = centred * inverse.clone();

        let dgamma = (dy.clone() * normal.clone()).sum_dim(0).squeeze_dim::<1>(0);
        let dgamma = dgamma.cast(FloatDType::from(self.gamma.dtype()));
        let dbeta = self
            .beta
            .map(|dtype| dy.clone().sum_dim(0).squeeze_dim::<1>(0).cast(dtype));
        let g = dy * self.gamma.cast(wide).unsqueeze();
        let along = (g.clone() * normal.clone()).mean_dim(1);
        let dx = (g.clone() - g.mean_dim(1) - normal * along) * inverse;

        let mut all = vec![
            Some(dx.reshape(shape).cast(narrow).into_dispatch()),
            Some(dgamma.into_dispatch()),
        ];
        all.extend(dbeta.map(|dbeta| Some(dbeta.into_dispatch())));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LayerNormConfig as BurnConfig;
    use burn::tensor::{DType, Distribution, Tolerance};

    fn close<const D: usize>(a: Tensor<D>, b: Tensor<D>) {
        a.into_data()
            .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn values_and_gradients_are_burns() {
        let device = Device::default().autodiff();
        let random =
            |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Normal(0.5, 2.0), &device);
        for has_beta in [true, false] {
            let burn = BurnConfig::new(7).with_bias(has_beta).init(&device);
            let mut ours = LayerNormConfig::new(7).init(&device);
            ours.gamma = Param::from_tensor(random([1, 1, 7]).reshape([7]));
            ours.beta = has_beta.then(|| Param::from_tensor(random([1, 1, 7]).reshape([7])));
            let burn = burn.load_record(ours.clone().into_record());
            let (x, dy) = (random([2, 5, 7]).require_grad(), random([2, 5, 7]));
            let (a, b) = (ours.forward(x.clone()), burn.forward(x.clone()));
            close(a.clone().inner(), b.clone().inner());
            let a = (a * dy.clone()).sum().backward();
            let b = (b * dy).sum().backward();
            close(x.grad(&a).unwrap(), x.grad(&b).unwrap());
            close(ours.gamma.grad(&a).unwrap(), burn.gamma.grad(&b).unwrap());
            if let (Some(ours), Some(burn)) = (&ours.beta, &burn.beta) {
                close(ours.grad(&a).unwrap(), burn.grad(&b).unwrap());
            }
        }
    }

    #[test]
    fn each_gradient_has_the_dtype_of_its_tensor() {
        let device = Device::default().autodiff();
        let norm = LayerNormConfig::new(6).init(&device);
        let x = Tensor::<2>::random([3, 6], Distribution::Default, &device)
            .cast(DType::BF16)
            .detach()
            .require_grad();
        let gradients = norm.forward(x.clone()).sum().backward();
        assert_eq!(x.grad(&gradients).unwrap().dtype(), DType::BF16);
        for param in [&norm.gamma, norm.beta.as_ref().unwrap()] {
            assert_eq!(param.grad(&gradients).unwrap().dtype(), DType::F32);
        }
    }
}
