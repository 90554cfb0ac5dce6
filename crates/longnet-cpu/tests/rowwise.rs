//! The row functions against plain f64 arithmetic, over odd sizes and sizes that are threaded.

use longnet_cpu::View;
use longnet_cpu::rowwise::*;

/// Numbers in about -2..2, reproducible.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 22) as f32 - 2.0
        })
        .collect()
}

/// Rows and widths: single, odd, around the vector length, and enough for many blocks.
const SIZES: [(usize, usize); 9] = [
    (1, 1),
    (3, 1),
    (1, 7),
    (5, 16),
    (3, 17),
    (2, 1023),
    (331, 256),
    (70, 1031),
    (131, 9001),
];

#[track_caller]
fn close(ours: &[f32], exact: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), exact.len());
    let scale = (exact.iter().map(|x| x * x).sum::<f64>() / exact.len().max(1) as f64).sqrt();
    for (i, (x, y)) in ours.iter().zip(exact).enumerate() {
        let error = (*x as f64 - y).abs();
        assert!(error <= tolerance * (scale + y.abs()), "{i}: {x} for {y}");
    }
}

/// The error function by its series, and by a continued fraction in the tails.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let (mut term, mut sum, mut k) = (a, a, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            k += 1.0;
            term *= -a * a / k;
            sum += term / (2.0 * k + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let fraction = (1..60).rev().fold(a, |f, k| a + k as f64 / 2.0 / f);
        1.0 - (-a * a).exp() / fraction / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}

fn gelu_of(z: f64) -> (f64, f64) {
    let below = 0.5 * (1.0 + erf(z / 2f64.sqrt()));
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    (z * below, below + z * density)
}

#[test]
fn gelu_and_its_gradients() {
    for (rows, width) in SIZES {
        let (x, dy) = (numbers(rows * width, 1), numbers(rows * width, 2));
        let x: Vec<f32> = x.iter().map(|x| x * 3.0).collect();
        let bias = numbers(width, 3);
        let z = |i: usize| x[i] as f64 + bias[i % width] as f64;
        let exact: Vec<f64> = (0..x.len()).map(|i| gelu_of(z(i)).0).collect();
        close(&gelu(&x, &bias), &exact, 3e-7);
        let exact: Vec<f64> = (0..x.len())
            .map(|i| dy[i] as f64 * gelu_of(z(i)).1)
            .collect();
        let mut dx = dy.clone();
        let dbias = gelu_backward(&mut dx, &x, &bias);
        close(&dx, &exact, 5e-7);
        close(&dbias, &columns(&exact, width), 2e-6);
    }
}

fn columns(x: &[f64], width: usize) -> Vec<f64> {
    (0..width)
        .map(|c| x.iter().skip(c).step_by(width).sum())
        .collect()
}

#[test]
fn layer_norm_and_its_gradients() {
    let epsilon = 1e-5;
    for (rows, width) in SIZES {
        let (x, dy) = (numbers(rows * width, 4), numbers(rows * width, 5));
        let x: Vec<f32> = x.iter().map(|x| x * 2.0 + 5.0).collect();
        let (gamma, beta) = (numbers(width, 6), numbers(width, 7));
        let (mut y, mut dx) = (Vec::new(), Vec::new());
        let (mut dgamma, mut dbeta) = (vec![0.0; width], vec![0.0; width]);
        for (x, dy) in x.chunks(width).zip(dy.chunks(width)) {
            let mean = |f: &dyn Fn(usize) -> f64| (0..width).map(f).sum::<f64>() / width as f64;
            let m = mean(&|i| x[i] as f64);
            let inverse = 1.0 / (mean(&|i| (x[i] as f64 - m).powi(2)) + epsilon).sqrt();
            let n = |i: usize| (x[i] as f64 - m) * inverse;
            let g = |i: usize| dy[i] as f64 * gamma[i] as f64;
            let (level, along) = (mean(&g), mean(&|i| g(i) * n(i)));
            for i in 0..width {
                y.push(n(i) * gamma[i] as f64 + beta[i] as f64);
                dx.push((g(i) - level - n(i) * along) * inverse);
                dgamma[i] += dy[i] as f64 * n(i);
                dbeta[i] += dy[i] as f64;
            }
        }
        // A row of one number has no spread: what is left of it is rounding over epsilon.
        let tolerance = if width == 1 { 1e-3 } else { 3e-6 };
        close(
            &layer_norm(&x, &gamma, &beta, epsilon as f32),
            &y,
            tolerance,
        );
        let none = layer_norm(&x, &gamma, &[], epsilon as f32);
        let without: Vec<f64> = (0..y.len())
            .map(|i| y[i] - beta[i % width] as f64)
            .collect();
        close(&none, &without, tolerance);
        let mut ours = dy.clone();
        let (g, b) = layer_norm_backward(&mut ours, &x, &gamma, epsilon as f32);
        close(&b, &dbeta, 2e-6);
        if width > 1 {
            close(&ours, &dx, 5e-6);
            close(&g, &dgamma, 5e-6);
        }
    }
}

#[test]
fn sums_of_rows_and_with_rows() {
    for (rows, width) in SIZES {
        let (x, row) = (numbers(rows * width, 8), numbers(width, 9));
        let wide: Vec<f64> = x.iter().map(|&x| x as f64).collect();
        close(&sum_rows(&x, width), &columns(&wide, width), 2e-6);
        let mut sum = x.clone();
        add_row(&mut sum, &row);
        assert!((0..x.len()).all(|i| sum[i] == x[i] + row[i % width]));
        let mut sum = x.clone();
        add_slice(&mut sum, &x);
        assert!((0..x.len()).all(|i| sum[i] == 2.0 * x[i]));
    }
    assert_eq!(sum_rows(&[], 3), [0.0; 3]);
}

