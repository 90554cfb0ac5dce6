//! Rows of accumulators: a lane's row `x` is row `8 (x % 2)` of its tile `x / 2`, from row `lane / 4` on.

use super::fragment::{Fragment, Pair};
use cubecl::prelude::*;

/// Multiplies a row.
#[cube]
pub(crate) fn scale_row(
    acc: &mut Sequence<Fragment<f32>>,
    factor: f32,
    #[comptime] x: usize,
    #[comptime] depth: usize,
) {
    #[unroll]
    for n in 0..comptime!(depth * 2) {
        let part = acc.index_mut(comptime!(x / 2 * depth * 2 + n));
        part[comptime!(x % 2)] *= Pair::new(factor);
    }
}

/// Adds `factor` times the row of `width` channels that begins at channel `start` of `from`; the lane has
/// `16 depth` of them from channel `16 first` on.
#[cube]
pub(crate) fn add_row(
    acc: &mut Sequence<Fragment<f32>>,
    factor: f32,
    from: &Tensor<Pair<f32>>,
    start: usize,
    first: usize,
    #[comptime] x: usize,
    #[comptime] width: usize,
    #[comptime] depth: usize,
) {
    let at = start / 2 + first * 8 + (UNIT_POS % 4) as usize;
    #[unroll]
    for n in 0..comptime!(depth * 2) {
        let part = acc.index_mut(comptime!(x / 2 * depth * 2 + n));
        if first * 2 + n < comptime!(width / 8) {
            let value = from[at + n * 4];
            part[comptime!(x % 2)] = fma(Pair::new(factor), value, part[comptime!(x % 2)]);
        }
    }
}

/// Writes `factor` times a row of `width` channels to channel `start` of `into`; the lane has `16 depth` of
/// them from channel `16 first` on.
#[cube]
pub(crate) fn store_row<O: Float>(
    acc: &Sequence<Fragment<f32>>,
    factor: f32,
    into: &mut Tensor<Pair<O>>,
    start: usize,
    first: usize,
    #[comptime] x: usize,
    #[comptime] width: usize,
    #[comptime] depth: usize,
) {
    let at = start / 2 + first * 8 + (UNIT_POS % 4) as usize;
    #[unroll]
    for n in 0..comptime!(depth * 2) {
        let value = acc.index(comptime!(x / 2 * depth * 2 + n))[comptime!(x % 2)];
        if first * 2 + n < comptime!(width / 8) {
            into[at + n * 4] = Pair::<O>::cast_from(value * Pair::new(factor));
        }
    }
}
