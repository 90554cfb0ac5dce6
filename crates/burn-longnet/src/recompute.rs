//! Activation checkpointing: a module whose activations are not kept but computed again in the
//! backward pass (Chen et al., 2016, arXiv 1604.06174).

use crate::dropout::without_drawing;
use crate::vjp::Inputs;
use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

/// `forward(module, x)`, of which only `x` and the output are kept until the backward pass.
///
/// The backward pass runs `forward` a second time, with gradients, and is otherwise that of
/// `forward(module, x)`, bit for bit. Without a gradient to compute it *is* `forward(module, x)`.
///
/// `forward` must be a function of its two arguments and of constants: what it draws at random would be
/// drawn anew. Of Burn's `Dropout` this goes unnoticed; this crate's needs a seed.
///
/// # Panics
///
/// If `forward` captures a tensor that needs gradients, which they would not reach, or if dropout of
/// this crate in it has no seed.
pub fn recompute<M, const D: usize, const E: usize>(
    module: &M,
    x: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<E> + Send + 'static,
) -> Tensor<E>
where
    M: Module + 'static,
{
    let mut inputs = Inputs::new(&x.device());
    inputs.push(x.clone());
    module.visit(&mut Anchored(&mut inputs));
    if !inputs.is_tracked() {
        return forward(module, x);
    }
    // Untracked, but under autodiff all the same: there some operations take another path, and
    // both passes must take the same one.
    let constant = x.clone().detach().set_require_grad(false);
    let y = without_drawing(|| forward(&module.clone().no_grad(), constant));
    assert!(
        !y.is_tracked(),
        "the recomputed function captures a tensor that needs gradients; make it part of the module or of x"
    );
    let y = y.inner();
    let (module, x) = (module.valid(), x.inner());
    inputs.finish(y, move |dy| {
        let (module, x) = (module.train(), x.autodiff().require_grad());
        let y = forward(&module, x.clone());
        let mut gradients = (y * dy.autodiff()).sum().backward();
        let dx = x.grad_remove(&mut gradients).map(Tensor::into_dispatch);
        let mut collected = Collected {
            gradients,
            found: vec![Some(
                dx.unwrap_or_else(|| x.inner().zeros_like().into_dispatch()),
            )],
        };
        module.visit(&mut collected);
        collected.found
    })
}

struct Anchored<'a>(&'a mut Inputs);

impl ModuleVisitor for Anchored<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.base());
    }
}

struct Collected {
    gradients: Gradients,
    found: Vec<Option<DispatchTensor>>,
}

impl ModuleVisitor for Collected {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.base().grad_remove(&mut self.gradients);
        self.found.push(gradient.map(Tensor::into_dispatch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
    use burn::tensor::{Device, Distribution};
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Module, Debug)]
    struct Layer {
        norm: LayerNorm,
        inner: Linear,
        outer: Linear,
    }

    impl Layer {
        fn new(device: &Device) -> Self {
            Self {
                norm: LayerNormConfig::new(6).init(device),
                inner: LinearConfig::new(6, 10).init(device),
                outer: LinearConfig::new(10, 6).with_bias(false).init(device),
            }
        }

        fn forward(&self, x: Tensor<3>) -> Tensor<3> {
            let y = self.inner.forward(self.norm.forward(x.clone()));
            x + self.outer.forward(burn::tensor::activation::gelu(y))
        }
    }

