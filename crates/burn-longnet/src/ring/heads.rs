//! Attention with heads divided among ranks (DeepSpeed-Ulysses, arXiv 2309.14509): rows are exchanged for
//! heads before attention, and heads for rows after it.

use super::{Comm, CommError, SequenceShard, even_parts, raise, ring_attention};
use crate::functional::{AttentionOptions, sparse_attention_with_lse};
use crate::pattern::Pattern;
use crate::vjp::Inputs;
use burn::tensor::{Int, Tensor, kind::Basic};
use std::ops::Range;
use std::sync::Arc;

/// This rank's rows of a sequence, or of the shard of a ring, that some ranks hold together, and the way to
/// those ranks.
///
/// Between attentions each rank holds consecutive rows with all heads; in attention, all rows of the group
/// with its own heads.
#[derive(Clone, Debug)]
pub struct HeadShard {
    comm: Arc<dyn Comm>,
    /// By rank.
    rows: Vec<Range<usize>>,
    ring: Option<SequenceShard>,
}

impl HeadShard {
    /// This rank's part of a sequence of `n` positions, which the ranks of `comm` hold.
    pub fn new(comm: Arc<dyn Comm>, n: usize) -> Self {
        let rows = even_parts(n, comm.world());
        let ring = None;
        Self { comm, rows, ring }
    }

    /// This rank's part of a shard that the ranks of `comm` hold together. Of `R x H` ranks, those of one ring
    /// have the same number in their `comm` and the same heads; those of one `comm` the same rows.
    pub fn of_ring(comm: Arc<dyn Comm>, ring: SequenceShard) -> Self {
        Self {
            rows: even_parts(ring.rows(), comm.world()),
            ring: Some(ring),
            comm,
        }
    }

    /// This rank's rows, of those that the group holds together.
    pub fn rows(&self) -> Range<usize> {
        self.rows[self.comm.rank()].clone()
    }

    /// This rank's part of a tensor that has all positions of the whole sequence along `dim`.
    ///
    /// # Panics
    ///
    /// If there are not as many.
    pub fn take<const D: usize, K: Basic>(&self, all: Tensor<D, K>, dim: usize) -> Tensor<D, K> {
        self.take_of_group(all, dim).slice_dim(dim, self.rows())
    }

    /// As [`take`](Self::take), what the group holds together: what `mask_pad` and `documents` are about.
    ///
    /// # Panics
    ///
    /// If there are not as many.
    pub fn take_of_group<const D: usize, K: Basic>(
        &self,
        all: Tensor<D, K>,
        dim: usize,
    ) -> Tensor<D, K> {
        match &self.ring {
            Some(ring) => ring.take(all, dim),
            None => {
                let (positions, n) = (all.dims()[dim], self.n());
                assert_eq!(
                    positions, n,
                    "dim {dim} has {positions} positions, the sequence {n}"
                );
                all
            }
        }
    }

    /// The positions of this rank, row by row.
    pub fn positions(&self, device: &burn::tensor::Device) -> Tensor<1, Int> {
        let all = match &self.ring {
            Some(ring) => ring.positions(device),
            None => Tensor::arange(0..self.n() as i64, device),
        };
        all.slice_dim(0, self.rows())
    }

    /// Rows that the group holds together.
    fn n(&self) -> usize {
        self.rows.last().expect("a group has a rank").end
    }

    /// The query heads of each rank.
    fn heads(&self, heads: usize) -> Vec<Range<usize>> {
        let world = self.comm.world();
        assert!(
            heads.is_multiple_of(world),
            "{heads} heads cannot be divided among {world} ranks; use a number of ranks that divides them"
        );
        even_parts(heads, world)
    }

    /// The kv heads that the query heads of each rank read.
    fn kv_heads(&self, heads: usize, kv_heads: usize) -> Vec<Range<usize>> {
        let world = self.comm.world();
        assert!(
            kv_heads.is_multiple_of(world) || world.is_multiple_of(kv_heads),
            "{kv_heads} kv heads can be neither divided among {world} ranks nor repeated on them; one number must \
             divide the other"
        );
        let group = heads / kv_heads;
        let of = |heads: Range<usize>| heads.start / group..heads.end.div_ceil(group);
        self.heads(heads).into_iter().map(of).collect()
    }

    fn exchange(&self, parts: Vec<Tensor<4>>) -> Vec<Tensor<1>> {
        let flat = parts.into_iter().map(|part| {
            let values = part.shape().num_elements();
            part.reshape([values])
        });
        let received = self.comm.all_to_all(flat.collect());
        received.unwrap_or_else(|error: CommError| raise(error))
    }

    /// Rows with all heads to all rows with the heads `heads[rank]`.
    fn rows_to_heads(&self, x: Tensor<4>, heads: &[Range<usize>]) -> Tensor<4> {
        let [batch, _, _, d] = x.dims();
        let part = |heads: &Range<usize>| x.clone().slice_dim(1, heads.clone());
        let received = self.exchange(heads.iter().map(part).collect());
        let own = heads[self.comm.rank()].len();
        let shaped = received.into_iter().zip(&self.rows);
        let shaped = shaped.map(|(x, rows)| x.reshape([batch, own, rows.len(), d]));
        Tensor::cat(shaped.collect(), 2)
    }

