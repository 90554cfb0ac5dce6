//! Burn tensors of a case.

use crate::inputs::Inputs;
use crate::number::Number;
use crate::problem::Problem;
use burn::tensor::{Device, Tensor, TensorData};

/// q, k, v and the gradient of out.
pub fn tensors<E: Number>(
    problem: &Problem,
    inputs: &Inputs<E>,
    device: &Device,
) -> [Tensor<4>; 4] {
    let (len, shape) = (problem.len(), problem.shape());
    [&inputs.q, &inputs.k, &inputs.v, &inputs.dout].map(|x| {
        let data: TensorData = E::data(&x[..len], shape);
        Tensor::from_data(data, (device, E::DTYPE))
    })
}

/// The numbers of a result; those of half precision fit f32.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data().convert::<f32>();
    data.try_to_vec().expect("f32 numbers")
}
