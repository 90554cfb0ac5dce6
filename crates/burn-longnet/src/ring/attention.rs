//! Attention over a sharded sequence as one differentiable op.

use super::message::{Keys, Message};
use super::{CommError, Pending, SequenceShard, raise};
use crate::functional::{self, AttentionOptions, sparse_attention_with_lse};
use crate::ops::{AttentionSpec, Bias, Labels, SparseAttentionOps};
use crate::pattern::ring::{Exchange, Part, RingSchedule};
use crate::pattern::{DilatedPattern, Dropout, MixGradient, Pattern, Precision, Tail};
use crate::precision;
use crate::vjp::Inputs;
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// [`sparse_attention_with_lse`] over a sequence of which each rank holds a part: `(out, lse)` of this rank's rows.
///
/// All ranks make the same calls in the same order, in the forward and in the backward pass, each with its own rows of
/// one sequence. In hop `s` a rank's queries meet the keys of the rank `s` before it. Only rows that are seen are sent,
/// in one message a hop, which is on its way while the hop before is computed; a rank holds two shards at most beside its
/// own. Partial results are merged in f32 (f64 for f64). The backward pass sends keys and values again, and their gradients
/// home, where they are added in the order of hops.
///
/// With one rank it is [`sparse_attention_with_lse`], to the bit.
///
/// `options` are those of the whole sequence, but for `mask_pad` and `documents`, which are of this rank's rows, and `span`,
/// which must be absent. Every rank has the whole bias, and gets its own share of its gradient, as of any parameter that all
/// ranks hold. Dropout drops the pairs that a single device drops.
///
/// [`MixGradient::Detached`] takes one call for each branch: the rows that several branches see are sent for each of them,
/// and the outputs of all branches are kept for the backward pass.
///
/// # Shapes
///
/// - q `[batch, heads, rows, d]`, k `[batch, kv_heads, rows, d]`, v `[batch, kv_heads, rows, d_v]`, with `rows` those of
///   `shard`, which may be 0
/// - out `[batch, heads, rows, d_v]`, lse `[batch, heads, rows]`
///
/// # Panics
///
/// As [`sparse_attention_with_lse`]; if there are not as many rows as `shard` has; by [`raise`] if ranks cannot work together: run the
/// rank in [`catch`](super::catch).
pub fn ring_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    pattern: &Pattern,
    shard: &SequenceShard,
    options: &AttentionOptions,
) -> (Tensor<4>, Tensor<3>) {
    functional::check_shapes(&q, &k, &v, pattern);
    functional::check_dropout(options);
    let (n_q, n_k, rows) = (q.dims()[2], k.dims()[2], shard.rows());
    assert_eq!(
        (n_q, n_k),
        (rows, rows),
        "q and k have {n_q} and {n_k} rows (dim 2), the shard of rank {} has {rows}",
        shard.rank()
    );
    assert!(
        options.span.is_none(),
        "the positions of a shard are those of its layout; options.span must be None"
    );
    if shard.world() == 1 {
        return sparse_attention_with_lse(q, k, v, pattern, options);
    }
    let Pattern::Dilated(dilated) = pattern else {
        return exact(q, k, v, pattern, shard, options);
    };
    match dilated.branches_apart() {
        Some(branches) if options.gradient == MixGradient::Detached => {
            let part = |branch| {
                let (q, k, v) = (q.clone(), k.clone(), v.clone());
                with_zero_keys(q, k, v, branch, shard, options)
            };
            mix_detached(branches.iter().map(part).collect(), q.dtype())
        }
        _ => with_zero_keys(q, k, v, dilated, shard, options),
    }
}

