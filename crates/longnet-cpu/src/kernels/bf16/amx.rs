//! AMX: `tdpbf16ps` multiplies tiles of 16 rows of 32 elements. The intrinsics are not stable, inline
//! assembly is.

use super::{Args, DEPTH, Engine, dot, emulated};
use half::bf16;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::LazyLock;

static AMX: Engine = Engine {
    product,
    round: dot::round,
    round_pairs: dot::round_pairs,
    enter,
    leave,
};

/// The engine, where processor and kernel allow it and it computes what it should.
///
/// `--cfg longnet_amx_emulated` takes the former for granted: `.ci/amx` then catches the instructions.
pub fn available() -> Option<&'static Engine> {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        (cfg!(longnet_amx_emulated) || has_tiles() && asks_for_tiles()) && computes()
    });
    AVAILABLE.then_some(&AMX)
}

/// Whether the processor has AMX-TILE and AMX-BF16, and the kernel saves its state.
fn has_tiles() -> bool {
    #[target_feature(enable = "xsave")]
    fn saves_tiles() -> bool {
        // SAFETY: checked by the caller. Bits 17 and 18: tile configuration and data.
        unsafe { _xgetbv(0) & 0x6_0000 == 0x6_0000 }
    }
    let osxsave = __cpuid(1).ecx & 1 << 27 != 0;
    let features = __cpuid_count(7, 0).edx;
    // SAFETY: the kernel enabled xgetbv.
    osxsave && features & (1 << 22) != 0 && features & (1 << 24) != 0 && unsafe { saves_tiles() }
}

/// Linux grants the large state to a process that asks: `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`.
fn asks_for_tiles() -> bool {
    let result: i64;
    // SAFETY: the call reads no memory; the kernel changes rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") 158_i64 => result,
            in("rdi") 0x1023_u64,
            in("rsi") 18_u64,
            out("rcx") _,
            out("r11") _,
        );
    }
    result == 0
}

/// One product, against the emulation.
fn computes() -> bool {
    const M: usize = 37;
    let number = |i: usize| (i * 2_654_435_761 % 1009) as f32 / 1009.0 - 0.5;
    let a: Vec<bf16> = (0..M * 64).map(|i| bf16::from_f32(number(i))).collect();
    let half = |i| bf16::from_f32(number(i)).to_bits() as u32;
    let b: Vec<u32> = (0..32 * 48)
        .map(|i| half(7 * i) | half(5 * i) << 16)
        .collect();
    let run = |product: unsafe fn(Args)| {
        let mut c = vec![1.0; M * 48];
        let args = Args {
            c: c.as_mut_ptr(),
            ldc: 48,
            a: a.as_ptr(),
            lda: 64,
            b: b.as_ptr(),
            ldb: 48,
            m: M,
            n: 48,
            k: 64,
            add: true,
        };
        // SAFETY: the sizes are those of the buffers, and the instructions are there.
        unsafe { product(args) };
        c
    };
    // SAFETY: this thread makes no other use of tiles.
    unsafe { enter() };
    let ours = run(product);
    // SAFETY: as above.
    unsafe { leave() };
    let close = |(x, y): (&f32, &f32)| (x - y).abs() < 1e-4;
    ours.iter().zip(&run(emulated::product)).all(close)
}

/// All eight tiles have 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

unsafe fn enter() {
    let first_eight = |x| std::array::from_fn(|i| if i < 8 { x } else { 0 });
    let config = Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: first_eight(64).map(u16::from),
        rows: first_eight(16),
    };
    // SAFETY: the configuration is 64 valid bytes.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) }
}

unsafe fn leave() {
    // SAFETY: no tile is in use.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// One instruction on fixed tiles. SAFETY: the caller entered, and rows of 64 bytes, `$stride` bytes
/// apart, lie at `$at`.
macro_rules! tile {
    (zero $t:literal) => {
        asm!(concat!("tilezero tmm", $t), options(nostack, nomem))
    };
    (load $t:literal, $at:expr, $stride:expr) => {
        asm!(concat!("tileloadd tmm", $t, ", [{at} + {stride}]"), at = in(reg) $at, stride = in(reg) $stride, options(nostack, readonly))
    };
    (store $t:literal, $at:expr, $stride:expr) => {
        asm!(concat!("tilestored [{at} + {stride}], tmm", $t), at = in(reg) $at, stride = in(reg) $stride, options(nostack))
    };
    (add $c:literal, $a:literal, $b:literal) => {
        asm!(concat!("tdpbf16ps tmm", $c, ", tmm", $a, ", tmm", $b), options(nostack, nomem))
    };
}

unsafe fn product(args: Args) {
    let tiled = args.m / 16 * 16;
    // SAFETY: each call takes rows and columns that are left.
    unsafe {
        let mut r = 0;
        while r < tiled {
            let two_rows = r + 32 <= tiled;
            let mut x = 0;
            while x < args.n {
                let two_columns = x + 32 <= args.n;
                match (two_rows, two_columns) {
                    (true, true) => block::<true, true>(&args, r, x),
                    (true, false) => block::<true, false>(&args, r, x),
                    (false, true) => block::<false, true>(&args, r, x),
                    (false, false) => block::<false, false>(&args, r, x),
                }
                x += if two_columns { 32 } else { 16 };
            }
            r += if two_rows { 32 } else { 16 };
        }
        // Every machine with AMX has AVX512-BF16.
        if tiled < args.m {
            dot::product(Args {
                c: args.c.add(tiled * args.ldc),
                a: args.a.add(tiled * args.lda),
                m: args.m - tiled,
                ..args
            });
        }
    }
}

/// One or two by one or two tiles of sums: tmm0 to tmm3, rows first. tmm4 and tmm5 hold the left side,
/// tmm6 and tmm7 the right one.
#[inline(always)]
unsafe fn block<const ROWS: bool, const COLUMNS: bool>(args: &Args, row: usize, column: usize) {
    // SAFETY: the caller's: 16 or 32 rows and columns from there on.
    unsafe {
        let c = args.c.add(row * args.ldc + column);
        let (c_down, c_stride) = (c.add(16 * args.ldc), 4 * args.ldc);
        if args.add {
            tile!(load 0, c, c_stride);
            if COLUMNS {
                tile!(load 1, c.add(16), c_stride);
            }
            if ROWS {
                tile!(load 2, c_down, c_stride);
            }
            if ROWS && COLUMNS {
                tile!(load 3, c_down.add(16), c_stride);
            }
        } else {
            tile!(zero 0);
            tile!(zero 1);
            tile!(zero 2);
            tile!(zero 3);
        }
        for i in (0..args.k).step_by(DEPTH) {
            let a = args.a.add(row * args.lda + i);
            let b = args.b.add(i / 2 * args.ldb + column);
            let (a_stride, b_stride) = (2 * args.lda, 4 * args.ldb);
            tile!(load 4, a, a_stride);
            tile!(load 6, b, b_stride);
            tile!(add 0, 4, 6);
            if COLUMNS {
                tile!(load 7, b.add(16), b_stride);
                tile!(add 1, 4, 7);
            }
            if ROWS {
                tile!(load 5, a.add(16 * args.lda), a_stride);
                tile!(add 2, 5, 6);
            }
            if ROWS && COLUMNS {
                tile!(add 3, 5, 7);
            }
        }
        tile!(store 0, c, c_stride);
        if COLUMNS {
            tile!(store 1, c.add(16), c_stride);
        }
        if ROWS {
            tile!(store 2, c_down, c_stride);
        }
        if ROWS && COLUMNS {
            tile!(store 3, c_down.add(16), c_stride);
        }
    }
}
