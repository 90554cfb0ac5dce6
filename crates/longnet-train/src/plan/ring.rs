//! What attention sends round a ring of ranks.

use super::largest_pass;
use crate::config::Config;
use crate::config::sections::{AttentionKind, Documents, NumberFormat};
use burn_longnet::pattern::Sizes;
use burn_longnet::pattern::ring::{RingSchedule, Shards};

/// Bytes of attention on one rank of a ring: the most of its first, middle and last rank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RingCost {
    /// Sent in a step: keys and values forward, the same again and the gradients of those that had come backward.
    pub sent: f64,
    /// Keys and values of the largest message of a layer.
    pub message: f64,
}

/// Rows times heads that are gone through; with more the cost would take minutes to find.
const MOST: usize = 1 << 34;

/// Of a checked config whose sequences are spread over `ring` ranks, from the very lists of rows by which they send; None where
/// that would take too long, and for adaptive layers, which no ring has.
pub fn ring_cost(config: &Config, ring: usize) -> Option<RingCost> {
    let (m, t) = (&config.model, &config.train);
    let (context, batch) = largest_pass(config);
    let work = context.saturating_mul(m.heads * config.attention.kind.len());
    let adaptive = config.attention.kind.contains(&AttentionKind::Adaptive);
    if ring == 1 || adaptive || work > MOST {
        return (ring == 1).then(RingCost::default);
    }
    let head = m.d_model / m.heads;
    let kv_heads = m.kv_heads.unwrap_or(m.heads);
    let shards = Shards::new(config.parallel.layout, context, ring);
    let labels = config.data.documents == Documents::Masked;
    let mut ranks = vec![0, ring / 2, ring - 1];
    ranks.dedup();
    let of_rank = |rank: usize| -> Option<RingCost> {
        let mut cost = RingCost::default();
        for (layers, groups) in config.layer_groups(context) {
            let mut message: f64 = 0.0;
            for group in groups {
                let shared = group.kv_heads(m.heads, kv_heads);
                let kv = shared.map_or(group.heads.len(), |range| range.len());
                let schedule = RingSchedule::new(&group.pattern, &shards, kv, rank).ok()?;
                let sizes = Sizes {
                    batch: batch.div_ceil(config.parallel.data),
                    kv_heads: kv,
                    d: head,
                    d_v: head,
                    bytes_per_element: match t.precision {
                        NumberFormat::F32 => 4,
                        NumberFormat::Bf16 | NumberFormat::F16 => 2,
                    },
                };
                let traffic = schedule.traffic(&sizes, labels);
                let again = (0..m.layers)
                    .filter(|layer| m.recompute.covers(*layer))
                    .count();
                let forward = layers as f64 * (1.0 + again as f64 / m.layers as f64);
                cost.sent += t.accumulate as f64
                    * (forward * traffic.forward as f64 + layers as f64 * traffic.backward as f64);
                let hops = schedule.hops().iter();
                let largest = hops.map(|hop| hop.incoming.bytes(&sizes)).max();
                message = message.max(largest.unwrap_or(0) as f64);
            }
            cost.message = cost.message.max(message);
        }
        Some(cost)
    };
    let mut most = RingCost::default();
    for rank in ranks {
        let cost = of_rank(rank)?;
        most.sent = most.sent.max(cost.sent);
        most.message = most.message.max(cost.message);
    }
    Some(most)
}
