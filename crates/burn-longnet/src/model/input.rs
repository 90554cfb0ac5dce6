//! What a language model reads.

use crate::dropout::DropoutSeed;
use crate::ring::SequenceShard;
use burn::tensor::{Bool, Int, Tensor};

/// Tokens with what goes along. A tensor of tokens alone converts into it.
#[derive(Clone, Debug)]
pub struct LmInput {
    pub(super) tokens: Tensor<2, Int>,
    pub(super) documents: Option<Tensor<2, Int>>,
    pub(super) mask_pad: Option<Tensor<2, Bool>>,
    pub(super) shard: Option<SequenceShard>,
    pub(super) seed: DropoutSeed,
}

impl From<Tensor<2, Int>> for LmInput {
    fn from(tokens: Tensor<2, Int>) -> Self {
        Self {
            tokens,
            documents: None,
            mask_pad: None,
            shard: None,
            seed: DropoutSeed::Draw,
        }
    }
}

impl LmInput {
    /// Tokens `[batch, n]`.
    pub fn new(tokens: Tensor<2, Int>) -> Self {
        tokens.into()
    }

    /// Document ids `[batch, n]`: a position sees its own document only.
    pub fn documents(mut self, documents: impl Into<Option<Tensor<2, Int>>>) -> Self {
        self.documents = documents.into();
        self
    }

    /// Hides positions: `[batch, n]`, true is padding.
    pub fn mask_pad(mut self, mask_pad: impl Into<Option<Tensor<2, Bool>>>) -> Self {
        self.mask_pad = mask_pad.into();
        self
    }

    /// The input is this rank's part of sequences that are sharded over several ranks: tokens, documents and mask are
    /// `[batch, rows]`, see [`SequenceShard::take`], and so are results; a loss is the mean over this rank's targets. All ranks
    /// make the same calls, with the same seed.
    pub fn shard(mut self, shard: impl Into<Option<SequenceShard>>) -> Self {
        self.shard = shard.into();
        self
    }

    /// Drops by this seed, or not at all. Without it dropout is on under autodiff, with a seed from the
    /// device's generator.
    pub fn seed(mut self, seed: impl Into<DropoutSeed>) -> Self {
        self.seed = seed.into();
        self
    }
}
