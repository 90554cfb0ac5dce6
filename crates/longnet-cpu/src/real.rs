//! The two types that accumulate.

use crate::kernels::Kernels;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Sub};

/// f32 or f64.
pub trait Real:
    Copy
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + MulAssign
    + 'static
{
    const ZERO: Self;
    const ONE: Self;
    const INFINITY: Self;
    const NEG_INFINITY: Self;

    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;

    /// `self * a + b`; fused, in one instruction, where `FMA`.
    fn fma<const FMA: bool>(self, a: Self, b: Self) -> Self;

    /// `2^self` for arguments up to the type's largest exponent. What would be subnormal is 0, NaN
    /// stays NaN. Straight-line, so that loops over it vectorise.
    fn exp2<const FMA: bool>(self) -> Self;

    /// The kernels of this process, see [`level`](crate::level). Panics where that is an error.
    fn kernels() -> &'static Kernels<Self>;
}

/// `ln(2)^k / k!`, the Taylor coefficients of `2^x`.
const fn taylor<const N: usize>() -> [f64; N] {
    let mut c = [1.0; N];
    let mut k = 1;
    while k < N {
        c[k] = c[k - 1] * std::f64::consts::LN_2 / k as f64;
        k += 1;
    }
    c
}

macro_rules! real {
    ($t:ident, $bits:ty, $terms:literal) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const INFINITY: Self = <$t>::INFINITY;
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn fma<const FMA: bool>(self, a: Self, b: Self) -> Self {
                if FMA {
                    self.mul_add(a, b)
                } else {
                    self * a + b
                }
            }

            #[inline(always)]
            fn exp2<const FMA: bool>(self) -> Self {
                const FRACTION: u32 = <$t>::MANTISSA_DIGITS - 1;
                // Adding it leaves the nearest integer in the low bits of the mantissa.
                const ROUND: $t = 1.5 * (1u64 << FRACTION) as $t;
                const TAYLOR: [f64; $terms] = taylor();
                let rounded = self + ROUND;
                let f = self - (rounded - ROUND);
                let mut p = TAYLOR[$terms - 1] as $t;
                let mut k = $terms - 1;
                while k > 0 {
                    k -= 1;
                    p = p.fma::<FMA>(f, TAYLOR[k] as $t);
                }
                let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits());
                let power =
                    <$t>::from_bits(exponent.wrapping_add(<$t>::MAX_EXP as $bits - 1) << FRACTION);
                if self < (<$t>::MIN_EXP - 1) as $t {
                    0.0
                } else {
                    p * power
                }
            }

            #[inline]
            fn kernels() -> &'static Kernels<Self> {
                crate::kernels::selected()
                    .unwrap_or_else(|e| panic!("{e}"))
                    .$t
            }
        }
    };
}

// The first terms left out are below a half unit in the last place: |x ln 2| <= 0.347.
real!(f32, u32, 8);
real!(f64, u64, 14);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_accurate_and_its_edges_hold() {
        for i in -126_000..127_000 {
            let x = i as f64 / 1000.0 + 0.000_37;
            let x32 = x as f32;
            let exact = (x32 as f64).exp2();
            for y in [Real::exp2::<true>(x32), Real::exp2::<false>(x32)] {
                assert!(((y as f64 - exact) / exact).abs() < 2e-7, "2^{x32} = {y}");
            }
            let exact = f64::exp2(x);
            let y = Real::exp2::<true>(x);
            assert!(((y - exact) / exact).abs() < 5e-16, "2^{x} = {y}");
        }
        assert_eq!(Real::exp2::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp2::<true>(f64::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp2::<true>(-1e30f32), 0.0);
        assert_eq!(Real::exp2::<true>(0f32), 1.0);
        assert!(Real::exp2::<true>(f32::NAN).is_nan());
        assert!(Real::exp2::<true>(f64::NAN).is_nan());
    }
}
