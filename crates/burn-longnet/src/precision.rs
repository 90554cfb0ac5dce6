//! The dtype that sums need.

use burn::tensor::DType;

/// The dtype of sums and softmax over values of `dtype`: f64 stays, all else becomes f32.
pub(crate) fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}
