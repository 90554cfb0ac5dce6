//! The emulator on small kernels of its own, whose results a host loop knows.

mod kernels;

use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use half::{bf16, f16};
use kernels::*;
use longnet_cuda_check::emulate::{self, Order};
use longnet_cuda_check::{Arch, emulate::client_with};

/// A client of the emulator, or the end of the test.
macro_rules! client {
    ($arch:expr) => {
        match emulate::client($arch) {
            Some(client) => client,
            None => return,
        }
    };
}

const ORDERS: [Order; 3] = [Order::Ascending, Order::Descending, Order::Drawn(1)];

/// Small whole numbers, exact in every type and in sums of them.
fn values(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919 + seed * 104729) % 17) as f32 - 8.0)
        .collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(bytes)
}

fn buffer(client: &Client, values: &[f32]) -> BufferArg {
    let handle = client.create_from_slice(bytemuck::cast_slice(values));
    unsafe { BufferArg::from_raw_parts(handle, values.len()) }
}

fn output(client: &Client, count: usize) -> (cubecl::server::Handle, BufferArg) {
    let handle = client.empty(count * 4);
    let argument = unsafe { BufferArg::from_raw_parts(handle.clone(), count) };
    (handle, argument)
}

/// What a launch that must fail says.
fn failure(client: &Client, handle: cubecl::server::Handle) -> String {
    client
        .read_one(handle)
        .expect_err("it must fail")
        .to_string()
}

#[test]
fn vectors_are_added() {
    let client = client!(Arch::Sm80);
    let count = 97;
    let (a, b) = (values(count, 1), values(count, 2));
    let (out, argument) = output(&client, count);
    add::launch(
        &client,
        CubeCount::Static(2, 1, 1),
        CubeDim::new_1d(64),
        buffer(&client, &a),
        buffer(&client, &b),
        argument,
        3.0,
    );
    let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + 3.0 * b).collect();
    assert_eq!(floats(&client.read_one(out).unwrap()), expected);
}

fn transposed(client: &Client, synchronize: bool) -> Result<(), String> {
    let (rows, columns) = (32, 48);
    // The input's rows are further apart than they are long.
    let pitch = columns + 5;
    let x = values(rows * pitch, 3);
    let handle = client.create_from_slice(bytemuck::cast_slice(&x));
    let x_argument =
        unsafe { TensorArg::from_raw_parts(handle, [pitch, 1].into(), [rows, columns].into()) };
    let out = client.empty(rows * columns * 4);
    let out_argument =
        unsafe { TensorArg::from_raw_parts(out.clone(), [rows, 1].into(), [columns, rows].into()) };
    transpose::launch(
        client,
        CubeCount::Static(3, 2, 1),
        CubeDim::new_2d(16, 16),
        x_argument,
        out_argument,
        synchronize,
    );
    let out = client.read_one(out).map_err(|error| error.to_string())?;
    let expected: Vec<f32> = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| (row, column)))
        .map(|(row, column)| x[row * pitch + column])
        .collect();
    assert_eq!(floats(&out), expected);
    Ok(())
}

#[test]
fn shared_memory_and_strides() {
    for order in ORDERS {
        let Some(client) = client_with(Arch::Sm90, order) else {
            return;
        };
        transposed(&client, true).unwrap();
    }
}

#[test]
fn a_missing_barrier_is_found() {
    for order in ORDERS {
        let Some(client) = client_with(Arch::Sm80, order) else {
            return;
        };
        let error = transposed(&client, false).unwrap_err();
        assert!(error.contains("no barrier between"), "{error}");
        assert!(error.contains("shared memory"), "{error}");
    }
}

#[test]
fn lanes_exchange_values() {
    let client = client!(Arch::Sm80);
    let x = values(64, 4);
    let (out, argument) = output(&client, 256);
    shuffles::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(64),
        buffer(&client, &x),
        argument,
    );
    let out = floats(&client.read_one(out).unwrap());
    for (unit, out) in out.chunks(4).enumerate() {
        let warp = &x[unit / 32 * 32..][..32];
        assert_eq!(out[0], warp.iter().sum::<f32>());
        assert_eq!(out[1], warp.iter().copied().fold(f32::MIN, f32::max));
        assert_eq!(out[2], warp[0]);
        assert_eq!(out[3], warp[(unit % 32) ^ 1]);
    }
}

#[test]
fn lanes_at_different_places_are_found() {
    let client = client!(Arch::Sm80);
    let (out, argument) = output(&client, 32);
    diverging::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(32),
        buffer(&client, &values(32, 5)),
        argument,
    );
    let error = failure(&client, out);
    assert!(error.contains("wait at different places"), "{error}");
}

#[test]
fn blocks_that_meet_in_memory_are_found() {
    let client = client!(Arch::Sm80);
    let (out, argument) = output(&client, 1);
    every_block_writes::launch(
        &client,
        CubeCount::Static(2, 1, 1),
        CubeDim::new_1d(32),
        argument,
    );
    let error = failure(&client, out);
    assert!(error.contains("of block 0 has written"), "{error}");
}

