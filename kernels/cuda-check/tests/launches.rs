//! How the project's launches choose: among routines by the tuner, and among integers for addresses.

use std::sync::{Mutex, PoisonError};

use burn_longnet_kernels::address::{flat, head_at, row_at};
use burn_longnet_kernels::launch::{
    self, Backward, Forward, Pass, Plan, Problem, Routine, tuned_backward, tuned_forward,
};
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use longnet_cuda_check::{Arch, Recorder, Source, emulate};
use longnet_pattern::{DilatedPattern, MixGradient, Span};

/// The log's lines.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// One branch: nothing is merged, and no partial result takes memory.
fn problem(n: usize, d: usize, kind: FloatKind) -> Problem {
    let pattern = DilatedPattern::new(1, [(64, 1)]).causal(true);
    let pattern = pattern.build().expect("a right pattern");
    Problem {
        schedule: pattern.schedule(Span::full(n)).expect("a right span"),
        scale: 0.125,
        gradient: MixGradient::Exact,
        dropout: None,
        labels: false,
        bias: false,
        dtype: ElemType::Float(kind),
        aligned: true,
        batch: 1,
        kv_heads: 1,
        d,
        d_v: d,
    }
}

/// A contiguous tensor `[1, 1, n, width]`, or `[1, 1, n]` of width 0, with memory for `bytes` of it.
fn tensor(client: &Client, n: usize, width: usize, bytes: usize) -> TensorBinding {
    let (mut shape, mut strides) = (vec![1, 1, n], vec![n, n, 1]);
    if width > 0 {
        shape.push(width);
        strides = vec![n * width, n * width, width, 1];
    }
    // SAFETY: the recorder runs nothing: there may be less memory than the shape says.
    unsafe { TensorBinding::from_raw_parts(client.empty(bytes), strides.into(), shape.into()) }
}

fn forward_tensors(client: &Client, n: usize, d: usize, bytes: usize) -> Forward {
    let rows = || tensor(client, n, d, bytes);
    Forward {
        q: rows(),
        k: rows(),
        v: rows(),
        labels: None,
        bias: None,
        out: rows(),
        lse: tensor(client, n, 0, bytes),
    }
}

fn backward_tensors(client: &Client, n: usize, d: usize, bytes: usize) -> Backward {
    let rows = || tensor(client, n, d, bytes);
    let numbers = || tensor(client, n, 0, bytes);
    Backward {
        q: rows(),
        k: rows(),
        v: rows(),
        labels: None,
        bias: None,
        out: rows(),
        lse: numbers(),
        dout: rows(),
        dlse: numbers(),
        dq: rows(),
        dk: rows(),
        dv: rows(),
        dbias: None,
    }
}

/// Launch shapes and shared memory tell routines apart.
fn kinds(sources: &[Source]) -> usize {
    let mut kinds: Vec<_> = sources.iter().map(|s| (s.block, s.shared_bytes)).collect();
    kinds.sort();
    kinds.dedup();
    kinds.len()
}

#[test]
fn the_tuner_tries_routines_and_those_that_decline_say_why() {
    let _ = log::set_logger(&Logger);
    log::set_max_level(log::LevelFilter::Debug);
    let recorder = Recorder::new(Arch::Sm90);
    let client = recorder.client();
    let (n, d) = (256, 16);
    for (kind, size) in [(FloatKind::F32, 4), (FloatKind::BF16, 2)] {
        let bytes = n * d * size;
        let call = problem(n, d, kind);
        tuned_forward(client, call.clone(), forward_tensors(client, n, d, bytes))
            .expect("it is taken");
        let tried = kinds(&recorder.take().expect("they are emitted"));
        // The unit routine in three sizes, and tensor cores for 16 bits.
        let routines = if size == 2 { 4 } else { 3 };
        assert_eq!(tried, routines, "forward, {kind:?}");

        // Half as many kinds are enough of it, which has twice the kernels.
        if kind == FloatKind::F32 {
            let tensors = backward_tensors(client, n, d, bytes);
            tuned_backward(client, call, tensors).expect("it is taken");
            let tried = kinds(&recorder.take().expect("they are emitted"));
            assert!(tried >= routines, "backward: {tried} kinds of kernels");
        }
    }
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    for pass in ["Forward", "Backward"] {
        let reason = format!("attention by mma, {pass}: tensor cores are used for f16 and bf16");
        assert!(
            lines.iter().any(|line| line.starts_with(&reason)),
            "{reason}: not among {lines:?}"
        );
    }
}

