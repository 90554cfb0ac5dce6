//! Which kind of attention a layer has.

use crate::attention::{
    AdaptiveAttentionConfig, AnyAttention, BlockScorer, BlockSparseAttentionConfig,
    MultiHeadDilatedAttentionConfig, check_scorer,
};
use crate::error::ConfigError;
use crate::pattern::{BlockGrid, BlockMask, BlockPattern, HeadGroup, Pattern};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// The kind of attention between the projections of a layer, with what only that kind is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum LayerAttention {
    /// The dilated branches of the configuration.
    #[default]
    Dilated,
    /// Pairs of blocks; of a list of heads, some may be dilated.
    BlockSparse {
        /// Which blocks see each other.
        pattern: BlockPattern,
        /// Tokens of a block.
        block: usize,
    },
    /// Blocks chosen by what they hold.
    Adaptive {
        /// Key blocks that a block of queries sees, its own among them.
        top_k: usize,
        /// Tokens of a block.
        block: usize,
        /// How blocks are scored.
        scorer: BlockScorer,
    },
}

impl LayerAttention {
    fn block_sparse(
        &self,
        of: &MultiHeadDilatedAttentionConfig,
    ) -> Option<BlockSparseAttentionConfig> {
        let Self::BlockSparse { pattern, block } = self else {
            return None;
        };
        let config = BlockSparseAttentionConfig::new(of.n_heads, pattern.clone())
            .with_block(*block)
            .with_causal(of.causal)
            .with_gradient(of.gradient)
            .with_precision(of.precision)
            .with_scale(of.scale)
            .with_dropout(of.dropout);
        Some(config)
    }

    fn adaptive(&self, of: &MultiHeadDilatedAttentionConfig) -> Option<AdaptiveAttentionConfig> {
        let &Self::Adaptive {
            top_k,
            block,
            scorer,
        } = self
        else {
            return None;
        };
        let config = AdaptiveAttentionConfig::new(of.n_heads, of.head_width(), top_k)
            .with_block(block)
            .with_scorer(scorer)
            .with_causal(of.causal)
            .with_precision(of.precision)
            .with_scale(of.scale)
            .with_dropout(of.dropout);
        Some(config)
    }

    /// Whether [`init`](Self::init) will succeed, with the projections that `of` describes.
    pub(super) fn validate(&self, of: &MultiHeadDilatedAttentionConfig) -> Result<(), ConfigError> {
        if *self == Self::Dilated {
            return of.validate();
        }
        if let Some(config) = self.block_sparse(of) {
            config.validate()?;
        }
        if let Some(config) = self.adaptive(of) {
            config.validate()?;
            check_scorer(config.scorer, of.position)?;
        }
        of.validate_around()
    }

    /// A pattern whose segments hold every pair that the layer may see, at any length.
    pub(super) fn enclosing(
        &self,
        of: &MultiHeadDilatedAttentionConfig,
    ) -> Result<Pattern, ConfigError> {
        match (self, self.block_sparse(of)) {
            (Self::Dilated, _) => of.pattern(),
            (_, Some(config)) => config.enclosing(),
            _ => Ok(Pattern::dense(of.n_heads, of.causal)),
        }
    }

    /// The attention in the place of that which `of` describes, if it is another.
    pub(super) fn init(
        &self,
        of: &MultiHeadDilatedAttentionConfig,
        device: &Device,
    ) -> Option<AnyAttention> {
        let block_sparse = self.block_sparse(of).map(|config| config.init().into());
        block_sparse.or_else(|| self.adaptive(of).map(|config| config.init(device).into()))
    }

    pub(super) fn head_groups(
        &self,
        of: &MultiHeadDilatedAttentionConfig,
        n: usize,
    ) -> Result<Vec<HeadGroup>, ConfigError> {
        let all = |pattern| {
            vec![HeadGroup {
                heads: 0..of.n_heads,
                pattern,
            }]
        };
        match self {
            Self::Dilated => Ok(all(of.pattern()?)),
            Self::BlockSparse { pattern, block } => {
                let grid = BlockGrid::square(n, *block);
                Ok(pattern.head_groups(of.n_heads, grid, of.causal)?)
            }
            Self::Adaptive { top_k, block, .. } => {
                let config = self.adaptive(of);
                config.map_or(Ok(()), |config| config.check_length(n))?;
                if *top_k >= n.div_ceil(*block) {
                    return Ok(all(Pattern::dense(of.n_heads, of.causal)));
                }
                let mask = BlockMask::new(of.n_heads, BlockGrid::square(n, *block))
                    .causal(of.causal)
                    .shared()
                    .build_from_rows(|_, i, row| {
                        let blocks = n.div_ceil(*block);
                        let end = if of.causal { i + 1 } else { blocks };
                        row.extend(end.saturating_sub(*top_k)..end);
                    })?;
                Ok(all(mask.into()))
            }
        }
    }

    pub(super) fn warnings(&self, of: &MultiHeadDilatedAttentionConfig, n: usize) -> Vec<String> {
        match self {
            Self::Dilated => of.pattern().map_or(Vec::new(), |p| p.warnings(n)),
            Self::BlockSparse { pattern, block } => {
                let grid = BlockGrid::square(n, *block);
                let mut warnings = pattern.warnings(grid).unwrap_or_default();
                let groups = self.head_groups(of, n).unwrap_or_default();
                let several = groups.len() > 1;
                for HeadGroup { heads, pattern } in groups {
                    warnings.extend(pattern.warnings(n).into_iter().map(|warning| {
                        match several {
                            // Groups count their heads from 0.
                            true => {
                                format!("of heads {} to {}: {warning}", heads.start, heads.end - 1)
                            }
                            false => warning,
                        }
                    }));
                }
                warnings
            }
            Self::Adaptive { .. } => Vec::new(),
        }
    }

    /// Whether it draws noise in training.
    pub(super) fn is_noisy(&self) -> bool {
        matches!(
            self,
            Self::Adaptive {
                scorer: BlockScorer::Learned,
                ..
            }
        )
    }

    /// Its parameters, with heads of `width` channels.
    pub(super) fn num_params(&self, width: usize) -> usize {
        match self.is_noisy() {
            true => 2 * width * width,
            false => 0,
        }
    }
}
