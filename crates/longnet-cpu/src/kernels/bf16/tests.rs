use super::*;
use crate::kernels::available;

fn number(i: usize) -> f32 {
    (i * 2_654_435_761 % 1_000_003) as f32 / 1_000_003.0 - 0.5
}

/// Every engine of this machine, against sums in f64.
#[test]
fn every_engine_of_this_machine_is_right() {
    let levels = available();
    let engines: Vec<_> = levels
        .iter()
        .filter_map(|level| Some((level.name, level.bf16?)))
        .collect();
    assert!(!engines.is_empty());
    for (name, engine) in engines {
        let _thread = engine.enter();
        for m in [1, 2, 5, 15, 16, 17, 32, 33, 47, 64, 70] {
            for (n, k) in [(16, 32), (32, 64), (48, 96), (64, 32), (80, 128), (16, 0)] {
                let (lda, ldb, ldc) = (k + 6, n + 3, n + 1);
                let a: Vec<bf16> = (0..m * lda).map(|i| bf16::from_f32(number(i))).collect();
                let half = |i| bf16::from_f32(number(i + 7));
                let words =
                    |i| half(2 * i).to_bits() as u32 | (half(2 * i + 1).to_bits() as u32) << 16;
                let b: Vec<u32> = (0..k / 2 * ldb + n).map(words).collect();
                for add in [false, true] {
                    let before: Vec<f32> = (0..m * ldc).map(|i| number(i + 3)).collect();
                    let mut c = before.clone();
                    let (left, right) =
                        (Matrix { data: &a, ld: lda }, Matrix { data: &b, ld: ldb });
                    engine.product(&mut c, ldc, left, right, [m, n, k], add);
                    for (at, &c) in c.iter().enumerate() {
                        let (r, x) = (at / ldc, at % ldc);
                        let b = |i: usize| half(2 * (i / 2 * ldb + x) + i % 2).to_f64();
                        let sum: f64 = (0..k).map(|i| a[r * lda + i].to_f64() * b(i)).sum();
                        let old = before[at] as f64;
                        let expected = match (x < n, add) {
                            (false, _) => old,
                            (true, false) => sum,
                            (true, true) => old + sum,
                        };
                        assert!(
                            (c as f64 - expected).abs() < 2e-6,
                            "{name} {m} {n} {k} {add}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn rounding_is_to_nearest_even_everywhere() {
    for level in available() {
        let Some(engine) = level.bf16 else { continue };
        let from: Vec<f32> = (0..4096)
            .map(|i| number(i) * f32::exp2((i % 40) as f32 - 20.0))
            .chain([
                0.0,
                1.0,
                1.003_906_3,
                1.011_718_8,
                -1.003_906_3,
                f32::INFINITY,
            ])
            .chain([0.0; 26])
            .collect();
        let mut to = vec![bf16::ZERO; from.len()];
        engine.round(&mut to, &from);
        let expected: Vec<bf16> = from.iter().map(|&x| bf16::from_f32(x)).collect();
        assert!(to == expected);
        let mut pairs = vec![0; from.len()];
        let other: Vec<f32> = from.iter().rev().copied().collect();
        engine.round_pairs(&mut pairs, &from, &other);
        for (pair, (&low, &high)) in pairs.iter().zip(to.iter().zip(to.iter().rev())) {
            assert_eq!(*pair, low.to_bits() as u32 | (high.to_bits() as u32) << 16);
        }
        let mut nan = [bf16::ZERO; DEPTH];
        engine.round(&mut nan, &[f32::NAN; DEPTH]);
        assert!(nan.iter().all(|x| x.is_nan()));
    }
}
