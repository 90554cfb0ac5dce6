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

/// Arrays, for any machine.
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
        std::array::from_fn(|i| self[i].fma::<false>(a[i], b[i]))
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
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

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    // What needs no more than the architecture's own NEON is safe here.
    #![allow(unused_unsafe)]

    use super::Vector;
    use std::arch::aarch64::*;

    // The intrinsics add to their first argument.
    #[inline(always)]
    unsafe fn fma_f32(x: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(b, x, a) }
    }

    #[inline(always)]
    unsafe fn fma_f64(x: float64x2_t, a: float64x2_t, b: float64x2_t) -> float64x2_t {
        unsafe { vfmaq_f64(b, x, a) }
    }

    vector!(float32x4_t of 4 f32: vdupq_n_f32, vld1q_f32, vst1q_f32, vaddq_f32, fma_f32);
    vector!(float64x2_t of 2 f64: vdupq_n_f64, vld1q_f64, vst1q_f64, vaddq_f64, fma_f64);
}
