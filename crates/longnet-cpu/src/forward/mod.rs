//! The forward pass.

mod state;

use crate::block_rule::{BlockRule, is_dense};
use crate::context::{Context, check_len};
use crate::decode;
use crate::element::Element;
use crate::kernels::PANEL;
use crate::packed::{Chunk, Packed, packed_rows};
use crate::problem::Problem;
use crate::real::Real;
use crate::rules::{Columns, Rules};
use crate::tiles::{Forms, Source, Tiles};
use crate::view::View;
use crate::work;
use longnet_pattern::{BlockMask, Run};
use state::{Keys, State};
use std::ops::Range;

/// Keys of a tile.
const KEYS: usize = 256;

/// Consecutive query rows of one head, and where their results go.
struct Item<'a, E: Element> {
    batch: usize,
    head: usize,
    rows: Range<usize>,
    out: &'a mut [E],
    lse: &'a mut [E::Acc],
}

/// Scratch of a thread.
struct Scratch<E: Element, T: Tiles<E>> {
    tiles: T,
    state: State<E, T>,
    /// Keys of a run.
    k: T::Side,
    v: T::Side,
    keys: Columns,
    /// Keys that several runs of a block mask share.
    packed: Packed<E, T>,
}

pub fn forward<E: Element, T: Tiles<E>>(
    tiles: T,
    problem: &Problem,
    q: View<E>,
    k: View<E>,
    v: View<E>,
    mut out: &mut [E],
    mut lse: &mut [E::Acc],
) {
    let cx = Context::new(problem, q, k, v);
    let (planes, n_q) = (cx.batch * cx.heads, cx.span.n_q);
    check_len("out", out.len(), planes * n_q * cx.d_v);
    check_len("lse", lse.len(), planes * n_q);
    if decode::suits(&cx) {
        return decode::forward(&cx, out, lse);
    }
    let most = cx.rows_that_fit(cx.d_pad + cx.d_v_pad);
    let block = work::rows_per_item(n_q, planes, most);
    let mut items = Vec::new();
    for plane in 0..planes {
        let (batch, head) = (plane / cx.heads, plane % cx.heads);
        for rows in work::blocks(n_q, block) {
            let flops = 2 * (cx.d + cx.d_v) as u64 * pairs(&cx, head, &rows);
            let item = Item {
                batch,
                head,
                out: work::take(&mut out, rows.len() * cx.d_v),
                lse: work::take(&mut lse, rows.len()),
                rows,
            };
            items.push((flops, item));
        }
    }
    let (rows, keys) = (
        block.min(n_q),
        KEYS.min(cx.span.n_k.next_multiple_of(PANEL)),
    );
    // A mask packs its keys elsewhere.
    let kept = if problem.schedule.mask().is_some() {
        0
    } else {
        keys
    };
    let (panels, right) = (
        Forms {
            panels: true,
            ..Forms::default()
        },
        Forms {
            right: true,
            ..Forms::default()
        },
    );
    let scratch = || Scratch {
        tiles,
        state: State::new(tiles, &cx, rows, keys),
        k: tiles.side(kept, cx.d, panels),
        v: tiles.side(kept, cx.d_v, right),
        keys: Columns::default(),
        packed: Packed::new(tiles, &cx, [panels, right]),
    };
    let flops = work::heaviest_first(&mut items);
    if let Some(mask) = problem.schedule.mask().filter(|mask| mask.has_order()) {
        let place = |item: &Item<E>| {
            mask.query_place(cx.span.queries().at(item.rows.start) / mask.grid().q_block)
        };
        items.sort_by_key(|(_, item)| place(item));
    }
    let items = items.into_iter().map(|(_, item)| item);
    work::run(flops, items, scratch, |scratch, item| {
        scratch.item(&cx, item)
    });
}

/// Visited pairs of some query rows of a head.
pub fn pairs<E: Element>(cx: &Context<E>, head: usize, rows: &Range<usize>) -> u64 {
    let schedule = cx.schedule();
    (0..schedule.branches())
        .flat_map(|b| schedule.query_runs(b, head, rows.clone()))
        .map(|run| run.pairs())
        .sum()
}

impl<E: Element, T: Tiles<E>> Scratch<E, T> {
    fn item(&mut self, cx: &Context<E>, item: Item<E>) {
        let Item {
            batch,
            head,
            rows,
            out,
            lse,
        } = item;
        let rules = cx.rules(batch, head);
        self.state.start(cx, [batch, head], &rows);
        match cx.schedule().mask() {
            None => self.runs(cx, &rules, [batch, head], &rows),
            Some(mask) => {
                for keys in parts_of_keys(cx, mask, head, &rows) {
                    self.masked(cx, &rules, [batch, head], &rows, &keys);
                }
            }
        }
        self.state.finish(cx, out, lse);
    }

