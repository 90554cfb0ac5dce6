//! Tiles in bfloat16, by the processor's products of pairs, with sums in f32.

use super::{Forms, Source, Tiles};
use crate::buffer::Buffer;
use crate::element::Element;
use crate::kernels::bf16::{DEPTH, Engine, Thread};
use crate::kernels::{Kernels, LANE, Matrix, PANEL, selected};
use crate::panels::Panels;
use half::bf16;
use std::ops::Range;

/// Elements stay what they are; weights are rounded.
#[derive(Clone, Copy)]
pub struct Narrow {
    kernels: &'static Kernels<f32>,
    engine: &'static Engine,
}

impl Narrow {
    /// With the products of this process's [`level`](crate::level), if it has any.
    pub fn available() -> Option<Self> {
        // Where `LONGNET_CPU` names no level, the kernels of the other type say so.
        let level = selected().ok()?;
        level.bf16.map(|engine| Self {
            kernels: level.f32,
            engine,
        })
    }
}

impl Narrow {
    pub fn beats_three(&self) -> bool {
        self.engine.beats_three()
    }

    /// [`Tiles::load`] of a bfloat16 part of the elements.
    pub fn load_part<E: Element>(
        &self,
        side: &mut Side,
        at: usize,
        source: Source<E>,
        hidden: impl Fn(usize) -> bool,
        part: impl Fn(E) -> bf16,
    ) {
        let (depth, len) = (side.depth, source.rows.len);
        let padded = len.next_multiple_of(DEPTH);
        let first = if side.forms.left { at } else { 0 };
        side.left.grow((first + padded) * depth);
        let rows = &mut side.left[first * depth..][..padded * depth];
        rows[len * depth..].fill(bf16::ZERO);
        if depth > 0 {
            copy(rows, depth, source, hidden, part);
        }
        if side.forms.right {
            let ld = side.width.next_multiple_of(LANE);
            pair_rows(&mut side.right[at / 2 * ld..], ld, rows, depth);
        }
        if let Some(panels) = &mut side.panels {
            // SAFETY: two bf16 have the size of an f32, and the buffer starts on a cache line.
            let (_, words, _) = unsafe { rows.align_to::<f32>() };
            let words = Matrix {
                data: words,
                ld: depth / 2,
            };
            panels.load(self.kernels, at, words, len);
        }
    }

    /// [`Tiles::inner`]; adds to the scores if `add`.
    pub fn inner_add(
        &self,
        scores: &mut [f32],
        ld: usize,
        left: &Side,
        [first, step, m]: [usize; 3],
        right: &Side,
        rows: Range<usize>,
        add: bool,
    ) {
        let left = Matrix {
            data: &left.left[first * left.depth..],
            ld: step * left.depth,
        };
        let panels = right.panels.as_ref().expect("packed as panels");
        for (column, panel, n) in panels.parts(rows) {
            let panel = Matrix {
                data: as_words(panel.data),
                ld: panel.ld,
            };
            let c = &mut scores[column..];
            self.engine
                .product(c, ld, left, panel, [m, n, right.depth], add);
        }
    }
}

/// Query rows of a tile: two panels of pairs.
const GROUP: usize = 2 * PANEL;

pub struct Side {
    width: usize,
    /// `width` as the inner side of a product.
    depth: usize,
    /// Rows of `depth`: all, or where they are not kept those of one load.
    left: Buffer<bf16>,
    /// Rows of pairs of rows.
    right: Buffer<u32>,
    /// Pairs of columns, transposed. A pair is moved as if it were one f32.
    panels: Option<Panels<f32>>,
    forms: Forms,
}

impl Side {
    fn ld_right(&self) -> usize {
        self.width.next_multiple_of(LANE)
    }
}

/// Scores, and their rounded weights.
pub struct Weights {
    pub scores: Buffer<f32>,
    pub rows: Buffer<bf16>,
    pub ld: usize,
    /// Pairs of rows, and these transposed: rows of `GROUP` elements.
    pairs: Buffer<f32>,
    columns: Buffer<f32>,
}

impl Tiles<bf16> for Narrow {
    type Side = Side;
    type Weights = Weights;
    type Thread = Thread;

    const GROUPS: [usize; 2] = [GROUP, GROUP];
    const ALIGN: usize = DEPTH;

    fn thread(&self) -> Thread {
        self.engine.enter()
    }

    fn factors(&self, scale_base_2: f32) -> [f32; 2] {
        [1.0, scale_base_2]
    }

    fn side(&self, rows: usize, width: usize, forms: Forms) -> Side {
        let depth = width.next_multiple_of(DEPTH);
        let mut side = Side {
            width,
            depth,
            left: Buffer::new(0),
            right: Buffer::new(0),
            panels: forms.panels.then(|| Panels::new(0, depth / 2)),
            forms,
        };
        self.grow(&mut side, rows);
        side
    }

    fn grow(&self, side: &mut Side, rows: usize) {
        // Products over rows take multiples of DEPTH.
        let rows = rows.next_multiple_of(DEPTH);
        if side.forms.left {
            side.left.grow(rows * side.depth);
        }
        if side.forms.right {
            side.right.grow(rows / 2 * side.ld_right());
        }
        if let Some(panels) = &mut side.panels {
            panels.grow(rows);
        }
    }