/// The zero keys of a tail are a partial result of their own: their scores are 0 and their values, too.
fn with_zero_keys(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    dilated: &DilatedPattern,
    shard: &SequenceShard,
    options: &AttentionOptions,
) -> (Tensor<4>, Tensor<3>) {
    if dilated.tail() == Tail::Masked || dilated.is_causal() {
        let pattern = Pattern::Dilated(dilated.with_tail(Tail::Masked));
        return exact(q, k, v, &pattern, shard, options);
    }
    assert!(
        options.documents.is_none(),
        "tail = ZeroKeys is not defined with documents; use tail = Masked"
    );
    let positions: Vec<usize> = shard.shards().positions(shard.rank()).collect();
    let count = |head, &p: &usize| dilated.zero_keys(head, p, shard.n()) as f64;
    let lse: Vec<f64> = (0..dilated.heads())
        .flat_map(|head| positions.iter().map(move |p| count(head, p).ln()))
        .collect();
    let pattern = Pattern::Dilated(dilated.with_tail(Tail::Masked));
    let (out, lse_of_keys) = exact(q, k, v, &pattern, shard, options);
    let shape = [1, dilated.heads(), positions.len()];
    let lse = TensorData::new(lse, shape);
    let lse = Tensor::<3>::from_data(lse, (&out.device(), lse_of_keys.dtype()));
    let lse = lse.expand(lse_of_keys.dims());
    functional::merge((out.clone(), lse_of_keys), (out.detach().zeros_like(), lse))
}

/// [`ring_attention`] on a shard, [`sparse_attention`](functional::sparse_attention) elsewhere.
pub(crate) fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    pattern: &Pattern,
    shard: Option<&SequenceShard>,
    options: &AttentionOptions,
) -> Tensor<4> {
    match shard {
        Some(shard) => ring_attention(q, k, v, pattern, shard, options).0,
        None => functional::sparse_attention(q, k, v, pattern, options),
    }
}

/// Results over the keys of several branches as those over all of them, with constant weights of the outputs.
fn mix_detached(parts: Vec<(Tensor<4>, Tensor<3>)>, dtype: DType) -> (Tensor<4>, Tensor<3>) {
    let largest = parts.iter().map(|(_, lse)| lse.clone().detach());
    let largest = largest.reduce(Tensor::max_pair).expect("a branch");
    // Finite where all are -inf, so that nothing below computes inf - inf.
    let top = largest.clamp_min(-1e30);
    let weights: Vec<_> = (parts.iter())
        .map(|(_, lse)| (lse.clone() - top.clone()).exp())
        .collect();
    let sum = weights
        .iter()
        .cloned()
        .reduce(|a, b| a + b)
        .expect("a branch");
    let empty = sum.clone().detach().equal_elem(0.0);
    let sum = sum.mask_fill(empty.clone(), 1.0);
    let lse = (top + sum.clone().log()).mask_fill(empty, f64::NEG_INFINITY);
    let wide = FloatDType::from(lse.dtype());
    let part = |((out, _), weight): ((Tensor<4>, Tensor<3>), Tensor<3>)| {
        out.cast(wide) * (weight / sum.clone()).detach().unsqueeze_dim(3)
    };
    let out = parts.into_iter().zip(weights).map(part);
    let out = out.reduce(|a, b| a + b).expect("a branch");
    (out.cast(FloatDType::from(dtype)), lse)
}

fn exact(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    pattern: &Pattern,
    shard: &SequenceShard,
    options: &AttentionOptions,
) -> (Tensor<4>, Tensor<3>) {
    let [batch, _, rows, d] = q.dims();
    let device = q.device();
    let bias = functional::bias(options, pattern, batch, q.dtype());
    let [q_labels, k_labels] = match functional::labels(options, [batch, rows, rows], &device) {
        Some(labels) => labels.map(|labels| Some(labels.inner())),
        None => [None, None],
    };
    let call = Call {
        schedule: shard.schedule(pattern, k.dims()[1]),
        shard: shard.clone(),
        q_labels,
        scale: options.scale.unwrap_or(1.0 / (d as f64).sqrt()),
        precision: options.precision,
        dropout: options.dropout.filter(|dropout| dropout.p > 0.0),
    };
    let mut inputs = Inputs::new(&device);
    for t in [&q, &k, &v] {
        inputs.push(t.clone());
    }
    if let Some(bias) = &bias {
        inputs.push(bias.clone());
    }
    let (q, bias) = (q.inner(), bias.map(Tensor::inner));
    let own = Keys {
        k: k.inner(),
        v: v.inner(),
        labels: k_labels,
    };
    let (out, lse) = call.forward(&q, &own, bias.as_ref());
    let values = [out.clone().into_dispatch(), lse.clone().into_dispatch()];
    inputs.finish_pair(values, move |dout: Tensor<4>, dlse: Option<Tensor<3>>| {
        let dlse = dlse.unwrap_or_else(|| lse.zeros_like());
        call.backward(
            Queries {
                q,
                out,
                lse,
                dout,
                dlse,
            },
            &own,
            bias,
        )
    })
}

