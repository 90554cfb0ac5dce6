//! Whether a contender computes the right thing.

use crate::contender::Pass;
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

/// The tensors that a contender must deliver; `lse` is whether it has one.
pub fn results(pass: Pass, lse: bool) -> Vec<Tensor> {
    let mut tensors = vec![Tensor::Out];
    if lse {
        tensors.push(Tensor::Lse);
    }
    if pass == Pass::Both {
        tensors.extend([Tensor::Dq, Tensor::Dk, Tensor::Dv]);
    }
    tensors
}

/// Reads row `(tensor, head, row)` of a result; `None` where it is missing.
pub type Read<'a> = &'a dyn Fn(Tensor, usize, usize) -> Option<Vec<f64>>;

/// The largest relative RMS error over `tensors`. Early and late rows of the segments are held to their
/// own errors: outputs of early rows, which see few keys, are larger and would hide those of late ones.
///
/// # Errors
///
/// A tensor is further from the definition than allowed, or a sampled row of it is missing, or it has no
/// samples.
pub fn check(
    samples: &[Sample],
    tensors: &[Tensor],
    read: Read,
    allowed: Allowed,
) -> Result<f64, String> {
    let mut worst = 0f64;
    for &tensor in tensors {
        if samples.iter().all(|s| s.tensor != tensor) {
            return Err(format!("{tensor:?} cannot be checked: it has no samples"));
        }
        for late in [false, true] {
            let of = |s: &&Sample| s.tensor == tensor && s.late == late;
            let part: Vec<&Sample> = samples.iter().filter(of).collect();
            if !part.is_empty() {
                worst = worst.max(check_part(&part, read, allowed)?);
            }
        }
    }
    Ok(worst)
}

/// The relative RMS error over `samples`, of one tensor.
fn check_part(samples: &[&Sample], read: Read, allowed: Allowed) -> Result<f64, String> {
    let tensor = samples[0].tensor;
    let (mut got, mut want, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for sample in samples {
        let (head, row) = (sample.head, sample.row);
        let result = read(tensor, head, row)
            .ok_or_else(|| format!("{tensor:?} is missing: head {head}, row {row}"))?;
        got.extend(result);
        want.extend(&sample.want);
        plain.extend(sample.plain.iter().flatten());
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
        let rows = if samples[0].late { "late" } else { "early" };
        return Err(format!(
            "{tensor:?} is wrong in {rows} rows: relative error {error:.1e}, allowed {limit:.1e}"
        ));
    }
    Ok(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: &[Tensor] = &[Tensor::Out];

    fn sample(want: f64, plain: Option<f64>) -> Vec<Sample> {
        vec![Sample {
            tensor: Tensor::Out,
            head: 1,
            row: 2,
            late: false,
            want: vec![want],
            plain: plain.map(|x| vec![x]),
        }]
    }

    #[test]
    fn what_is_too_far_is_refused_and_so_is_nan() {
        let test = |got: f64| check(&sample(1.0, None), OUT, &|_, _, _| Some(vec![got]), OURS);
        assert!(test(1.0 + 1e-6).is_ok());
        assert!(test(1.0 + 1e-4).is_err());
        assert!(test(f64::NAN).is_err());
    }

    #[test]
    fn half_precision_is_measured_by_a_plain_implementation() {
        let samples = sample(1.0, Some(1.01));
        let test = |got: f64, allowed| check(&samples, OUT, &|_, _, _| Some(vec![got]), allowed);
        assert!(test(1.019, OURS).is_ok());
        assert!(test(1.021, OURS).is_err());
        assert!(test(1.021, OTHERS).is_ok());
    }

    #[test]
    fn what_is_missing_is_refused() {
        let samples = sample(1.0, None);
        assert!(check(&samples, OUT, &|_, _, _| None, OURS).is_err());
        let out_only = |tensor, _, _| (tensor == Tensor::Out).then(|| vec![1.0]);
        assert!(check(&samples, OUT, &out_only, OURS).is_ok());
        // Nothing would be compared.
        assert!(check(&samples, &[Tensor::Lse], &out_only, OURS).is_err());
        let both = results(Pass::Both, true);
        assert!(check(&samples, &both, &out_only, OURS).is_err());
    }

    #[test]
    fn large_early_rows_do_not_hide_late_ones() {
        let mut samples = sample(1000.0, Some(1001.0));
        samples.extend(sample(1.0, Some(1.001)));
        (samples[1].row, samples[1].late) = (3, true);
        let test = |late: f64| {
            let read = |_, _, row| Some(vec![if row == 2 { 1000.0 } else { late }]);
            check(&samples, OUT, &read, OURS)
        };
        assert!(test(1.001).is_ok());
        assert!(test(2.0).is_err());
    }
}
