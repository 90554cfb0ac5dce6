//! How predictable text is without a model.

use std::borrow::Cow;

/// Bits per byte of the best predictors that know nothing, or only the byte before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entropy {
    /// Entropy of single bytes, `H(X_i)`.
    pub order0: f64,
    /// Entropy of a byte given the one before, `H(X_i | X_{i-1})` (bigrams).
    pub order1: f64,
}

impl Entropy {
    /// The empirical entropies of the bytes of `slices`, taken as one text. 0 for an empty text.
    pub fn of<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::of_parts(slices.into_iter().map(Cow::Borrowed))
    }

    /// As [`of`](Self::of), of parts that may be made on the way.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Self {
        let mut single = vec![0u64; 256];
        let mut pairs = vec![0u64; 256 * 256];
        let mut before = None;
        for part in parts {
            for &byte in part.iter() {
                let byte = usize::from(byte);
                single[byte] += 1;
                if let Some(before) = before {
                    pairs[before * 256 + byte] += 1;
                }
                before = Some(byte);
            }
        }
        let total: u64 = single.iter().sum();
        let conditional: f64 = pairs.chunks(256).map(surprise).sum();
        Self {
            order0: surprise(&single) / total.max(1) as f64,
            order1: conditional / total.saturating_sub(1).max(1) as f64,
        }
    }
}

/// Bits that the best code for these counts needs in all.
fn surprise(counts: &[u64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let bits = |&c: &u64| c as f64 * (total as f64 / c as f64).log2();
    counts.iter().filter(|c| **c > 0).map(bits).sum()
}

#[cfg(test)]
mod tests {
    use super::Entropy;
    use std::collections::HashMap;

    /// By the definition, probability by probability.
    fn brute_force(text: &[u8]) -> (f64, f64) {
        let n = text.len() as f64;
        let count = |p: &dyn Fn(usize) -> bool, from: usize| {
            (from..text.len()).filter(|&i| p(i)).count() as f64
        };
        let order0 = text
            .iter()
            .map(|&b| -(count(&|i| text[i] == b, 0) / n).log2() / n)
            .sum();
        let mut seen = HashMap::new();
        let mut order1 = 0.0;
        for i in 1..text.len() {
            let (a, b) = (text[i - 1], text[i]);
            let p = *seen.entry((a, b)).or_insert_with(|| {
                let both = count(&|i| text[i - 1] == a && text[i] == b, 1);
                both / count(&|i| text[i - 1] == a, 1)
            });
            order1 -= p.log2() / (n - 1.0);
        }
        (order0, order1)
    }

    #[test]
    fn entropies_are_those_of_the_definition() {
        let text: Vec<u8> = (0..700u32)
            .map(|i| (i * i % 97 % 11) as u8 + b'a')
            .collect();
        let (order0, order1) = brute_force(&text);
        let got = Entropy::of([&text[..300], &text[300..]]);
        assert!((got.order0 - order0).abs() < 1e-9, "{got:?} {order0}");
        assert!((got.order1 - order1).abs() < 1e-9, "{got:?} {order1}");
        assert!(got.order1 < got.order0);
    }

    #[test]
    fn a_cycle_is_certain_given_the_byte_before() {
        let text = b"abcd".repeat(64);
        let got = Entropy::of([text.as_slice()]);
        assert_eq!((got.order0, got.order1), (2.0, 0.0));
        assert_eq!(
            Entropy::of([]),
            Entropy {
                order0: 0.0,
                order1: 0.0
            }
        );
    }
}
