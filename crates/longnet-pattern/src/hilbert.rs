//! Orders of a 2-D grid along a Hilbert curve: what is near in the order is near in both directions.
//!
//! For models on images, whose tokens come row by row: gather the tokens by [`order`] before the first
//! layer and by its inverse after the last, or leave them and visit blocks by [`block_order`].
//!
//! ```
//! use longnet_pattern::hilbert;
//!
//! let order = hilbert::order(4, 4);
//! // Cell y * 4 + x, step by step.
//! assert_eq!(order.as_slice()[..6], [0, 1, 5, 4, 8, 12]);
//! let image: Vec<_> = (0..16).collect();
//! assert_eq!(order.inverse().apply(&order.apply(&image)), image);
//! ```

use crate::Permutation;

/// The cells of a grid of any height and width, named row by row as `y * width + x`, along a Hilbert curve from
/// the first cell: each is beside the one before it. On a square whose side is a power of two it is Hilbert's
/// own curve; elsewhere the generalised one of Jakub Cerveny ("gilbert"), which cuts the longer side in halves,
/// even ones where it can. That takes a diagonal step where the side it goes along is odd and the other even;
/// here it goes along the other side then, at the end of a long grid.
///
/// # Panics
///
/// If there are more than 2^32 cells.
pub fn order(height: usize, width: usize) -> Permutation {
    let cells = height.checked_mul(width).filter(|n| *n <= 1 << 32);
    let cells =
        cells.unwrap_or_else(|| panic!("a grid of {height} by {width} has over 2^32 cells"));
    let mut curve = Curve {
        width,
        cells: Vec::with_capacity(cells),
    };
    let (height, width) = (height as i64, width as i64);
    if cells > 0 {
        curve.whole(height, width);
    }
    Permutation::known(curve.cells)
}

/// Blocks of `block` neighbouring tokens of an image whose tokens come row by row, in the order in which a Hilbert
/// curve meets them. Where rows are whole numbers of blocks, it is the curve over the blocks; elsewhere
/// blocks come in the order of their first tokens along the curve over the tokens.
///
/// # Panics
///
/// If `block` is 0, or there are more than 2^32 tokens.
pub fn block_order(height: usize, width: usize, block: usize) -> Permutation {
    assert!(block > 0, "block is 0; give the tokens of a block");
    if width.is_multiple_of(block) {
        return order(height, width / block);
    }
    let first = |&token: &usize| token.is_multiple_of(block).then_some(token / block);
    let curve = order(height, width);
    Permutation::known(curve.as_slice().iter().filter_map(first).collect())
}

/// A step in the grid: right and down.
#[derive(Clone, Copy)]
struct Step(i64, i64);

impl Step {
    fn length(self) -> i64 {
        (self.0 + self.1).abs()
    }

    /// One cell of the way.
    fn unit(self) -> Self {
        Self(self.0.signum(), self.1.signum())
    }

    fn half(self) -> Self {
        Self(self.0 / 2, self.1 / 2)
    }

    fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0, self.1 + other.1)
    }

    fn minus(self, other: Self) -> Self {
        Self(self.0 - other.0, self.1 - other.1)
    }

    fn back(self) -> Self {
        Self(-self.0, -self.1)
    }
}

struct Curve {
    width: usize,
    cells: Vec<usize>,
}

impl Curve {
    /// The whole grid. The curve ends in the other corner of the side along which it goes, which the colours of
    /// a chessboard forbid if that side is odd and the other one even.
    fn whole(&mut self, height: i64, width: i64) {
        let (right, down) = (Step(width, 0), Step(0, height));
        let start = Step(0, 0);
        match (width % 2 == 0, height % 2 == 0) {
            (false, true) if width > height => {
                self.odd_long(start, right, down);
            }
            (true, false) if height > width => {
                self.odd_long(start, down, right);
            }
            (false, true) => self.part(start, down, right),
            (true, false) => self.part(start, right, down),
            _ if width >= height => self.part(start, right, down),
            _ => self.part(start, down, right),
        }
    }

    /// An odd long side and an even short one: an even part goes along the long side, and what is left,
    /// about square, ends along the short one.
    fn odd_long(&mut self, start: Step, long: Step, short: Step) {
        let (n, unit) = (long.length(), long.unit());
        let left = (short.length() + 1).min(n);
        let even = Step(unit.0 * (n - left), unit.1 * (n - left));
        if even.length() > 0 {
            self.part(start, even, short);
        }
        self.part(start.plus(even), short, long.minus(even));
    }

    /// A rectangle from a corner: the curve goes along `along` and ends in the other corner of that side.
    fn part(&mut self, start: Step, along: Step, across: Step) {
        let (length, breadth) = (along.length(), across.length());
        let (step, side) = (along.unit(), across.unit());
        if breadth == 1 || length == 1 {
            let (step, count) = if breadth == 1 {
                (step, length)
            } else {
                (side, breadth)
            };
            let mut at = start;
            for _ in 0..count {
                self.cells.push(at.1 as usize * self.width + at.0 as usize);
                at = at.plus(step);
            }
            return;
        }
        let (mut half, mut half_across) = (along.half(), across.half());
        if 2 * length > 3 * breadth {
            // Too long: two parts one after the other.
            if half.length() % 2 == 1 && length > 2 {
                half = half.plus(step);
            }
            self.part(start, half, across);
            self.part(start.plus(half), along.minus(half), across);
            return;
        }
        if half_across.length() % 2 == 1 && breadth > 2 {
            half_across = half_across.plus(side);
        }
        // Across, along the far half, and back across.
        self.part(start, half_across, half);
        self.part(start.plus(half_across), along, across.minus(half_across));
        let last = start.plus(along.minus(step)).plus(half_across.minus(side));
        self.part(last, half_across.back(), along.minus(half).back());
    }
}
