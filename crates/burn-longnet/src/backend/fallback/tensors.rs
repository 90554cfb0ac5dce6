//! Small compositions of tensor ops.

use crate::precision;
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, get_device_settings};
use burn::tensor::{DType, Shape, TensorData};

/// Below every finite score, yet finite: `LOW - LOW` is 0 where `-inf + inf` would be NaN.
pub const LOW: f32 = -1e30;

/// In the dtype of the computation, see [`precision::wide`].
pub fn wide<B: Backend>(t: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = precision::wide(t.dtype());
    match t.dtype() == dtype {
        true => t,
        false => B::float_cast(t, dtype.into()),
    }
}

pub fn from_f32<B: Backend>(
    values: Vec<f32>,
    shape: impl Into<Shape>,
    device: &B::Device,
    dtype: DType,
) -> FloatTensor<B> {
    B::float_cast(
        B::float_from_data(TensorData::new(values, shape), device),
        dtype.into(),
    )
}

pub fn from_i32<B: Backend>(
    values: Vec<i32>,
    shape: impl Into<Shape>,
    device: &B::Device,
) -> IntTensor<B> {
    B::int_from_data(TensorData::new(values, shape), device)
}

/// Rows `indices` of `t [batch, rows, width]`.
pub fn select_rows<B: Backend>(t: FloatTensor<B>, indices: IntTensor<B>) -> FloatTensor<B> {
    B::float_select(t, 1, indices)
}

/// `[.., 1]`: the inner products of rows.
pub fn column<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    let last = a.shape().num_dims() - 1;
    B::float_sum_dim(B::float_mul(a, b), last)
}

/// `value` where `mask`, which may be 1 wide where `t` is not.
pub fn fill<B: Backend>(t: FloatTensor<B>, mask: BoolTensor<B>, value: f32) -> FloatTensor<B> {
    let mask = B::bool_expand(mask, t.shape());
    B::float_mask_fill(t, mask, value.into())
}

/// `a <= b`, broadcast to `shape`.
pub fn lower_equal<B: Backend>(a: IntTensor<B>, b: IntTensor<B>, shape: &Shape) -> BoolTensor<B> {
    let dtype = get_device_settings::<B>(&a.device()).bool_dtype;
    B::int_lower_equal(
        B::int_expand(a, shape.clone()),
        B::int_expand(b, shape.clone()),
        dtype,
    )
}

/// `a == b`, broadcast to `shape`.
pub fn equal<B: Backend>(a: IntTensor<B>, b: IntTensor<B>, shape: &Shape) -> BoolTensor<B> {
    let dtype = get_device_settings::<B>(&a.device()).bool_dtype;
    B::int_equal(
        B::int_expand(a, shape.clone()),
        B::int_expand(b, shape.clone()),
        dtype,
    )
}

/// Of two partial results over disjoint keys, `out [.., d]` and `lse [.., 1]`, that of their union.
pub fn merge<B: Backend>(
    (o1, l1): (FloatTensor<B>, FloatTensor<B>),
    (o2, l2): (FloatTensor<B>, FloatTensor<B>),
) -> (FloatTensor<B>, FloatTensor<B>) {
    let last = l1.shape().num_dims() - 1;
    let top = B::float_max_dim(B::float_cat(vec![l1.clone(), l2.clone()], last), last);
    let top = B::float_clamp_min(top, LOW.into());
    let weight = |l| B::float_exp(B::float_sub(l, top.clone()));
    let (w1, w2) = (weight(l1), weight(l2));
    let sum = B::float_add(w1.clone(), w2.clone());
    let lse = B::float_add(top, B::float_log(sum.clone()));
    // 1 is the least sum of a row that sees anything.
    let sum = B::float_clamp_min(sum, 1.0.into());
    let part = |o: FloatTensor<B>, w| B::float_mul(o, B::float_div(w, sum.clone()));
    (B::float_add(part(o1, w1), part(o2, w2)), lse)
}
