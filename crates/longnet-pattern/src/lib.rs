//! Sparse attention patterns as data.
//!
//! A *pattern* says how many times query position `i` sees key position `j` in head `h`:
//! [`Pattern::multiplicity`]. A *schedule* ([`Pattern::schedule`]) says the same thing in the form
//! that kernels walk: for each branch and head, a list of [`Run`]s, each an ordinary dense or causal
//! attention problem on strided rows. Schedules of dilated branches are closed-form: their size does not
//! depend on the length of the sequence, and their transpose (the queries that see a range of keys) costs
//! nothing. Those of block masks are lists of blocks, with their transpose.
//!
//! ```
//! use longnet_pattern::{DilatedPattern, Span};
//!
//! let pattern = DilatedPattern::new(12, [(2048, 1), (4096, 2), (8192, 4)])
//!     .causal(true)
//!     .build()?;
//! let schedule = pattern.schedule(Span::full(1 << 20))?;
//! assert!(schedule.size_in_bytes() < 1024);
//! println!("{}", pattern.explain(3, 5000));
//! # Ok::<(), longnet_pattern::PatternError>(())
//! ```
//!
//! | module | concept |
//! |---|---|
//! | [`dilated`] | LongNet's branches, head assignment and offsets |
//! | [`block`] | block masks: their builder, their compressed lists, their pictures |
//! | [`algebra`] | block patterns as expressions, in code, text and tables |
//! | [`hilbert`] | orders of a 2-D grid in which neighbours stay close |
//! | [`schedule`] | the pattern over a query range and a key range, as runs |
//! | [`cost`] | visited pairs, FLOPs, bytes, cache entries |
//! | [`ring`] | sequences sharded over ranks |
//! | [`dropout`] | the generator that every backend shares |

pub mod algebra;
pub mod block;
pub mod cost;
mod density;
pub mod dilated;
pub mod dropout;
mod error;
mod explain;
pub mod hilbert;
mod pattern;
mod permutation;
mod residues;
pub mod ring;
mod rules;
pub mod run;
pub mod schedule;

pub use algebra::{BlockPattern, Branches, HeadEntry, HeadGroup, Level, ParseError};
pub use block::{BlockBuilder, BlockGrid, BlockMask, BlockRuns, Indices};
pub use cost::{Cost, Sizes};
pub use dilated::{Branch, DilatedPattern, HeadAssignment, HeadOffset, Tail};
pub use dropout::Dropout;
pub use error::PatternError;
pub use pattern::Pattern;
pub use permutation::Permutation;
pub use rules::{HIDDEN, MixGradient, Precision, labels_match};
pub use run::{Progression, Run};
pub use schedule::{Schedule, Span};
