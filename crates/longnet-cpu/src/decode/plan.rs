//! What a kv head's rows see, and how it is cut.

use crate::context::Context;
use crate::element::Element;
use longnet_pattern::Run;
use std::collections::HashMap;

/// The runs of a kv head's query heads.
pub struct Plan {
    pub works: Vec<Work>,
    /// Keys of all of them.
    pub keys: usize,
}

/// A run, and the query heads that have it, counted from the kv head's first.
pub struct Work {
    pub run: Run,
    pub heads: Vec<usize>,
    /// For each of the heads, the place of the run's block in the bias.
    pub blocks: Vec<Option<usize>>,
}

impl Plan {
    pub fn new<E: Element>(cx: &Context<E>, kv_head: usize) -> Self {
        let (schedule, group) = (cx.schedule(), cx.heads / cx.kv_heads);
        let mut works: Vec<Work> = Vec::new();
        for branch in 0..schedule.branches() {
            // Of a block mask there may be many.
            let mut known = HashMap::new();
            for head in 0..group {
                let (rows, keys) = (0..cx.span.n_q, 0..cx.span.n_k);
                for (run, block) in cx.runs(branch, kv_head * group + head, rows, keys) {
                    let work = *known.entry(run).or_insert_with(|| {
                        works.push(Work {
                            run,
                            heads: Vec::new(),
                            blocks: Vec::new(),
                        });
                        works.len() - 1
                    });
                    works[work].heads.push(head);
                    works[work].blocks.push(block);
                }
            }
        }
        let keys = works.iter().map(|work| work.run.k.len).sum();
        Self { works, keys }
    }
}

/// Keys of a work item, where a batch entry has `keys` in all: enough to pay for its start and for
/// merging what it gives for `rows` rows, and not more items than keep many threads busy.
pub fn piece_size<E: Element>(cx: &Context<E>, rows: usize, keys: usize) -> usize {
    const ELEMENTS: usize = 1 << 17;
    const ITEMS: usize = 512;
    let enough = ELEMENTS / (cx.d + cx.d_v).max(1);
    enough
        .max(32 * rows)
        .max((cx.batch * keys).div_ceil(ITEMS))
        .max(1)
}

/// The time that some keys take, in FLOPs of the other path: reading an element takes about as long as
/// one product with it.
pub fn cost<E: Element>(cx: &Context<E>, rows: usize, keys: usize) -> u64 {
    const READ: usize = 2;
    ((cx.d + cx.d_v) * keys * (READ + 2 * rows)) as u64
}
