//! Batches of windows: [`Feed`] for training, [`Loader`] for one pass in order.

mod part;

pub use part::Part;

use crate::data::{Cursor, DataError, Draws, Mixture, Order, Random, Window, Windows};
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use burn_longnet::model::{ChunkedLoss, LmInput, LongNetLM};
use std::ops::Range;
use std::sync::Arc;

/// The target of tokens that are followed by another document: nothing is to be predicted there.
pub const IGNORED: i32 = -1;

/// Windows of one length.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The windows.
    pub windows: Vec<Window>,
}

impl Batch {
    /// Inputs and targets, both `[batch, context]`. Some targets may be [ignored](Self::ignored).
    pub fn tensors(&self, device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
        Part::whole(self).tensors(device)
    }

    /// What a language model reads, and the targets `[batch, context]`. Some targets may be
    /// [ignored](Self::ignored).
    pub fn input(&self, device: &Device) -> (LmInput, Tensor<2, Int>) {
        Part::whole(self).input(device)
    }

    /// The mean loss of `lm` on the targets that count, without dropout.
    pub fn loss(&self, lm: &LongNetLM) -> Tensor<1> {
        let (input, targets) = self.input(&lm.devices()[0]);
        let options = ChunkedLoss {
            chunk: lm.config().loss_chunk,
            ignore_index: self.ignored(),
            ..ChunkedLoss::default()
        };
        lm.loss_with(input, targets, &options)
    }

    /// The value of targets that do not count, if there can be any.
    pub fn ignored(&self) -> Option<i64> {
        let apart = self.windows.iter().any(|w| w.documents.is_some());
        apart.then_some(IGNORED.into())
    }

    /// Tokens that are predicted.
    pub fn targets(&self) -> usize {
        Part::whole(self).targets()
    }

    /// Bytes of text that such a token stands for.
    pub fn bytes_per_token(&self) -> f64 {
        let bytes: u64 = self.windows.iter().map(|window| window.bytes).sum();
        bytes as f64 / self.targets().max(1) as f64
    }
}

/// The token after each, unless it is of another document.
fn targets(window: &Window) -> Vec<i32> {
    let mut targets = window.tokens[1..].to_vec();
    if let Some(documents) = &window.documents {
        for (target, pair) in targets.iter_mut().zip(documents.windows(2)) {
            if pair[0] != pair[1] {
                *target = IGNORED;
            }
        }
    }
    targets
}

/// Training batches without end, in an order that is a function of a seed and a cursor.
pub struct Feed {
    mixture: Mixture,
    seed: u64,
    cursor: Cursor,
    /// What the windows of this context are drawn from, once the first is.
    passes: Option<Passes>,
}

/// The passes over all sources.
struct Passes {
    draws: Draws,
    /// Of each source, its windows, the pass and its order.
    sources: Vec<(Windows, Option<(u64, Order)>)>,
}

impl Feed {
    /// The batches of a text or a mixture of texts from `from` on.
    pub fn new(mixture: impl Into<Mixture>, seed: u64, from: Cursor) -> Self {
        Self {
            mixture: mixture.into(),
            seed,
            cursor: from,
            passes: None,
        }
    }

    /// The next `batch` windows of `context + 1` tokens. A context unlike the last one begins a new pass.
    ///
    /// # Errors
    ///
    /// Text that is too short for one window, or has become unreadable.
    pub fn next(&mut self, batch: usize, context: usize) -> Result<Batch, DataError> {
        if self.cursor.context != context {
            let epoch = match self.cursor.context {
                0 => self.cursor.epoch,
                _ => self.cursor.epoch + 1,
            };
            self.cursor = Cursor {
                epoch,
                taken: 0,
                context,
            };
            self.passes = None;
        }
        let windows = (0..batch).map(|_| self.window());
        Ok(Batch {
            windows: windows.collect::<Result<_, _>>()?,
        })
    }

    fn window(&mut self) -> Result<Window, DataError> {
        let Cursor {
            epoch,
            taken,
            context,
        } = self.cursor;
        let mixed = self.mixture.len() > 1;
        let passes = match &mut self.passes {
            Some(passes) => passes,
            None => {
                let sources = 0..self.mixture.len();
                let windows = sources.map(|source| {
                    let tokens = self.mixture.tokens(source).clone();
                    Ok((Windows::new(tokens, context, "training text")?, None))
                });
                self.passes.insert(Passes {
                    // The pass of a single source is in the cursor, and needs no count.
                    draws: self.mixture.draws(if mixed { taken } else { 0 }),
                    sources: windows.collect::<Result<_, DataError>>()?,
                })
            }
        };
        let source = passes.draws.next();
        let (windows, order) = &mut passes.sources[source];
        let per_pass = windows.per_epoch();
        let (seed, pass, index) = match mixed {
            true => {
                let count = passes.draws.count(source);
                let seed = Random::new(self.seed ^ Random::new(source as u64).next()).next();
                let seed = Random::new(seed ^ epoch).next();
                (seed, count / per_pass, count % per_pass)
            }
            // The last pass may have ended with the last window.
            false => (self.seed, epoch + taken / per_pass, taken % per_pass),
        };
        let order = match order {
            Some((of, order)) if *of == pass => order,
            _ => &order.insert((pass, windows.shuffled(seed, pass))).1,
        };
        let start = order.start(index).expect("a pass has this many windows");
        let window = Window {
            source,
            ..windows.at(start)?
        };
        passes.draws.take(source);
        self.cursor = match mixed {
            true => Cursor {
                taken: taken + 1,
                ..self.cursor
            },
            false => Cursor {
                epoch: pass,
                taken: index + 1,
                context,
            },
        };
        Ok(window)
    }

    /// Where the next batch begins.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The files and bytes that `batch` is from, for messages.
    pub fn places(&self, batch: &Batch) -> Vec<String> {
        let place = |window: &Window| self.mixture.tokens(window.source).place(window.start);
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

impl Loader {
    /// The batches.
    pub fn pass(&self) -> impl Iterator<Item = Result<Batch, DataError>> {
        let mut batches = self.batches();
        std::iter::from_fn(move || batches.batch())
    }

    fn batches(&self) -> Batches<'_> {
        Batches {
            loader: self,
            starts: &self.starts[self.part.clone()],
            taken: 0,
        }
    }
}

impl DataLoader<Batch> for Loader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Batch> + 'a> {
        Box::new(self.batches())
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

impl Batches<'_> {
    fn batch(&mut self) -> Option<Result<Batch, DataError>> {
        let mut windows: Vec<Window> = Vec::new();
        while windows.len() < self.loader.batch
            && let Some(&start) = self.starts.get(self.taken)
        {
            let window = match self.loader.windows.at(start) {
                Ok(window) => window,
                Err(error) => return Some(Err(error)),
            };
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

impl Iterator for Batches<'_> {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batch()?.map_err(DatasetError::new))
    }
}

impl DataLoaderIterator<Batch> for Batches<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.taken, self.starts.len(), Some("windows".into()))
    }
}
