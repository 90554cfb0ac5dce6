//! The linear projection.

use burn::nn::Linear;
use burn::tensor::{Tensor, module};

/// `x · weight + bias`, as [`Linear`]'s forward pass.
pub(crate) fn project<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    linear(x, layer.weight.val(), bias)
}

/// `a · b`, both without autodiff.
pub(crate) fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if a.dims()[1] == b.dims()[0] && super::host::holds(&a) && super::host::holds(&b) {
        return super::host::matmul(a, b);
    }
    a.matmul(b)
}

/// `x · weight + bias`.
///
/// # Shapes
///
/// - x: `[..., d_in]`
/// - weight: `[d_in, d_out]`
/// - bias: `[d_out]`
/// - output: `[..., d_out]`
pub(crate) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if fused::takes(&x, &weight, bias.as_ref()) {
        return fused::linear(x, weight, bias);
    }
    module::linear(x, weight, bias)
}

#[cfg(feature = "flex")]
mod fused {
    use super::super::host;
    use crate::vjp::Inputs;
    use burn::tensor::Tensor;
    use longnet_cpu::rowwise;

    pub fn takes<const D: usize>(
        x: &Tensor<D>,
        weight: &Tensor<2>,
        bias: Option<&Tensor<1>>,
    ) -> bool {
        let [d_in, d_out] = weight.dims();
        let fits = x.dims()[D - 1] == d_in && bias.is_none_or(|bias| bias.dims() == [d_out]);
        fits && host::holds(x) && host::holds(weight) && bias.is_none_or(host::holds)
    }

    pub fn linear<const D: usize>(
        x: Tensor<D>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<D> {
        let mut inputs = Inputs::new(&x.device());
        inputs.push(x.clone());
        inputs.push(weight.clone());
        if let Some(bias) = &bias {
            inputs.push(bias.clone());
        }
        let [d_in, d_out] = weight.dims();
        let shape = x.dims();
        let rows = shape[..D - 1].iter().product();
        let mut shape_out = shape;
        shape_out[D - 1] = d_out;
        let needed = [x.is_tracked(), weight.is_tracked()];

        let (x, weight) = (host::reshape(x.inner(), [rows, d_in]), weight.inner());
        let product = host::matmul(x.clone(), weight.clone());
        let has_bias = bias.is_some();
        let y = match bias {
            Some(bias) => {
                let bias = host::Read::new(bias.inner());
                host::changed(product, |y| rowwise::add_row(y, bias.slice())).0
            }
            None => product,
        };
        inputs.finish(host::reshape(y, shape_out), move |dy| {
            let dy = host::reshape(dy, [rows, d_out]);
            let dx = || {
                let dx = host::matmul(dy.clone(), weight.transpose());
                host::reshape(dx, shape).into_dispatch()
            };
            let dweight = || host::matmul(x.transpose(), dy.clone()).into_dispatch();
            let mut all = vec![needed[0].then(dx), needed[1].then(dweight)];
            if has_bias {
                let dbias = rowwise::sum_rows(host::Read::new(dy).slice(), d_out);
                all.push(Some(host::tensor(dbias, [d_out]).into_dispatch()));
            }
            all
        })
    }
}
