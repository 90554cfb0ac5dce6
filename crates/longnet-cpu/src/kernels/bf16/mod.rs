//! Products of bfloat16 with sums in f32, as processors offer them: a left side of rows, and a right
//! side whose rows are paired, so that one 32-bit word holds the same column of rows `2i` and `2i + 1`.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod dot;
pub mod emulated;
#[cfg(test)]
mod tests;

use super::{LANE, Matrix};
use half::bf16;
use std::marker::PhantomData;

/// Sums run over this many elements at a time: sizes `k` are multiples of it.
pub const DEPTH: usize = 32;

/// The functions of one instruction set.
///
/// As those of [`Kernels`](super::Kernels) they must only be called on a machine that has it.
pub struct Engine {
    /// Whether three products are faster than one of f32.
    pub(super) beats_three: bool,
    pub(super) product: unsafe fn(Args),
    pub(super) round: unsafe fn(&mut [bf16], &[f32]),
    pub(super) round_pairs: unsafe fn(&mut [u32], &[f32], &[f32]),
    pub(super) enter: unsafe fn(),
    pub(super) leave: unsafe fn(),
}

/// `c = a b`, or `c += a b` if `add`; `a` is `m x k`, `b` is `k x n` in pairs.
#[derive(Clone, Copy)]
pub struct Args {
    pub c: *mut f32,
    pub ldc: usize,
    pub a: *const bf16,
    pub lda: usize,
    pub b: *const u32,
    /// In words.
    pub ldb: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub add: bool,
}

/// A thread that may call [`Engine::product`], as long as this lives. Others may not, so that it is not
/// `Send`; and there is one at a time.
pub struct Thread(&'static Engine, PhantomData<*const ()>);

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: `enter` was called on this thread.
        unsafe { (self.0.leave)() }
    }
}

// SAFETY of every block below: an engine is only handed out by `levels` on a machine that has it, and the
// assertions bound every address.
impl Engine {
    /// Whether numbers of f32 are multiplied faster as three products of bfloat16 than by the processor's
    /// multiply-adds.
    pub fn beats_three(&self) -> bool {
        self.beats_three
    }

    /// Sets the thread up for products.
    pub fn enter(&'static self) -> Thread {
        unsafe { (self.enter)() }
        Thread(self, PhantomData)
    }

    /// `c = a b`, or `c += a b` if `add`, where `a` is `m x k` and `b` is `k x n`, stored as `k / 2` rows
    /// of pairs; `n` is a multiple of [`LANE`] and `k` of [`DEPTH`].
    pub fn product(
        &self,
        c: &mut [f32],
        ldc: usize,
        a: Matrix<bf16>,
        b: Matrix<u32>,
        [m, n, k]: [usize; 3],
        add: bool,
    ) {
        assert!(n.is_multiple_of(LANE) && k.is_multiple_of(DEPTH));
        assert!(super::spans(c.len(), ldc, m, n) && super::spans(a.data.len(), a.ld, m, k));
        assert!(super::spans(b.data.len(), b.ld, k / 2, n));
        let args = Args {
            c: c.as_mut_ptr(),
            ldc,
            a: a.data.as_ptr(),
            lda: a.ld,
            b: b.data.as_ptr(),
            ldb: b.ld,
            m,
            n,
            k,
            add,
        };
        unsafe { (self.product)(args) }
    }

    /// To the nearest, ties to even. Lengths are equal multiples of [`DEPTH`].
    pub fn round(&self, to: &mut [bf16], from: &[f32]) {
        assert!(to.len() == from.len() && to.len().is_multiple_of(DEPTH));
        unsafe { (self.round)(to, from) }
    }

    /// The same for two rows, which become one of pairs: `low` in the lower halves.
    pub fn round_pairs(&self, to: &mut [u32], low: &[f32], high: &[f32]) {
        assert!(to.len() == low.len() && to.len() == high.len() && to.len().is_multiple_of(DEPTH));
        unsafe { (self.round_pairs)(to, low, high) }
    }
}
