//! Patterns of the literature and lists of heads, by composition.

use super::{BlockPattern, HeadEntry};

impl BlockPattern {
    /// A window, global tokens, and random blocks: BigBird,
    /// [arXiv 2007.14062](https://arxiv.org/abs/2007.14062), section 2. Lengths in tokens, `random` in blocks
    /// a row.
    pub fn bigbird(window: usize, global: usize, random: usize, seed: u64) -> Self {
        let blocks = random;
        Self::Window(window) | Self::Global(global) | Self::Random { blocks, seed }
    }

    /// A window and global tokens: Longformer, [arXiv 2004.05150](https://arxiv.org/abs/2004.05150),
    /// section 3.1. Lengths in tokens.
    pub fn longformer(window: usize, global: usize) -> Self {
        Self::Window(window) | Self::Global(global)
    }

    /// Attention sinks and a window: StreamingLLM, [arXiv 2309.17453](https://arxiv.org/abs/2309.17453),
    /// section 3. Lengths in tokens.
    pub fn streaming(sink: usize, window: usize) -> Self {
        Self::Sink(sink) | Self::Window(window)
    }

    /// Patterns with their numbers of heads, the first heads first: [`Heads`](Self::Heads).
    pub fn by_head(entries: impl IntoIterator<Item = (Self, usize)>) -> Self {
        let entry = |(pattern, heads)| HeadEntry { pattern, heads };
        Self::Heads(entries.into_iter().map(entry).collect())
    }
}
