//! What every communicator must do: each operation against what it should give.

use crate::compare::relative_rms;
use crate::rng::Rng;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use burn_longnet::functional::{AttentionOptions, sparse_attention_with_lse};
use burn_longnet::ring::{Comm, CommError, Expected, SequenceShard, ring_attention};
use longnet_pattern::ring::Layout;
use longnet_pattern::{BlockGrid, BlockMask, DilatedPattern};
use std::sync::Arc;

/// `len` values that tell which rank they are of.
pub fn values(from: usize, len: usize, dtype: DType) -> Tensor<1> {
    let values: Vec<f32> = (0..len).map(|i| (from * 100 + i) as f32 * 0.37).collect();
    Tensor::from_data(TensorData::from(&values[..]), (&Device::default(), dtype))
}

/// So many values, on the default device.
pub fn expected(len: usize, dtype: DType) -> Option<Expected> {
    let device = Device::default();
    Some(Expected { len, dtype, device })
}

/// All operations, in the group itself and in groups made of it, with messages of about `len` values.
///
/// # Errors
///
/// Those of the communicator.
///
/// # Panics
///
/// If one gives something else than it should.
pub fn check(comm: &dyn Comm, len: usize, dtype: DType) -> Result<(), CommError> {
    let (rank, world) = (comm.rank(), comm.world());
    operations(comm, len, dtype)?;
    let reversed: Vec<_> = (0..world).rev().collect();
    operations(&*comm.subgroup(&reversed)?, len, dtype)?;
    let every_other: Vec<_> = (rank % 2..world).step_by(2).collect();
    let half = comm.subgroup(&every_other)?;
    operations(&*half, len, dtype)?;
    operations(&*half.subgroup(&[half.rank()])?, len, dtype)?;
    comm.barrier()
}

fn operations(comm: &dyn Comm, len: usize, dtype: DType) -> Result<(), CommError> {
    let (rank, world) = (comm.rank(), comm.world());
    for by in 0..=world {
        let from = (rank + by * world - by) % world;
        let sent = Some(values(rank, len, dtype));
        let received = comm.shift(by, sent, expected(len, dtype))?.unwrap();
        same(&received, &values(from, len, dtype));
    }
    // Only even ranks send, and each as many values as its number says.
    let from = (rank + world - 1) % world;
    let sent = (rank % 2 == 0).then(|| values(rank, rank, dtype));
    let wanted = expected(from, dtype).filter(|_| from % 2 == 0);
    let received = comm.shift(1, sent, wanted)?;
    assert_eq!(received.is_some(), from % 2 == 0);
    if let Some(received) = received {
        same(&received, &values(from, from, dtype));
    }
    overlapping(comm, dtype)?;

    same(
        &comm.all_reduce(values(rank, len, dtype))?,
        &sum(world, 0, len, dtype),
    );
    let parts = (0..world).map(|to| values(rank + to, to + len, dtype));
    let part = comm.reduce_scatter(parts.collect())?;
    same(&part, &sum(world, rank, rank + len, dtype));

    let gathered = comm.all_gather(values(rank, rank * len, dtype))?;
    assert_eq!(gathered.len(), world);
    for (from, t) in gathered.iter().enumerate() {
        same(t, &values(from, from * len, dtype));
    }
    let parts = (0..world).map(|to| values(10 * rank + to, (rank + to) % 3 * len, dtype));
    let received = comm.all_to_all(parts.collect())?;
    for (from, t) in received.iter().enumerate() {
        same(t, &values(10 * from + rank, (from + rank) % 3 * len, dtype));
    }
    let bytes = comm.all_gather_bytes(vec![rank as u8; rank * len])?;
    for (from, bytes) in bytes.iter().enumerate() {
        assert_eq!(*bytes, vec![from as u8; from * len]);
    }
    // A view, under autodiff.
    let view = values(rank, 3 * len + 2, dtype).slice(1..len + 1);
    let tracked = view.autodiff().require_grad() + 0.0;
    for (from, t) in comm.all_gather(tracked)?.iter().enumerate() {
        assert!(!t.is_autodiff());
        same(t, &values(from, 3 * len + 2, dtype).slice(1..len + 1));
    }
    comm.barrier()
}

