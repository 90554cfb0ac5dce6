//! GELU after a projection.

use burn::tensor::{Tensor, activation::gelu};

/// The exact GELU of `x + bias`.
///
/// # Shapes
///
/// - x, output: `[..., d]`
/// - bias: `[d]`
pub(crate) fn gelu_of_sum<const D: usize>(x: Tensor<D>, bias: Option<Tensor<1>>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::host::holds(&x)
        && bias
            .as_ref()
            .is_none_or(|bias| bias.dims() == [x.dims()[D - 1]] && super::host::holds(bias))
    {
        return fused(x, bias);
    }
    match bias {
        Some(bias) => gelu(x + bias.unsqueeze()),
        None => gelu(x),
    }
}

/// Keeps `x` alone.
#[cfg(feature = "flex")]
fn fused<const D: usize>(x: Tensor<D>, bias: Option<Tensor<1>>) -> Tensor<D> {
    use super::host;
    use longnet_cpu::rowwise;

    let mut inputs = crate::vjp::Inputs::new(&x.device());
    inputs.push(x.clone());
    if let Some(bias) = &bias {
        inputs.push(bias.clone());
    }
    let shape = x.dims();
    let width = shape[D - 1];
    let has_bias = bias.is_some();
    let bias = match bias {
        Some(bias) => host::Read::new(bias.inner()),
        None => host::Read::new(host::tensor(vec![0.0; width], [width])),
    };
    let x = host::Read::new(x.inner());
    let y = host::tensor(rowwise::gelu(x.slice(), bias.slice()), shape);
    inputs.finish(y, move |dy| {
        let (dx, dbias) =
            host::changed(dy, |dy| rowwise::gelu_backward(dy, x.slice(), bias.slice()));
        let mut all = vec![Some(dx.into_dispatch())];
        if has_bias {
            all.push(Some(host::tensor(dbias, [width]).into_dispatch()));
        }
        all
    })
}
