//! Products of matrices against sums in f64.

use longnet_cpu::matrix::{Matrix, product};

/// Numbers in -1..1 without a pattern, reproducible.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// A matrix in a slice with three numbers before it, by rows or by columns.
fn matrix(data: &[f32], shape: [usize; 2], by_columns: bool) -> Matrix<'_> {
    let strides = match by_columns {
        true => [1, shape[0] as isize],
        false => [shape[1] as isize, 1],
    };
    Matrix {
        data,
        offset: 3,
        shape,
        strides,
    }
}

#[test]
fn products_of_all_orders_and_sizes() {
    for [m, k, n] in [
        [1, 1, 1],
        [3, 0, 2],
        [0, 4, 5],
        [5, 7, 3],
        [33, 17, 65],
        [300, 200, 130],
        [40, 2048, 30],
        [65, 5001, 33],
        [70, 9000, 41],
    ] {
        let (a, b) = (numbers(m * k + 3, 1), numbers(k * n + 3, 2));
        for turned in [[false, false], [false, true], [true, false], [true, true]] {
            let (a, b) = (matrix(&a, [m, k], turned[0]), matrix(&b, [k, n], turned[1]));
            let at = |x: &Matrix, i: usize, j: usize| {
                let place = 3 + i as isize * x.strides[0] + j as isize * x.strides[1];
                x.data[place as usize] as f64
            };
            let ours = product(a, b);
            assert_eq!(ours.len(), m * n);
            for (i, &x) in ours.iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let exact: f64 = (0..k).map(|l| at(&a, row, l) * at(&b, l, column)).sum();
                let error = (x as f64 - exact).abs();
                // A sum of k terms of at most 1, of both signs.
                assert!(
                    error <= 2e-6 * (k as f64).sqrt(),
                    "{m} {k} {n} {turned:?}: {x} {exact}"
                );
            }
        }
    }
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    for [m, k, n] in [[300, 200, 130], [256, 4096, 256], [96, 9001, 256]] {
        let (a, b) = (numbers(m * k + 3, 3), numbers(k * n + 3, 4));
        let all = || {
            let straight = product(matrix(&a, [m, k], false), matrix(&b, [k, n], false));
            let turned = product(matrix(&a, [m, k], true), matrix(&b, [k, n], false));
            (straight, turned)
        };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let expected = pool(1).unwrap().install(all);
        for threads in [2, 3, 7, 16] {
            assert!(pool(threads).unwrap().install(all) == expected, "{threads}");
        }
    }
}

#[test]
#[should_panic(expected = "b: shape")]
fn a_view_outside_of_its_slice_is_refused() {
    let (a, b) = (numbers(9, 1), numbers(8, 2));
    product(matrix(&a, [2, 3], false), matrix(&b, [3, 2], false));
}
