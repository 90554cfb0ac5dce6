//! AMX: `tdpbf16ps` multiplies tiles of 16 rows of 32 elements. The intrinsics are not stable, inline
//! assembly is.

use super::{Args, DEPTH, Engine, dot, emulated};
use half::bf16;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::LazyLock;

static AMX: Engine = Engine {
    beats_three: true,
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
    // Two tiles, one, and rows that are left.
    const M: usize = 53;
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

/// Assembly that changes tiles. What they hold lives in one block only: for the compiler all registers are
/// undefined at the start of the next.
macro_rules! tiles {
    ($($assembly:tt)+) => {
        asm!(
            $($assembly)+,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
        )
    };
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
    unsafe { tiles!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) }
}

unsafe fn leave() {
    // SAFETY: no tile is in use.
    unsafe { tiles!("tilerelease", options(nostack, nomem)) }
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
                    (true, true) => two_by_two(&args, r, x),
                    (true, false) => two_by_one(&args, r, x),
                    (false, true) => one_by_two(&args, r, x),
                    (false, false) => one_by_one(&args, r, x),
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

/// A function for as many tiles of sums as are listed, each with its place in `c`; `$step` adds the
/// products over [`DEPTH`] elements. tmm0 to tmm3 are for sums, tmm4 and tmm5 for the left side, tmm6 and
/// tmm7 for the right one.
macro_rules! block {
    ($name:ident: $($sum:literal at $at:literal),+; $($step:literal)+) => {
        /// SAFETY: the thread entered; from `row` and `column` on there are as many tiles.
        unsafe fn $name(args: &Args, row: usize, column: usize) {
            // SAFETY: the tiles that the caller names are all that is read and written. Pointers 16 rows down,
            // and into `b` if `k` is 0, may lead nowhere, then nothing uses them.
            unsafe {
                let c = args.c.add(row * args.ldc + column);
                let a = args.a.add(row * args.lda);
                tiles!(
                    "test {add:e}, {add:e}",
                    "jz 2f",
                    $(concat!("tileloadd tmm", $sum, ", [", $at, "]"),)+
                    "jmp 3f",
                    "2:",
                    $(concat!("tilezero tmm", $sum),)+
                    "3:",
                    "test {steps}, {steps}",
                    "jz 5f",
                    "4:",
                    $($step,)+
                    "add {a}, 64",
                    "add {a_down}, 64",
                    "add {b}, {sixteen_ldb}",
                    "dec {steps}",
                    "jnz 4b",
                    "5:",
                    $(concat!("tilestored [", $at, "], tmm", $sum),)+
                    // An operand must have a use.
                    "/* {c_down} */",
                    add = in(reg) u32::from(args.add),
                    steps = inout(reg) args.k / DEPTH => _,
                    c = in(reg) c,
                    c_down = in(reg) c.wrapping_add(16 * args.ldc),
                    ldc = in(reg) 4 * args.ldc,
                    a = inout(reg) a => _,
                    a_down = inout(reg) a.wrapping_add(16 * args.lda) => _,
                    lda = in(reg) 2 * args.lda,
                    b = inout(reg) args.b.wrapping_add(column) => _,
                    ldb = in(reg) 4 * args.ldb,
                    sixteen_ldb = in(reg) 16 * 4 * args.ldb,
                    options(nostack)
                );
            }
        }
    };
}

block! {
    two_by_two:
    0 at "{c} + {ldc}", 1 at "{c} + {ldc} + 64",
    2 at "{c_down} + {ldc}", 3 at "{c_down} + {ldc} + 64";
    "tileloadd tmm4, [{a} + {lda}]"
    "tileloadd tmm6, [{b} + {ldb}]"
    "tdpbf16ps tmm0, tmm4, tmm6"
    "tileloadd tmm7, [{b} + {ldb} + 64]"
    "tdpbf16ps tmm1, tmm4, tmm7"
    "tileloadd tmm5, [{a_down} + {lda}]"
    "tdpbf16ps tmm2, tmm5, tmm6"
    "tdpbf16ps tmm3, tmm5, tmm7"
}

block! {
    two_by_one:
    0 at "{c} + {ldc}", 2 at "{c_down} + {ldc}";
    "tileloadd tmm4, [{a} + {lda}]"
    "tileloadd tmm6, [{b} + {ldb}]"
    "tdpbf16ps tmm0, tmm4, tmm6"
    "tileloadd tmm5, [{a_down} + {lda}]"
    "tdpbf16ps tmm2, tmm5, tmm6"
}

block! {
    one_by_two:
    0 at "{c} + {ldc}", 1 at "{c} + {ldc} + 64";
    "tileloadd tmm4, [{a} + {lda}]"
    "tileloadd tmm6, [{b} + {ldb}]"
    "tdpbf16ps tmm0, tmm4, tmm6"
    "tileloadd tmm7, [{b} + {ldb} + 64]"
    "tdpbf16ps tmm1, tmm4, tmm7"
}

block! {
    one_by_one:
    0 at "{c} + {ldc}";
    "tileloadd tmm4, [{a} + {lda}]"
    "tileloadd tmm6, [{b} + {ldb}]"
    "tdpbf16ps tmm0, tmm4, tmm6"
}
