//! Sums of rows, and with rows.

use super::blocks;
use super::level::per_level;

/// Adds `row` to each row of `x`.
///
/// # Panics
///
/// If `x` is not whole rows.
pub fn add_row(x: &mut [f32], row: &[f32]) {
    whole_rows(x, row.len());
    let chunk = blocks::rows(row.len()) * row.len();
    blocks::each(x, chunk, |_, x| add_to_each(x, row));
}

/// Adds `y` to `x`.
///
/// # Panics
///
/// If they are not equally long.
pub fn add_slice(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "both are equally long");
    let chunk = blocks::rows(1);
    blocks::each(x, chunk, |i, x| add_to_each(x, &y[i * chunk..][..x.len()]));
}

/// The sum of the rows of `x`, of `width` numbers each.
///
/// # Panics
///
/// If `x` is not whole rows.
pub fn sum_rows(x: &[f32], width: usize) -> Vec<f32> {
    whole_rows(x, width);
    let chunk = blocks::rows_with_sums(x.len(), width) * width;
    blocks::sums_of(x, chunk, width, add_each_to)
}

fn whole_rows(x: &[f32], width: usize) {
    assert!(
        x.len().is_multiple_of(width),
        "{} numbers are not rows of {width}",
        x.len()
    );
}

per_level! {
    fn add_to_each(x: &mut [f32], row: &[f32]), FMA => {
        for x in x.chunks_mut(row.len().max(1)) {
            for (x, &y) in x.iter_mut().zip(row) {
                *x += y;
            }
        }
    }
}

per_level! {
    fn add_each_to(x: &[f32], sums: &mut [f32]), FMA => {
        for x in x.chunks(sums.len().max(1)) {
            for (sum, &x) in sums.iter_mut().zip(x) {
                *sum += x;
            }
        }
    }
}
