//! Loss on text with windows of one length.

use super::results::{ByLength, Position, Score};
use super::{EvalError, Length, bucket, ends};
use crate::data::{DataError, Tokens};
use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use burn_longnet::model::{LmInput, LongNetLM};

/// How windows cover a text. Either way each token but the first is scored once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One window after the other, all of each scored: a token's context begins where its window
    /// does. The last window may be shorter.
    Full,
    /// Windows moved by so many tokens, which are those that each scores: all its last ones. The
    /// first window scores all of its tokens, and the last one ends with the text and scores what is
    /// left. But for those of the first window, every token has at least the length less the stride,
    /// plus one, tokens of context.
    Sliding(usize),
}

/// A window: what the model reads, `length` tokens from `start`, of whose successors those from number
/// `scored` on count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    start: u64,
    length: usize,
    scored: usize,
}

/// The windows over `tokens` tokens.
fn slots(tokens: u64, length: usize, mode: Mode) -> Vec<Slot> {
    let last = tokens - 1;
    let step = match mode {
        Mode::Full => length,
        Mode::Sliding(stride) => stride,
    };
    let mut slots = vec![Slot {
        start: 0,
        length,
        scored: 0,
    }];
    let mut done = length as u64;
    while done < last {
        let end = (done + step as u64).min(last);
        let new = (end - done) as usize;
        slots.push(match mode {
            Mode::Full => Slot {
                start: done,
                length: new,
                scored: 0,
            },
            Mode::Sliding(_) => Slot {
                start: end - length as u64,
                length,
                scored: length - new,
            },
        });
        done = end;
    }
    slots
}

/// The tokens of a text that count: all, or the first `limit` above 0.
///
/// # Errors
///
/// Too few for a window of the longest of `lengths`.
pub fn scored(
    label: &'static str,
    tokens: &dyn Tokens,
    limit: usize,
    lengths: &[Length],
) -> Result<u64, EvalError> {
    let all = tokens.len();
    // The first token is not predicted.
    let tokens = match limit as u64 {
        0 => all,
        limit => all.min(limit.saturating_add(1)),
    };
    match lengths.iter().find(|length| tokens <= length.tokens as u64) {
        Some(length) => Err(EvalError::ShortText {
            length: length.tokens,
            label,
            tokens: tokens.saturating_sub(1),
        }),
        None => Ok(tokens),
    }
}

/// The loss of `lm` on the first `count` of `tokens`, in windows of `length`, at most `pass` tokens
/// at once.
///
/// # Errors
///
/// Text that has become unreadable.
///
/// # Panics
///
/// If the text has fewer tokens than one window or than `count`.
pub fn by_length(
    lm: &LongNetLM,
    tokens: &dyn Tokens,
    count: u64,
    length: Length,
    mode: Mode,
    pass: usize,
) -> Result<ByLength, DataError> {
    assert!(
        length.tokens as u64 <= count.saturating_sub(1) && count <= tokens.len(),
        "{count} of {} tokens, in windows of {} + 1",
        tokens.len(),
        length.tokens
    );
    let mut buckets = Buckets::default();
    let slots = slots(count, length.tokens, mode);
    let batch = (pass / length.tokens).max(1);
    // Only the last window may have another length.
    for same in slots.chunk_by(|a, b| a.length == b.length) {
        for slots in same.chunks(batch) {
            let losses = losses(lm, tokens, slots)?;
            for (slot, losses) in slots.iter().zip(losses.chunks(slots[0].length)) {
                for (at, loss) in losses.iter().enumerate().skip(slot.scored) {
                    buckets.add(at + 1, f64::from(*loss));
                }
            }
        }
    }
    Ok(ByLength {
        length: length.tokens,
        beyond_training: length.beyond_training,
        stride: match mode {
            Mode::Full => None,
            Mode::Sliding(stride) => Some(stride),
        },
        score: Score::new(buckets.sum(), buckets.count(), tokens.bytes_of(1..count)),
        positions: buckets.positions(length.tokens),
    })
}

