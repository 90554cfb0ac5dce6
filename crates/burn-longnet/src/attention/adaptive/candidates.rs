//! The blocks that may be chosen, as the op takes them.

use super::{AdaptiveAttentionConfig, grid};
use crate::pattern::BlockMask;
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::{Arc, Mutex};

/// The mask of all candidates, for the length that was last asked for. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates(Arc<Mutex<Option<(usize, BlockMask)>>>);

impl Candidates {
    /// Every block, or if causal every one up to the queries' own, in `blocks` blocks.
    ///
    /// # Panics
    ///
    /// If they are too many for a mask.
    pub fn mask(&self, config: &AdaptiveAttentionConfig, blocks: usize) -> BlockMask {
        let mut last = self.0.lock().unwrap_or_else(|error| error.into_inner());
        match &*last {
            Some((known, mask)) if *known == blocks => mask.clone(),
            _ => {
                let mask = BlockMask::new(config.n_heads, grid(blocks, config.block))
                    .causal(config.causal)
                    .shared()
                    .build_from_rows(|_, _, row| row.extend(0..blocks))
                    .unwrap_or_else(|error| panic!("{error}"));
                *last = Some((blocks, mask.clone()));
                mask
            }
        }
    }

    /// The values `[batch, heads, blocks, blocks]` of the listed blocks, as the op takes a bias.
    pub fn listed(&self, values: Tensor<4>, causal: bool) -> Tensor<2> {
        let [batch, heads, blocks, _] = values.dims();
        let flat = values.reshape([batch, heads, blocks * blocks]);
        if !causal {
            return flat.reshape([batch, heads * blocks * blocks]);
        }
        let places = (0..blocks).flat_map(|i| (0..=i).map(move |j| (i * blocks + j) as i32));
        let places: Vec<i32> = places.collect();
        let count = places.len();
        let device = flat.device();
        let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &device);
        flat.select(2, places).reshape([batch, heads * count])
    }
}
