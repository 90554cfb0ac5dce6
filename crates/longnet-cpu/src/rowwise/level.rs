//! One body, compiled once per instruction set.

use std::sync::OnceLock;

/// The instruction sets that bodies are compiled for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the target has by itself.
    Baseline,
}

impl Level {
    /// That of this process, see [`level`](crate::level).
    ///
    /// # Panics
    ///
    /// If `LONGNET_CPU` names no level of this machine.
    #[inline]
    pub fn selected() -> Self {
        // Not a `LazyLock`, whose second panic would not say why.
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let level = crate::kernels::selected().unwrap_or_else(|e| panic!("{e}"));
            match level.name {
                #[cfg(target_arch = "x86_64")]
                "amx" | "avx512bf16" | "avx512" => Self::Avx512,
                #[cfg(target_arch = "x86_64")]
                "avx2" => Self::Avx2,
                _ => Self::Baseline,
            }
        })
    }
}

/// Defines `fn $name`, whose `$body` sees the constant `$fma` and is compiled for each level.
macro_rules! per_level {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?), $fma:ident => $body:block) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body<const $fma: bool>($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $type),*) {
                body::<true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                body::<true>($($arg),*)
            }
            use $crate::rowwise::level::Level;
            match Level::selected() {
                // SAFETY: the level says that this machine has the features.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                // Every aarch64 has a fused multiply-add; elsewhere it may be a slow library call.
                Level::Baseline => body::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
            }
        }
    };
}
pub(super) use per_level;