    struct AllGradients<'a>(&'a Gradients, Vec<Option<Vec<f32>>>);

    impl ModuleVisitor for AllGradients<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.base().grad(self.0);
            self.1
                .push(gradient.map(|g| g.into_data().try_to_vec().unwrap()));
        }
    }

    fn gradients(
        layers: &[Layer],
        x: &Tensor<3>,
        through: impl Fn(&Layer, Tensor<3>) -> Tensor<3>,
    ) -> Vec<Option<Vec<f32>>> {
        let y = layers.iter().fold(x.clone(), |x, layer| through(layer, x));
        let gradients = y.powi_scalar(2).sum().backward();
        let dx = x
            .grad(&gradients)
            .map(|g| g.into_data().try_to_vec().unwrap());
        let mut all = AllGradients(&gradients, vec![dx]);
        for layer in layers {
            layer.visit(&mut all);
        }
        all.1
    }

    #[test]
    fn gradients_are_those_of_the_plain_module_bit_for_bit() {
        let device = Device::default().autodiff();
        let mut layers: Vec<_> = (0..3).map(|_| Layer::new(&device)).collect();
        layers[1].outer = layers[1].outer.clone().no_grad();
        let input = Tensor::<3>::random([2, 5, 6], Distribution::Default, &device);
        for x in [input.clone().require_grad(), input] {
            let plain = gradients(&layers, &x, Layer::forward);
            let checkpointed =
                gradients(&layers, &x, |layer, x| recompute(layer, x, Layer::forward));
            assert_eq!(plain, checkpointed);
            assert_eq!(plain[0].is_some(), x.is_require_grad());
            assert_eq!(plain.iter().skip(1).filter(|g| g.is_none()).count(), 1);
        }
    }

    static ALIVE: AtomicUsize = AtomicUsize::new(0);

    struct Saved;

    impl Saved {
        fn new() -> Self {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            Self
        }
    }

    impl Drop for Saved {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A layer whose output keeps one [`Saved`] for the backward pass.
    fn saving(layer: &Layer, x: Tensor<3>) -> Tensor<3> {
        let x = layer.forward(x);
        let mut inputs = Inputs::new(&x.device());
        inputs.push(x.clone());
        let saved = Saved::new();
        inputs.finish(x.inner(), move |dy| {
            drop(saved);
            vec![Some(dy.into_dispatch())]
        })
    }

    #[test]
    fn nothing_that_the_module_saves_outlives_the_forward_pass() {
        let device = Device::default().autodiff();
        let layers: Vec<_> = (0..4).map(|_| Layer::new(&device)).collect();
        let x = Tensor::<3>::ones([2, 5, 6], &device).require_grad();
        let alive_after_forward = |through: fn(&Layer, Tensor<3>) -> Tensor<3>| {
            let y = layers.iter().fold(x.clone(), |x, layer| through(layer, x));
            let alive = ALIVE.load(Ordering::SeqCst);
            y.sum().backward();
            assert_eq!(ALIVE.load(Ordering::SeqCst), 0);
            alive
        };
        assert_eq!(alive_after_forward(saving), 4);
        assert_eq!(
            alive_after_forward(|layer, x| recompute(layer, x, saving)),
            0
        );
    }

    #[test]
    #[should_panic(expected = "captures a tensor that needs gradients")]
    fn a_captured_tensor_that_needs_gradients_is_refused() {
        let device = Device::default().autodiff();
        let layer = Layer::new(&device);
        let x = Tensor::<3>::ones([2, 5, 6], &device);
        let scale = Tensor::<1>::ones([6], &device).require_grad();
        recompute(&layer, x, move |layer: &Layer, x| {
            layer.forward(x) * scale.clone().unsqueeze()
        });
    }

    #[test]
    #[should_panic(expected = "dropout without a seed in a recomputed function")]
    fn dropout_that_would_draw_another_mask_is_refused() {
        use crate::attention::{MhaInput, MultiHeadDilatedAttentionConfig};
        let device = Device::default().autodiff();
        let attention = MultiHeadDilatedAttentionConfig::new(6, 2)
            .with_dropout(0.5)
            .init(&device);
        let x = Tensor::<3>::ones([1, 5, 6], &device).require_grad();
        // With a seed it goes through, and leaves later calls free to draw.
        let seeded = recompute(&attention, x.clone(), |attention, x| {
            attention.forward(MhaInput::self_attn(x).seed(3)).context
        });
        seeded.sum().backward();
        attention.forward(MhaInput::self_attn(x.clone()));
        recompute(&attention, x, |attention, x| {
            attention.forward(MhaInput::self_attn(x)).context
        });
    }
}
