//! What holds for single pairs: labels and dropout.

use cubecl::prelude::*;

/// `longnet_pattern::HIDDEN` as the device has it.
pub(crate) const HIDDEN: i32 = longnet_pattern::HIDDEN;

/// The arguments of a call that are not tensors.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
pub struct Args {
    /// The factor of the scores.
    pub scale: f32,
    /// The lse of a row that sees nothing, minus infinity: shaders have no literal for it.
    pub empty: f32,
    /// Seed of dropout.
    pub seed_low: u32,
    /// Its high half.
    pub seed_high: u32,
    /// A pair is kept iff its draw is at least this.
    pub threshold: u32,
    /// What kept weights are multiplied with.
    pub keep: f32,
    /// Tiles a head.
    pub tiles: u32,
}

/// Whether labels let a query see a key.
#[cube]
pub(crate) fn labels_match(q: i32, k: i32) -> bool {
    q == k && k != HIDDEN
}

#[cube]
fn mix(x: u32) -> u32 {
    let a = (x ^ (x >> 16u32)) * 0x7feb_352du32;
    let b = (a ^ (a >> 15u32)) * 0x846c_a68bu32;
    b ^ (b >> 16u32)
}

/// The dropout key of a head of a batch entry, `head` counted over all batch entries.
#[cube]
pub(crate) fn dropout_key(args: &Args, head: u32) -> u32 {
    mix(mix(args.seed_low ^ mix(head)) ^ args.seed_high)
}

/// The factor of a pair: 0 or `args.keep`. Positions are global, modulo 2^32.
#[cube]
pub(crate) fn dropout_factor(args: &Args, key: u32, i: u32, j: u32) -> f32 {
    let draw = mix(mix(key + i) ^ mix(j));
    select(draw >= args.threshold, args.keep, 0.0f32)
}
