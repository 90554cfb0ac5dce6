//! One rank's part in ring attention.

use super::{Exchange, Shards};
use crate::{Pattern, PatternError, Progression, Schedule, Sizes, Span};
use std::ops::Range;

/// What one rank computes and sends, hop by hop: in hop `s` its queries meet the keys of the rank `s` before it, and it
/// sends its keys to the rank `s` after it. Hop 0 is its own shard.
#[derive(Clone, Debug)]
pub struct RingSchedule {
    hops: Vec<Hop>,
}

/// One hop of a rank.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The rank's queries over the keys that have come.
    pub parts: Vec<Part>,
    /// What comes from the rank `s` before.
    pub incoming: Exchange,
    /// What goes to the rank `s` after.
    pub outgoing: Exchange,
}

/// Consecutive query rows over consecutive key rows of a shard, of which some pair is visible.
#[derive(Clone, Debug)]
pub struct Part {
    /// Rows of the queries.
    pub q: Range<usize>,
    /// Rows of the keys.
    pub k: Range<usize>,
    /// The pattern over their positions.
    pub schedule: Schedule,
}

/// Bytes that one rank sends, without headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingTraffic {
    /// In the forward pass: keys, values and labels.
    pub forward: u64,
    /// In the backward pass: the same again, and the gradients of the keys and values that had come.
    pub backward: u64,
}

impl RingSchedule {
    /// `rank`'s part in attention over `pattern`, with `kv_heads` key/value heads.
    ///
    /// # Errors
    ///
    /// As [`Pattern::schedule`].
    ///
    /// # Panics
    ///
    /// If `kv_heads` does not divide the pattern's heads, or there is no such rank.
    pub fn new(
        pattern: &Pattern,
        shards: &Shards,
        kv_heads: usize,
        rank: usize,
    ) -> Result<Self, PatternError> {
        let heads = pattern.heads();
        assert!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "kv_heads = {kv_heads} must divide heads = {heads}"
        );
        let world = shards.world();
        let exchange = |parts: &[Part], from| Exchange::new(parts, kv_heads, shards.rows(from));
        let hop = |by: usize| -> Result<Hop, PatternError> {
            let (before, after) = ((rank + world - by) % world, (rank + by) % world);
            let parts = parts(pattern, shards, rank, before)?;
            Ok(match by {
                0 => Hop {
                    parts,
                    incoming: Exchange::nothing(kv_heads),
                    outgoing: Exchange::nothing(kv_heads),
                },
                _ => Hop {
                    incoming: exchange(&parts, before),
                    outgoing: exchange(&self::parts(pattern, shards, after, rank)?, rank),
                    parts,
                },
            })
        };
        Ok(Self {
            hops: (0..world).map(hop).collect::<Result<_, _>>()?,
        })
    }

    /// The hops, one for each rank.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// What the rank sends. `labels`: whether there are padding masks or documents.
    pub fn traffic(&self, sizes: &Sizes, labels: bool) -> RingTraffic {
        let mut traffic = RingTraffic::default();
        for hop in &self.hops {
            let mut keys = hop.outgoing.bytes(sizes);
            if labels {
                keys += hop.outgoing.label_bytes(sizes.batch);
            }
            traffic.forward += keys;
            traffic.backward += keys + hop.incoming.bytes(sizes);
        }
        traffic
    }

    /// Visited pairs of one batch entry, over all heads, with multiplicity: the rank's share of the work.
    pub fn visited_pairs(&self) -> u64 {
        let parts = self.hops.iter().flat_map(|hop| &hop.parts);
        parts.map(|part| part.schedule.visited_pairs()).sum()
    }
}

/// The queries of rank `to` over the keys of rank `from`, chunk by chunk.
fn parts(
    pattern: &Pattern,
    shards: &Shards,
    to: usize,
    from: usize,
) -> Result<Vec<Part>, PatternError> {
    let chunks = |rank| {
        let mut start = 0;
        let rows = move |chunk: Progression| {
            start += chunk.len;
            (start - chunk.len..start, chunk)
        };
        shards.chunks(rank).into_iter().map(rows)
    };
    let mut parts = Vec::new();
    for (q, queries) in chunks(to) {
        for (k, keys) in chunks(from) {
            if pattern.is_causal() && keys.first >= queries.end() {
                continue;
            }
            let schedule = pattern.schedule(Span {
                q_start: queries.first,
                n_q: queries.len,
                k_start: keys.first,
                n_k: keys.len,
                step: queries.step,
            })?;
            if !schedule.is_empty() {
                let q = q.clone();
                parts.push(Part { q, k, schedule });
            }
        }
    }
    Ok(parts)
}