/// Several shifts at a time, which are waited for in another order.
fn overlapping(comm: &dyn Comm, dtype: DType) -> Result<(), CommError> {
    let (rank, world) = (comm.rank(), comm.world());
    let start = |by: usize| {
        let sent = Some(values(rank, by, dtype));
        comm.start_shift(by, sent, expected(by, dtype))
    };
    let pending = (1..world).map(start).collect::<Result<Vec<_>, _>>()?;
    comm.barrier()?;
    for (by, pending) in (1..world).zip(pending).rev() {
        let from = (rank + world - by) % world;
        same(&pending.wait()?.unwrap(), &values(from, by, dtype));
    }
    Ok(())
}

/// The sum over ranks in their order, in f32 at least.
fn sum(world: usize, offset: usize, len: usize, dtype: DType) -> Tensor<1> {
    let wide = match dtype {
        DType::F64 => FloatDType::F64,
        _ => FloatDType::F32,
    };
    let parts = (0..world).map(|rank| values(rank + offset, len, dtype).cast(wide));
    let sum = parts.reduce(|a, b| a + b).expect("a rank");
    sum.cast(FloatDType::from(dtype))
}

/// # Panics
///
/// If the tensors differ in a bit.
#[track_caller]
fn same(a: &Tensor<1>, b: &Tensor<1>) {
    assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    if a.dims()[0] > 0 {
        a.to_data().assert_eq(&b.to_data(), true);
    }
}

/// Ring attention against [`sparse_attention_with_lse`] on the whole sequence: out, lse and gradients, in all layouts.
///
/// # Panics
///
/// If a relative RMS error is above 2e-6.
pub fn check_ring(comm: &Arc<dyn Comm>) {
    let device = Device::default();
    let n = 203;
    let dilated = DilatedPattern::new(4, [(16, 1), (64, 2), (256, 4)]).causal(true);
    let window = BlockMask::new(4, BlockGrid::square(n, 16)).causal(true);
    let window = window.build_from_fn(|head, i, j| i - j.min(i) <= head);
    let patterns = [
        dilated.build().expect("a pattern"),
        window.expect("a mask").into(),
    ];
    for pattern in &patterns {
        let normal = |index, heads, d| {
            let mut rng = Rng::new(index, 0);
            let values = (0..heads * n * d).map(|_| (rng.unit() * 2.0 - 1.0) as f32);
            let data = TensorData::new(values.collect::<Vec<_>>(), [1, heads, n, d]);
            Tensor::<4>::from_data(data, &device)
        };
        let all = [
            normal(0, 4, 16),
            normal(1, 2, 16),
            normal(2, 2, 16),
            normal(3, 4, 16),
        ];
        let dlse = normal(4, 4, 1);
        let run = |shard: Option<&SequenceShard>| {
            let take = |t: &Tensor<4>| shard.map_or(t.clone(), |shard| shard.take(t.clone(), 2));
            let [q, k, v] = [0, 1, 2].map(|i| take(&all[i]).autodiff().require_grad());
            let inputs = [q.clone(), k.clone(), v.clone()];
            let options = AttentionOptions::default();
            let (out, lse) = match shard {
                Some(shard) => ring_attention(q, k, v, pattern, shard, &options),
                None => sparse_attention_with_lse(q, k, v, pattern, &options),
            };
            let lse: Tensor<4> = lse.unsqueeze_dim(3);
            let loss = (out.clone() * take(&all[3])).sum() + (lse.clone() * take(&dlse)).sum();
            let grads = loss.backward();
            let mut results = vec![out.inner(), lse.inner()];
            results.extend(inputs.map(|t| t.grad(&grads).expect("a gradient")));
            results
        };
        let whole = run(None);
        for layout in [Layout::Contiguous, Layout::Zigzag, Layout::Striped] {
            let shard = SequenceShard::new(comm.clone(), layout, n);
            for (i, (got, want)) in run(Some(&shard)).iter().zip(&whole).enumerate() {
                let numbers = |t: Tensor<4>| t.into_data().iter::<f64>().collect::<Vec<_>>();
                let want = numbers(shard.take(want.clone(), 2));
                let error = relative_rms(&numbers(got.clone()), &want);
                assert!(error < 2e-6, "{layout:?}, tensor {i}: {error}");
            }
        }
    }
}
