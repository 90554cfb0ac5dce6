//! Vector registers, for the inner loop of products: there the compiler's own choice of vectors was
//! measured at half the speed.

use crate::real::Real;

/// A vector of [`LANES`](Self::LANES) numbers.
///
/// Every method is `unsafe`: the machine must have the instruction set that the type belongs to, and
/// pointers must reach `LANES` elements.
pub trait Vector: Copy {
    type R: Real;
    const LANES: usize;

    unsafe fn splat(x: Self::R) -> Self;
    unsafe fn load(from: *const Self::R) -> Self;
    unsafe fn store(self, to: *mut Self::R);
    unsafe fn add(self, other: Self) -> Self;
    /// `self * a + b`.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
}

/// Arrays, for machines without a special case.
impl<R: Real> Vector for [R; 4] {
    type R = R;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: R) -> Self {
        [x; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const R) -> Self {
        // SAFETY: the caller's.
        unsafe { from.cast::<Self>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut R) {
        // SAFETY: the caller's.
        unsafe { to.cast::<Self>().write(self) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // Elsewhere a fused multiply-add may be a slow library call.
        std::array::from_fn(|i| self[i].fma::<{ cfg!(target_arch = "aarch64") }>(a[i], b[i]))
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! vector {
    ($v:ident of $lanes:literal $t:ty: $splat:ident, $load:ident, $store:ident, $add:ident, $fma:ident) => {
        // SAFETY of every block: the caller's, as `Vector` demands.
        impl Vector for $v {
            type R = $t;
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                unsafe { $splat(x) }
            }

            #[inline(always)]
            unsafe fn load(from: *const $t) -> Self {
                unsafe { $load(from) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $t) {
                unsafe { $store(to, self) }
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { $add(self, other) }
            }

            #[inline(always)]
            unsafe fn mul_add(self, a: Self, b: Self) -> Self {
                unsafe { $fma(self, a, b) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    vector!(__m512 of 16 f32: _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps);
    vector!(__m512d of 8 f64: _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_fmadd_pd);
    vector!(__m256 of 8 f32: _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_fmadd_ps);
    vector!(__m256d of 4 f64: _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_fmadd_pd);
}
