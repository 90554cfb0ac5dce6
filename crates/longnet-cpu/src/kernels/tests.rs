use super::*;
use crate::real::Real;
use half::{bf16, f16};

/// Numbers that are neither equal nor ordered.
fn numbers<R: Real>(len: usize, seed: u64) -> Vec<R> {
    (0..len as u64)
        .map(|i| R::from_f64(((i + seed) * 2_654_435_761 % 1_000_003) as f64 / 1_000_003.0 - 0.5))
        .collect()
}

fn products_are_right<R: Real>(kernels: &Kernels<R>, tolerance: f64) {
    for m in 1..20 {
        for (n, k) in [(16, 1), (48, 7), (64, 64), (112, 5), (16, 300), (32, 0)] {
            let (lda, ldb, ldc) = (k + 3, n + 5, n + 1);
            let (a, b) = (numbers(m * lda, 1), numbers(k * ldb + n, 2));
            for add in [false, true] {
                let before: Vec<R> = numbers(m * ldc, 3);
                let mut c = before.clone();
                let (a, b) = (Matrix { data: &a, ld: lda }, Matrix { data: &b, ld: ldb });
                kernels.product(&mut c, ldc, a, b, [m, n, k], add);
                if add {
                    let ld = m + 2;
                    let mut transposed = vec![R::INFINITY; k * ld];
                    for (i, column) in transposed.chunks_exact_mut(ld).enumerate() {
                        for (r, x) in column[..m].iter_mut().enumerate() {
                            *x = a.data[r * lda + i];
                        }
                    }
                    let a = Matrix {
                        data: &transposed,
                        ld,
                    };
                    let mut tn = before.clone();
                    kernels.add_product_tn(&mut tn, ldc, a, b, [m, n, k]);
                    assert!(tn == c);
                }
                for r in 0..m {
                    for x in 0..ldc.min(c.len() - r * ldc) {
                        let old = before[r * ldc + x].to_f64();
                        let sum: f64 = (0..k)
                            .map(|i| a.data[r * lda + i].to_f64() * b.data[i * ldb + x].to_f64())
                            .sum();
                        let expected = match (x < n, add) {
                            (false, _) => old,
                            (true, false) => sum,
                            (true, true) => old + sum,
                        };
                        let error = (c[r * ldc + x].to_f64() - expected).abs();
                        assert!(
                            error <= tolerance * (1.0 + k as f64).sqrt(),
                            "{m} {n} {k} {add}: {error}"
                        );
                    }
                }
            }
        }
    }
}

fn transposes_are_right<R: Real>(kernels: &Kernels<R>) {
    for (rows, d) in [(1, 1), (63, 5), (64, 16), (65, 17), (130, 70)] {
        let ld = d + 2;
        let src: Vec<R> = numbers(rows * ld, 4);
        let mut panels = vec![R::INFINITY; rows.div_ceil(PANEL) * PANEL * d];
        kernels.transpose(&mut panels, Matrix { data: &src, ld }, rows, d);
        for j in 0..rows.div_ceil(PANEL) * PANEL {
            for x in 0..d {
                let expected = if j < rows { src[j * ld + x] } else { R::ZERO };
                assert!(panels[(j / PANEL * d + x) * PANEL + j % PANEL] == expected);
            }
        }
    }
}

fn rows_are_right<R: Real>(kernels: &Kernels<R>, tolerance: f64) {
    let scores: Vec<R> = numbers(96, 5);
    let (mut s, one) = (scores.clone(), R::ONE);
    s[40..].fill(R::NEG_INFINITY);
    let (max, sum) = kernels.softmax(&mut s, R::ONE, R::NEG_INFINITY);
    let exact_max = scores[..40]
        .iter()
        .map(|x| x.to_f64())
        .fold(f64::MIN, f64::max);
    assert_eq!(max.to_f64(), exact_max);
    let exact: f64 = scores[..40]
        .iter()
        .map(|x| (x.to_f64() - exact_max).exp2())
        .sum();
    assert!((sum.to_f64() - exact).abs() < tolerance * exact);
    assert!(s[40..].iter().all(|x| *x == R::ZERO));
    // Nothing seen at all is no NaN, and an older maximum holds.
    let mut s = vec![R::NEG_INFINITY; 32];
    let (max, sum) = kernels.softmax(&mut s, R::ONE, R::NEG_INFINITY);
    assert!(max == R::NEG_INFINITY && sum == R::ZERO && s.iter().all(|x| *x == R::ZERO));
    let mut s = vec![R::ZERO; 32];
    assert!(kernels.softmax(&mut s, one, one) == (one, R::from_f64(16.0)));

    let (lse, delta): (Vec<R>, Vec<R>) = (numbers(96, 6), numbers(96, 7));
    for i in 0..96 {
        let (mut s, mut dp) = ([scores[i]; 32], [numbers::<R>(96, 8)[i]; 32]);
        kernels.gradient_of_row(&mut s, &mut dp, R::ONE, lse[i], delta[i]);
        let p = (scores[i].to_f64() - lse[i].to_f64()).exp2();
        assert!((s[3].to_f64() - p).abs() < tolerance * p);
        let ds = s[3].to_f64() * (numbers::<R>(96, 8)[i].to_f64() - delta[i].to_f64());
        assert!((dp[3].to_f64() - ds).abs() < tolerance);
    }
}

