//! Facts and questions among noise.

use burn::prelude::*;
use burn::tensor::TensorData;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Keys, and values: chance answers one question in so many.
pub const SYMBOLS: usize = 64;

/// Noise is the bytes below this one.
const QUESTION: u8 = 127;
const KEYS: u8 = 128;
const VALUES: u8 = 192;

/// Sequences and what their questions ask for.
pub struct Batch {
    /// `[batch, n]`.
    pub bytes: Tensor<2, Int>,
    /// `[batch * questions]`: where the questions stand, counted through all sequences.
    pub places: Tensor<1, Int>,
    /// `[batch * questions]`: the values that they ask for.
    pub values: Tensor<1, Int>,
    /// For each question, how far away its fact stands.
    pub distances: Vec<usize>,
}

/// `batch` sequences of `n` bytes. Each holds facts, a key and its value side by side, and for each fact, before or
/// after it, a question: a mark and the key. Places are drawn evenly; all else is noise.
pub fn batch(rng: &mut StdRng, batch: usize, n: usize, device: &Device) -> Batch {
    let facts = SYMBOLS.min(n / 8);
    let (mut bytes, mut places, mut values, mut distances) = (vec![], vec![], vec![], vec![]);
    for sequence in 0..batch {
        let mut row: Vec<u8> = (0..n).map(|_| rng.random_range(0..QUESTION)).collect();
        let mut slots: Vec<usize> = (0..n / 2).map(|slot| 2 * slot).collect();
        let (slots, _) = slots.partial_shuffle(rng, 2 * facts);
        let mut keys: Vec<u8> = (0..SYMBOLS as u8).collect();
        keys.shuffle(rng);
        for (slots, key) in slots.chunks(2).zip(keys) {
            let (fact, question) = (slots[0], slots[1]);
            let value = rng.random_range(0..SYMBOLS as u8);
            row[fact..fact + 2].copy_from_slice(&[KEYS + key, VALUES + value]);
            row[question..question + 2].copy_from_slice(&[QUESTION, KEYS + key]);
            places.push((sequence * n + question + 1) as i32);
            values.push(i32::from(value));
            distances.push(fact.abs_diff(question));
        }
        bytes.extend(row.into_iter().map(i32::from));
    }
    let list = |list: Vec<i32>| {
        let len = list.len();
        Tensor::from_data(TensorData::new(list, [len]), device)
    };
    Batch {
        bytes: Tensor::from_data(TensorData::new(bytes, [batch, n]), device),
        places: list(places),
        values: list(values),
        distances,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn every_question_has_one_fact() {
        let (size, n) = (3, 128);
        let batch = batch(&mut StdRng::seed_from_u64(1), size, n, &Device::flex());
        let list =
            |data: TensorData| -> Vec<usize> { data.iter::<i32>().map(|x| x as usize).collect() };
        let (bytes, places) = (
            list(batch.bytes.into_data()),
            list(batch.places.into_data()),
        );
        let values = list(batch.values.into_data());
        assert_eq!(places.len(), size * n / 8);
        for ((place, value), distance) in places.into_iter().zip(values).zip(batch.distances) {
            let first = place / n * n;
            let key = bytes[place];
            assert_eq!(bytes[place - 1], QUESTION as usize);
            let is_fact = |at: &usize| bytes[*at] == key && bytes[at + 1] >= VALUES as usize;
            let facts: Vec<usize> = (first..first + n - 1).filter(is_fact).collect();
            let [fact] = facts[..] else {
                panic!("{facts:?}")
            };
            assert_eq!(bytes[fact + 1], VALUES as usize + value);
            assert_eq!(fact.abs_diff(place - 1), distance);
        }
    }
}
