//! The forward pass of few query rows: decoding with a cache.
//!
//! Memory is the limit, so keys and values are read where they lie, once for all query heads that
//! share them. A work item is a piece of the keys that a kv head's rows see; what the pieces of a row
//! give is merged in their order. Pieces depend on the problem only, so the bits do not depend on the
//! number of threads, and a cache of one head keeps all of them busy.

mod merge;
mod part;
mod plan;

use crate::buffer::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::real::Real;
use crate::work;
use merge::Parts;
use part::{Item, Scratch};
use plan::Plan;

/// Up to here the packing of keys costs more than it gains (measured).
const MOST_ROWS: usize = 16;
/// With more rows than this on the same keys products are the limit, not memory.
const MOST_ROWS_OF_A_KV_HEAD: usize = 64;

/// Whether this path is the faster one.
pub fn suits<E: Element>(cx: &Context<E>) -> bool {
    let rows = cx.heads / cx.kv_heads * cx.span.n_q;
    cx.span.n_q == 1 || cx.span.n_q <= MOST_ROWS && rows <= MOST_ROWS_OF_A_KV_HEAD
}

/// As [`crate::forward`], for results of the right sizes.
pub fn forward<E: Element>(cx: &Context<E>, mut out: &mut [E], mut lse: &mut [E::Acc]) {
    let plans: Vec<Plan> = (0..cx.kv_heads).map(|head| Plan::new(cx, head)).collect();
    let rows = cx.heads / cx.kv_heads * cx.span.n_q;
    let size = plan::piece_size(cx, rows, plans.iter().map(|plan| plan.keys).sum());
    let counts = plans.iter().map(|plan| plan.keys.div_ceil(size));
    let states = cx.batch * counts.sum::<usize>() * rows;
    let mut o = Buffer::new(states * cx.d_v_pad);
    let mut m = vec![E::Acc::NEG_INFINITY; states];
    let mut l = vec![E::Acc::ZERO; states];
    let (mut o_left, mut m_left, mut l_left) = (&mut *o, &mut *m, &mut *l);
    let mut items = Vec::new();
    for batch in 0..cx.batch {
        for (kv_head, plan) in plans.iter().enumerate() {
            for keys in work::blocks(plan.keys, size) {
                let item = Item {
                    batch,
                    kv_head,
                    plan,
                    o: work::take(&mut o_left, rows * cx.d_v_pad),
                    m: work::take(&mut m_left, rows),
                    l: work::take(&mut l_left, rows),
                    keys,
                };
                items.push(item);
            }
        }
    }
    let keys = cx.batch * plans.iter().map(|plan| plan.keys).sum::<usize>();
    work::run(
        plan::cost(cx, rows, keys),
        items.into_iter(),
        || Scratch::new(cx, rows),
        |scratch, item| scratch.item(cx, item),
    );
    let (mut o, mut m, mut l) = (&*o, &*m, &*l);
    let mut items = Vec::new();
    for _ in 0..cx.batch {
        for (kv_head, plan) in plans.iter().enumerate() {
            let states = plan.keys.div_ceil(size) * rows;
            let parts = Parts {
                kv_head,
                o: o.split_off(..states * cx.d_v_pad).expect("counted above"),
                m: m.split_off(..states).expect("counted above"),
                l: l.split_off(..states).expect("counted above"),
                out: work::take(&mut out, rows * cx.d_v),
                lse: work::take(&mut lse, rows),
            };
            items.push(parts);
        }
    }
    work::run(
        2 * (states * cx.d_v_pad) as u64,
        items.into_iter(),
        || Buffer::new(cx.d_v_pad),
        |sum, parts| parts.merge(cx, sum),
    );
}
