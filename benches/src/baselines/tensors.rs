//! Burn tensors of a case.

use crate::inputs::Inputs;
use crate::problem::Problem;
use burn::tensor::{Device, Tensor, TensorData};

/// q, k, v and the gradient of out.
pub fn tensors(problem: &Problem, inputs: &Inputs<f32>, device: &Device) -> [Tensor<4>; 4] {
    let (len, shape) = (problem.len(), problem.shape());
    [&inputs.q, &inputs.k, &inputs.v, &inputs.dout].map(|x| {
        let data = TensorData::new(x[..len].to_vec(), shape);
        Tensor::from_data(data, device)
    })
}

/// The numbers of a result.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.into_data();
    data.try_to_vec().expect("f32 numbers")
}
