//! Batches of windows: [`Feed`] for training, [`Loader`] for one pass in order.

use crate::data::{Cursor, DataError, Tokens, Window, Windows};
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_longnet::model::LmInput;
use std::ops::Range;
use std::sync::Arc;

/// Windows of one length.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The windows.
    pub windows: Vec<Window>,
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

    /// What a language model reads, and the targets `[batch, context]`.
    pub fn input(&self, device: &Device) -> (LmInput, Tensor<2, Int>) {
        let (inputs, targets) = self.tensors(device);
        (inputs.into(), targets)
    }

    /// Tokens that are predicted.
    pub fn targets(&self) -> usize {
        self.windows.iter().map(|w| w.tokens.len() - 1).sum()
    }
}

/// Training batches without end, in an order that is a function of a seed and a cursor.
pub struct Feed {
    tokens: Arc<dyn Tokens>,
    seed: u64,
    cursor: Cursor,
    /// The windows of the pass and their order, once it has begun.
    pass: Option<(Windows, Vec<u64>)>,
}

impl Feed {
    /// The batches of `tokens` from `from` on.
    pub fn new(tokens: Arc<dyn Tokens>, seed: u64, from: Cursor) -> Self {
        Self {
            tokens,
            seed,
            cursor: from,
            pass: None,
        }
    }

    /// The next `batch` windows of `context + 1` tokens. A context unlike the last one begins a new pass.
    ///
    /// # Errors
    ///
    /// Text that is too short for one window.
    pub fn next(&mut self, batch: usize, context: usize) -> Result<Batch, DataError> {
        if self.cursor.context != context {
            let epoch = match self.cursor.context {
                0 => self.cursor.epoch,
                _ => self.cursor.epoch + 1,
            };
            self.begin(Cursor {
                epoch,
                taken: 0,
                context,
            });
        }
        let mut windows = Vec::with_capacity(batch);
        while windows.len() < batch {
            let (pass, order) = match &self.pass {
                Some(pass) => pass,
                None => {
                    let pass = Windows::new(self.tokens.clone(), context, "training")?;
                    let order = pass.shuffled(self.seed, self.cursor.epoch);
                    self.pass.insert((pass, order))
                }
            };
            match order.get(self.cursor.taken as usize) {
                Some(&start) => {
                    windows.push(pass.at(start));
                    self.cursor.taken += 1;
                }
                None => self.begin(Cursor {
                    epoch: self.cursor.epoch + 1,
                    taken: 0,
                    context,
                }),
            }
        }
        Ok(Batch { windows })
    }

    fn begin(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.pass = None;
    }

    /// Where the next batch begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The files and bytes that `batch` is from, for messages.
    pub fn places(&self, batch: &Batch) -> Vec<String> {
        let place = |window: &Window| self.tokens.place(window.start);
        batch.windows.iter().map(place).collect()
    }
}

/// One pass over some windows in order.
#[derive(Clone)]
pub struct Loader {
    windows: Windows,
    starts: Vec<u64>,
    batch: usize,
    /// The part of the pass that is taken.
    part: Range<usize>,
}

impl Loader {
    /// One pass in order over at most `limit` windows, spread evenly (0: over all).
    pub fn in_order(windows: Windows, batch: usize, limit: usize) -> Self {
        let starts = windows.starts();
        let all = starts.len();
        let take = if limit == 0 { all } else { limit.min(all) };
        let starts: Vec<u64> = (0..take).map(|i| starts[i * all / take]).collect();
        Self {
            part: 0..starts.len(),
            windows,
            starts,
            batch,
        }
    }
}

impl DataLoader<Batch> for Loader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch> + 'a> {
        Box::new(Batches {
            loader: self,
            starts: &self.starts[self.part.clone()],
            taken: 0,
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

struct Batches<'a> {
    loader: &'a Loader,
    starts: &'a [u64],
    taken: usize,
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut windows: Vec<Window> = Vec::new();
        while windows.len() < self.loader.batch
            && let Some(&start) = self.starts.get(self.taken)
        {
            let window = self.loader.windows.at(start);
            // The last window of a text may be shorter: it makes a batch of its own.
            if windows
                .first()
                .is_some_and(|f| f.tokens.len() != window.tokens.len())
            {
                break;
            }
            self.taken += 1;
            windows.push(window);
        }
        (!windows.is_empty()).then_some(Ok(Batch { windows }))
    }
}

impl DataLoaderIterator<Batch> for Batches<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.taken, self.starts.len(), Some("windows".into()))
    }
}
