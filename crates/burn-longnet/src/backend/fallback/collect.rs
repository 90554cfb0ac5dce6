//! From the slots of padded tiles back to rows.

use super::tensors::{from_i32, select_rows};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};

/// Which slots hold the parts of each row. Where rows have several, pairs of parts become one, round by round.
pub struct Collect<B: Backend> {
    /// Of each part of a round, the two of the round before that it is made of; one past the last for none.
    rounds: Vec<[IntTensor<B>; 2]>,
    /// The part of each row; one past the last for rows without.
    last: IntTensor<B>,
}

impl<B: Backend> Collect<B> {
    /// `row_of` gives the row of each slot, of `rows`, or `None` where the slot is padding.
    pub fn new(rows: usize, row_of: &[Option<usize>], device: &B::Device) -> Self {
        // The parts of row r are elements starts[r]..starts[r + 1].
        let mut starts = vec![0; rows + 1];
        for row in row_of.iter().flatten() {
            starts[row + 1] += 1;
        }
        for row in 0..rows {
            starts[row + 1] += starts[row];
        }
        let (mut next, mut parts) = (starts.clone(), vec![0; starts[rows]]);
        for (slot, row) in row_of.iter().enumerate() {
            if let Some(row) = *row {
                parts[next[row]] = slot as i32;
                next[row] += 1;
            }
        }
        let (mut total, mut rounds) = (row_of.len(), Vec::new());
        while starts.windows(2).any(|row| row[1] - row[0] > 1) {
            let none = total as i32;
            let [mut first, mut second] = [(); 2].map(|()| Vec::new());
            let mut ends = vec![0];
            for row in starts.windows(2) {
                for pair in parts[row[0]..row[1]].chunks(2) {
                    first.push(pair[0]);
                    second.push(*pair.get(1).unwrap_or(&none));
                }
                ends.push(first.len());
            }
            total = first.len();
            parts = (0..total as i32).collect();
            starts = ends;
            rounds.push([first, second].map(|x| {
                let len = [x.len()];
                from_i32::<B>(x, len, device)
            }));
        }
        let part = |row: &[usize]| match row[1] - row[0] {
            0 => total as i32,
            _ => parts[row[0]],
        };
        let last = starts.windows(2).map(part).collect();
        Self {
            rounds,
            last: from_i32::<B>(last, [rows], device),
        }
    }

    /// The rows of some tensors `[batch, slots, width]`: parts are put together by `join`, and `rest` is what
    /// rows without a part get.
    pub fn rows<const N: usize>(
        &self,
        mut parts: [FloatTensor<B>; N],
        rest: [f32; N],
        join: impl Fn([FloatTensor<B>; N], [FloatTensor<B>; N]) -> [FloatTensor<B>; N],
    ) -> [FloatTensor<B>; N] {
        let with_rest = |parts: [FloatTensor<B>; N]| {
            let mut rest = rest.into_iter();
            parts.map(|part| {
                let [batch, _, width] = part.shape().dims::<3>();
                let (device, dtype) = (part.device(), part.dtype());
                let rest = rest.next().expect("one a tensor");
                let rest =
                    B::float_full([batch, 1, width].into(), rest.into(), &device, dtype.into());
                B::float_cat(vec![part, rest], 1)
            })
        };
        for [first, second] in &self.rounds {
            let all = with_rest(parts);
            let pick =
                |at: &IntTensor<B>| (all.clone()).map(|part| select_rows::<B>(part, at.clone()));
            parts = join(pick(first), pick(second));
        }
        with_rest(parts).map(|part| select_rows::<B>(part, self.last.clone()))
    }
}
