//! What one rank takes of a batch.

use super::{Batch, IGNORED, targets};
use crate::data::Window;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_longnet::model::LmInput;
use burn_longnet::pattern::ring::Shards;
use std::ops::Range;

/// Some rows of a batch, and of each some of its positions.
pub struct Part<'a> {
    batch: &'a Batch,
    rows: Range<usize>,
    /// How positions are dealt to ranks, and which rank it is. None: all positions.
    shard: Option<(Shards, usize)>,
}

impl<'a> Part<'a> {
    /// All of `batch`.
    pub fn whole(batch: &'a Batch) -> Self {
        Self::new(batch, 0..batch.windows.len(), None)
    }

    /// The rows `rows`, and of each the positions of a rank.
    pub fn new(batch: &'a Batch, rows: Range<usize>, shard: Option<(Shards, usize)>) -> Self {
        Self { batch, rows, shard }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The first row.
    pub fn first(&self) -> usize {
        self.rows.start
    }

    /// How positions are dealt to ranks, if they are.
    pub fn shards(&self) -> Option<Shards> {
        self.shard.map(|(shards, _)| shards)
    }

    /// Tokens that are predicted.
    pub fn targets(&self) -> usize {
        let counted = |window: &Window| match (&window.documents, &self.shard) {
            (None, None) => window.tokens.len() - 1,
            (None, Some((shards, rank))) => shards.rows(*rank),
            (Some(_), _) => {
                let targets = self.take(targets(window));
                targets.iter().filter(|&&t| t != IGNORED).count()
            }
        };
        self.windows().iter().map(counted).sum()
    }

    /// What a language model reads, and the targets, both `[rows, positions]`. Some targets may be
    /// [ignored](Batch::ignored).
    pub fn input(&self, device: &Device) -> (LmInput, Tensor<2, Int>) {
        let (inputs, targets) = self.tensors(device);
        let apart = self.batch.windows.iter().all(|w| w.documents.is_some());
        let documents = apart.then(|| {
            self.matrix(device, |window| {
                let documents = window.documents.as_deref().unwrap_or_default();
                documents[..documents.len() - 1].to_vec()
            })
        });
        (LmInput::new(inputs).documents(documents), targets)
    }

    /// Inputs and targets, both `[rows, positions]`.
    pub fn tensors(&self, device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
        let inputs = self.matrix(device, |window| {
            window.tokens[..window.tokens.len() - 1].to_vec()
        });
        (inputs, self.matrix(device, targets))
    }

    fn windows(&self) -> &[Window] {
        &self.batch.windows[self.rows.clone()]
    }

    fn matrix(&self, device: &Device, row: impl Fn(&Window) -> Vec<i32>) -> Tensor<2, Int> {
        let rows = self.windows();
        let values: Vec<i32> = rows
            .iter()
            .flat_map(|window| self.take(row(window)))
            .collect();
        let shape = [rows.len(), values.len() / rows.len().max(1)];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// The rank's positions of a row.
    fn take(&self, row: Vec<i32>) -> Vec<i32> {
        match &self.shard {
            None => row,
            Some((shards, rank)) => shards.take(*rank, &row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_longnet::pattern::ring::Layout;

    fn window(start: i32, n: usize) -> Window {
        Window {
            source: 0,
            start: 0,
            bytes: n as u64,
            tokens: (start..=start + n as i32).collect(),
            documents: None,
        }
    }

    fn rows(tensor: Tensor<2, Int>) -> Vec<Vec<i64>> {
        let [_, n] = tensor.dims();
        let all: Vec<i64> = tensor.into_data().iter().collect();
        all.chunks(n.max(1)).map(<[i64]>::to_vec).collect()
    }

    #[test]
    fn parts_have_their_rows_and_positions_and_targets_that_follow_in_the_text() {
        let batch = Batch {
            windows: vec![
                window(0, 10),
                window(100, 10),
                window(200, 10),
                window(300, 10),
            ],
        };
        let shards = Shards::new(Layout::Zigzag, 10, 2);
        let part = Part::new(&batch, 2..4, Some((shards, 0)));
        let device = Device::default();
        let (inputs, targets) = part.tensors(&device);
        let expected = [200, 201, 202, 208, 209];
        assert_eq!(rows(inputs)[0], expected);
        assert_eq!(rows(targets)[0], expected.map(|token| token + 1));
        assert_eq!((part.targets(), part.first()), (10, 2));
        let all: usize = (0..2)
            .flat_map(|rank| [0..2, 2..4].map(|rows| (rank, rows)))
            .map(|(rank, rows)| Part::new(&batch, rows, Some((shards, rank))).targets())
            .sum();
        assert_eq!(all, batch.targets());
    }

    #[test]
    fn targets_of_other_documents_count_on_no_rank() {
        let mut batch = Batch {
            windows: vec![window(0, 9)],
        };
        batch.windows[0].documents = Some([0, 0, 0, 1, 1, 1, 1, 2, 2, 2].into());
        assert_eq!(batch.targets(), 7);
        for layout in [Layout::Contiguous, Layout::Zigzag, Layout::Striped] {
            let shards = Shards::new(layout, 9, 3);
            let part = |rank| Part::new(&batch, 0..1, Some((shards, rank)));
            let count: usize = (0..3).map(|rank| part(rank).targets()).sum();
            assert_eq!(count, 7, "{layout:?}");
        }
    }
}
