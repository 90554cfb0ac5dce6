//! Forward and backward passes in 16 bits, with weights, their gradients' sums and the optimiser in 32.

use super::TrainError;
use crate::config::sections::NumberFormat;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Tensor};

/// The dtype of `format`, if it is not that of the weights.
pub(super) fn half(format: NumberFormat) -> Option<FloatDType> {
    match format {
        NumberFormat::F32 => None,
        NumberFormat::Bf16 => Some(FloatDType::BF16),
        NumberFormat::F16 => Some(FloatDType::F16),
    }
}

/// Whether `device` computes in `format`.
///
/// # Errors
///
/// It does not.
pub fn check(format: NumberFormat, device: &Device) -> Result<(), TrainError> {
    match half(format) {
        Some(dtype) if !device.supports_dtype(dtype) => {
            let has =
                |other: NumberFormat| half(other).is_none_or(|dtype| device.supports_dtype(dtype));
            let formats = [
                (NumberFormat::Bf16, "\"bf16\""),
                (NumberFormat::F16, "\"f16\""),
                (NumberFormat::F32, "\"f32\""),
            ];
            let usable = formats.into_iter().filter(|(format, _)| has(*format));
            let usable: Vec<_> = usable.map(|(_, name)| name).collect();
            Err(TrainError::NumberFormat {
                device: format!("{device:?}"),
                dtype: format!("{dtype:?}").to_lowercase(),
                usable: usable.join(" or "),
            })
        }
        _ => Ok(()),
    }
}

/// A copy of `module` in `dtype` with the same parameter ids, by which its gradients are found.
///
/// Embeddings stay as they are: the gradient of each is a sum over all places of a token, which 16 bits
/// would soon add nothing to. Matrix products and reductions add in f32 and round once.
pub(super) fn copy<M: Module>(module: &M, dtype: FloatDType) -> M {
    module.clone().map(&mut Cast {
        dtype,
        embeddings: 0,
    })
}

struct Cast {
    dtype: FloatDType,
    /// Embeddings around a parameter.
    embeddings: usize,
}

impl ModuleMapper for Cast {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.embeddings += usize::from(container_type.contains("Embedding"));
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.embeddings -= usize::from(container_type.contains("Embedding"));
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.embeddings > 0 {
            return param;
        }
        let dtype = self.dtype;
        param.map(|weights| {
            let requires = weights.is_require_grad();
            let weights = weights.detach().cast(dtype).detach();
            weights.set_require_grad(requires)
        })
    }
}

/// The gradients of `module` in f32.
pub(super) fn widened<M: Module>(module: &M, gradients: GradientsParams) -> GradientsParams {
    let mut widen = Widen {
        from: gradients,
        to: GradientsParams::new(),
    };
    module.visit(&mut widen);
    widen.to
}

struct Widen {
    from: GradientsParams,
    to: GradientsParams,
}

impl ModuleVisitor for Widen {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, gradient.cast(FloatDType::F32));
        }
    }
}