/// `epsilon` of the accumulators: the error of a sum is within it, times the sum of the terms' sizes and
/// the root of their number.
fn lines_are_right<E: Element>(kernels: &Kernels<E::Acc>, epsilon: f64) {
    let number = |x: E::Acc| E::round(x);
    for width in [1usize, 7, 16, 33, 64, 80, 130] {
        let ld = width.next_multiple_of(LANE);
        for (m, n) in [(1, 1usize), (2, 7), (3, 8), (5, 21)] {
            // Lines with poisoned gaps, in falling order, so that the first one ends the slice.
            let gap = width + 3;
            let mut data: Vec<E> = numbers(n * gap, 1).into_iter().map(number).collect();
            for (i, x) in data.iter_mut().enumerate() {
                if i % gap < 3 {
                    *x = E::round(E::Acc::from_f64(f64::NAN));
                }
            }
            let starts: Vec<usize> = (0..n).rev().map(|j| j * gap + 3).collect();
            let lines = Lines {
                data: &data,
                starts: &starts,
                width,
            };
            let slots: Vec<usize> = (0..m).map(|i| 2 * i + 1).collect();
            let mut packed: Vec<E::Acc> = numbers(2 * m * ld, 2);
            for row in packed.chunks_exact_mut(ld) {
                row[width..].fill(E::Acc::ZERO);
            }
            let at = |j: usize, x: usize| data[starts[j] + x].widen().to_f64();
            let lds = n.next_multiple_of(STEP);
            let mut s = vec![E::Acc::INFINITY; m * lds];
            let a = Matrix { data: &packed, ld };
            kernels.line_scores(&mut s, lds, a, &slots, lines, lines);
            for (i, slot) in slots.iter().enumerate() {
                for j in 0..n {
                    let terms = (0..width).map(|x| packed[slot * ld + x].to_f64() * at(j, x));
                    let exact: f64 = terms.clone().sum();
                    let size: f64 = terms.map(f64::abs).sum();
                    let error = (s[i * lds + j].to_f64() - exact).abs();
                    assert!(
                        error <= epsilon * (width as f64).sqrt() * size,
                        "{width} {m} {n}: {error}"
                    );
                    // Alone it has the same bits.
                    let line = Lines {
                        starts: &starts[j..=j],
                        ..lines
                    };
                    let mut alone = [E::Acc::ZERO; STEP];
                    kernels.line_scores(&mut alone, STEP, a, &[*slot], line, line);
                    assert!(alone[0] == s[i * lds + j]);
                }
            }
            let weights: Vec<E::Acc> = numbers(m * lds, 3);
            let mut c = packed.clone();
            let a = Matrix {
                data: &weights,
                ld: lds,
            };
            kernels.line_sums(&mut c, ld, &slots, a, lines);
            for (row, (new, old)) in c.chunks_exact(ld).zip(packed.chunks_exact(ld)).enumerate() {
                for x in 0..ld {
                    let (mut exact, mut size) = (old[x].to_f64(), old[x].to_f64().abs());
                    if row % 2 == 1 && x < width {
                        let weight = |j: usize| weights[row / 2 * lds + j].to_f64();
                        let terms = (0..n).map(|j| weight(j) * at(j, x));
                        exact += terms.clone().sum::<f64>();
                        size += terms.map(f64::abs).sum::<f64>();
                    }
                    let error = (new[x].to_f64() - exact).abs();
                    assert!(
                        error <= epsilon * (1.0 + n as f64).sqrt() * size,
                        "{width} {m} {n}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_level_of_this_machine_is_right() {
    for level in available() {
        products_are_right(level.f32, 1e-7);
        products_are_right(level.f64, 1e-15);
        transposes_are_right(level.f32);
        transposes_are_right(level.f64);
        rows_are_right(level.f32, 1e-6);
        lines_are_right::<f32>(level.f32, f32::EPSILON.into());
        lines_are_right::<bf16>(level.f32, f32::EPSILON.into());
        lines_are_right::<f16>(level.f32, f32::EPSILON.into());
        lines_are_right::<f64>(level.f64, f64::EPSILON);
        rows_are_right(level.f64, 1e-14);
    }
}
