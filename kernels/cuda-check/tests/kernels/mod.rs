//! Kernels that use one thing each.

use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::barrier::{Barrier, copy_async};
use cubecl::prelude::*;

/// out = a + scale b
#[cube(launch)]
pub fn add(a: &[f32], b: &[f32], out: &mut [f32], scale: f32) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = a[ABSOLUTE_POS] + scale * b[ABSOLUTE_POS];
    }
}

/// The transpose of a matrix through a tile of 16 by 16 in shared memory; without `synchronize`
/// reads race with writes.
#[cube(launch)]
pub fn transpose(x: &Tensor<f32>, out: &mut Tensor<f32>, #[comptime] synchronize: bool) {
    let mut tile = Shared::<[f32]>::new_slice(256usize);
    let (row, column) = (UNIT_POS_Y as usize, UNIT_POS_X as usize);
    let first_row = CUBE_POS_Y as usize * 16;
    let first_column = CUBE_POS_X as usize * 16;
    tile[row * 16 + column] = x[(first_row + row) * x.stride(0) + first_column + column];
    if synchronize {
        sync_cube();
    }
    let at = (first_column + row) * out.stride(0) + first_row + column;
    out[at] = tile[column * 16 + row];
}

/// Of each warp: the sum, the largest, the first lane's and the neighbour's value.
#[cube(launch)]
pub fn shuffles(x: &[f32], out: &mut [f32]) {
    let value = x[ABSOLUTE_POS];
    let at = ABSOLUTE_POS * 4;
    out[at] = plane_sum(value);
    out[at + 1] = plane_max(value);
    out[at + 2] = plane_broadcast(value, 0u32);
    out[at + 3] = plane_shuffle_xor(value, 1u32);
}

/// Half of the warp takes part in a sum of all of it.
#[cube(launch)]
pub fn diverging(x: &[f32], out: &mut [f32]) {
    let mut value = x[UNIT_POS as usize];
    if UNIT_POS < 16 {
        value = plane_sum(value);
    }
    sync_cube();
    out[UNIT_POS as usize] = value;
}

/// Every block adds one to the same element.
#[cube(launch)]
pub fn every_block_writes(out: &mut [f32]) {
    if UNIT_POS == 0 {
        out[0] += 1.0;
    }
}

/// Writes one element more than `out` has.
#[cube(launch_unchecked)]
pub fn past_the_end(out: &mut [f32]) {
    out[UNIT_POS as usize] = 1.0;
}

/// C = A B of one 16-row tile a block, 8 columns at a time, with `mma.sync` and `ldmatrix`; B is
/// loaded transposed. Without `synchronize` lanes load what others may not have stored.
#[cube(launch)]
pub fn matmul<E: Float>(
    a: &Tensor<E>,
    b: &Tensor<E>,
    out: &mut Tensor<f32>,
    #[comptime] depth: usize,
    #[comptime] columns: usize,
    #[comptime] synchronize: bool,
    #[define(E)] _dtype: ElemType,
) {
    let def = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let lane = UNIT_POS_PLANE as usize;
    let mut tile_a = Shared::<[E]>::new_aligned_slice(16usize * depth, 16usize);
    let mut tile_b = Shared::<[E]>::new_aligned_slice(depth * columns, 16usize);
    let first = CUBE_POS * 16;
    let mut at = lane;
    while at < 16 * depth {
        tile_a[at] = a[(first + at / depth) * a.stride(0) + at % depth];
        at += 32;
    }
    let mut at = lane;
    while at < depth * columns {
        tile_b[at] = b[at / columns * b.stride(0) + at % columns];
        at += 32;
    }
    if synchronize {
        sync_plane();
    }
    let count_a = def.vectors_per_lane(MatrixIdent::A);
    let count_b = def.vectors_per_lane(MatrixIdent::B);
    let count_c = def.vectors_per_lane(MatrixIdent::Accumulator);
    let size!(NA) = def.vector_size(MatrixIdent::A);
    let size!(NB) = def.vector_size(MatrixIdent::B);
    let size!(NC) = def.vector_size(MatrixIdent::Accumulator);
    let width = def.vector_size(MatrixIdent::Accumulator);
    #[unroll]
    for column in 0..columns / 8 {
        let mut sum = Array::<Vector<f32, NC>>::new(count_c);
        #[unroll]
        for i in 0..count_c {
            sum[i] = Vector::new(0.0f32);
        }
        #[unroll]
        for k in 0..depth / 16 {
            let row_a = lane % 16 * depth + k * 16 + lane / 16 * 8;
            let fragment_a =
                def.load_matrix::<_, NA>(&tile_a[row_a..row_a + 8], MatrixIdent::A, count_a, false);
            let row_b = (k * 16 + lane % 16) * columns + column * 8;
            let fragment_b =
                def.load_matrix::<_, NB>(&tile_b[row_b..row_b + 8], MatrixIdent::B, count_b, true);
            sum = def.execute(&fragment_a, &fragment_b, &sum);
        }
        #[unroll]
        for i in 0..count_c {
            #[unroll]
            for j in 0..width {
                let (row, part) = def.position_of_nth(
                    lane as u32,
                    (i * width + j) as u32,
                    MatrixIdent::Accumulator,
                );
                let at = (first + row as usize) * out.stride(0) + column * 8 + part as usize;
                out[at] = sum[i].extract(j);
            }
        }
    }
}

