//! What is no error, and hardly what was meant.

use super::BlockPattern;
use super::compile::Scale;
use crate::{BlockGrid, PatternError};

impl BlockPattern {
    /// What a user should know about the pattern in blocks of `grid`: lengths that round down to nothing.
    /// Empty when there is nothing to say.
    ///
    /// # Errors
    ///
    /// The block sizes of the grid cannot work.
    pub fn warnings(&self, grid: BlockGrid) -> Result<Vec<String>, PatternError> {
        let block = Scale::new(grid, false)?.block;
        let mut warnings = Vec::new();
        self.warn(block, &mut warnings);
        warnings.dedup();
        Ok(warnings)
    }

    fn warn(&self, block: usize, warnings: &mut Vec<String>) {
        match self {
            Self::Window(tokens) if *tokens > 0 && tokens / block < 2 => warnings.push(format!(
                "{self} is shorter than two blocks of {block} tokens and sees the diagonal only; use {} or more",
                2 * block
            )),
            Self::Global(tokens)
            | Self::GlobalRows(tokens)
            | Self::GlobalColumns(tokens)
            | Self::Sink(tokens)
                if *tokens < block =>
            {
                warnings.push(format!(
                    "{self} is shorter than a block of {block} tokens and sees nothing; use {block} or more"
                ));
            }
            Self::Dilated { rates, reach } => warnings.extend(
                (rates.iter().filter(|rate| *reach > 0 && reach / block < **rate)).map(|rate| {
                    format!(
                        "{self}: a reach shorter than {rate} blocks of {block} tokens holds no step of rate {rate}; use {} or more",
                        rate.saturating_mul(block)
                    )
                }),
            ),
            Self::Fixed { summary, .. } if *summary > 0 && *summary < block => {
                warnings.push(format!(
                    "{self}: a summary shorter than a block of {block} tokens is none; use {block} or more"
                ));
            }
            Self::Union(of) | Self::Intersection(of) => {
                of.iter().for_each(|part| part.warn(block, warnings));
            }
            Self::Difference { from, without } => {
                from.warn(block, warnings);
                without.warn(block, warnings);
            }
            Self::Density { of, .. } => of.warn(block, warnings),
            Self::Heads(entries) => {
                (entries.iter()).for_each(|entry| entry.pattern.warn(block, warnings));
            }
            _ => {}
        }
    }
}
