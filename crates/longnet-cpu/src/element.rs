//! The storage types.

use crate::real::Real;
use crate::tiles::{Narrow, Split, Wide};
use crate::{Problem, View, backward, forward};
use half::{bf16, f16};
use longnet_pattern::Precision;

mod sealed {
    pub trait Sealed {}
}

/// How elements lie in memory: as what they are widened to, or shorter.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum Storage {
    Wide,
    Bf16,
    F16,
}

/// The type of tensor elements: `f32`, `f64`, [`half::f16`], [`half::bf16`]. Sealed.
///
/// Half-precision elements are widened when they are read, and results are rounded once. Where the
/// processor multiplies bfloat16, `bf16` elements stay what they are, and weights are rounded to it
/// before they are multiplied.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// What scores, sums and the log-sum-exp are kept in: `f32`, and `f64` for `f64`.
    type Acc: Real;

    #[doc(hidden)]
    const STORAGE: Storage;

    #[doc(hidden)]
    fn widen(self) -> Self::Acc;

    #[doc(hidden)]
    fn round(x: Self::Acc) -> Self;

    /// The same slice, where widening changes nothing.
    #[doc(hidden)]
    fn as_wide(x: &[Self]) -> Option<&[Self::Acc]>;

    // Not generic, so that the kernels are compiled in this crate, optimised, even where the caller
    // is built for debugging.
    #[doc(hidden)]
    fn forward(
        problem: &Problem,
        q: View<Self>,
        k: View<Self>,
        v: View<Self>,
        out: &mut [Self],
        lse: &mut [Self::Acc],
    );

    #[doc(hidden)]
    fn backward(
        problem: &Problem,
        q: View<Self>,
        k: View<Self>,
        v: View<Self>,
        out: View<Self>,
        lse: &[Self::Acc],
        dout: View<Self>,
        dlse: Option<&[Self::Acc]>,
        dq: &mut [Self],
        dk: &mut [Self],
        dv: &mut [Self],
        dbias: Option<&mut [f64]>,
    );
}

macro_rules! element {
    ($t:ty, $acc:ty, $storage:ident, $widen:expr, $round:expr, $as_wide:expr, $tiles:ident) => {
        impl sealed::Sealed for $t {}

        impl Element for $t {
            type Acc = $acc;
            const STORAGE: Storage = Storage::$storage;

            #[inline(always)]
            fn widen(self) -> $acc {
                $widen(self)
            }

            #[inline(always)]
            fn round(x: $acc) -> Self {
                $round(x)
            }

            #[inline(always)]
            fn as_wide(x: &[Self]) -> Option<&[$acc]> {
                $as_wide(x)
            }

            #[inline(never)]
            fn forward(
                problem: &Problem,
                q: View<Self>,
                k: View<Self>,
                v: View<Self>,
                out: &mut [Self],
                lse: &mut [$acc],
            ) {
                $tiles!(problem, tiles => forward::forward(tiles, problem, q, k, v, out, lse));
            }

            #[inline(never)]
            fn backward(
                problem: &Problem,
                q: View<Self>,
                k: View<Self>,
                v: View<Self>,
                out: View<Self>,
                lse: &[$acc],
                dout: View<Self>,
                dlse: Option<&[$acc]>,
                dq: &mut [Self],
                dk: &mut [Self],
                dv: &mut [Self],
                dbias: Option<&mut [f64]>,
            ) {
                $tiles!(problem, tiles => backward::backward(
                    tiles, problem, q, k, v, out, lse, dout, dlse, dq, dk, dv, dbias
                ));
            }
        }
    };
}

/// Products in the accumulating type.
macro_rules! wide {
    ($problem:ident, $tiles:ident => $run:expr) => {{
        let $tiles = Wide(Real::kernels());
        $run
    }};
}

/// Whether scores can be compared before the scale is applied.
fn is_a_factor(problem: &Problem) -> bool {
    let scale = (problem.scale * std::f64::consts::LOG2_E) as f32;
    scale > 0.0 && scale.is_normal()
}

/// Products in pairs of bfloat16, where the problem allows it and the processor has them.
macro_rules! split {
    ($problem:ident, $tiles:ident => $run:expr) => {
        match Split::available() {
            Some($tiles) if $problem.precision == Precision::High && is_a_factor($problem) => $run,
            _ => wide!($problem, $tiles => $run),
        }
    };
}

/// Products in bfloat16 where the processor has them. The scale is then a factor of the scores.
macro_rules! narrow {
    ($problem:ident, $tiles:ident => $run:expr) => {
        match Narrow::available() {
            Some($tiles) if is_a_factor($problem) => $run,
            _ => wide!($problem, $tiles => $run),
        }
    };
}

element!(f32, f32, Wide, |x| x, |x| x, Some, split);
element!(f64, f64, Wide, |x| x, |x| x, Some, wide);
element!(
    bf16,
    f32,
    Bf16,
    |x: bf16| f32::from_bits((x.to_bits() as u32) << 16),
    bf16::from_f32,
    |_| None,
    narrow
);
element!(
    f16,
    f32,
    F16,
    |x: f16| widen_f16(x.to_bits()),
    f16::from_f32,
    |_| None,
    wide
);

/// Exact, without branches, so that loops over it vectorise.
#[inline(always)]
fn widen_f16(bits: u16) -> f32 {
    let magnitude = (bits & 0x7fff) as u32;
    // The exponent is 112 too small; the multiplication also normalises subnormals.
    let finite = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(finite.to_bits() | special | ((bits & 0x8000) as u32) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_is_exact() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (
                f16::from_bits(bits).widen(),
                f32::from(f16::from_bits(bits)),
            );
            assert!(
                ours == theirs && ours.is_sign_negative() == theirs.is_sign_negative()
                    || ours.is_nan() && theirs.is_nan()
            );
            let (ours, theirs) = (
                bf16::from_bits(bits).widen(),
                f32::from(bf16::from_bits(bits)),
            );
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan());
        }
    }
}