#[test]
fn rotation_through_any_strides_and_back() {
    for [batch, heads, positions, width] in [[1, 1, 1, 2], [2, 3, 5, 6], [2, 4, 301, 64]] {
        let n = batch * heads * positions * width;
        let x = numbers(n + 3, 10);
        let angles = numbers(positions * width / 2, 11);
        let real: Vec<f32> = angles.iter().flat_map(|a| [a.cos(); 2]).collect();
        let imaginary: Vec<f32> = angles.iter().flat_map(|a| [-a.sin(), a.sin()]).collect();
        // As projections leave it: [batch, positions, heads, width], three numbers into the buffer.
        let row = heads * width;
        let view = View {
            data: &x,
            offset: 3,
            shape: [batch, heads, positions, width],
            strides: [(positions * row) as isize, width as isize, row as isize, 1],
        };
        let y = rotate(view, &real, &imaginary, false);
        let mut exact = Vec::new();
        for i in (0..n).step_by(2) {
            let angle = angles[i / row % positions * width / 2 + i % width / 2] as f64;
            let (re, im) = (x[3 + i] as f64, x[4 + i] as f64);
            exact.push(re * angle.cos() - im * angle.sin());
            exact.push(im * angle.cos() + re * angle.sin());
        }
        close(&y, &exact, 3e-7);
        let back = View {
            data: &y,
            offset: 0,
            ..view
        };
        let back = rotate(back, &real, &imaginary, true);
        let exact: Vec<f64> = x[3..].iter().map(|&x| x as f64).collect();
        close(&back, &exact, 5e-7);
    }
}

#[test]
fn cross_entropy_and_its_gradient() {
    for (rows, width) in SIZES {
        let logits: Vec<f32> = numbers(rows * width, 12).iter().map(|x| x * 8.0).collect();
        let target = |row: usize| (row % 3 != 1).then_some(row * 7919 % width);
        let targets: Vec<_> = (0..rows).map(target).collect();
        let mut gradient = logits.clone();
        let nll = cross_entropy(&mut gradient, &targets);
        let (mut exact_nll, mut exact) = (Vec::new(), Vec::new());
        for (row, target) in logits.chunks(width).zip(&targets) {
            let sum: f64 = row.iter().map(|&x| (x as f64).exp()).sum();
            let Some(target) = *target else {
                exact_nll.push(0.0);
                exact.extend(vec![0.0; width]);
                continue;
            };
            exact_nll.push(sum.ln() - row[target] as f64);
            let one = |i| f64::from(i == target);
            exact.extend((0..width).map(|i| (row[i] as f64).exp() / sum - one(i)));
        }
        close(&nll, &exact_nll, 1e-6);
        close(&gradient, &exact, 1e-6);
    }
}

#[test]
fn results_have_the_same_bits_for_any_number_of_threads() {
    // In the second blocks hold more rows than one would take.
    for (rows, width) in [(333, 256), (131, 9001)] {
        let (x, dy) = (numbers(rows * width, 13), numbers(rows * width, 14));
        let row = numbers(width, 15);
        let all = || {
            let mut gradients = [dy.clone(), dy.clone()];
            let dbias = gelu_backward(&mut gradients[0], &x, &row);
            let (dgamma, dbeta) = layer_norm_backward(&mut gradients[1], &x, &row, 1e-5);
            (gradients, dbias, dgamma, dbeta, sum_rows(&x, width))
        };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let expected = pool(1).unwrap().install(all);
        for threads in [2, 3, 7] {
            assert!(pool(threads).unwrap().install(all) == expected);
        }
    }
}

#[test]
fn adamw_is_the_paper_s() {
    for n in [1, 5, 16, 40_000] {
        let mut parameter = numbers(n, 16);
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        let mut exact: Vec<[f64; 3]> = parameter.iter().map(|&p| [p as f64, 0.0, 0.0]).collect();
        let (lr, decay, beta1, beta2, epsilon) = (0.01, 0.1, 0.9, 0.98, 1e-8);
        for t in 1..=5 {
            let gradient = numbers(n, 100 + t as u64);
            let correct = |beta: f64| 1.0 - beta.powi(t);
            let step = AdamW {
                lr: lr as f32,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                epsilon: epsilon as f32,
                keep: (1.0 - lr * decay) as f32,
                correction1: correct(beta1) as f32,
                correction2: correct(beta2) as f32,
            };
            adamw(step, &mut parameter, &gradient, &mut m, &mut v);
            for ([p, m, v], g) in exact.iter_mut().zip(&gradient) {
                let g = *g as f64;
                *m = *m * beta1 + (1.0 - beta1) * g;
                *v = *v * beta2 + (1.0 - beta2) * g * g;
                *p *= 1.0 - lr * decay;
                *p -= lr * (*m / correct(beta1)) / ((*v / correct(beta2)).sqrt() + epsilon);
            }
        }
        let exact: Vec<f64> = exact.iter().map(|state| state[0]).collect();
        close(&parameter, &exact, 2e-6);
    }
}

#[test]
fn an_unknown_level_is_refused() {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "sums_of_rows_and_with_rows"])
        .env("LONGNET_CPU", "vax")
        .output()
        .unwrap();
    assert!(!run.status.success());
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(text.contains("LONGNET_CPU=vax: this machine has"), "{text}");
}
