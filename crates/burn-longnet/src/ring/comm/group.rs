//! The operations of a communicator, made of exchanges, for any engine.

use super::exchange::{Exchange, Kind, Operation, Payload, Receipt, Want, Wire};
use super::{Comm, CommError, Expected, Pending, Traffic, even_parts};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A rank's end of a group.
#[derive(Debug)]
pub(super) struct Group<W> {
    wire: Arc<W>,
    id: u64,
    rank: usize,
    /// The ranks of the job.
    members: Arc<[usize]>,
    issued: Mutex<u64>,
    /// How often each subgroup was made.
    made: Mutex<HashMap<Vec<usize>, u64>>,
    /// Its own, and those of the groups that it is a part of.
    counters: Vec<Arc<Counter>>,
}

#[derive(Debug, Default)]
struct Counter {
    bytes: AtomicU64,
    messages: AtomicU64,
}

impl<W: Wire> Group<W> {
    /// All ranks of a job.
    pub(super) fn of_all(wire: W, rank: usize, world: usize) -> Self {
        Self {
            wire: Arc::new(wire),
            id: 0,
            rank,
            members: (0..world).collect(),
            issued: Mutex::default(),
            made: Mutex::default(),
            counters: vec![Arc::default()],
        }
    }

    fn start(
        &self,
        kind: Kind,
        sends: Vec<(usize, Payload)>,
        wants: Vec<(usize, Want)>,
    ) -> Result<Receipt, CommError> {
        for (_, payload) in &sends {
            let bytes = payload.content().bytes() as u64;
            for counter in &self.counters {
                counter.bytes.fetch_add(bytes, Relaxed);
                counter.messages.fetch_add(u64::from(bytes > 0), Relaxed);
            }
        }
        let of_job = |(rank, x)| (self.members[rank], x);
        // Held over the start: numbers are in the order in which exchanges are issued.
        let mut issued = self.issued.lock().expect("no panic under this lock");
        let operation = Operation {
            group: self.id,
            number: *issued,
            kind,
        };
        *issued += 1;
        self.wire.start(Exchange {
            operation,
            members: self.members.clone(),
            sends: sends.into_iter().map(of_job).collect(),
            wants: wants
                .into_iter()
                .map(|(r, w)| (self.members[r], w))
                .collect(),
        })
    }

    /// Gives `parts[to]` to each rank; returns what all had for this one, by rank.
    fn all_to_all_of(
        &self,
        kind: Kind,
        mut parts: Vec<Payload>,
        want: &Want,
    ) -> Result<Vec<Payload>, CommError> {
        let own = parts.remove(self.rank);
        let others = (0..self.world()).filter(|&rank| rank != self.rank);
        let wants = others.clone().map(|rank| (rank, want.clone())).collect();
        let mut received = self.start(kind, others.zip(parts).collect(), wants)?()?;
        received.insert(self.rank, own);
        Ok(received)
    }

    fn tensors(
        &self,
        kind: Kind,
        parts: Vec<Tensor<1>>,
        want: &Want,
    ) -> Result<Vec<Tensor<1>>, CommError> {
        let parts = parts.into_iter().map(Payload::Tensor).collect();
        let received = self.all_to_all_of(kind, parts, want)?;
        Ok(received.into_iter().map(Payload::tensor).collect())
    }

    /// Checks one part a rank and returns them without autodiff, with what to expect of others.
    fn parts(&self, parts: Vec<Tensor<1>>, operation: &str) -> (Vec<Tensor<1>>, Expected) {
        assert_eq!(
            parts.len(),
            self.world(),
            "{operation} takes one part a rank of {}",
            self.world()
        );
        let parts: Vec<_> = parts.into_iter().map(Tensor::inner).collect();
        let own = &parts[self.rank];
        let expected = Expected {
            len: own.dims()[0],
            dtype: own.dtype(),
            device: own.device(),
        };
        for part in &parts {
            assert_eq!(
                part.dtype(),
                expected.dtype,
                "the parts of {operation} have one dtype"
            );
        }
        (parts, expected)
    }
}

