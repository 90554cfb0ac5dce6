//! Straight-line functions of one f32, so that loops over them vectorise.

use crate::real::Real;

/// Partial sums: two of the widest vectors, so that an addition need not wait for the one before.
const LANES: usize = 32;

/// `e^x` for `x <= 88`, to two units in the last place; what would be subnormal is 0, NaN stays NaN.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding it leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 1.5 * (1u32 << 23) as f32;
    // ln 2 in two parts, the first with so few bits that its multiples are exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    const INVERSE: [f32; 8] = [
        1.0,
        1.0,
        0.5,
        1.0 / 6.0,
        1.0 / 24.0,
        1.0 / 120.0,
        1.0 / 720.0,
        1.0 / 5040.0,
    ];
    let rounded = Real::fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let f = Real::fma::<FMA>(n, -LOW, Real::fma::<FMA>(n, -HIGH, x));
    let mut p = INVERSE[7];
    let mut k = 7;
    while k > 0 {
        k -= 1;
        p = Real::fma::<FMA>(p, f, INVERSE[k]);
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { p * power }
}

/// The standard normal distribution at `x`: its integral from -inf and its density. The integral is
/// relatively accurate far to the left as well, where `1 + erf` would cancel.
#[inline(always)]
pub fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    // Of the integral to -a, divided by exp(-a^2/2), in powers of 4 / (4 + a): the smallest largest
    // relative error on 0 <= a <= 14, which is 1.5e-8.
    const TAIL: [f32; 10] = [
        -2.159_999_6e-5,
        0.100_229,
        0.094_820_27,
        0.121_567_86,
        -0.020_383_824,
        0.304_486_43,
        -0.333_468_7,
        0.395_001,
        -0.196_177_13,
        0.033_946_684,
    ];
    const DENSITY: f32 = 0.398_942_3;
    let a = x.abs();
    let t = 4.0 / (4.0 + a);
    let mut p = TAIL[9];
    let mut k = 9;
    while k > 0 {
        k -= 1;
        p = Real::fma::<FMA>(p, t, TAIL[k]);
    }
    let e = exp::<FMA>(-0.5 * x * x);
    let tail = e * p;
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    (below, DENSITY * e)
}

/// The sum of `f` over the elements of equally long slices, in fixed lanes.
#[inline(always)]
pub fn sum<const N: usize>(slices: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let chunks = slices.map(|slice| slice.as_chunks::<LANES>());
    for i in 0..chunks[0].0.len() {
        let chunk: [&[f32; LANES]; N] = chunks.map(|(whole, _)| &whole[i]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(chunk.map(|chunk| chunk[lane]));
        }
    }
    for (i, sum) in (0..chunks[0].1.len()).zip(&mut lanes) {
        *sum += f(chunks.map(|(_, rest)| rest[i]));
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        for i in -86_900..88_000 {
            let x = (i as f64 / 1000.0 + 0.000_37) as f32;
            let exact = (x as f64).exp();
            for y in [exp::<true>(x), exp::<false>(x)] {
                assert!(((y as f64 - exact) / exact).abs() < 2.5e-7, "e^{x} = {y}");
            }
        }
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<true>(-1e30), 0.0);
        assert_eq!(exp::<true>(0.0), 1.0);
        assert!(exp::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn the_normal_distribution_is_accurate() {
        // Integrals to -a, from a table to 16 digits.
        let table = [
            (0.0, 0.5),
            (0.5, 0.308_537_538_725_986_9),
            (1.0, 0.158_655_253_931_457_05),
            (2.0, 0.022_750_131_948_179_21),
            (3.0, 1.349_898_031_630_094_5e-3),
            (5.0, 2.866_515_718_791_939e-7),
            (8.0, 6.220_960_574_271_785e-16),
        ];
        for (a, tail) in table {
            let density = (-0.5f64 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let both = [normal::<true>, normal::<false>];
            for (below, d) in both.map(|f| f(-a as f32)) {
                assert!((below as f64 / tail - 1.0).abs() < 1e-6, "{a} {below}");
                assert!((d as f64 / density - 1.0).abs() < 1e-6, "{a} {d}");
            }
            for (below, _) in both.map(|f| f(a as f32)) {
                assert!((below as f64 - (1.0 - tail)).abs() < 1.3e-7, "{a} {below}");
            }
        }
        for f in [normal::<true>, normal::<false>] {
            assert_eq!(f(f32::NEG_INFINITY), (0.0, 0.0));
            assert_eq!(f(f32::INFINITY), (1.0, 0.0));
            assert!(f(f32::NAN).0.is_nan());
        }
    }
}
