//! A schedule as the few words that kernels read.
//!
//! Positions are counted from the first segment of a branch that matters, so that they fit 32 bits
//! unless a single call spans more than 2^31 of them.

use longnet_pattern::{BlockMask, Schedule};
use std::ops::Range;

/// Words before the branches: positions of the first query and key modulo 2^32, numbers of queries and
/// keys, branches, heads, query heads a kv head.
pub(crate) const HEADER: usize = 7;
/// Words of a branch: segment, rate, positions of the first query and key, then twice [`SIDE`].
pub(crate) const BRANCH: usize = 4 + 2 * SIDE;
/// Words of a side: first segment, rows a segment, tiles a class, first tile, first row.
pub(crate) const SIDE: usize = 5;
/// Words at the start of a block mask's part, which follows the rest: block sizes and numbers of blocks of
/// queries and keys, then where its lists begin (see [`List`]).
pub(crate) const MASK: usize = 4;

/// The lists of a block mask, as `longnet_pattern::BlockMask` names them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum List {
    TableOf,
    RowStarts,
    Columns,
    ColumnStarts,
    Rows,
    Entries,
    BiasStarts,
}

/// The offset of a head that a branch leaves out.
pub(crate) const NONE: u32 = u32::MAX;

const LARGEST: usize = 1 << 31;

/// The tiles and partial rows of one side, over all branches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Tiles a head of the launch that leaves partial results; 0 where no head has two branches.
    pub partial_tiles: usize,
    /// Tiles a head of the launch that merges.
    pub final_tiles: usize,
    /// Rows a head of partial results.
    pub partial_rows: usize,
    /// Rows a head when each branch keeps a value of its own.
    pub branch_rows: usize,
}

/// A schedule for the device, for tiles of given sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// As the kernels read it.
    pub words: Vec<u32>,
    /// Tiles of query rows.
    pub queries: Side,
    /// Tiles of key rows.
    pub keys: Side,
    /// At most so many keys of a segment are on a class; listed blocks in a row of a block mask.
    pub longest: usize,
}

impl Table {
    /// The table of `schedule` for tiles of `q_tile` query rows and of `k_tile` key rows.
    ///
    /// # Errors
    ///
    /// Why a 32-bit table cannot hold it.
    pub fn new(
        schedule: &Schedule,
        kv_heads: usize,
        q_tile: usize,
        k_tile: usize,
    ) -> Result<Self, String> {
        let span = schedule.span();
        let (heads, branches) = (schedule.heads(), schedule.branches());
        let group = heads / kv_heads;
        let finals: Vec<usize> = (0..kv_heads)
            .map(|g| final_branch(schedule, g * group..(g + 1) * group))
            .collect();
        let is_partial = |b: usize| {
            (0..heads).any(|h| schedule.offset(b, h).is_some() && finals[h / group] != b)
        };

        let mut words = Vec::with_capacity(HEADER + branches * (BRANCH + heads) + kv_heads);
        words.extend([span.q_start as u32, span.k_start as u32]);
        for count in [span.n_q, span.n_k, branches, heads, group] {
            words.push(word(count, "rows or heads")?);
        }
        let (mut queries, mut keys) = (Side::default(), Side::default());
        let mut longest = 0;
        for b in 0..branches {
            let local = Local::new(schedule, b)?;
            let Local { segment, rate, .. } = local;
            longest = longest.max(segment.min(span.n_k).div_ceil(rate) + 1);
            for value in [segment, rate, local.q_start, local.k_start] {
                words.push(value as u32);
            }
            for (side, start, count, tile) in [
                (&mut queries, local.q_start, span.n_q, q_tile),
                (&mut keys, local.k_start, span.n_k, k_tile),
            ] {
                let first = start / segment;
                let segments = match count {
                    0 => 0,
                    _ => (start + count - 1) / segment + 1 - first,
                };
                // One more where the range begins within a step.
                let capacity =
                    segment.min(count).div_ceil(rate) + usize::from(start % segment % rate != 0);
                let tiles = capacity.div_ceil(tile);
                for value in [first, capacity, tiles, side.partial_tiles, side.branch_rows] {
                    words.push(word(value, "rows of branches")?);
                }
                side.branch_rows += segments * capacity;
                if is_partial(b) {
                    side.partial_tiles += segments * tiles;
                    side.partial_rows = side.branch_rows;
                }
                if finals.contains(&b) {
                    side.final_tiles = side.final_tiles.max(segments * rate * tiles);
                }
            }
        }
        for b in 0..branches {
            let offset = |h| schedule.offset(b, h).map_or(NONE, |o| o as u32);
            words.extend((0..heads).map(offset));
        }
        words.extend(finals.iter().map(|&b| b as u32));
        if let Some(mask) = schedule.mask() {
            let grid = mask.grid();
            let tiles = |start: usize, count: usize, block: usize, tile: usize| match count {
                0 => 0,
                _ => ((start + count - 1) / block + 1 - start / block) * block.div_ceil(tile),
            };
            queries.final_tiles = tiles(span.q_start, span.n_q, grid.q_block, q_tile);
            keys.final_tiles = tiles(span.k_start, span.n_k, grid.k_block, k_tile);
            let starts = mask.row_starts().windows(2);
            // Between two tables the difference is 0.
            longest = starts.map(|at| (at[1] - at[0]) as usize).max().unwrap_or(0);
            append_mask(&mut words, mask)?;
        }
        Ok(Self {
            words,
            queries,
            keys,
            longest,
        })
    }

