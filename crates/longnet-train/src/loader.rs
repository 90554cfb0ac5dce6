//! Batches of windows, as burn-train asks for them.

use crate::data::{Cursor, Window, Windows};
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::ops::Range;
use std::sync::Arc;

/// Windows of one length.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The windows.
    pub windows: Vec<Window>,
    /// Where the data stands after this batch.
    pub after: Cursor,
}

impl Batch {
    /// Inputs and targets, both `[batch, context]`.
    pub fn tensors(&self, device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
        let n = self.windows[0].tokens.len();
        let shape = [self.windows.len(), n];
        let tokens: Vec<i32> = self.windows.iter().flat_map(|w| w.tokens.clone()).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), device);
        let inputs = tokens.clone().slice_dim(1, 0..n - 1);
        (inputs, tokens.slice_dim(1, 1..n))
    }

    /// Tokens that are predicted.
    pub fn targets(&self) -> usize {
        self.windows.iter().map(|w| w.tokens.len() - 1).sum()
    }
}

#[derive(Clone)]
enum Order {
    /// Passes without end, each in its own order, from a cursor on.
    Shuffled { seed: u64, from: Cursor },
    /// One pass over these starts.
    Once(Vec<u64>),
}

/// Cuts windows into batches.
#[derive(Clone)]
pub struct Loader {
    windows: Windows,
    order: Order,
    batch: usize,
    /// The part of each pass that is taken.
    part: Range<usize>,
}

impl Loader {
    /// Batches in random order without end, from `from` on: a function of `seed` and the cursor.
    pub fn shuffled(windows: Windows, batch: usize, seed: u64, from: Cursor) -> Self {
        Self {
            part: 0..windows.per_epoch() as usize,
            windows,
            order: Order::Shuffled { seed, from },
            batch,
        }
    }

    /// One pass in order over at most `limit` windows, spread evenly (0: over all).
    pub fn in_order(windows: Windows, batch: usize, limit: usize) -> Self {
        let starts = windows.starts();
        let all = starts.len();
        let take = if limit == 0 { all } else { limit.min(all) };
        let chosen: Vec<u64> = (0..take).map(|i| starts[i * all / take]).collect();
        Self {
            part: 0..chosen.len(),
            windows,
            order: Order::Once(chosen),
            batch,
        }
    }
}

impl DataLoader<Batch> for Loader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch> + 'a> {
        let cursor = match self.order {
            Order::Shuffled { from, .. } => from,
            Order::Once(_) => Cursor::default(),
        };
        Box::new(Batches {
            loader: self,
            order: self.pass(cursor.epoch),
            cursor,
        })
    }

    fn num_items(&self) -> usize {
        self.part.len()
    }

    fn to_device(&self, _device: &Device) -> Arc<dyn DataLoader<Batch>> {
        // Batches are host data until the model asks for tensors on its own device.
        Arc::new(self.clone())
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<Batch>> {
        let part = self.part.start + start..self.part.start + end;
        Arc::new(Self {
            part,
            ..self.clone()
        })
    }
}

impl Loader {
    fn pass(&self, epoch: u64) -> Vec<u64> {
        match &self.order {
            Order::Shuffled { seed, .. } => {
                self.windows.shuffled(*seed, epoch)[self.part.clone()].to_vec()
            }
            Order::Once(starts) => starts[self.part.clone()].to_vec(),
        }
    }
}

struct Batches<'a> {
    loader: &'a Loader,
    order: Vec<u64>,
    cursor: Cursor,
}

impl Batches<'_> {
    fn window(&mut self) -> Option<Window> {
        if self.cursor.taken as usize >= self.order.len() {
            if let Order::Once(_) = self.loader.order {
                return None;
            }
            self.cursor = Cursor {
                epoch: self.cursor.epoch + 1,
                taken: 0,
            };
            self.order = self.loader.pass(self.cursor.epoch);
        }
        let start = *self.order.get(self.cursor.taken as usize)?;
        Some(self.loader.windows.at(start))
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut windows: Vec<Window> = Vec::new();
        while windows.len() < self.loader.batch
            && let Some(window) = self.window()
        {
            // The last window of a text may be shorter: it makes a batch of its own.
            if windows
                .first()
                .is_some_and(|f| f.tokens.len() != window.tokens.len())
            {
                break;
            }
            self.cursor.taken += 1;
            windows.push(window);
        }
        let after = self.cursor;
        (!windows.is_empty()).then_some(Ok(Batch { windows, after }))
    }
}

impl DataLoaderIterator<Batch> for Batches<'_> {
    fn progress(&self) -> Progress {
        let total = self.order.len();
        Progress::new(self.cursor.taken as usize, total, Some("windows".into()))
    }
}
