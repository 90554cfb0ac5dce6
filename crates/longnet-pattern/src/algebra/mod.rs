//! Block patterns as expressions: described once, in code, text or a table, and compiled to a
//! [`BlockMask`](crate::BlockMask) when the length and the heads are known.
//!
//! ```
//! use longnet_pattern::{BlockGrid, BlockPattern};
//!
//! let pattern: BlockPattern = "window(1024) | global(128)".parse()?;
//! assert_eq!(pattern, BlockPattern::Window(1024) | BlockPattern::Global(128));
//! assert_eq!(pattern.to_string(), "window(1024) | global(128)");
//!
//! let mask = pattern.mask(8, BlockGrid::square(8192, 128), true)?;
//! // Five blocks of the window and the global one.
//! assert_eq!(mask.row(0, 40).iter().collect::<Vec<_>>(), [0, 36, 37, 38, 39, 40]);
//! # Ok::<(), longnet_pattern::PatternError>(())
//! ```
//!
//! # Units
//!
//! Lengths are in tokens. They are divided by the block size, rounding down, so `window(1000)` in blocks of
//! 128 is a window of 7 blocks. The formulas below are over block indices: `i` of the query block, `j` of the
//! key block, both from position 0. Operators act on sets of pairs of blocks.
//!
//! Where query and key blocks differ in size, the blocks of the formulas are as long as the least common
//! multiple of both, the larger of them if it is a multiple of the other, and each is cut into the blocks of
//! the grid: the pairs of positions are those of that one size.
//!
//! Causality is no part of the expression. It is a rule of the mask: it drops the blocks that lie wholly in
//! the future and cuts those on the diagonal. No pattern is widened to make up for it; only draws know of it,
//! and draw from what it leaves.
//!
//! # Text
//!
//! | text | set of pairs |
//! |---|---|
//! | `all`, `empty` | every pair, none |
//! | `window(1024)` | [`Window`](BlockPattern::Window) |
//! | `dilated([1, 2, 4], 1024)` | [`Dilated`](BlockPattern::Dilated): rates, reach |
//! | `global(128)`, `global_rows(128)`, `global_columns(128)` | [`Global`](BlockPattern::Global) and its halves |
//! | `sink(128)` | [`Sink`](BlockPattern::Sink) |
//! | `hierarchical(64/256, 256/1024, 1024/all)` | [`Hierarchical`](BlockPattern::Hierarchical): stride/window a level |
//! | `strided(2048)` | [`Strided`](BlockPattern::Strided) |
//! | `fixed(2048, 128)` | [`Fixed`](BlockPattern::Fixed): stride, summary |
//! | `random(3)`, `random(3, seed = 7)` | [`Random`](BlockPattern::Random): blocks a row |
//! | `density(window(1024), 0.1, seed = 7)` | [`Density`](BlockPattern::Density) |
//! | `blocks(0:0, 1:0, 1:1)` | [`Blocks`](BlockPattern::Blocks): query block:key block |
//! | `block_branch(2048, 2)` | [`BlockBranch`](BlockPattern::BlockBranch): segment, dilation |
//! | `branches(2048/1, 4096/2)` | [`Branches`](BlockPattern::Branches): LongNet's, token by token |
//! | `bigbird(1024, 128, 3)` | `window(1024) \| global(128) \| random(3)` |
//! | `longformer(1024, 128)` | `window(1024) \| global(128)` |
//! | `streaming(128, 1024)` | `sink(128) \| window(1024)` |
//! | `a \| b`, `a & b`, `a - b` | union, intersection, difference; `-` binds tighter than `&`, and that tighter than `\|` |
//! | `[window(512) x 4, window(4096) x 4]` | [`Heads`](BlockPattern::Heads): a pattern for the first four heads, one for the next |
//!
//! Any argument may be named: `random(blocks = 3, seed = 7)`. Numbers may have underscores.
//!
//! # Tables
//!
//! With serde a pattern is such a text or a table, and so is every pattern inside of a table:
//!
//! ```toml
//! pattern = { union = [{ window = 1024 }, "global(128)"] }
//! ```

mod check;
mod compile;
mod heads;
mod lower;
mod operators;
mod parts;
mod presets;
mod random;
mod ranges;
mod row;
mod table;
pub mod text;
mod warnings;

pub use heads::HeadGroup;
pub use parts::{Branches, HeadEntry, Level};
pub use text::ParseError;

use serde::{Deserialize, Serialize};

