//! The blocks that may be chosen, as the op takes them.

use super::{AdaptiveAttentionConfig, grid};
use crate::pattern::BlockMask;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::sync::{Arc, Mutex};

/// The mask of all candidates, for the length that was last asked for. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    mask: Arc<Mutex<Option<(usize, BlockMask)>>>,
    places: Arc<Mutex<Option<Places>>>,
}

/// Where the causal pairs of blocks are among all.
#[derive(Clone, Debug)]
struct Places {
    blocks: usize,
    device: Device,
    index: Tensor<1, Int>,
}

impl Candidates {
    /// Every block, or if causal every one up to the queries' own, in `blocks` blocks.
    ///
    /// # Panics
    ///
    /// If they are too many for a mask.
    pub fn mask(&self, config: &AdaptiveAttentionConfig, blocks: usize) -> BlockMask {
        config
            .check_length(blocks * config.block)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut last = self.mask.lock().unwrap_or_else(|error| error.into_inner());
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
        let places = self.places(blocks, flat.device());
        let [count] = places.dims();
        flat.select(2, places).reshape([batch, heads * count])
    }

    fn places(&self, blocks: usize, device: Device) -> Tensor<1, Int> {
        let mut last = self
            .places
            .lock()
            .unwrap_or_else(|error| error.into_inner());
        let same = |last: &&Places| {
            let autodiff = last.device.is_autodiff() == device.is_autodiff();
            last.blocks == blocks && autodiff && last.device == device
        };
        if let Some(last) = last.as_ref().filter(same) {
            return last.index.clone();
        }
        let places = (0..blocks).flat_map(|i| (0..=i).map(move |j| (i * blocks + j) as i32));
        let places: Vec<i32> = places.collect();
        let places = TensorData::new(places, [blocks * (blocks + 1) / 2]);
        let index = Tensor::<1, Int>::from_data(places, &device);
        *last = Some(Places {
            blocks,
            device,
            index: index.clone(),
        });
        index
    }
}