/// A call on this rank.
struct Call {
    shard: SequenceShard,
    schedule: Arc<RingSchedule>,
    q_labels: Option<Tensor<2, Int>>,
    scale: f64,
    precision: Precision,
    dropout: Option<Dropout>,
}

/// What the backward pass knows of the queries.
struct Queries {
    q: Tensor<4>,
    out: Tensor<4>,
    lse: Tensor<3>,
    dout: Tensor<4>,
    dlse: Tensor<3>,
}

impl Call {
    fn forward(
        &self,
        q: &Tensor<4>,
        own: &Keys,
        bias: Option<&Tensor<2>>,
    ) -> (Tensor<4>, Tensor<3>) {
        let [batch, heads, rows, _] = q.dims();
        let (device, dtype, d_v) = (q.device(), q.dtype(), own.v.dims()[3]);
        let wide = precision::wide(dtype);
        let mut chunks: Vec<_> = self
            .chunks(self.shard.rank())
            .map(|rows| (rows, None))
            .collect();
        self.each_hop(own, |by, keys| {
            for part in &self.schedule.hops()[by].parts {
                let (q, k, v) = (
                    rows_of(q, &part.q),
                    rows_of(&keys.k, &part.k),
                    rows_of(&keys.v, &part.k),
                );
                let (out, lse) = <Dispatch as SparseAttentionOps>::sparse_attention_forward(
                    q.into_dispatch(),
                    k.into_dispatch(),
                    v.into_dispatch(),
                    self.labels(part, keys),
                    block_bias(bias),
                    self.spec(part),
                );
                let new = (
                    Tensor::<4>::from_dispatch(out),
                    Tensor::<3>::from_dispatch(lse),
                );
                let (_, merged) = find(&mut chunks, &part.q);
                *merged = Some(match merged.take() {
                    None => new,
                    Some((out, lse)) => {
                        let cast = |out: Tensor<4>| out.cast(FloatDType::from(wide));
                        functional::merge((cast(out), lse), (cast(new.0), new.1))
                    }
                });
            }
        });
        let results = chunks.into_iter().map(|(rows, merged)| match merged {
            Some((out, lse)) => (out.cast(FloatDType::from(dtype)), lse),
            None => nothing([batch, heads, rows.len(), d_v], &device, dtype),
        });
        let (mut outs, mut lses): (Vec<_>, Vec<_>) = results.unzip();
        match outs.len() {
            0 => nothing([batch, heads, rows, d_v], &device, dtype),
            1 => (outs.remove(0), lses.remove(0)),
            _ => (Tensor::cat(outs, 2), Tensor::cat(lses, 2)),
        }
    }

