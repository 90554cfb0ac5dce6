//! What can be wrong with a pattern, and what to do about it.

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
}
