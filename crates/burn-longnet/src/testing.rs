//! What several tests need of any module.

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Gradients, Tensor};

/// Casts all parameters.
pub(crate) struct ToDtype(pub DType);

impl ModuleMapper for ToDtype {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let dtype: FloatDType = self.0.into();
        param.map(|tensor| {
            let requires = tensor.is_require_grad();
            tensor
                .detach()
                .cast(dtype)
                .detach()
                .set_require_grad(requires)
        })
    }
}

/// Asserts that every parameter has a finite gradient of the dtype, and counts them.
pub(crate) struct GradientsOf<'a>(pub &'a Gradients, pub DType, pub usize);

impl ModuleVisitor for GradientsOf<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.0).expect("a gradient");
        assert_eq!((param.val().dtype(), gradient.dtype()), (self.1, self.1));
        let largest = gradient.cast(DType::F32).abs().max().into_scalar::<f32>();
        assert!(largest.is_finite(), "{largest}");
        self.2 += 1;
    }
}
