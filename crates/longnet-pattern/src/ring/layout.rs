//! Which positions each rank holds.

use crate::Progression;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How the positions of a sequence are dealt to `P` ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `P` chunks, rank `p` holds chunk `p`. Segments that fit into a chunk cross no edge, so that they are
    /// never sent. Causal attention over longer ones leaves the first ranks idle.
    #[default]
    Contiguous,
    /// `2P` chunks, rank `p` holds chunks `p` and `2P - 1 - p`: the same work for all in causal attention.
    Zigzag,
    /// Rank `p` holds the positions `p`, `p + P`, `p + 2P` and so on: the same work for all in any attention that is
    /// not dilated, but all segments cross all edges.
    Striped,
}

/// The positions `0..n` of a sequence, sharded over `world` ranks.
///
/// Any `n` works. Chunks differ by one position at most, the longer ones first; a rank's rows are its positions
/// in ascending order, and it has none where `n` leaves it none, which happens only if `n < world`.
///
/// ```
/// use longnet_pattern::ring::{Layout, Shards};
///
/// let shards = Shards::new(Layout::Zigzag, 10, 2);
/// let rank0: Vec<_> = shards.positions(0).collect();
/// assert_eq!(rank0, [0, 1, 2, 8, 9]);
/// assert_eq!(shards.owner(8), (0, 3));
/// assert_eq!(shards.take(0, b"abcdefghij"), b"abcij");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shards {
    layout: Layout,
    n: usize,
    world: usize,
}

impl Shards {
    /// `n` positions over `world` ranks.
    ///
    /// # Panics
    ///
    /// If `world` is 0.
    pub fn new(layout: Layout, n: usize, world: usize) -> Self {
        assert!(world > 0, "a sequence is sharded over at least one rank");
        Self { layout, n, world }
    }

    /// How positions are dealt.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Number of positions of the whole sequence.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.world
    }

    /// How many positions `rank` holds.
    pub fn rows(&self, rank: usize) -> usize {
        self.chunks(rank).iter().map(|chunk| chunk.len).sum()
    }

    /// The positions of `rank` as at most two progressions of one step, ascending; none of them is empty, and there
    /// are none if the rank holds nothing.
    ///
    /// # Panics
    ///
    /// If `rank` is not below the number of ranks.
    pub fn chunks(&self, rank: usize) -> Vec<Progression> {
        let Self { layout, n, world } = *self;
        assert!(rank < world, "rank {rank} of {world}");
        let chunk = |range: Range<usize>| Progression {
            first: range.start,
            step: 1,
            len: range.len(),
        };
        let mut chunks = match layout {
            Layout::Contiguous => vec![chunk(self.cut(rank, world))],
            Layout::Zigzag => {
                let (low, high) = (2 * world, 2 * world - 1 - rank);
                let [first, second] = [self.cut(rank, low), self.cut(high, low)];
                // Neighbours are one chunk.
                match first.end == second.start {
                    true => vec![chunk(first.start..second.end)],
                    false => vec![chunk(first), chunk(second)],
                }
            }
            Layout::Striped => vec![Progression {
                first: rank,
                step: world,
                len: n.saturating_sub(rank).div_ceil(world),
            }],
        };
        chunks.retain(|chunk| chunk.len > 0);
        chunks
    }

    /// The positions of `rank`, row by row.
    pub fn positions(&self, rank: usize) -> impl Iterator<Item = usize> + use<> {
        self.chunks(rank).into_iter().flat_map(Progression::iter)
    }

    /// The position that `rank` holds in `row`.
    ///
    /// # Panics
    ///
    /// If the rank has fewer rows.
    pub fn position(&self, rank: usize, row: usize) -> usize {
        let mut at = row;
        for chunk in self.chunks(rank) {
            if at < chunk.len {
                return chunk.at(at);
            }
            at -= chunk.len;
        }
        panic!("rank {rank} has {} rows, not row {row}", self.rows(rank));
    }

    /// The rank that holds `position`, and its row there.
    ///
    /// # Panics
    ///
    /// If the sequence ends before.
    pub fn owner(&self, position: usize) -> (usize, usize) {
        let Self { layout, n, world } = *self;
        assert!(position < n, "position {position} of a sequence of {n}");
        match layout {
            Layout::Contiguous => {
                let rank = self.chunk_of(position, world);
                (rank, position - self.cut(rank, world).start)
            }
            Layout::Zigzag => {
                let chunk = self.chunk_of(position, 2 * world);
                let row = position - self.cut(chunk, 2 * world).start;
                match 2 * world - 1 - chunk {
                    rank if rank < world => (rank, self.cut(rank, 2 * world).len() + row),
                    _ => (chunk, row),
                }
            }
            Layout::Striped => (position % world, position / world),
        }
    }

    /// What `rank` holds of `all`, which has a value a position.
    ///
    /// # Panics
    ///
    /// If `all` has another length than the sequence.
    pub fn take<T: Clone>(&self, rank: usize, all: &[T]) -> Vec<T> {
        assert_eq!(all.len(), self.n, "one value a position");
        self.positions(rank).map(|p| all[p].clone()).collect()
    }

    /// The inverse of [`take`](Self::take): the values of all positions from those of each rank.
    ///
    /// # Panics
    ///
    /// If `parts` are not those of these shards.
    pub fn join<T: Clone>(&self, parts: &[Vec<T>]) -> Vec<T> {
        let lengths: Vec<usize> = (0..self.world).map(|rank| self.rows(rank)).collect();
        let given: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(given, lengths, "the values of each rank's rows");
        let value = |position| {
            let (rank, row) = self.owner(position);
            parts[rank][row].clone()
        };
        (0..self.n).map(value).collect()
    }

    /// Chunk `i` of `count`.
    fn cut(&self, i: usize, count: usize) -> Range<usize> {
        let (size, longer) = (self.n / count, self.n % count);
        let start = |i: usize| i * size + i.min(longer);
        start(i)..start(i + 1)
    }

    /// The chunk of `count` that holds `position`.
    fn chunk_of(&self, position: usize, count: usize) -> usize {
        let (size, longer) = (self.n / count, self.n % count);
        let long = longer * (size + 1);
        match position < long {
            true => position / (size + 1),
            false => longer + (position - long) / size,
        }
    }
}
