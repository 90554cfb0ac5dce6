//! AdamW: arXiv 1711.05101.

use super::blocks;
use super::level::per_level;
use rayon::prelude::*;

/// The numbers of one step of AdamW.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// What the parameter is multiplied with first.
    pub keep: f32,
    /// `1 - beta1^t` at step `t`.
    pub correction1: f32,
    /// `1 - beta2^t` at step `t`.
    pub correction2: f32,
}

/// One step: changes the parameter and both moments.
///
/// # Panics
///
/// If the slices are not equally long.
pub fn adamw(step: AdamW, parameter: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]) {
    let n = parameter.len();
    assert_eq!([gradient.len(), m.len(), v.len()], [n; 3], "equally long");
    let chunk = blocks::rows(1);
    if n <= chunk {
        return update(step, parameter, gradient, m, v);
    }
    let moments = m.par_chunks_mut(chunk).zip(v.par_chunks_mut(chunk));
    parameter
        .par_chunks_mut(chunk)
        .zip(gradient.par_chunks(chunk))
        .zip(moments)
        .for_each(|((parameter, gradient), (m, v))| update(step, parameter, gradient, m, v));
}

per_level! {
    fn update(step: AdamW, parameter: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32]), FMA => {
        let (rest1, rest2) = (1.0 - step.beta1, 1.0 - step.beta2);
        for (((p, &g), m), v) in parameter.iter_mut().zip(gradient).zip(m).zip(v) {
            *m = *m * step.beta1 + g * rest1;
            *v = *v * step.beta2 + g * g * rest2;
            let delta = (*m / step.correction1) / ((*v / step.correction2).sqrt() + step.epsilon);
            *p = *p * step.keep - delta * step.lr;
        }
    }
}
