//! The products in plain Rust: what the other engines are tested against.

use super::{Args, Engine};
use half::bf16;

pub static EMULATED: Engine = Engine {
    // As AMX, which it stands for in tests.
    beats_three: true,
    product,
    round,
    round_pairs,
    enter: || (),
    leave: || (),
};

fn widen(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// # Safety
///
/// See [`Args`].
pub unsafe fn product(args: Args) {
    // SAFETY: every index is below the sizes of `args`.
    unsafe {
        for r in 0..args.m {
            let c = std::slice::from_raw_parts_mut(args.c.add(r * args.ldc), args.n);
            if !args.add {
                c.fill(0.0);
            }
            for i in 0..args.k / 2 {
                let b = std::slice::from_raw_parts(args.b.add(i * args.ldb), args.n);
                let [low, high] =
                    [0, 1].map(|half| (*args.a.add(r * args.lda + 2 * i + half)).to_bits() as u32);
                let (low, high) = (widen(low), widen(high));
                for (c, &b) in c.iter_mut().zip(b) {
                    *c += low * widen(b & 0xffff) + high * f32::from_bits(b & 0xffff_0000);
                }
            }
        }
    }
}

fn round(to: &mut [bf16], from: &[f32]) {
    for (to, &x) in to.iter_mut().zip(from) {
        *to = bf16::from_f32(x);
    }
}

fn round_pairs(to: &mut [u32], low: &[f32], high: &[f32]) {
    let bits = |x| bf16::from_f32(x).to_bits() as u32;
    for ((to, &low), &high) in to.iter_mut().zip(low).zip(high) {
        *to = bits(low) | bits(high) << 16;
    }
}
