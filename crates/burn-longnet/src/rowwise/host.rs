//! Flex tensors of f32 as slices.

use burn::backend::{
    BackendTensor, DispatchKindConversion, DispatchTensor, DispatchTensorKind, Flex, TensorMetadata,
};
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};
use longnet_cpu::View;
use longnet_cpu::matrix::{Matrix, product};

/// Whether `t`, or what autodiff keeps of it, is an f32 tensor on Flex.
pub(crate) fn holds<const D: usize>(t: &Tensor<D>) -> bool {
    let inner = t.clone().inner().into_dispatch();
    t.dtype() == DType::F32 && matches!(inner.kind, DispatchTensorKind::Flex(_))
}

/// A tensor for which [`holds`] is true, without autodiff.
fn lower<const D: usize>(t: Tensor<D>) -> FlexTensor {
    let t = <DispatchTensor as DispatchKindConversion<Flex>>::try_into_backend(t.into_dispatch());
    t.expect("a tensor on Flex").float()
}

fn lift<const D: usize>(t: FlexTensor) -> Tensor<D> {
    let t = <DispatchTensor as DispatchKindConversion<Flex>>::from_backend(BackendTensor::Float(t));
    Tensor::from_dispatch(t)
}

/// A contiguous tensor that is read.
pub(crate) struct Read(FlexTensor);

impl Read {
    /// `t`, copied if it is not contiguous.
    pub(crate) fn new<const D: usize>(t: Tensor<D>) -> Self {
        Self(lower(t).to_contiguous())
    }

    pub(crate) fn slice(&self) -> &[f32] {
        let start = self.0.layout().start_offset();
        &self.0.storage()[start..][..self.0.shape().num_elements()]
    }
}

/// `t` after `change`, which gets its elements in row-major order: in place, if nothing else refers to
/// them.
pub(crate) fn changed<const D: usize, T>(
    t: Tensor<D>,
    change: impl FnOnce(&mut [f32]) -> T,
) -> (Tensor<D>, T) {
    let t = lower(t);
    let whole = t.shape().num_elements() == t.storage::<f32>().len();
    let mut t = match t.is_contiguous() {
        true if whole => t,
        true => {
            let shape = t.shape();
            let data = Read(t).slice().to_vec();
            FlexTensor::new(
                Bytes::from_elems(data),
                Layout::contiguous(shape),
                DType::F32,
            )
        }
        false => t.to_contiguous(),
    };
    let result = change(t.storage_mut());
    (lift(t), result)
}

/// Calls `f` with the elements of `t` where they lie, or with a copy where those of the last dimension
/// do not lie side by side.
pub(crate) fn with_view<T>(t: Tensor<4>, f: impl FnOnce(View<'_, f32>) -> T) -> T {
    let t = lower(t);
    let t = match t.layout().strides()[3] {
        1 => t,
        _ => t.to_contiguous(),
    };
    let layout = t.layout();
    f(View {
        data: t.storage(),
        offset: layout.start_offset(),
        shape: t.shape().dims(),
        strides: layout.strides().try_into().expect("rank 4"),
    })
}

fn matrix(t: &FlexTensor) -> Matrix<'_> {
    let layout = t.layout();
    Matrix {
        data: t.storage(),
        offset: layout.start_offset(),
        shape: t.shape().dims(),
        strides: layout.strides().try_into().expect("rank 2"),
    }
}

/// `a · b`, both where they lie. Burn's own would clear the result and then copy it.
pub(crate) fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let shape = [a.dims()[0], b.dims()[1]];
    let (a, b) = (lower(a), lower(b));
    tensor(product(matrix(&a), matrix(&b)), shape)
}

/// `t` in another shape, which may have sizes of 0: Burn's own takes those for the sizes of before.
pub(crate) fn reshape<const D: usize, const E: usize>(
    t: Tensor<D>,
    shape: [usize; E],
) -> Tensor<E> {
    lift(lower(t).reshape(Shape::from(shape)))
}

/// A tensor of these elements.
pub(crate) fn tensor<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    let layout = Layout::contiguous(Shape::from(shape));
    lift(FlexTensor::new(Bytes::from_elems(data), layout, DType::F32))
}