/// The loss of each token that follows one in `slots`, which have one length.
fn losses(lm: &LongNetLM, tokens: &dyn Tokens, slots: &[Slot]) -> Result<Vec<f32>, DataError> {
    let (batch, n) = (slots.len(), slots[0].length);
    let mut read = Vec::with_capacity(batch * (n + 1));
    let mut documents = Vec::new();
    for slot in slots {
        tokens.read(slot.start..slot.start + n as u64 + 1, &mut read)?;
        let apart = tokens.documents(slot.start..slot.start + n as u64)?;
        documents.extend(apart.into_iter().flatten());
    }
    let device = lm.devices()[0].clone();
    let documents = (!documents.is_empty())
        .then(|| Tensor::<2, Int>::from_data(TensorData::new(documents, [batch, n]), &device));
    let read = TensorData::new(read, [batch, n + 1]);
    let read = Tensor::<2, Int>::from_data(read, &device);
    let (inputs, targets) = (read.clone().slice_dim(1, 0..n), read.slice_dim(1, 1..n + 1));
    let input = LmInput::new(inputs).documents(documents);
    let losses = lm.nll(input, targets, None).into_data();
    Ok(losses.iter::<f32>().collect())
}

/// Sums by context.
#[derive(Default)]
struct Buckets(Vec<(f64, u64)>);