#[test]
fn an_access_past_the_end_is_found() {
    let client = client!(Arch::Sm80);
    let (out, argument) = output(&client, 31);
    unsafe {
        past_the_end::launch_unchecked(
            &client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(32),
            argument,
        )
    };
    let error = failure(&client, out);
    assert!(
        error.contains("writes 4 bytes at byte 124 of buffer 0"),
        "{error}"
    );
}

/// A product on tensor cores beside a loop of the host, on numbers for which both are exact.
fn product(
    client: &Client,
    kind: FloatKind,
    encode: fn(f32) -> u16,
    synchronize: bool,
) -> Result<(), String> {
    let (rows, depth, columns) = (32, 48, 24);
    let (a, b) = (values(rows * depth, 6), values(depth * columns, 7));
    let tensor = |values: &[f32], shape: [usize; 2]| {
        let halves: Vec<u16> = values.iter().map(|&value| encode(value)).collect();
        let handle = client.create_from_slice(bytemuck::cast_slice(&halves));
        unsafe { TensorArg::from_raw_parts(handle, [shape[1], 1].into(), shape.into()) }
    };
    let out = client.empty(rows * columns * 4);
    matmul::launch(
        client,
        CubeCount::Static(rows as u32 / 16, 1, 1),
        CubeDim::new_1d(32),
        tensor(&a, [rows, depth]),
        tensor(&b, [depth, columns]),
        unsafe {
            TensorArg::from_raw_parts(out.clone(), [columns, 1].into(), [rows, columns].into())
        },
        depth,
        columns,
        synchronize,
        ElemType::Float(kind),
    );
    let out = floats(&client.read_one(out).map_err(|error| error.to_string())?);
    for row in 0..rows {
        for column in 0..columns {
            let expected: f32 = (0..depth)
                .map(|k| a[row * depth + k] * b[k * columns + column])
                .sum();
            assert_eq!(out[row * columns + column], expected, "({row}, {column})");
        }
    }
    Ok(())
}

fn encode_f16(x: f32) -> u16 {
    f16::from_f32(x).to_bits()
}

fn encode_bf16(x: f32) -> u16 {
    bf16::from_f32(x).to_bits()
}

#[test]
fn products_of_f16() {
    let client = client!(Arch::Sm80);
    product(&client, FloatKind::F16, encode_f16, true).unwrap();
}

#[test]
fn products_of_bf16() {
    let client = client!(Arch::Sm90);
    product(&client, FloatKind::BF16, encode_bf16, true).unwrap();
}

#[test]
fn a_missing_barrier_of_a_warp_is_found() {
    for order in ORDERS {
        let Some(client) = client_with(Arch::Sm80, order) else {
            return;
        };
        let error = product(&client, FloatKind::F16, encode_f16, false).unwrap_err();
        assert!(error.contains("no barrier between"), "{error}");
    }
}

#[test]
fn products_of_tf32() {
    let client = client!(Arch::Sm80);
    let (a, b) = (values(128, 10), values(64, 11));
    let (out, argument) = output(&client, 128);
    tf32_product::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(32),
        buffer(&client, &a),
        buffer(&client, &b),
        argument,
        ElemType::Float(FloatKind::TF32),
    );
    let out = floats(&client.read_one(out).unwrap());
    for (at, &found) in out.iter().enumerate() {
        let (row, column) = (at / 8, at % 8);
        let expected: f32 = (0..8).map(|k| a[row * 8 + k] * b[k * 8 + column]).sum();
        assert_eq!(found, expected, "({row}, {column})");
    }
}

#[test]
fn copies_on_their_way() {
    for order in ORDERS {
        let Some(client) = client_with(Arch::Sm80, order) else {
            return;
        };
        let steps = 5;
        let x = values(steps * 32, 8);
        let expected: Vec<f32> = x.iter().map(|x| 2.0 * x).collect();
        for groups in [false, true] {
            let (out, argument) = output(&client, x.len());
            let (count, dim) = (CubeCount::Static(1, 1, 1), CubeDim::new_1d(32));
            let (x, steps) = (buffer(&client, &x), steps as u32);
            if groups {
                double_buffered_groups::launch(&client, count, dim, x, argument, steps, 1);
            } else {
                double_buffered::launch(&client, count, dim, x, argument, steps);
            }
            let out = floats(&client.read_one(out).unwrap());
            assert_eq!(out, expected, "groups: {groups}");
        }
    }
}

#[test]
fn a_copy_that_nobody_waits_for_reads_as_nan() {
    let client = client!(Arch::Sm80);
    let x = values(64, 9);
    let (out, argument) = output(&client, x.len());
    // Two groups may be left: the one that is read among them.
    double_buffered_groups::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(32),
        buffer(&client, &x),
        argument,
        2,
        2,
    );
    let out = floats(&client.read_one(out).unwrap());
    assert!(out[0].is_nan(), "{out:?}");
}