/// A set of (query block, key block) pairs for any length, block size and number of heads.
///
/// Made by its variants, by [presets](Self::bigbird), from [text] and with the operators `|`, `&`
/// and `-`. `B` is the block size, `K` the number of key blocks, `x div y` rounds down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum BlockPattern {
    /// Every pair: dense attention.
    All,
    /// No pair.
    Empty,
    /// A window of so many tokens around each query, half of them on either side:
    /// `|i - j| <= (tokens div B) div 2`. Causality cuts it to its earlier half.
    ///
    /// Longformer's sliding window, [arXiv 2004.05150](https://arxiv.org/abs/2004.05150), section 3.1.
    Window(usize),
    /// Blocks at multiples of a rate: `i - j` is 0 or `±r t` for a rate `r`, as far as
    /// `r t <= reach div B`.
    ///
    /// Longformer's dilated window, [arXiv 2004.05150](https://arxiv.org/abs/2004.05150), section 3.1, at
    /// the granularity of blocks.
    Dilated {
        /// Distances between neighbours, in blocks, each at least 1.
        rates: Vec<usize>,
        /// How many tokens to either side are reached, whatever the rate: a length, as a window is.
        reach: usize,
    },
    /// The first tokens are seen by all and see all: `i < g` or `j < g` with `g = tokens div B`.
    ///
    /// Longformer's global attention, [arXiv 2004.05150](https://arxiv.org/abs/2004.05150), section 3.1.
    Global(usize),
    /// The rows of [`Global`](Self::Global) alone: the first tokens see all, `i < tokens div B`.
    GlobalRows(usize),
    /// The columns of [`Global`](Self::Global) alone: the first tokens are seen by all,
    /// `j < tokens div B`.
    GlobalColumns(usize),
    /// The first tokens are seen by all: `j < tokens div B`.
    ///
    /// The attention sinks of StreamingLLM, [arXiv 2309.17453](https://arxiv.org/abs/2309.17453), section 3.
    Sink(usize),
    /// The union of levels: query blocks on a level's stride see the key blocks inside of its window.
    Hierarchical(Vec<Level>),
    /// The near past and one block a stride: `|i - j| <= l` or `(i - j) mod l == 0`, with
    /// `l = tokens div B`. The paper has it causal; without causality it is the same to both sides.
    ///
    /// Sparse Transformer, [arXiv 1904.10509](https://arxiv.org/abs/1904.10509), section 4.3, both heads merged.
    Strided(usize),
    /// The own stride, and the end of each: `i div l == j div l` or `j mod l >= l - c`, with
    /// `l = stride div B` and `c = summary div B`.
    ///
    /// Sparse Transformer, [arXiv 1904.10509](https://arxiv.org/abs/1904.10509), section 4.3, both heads merged.
    Fixed {
        /// Tokens of a stride, at least a block.
        stride: usize,
        /// Tokens at the end of each stride that all rows see.
        summary: usize,
    },
    /// So many key blocks drawn without replacement for each head and query block, of those that causality
    /// leaves; all of them where they are fewer. A draw of more blocks with the same seed holds that of
    /// fewer. What other patterns list may be drawn again.
    ///
    /// BigBird, [arXiv 2007.14062](https://arxiv.org/abs/2007.14062), section 2.
    Random {
        /// Key blocks a query block.
        blocks: usize,
        /// Of the draw.
        #[serde(default)]
        seed: u64,
    },
    /// A pattern brought to a density: a query block that may see `v` key blocks sees `target * v` of
    /// them, rounded, and at least one unless the target is 0. Where `of` has fewer, random ones are added;
    /// where it has more, random ones are dropped, that on the diagonal last.
    Density {
        /// The pattern to start from.
        of: Box<BlockPattern>,
        /// From 0 to 1.
        target: f64,
        /// Of what is added and dropped.
        #[serde(default)]
        seed: u64,
    },
    /// Listed pairs, each a query block and a key block, in any order. A sequence too short to have a pair
    /// goes without it.
    Blocks(Vec<[usize; 2]>),
    /// LongNet's formula on block indices: `i div w == j div w` and
    /// `(i mod w) mod dilation == (j mod w) mod dilation == h mod dilation`, with `w = segment div B`
    /// and the head `h`. It keeps whole blocks where [`Branches`](Self::Branches) keeps tokens.
    BlockBranch {
        /// Tokens of a segment, at least a block.
        segment: usize,
        /// Every so many blocks of a segment take part, at least 1.
        dilation: usize,
    },
    /// LongNet's dilated branches, token by token. They are pairs of blocks only where dilation rates are 1
    /// and segments are whole blocks: elsewhere [`mask`](Self::mask) refuses, and
    /// [`head_groups`](Self::head_groups) gives their heads a pattern of their own.
    Branches(Branches),
    /// What any of the patterns has. Of none: nothing.
    Union(Vec<BlockPattern>),
    /// What all of the patterns have. Of none: everything.
    Intersection(Vec<BlockPattern>),
    /// What the one has and the other has not.
    Difference {
        /// The pairs to start from.
        from: Box<BlockPattern>,
        /// The pairs to leave out.
        without: Box<BlockPattern>,
    },
    /// A pattern for each head: the first for the first heads, and so on. Together they must be all heads.
    Heads(Vec<HeadEntry>),
}