impl<W: Wire> Comm for Group<W> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.members.len()
    }

    fn start_shift(
        &self,
        by: usize,
        send: Option<Tensor<1>>,
        receive: Option<Expected>,
    ) -> Result<Pending, CommError> {
        let world = self.world();
        let by = by % world;
        let (to, from) = ((self.rank + by) % world, (self.rank + world - by) % world);
        let send = send.map(Tensor::inner);
        if by == 0 {
            return Ok(shift_to_oneself(send, receive));
        }
        let sends = send.map(|t| (to, Payload::Tensor(t)));
        let wants = receive.map(|e| (from, Want::Exactly(e)));
        let receipt = self.start(
            Kind::Shift { by },
            sends.into_iter().collect(),
            wants.into_iter().collect(),
        )?;
        Ok(Pending::new(move || {
            Ok(receipt()?.pop().map(Payload::tensor))
        }))
    }

    fn all_reduce(&self, t: Tensor<1>) -> Result<Tensor<1>, CommError> {
        let t = t.inner();
        if self.world() == 1 {
            return Ok(t);
        }
        let (dtype, device) = (t.dtype(), t.device());
        let parts = even_parts(t.dims()[0], self.world());
        let parts = parts.into_iter().map(|part| match part.is_empty() {
            true => nothing(dtype, &device),
            false => t.clone().slice(part),
        });
        let sum = self.reduce_scatter(parts.collect())?;
        let mut sums = self.all_gather(sum)?;
        sums.retain(|part| part.dims()[0] > 0);
        match sums.len() {
            0 => Ok(nothing(dtype, &device)),
            _ => Ok(Tensor::cat(sums, 0)),
        }
    }

    fn reduce_scatter(&self, parts: Vec<Tensor<1>>) -> Result<Tensor<1>, CommError> {
        let (parts, expected) = self.parts(parts, "reduce_scatter");
        let dtype = expected.dtype;
        let len = parts.iter().map(|part| part.dims()[0]).sum();
        let empty = expected.len == 0;
        let parts = self.tensors(Kind::Reduce { len }, parts, &Want::Exactly(expected))?;
        let mut parts = parts.into_iter();
        let first = parts.next().expect("a group has a rank");
        if empty {
            return Ok(first);
        }
        let wide = match dtype {
            DType::F16 | DType::BF16 => FloatDType::F32,
            _ => dtype.into(),
        };
        let sum = parts.fold(first.cast(wide), |sum, part| sum + part.cast(wide));
        Ok(sum.cast(FloatDType::from(dtype)))
    }

    fn all_gather(&self, t: Tensor<1>) -> Result<Vec<Tensor<1>>, CommError> {
        let (parts, expected) = self.parts(vec![t; self.world()], "all_gather");
        self.tensors(Kind::Gather, parts, &Want::Any(expected))
    }

    fn all_to_all(&self, parts: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        let (parts, expected) = self.parts(parts, "all_to_all");
        self.tensors(Kind::ToAll, parts, &Want::Any(expected))
    }

    fn all_gather_bytes(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommError> {
        let parts = vec![Payload::Bytes(bytes); self.world()];
        let received = self.all_to_all_of(Kind::GatherBytes, parts, &Want::Bytes)?;
        Ok(received.into_iter().map(Payload::bytes).collect())
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.meet(Kind::Barrier)
    }

    fn subgroup(&self, members: &[usize]) -> Result<Arc<dyn Comm>, CommError> {
        let rank = members.iter().position(|&member| member == self.rank);
        let rank = rank.unwrap_or_else(|| {
            panic!(
                "a subgroup is made by its members, and rank {} is none of {members:?}",
                self.rank
            )
        });
        for (i, &member) in members.iter().enumerate() {
            assert!(
                member < self.world() && !members[..i].contains(&member),
                "the members of a subgroup are different ranks below {}: {members:?}",
                self.world()
            );
        }
        // The same on all members, whatever other groups each of them has made.
        let mut id = DefaultHasher::new();
        {
            let mut made = self.made.lock().expect("no panic under this lock");
            let times = made.entry(members.to_vec()).or_default();
            (self.id, members, *times).hash(&mut id);
            *times += 1;
        }
        let mut counters = self.counters.clone();
        counters.push(Arc::default());
        let group = Self {
            wire: self.wire.clone(),
            id: id.finish(),
            rank,
            members: members.iter().map(|&member| self.members[member]).collect(),
            issued: Mutex::default(),
            made: Mutex::default(),
            counters,
        };
        group.meet(Kind::Subgroup)?;
        Ok(Arc::new(group))
    }

    fn traffic(&self) -> Traffic {
        let own = self.counters.last().expect("a group has its counter");
        Traffic {
            bytes: own.bytes.load(Relaxed),
            messages: own.messages.load(Relaxed),
        }
    }

    fn abort(&self, why: &str) {
        self.wire.abort(why);
    }
}

impl<W: Wire> Group<W> {
    /// A dissemination barrier: after round k, a rank has heard of the 2^k ranks before it.
    fn meet(&self, kind: Kind) -> Result<(), CommError> {
        let world = self.world();
        let mut by = 1;
        while by < world {
            let (to, from) = ((self.rank + by) % world, (self.rank + world - by) % world);
            let token = (to, Payload::Bytes(Vec::new()));
            self.start(kind, vec![token], vec![(from, Want::Bytes)])?()?;
            by *= 2;
        }
        Ok(())
    }
}

/// A shift whose receiver is its sender.
///
/// # Panics
///
/// If it does not expect what it sends.
pub(super) fn shift_to_oneself(send: Option<Tensor<1>>, receive: Option<Expected>) -> Pending {
    let sent = send.as_ref().map(|t| (t.dims()[0], t.dtype()));
    let expected = receive.as_ref().map(|e| (e.len, e.dtype));
    assert_eq!(
        sent, expected,
        "a rank that sends to itself expects what it sends"
    );
    let received = send
        .zip(receive)
        .map(|(t, e)| t.to_device(&e.device.inner()));
    Pending::new(move || Ok(received))
}

/// No values.
pub(super) fn nothing(dtype: DType, device: &Device) -> Tensor<1> {
    Tensor::zeros([0], (&device.clone().inner(), dtype))
}
