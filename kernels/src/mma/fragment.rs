//! Fragments of the tensor cores' m16n8k16 products, and how they are had from shared memory.
//!
//! Lane `l` of a plane holds, of a 16 x 8 accumulator, the columns `2 (l % 4)` and the next of the rows
//! `l / 4` and `l / 4 + 8`: one [`Pair`] each. Two accumulators side by side are, in 16 bits, the left
//! operand of the next product, so that weights never leave the registers.

use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

/// Two channels: what a lane holds of a row of an accumulator.
pub(crate) type Pair<E> = Vector<E, Const<2>>;
/// Eight channels of 16 bits: what one lane copies, and a row of a matrix that `ldmatrix` loads.
pub(crate) type Eight<E> = Vector<E, Const<8>>;
/// A fragment: four pairs of a left operand, two of a right one or of an accumulator.
pub(crate) type Fragment<E> = Array<Pair<E>>;

/// log2(e): scores are exponents of 2.
pub(crate) const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// `2^x`, 0 where `x` is minus infinity.
#[cube]
pub(crate) fn exp2(x: f32, #[comptime] ptx: bool) -> f32 {
    if comptime!(ptx) {
        let y: f32;
        gpu_asm!("ex2.approx.ftz.f32 {y}, {x};", y = out(_) y, x = in(_) x, options(pure, nomem));
        y
    } else {
        (x * f32::new(std::f32::consts::LN_2)).exp()
    }
}

/// The name of `E` in PTX.
#[cube]
#[allow(
    unused_variables,
    clippy::extra_unused_type_parameters,
    reason = "the closure is the body, and reads the type"
)]
fn name_of<E: Float>() -> comptime_type!(&'static str) {
    intrinsic!(|scope| {
        match E::elem_type(scope) {
            ElemType::Float(FloatKind::BF16) => "bf16x2",
            _ => "f16x2",
        }
    })
}

/// A pair rounded to 16 bits.
#[cube]
pub(crate) fn round<E: Float>(x: Pair<f32>, #[comptime] ptx: bool) -> Pair<E> {
    if comptime!(ptx) {
        let name = name_of::<E>().comptime();
        let y: u32;
        gpu_asm!(
            "cvt.rn.{name}.f32 {y}, {high}, {low};",
            y = out(_) y, high = in(_) x.extract(1usize), low = in(_) x.extract(0usize),
            options(pure, nomem)
        );
        Pair::<E>::reinterpret(y)
    } else {
        Pair::<E>::cast_from(x)
    }
}

/// `tiles` accumulators of zeros.
#[cube]
pub(crate) fn zeros(#[comptime] tiles: usize) -> Sequence<Fragment<f32>> {
    let mut all = Sequence::<Fragment<f32>>::new();
    #[unroll]
    for _tile in 0..tiles {
        let mut one = Array::<Pair<f32>>::new(2usize);
        one[0] = Pair::new(0.0f32);
        one[1] = Pair::new(0.0f32);
        all.push(one);
    }
    all
}

/// The left operand whose first row is staged row `row`, at channels `16 depth`; `line` groups of eight
/// channels between rows.
#[cube]
pub(crate) fn left<E: Float>(
    staged: &Shared<[Eight<E>]>,
    row: usize,
    #[comptime] depth: usize,
    #[comptime] line: usize,
) -> Fragment<E> {
    let def = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let lane = UNIT_POS_PLANE as usize;
    let at = (row + lane % 16) * line + lane / 16 + depth * 2;
    def.load_matrix::<_, Const<2>>(&staged[at..at + 1], MatrixIdent::A, 4usize, false)
}

/// Two right operands: staged rows `row..row + 16` as columns, at channels `16 depth`.
#[cube]
pub(crate) fn right<E: Float>(
    staged: &Shared<[Eight<E>]>,
    row: usize,
    #[comptime] depth: usize,
    #[comptime] line: usize,
) -> Fragment<E> {
    let def = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let lane = UNIT_POS_PLANE as usize;
    let at = (row + lane / 16 * 8 + lane % 8) * line + lane / 8 % 2 + depth * 2;
    def.load_matrix::<_, Const<2>>(&staged[at..at + 1], MatrixIdent::B, 4usize, false)
}

/// Two right operands: channels `16 column..` of staged rows `row..row + 16` as columns.
#[cube]
pub(crate) fn right_transposed<E: Float>(
    staged: &Shared<[Eight<E>]>,
    row: usize,
    column: usize,
    #[comptime] line: usize,
) -> Fragment<E> {
    let def = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let lane = UNIT_POS_PLANE as usize;
    let at = (row + lane % 16) * line + lane / 16 + column * 2;
    def.load_matrix::<_, Const<2>>(&staged[at..at + 1], MatrixIdent::B, 4usize, true)
}

/// One of two right operands.
#[cube]
pub(crate) fn half<E: Float>(both: &Fragment<E>, #[comptime] which: usize) -> Fragment<E> {
    let mut one = Array::<Pair<E>>::new(2usize);
    one[0] = both[comptime!(which * 2)];
    one[1] = both[comptime!(which * 2 + 1)];
    one
}