    /// The gradients of q, k, v and, if there is one, this rank's share of that of the bias.
    fn backward(
        &self,
        of: Queries,
        own: &Keys,
        bias: Option<Tensor<2>>,
    ) -> Vec<Option<DispatchTensor>> {
        let world = self.shard.world();
        let mut dq = self.sums(self.shard.rank());
        let (mut dk, mut dv) = (Sum::default(), Sum::default());
        let mut dbias: Sum<2> = Sum::default();
        let mut going_home: Option<(usize, Pending)> = None;
        let welcome = |dk: &mut Sum<4>, dv: &mut Sum<4>, pending: Option<(usize, Pending)>| {
            let Some((by, pending)) = pending else {
                return;
            };
            if let Some(message) = wait(pending) {
                let hop = &self.schedule.hops()[by];
                let keys = self
                    .message(&hop.outgoing, self.shard.rank(), own, false)
                    .unpack(message);
                dk.add(keys.k);
                dv.add(keys.v);
            }
        };
        self.each_hop(own, |by, keys| {
            let hop = &self.schedule.hops()[by];
            let from = (self.shard.rank() + world - by) % world;
            let (mut parts_dk, mut parts_dv) = (self.sums(from), self.sums(from));
            for part in &hop.parts {
                let (k, v) = (rows_of(&keys.k, &part.k), rows_of(&keys.v, &part.k));
                let (part_dq, part_dk, part_dv, part_dbias) =
                    <Dispatch as SparseAttentionOps>::sparse_attention_backward(
                        rows_of(&of.q, &part.q).into_dispatch(),
                        k.into_dispatch(),
                        v.into_dispatch(),
                        self.labels(part, keys),
                        block_bias(bias.as_ref()),
                        rows_of(&of.out, &part.q).into_dispatch(),
                        rows_of(&of.lse, &part.q).into_dispatch(),
                        rows_of(&of.dout, &part.q).into_dispatch(),
                        rows_of(&of.dlse, &part.q).into_dispatch(),
                        self.spec(part),
                    );
                find(&mut dq, &part.q).1.add(Tensor::from_dispatch(part_dq));
                find(&mut parts_dk, &part.k)
                    .1
                    .add(Tensor::from_dispatch(part_dk));
                find(&mut parts_dv, &part.k)
                    .1
                    .add(Tensor::from_dispatch(part_dv));
                if bias.is_some() {
                    dbias.add(Tensor::from_dispatch(part_dbias));
                }
            }
            if by == 0 {
                if !hop.parts.is_empty() {
                    dk.add(joined(parts_dk, &keys.k));
                    dv.add(joined(parts_dv, &keys.v));
                }
                return;
            }
            let gradients = (!hop.incoming.is_empty()).then(|| Keys {
                k: joined(parts_dk, &keys.k),
                v: joined(parts_dv, &keys.v),
                labels: None,
            });
            let message = self.message(&hop.incoming, from, own, false);
            let send = gradients.and_then(|gradients| message.pack(&gradients));
            let receive = self
                .message(&hop.outgoing, self.shard.rank(), own, false)
                .expected();
            let started = self.shard.comm().start_shift(world - by, send, receive);
            let before = going_home.replace((by, or_raise(started)));
            welcome(&mut dk, &mut dv, before);
        });
        welcome(&mut dk, &mut dv, going_home);
        let dq = joined(dq, &of.q);
        let mut gradients = vec![
            Some(dq.into_dispatch()),
            Some(dk.in_place_of(&own.k).into_dispatch()),
            Some(dv.in_place_of(&own.v).into_dispatch()),
        ];
        gradients.extend(bias.map(|bias| Some(dbias.in_place_of(&bias).into_dispatch())));
        gradients
    }

    /// Calls `f` with the keys of each hop in turn, while those of the next are on their way.
    fn each_hop(&self, own: &Keys, mut f: impl FnMut(usize, &Keys)) {
        let (world, rank) = (self.shard.world(), self.shard.rank());
        let labels = own.labels.is_some();
        let sends = self
            .schedule
            .hops()
            .iter()
            .any(|hop| !hop.outgoing.is_empty());
        let packed_from = sends.then(|| own.contiguous());
        let start = |by: usize| {
            let hop = &self.schedule.hops()[by];
            let message = self.message(&hop.outgoing, rank, own, labels);
            let send = packed_from.as_ref().and_then(|own| message.pack(own));
            let from = (rank + world - by) % world;
            let receive = self.message(&hop.incoming, from, own, labels).expected();
            or_raise(self.shard.comm().start_shift(by, send, receive))
        };
        let mut coming = Some(start(1));
        f(0, own);
        for by in 1..world {
            let arrived = coming.take().and_then(wait);
            coming = (by + 1 < world).then(|| start(by + 1));
            let hop = &self.schedule.hops()[by];
            let from = (rank + world - by) % world;
            match arrived {
                Some(message) => f(
                    by,
                    &self
                        .message(&hop.incoming, from, own, labels)
                        .unpack(message),
                ),
                None => f(by, own),
            }
        }
    }

