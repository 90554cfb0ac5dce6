//! The engines, each operation against what it should give, and what happens if ranks fail.

use super::*;
use burn::tensor::TensorData;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

fn values(from: usize, len: usize, dtype: DType) -> Tensor<1> {
    let values: Vec<f32> = (0..len).map(|i| (from * 100 + i) as f32 * 0.37).collect();
    Tensor::from_data(TensorData::from(&values[..]), (&Device::default(), dtype))
}

fn expected(len: usize, dtype: DType) -> Option<Expected> {
    let device = Device::default();
    Some(Expected { len, dtype, device })
}

fn same(a: &Tensor<1>, b: &Tensor<1>) {
    assert_eq!((a.dims(), a.dtype()), (b.dims(), b.dtype()));
    if a.dims()[0] > 0 {
        a.to_data().assert_eq(&b.to_data(), true);
    }
}

/// What every rank made of it; none may fail.
fn ranks<T: Send>(
    world: usize,
    f: impl Fn(Arc<dyn Comm>) -> Result<T, CommError> + Sync,
) -> Vec<T> {
    let ends = LocalComm::run(world, DEADLINE, f);
    ends.into_iter().map(|end| end.unwrap().unwrap()).collect()
}

/// The errors with which all ranks end.
fn faults<T: Send + fmt::Debug>(
    world: usize,
    deadline: Duration,
    f: impl Fn(Arc<dyn Comm>) -> Result<T, CommError> + Sync,
) -> Vec<CommError> {
    let begun = Instant::now();
    let ends = LocalComm::run(world, deadline, f);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "within the deadline"
    );
    ends.into_iter()
        .map(|end| end.unwrap().unwrap_err())
        .collect()
}

#[test]
fn every_operation_gives_what_it_should() {
    for world in [1, 2, 3, 5, 8] {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            for len in [0, 1, 7, 64] {
                ranks(world, |comm| {
                    operations(&*comm, len, dtype)?;
                    // Even with the order of ranks reversed, and in a group of every other rank.
                    let reversed: Vec<_> = (0..world).rev().collect();
                    operations(&*comm.subgroup(&reversed)?, len, dtype)?;
                    let odd = comm.rank() % 2;
                    let half: Vec<_> = (odd..world).step_by(2).collect();
                    let half = comm.subgroup(&half)?;
                    operations(&*half, len, dtype)?;
                    operations(&*half.subgroup(&[half.rank()])?, len, dtype)?;
                    comm.barrier()
                });
            }
        }
    }
    operations(&Single, 7, DType::F32).unwrap();
}

fn operations(comm: &dyn Comm, len: usize, dtype: DType) -> Result<(), CommError> {
    let (rank, world) = (comm.rank(), comm.world());
    let device = Device::default();
    for by in 0..=world {
        let from = (rank + by * world - by) % world;
        let sent = Some(values(rank, len, dtype));
        let received = comm.shift(by, sent, expected(len, dtype))?.unwrap();
        same(&received, &values(from, len, dtype));
    }
    // Only even ranks send, and each as many values as its number says.
    let (from, from_even) = (
        (rank + world - 1) % world,
        (rank + world - 1) % world % 2 == 0,
    );
    let sent = (rank % 2 == 0).then(|| values(rank, rank, dtype));
    let wanted = expected(from, dtype).filter(|_| from_even);
    let received = comm.shift(1, sent, wanted)?;
    assert_eq!(received.is_some(), from_even);
    if let Some(received) = received {
        same(&received, &values(from, from, dtype));
    }

    let sum = |len, offset: usize| {
        let parts = (0..world).map(|r| values(r + offset, len, dtype).cast(wide(dtype)));
        parts.reduce(|a, b| a + b).unwrap().cast(dtype)
    };
    same(&comm.all_reduce(values(rank, len, dtype))?, &sum(len, 0));
    let parts = (0..world).map(|to| values(rank + to, to + len, dtype));
    same(
        &comm.reduce_scatter(parts.collect())?,
        &sum(rank + len, rank),
    );

    let gathered = comm.all_gather(values(rank, rank * len, dtype))?;
    assert_eq!(gathered.len(), world);
    for (from, t) in gathered.iter().enumerate() {
        same(t, &values(from, from * len, dtype));
    }
    let parts = (0..world).map(|to| values(10 * rank + to, (rank + to) % 3, dtype));
    let received = comm.all_to_all(parts.collect())?;
    for (from, t) in received.iter().enumerate() {
        same(t, &values(10 * from + rank, (from + rank) % 3, dtype));
    }
    let bytes = comm.all_gather_bytes(vec![rank as u8; rank * len])?;
    for (from, bytes) in bytes.iter().enumerate() {
        assert_eq!(*bytes, vec![from as u8; from * len]);
    }
    // A view, and a tensor under autodiff.
    let view = values(rank, 3 * len + 2, dtype).slice(1..len + 1);
    let tracked = view.autodiff().require_grad() + 0.0;
    for (from, t) in comm.all_gather(tracked)?.iter().enumerate() {
        assert!(!t.is_autodiff() && t.device() == device);
        same(t, &values(from, 3 * len + 2, dtype).slice(1..len + 1));
    }
    comm.barrier()
}

