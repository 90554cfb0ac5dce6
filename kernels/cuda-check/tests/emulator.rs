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
        assert_eq!(out[3], warp[unit % 32 ^ 1]);
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
fn product(arch: Arch, kind: FloatKind, encode: fn(f32) -> u16) {
    let client = client!(arch);
    let (rows, depth, columns) = (32, 48, 24);
    let (a, b) = (values(rows * depth, 6), values(depth * columns, 7));
    let tensor = |values: &[f32], shape: [usize; 2]| {
        let halves: Vec<u16> = values.iter().map(|&value| encode(value)).collect();
        let handle = client.create_from_slice(bytemuck::cast_slice(&halves));
        unsafe { TensorArg::from_raw_parts(handle, [shape[1], 1].into(), shape.into()) }
    };
    let out = client.empty(rows * columns * 4);
    matmul::launch(
        &client,
        CubeCount::Static(rows as u32 / 16, 1, 1),
        CubeDim::new_1d(32),
        tensor(&a, [rows, depth]),
        tensor(&b, [depth, columns]),
        unsafe {
            TensorArg::from_raw_parts(out.clone(), [columns, 1].into(), [rows, columns].into())
        },
        depth,
        columns,
        ElemType::Float(kind),
    );
    let out = floats(&client.read_one(out).unwrap());
    for row in 0..rows {
        for column in 0..columns {
            let expected: f32 = (0..depth)
                .map(|k| a[row * depth + k] * b[k * columns + column])
                .sum();
            assert_eq!(out[row * columns + column], expected, "({row}, {column})");
        }
    }
}

#[test]
fn products_of_f16() {
    product(Arch::Sm80, FloatKind::F16, |x| f16::from_f32(x).to_bits());
}

#[test]
fn products_of_bf16() {
    product(Arch::Sm90, FloatKind::BF16, |x| bf16::from_f32(x).to_bits());
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
