//! Whether a contender computes the right thing.

use crate::oracle::{Sample, Tensor};
use longnet_tests::compare::relative_rms;

/// Relative RMS error that f32 may have.
const F32: f64 = 1e-5;

/// How strict the check of a half-precision contender is, as a factor of a plain implementation's
/// error.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    pub out: f64,
    pub gradients: f64,
}

/// What we ask of ourselves.
pub const OURS: Allowed = Allowed {
    out: 2.0,
    gradients: 3.0,
};
/// Others may mix branches in their own type; this still finds a wrong result.
pub const OTHERS: Allowed = Allowed {
    out: 4.0,
    gradients: 6.0,
};

/// Reads row `(tensor, head, row)` of a result; `None` where the contender has no such tensor.
pub type Read<'a> = &'a dyn Fn(Tensor, usize, usize) -> Option<Vec<f64>>;

/// The largest relative RMS error over the tensors that the contender has.
///
/// # Errors
///
/// A tensor is further from the definition than allowed.
pub fn check(samples: &[Sample], read: Read, allowed: Allowed) -> Result<f64, String> {
    let mut worst = 0f64;
    for tensor in [Tensor::Out, Tensor::Lse, Tensor::Dq, Tensor::Dk, Tensor::Dv] {
        let (mut got, mut want, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for sample in samples.iter().filter(|s| s.tensor == tensor) {
            let Some(row) = read(tensor, sample.head, sample.row) else {
                continue;
            };
            got.extend(row);
            want.extend(&sample.want);
            plain.extend(sample.plain.iter().flatten());
        }
        if want.is_empty() {
            continue;
        }
        let factor = match tensor {
            Tensor::Out => allowed.out,
            _ => allowed.gradients,
        };
        let limit = match plain.is_empty() {
            true => F32,
            false => factor * relative_rms(&plain, &want),
        };
        let error = relative_rms(&got, &want);
        if error.is_nan() || error > limit {
            return Err(format!(
                "{tensor:?} is wrong: relative error {error:.1e}, allowed {limit:.1e}"
            ));
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(want: f64, plain: Option<f64>) -> Vec<Sample> {
        vec![Sample {
            tensor: Tensor::Out,
            head: 1,
            row: 2,
            want: vec![want],
            plain: plain.map(|x| vec![x]),
        }]
    }

    #[test]
    fn what_is_too_far_is_refused_and_so_is_nan() {
        let test = |got: f64| check(&sample(1.0, None), &|_, _, _| Some(vec![got]), OURS);
        assert!(test(1.0 + 1e-6).is_ok());
        assert!(test(1.0 + 1e-4).is_err());
        assert!(test(f64::NAN).is_err());
    }

    #[test]
    fn half_precision_is_measured_by_a_plain_implementation() {
        let samples = sample(1.0, Some(1.01));
        let test = |got: f64, allowed| check(&samples, &|_, _, _| Some(vec![got]), allowed);
        assert!(test(1.019, OURS).is_ok());
        assert!(test(1.021, OURS).is_err());
        assert!(test(1.021, OTHERS).is_ok());
    }
}