/// Doubles `steps` rows of 32 floats, of which the next is always on its way to shared memory.
#[cube(launch)]
pub fn double_buffered(x: &[f32], out: &mut [f32], steps: u32) {
    let mut buffer = Shared::<[f32]>::new_aligned_slice(64usize, 16usize);
    let barrier = Barrier::shared(CUBE_DIM, UNIT_POS == 0);
    let unit = UNIT_POS as usize;
    // Eight lanes bring 16 bytes each.
    if unit < 8 {
        copy_async(
            &x[unit * 4..unit * 4 + 4],
            &mut buffer[unit * 4..unit * 4 + 4],
            4u32,
        );
    }
    for step in 0..steps {
        let now = (step % 2) as usize * 32;
        let next = 32 - now;
        // Arrives when this lane's copies have landed.
        barrier.commit_copy_async();
        barrier.arrive_and_wait();
        if unit < 8 && step + 1 < steps {
            let from = (step as usize + 1) * 32 + unit * 4;
            let to = next + unit * 4;
            copy_async(&x[from..from + 4], &mut buffer[to..to + 4], 4u32);
        }
        out[step as usize * 32 + unit] = 2.0 * buffer[now + unit];
    }
}

/// The same with groups of copies, as PTX has them.
#[cube(launch)]
pub fn double_buffered_groups(x: &[f32], out: &mut [f32], steps: u32, #[comptime] left: u32) {
    let mut buffer = Shared::<[f32]>::new_aligned_slice(64usize, 16usize);
    let unit = UNIT_POS as usize;
    if unit < 8 {
        copy_async(
            &x[unit * 4..unit * 4 + 4],
            &mut buffer[unit * 4..unit * 4 + 4],
            4u32,
        );
    }
    gpu_asm!("cp.async.commit_group;");
    for step in 0..steps {
        let now = (step % 2) as usize * 32;
        let next = 32 - now;
        // The other half was read in the last step.
        sync_cube();
        if unit < 8 && step + 1 < steps {
            let from = (step as usize + 1) * 32 + unit * 4;
            let to = next + unit * 4;
            copy_async(&x[from..from + 4], &mut buffer[to..to + 4], 4u32);
        }
        gpu_asm!("cp.async.commit_group;");
        gpu_asm!("cp.async.wait_group {left};", left = const left);
        sync_cube();
        out[step as usize * 32 + unit] = 2.0 * buffer[now + unit];
    }
}

/// f32 to `E`, and back.
#[cube(launch)]
pub fn rounded<E: Float>(
    x: &[f32],
    out: &mut [E],
    back: &mut [f32],
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < x.len() {
        let value = E::cast_from(x[ABSOLUTE_POS]);
        out[ABSOLUTE_POS] = value;
        back[ABSOLUTE_POS] = f32::cast_from(value);
    }
}

/// Arithmetic in `E`, of scalars and of pairs: `a b + c`, `a / b`, the larger, `exp`, and twice the pair.
#[cube(launch)]
pub fn arithmetic<E: Float>(x: &[E], out: &mut [E], #[define(E)] _dtype: ElemType) {
    let at = UNIT_POS as usize * 4;
    let (a, b, c) = (x[at], x[at + 1], x[at + 2]);
    let to = UNIT_POS as usize * 8;
    out[to] = fma(a, b, c);
    out[to + 1] = a / b;
    out[to + 2] = a.max(b);
    out[to + 3] = a.exp();
    let mut pair = Vector::<E, Const<2>>::new(a);
    pair.insert(1usize, b);
    let sum = pair * Vector::new(c) + pair;
    out[to + 4] = sum.extract(0usize);
    out[to + 5] = sum.extract(1usize);
    out[to + 6] = -a;
    out[to + 7] = a - b;
}