fn wide(dtype: DType) -> burn::tensor::FloatDType {
    match dtype {
        DType::F64 => DType::F64.into(),
        _ => DType::F32.into(),
    }
}

#[test]
fn transfers_overlap_and_are_waited_for_in_any_order() {
    ranks(4, |comm| {
        let start = |by: usize| {
            comm.start_shift(
                by,
                Some(values(comm.rank(), by, DType::F32)),
                expected(by, DType::F32),
            )
        };
        let pending = [start(1)?, start(2)?, start(3)?];
        comm.barrier()?;
        for (by, pending) in (1..4).zip(pending).rev() {
            let from = (comm.rank() + 4 - by) % 4;
            same(&pending.wait()?.unwrap(), &values(from, by, DType::F32));
        }
        Ok(())
    });
}

#[test]
fn traffic_counts_payload_in_the_group_and_those_around_it() {
    ranks(4, |comm| {
        let pair = comm.subgroup(&[comm.rank() / 2 * 2, comm.rank() / 2 * 2 + 1])?;
        pair.shift(1, Some(values(0, 5, DType::F16)), expected(5, DType::F16))?;
        assert_eq!(
            pair.traffic(),
            Traffic {
                bytes: 10,
                messages: 1
            }
        );
        comm.all_reduce(values(0, 8, DType::F32))?;
        comm.barrier()?;
        // To each of three ranks, two values to be summed and two sums.
        let (bytes, messages) = (10 + 2 * 3 * 8, 1 + 2 * 3);
        assert_eq!(comm.traffic(), Traffic { bytes, messages });
        assert_eq!(
            pair.traffic(),
            Traffic {
                bytes: 10,
                messages: 1
            }
        );
        Ok(())
    });
}