    /// The way back. Heads that several ranks have are summed, in the order of ranks.
    fn heads_to_rows(&self, y: Tensor<4>, heads: &[Range<usize>]) -> Tensor<4> {
        let [batch, _, _, d] = y.dims();
        let part = |rows: &Range<usize>| y.clone().slice_dim(2, rows.clone());
        let received = self.exchange(self.rows.iter().map(part).collect());
        let rows = self.rows().len();
        let mut parts: Vec<(usize, Tensor<4>)> = Vec::new();
        for (y, heads) in received.into_iter().zip(heads) {
            let y = y.reshape([batch, heads.len(), rows, d]);
            match parts.pop() {
                Some((first, sum)) if first == heads.start => parts.push((first, sum + y)),
                other => {
                    parts.extend(other);
                    parts.push((heads.start, y));
                }
            }
        }
        Tensor::cat(parts.into_iter().map(|(_, y)| y).collect(), 1)
    }

    /// [`rows_to_heads`](Self::rows_to_heads), differentiable.
    fn scatter(&self, x: Tensor<4>, heads: Vec<Range<usize>>) -> Tensor<4> {
        let mut inputs = Inputs::new(&x.device());
        inputs.push(x.clone());
        let value = self.rows_to_heads(x.inner(), &heads);
        let shard = self.clone();
        inputs.finish(value, move |dy| {
            vec![Some(shard.heads_to_rows(dy, &heads).into_dispatch())]
        })
    }

    /// [`heads_to_rows`](Self::heads_to_rows) of heads of which no two ranks have the same, differentiable.
    fn gather(&self, y: Tensor<4>, heads: Vec<Range<usize>>) -> Tensor<4> {
        let mut inputs = Inputs::new(&y.device());
        inputs.push(y.clone());
        let value = self.heads_to_rows(y.inner(), &heads);
        let shard = self.clone();
        inputs.finish(value, move |dx| {
            vec![Some(shard.rows_to_heads(dx, &heads).into_dispatch())]
        })
    }
}

/// [`sparse_attention_with_lse`] over rows that the ranks of a group hold together, with the heads divided among
/// them; over the shards of a ring, [`ring_attention`] with the heads divided.
///
/// All ranks make the same calls in the same order, in the forward and in the backward pass, each with its own
/// rows and all heads. A rank then holds all rows of the group with its own heads. Heads of a pattern keep
/// their numbers: each sees what it sees on a single device. Where there are fewer kv heads than ranks, each is
/// sent to all ranks that read it.
///
/// `options` are those of a single device, or of [`ring_attention`]; `mask_pad` and `documents` are of all rows
/// of the group ([`HeadShard::take_of_group`]). Dropout counts heads from this rank's first on: give it
/// another seed on each rank of the group. It does not drop the pairs that a single device drops.
///
/// # Shapes
///
/// - q `[batch, heads, rows, d]`, k `[batch, kv_heads, rows, d]`, v `[batch, kv_heads, rows, d_v]`, with `rows`
///   those of `shard`
/// - out `[batch, heads, rows, d_v]`, lse `[batch, heads, rows]`
///
/// # Panics
///
/// As [`sparse_attention_with_lse`] and [`ring_attention`]; if there are not as many rows as `shard` has; if the
/// number of ranks does not divide the heads; if of the numbers of ranks and of kv heads neither divides the
/// other.
pub fn head_parallel_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    pattern: &Pattern,
    shard: &HeadShard,
    options: &AttentionOptions,
) -> (Tensor<4>, Tensor<3>) {
    crate::functional::check_shapes(&q, &k, &v, pattern);
    let (rows, n_q, n_k) = (shard.rows().len(), q.dims()[2], k.dims()[2]);
    assert_eq!(
        (n_q, n_k),
        (rows, rows),
        "q and k have {n_q} and {n_k} rows (dim 2), rank {} of the heads has {rows}",
        shard.comm.rank()
    );
    let heads = shard.heads(pattern.heads());
    let kv_heads = shard.kv_heads(pattern.heads(), k.dims()[1]);
    let own = heads[shard.comm.rank()].clone();
    let q = shard.scatter(q, heads.clone());
    let k = shard.scatter(k, kv_heads.clone());
    let v = shard.scatter(v, kv_heads);
    let mut options = options.clone();
    if let (Some(bias), Pattern::Blocks(mask)) = (&mut options.bias, pattern) {
        let starts = mask.bias_starts();
        let blocks = starts[own.start] as usize..starts[own.end] as usize;
        *bias = bias.clone().slice_dim(1, blocks);
    }
    let pattern = pattern.of_heads(own);
    let (out, lse) = match &shard.ring {
        Some(ring) => ring_attention(q, k, v, &pattern, ring, &options),
        None => sparse_attention_with_lse(q, k, v, &pattern, &options),
    };
    let out = shard.gather(out, heads.clone());
    let lse = shard.gather(lse.unsqueeze_dim(3), heads);
    (out, lse.squeeze_dim(3))
}
