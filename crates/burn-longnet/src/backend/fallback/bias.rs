//! The bias of the blocks of a mask.

use super::branch::Inputs;
use super::tensors::{LOW, from_i32};
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, get_device_settings};
use burn::tensor::Shape;

/// What is added to the scores of each run, and where that came from.
pub struct BlockBias<B: Backend> {
    /// `[1 or batch, heads, runs, 1, 1]`.
    pub values: FloatTensor<B>,
    /// The run of each listed block, one past the last for blocks outside of the span.
    runs: IntTensor<B>,
}

impl<B: Backend> BlockBias<B> {
    /// `places`: of each head its runs' places in the bias.
    pub fn new(
        inputs: &Inputs<'_, B>,
        places: &[Vec<usize>],
        [heads, count]: [usize; 2],
    ) -> Option<Self> {
        let bias = inputs.bias.as_ref()?;
        let [entries, blocks] = bias.shape().dims();
        let mut index = vec![0; heads * count];
        let mut runs = vec![index.len() as i32; blocks];
        for (head, places) in places.iter().enumerate() {
            for (run, &place) in places.iter().enumerate() {
                index[head * count + run] = place as i32;
                runs[place] = (head * count + run) as i32;
            }
        }
        let index = from_i32::<B>(index, [heads * count], &inputs.device);
        let values = B::float_select(bias.clone(), 1, index);
        Some(Self {
            values: B::float_reshape(values, [entries, heads, count, 1, 1].into()),
            runs: from_i32::<B>(runs, [blocks], &inputs.device),
        })
    }

    /// Where the bias is `-inf`, broadcast to `shape`.
    pub fn hidden(&self, shape: &Shape) -> BoolTensor<B> {
        let dtype = get_device_settings::<B>(&self.values.device()).bool_dtype;
        let hidden = B::float_lower_equal_elem(self.values.clone(), LOW.into(), dtype);
        B::bool_expand(hidden, shape.clone())
    }

    /// `[1 or batch, blocks]` from the gradient of the scores.
    pub fn gradient(&self, dscores: FloatTensor<B>) -> FloatTensor<B> {
        let sums = B::float_sum_dim(B::float_sum_dim(dscores, 4), 3);
        let sums = match self.values.shape()[0] < sums.shape()[0] {
            true => B::float_sum_dim(sums, 0),
            false => sums,
        };
        let [entries, heads, runs, ..] = sums.shape().dims::<5>();
        let (device, dtype) = (sums.device(), sums.dtype());
        let sums = B::float_reshape(sums, [entries, heads * runs].into());
        let rest = B::float_zeros([entries, 1].into(), &device, dtype.into());
        B::float_select(B::float_cat(vec![sums, rest], 1), 1, self.runs.clone())
    }
}
