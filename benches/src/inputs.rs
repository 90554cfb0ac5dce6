//! The numbers that every contender gets.

use crate::number::Number;
use crate::problem::Problem;
use rayon::prelude::*;
use std::path::Path;
use std::{fs, io};

/// q, k, v and the gradient of out, `[heads, n, d]` each.
pub struct Inputs<E> {
    pub q: Vec<E>,
    pub k: Vec<E>,
    pub v: Vec<E>,
    pub dout: Vec<E>,
}

impl<E: Number> Inputs<E> {
    /// The numbers of `problem`, the same in every run.
    pub fn new(problem: &Problem) -> Self {
        let [q, k, v, dout] = [0, 1, 2, 3].map(|tensor| numbers(tensor, problem.len()));
        Self { q, k, v, dout }
    }

    /// The tensors with the names of their files.
    fn named(&self) -> [(&'static str, &[E]); 4] {
        [
            ("q", &self.q),
            ("k", &self.k),
            ("v", &self.v),
            ("dout", &self.dout),
        ]
    }

    /// Writes the raw bytes of each tensor to `folder`.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        for (name, numbers) in self.named() {
            fs::write(folder.join(name), bytemuck::cast_slice(numbers))?;
        }
        Ok(())
    }
}

/// `len` numbers of mean 0 and variance 1, each a function of `tensor` and its index.
pub fn numbers<E: Number>(tensor: u64, len: usize) -> Vec<E> {
    const CHUNK: usize = 1 << 16;
    let mut numbers: Vec<E> = bytemuck::zeroed_vec(len);
    numbers
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, numbers)| {
            for (i, number) in numbers.iter_mut().enumerate() {
                *number = E::from_f32(about_normal(tensor << 48 | (chunk * CHUNK + i) as u64));
            }
        });
    numbers
}

/// The sum of four uniform numbers, from the bits of SplitMix64's output for `counter`.
fn about_normal(counter: u64) -> f32 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let parts = [z, z >> 16, z >> 32, z >> 48].map(|part| (part & 0xffff) as u32);
    let sum = parts.iter().sum::<u32>() as f32 / 65536.0;
    // Each part has variance 1/12.
    (sum - 2.0) * 3f32.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_have_mean_0_and_variance_1_and_differ_between_tensors() {
        let [a, b] = [0, 1].map(|tensor| numbers::<f32>(tensor, 100_000));
        for x in [&a, &b] {
            let mean = x.iter().sum::<f32>() / 1e5;
            let variance = x.iter().map(|x| x * x).sum::<f32>() / 1e5;
            assert!(
                mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02,
                "{mean} {variance}"
            );
        }
        let product = a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>() / 1e5;
        assert!(product.abs() < 0.02, "{product}");
    }

    #[test]
    fn a_longer_tensor_starts_with_the_shorter_one() {
        let (short, long) = (numbers::<f32>(2, 70_000), numbers::<f32>(2, 150_000));
        assert_eq!(short, long[..70_000]);
    }
}