    /// Memory on the device, in bytes.
    pub fn size_in_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }
}

/// A branch with positions from its first segment that matters on.
struct Local {
    segment: usize,
    rate: usize,
    q_start: usize,
    k_start: usize,
}

impl Local {
    fn new(schedule: &Schedule, branch: usize) -> Result<Self, String> {
        let (span, branch) = (schedule.span(), schedule.branch(branch));
        let before = span.q_start.min(span.k_start) / branch.segment * branch.segment;
        let (q_start, k_start) = (span.q_start - before, span.k_start - before);
        let end = (q_start + span.n_q).max(k_start + span.n_k).max(1);
        if end > LARGEST {
            return Err(format!(
                "a call over positions {before} to {} spans more than 2^31",
                before + end
            ));
        }
        // Nothing lies past `end`: a longer segment is as long as that.
        let segment = branch.segment.min(end);
        Ok(Self {
            segment,
            rate: branch.dilation.min(segment),
            q_start,
            k_start,
        })
    }
}

/// The branch whose launch merges the others for `heads`: the one that covers most of their rows.
fn final_branch(schedule: &Schedule, heads: Range<usize>) -> usize {
    let covered = |b: &usize| {
        let heads = heads.clone().filter(|&h| schedule.offset(*b, h).is_some());
        let branch = schedule.branch(*b);
        (
            heads.count() as f64 / branch.dilation as f64,
            branch.segment,
        )
    };
    let order = |a: &usize, b: &usize| covered(a).partial_cmp(&covered(b)).expect("finite");
    (0..schedule.branches()).max_by(order).unwrap_or(0)
}

fn append_mask(words: &mut Vec<u32>, mask: &BlockMask) -> Result<(), String> {
    let grid = mask.grid();
    for value in [grid.q_block, grid.k_block, grid.q_blocks, grid.k_blocks] {
        words.push(word(value, "positions of a block")?);
    }
    let [columns, rows] = [mask.columns(), mask.rows()]
        .map(|list| list.iter().map(|block| block as u32).collect::<Vec<_>>());
    let lists: [&[u32]; 7] = [
        mask.table_of(),
        mask.row_starts(),
        &columns,
        mask.column_starts(),
        &rows,
        mask.entries(),
        mask.bias_starts(),
    ];
    let mut at = words.len() + lists.len();
    for list in lists {
        words.push(word(at, "words of block lists")?);
        at += list.len();
    }
    words.extend(lists.concat());
    Ok(())
}

fn word(value: usize, what: &str) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("{value} {what}, more than 2^32"))
}
