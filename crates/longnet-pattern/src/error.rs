//! What can be wrong with a pattern, and what to do about it.

use crate::ParseError;

/// Why a pattern, or a schedule of it, cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No head to attend with.
    #[error("heads is 0; give the number of query heads, at least 1")]
    NoHeads,
    /// A pattern without branches sees nothing.
    #[error(
        "the pattern has no branches; give at least one (segment, dilation), such as (2048, 1)"
    )]
    NoBranches,
    /// Two lists that describe the same branches differ in length.
    #[error(
        "segment_lengths has {segments} entries and dilation_rates has {dilations}; give one dilation rate per segment length"
    )]
    UnequalLists {
        /// Entries of the list of segment lengths.
        segments: usize,
        /// Entries of the list of dilation rates.
        dilations: usize,
    },
    /// A segment length outside `1..=2^48`.
    #[error(
        "branch {branch}: segment length {value} is outside 1..=2^48; use the number of tokens in a segment"
    )]
    Segment {
        /// Index of the branch, from 0.
        branch: usize,
        /// The value given.
        value: usize,
    },
    /// A dilation rate outside `1..=2^48`.
    #[error(
        "branch {branch}: dilation rate {value} is outside 1..=2^48; 1 keeps every token, 2 every second"
    )]
    Dilation {
        /// Index of the branch, from 0.
        branch: usize,
        /// The value given.
        value: usize,
    },
    /// Positions past 2^48.
    #[error(
        "{side} at positions from {start}, {len} of them, reach past 2^48; positions count tokens from 0"
    )]
    Positions {
        /// "queries" or "keys".
        side: &'static str,
        /// The first position.
        start: usize,
        /// How many there are.
        len: usize,
    },
    /// Rows that do not follow each other.
    #[error("span.step is {value}; rows sit at least one position apart, and at most 2^48")]
    Step {
        /// The step given.
        value: usize,
    },
    /// `ZeroKeys` is defined for self-attention over one whole sequence only.
    #[error(
        "tail = ZeroKeys needs queries and keys of one whole sequence, but queries are {q_start}..{q_end} and keys {k_start}..{k_end}; use tail = Masked"
    )]
    ZeroKeysSpan {
        /// First query position.
        q_start: usize,
        /// One past the last query position.
        q_end: usize,
        /// First key position.
        k_start: usize,
        /// One past the last key position.
        k_end: usize,
    },
    /// A block size outside `1..=2^48`.
    #[error("{side}_block is {value}, outside 1..=2^48; give positions of a block, such as 64")]
    BlockSize {
        /// "q" or "k".
        side: &'static str,
        /// The value given.
        value: usize,
    },
    /// A grid past 2^48 positions or 2^32 blocks.
    #[error(
        "{side}_blocks is {count}, with blocks of {size} positions: more than 2^32 blocks or 2^48 positions; use larger or fewer blocks"
    )]
    BlockCount {
        /// "q" or "k".
        side: &'static str,
        /// The number of blocks given.
        count: usize,
        /// Positions of a block.
        size: usize,
    },
    /// A dense block mask of the wrong size.
    #[error(
        "the dense mask has {len} elements; give q_blocks * k_blocks = {q_blocks} * {k_blocks} for all heads, or that for each of the {heads} heads"
    )]
    DenseMask {
        /// Elements given.
        len: usize,
        /// Query heads.
        heads: usize,
        /// Query blocks.
        q_blocks: usize,
        /// Key blocks.
        k_blocks: usize,
    },
    /// A list of key blocks that does not ascend.
    #[error(
        "head {head}, query block {row}: key block {second} follows {first}; list each key block once, in ascending order"
    )]
    BlockOrder {
        /// Query head.
        head: usize,
        /// Query block.
        row: usize,
        /// A key block.
        first: usize,
        /// The one after it.
        second: usize,
    },
    /// A key block that the grid does not have.
    #[error(
        "head {head}, query block {row}: key block {value} is outside 0..{k_blocks}; list blocks of the grid only"
    )]
    BlockColumn {
        /// Query head.
        head: usize,
        /// Query block.
        row: usize,
        /// The key block.
        value: usize,
        /// Key blocks of the grid.
        k_blocks: usize,
    },
    /// More listed blocks than 32 bits count.
    #[error("the mask lists {blocks} blocks or more, past 2^32; use larger blocks or fewer heads")]
    TooManyBlocks {
        /// Blocks that were listed when building stopped.
        blocks: u64,
    },
    /// A schedule past the blocks of a mask.
    #[error(
        "{side} reach position {end}, but the blocks of the mask end at {covered}; make its grid as long as the sequence"
    )]
    MaskSpan {
        /// "queries" or "keys".
        side: &'static str,
        /// One past the last position.
        end: usize,
        /// One past the last position of the grid.
        covered: usize,
    },
    /// A pattern in text that cannot be read.
    #[error(transparent)]
    Text(#[from] ParseError),
    /// An argument of a block pattern that cannot work.
    #[error("{pattern}: {argument} is {value}; {remedy}")]
    Argument {
        /// The name of the pattern in text.
        pattern: &'static str,
        /// The name of the argument.
        argument: &'static str,
        /// The value given.
        value: String,
        /// What to give.
        remedy: &'static str,
    },
    /// A stride or segment that rounds down to no block.
    #[error(
        "{pattern}: {argument} is {tokens} tokens, less than a block of {block}; give at least {block}, or use smaller blocks"
    )]
    BelowBlock {
        /// The name of the pattern in text.
        pattern: &'static str,
        /// The name of the argument.
        argument: &'static str,
        /// The value given.
        tokens: usize,
        /// Tokens of a block.
        block: usize,
    },
    /// A block pattern nested too deep.
    #[error("the pattern is nested deeper than {limit}; write it with fewer parentheses")]
    TooDeep {
        /// The deepest that is allowed.
        limit: usize,
    },
    /// A block pattern of too many parts.
    #[error(
        "the pattern has more than {limit} parts; build large masks from rows, with BlockMask::new"
    )]
    TooManyParts {
        /// The most that are allowed.
        limit: usize,
    },
    /// A list of patterns for another number of heads.
    #[error(
        "the list of patterns is for {listed} heads, but there are {heads}; give each entry its number of heads, such as [window(1024) x {heads}]"
    )]
    HeadList {
        /// Heads of all entries.
        listed: usize,
        /// Heads that there are.
        heads: usize,
    },
    /// A list of heads as an entry of another.
    #[error("a list of heads inside of a list of heads; give the heads of all in one list")]
    NestedHeads,
    /// Dilated branches that are not sets of blocks.
    #[error(
        "branches: ({segment}, {dilation}) is not made of whole blocks of {block} tokens; give the heads an entry of their own in a list of heads, such as [branches({segment}/{dilation}) x 4, window(1024) x 4], and attend by head_groups, or dilate whole blocks with block_branch"
    )]
    BranchBlocks {
        /// Segment length in tokens.
        segment: usize,
        /// Dilation rate.
        dilation: usize,
        /// Tokens of a block.
        block: usize,
    },
    /// Several branches as one block mask.
    #[error(
        "branches: a head runs {branches} of them and counts pairs that several see as often; a block mask counts once. Attend by head_groups, or say union with |"
    )]
    CountedTwice {
        /// Branches that the head runs.
        branches: usize,
    },
    /// Zero keys in a block mask.
    #[error(
        "branches: a block mask has no zero keys; give the heads an entry of their own in a list of heads and attend by head_groups, or use tail = masked"
    )]
    ZeroKeyBlocks,
    /// Rows that would take too long to work out.
    #[error(
        "the pattern has {work} parts or more in the rows of all heads that differ, past {limit}; use larger blocks, fewer parts, or heads that are alike"
    )]
    TooMuchWork {
        /// Parts that were counted: of each head that differs, rows times parts of a row.
        work: u64,
        /// The most that are allowed.
        limit: u64,
    },
    /// Block sizes without a common multiple in reach.
    #[error(
        "q_block {q_block} and k_block {k_block} have no common multiple up to 2^48; use sizes of which one divides the other"
    )]
    BlockSizes {
        /// Positions of a query block.
        q_block: usize,
        /// Positions of a key block.
        k_block: usize,
    },
    /// Masks that cannot be combined.
    #[error(
        "the masks differ in their {what}; combine masks of the same heads, grid and causality"
    )]
    MasksDiffer {
        /// "heads", "grid" or "causality".
        what: &'static str,
    },
}