    /// How rows of the shard of `owner` travel.
    fn message<'a>(
        &self,
        exchange: &'a Exchange,
        owner: usize,
        own: &Keys,
        labels: bool,
    ) -> Message<'a> {
        let [batch, _, _, d] = own.k.dims();
        Message {
            exchange,
            rows: self.shard.shards().rows(owner),
            batch,
            widths: [d, own.v.dims()[3]],
            dtype: own.k.dtype(),
            device: own.k.device(),
            labels,
        }
    }

    /// The rows of each chunk of a rank.
    fn chunks(&self, rank: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let mut start = 0;
        let chunks = self.shard.shards().chunks(rank).into_iter();
        chunks.map(move |chunk| {
            start += chunk.len;
            start - chunk.len..start
        })
    }

    /// A gradient for each chunk of a rank.
    fn sums(&self, rank: usize) -> Vec<(Range<usize>, Sum<4>)> {
        self.chunks(rank)
            .map(|rows| (rows, Sum::default()))
            .collect()
    }

    fn labels(&self, part: &Part, keys: &Keys) -> Labels<Dispatch> {
        match (&self.q_labels, &keys.labels) {
            (Some(q), Some(k)) => Labels::Pair {
                q: q.clone().slice_dim(1, part.q.clone()).into_dispatch(),
                k: k.clone().slice_dim(1, part.k.clone()).into_dispatch(),
            },
            _ => Labels::None,
        }
    }

    fn spec(&self, part: &Part) -> AttentionSpec {
        AttentionSpec {
            schedule: part.schedule.clone(),
            scale: self.scale,
            gradient: MixGradient::Exact,
            precision: self.precision,
            dropout: self.dropout,
        }
    }
}

fn or_raise<T>(result: Result<T, CommError>) -> T {
    result.unwrap_or_else(|error| raise(error))
}

fn wait(pending: Pending) -> Option<Tensor<1>> {
    or_raise(pending.wait())
}

fn block_bias(bias: Option<&Tensor<2>>) -> Bias<Dispatch> {
    match bias {
        Some(bias) => Bias::Blocks(bias.clone().into_dispatch()),
        None => Bias::None,
    }
}

/// Some rows (dim 2) of a tensor.
fn rows_of<const D: usize>(t: &Tensor<D>, rows: &Range<usize>) -> Tensor<D> {
    match t.dims()[2] == rows.len() {
        true => t.clone(),
        false => t.clone().slice_dim(2, rows.clone()),
    }
}

fn find<'a, T>(
    chunks: &'a mut [(Range<usize>, T)],
    rows: &Range<usize>,
) -> &'a mut (Range<usize>, T) {
    let chunk = chunks.iter_mut().find(|(chunk, _)| chunk == rows);
    chunk.expect("parts are made of chunks")
}

/// The result of rows that see nothing.
fn nothing(
    shape: [usize; 4],
    device: &burn::tensor::Device,
    dtype: DType,
) -> (Tensor<4>, Tensor<3>) {
    let [batch, heads, rows, _] = shape;
    let lse = Tensor::full(
        [batch, heads, rows],
        f64::NEG_INFINITY,
        (device, precision::wide(dtype)),
    );
    (Tensor::zeros(shape, (device, dtype)), lse)
}

/// The gradient of `t` from those of its chunks of rows.
fn joined(chunks: Vec<(Range<usize>, Sum<4>)>, t: &Tensor<4>) -> Tensor<4> {
    let rows = chunks
        .iter()
        .map(|(rows, _)| rows.clone())
        .collect::<Vec<_>>();
    let parts = chunks.into_iter().zip(rows);
    let mut parts: Vec<_> = parts
        .map(|((_, sum), rows)| sum.in_place_of(&rows_of(t, &rows)))
        .collect();
    match parts.len() {
        0 => t.zeros_like(),
        1 => parts.remove(0),
        _ => Tensor::cat(parts, 2),
    }
}

/// A sum of gradients, in f32 or f64 where there are several.
struct Sum<const D: usize>(Option<Tensor<D>>);

impl<const D: usize> Default for Sum<D> {
    fn default() -> Self {
        Self(None)
    }
}

impl<const D: usize> Sum<D> {
    fn add(&mut self, t: Tensor<D>) {
        self.0 = Some(match self.0.take() {
            None => t,
            Some(sum) => {
                let wide = FloatDType::from(precision::wide(t.dtype()));
                sum.cast(wide) + t.cast(wide)
            }
        });
    }

    /// As the gradient of `t`.
    fn in_place_of(self, t: &Tensor<D>) -> Tensor<D> {
        match self.0 {
            Some(sum) => sum.cast(FloatDType::from(t.dtype())),
            None => t.zeros_like(),
        }
    }
}