    fn load(
        &self,
        side: &mut Side,
        at: usize,
        source: Source<bf16>,
        hidden: impl Fn(usize) -> bool,
        factor: f32,
    ) {
        debug_assert_eq!(factor, 1.0);
        self.load_part(side, at, source, hidden, |x| x);
    }

    fn weights(&self, rows: usize, columns: usize) -> Weights {
        let ld = columns.next_multiple_of(DEPTH);
        Weights {
            scores: Buffer::new(rows * columns),
            rows: Buffer::new(rows * ld),
            ld,
            pairs: Buffer::new(rows / 2 * ld),
            columns: Buffer::new(ld * PANEL),
        }
    }

    fn scores<'a>(&self, weights: &'a mut Weights) -> &'a mut [f32] {
        &mut weights.scores
    }

    fn seal(&self, w: &mut Weights, m: usize, columns: usize, ld: usize, transposed: bool) {
        for r in 0..m {
            let row = &w.scores[r * ld..][..columns];
            self.engine.round(&mut w.rows[r * w.ld..][..columns], row);
        }
        if transposed {
            if !m.is_multiple_of(2) {
                w.scores[m * ld..][..columns].fill(0.0);
            }
            let pairs = m.div_ceil(2);
            for (i, to) in w.pairs.chunks_exact_mut(w.ld).take(pairs).enumerate() {
                let [low, high] = [2 * i, 2 * i + 1].map(|r| &w.scores[r * ld..][..columns]);
                self.engine
                    .round_pairs(as_words_mut(&mut to[..columns]), low, high);
            }
            let pairs_of_rows = Matrix {
                data: &w.pairs,
                ld: w.ld,
            };
            // One panel: the rows that are missing become zeros.
            self.kernels
                .transpose(&mut w.columns, pairs_of_rows, pairs, columns);
        }
    }

    fn inner(
        &self,
        weights: &mut Weights,
        ld: usize,
        left: &Side,
        rows_of_left: [usize; 3],
        right: &Side,
        rows: Range<usize>,
    ) {
        self.inner_add(
            &mut weights.scores,
            ld,
            left,
            rows_of_left,
            right,
            rows,
            false,
        );
    }

    fn outer(
        &self,
        c: &mut [f32],
        ldc: usize,
        weights: &Weights,
        _: usize,
        right: &Side,
        at: usize,
        [m, n, k]: [usize; 3],
    ) {
        let ld = right.ld_right();
        let weights = Matrix {
            data: &weights.rows,
            ld: weights.ld,
        };
        let right = Matrix {
            data: &right.right[at / 2 * ld..],
            ld,
        };
        let sizes = [m, n, k.next_multiple_of(DEPTH)];
        self.engine.product(c, ldc, weights, right, sizes, true);
    }

    fn outer_t(
        &self,
        c: &mut [f32],
        ldc: usize,
        weights: &Weights,
        _: usize,
        right: &Side,
        at: usize,
        [m, n, k]: [usize; 3],
    ) {
        let ld = right.ld_right();
        let weights = Matrix {
            data: as_halves(&weights.columns),
            ld: GROUP,
        };
        let right = Matrix {
            data: &right.right[at / 2 * ld..],
            ld,
        };
        let sizes = [m, n, k.next_multiple_of(DEPTH)];
        self.engine.product(c, ldc, weights, right, sizes, true);
    }
}

/// Copies a part of the rows of a head, `depth` apart, and pads them with zeros.
fn copy<E: Element>(
    rows: &mut [bf16],
    depth: usize,
    source: Source<E>,
    hidden: impl Fn(usize) -> bool,
    part: impl Fn(E) -> bf16,
) {
    let Source {
        view,
        at,
        rows: indices,
    } = source;
    let (width, stride) = (view.shape[3], view.strides[3]);
    for (to, index) in rows.chunks_exact_mut(depth).zip(indices.iter()) {
        if hidden(index) {
            to.fill(bf16::ZERO);
            continue;
        }
        let start = view.row_start(at[0], at[1], index);
        let (to, pad) = to.split_at_mut(width);
        pad.fill(bf16::ZERO);
        if stride == 1 {
            for (to, &x) in to.iter_mut().zip(&view.data[start..start + width]) {
                *to = part(x);
            }
        } else {
            for (x, to) in to.iter_mut().enumerate() {
                *to = part(view.data[start.wrapping_add_signed(x as isize * stride)]);
            }
        }
    }
}

/// Rows, `depth` apart, to rows of pairs, `ld` apart. Columns past `depth` become zeros.
fn pair_rows(to: &mut [u32], ld: usize, rows: &[bf16], depth: usize) {
    if ld == 0 {
        return;
    }
    let width = ld.min(depth);
    for (to, pair) in to.chunks_exact_mut(ld).zip(rows.chunks_exact(2 * depth)) {
        let (low, high) = pair.split_at(depth);
        for ((to, low), high) in to[..width].iter_mut().zip(low).zip(high) {
            *to = low.to_bits() as u32 | (high.to_bits() as u32) << 16;
        }
    }
}

fn as_words(x: &[f32]) -> &[u32] {
    // SAFETY: same size and alignment, any bits are valid.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) }
}

fn as_words_mut(x: &mut [f32]) -> &mut [u32] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), x.len()) }
}

fn as_halves(x: &[f32]) -> &[bf16] {
    // SAFETY: half the size and alignment, any bits are valid.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), 2 * x.len()) }
}
