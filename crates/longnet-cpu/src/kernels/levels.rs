//! The kernels, once per instruction set.

use super::bf16::{Engine, emulated::EMULATED};
use super::rows::{self, Exponentials};
use super::{Kernels, LineArgs, ProductArgs, lines, product, transpose};
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
/// become vector code of that width. `$m x $n` accumulators of type `$v` fill the registers of a product;
/// `$rows` has the functions with exponentials.
macro_rules! level {
    ($table:ident, $t:ident, fma: $fma:literal, product: $m:literal x $n:literal of $v:ty, rows: $rows:ty $(, $features:literal)?) => {
        static $table: Kernels<$t> = {
            type R = $t;
            // SAFETY: the callers' contracts are those of the functions called.
            $(#[target_feature(enable = $features)])?
            unsafe fn product(args: ProductArgs<R>) {
                unsafe { product::product::<$v, $m, $n, false>(args) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn product_tn(args: ProductArgs<R>) {
                unsafe { product::product::<$v, $m, $n, true>(args) }
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
            fn softmax(s: &mut [R], factor: R, m: R) -> (R, R) {
                unsafe { <$rows as Exponentials<R>>::softmax(s, factor, m) }
            }
            $(#[target_feature(enable = $features)])?
            fn scale(x: &mut [R], c: R) {
                rows::scale(x, c)
            }
            $(#[target_feature(enable = $features)])?
            fn multiply(x: &mut [R], y: &[R]) {
                rows::multiply(x, y)
            }
            $(#[target_feature(enable = $features)])?
            fn add(x: &mut [R], y: &[R]) {
                rows::add(x, y)
            }
            $(#[target_feature(enable = $features)])?
            fn sum(x: &[R]) -> R {
                rows::sum(x)
            }
            $(#[target_feature(enable = $features)])?
            fn gradient_of_row(s: &mut [R], dp: &mut [R], factor: R, lse: R, delta: R) {
                unsafe { <$rows as Exponentials<R>>::gradient_of_row(s, dp, factor, lse, delta) }
            }
            $(#[target_feature(enable = $features)])?
            fn keep(c: &mut [R], word: u32, words: &[u32], threshold: u32, scale: R) {
                rows::keep(c, word, words, threshold, scale)
            }
            Kernels {
                line_scores: stored!($t: line_scores),
                line_sums: stored!($t: line_sums),
                product,
                product_tn,
                transpose,
                softmax,
                scale,
                multiply,
                add,
                sum,
                gradient_of_row,
                keep,
            }
        };
    };
}

/// The kernels of one instruction set, and what `LONGNET_CPU` calls it.
pub struct Level {
    pub name: &'static str,
    pub f32: &'static Kernels<f32>,
    pub f64: &'static Kernels<f64>,
    /// Products of bfloat16, where they pay.
    pub bf16: Option<&'static Engine>,
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::kernels::bf16::dot::DOT;
    use crate::kernels::rows_avx512;
    use std::arch::x86_64::{__cpuid, __m256, __m256d, __m512, __m512d};

    level!(AVX512_F32, f32, fma: true, product: 7 x 4 of __m512, rows: rows_avx512::Scalef, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    level!(AVX512_F64, f64, fma: true, product: 7 x 4 of __m512d, rows: rows::Compiled<true>, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
    level!(AVX2_F32, f32, fma: true, product: 6 x 2 of __m256, rows: rows::Compiled<true>, "avx2,fma,f16c");
    level!(AVX2_F64, f64, fma: true, product: 6 x 2 of __m256d, rows: rows::Compiled<true>, "avx2,fma,f16c");

    pub fn available() -> impl Iterator<Item = Level> {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let avx512bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
        let with_avx512 = |name, bf16| Level {
            name,
            f32: &AVX512_F32,
            f64: &AVX512_F64,
            bf16,
        };
        let dot = || with_avx512("avx512bf16", Some(&DOT));
        // Intel's processors take four times as long for `vdpbf16ps` as for a multiply-add of f32.
        let (dot_first, dot_last) = match is_intel() {
            true => (None, avx512bf16.then(dot)),
            false => (avx512bf16.then(dot), None),
        };
        [
            amx_engine(avx512bf16).map(|amx| with_avx512("amx", Some(amx))),
            dot_first,
            avx512.then(|| with_avx512("avx512", None)),
            dot_last,
            avx2.then_some(Level {
                name: "avx2",
                f32: &AVX2_F32,
                f64: &AVX2_F64,
                bf16: None,
            }),
        ]
        .into_iter()
        .flatten()
    }

    fn is_intel() -> bool {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes) == [*b"Genu", *b"ineI", *b"ntel"]
    }

    #[cfg(target_os = "linux")]
    fn amx_engine(avx512bf16: bool) -> Option<&'static Engine> {
        avx512bf16.then(crate::kernels::bf16::amx::available)?
    }

    /// Other systems grant the state of the tiles in other ways.
    #[cfg(not(target_os = "linux"))]
    fn amx_engine(_: bool) -> Option<&'static Engine> {
        None
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::*;
    use std::arch::aarch64::{float32x4_t, float64x2_t};

    level!(NEON_F32, f32, fma: true, product: 6 x 4 of float32x4_t, rows: rows::Compiled<true>, "neon");
    level!(NEON_F64, f64, fma: true, product: 6 x 4 of float64x2_t, rows: rows::Compiled<true>, "neon");

    /// NEON is part of the architecture.
    pub fn available() -> impl Iterator<Item = Level> {
        std::iter::once(Level {
            name: "neon",
            f32: &NEON_F32,
            f64: &NEON_F64,
            bf16: None,
        })
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod other {
    pub fn available() -> impl Iterator<Item = super::Level> {
        std::iter::empty()
    }
}

#[cfg(target_arch = "aarch64")]
use aarch64 as native;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use other as native;
#[cfg(target_arch = "x86_64")]
use x86 as native;

// Without fused multiply-adds: where the CPU has none they are slow library calls.
level!(PORTABLE_F32, f32, fma: false, product: 3 x 4 of [f32; 4], rows: rows::Compiled<false>);
level!(PORTABLE_F64, f64, fma: false, product: 3 x 2 of [f64; 4], rows: rows::Compiled<false>);

/// The levels that this machine runs, best first. The last two run anywhere.
pub fn available() -> Vec<Level> {
    let portable = |name, bf16| Level {
        name,
        f32: &PORTABLE_F32,
        f64: &PORTABLE_F64,
        bf16,
    };
    let anywhere = [
        portable("portable", None),
        portable("emulated-bf16", Some(&EMULATED)),
    ];
    native::available().chain(anywhere).collect()
}

/// `LONGNET_CPU` names no level of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLevel {
    asked: String,
}

impl std::fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let names: Vec<_> = available().iter().map(|level| level.name).collect();
        write!(
            f,
            "LONGNET_CPU={}: this machine has {}",
            self.asked,
            names.join(", ")
        )
    }
}

impl std::error::Error for UnknownLevel {}

/// The level that `asked` names, or the best.
fn choose(asked: Option<&str>) -> Result<Level, UnknownLevel> {
    let wanted = |level: &Level| asked.is_none_or(|asked| asked == level.name);
    available().into_iter().find(wanted).ok_or(UnknownLevel {
        asked: asked.unwrap_or_default().into(),
    })
}

/// The level of this process: that of `LONGNET_CPU`, or the best of this machine.
pub fn selected() -> Result<&'static Level, UnknownLevel> {
    static LEVEL: LazyLock<Result<Level, UnknownLevel>> = LazyLock::new(|| {
        let asked = std::env::var_os("LONGNET_CPU");
        choose(
            asked
                .as_deref()
                .map(|asked| asked.to_string_lossy())
                .as_deref(),
        )
    });
    LEVEL.as_ref().map_err(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_found_by_its_name_or_the_error_lists_what_there_is() {
        let names: Vec<_> = available().iter().map(|level| level.name).collect();
        for name in &names {
            assert_eq!(choose(Some(name)).unwrap().name, *name);
        }
        assert_eq!(choose(None).unwrap().name, names[0]);
        for asked in ["vax", "", "AVX2"] {
            assert_eq!(
                choose(Some(asked)).err().unwrap().to_string(),
                format!("LONGNET_CPU={asked}: this machine has {}", names.join(", "))
            );
        }
    }
}