/// Where a row begins, by the kernels' own arithmetic: of a head of a batch entry, and its number.
#[cube(launch, address_type = "dynamic")]
fn places(x: &Tensor<f32>, numbers: &[u32], out: &mut [u64]) {
    let (batch, head, row) = (numbers[0], numbers[1], numbers[2]);
    out[0] = u64::cast_from(row_at(x, head_at(x, batch, head), row));
    out[1] = u64::cast_from(flat(head, x.shape(2), row));
}

#[test]
fn offsets_pass_32_bits() {
    let Some(client) = emulate::client(Arch::Sm80) else {
        return;
    };
    let shape = [5, 7, 2_000_000_000, 256];
    // A view of rows that lie apart.
    let strides = [1 << 45, 1 << 41, 300, 1];
    for numbers in [[0, 0, 0], [4, 6, 1_999_999_999], [1, 3, 20_000_000]] {
        let [batch, head, row] = numbers.map(|x: u32| u64::from(x));
        let handle = client.empty(16);
        // SAFETY: only shape and strides are read.
        let x = unsafe {
            TensorBinding::from_raw_parts(
                client.empty(4),
                strides.map(|x| x as usize).to_vec().into(),
                shape.to_vec().into(),
            )
        };
        let numbers = client.create_from_slice(bytemuck::cast_slice(&numbers));
        places::launch(
            &client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(1),
            AddressType::U64,
            x.into_tensor_arg(),
            // SAFETY: the handles were made for as many elements.
            unsafe { BufferArg::from_raw_parts(numbers, 3) },
            unsafe { BufferArg::from_raw_parts(handle.clone(), 2) },
        );
        let bytes = client.read_one(handle).expect("it runs");
        let places: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
        let [by_batch, by_head, by_row, _] = strides;
        let offset = batch * by_batch + head * by_head + row * by_row;
        assert_eq!(places, [offset, head * shape[2] as u64 + row]);
    }
}

/// The integers of a kernel's addresses are wide where its tensors are large, in every kernel that touches them.
#[test]
fn large_tensors_are_addressed_in_64_bits() {
    let recorder = Recorder::new(Arch::Sm90);
    let client = recorder.client();
    let d = 16;
    let sources = |kind, routine, n| {
        let call = problem(n, d, kind);
        for pass in [Pass::Forward, Pass::Backward] {
            let plan = match routine {
                Some(routine) => Plan::with_routine(client, &call, pass, routine),
                None => Plan::new(client, &call, pass),
            };
            let plan = plan.expect("it is taken");
            match pass {
                Pass::Forward => {
                    launch::forward(client, &plan, forward_tensors(client, n, d, 4096))
                }
                Pass::Backward => {
                    launch::backward(client, &plan, backward_tensors(client, n, d, 4096))
                }
            }
        }
        recorder.take().expect("they are emitted")
    };
    let (few, many) = (1 << 10, (1 << 28) + 5);
    for (kind, routine, n, bits) in [
        (FloatKind::F32, None, few, 32),
        (FloatKind::F32, None, many, 64),
        (FloatKind::BF16, Some(Routine::Mma), many, 64),
    ] {
        let sources = sources(kind, routine, n);
        // Forward, deltas, and a pass over each side.
        assert_eq!(sources.len(), 4, "{kind:?}, {n} rows");
        for source in sources {
            // What shapes and strides are passed as.
            let integers = format!("uint{bits}_t scalars_usize");
            let right = source.text.contains(&integers);
            assert!(right, "{}: no {integers}\n{}", source.entry, source.text);
        }
    }
}