/// The left operand that two neighbouring accumulators are.
#[cube]
pub(crate) fn as_left<E: Float>(
    first: &Fragment<f32>,
    second: &Fragment<f32>,
    #[comptime] ptx: bool,
) -> Fragment<E> {
    let mut out = Array::<Pair<E>>::new(4usize);
    out[0] = round::<E>(first[0], ptx);
    out[1] = round::<E>(first[1], ptx);
    out[2] = round::<E>(second[0], ptx);
    out[3] = round::<E>(second[1], ptx);
    out
}

/// All left operands of a plane's `tiles` of 16 rows from staged row `row` on; none where they are to be
/// loaded anew each time.
#[cube]
pub(crate) fn lefts<E: Float>(
    staged: &Shared<[Eight<E>]>,
    row: usize,
    #[comptime] tiles: usize,
    #[comptime] depth: usize,
    #[comptime] line: usize,
    #[comptime] resident: bool,
) -> Sequence<Fragment<E>> {
    let mut all = Sequence::<Fragment<E>>::new();
    if comptime!(resident) {
        #[unroll]
        for tile in 0..tiles {
            #[unroll]
            for at in 0..depth {
                all.push(left::<E>(staged, row + tile * 16, at, line));
            }
        }
    }
    all
}

/// Products of a plane's own rows with `columns` staged rows from `other_row` on, over `16 depth` channels:
/// accumulator `tile * columns / 8 + n`.
#[cube]
pub(crate) fn products<E: Float>(
    own: &Sequence<Fragment<E>>,
    own_staged: &Shared<[Eight<E>]>,
    own_row: usize,
    other: &Shared<[Eight<E>]>,
    other_row: usize,
    #[comptime] tiles: usize,
    #[comptime] columns: usize,
    #[comptime] depth: usize,
    #[comptime] line: usize,
    #[comptime] resident: bool,
) -> Sequence<Fragment<f32>> {
    let def = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let mut acc = zeros(comptime!(tiles * columns / 8));
    #[unroll]
    for at in 0..depth {
        let mut loaded = Sequence::<Fragment<E>>::new();
        if comptime!(!resident) {
            #[unroll]
            for tile in 0..tiles {
                loaded.push(left::<E>(own_staged, own_row + tile * 16, at, line));
            }
        }
        #[unroll]
        for column in 0..comptime!(columns / 16) {
            let both = right::<E>(other, other_row + column * 16, at, line);
            #[unroll]
            for which in 0..2usize {
                let b = half::<E>(&both, which);
                #[unroll]
                for tile in 0..tiles {
                    let into = comptime!(tile * (columns / 8) + column * 2 + which);
                    if comptime!(resident) {
                        let a = own.index(comptime!(tile * depth + at));
                        def.execute_inplace(a, &b, acc.index_mut(into));
                    } else {
                        def.execute_inplace(loaded.index(tile), &b, acc.index_mut(into));
                    }
                }
            }
        }
    }
    acc
}

/// Adds the weights of `rows` staged rows times these rows: `acc[tile * share / 8 + n]`, of the channels from
/// `16 first` on, `16 share` of them.
#[cube]
pub(crate) fn accumulate<E: Float>(
    acc: &mut Sequence<Fragment<f32>>,
    weights: &Sequence<Fragment<E>>,
    other: &Shared<[Eight<E>]>,
    other_row: usize,
    first: usize,
    #[comptime] tiles: usize,
    #[comptime] rows: usize,
    #[comptime] share: usize,
    #[comptime] line: usize,
) {
    let def = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    #[unroll]
    for at in 0..comptime!(rows / 16) {
        #[unroll]
        for column in 0..share {
            let both = right_transposed::<E>(other, other_row + at * 16, first + column, line);
            #[unroll]
            for which in 0..2usize {
                let b = half::<E>(&both, which);
                #[unroll]
                for tile in 0..tiles {
                    let a = weights.index(comptime!(tile * (rows / 16) + at));
                    let into = comptime!(tile * share * 2 + column * 2 + which);
                    def.execute_inplace(a, &b, acc.index_mut(into));
                }
            }
        }
    }
}

/// The weights in `acc` (`tiles` x `columns`) as left operands.
#[cube]
pub(crate) fn as_lefts<E: Float>(
    acc: &Sequence<Fragment<f32>>,
    #[comptime] tiles: usize,
    #[comptime] columns: usize,
    #[comptime] ptx: bool,
) -> Sequence<Fragment<E>> {
    let mut all = Sequence::<Fragment<E>>::new();
    #[unroll]
    for at in 0..comptime!(tiles * columns / 16) {
        all.push(as_left::<E>(
            acc.index(comptime!(at * 2)),
            acc.index(comptime!(at * 2 + 1)),
            ptx,
        ));
    }
    all
}

/// The largest of the four lanes of a row.
#[cube]
pub(crate) fn row_max(x: f32) -> f32 {
    let y = x.max(plane_shuffle_xor(x, 1u32));
    y.max(plane_shuffle_xor(y, 2u32))
}

/// The sum over the four lanes of a row.
#[cube]
pub(crate) fn row_sum(x: f32) -> f32 {
    let y = x + plane_shuffle_xor(x, 1u32);
    y + plane_shuffle_xor(y, 2u32)
}