/// All errors name all of `words`.
#[track_caller]
fn all_say(errors: &[CommError], words: &[&str]) {
    for error in errors {
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn ranks_that_disagree_all_get_an_error() {
    let odd_rank_sends = |len, dtype| {
        move |comm: Arc<dyn Comm>| {
            let (len, dtype) = match comm.rank() {
                1 => (len, dtype),
                _ => (3, DType::F32),
            };
            comm.shift(1, Some(values(0, len, dtype)), expected(3, DType::F32))
        }
    };
    let errors = faults(3, DEADLINE, odd_rank_sends(4, DType::F32));
    all_say(
        &errors,
        &[
            "rank 1",
            "rank 2",
            "4 values of F32",
            "3 values of F32",
            "a shift by 1",
        ],
    );
    let errors = faults(3, DEADLINE, odd_rank_sends(3, DType::F16));
    all_say(
        &errors,
        &["rank 1", "rank 2", "3 values of F16", "3 values of F32"],
    );

    let errors = faults(2, DEADLINE, |comm| {
        comm.all_reduce(values(0, 4 + comm.rank(), DType::F32))
    });
    all_say(
        &errors,
        &[
            "a reduction of 4 values",
            "a reduction of 5 values",
            "rank 0",
            "rank 1",
        ],
    );

    let errors = faults(2, DEADLINE, |comm| match comm.rank() {
        0 => comm.barrier(),
        _ => comm.all_gather(values(0, 1, DType::F32)).map(|_| ()),
    });
    all_say(&errors, &["a barrier", "all_gather", "rank 0", "rank 1"]);

    // One expects what the other does not send, whoever comes first; or sends what is not expected.
    for late in 0..2 {
        let sends_only = |comm: Arc<dyn Comm>, sender: usize| {
            if comm.rank() == late {
                std::thread::sleep(SHORT / 4);
            }
            let send = (comm.rank() == sender).then(|| values(0, 1, DType::F32));
            comm.shift(1, send, None)?;
            comm.barrier()
        };
        let errors = faults(2, DEADLINE, |comm| sends_only(comm, 0));
        all_say(
            &errors,
            &["rank 0 sends 1 values of F32 to rank 1, which expects nothing"],
        );
        let errors = faults(2, DEADLINE, |comm| {
            if comm.rank() == late {
                std::thread::sleep(SHORT / 4);
            }
            let wanted = expected(1, DType::F32).filter(|_| comm.rank() == 1);
            comm.shift(1, None, wanted)?;
            comm.barrier()
        });
        all_say(
            &errors,
            &["rank 1 expects something of rank 0, which sends nothing"],
        );
    }
}

#[test]
fn a_stalled_rank_ends_the_job_within_the_deadline_and_is_named() {
    // Ranks wait for it in a chain: 0 for 1, 1 for 2, 2 for 3.
    let begun = Instant::now();
    let errors = LocalComm::run(4, SHORT, |comm| {
        if comm.rank() == 3 {
            std::thread::sleep(SHORT * 5);
        } else if comm.rank() > 0 {
            comm.subgroup(&(comm.rank()..4).collect::<Vec<_>>())
                .map(|_| ())?;
        }
        comm.shift(1, Some(values(0, 2, DType::F32)), expected(2, DType::F32))
            .map(|_| ())
    });
    assert!(begun.elapsed() < SHORT * 10);
    let errors: Vec<_> = errors
        .into_iter()
        .map(|e| e.unwrap().unwrap_err())
        .collect();
    all_say(&errors, &["waited 200ms for rank 3"]);
}

#[test]
fn a_rank_that_ends_or_panics_is_named_at_once() {
    let errors = faults(3, DEADLINE, |comm| match comm.rank() {
        1 => Err(CommError::Aborted {
            rank: 1,
            by: 1,
            why: "rank 1 has ended".into(),
        }),
        _ => comm.barrier(),
    });
    all_say(&errors, &["rank 1 has ended"]);

    let ends = LocalComm::group(3, DEADLINE);
    let threads = ends.into_iter().map(|comm| {
        std::thread::spawn(move || {
            catch(&*comm, || match comm.rank() {
                1 => panic!("out of {}", "luck"),
                _ => comm.barrier().unwrap_or_else(|e| raise(e)),
            })
        })
    });
    let threads: Vec<_> = threads.collect();
    let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    assert!(ended[1].is_err());
    for rank in [0, 2] {
        let error = ended[rank].as_ref().unwrap().as_ref().unwrap_err();
        let why = "it panicked: out of luck".to_owned();
        assert_eq!(*error, CommError::Aborted { rank, by: 1, why });
    }
}

#[test]
fn an_end_dropped_in_a_panic_fails_the_job() {
    let mut ends = LocalComm::group(2, DEADLINE);
    let one = ends.pop().unwrap();
    let panics = std::thread::spawn(move || {
        let _one = one;
        panic!("on purpose");
    });
    let error = ends[0].barrier().unwrap_err();
    assert!(error.to_string().contains("rank 1"), "{error}");
    assert!(panics.join().is_err());
}

#[test]
fn parts_are_even() {
    assert_eq!(even_parts(7, 3), [0..3, 3..5, 5..7]);
    assert_eq!(even_parts(1, 2), [0..1, 1..1]);
}