    /// Adds the keys that dilated branches let the rows see.
    fn runs(
        &mut self,
        cx: &Context<E>,
        rules: &Rules,
        [batch, head]: [usize; 2],
        rows: &Range<usize>,
    ) {
        let (schedule, at) = (cx.schedule(), [batch, cx.kv_head(head)]);
        for branch in 0..schedule.branches() {
            for run in schedule.query_runs(branch, head, rows.clone()) {
                self.run(cx, rules, at, rows.start, &run);
            }
        }
    }

    /// Adds the keys of a run to the state of its rows. `first` is the item's first row.
    fn run(&mut self, cx: &Context<E>, rules: &Rules, at: [usize; 2], first: usize, run: &Run) {
        let tiles = self.tiles;
        for start in (0..run.k.len).step_by(KEYS) {
            let block = run.k.slice(start..run.k.len.min(start + KEYS));
            self.keys.load(block, |b| rules.key(b));
            for (view, side) in [(&cx.k, &mut self.k), (&cx.v, &mut self.v)] {
                let rows = block;
                let source = Source { view, at, rows };
                tiles.load(side, 0, source, |b| rules.hides(b), E::Acc::ONE);
            }
            let keys = Keys {
                k: &self.k,
                v: &self.v,
                columns: &self.keys,
                at: 0,
                start,
                len: block.len,
                bias: E::Acc::ZERO,
            };
            self.state.keys(cx, rules, first, run, &keys, None);
        }
    }

    /// Adds those of `keys` that a block mask lets the rows see.
    fn masked(
        &mut self,
        cx: &Context<E>,
        rules: &Rules,
        at: [usize; 2],
        rows: &Range<usize>,
        keys: &Range<usize>,
    ) {
        let area = cx.schedule().area(rows.clone(), keys.clone());
        let blocks = cx.runs(0, at[1], rows.clone(), keys.clone());
        let bias = cx.bias_of(at[0]);
        if let Some(run) = area.filter(|run| is_dense(self.tiles, cx, blocks, [*run], bias)) {
            let mut rule = BlockRule::new(cx, at);
            (self.packed).load_all(self.tiles, cx, rules, at, keys);
            for (start, chunk) in self.packed.chunks(0, &run) {
                let keys = keys_of(&self.packed, chunk, start, E::Acc::ZERO);
                (self.state).keys(cx, rules, rows.start, &run, &keys, Some(&mut rule));
            }
            return;
        }
        (self.packed).load(self.tiles, cx, rules, at, rows, keys);
        for (run, block) in cx.runs(0, at[1], rows.clone(), keys.clone()) {
            let bias = cx.bias_base_2(at[0], block);
            // Such a block adds weights of 0.
            if bias == E::Acc::NEG_INFINITY {
                continue;
            }
            for (start, chunk) in self.packed.chunks(0, &run) {
                let keys = keys_of(&self.packed, chunk, start, bias);
                (self.state).keys(cx, rules, rows.start, &run, &keys, None);
            }
        }
    }
}

/// A chunk of packed keys, `start` of which come before it in a run.
fn keys_of<'a, E: Element, T: Tiles<E>>(
    packed: &'a Packed<E, T>,
    chunk: &'a Chunk,
    start: usize,
    bias: E::Acc,
) -> Keys<'a, E, T> {
    Keys {
        k: &packed.k,
        v: &packed.v,
        columns: &chunk.columns,
        at: chunk.at,
        start,
        len: chunk.rows.len,
        bias,
    }
}

/// The keys that some rows of a mask see, in parts of a size that is packed at once.
fn parts_of_keys<E: Element>(
    cx: &Context<E>,
    mask: &BlockMask,
    head: usize,
    rows: &Range<usize>,
) -> impl Iterator<Item = Range<usize>> {
    const KEYS: usize = 512;
    const ROWS: usize = 2560;
    let mut size = KEYS;
    while size > PANEL && packed_rows(cx.schedule(), size) > ROWS {
        size /= 2;
    }
    // Parts end where blocks do. From here on sizes are distances of positions.
    let (block, size) = (mask.grid().k_block, size * cx.span.step);
    let size = if mask.has_order() {
        size.min(block)
    } else if block < size {
        size / block * block
    } else {
        size
    };
    let (keys, step, n_k) = (cx.span.keys(), cx.span.step, cx.span.n_k);
    let mut parts: Vec<usize> = Vec::new();
    for run in cx.schedule().query_runs(0, head, rows.clone()) {
        let first = keys.at(run.k.first) / size;
        parts.extend(first..=keys.at(run.k.at(run.k.len - 1)) / size);
    }
    parts.sort_unstable();
    parts.dedup();
    if mask.has_order() {
        parts.sort_by_key(|part| mask.key_place(part * size / block));
    }
    let row = move |position: usize| {
        let distance = position.saturating_sub(keys.first);
        distance.div_ceil(step).min(n_k)
    };
    parts
        .into_iter()
        .map(move |part| row(part * size)..row((part + 1) * size))
}