impl Buckets {
    /// Counts a token with `context` tokens before it, at least 1.
    fn add(&mut self, context: usize, loss: f64) {
        let bucket = bucket(context);
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, (0.0, 0));
        }
        self.0[bucket].0 += loss;
        self.0[bucket].1 += 1;
    }

    fn sum(&self) -> f64 {
        self.0.iter().map(|(sum, _)| sum).sum()
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The means, in windows of `length`.
    fn positions(&self, length: usize) -> Vec<Position> {
        let filled = self.0.iter().enumerate().filter(|(_, (_, n))| *n > 0);
        let position = |(number, (sum, tokens)): (usize, &(f64, u64))| {
            let (from, to) = ends(number);
            Position {
                from,
                to: to.min(length),
                tokens: *tokens,
                loss: sum / *tokens as f64,
            }
        };
        filled.map(position).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn_longnet::attention::branches;
    use burn_longnet::model::LongNetLMConfig;
    use std::ops::Range;

    /// Tokens of one or two bytes.
    struct Numbers(Vec<i32>);

    impl Tokens for Numbers {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn bytes(&self) -> u64 {
            self.bytes_of(0..self.len())
        }

        fn bytes_of(&self, range: Range<u64>) -> u64 {
            let tokens = &self.0[range.start as usize..range.end as usize];
            tokens.iter().map(|token| 1 + *token as u64 % 2).sum()
        }

        fn read(&self, range: Range<u64>, out: &mut Vec<i32>) -> Result<(), DataError> {
            out.extend(&self.0[range.start as usize..range.end as usize]);
            Ok(())
        }

        fn place(&self, at: u64) -> String {
            format!("number {at}")
        }
    }

    const VOCABULARY: i32 = 13;

    fn text(tokens: usize) -> Numbers {
        let token = |i: usize| (i * i * 7 + i / 3) as i32 % VOCABULARY;
        Numbers((0..tokens).map(token).collect())
    }

    fn model() -> LongNetLM {
        let device = Device::default();
        device.seed(3);
        LongNetLMConfig::new(VOCABULARY as usize, 16, 2, 2)
            .with_branches(branches([(4, 1), (16, 2)]))
            .with_max_length(8)
            .init(&device)
    }

    /// The loss of the token at `at` with the `context` tokens before it as all the model reads.
    fn one(lm: &LongNetLM, text: &Numbers, at: usize, context: usize) -> f64 {
        let read: Vec<i32> = text.0[at - context..at].to_vec();
        let read = TensorData::new(read, [1, context]);
        let logits = lm.forward(Tensor::<2, Int>::from_data(read, &Device::default()));
        let last = logits.slice_dim(1, context - 1..context).into_data();
        let logits: Vec<f64> = last.iter::<f64>().collect();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        sum.ln() - logits[text.0[at] as usize]
    }

    /// By the definition: which tokens count with how much context, one forward pass for each.
    fn brute_force(lm: &LongNetLM, text: &Numbers, length: usize, mode: Mode) -> Vec<(usize, f64)> {
        let n = text.0.len();
        let context = |at: usize| match mode {
            Mode::Full => (at - 1) % length + 1,
            Mode::Sliding(_) if at <= length => at,
            Mode::Sliding(stride) => {
                // The first window whose end is not before the token; the last ends with the text.
                let moves = (at - length).div_ceil(stride);
                let end = (length + moves * stride).min(n - 1);
                at - (end - length)
            }
        };
        (1..n)
            .map(|at| (context(at), one(lm, text, at, context(at))))
            .collect()
    }

    fn length(tokens: usize) -> Length {
        Length {
            tokens,
            beyond_training: tokens > 8,
        }
    }

    #[test]
    fn each_token_is_scored_once_with_the_context_that_is_promised() {
        let lm = model();
        for (tokens, n) in [(30, 8), (33, 8), (9, 8), (10, 8), (29, 5), (40, 19), (7, 2)] {
            let text = text(tokens);
            for mode in [1, 2, 3, n]
                .map(Mode::Sliding)
                .into_iter()
                .chain([Mode::Full])
            {
                if matches!(mode, Mode::Sliding(stride) if stride > n) {
                    continue;
                }
                let expected = brute_force(&lm, &text, n, mode);
                for pass in [1, 3 * n, 1000] {
                    let found =
                        by_length(&lm, &text, tokens as u64, length(n), mode, pass).unwrap();
                    let of = |from: usize, to: usize| {
                        let inside = expected.iter().filter(|e| (from..=to).contains(&e.0));
                        let losses: Vec<f64> = inside.map(|e| e.1).collect();
                        (losses.len() as u64, losses.iter().sum::<f64>())
                    };
                    let close = |a: f64, b: f64| (a - b).abs() < 1e-5;
                    let (count, sum) = of(1, n);
                    assert_eq!(
                        (found.score.tokens, count),
                        (tokens as u64 - 1, tokens as u64 - 1)
                    );
                    assert!(
                        close(found.score.loss, sum / count as f64),
                        "{tokens} {n} {mode:?}: {} {}",
                        found.score.loss,
                        sum / count as f64
                    );
                    let all: u64 = found.positions.iter().map(|p| p.tokens).sum();
                    assert_eq!(all, count);
                    for p in &found.positions {
                        let (count, sum) = of(p.from, p.to);
                        assert_eq!(p.tokens, count, "{tokens} {n} {mode:?} {p:?}");
                        assert!(
                            close(p.loss, sum / count as f64),
                            "{tokens} {n} {mode:?} {p:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn sliding_windows_keep_the_context_they_promise() {
        for (tokens, length, stride) in [(100, 16, 4), (101, 16, 16), (17, 16, 3), (57, 9, 7)] {
            let slots = slots(tokens, length, Mode::Sliding(stride));
            let mut next = 1;
            for (number, slot) in slots.iter().enumerate() {
                let scored = slot.start + slot.scored as u64 + 1;
                assert_eq!(scored, next, "a gap or an overlap: {slots:?}");
                next = slot.start + slot.length as u64 + 1;
                assert!(number == 0 || slot.scored + stride >= length, "{slots:?}");
            }
            assert_eq!(next, tokens, "the text does not end with the last window");
        }
    }

    #[test]
    fn bits_are_those_of_the_bytes_that_are_scored() {
        let text = text(30);
        let found = by_length(&model(), &text, 20, length(8), Mode::Full, 64).unwrap();
        assert_eq!(found.score.tokens, 19);
        let bytes: i32 = text.0[1..20].iter().map(|token| 1 + token % 2).sum();
        assert_eq!(found.score.bytes, bytes as u64);
        let bits = found.score.loss * 19.0 / std::f64::consts::LN_2 / f64::from(bytes);
        assert!((found.score.bits_per_byte - bits).abs() < 1e-12);
        assert!((found.score.perplexity - found.score.loss.exp()).abs() < 1e-12);
    }

    #[test]
    fn text_without_a_whole_window_is_refused() {
        let lengths = [length(4), length(9)];
        let refused = |tokens, limit| scored("validation", &text(tokens), limit, &lengths);
        assert_eq!(refused(10, 0), Ok(10));
        assert_eq!(refused(100, 9), Ok(10));
        assert_eq!(refused(100, 0), Ok(100));
        for (tokens, limit) in [(9, 0), (100, 8), (0, 0), (1, 0)] {
            let error = refused(tokens, limit).unwrap_err().to_string();
            assert!(error.contains("and one window takes "), "{error}");
        }
    }
}
