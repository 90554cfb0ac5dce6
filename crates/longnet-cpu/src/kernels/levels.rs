//! The kernels, once per instruction set.

use super::{Kernels, LineArgs, ProductArgs, lines, product, rows, transpose};
use crate::element::Element;
use half::{bf16, f16};
use std::sync::LazyLock;

/// A function for every storage type, in the order of [`Storage`](crate::element::Storage).
macro_rules! stored {
    (f32: $f:ident) => {
        &[$f::<f32>, $f::<bf16>, $f::<f16>]
    };
    (f64: $f:ident) => {
        &[$f::<f64>]
    };
}

/// A table whose functions are compiled for the target features given: loops over fixed-size arrays
/// become vector code of that width. `$m x $n` accumulators of type `$v` fill the registers of a product.
macro_rules! level {
    ($table:ident, $t:ident, fma: $fma:literal, product: $m:literal x $n:literal of $v:ty $(, $features:literal)?) => {
        static $table: Kernels<$t> = {
            type R = $t;
            // SAFETY: the callers' contracts are those of the functions called.
            $(#[target_feature(enable = $features)])?
            unsafe fn product(args: ProductArgs<R>) {
                unsafe { product::product::<$v, $m, $n>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn transpose(panels: &mut [R], src: *const R, ld: usize, rows: usize, d: usize) {
                unsafe { transpose::transpose(panels, src, ld, rows, d) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn line_scores<E: Element<Acc = R>>(args: LineArgs<R>) {
                unsafe { lines::scores::<$v, E>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn line_sums<E: Element<Acc = R>>(args: LineArgs<R>) {
                unsafe { lines::sums::<$v, E>(args) }
            }
            $(#[target_feature(enable = $features)])?
            fn softmax(s: &mut [R], m: R) -> (R, R) {
                rows::softmax::<R, $fma>(s, m)
            }
            $(#[target_feature(enable = $features)])?
            fn scale(x: &mut [R], c: R) {
                rows::scale(x, c)
            }
            $(#[target_feature(enable = $features)])?
            fn add_scaled(x: &mut [R], y: &[R], c: R) {
                rows::add_scaled::<R, $fma>(x, y, c)
            }
            $(#[target_feature(enable = $features)])?
            fn multiply(x: &mut [R], y: &[R]) {
                rows::multiply(x, y)
            }
            $(#[target_feature(enable = $features)])?
            fn sum(x: &[R]) -> R {
                rows::sum(x)
            }
            $(#[target_feature(enable = $features)])?
            fn gradient_of_row(s: &mut [R], dp: &mut [R], lse: R, delta: R) {
                rows::gradient_of_row::<R, $fma>(s, dp, lse, delta)
            }
            $(#[target_feature(enable = $features)])?
            fn gradient_of_column(s: &mut [R], dp: &mut [R], lse: &[R], delta: &[R]) {
                rows::gradient_of_column::<R, $fma>(s, dp, lse, delta)
            }
            $(#[target_feature(enable = $features)])?
            fn keep(c: &mut [R], word: u32, words: &[u32], threshold: u32, scale: R) {
                rows::keep(c, word, words, threshold, scale)
            }
            Kernels {
                line_scores: stored!($t: line_scores),
                line_sums: stored!($t: line_sums),
                product,
                transpose,
                softmax,
                scale,
                add_scaled,
                multiply,
                sum,
                gradient_of_row,
                gradient_of_column,
                keep,
            }
        };
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::{__m256, __m256d, __m512, __m512d};

    level!(AVX512_F32, f32, fma: true, product: 7 x 4 of __m512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    level!(AVX512_F64, f64, fma: true, product: 7 x 4 of __m512d, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    level!(AVX2_F32, f32, fma: true, product: 6 x 2 of __m256, "avx2,fma,f16c");
    level!(AVX2_F64, f64, fma: true, product: 6 x 2 of __m256d, "avx2,fma,f16c");
    level!(PORTABLE_F32, f32, fma: false, product: 3 x 4 of [f32; 4]);
    level!(PORTABLE_F64, f64, fma: false, product: 3 x 2 of [f64; 4]);

    /// The tables that this machine runs, best first.
    pub fn tables() -> Vec<(&'static Kernels<f32>, &'static Kernels<f64>)> {
        let mut tables = Vec::new();
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if avx2 && avx512 {
            tables.push((&AVX512_F32, &AVX512_F64));
        }
        if avx2 {
            tables.push((&AVX2_F32, &AVX2_F64));
        }
        tables.push((&PORTABLE_F32, &PORTABLE_F64));
        tables
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod portable {
    use super::*;

    // Every aarch64 has a fused multiply-add; elsewhere it may be a slow library call.
    #[cfg(target_arch = "aarch64")]
    level!(F32, f32, fma: true, product: 6 x 4 of [f32; 4]);
    #[cfg(target_arch = "aarch64")]
    level!(F64, f64, fma: true, product: 6 x 2 of [f64; 4]);
    #[cfg(not(target_arch = "aarch64"))]
    level!(F32, f32, fma: false, product: 3 x 4 of [f32; 4]);
    #[cfg(not(target_arch = "aarch64"))]
    level!(F64, f64, fma: false, product: 3 x 2 of [f64; 4]);

    pub fn tables() -> Vec<(&'static Kernels<f32>, &'static Kernels<f64>)> {
        vec![(&F32, &F64)]
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub use portable::tables;
#[cfg(target_arch = "x86_64")]
pub use x86::tables;

static BEST: LazyLock<(&Kernels<f32>, &Kernels<f64>)> = LazyLock::new(|| tables()[0]);

/// The best table of this machine.
pub fn select_f32() -> &'static Kernels<f32> {
    BEST.0
}

/// The best table of this machine.
pub fn select_f64() -> &'static Kernels<f64> {
    BEST.1
}
