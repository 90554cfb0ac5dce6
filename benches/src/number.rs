//! The element types that are measured.

use burn::tensor::{DType, TensorData};
use half::{bf16, f16};
use longnet_cpu::Element;

/// An element of q, k, v.
pub trait Number: Element<Acc = f32> + bytemuck::Pod + Send + Sync {
    /// Its name here and in the PyTorch baseline.
    const NAME: &'static str;
    /// Its name in Burn.
    const DTYPE: DType;
    /// Whether it has fewer digits than f32.
    const HALF: bool;
    /// A tensor on the host.
    fn data(numbers: &[Self], shape: [usize; 4]) -> TensorData;
    /// The nearest one.
    fn from_f32(x: f32) -> Self;
    /// The same number.
    fn to_f64(self) -> f64;
    /// `x`, rounded to this type.
    fn round_f64(x: f64) -> f64 {
        Self::from_f32(x as f32).to_f64()
    }
}

impl Number for f32 {
    const NAME: &'static str = "f32";
    const DTYPE: DType = DType::F32;
    const HALF: bool = false;
    fn data(numbers: &[Self], shape: [usize; 4]) -> TensorData {
        TensorData::new(numbers.to_vec(), shape)
    }
    fn from_f32(x: f32) -> Self {
        x
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Number for bf16 {
    const NAME: &'static str = "bf16";
    const DTYPE: DType = DType::BF16;
    const HALF: bool = true;
    fn data(numbers: &[Self], shape: [usize; 4]) -> TensorData {
        TensorData::new(numbers.to_vec(), shape)
    }
    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Number for f16 {
    const NAME: &'static str = "f16";
    const DTYPE: DType = DType::F16;
    const HALF: bool = true;
    fn data(numbers: &[Self], shape: [usize; 4]) -> TensorData {
        TensorData::new(numbers.to_vec(), shape)
    }
    fn from_f32(x: f32) -> Self {
        f16::from_f32(x)
    }
    fn to_f64(self) -> f64 {
        self.into()
    }
}