/// Numbers around what 16 bits hold: all of them, halfway to the next, a little beside that, and far away.
fn hard_values(decode: fn(u16) -> f32) -> Vec<f32> {
    let mut values = vec![f32::INFINITY, f32::NAN, f32::MAX, 1e-45, 65520.0, 65519.9];
    // A prime step through all patterns.
    for bits in (0..=u16::MAX).step_by(7) {
        let (value, next) = (decode(bits), decode(bits.wrapping_add(1)));
        let middle = value + (next - value) / 2.0;
        values.extend([value, middle, middle.next_up(), middle.next_down()]);
    }
    values
}

fn conversions(kind: FloatKind, encode: fn(f32) -> u16, decode: fn(u16) -> f32) {
    let client = client!(Arch::Sm80);
    let x = hard_values(decode);
    let out = client.empty(x.len() * 2);
    let (back, back_argument) = output(&client, x.len());
    rounded::launch(
        &client,
        CubeCount::Static(x.len().div_ceil(256) as u32, 1, 1),
        CubeDim::new_1d(256),
        buffer(&client, &x),
        unsafe { BufferArg::from_raw_parts(out.clone(), x.len()) },
        back_argument,
        ElemType::Float(kind),
    );
    let out: Vec<u16> = bytemuck::pod_collect_to_vec(&client.read_one(out).unwrap());
    let back = floats(&client.read_one(back).unwrap());
    for ((&x, &bits), &back) in x.iter().zip(&out).zip(&back) {
        if x.is_nan() {
            assert!(decode(bits).is_nan() && back.is_nan());
            continue;
        }
        assert_eq!(bits, encode(x), "{x:e}");
        assert_eq!(back.to_bits(), decode(bits).to_bits(), "{x:e}");
    }
}

#[test]
fn conversions_of_f16() {
    conversions(FloatKind::F16, encode_f16, |bits| {
        f16::from_bits(bits).to_f32()
    });
}

#[test]
fn conversions_of_bf16() {
    conversions(FloatKind::BF16, encode_bf16, |bits| {
        bf16::from_bits(bits).to_f32()
    });
}

#[test]
fn arithmetic_rounds_once_an_operation() {
    let client = client!(Arch::Sm80);
    let x: Vec<f16> = (0..128)
        .map(|i| f16::from_f32((i * 37 % 101) as f32 / 23.0 - 2.0))
        .collect();
    let out = client.empty(256 * 2);
    arithmetic::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(32),
        unsafe {
            BufferArg::from_raw_parts(client.create_from_slice(bytemuck::cast_slice(&x)), 128)
        },
        unsafe { BufferArg::from_raw_parts(out.clone(), 256) },
        ElemType::Float(FloatKind::F16),
    );
    let out: Vec<f16> = bytemuck::pod_collect_to_vec(&client.read_one(out).unwrap());
    for (x, out) in x.chunks(4).zip(out.chunks(8)) {
        let [a, b, c] = [x[0], x[1], x[2]].map(f64::from);
        let rounded = f16::from_f64;
        let pair = |x: f64| rounded(f64::from(rounded(x * c)) + x);
        let expected = [
            rounded(a * b + c),
            rounded(a / b),
            rounded(a.max(b)),
            rounded(f64::from((a as f32).exp())),
            pair(a),
            pair(b),
            rounded(-a),
            rounded(a - b),
        ];
        for (found, expected) in out.iter().zip(expected) {
            assert!(
                found == &expected || found.is_nan() && expected.is_nan(),
                "{a} {b} {c}"
            );
        }
    }
}

#[test]
fn ptx_by_name() {
    let client = client!(Arch::Sm90);
    let x = values(32, 12);
    let (out, argument) = output(&client, 192);
    by_name::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(32),
        buffer(&client, &x),
        argument,
    );
    let out = floats(&client.read_one(out).unwrap());
    for (lane, (x, out)) in x.iter().zip(out.chunks(6)).enumerate() {
        let elected = if lane == 0 { 1.0 } else { 0.0 };
        // Powers of two and small whole numbers: exact.
        assert_eq!(out, [x.exp2(), *x, (-x).exp2(), *x, x.exp2(), elected]);
    }
}

#[test]
fn matrices_through_registers() {
    let client = client!(Arch::Sm90);
    let x: Vec<u16> = (0..256).map(|i| encode_bf16(i as f32)).collect();
    let out = client.empty(512);
    through_registers::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(32),
        unsafe {
            BufferArg::from_raw_parts(client.create_from_slice(bytemuck::cast_slice(&x)), 256)
        },
        unsafe { BufferArg::from_raw_parts(out.clone(), 256) },
        ElemType::Float(FloatKind::BF16),
    );
    let out: Vec<u16> = bytemuck::pod_collect_to_vec(&client.read_one(out).unwrap());
    assert_eq!(out, x);
}
