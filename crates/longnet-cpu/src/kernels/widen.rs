//! Elements of any storage type into vector registers.

use super::vector::Vector;
use crate::element::Element;
use crate::real::Real;

/// Rows of a tensor that are read side by side.
pub const LINES: usize = 8;

/// The most lanes of any vector.
const WIDEST: usize = 16;

/// A vector that is read from tensors.
///
/// The methods are `unsafe` as those of [`Vector`] are.
pub trait Widen: Vector {
    /// The [`LANES`](Vector::LANES) elements from `from` on.
    #[inline(always)]
    unsafe fn widen<E: Element<Acc = Self::R>>(from: *const E) -> Self {
        // SAFETY: the caller's.
        unsafe { through_memory(from, Self::LANES) }
    }

    /// The first `count` of them, then zeros; reads no more than `count`.
    #[inline(always)]
    unsafe fn widen_part<E: Element<Acc = Self::R>>(from: *const E, count: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { through_memory(from, count.min(Self::LANES)) }
    }

    /// The sum of the lanes.
    #[inline(always)]
    unsafe fn sum(self) -> Self::R {
        let mut lanes = [Self::R::ZERO; WIDEST];
        // SAFETY: no vector is wider.
        unsafe { self.store(lanes.as_mut_ptr()) };
        let mut half = Self::LANES / 2;
        while half > 0 {
            for i in 0..half {
                let other = lanes[i + half];
                lanes[i] += other;
            }
            half /= 2;
        }
        lanes[0]
    }

    /// The sums of the lanes of several vectors, each in the same order of additions.
    #[inline(always)]
    unsafe fn sums(vectors: [Self; LINES], to: *mut Self::R) {
        for (i, vector) in vectors.into_iter().enumerate() {
            // SAFETY: the caller's: `to` reaches that many numbers.
            unsafe { *to.add(i) = vector.sum() };
        }
    }
}

/// Where the count is known the compiler leaves the memory out.
#[inline(always)]
unsafe fn through_memory<V: Vector, E: Element<Acc = V::R>>(from: *const E, count: usize) -> V {
    let mut lanes = [V::R::ZERO; WIDEST];
    for (i, lane) in lanes.iter_mut().take(count).enumerate() {
        // SAFETY: the caller's.
        *lane = unsafe { (*from.add(i)).widen() };
    }
    // SAFETY: no vector is wider.
    unsafe { V::load(lanes.as_ptr()) }
}

impl<R: Real> Widen for [R; 4] {}

// The compiler widens half precision with vector instructions of its own choice.
#[cfg(target_arch = "aarch64")]
impl Widen for std::arch::aarch64::float32x4_t {}
#[cfg(target_arch = "aarch64")]
impl Widen for std::arch::aarch64::float64x2_t {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::element::Storage;
    use std::arch::x86_64::*;

    // SAFETY of every block: the caller's, as `Vector` demands; the storage type says what `from`
    // points at.
    impl Widen for __m512 {
        #[inline(always)]
        unsafe fn widen<E: Element<Acc = f32>>(from: *const E) -> Self {
            unsafe {
                match E::STORAGE {
                    Storage::Wide => _mm512_loadu_ps(from.cast()),
                    Storage::Bf16 => bf16_to_512(_mm256_loadu_si256(from.cast())),
                    Storage::F16 => _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())),
                }
            }
        }

        #[inline(always)]
        unsafe fn widen_part<E: Element<Acc = f32>>(from: *const E, count: usize) -> Self {
            let mask = (1u32 << count) as u16 - 1;
            unsafe {
                match E::STORAGE {
                    Storage::Wide => _mm512_maskz_loadu_ps(mask, from.cast()),
                    Storage::Bf16 => bf16_to_512(_mm256_maskz_loadu_epi16(mask, from.cast())),
                    Storage::F16 => _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from.cast())),
                }
            }
        }

        #[inline(always)]
        unsafe fn sums([a, b, c, d, e, f, g, h]: [Self; LINES], to: *mut f32) {
            unsafe {
                let (x, y) = (
                    sums_of_four_512([a, b, c, d]),
                    sums_of_four_512([e, f, g, h]),
                );
                // Quarters 0 + 2 and 1 + 3 of both, then these.
                let halves = _mm512_add_ps(
                    _mm512_shuffle_f32x4::<0x44>(x, y),
                    _mm512_shuffle_f32x4::<0xee>(x, y),
                );
                let sums = _mm512_add_ps(halves, _mm512_shuffle_f32x4::<0xb1>(halves, halves));
                let sums = _mm512_shuffle_f32x4::<0x08>(sums, sums);
                _mm256_storeu_ps(to, _mm512_castps512_ps256(sums));
            }
        }
    }

    /// Sums of pairs of lanes, for four vectors in turn: `[a, b, c, d]` in each 128 bits.
    macro_rules! sums_of_four {
        ($v:expr, $low:ident, $high:ident, $low_pd:ident, $high_pd:ident, $to_pd:ident, $to_ps:ident, $add:ident) => {{
            let [a, b, c, d] = $v;
            let ab = $to_pd($add($low(a, b), $high(a, b)));
            let cd = $to_pd($add($low(c, d), $high(c, d)));
            $add($to_ps($low_pd(ab, cd)), $to_ps($high_pd(ab, cd)))
        }};
    }

    #[inline(always)]
    unsafe fn bf16_to_512(x: __m256i) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x))) }
    }

    #[inline(always)]
    unsafe fn sums_of_four_512(v: [__m512; 4]) -> __m512 {
        unsafe {
            sums_of_four!(
                v,
                _mm512_unpacklo_ps,
                _mm512_unpackhi_ps,
                _mm512_unpacklo_pd,
                _mm512_unpackhi_pd,
                _mm512_castps_pd,
                _mm512_castpd_ps,
                _mm512_add_ps
            )
        }
    }

    #[inline(always)]
    unsafe fn sums_of_four_256(v: [__m256; 4]) -> __m256 {
        unsafe {
            sums_of_four!(
                v,
                _mm256_unpacklo_ps,
                _mm256_unpackhi_ps,
                _mm256_unpacklo_pd,
                _mm256_unpackhi_pd,
                _mm256_castps_pd,
                _mm256_castpd_ps,
                _mm256_add_ps
            )
        }
    }

    impl Widen for __m512d {
        #[inline(always)]
        unsafe fn widen_part<E: Element<Acc = f64>>(from: *const E, count: usize) -> Self {
            unsafe { _mm512_maskz_loadu_pd((1u32 << count) as u8 - 1, from.cast()) }
        }
    }

    impl Widen for __m256 {
        #[inline(always)]
        unsafe fn widen<E: Element<Acc = f32>>(from: *const E) -> Self {
            unsafe {
                match E::STORAGE {
                    Storage::Wide => _mm256_loadu_ps(from.cast()),
                    Storage::Bf16 => {
                        let x = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x))
                    }
                    Storage::F16 => _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                }
            }
        }

        #[inline(always)]
        unsafe fn sums([a, b, c, d, e, f, g, h]: [Self; LINES], to: *mut f32) {
            unsafe {
                let (x, y) = (
                    sums_of_four_256([a, b, c, d]),
                    sums_of_four_256([e, f, g, h]),
                );
                let low = _mm256_permute2f128_ps::<0x20>(x, y);
                let high = _mm256_permute2f128_ps::<0x31>(x, y);
                _mm256_storeu_ps(to, _mm256_add_ps(low, high));
            }
        }
    }

    impl Widen for __m256d {}
}