/// What kernels ask of PTX by name.
#[cube(launch)]
pub fn by_name(x: &[f32], out: &mut [f32]) {
    let value = x[UNIT_POS as usize];
    let at = UNIT_POS as usize * 6;
    let power: f32;
    gpu_asm!("ex2.approx.ftz.f32 {}, {};", out(_) power, in(_) value);
    // As an operand, a variable would be its address.
    let power = power * 1.0f32;
    out[at] = power;
    let logarithm: f32;
    gpu_asm!("lg2.approx.f32 {}, {};", out(_) logarithm, in(_) power);
    out[at + 1] = logarithm;
    let inverse: f32;
    gpu_asm!("rcp.approx.ftz.f32 {}, {};", out(_) inverse, in(_) power);
    out[at + 2] = inverse;
    let pair: u32;
    gpu_asm!("cvt.rn.bf16x2.f32 {}, {}, {};", out(_) pair, in(_) power, in(_) value);
    // The second operand is the lower half.
    out[at + 3] = f32::reinterpret(pair << 16u32);
    out[at + 4] = f32::reinterpret(pair & 0xffff_0000u32);
    out[at + 5] = select(plane_elect(), 1.0f32, 0.0f32);
}

/// `x` through registers and shared memory and back: `ldmatrix`, then `stmatrix` of the same, both
/// transposed.
#[cube(launch)]
pub fn through_registers<E: Float>(x: &[E], out: &mut [E], #[define(E)] _dtype: ElemType) {
    let def = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let lane = UNIT_POS_PLANE as usize;
    let mut from = Shared::<[E]>::new_aligned_slice(256usize, 16usize);
    let mut to = Shared::<[E]>::new_aligned_slice(256usize, 16usize);
    #[unroll]
    for i in 0..8usize {
        from[lane * 8 + i] = x[lane * 8 + i];
    }
    sync_plane();
    let size!(N) = def.vector_size(MatrixIdent::A);
    let row = lane * 8;
    let fragment = def.load_matrix::<_, N>(&from[row..row + 8], MatrixIdent::A, 4usize, true);
    def.store_matrix(
        &mut to[row..row + 8],
        &fragment,
        MatrixIdent::A,
        4usize,
        true,
    );
    sync_plane();
    #[unroll]
    for i in 0..8usize {
        out[lane * 8 + i] = to[lane * 8 + i];
    }
}

/// One product of tf32: `[16, 8]` by `[8, 8]`, elements handed out as the definition says.
#[cube(launch)]
pub fn tf32_product<E: Float>(
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    #[define(E)] _dtype: ElemType,
) {
    let def = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 8usize);
    let lane = UNIT_POS_PLANE;
    let count_a = def.vectors_per_lane(MatrixIdent::A);
    let count_b = def.vectors_per_lane(MatrixIdent::B);
    let count_c = def.vectors_per_lane(MatrixIdent::Accumulator);
    let size!(NA) = def.vector_size(MatrixIdent::A);
    let size!(NB) = def.vector_size(MatrixIdent::B);
    let size!(NC) = def.vector_size(MatrixIdent::Accumulator);
    let (wide_a, wide_b) = (
        def.vector_size(MatrixIdent::A),
        def.vector_size(MatrixIdent::B),
    );
    let wide_c = def.vector_size(MatrixIdent::Accumulator);
    let mut fragment_a = Array::<Vector<E, NA>>::new(count_a);
    #[unroll]
    for i in 0..count_a {
        let mut part = Vector::<E, NA>::empty();
        #[unroll]
        for j in 0..wide_a {
            let (row, k) = def.position_of_nth(lane, (i * wide_a + j) as u32, MatrixIdent::A);
            part.insert(j, E::cast_from(a[(row * 8 + k) as usize]));
        }
        fragment_a[i] = part;
    }
    let mut fragment_b = Array::<Vector<E, NB>>::new(count_b);
    #[unroll]
    for i in 0..count_b {
        let mut part = Vector::<E, NB>::empty();
        #[unroll]
        for j in 0..wide_b {
            let (k, column) = def.position_of_nth(lane, (i * wide_b + j) as u32, MatrixIdent::B);
            part.insert(j, E::cast_from(b[(k * 8 + column) as usize]));
        }
        fragment_b[i] = part;
    }
    let mut sum = Array::<Vector<f32, NC>>::new(count_c);
    #[unroll]
    for i in 0..count_c {
        sum[i] = Vector::new(0.0f32);
    }
    let sum = def.execute(&fragment_a, &fragment_b, &sum);
    #[unroll]
    for i in 0..count_c {
        #[unroll]
        for j in 0..wide_c {
            let (row, column) =
                def.position_of_nth(lane, (i * wide_c + j) as u32, MatrixIdent::Accumulator);
            out[(row * 8 + column) as usize] = sum[i].extract(j);
        }
    }
}
