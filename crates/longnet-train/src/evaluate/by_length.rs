//! Loss on text with windows of one length.

use super::results::{ByLength, Position, Score};
use super::{EvalError, Length, bucket, ends};
use crate::data::{DataError, Tokens, Window};
use crate::loader::Batch;
use burn::module::Module;
use burn_longnet::model::LongNetLM;

/// How windows cover a text. Either way each token but the first is scored once; where documents do not
/// see each other, each but the first of every document.
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
    let (mut buckets, mut bytes) = (Buckets::default(), tokens.bytes_of(1..count));
    let slots = slots(count, length.tokens, mode);
    let batch = (pass / length.tokens).max(1);
    // Only the last window may have another length.
    for same in slots.chunk_by(|a, b| a.length == b.length) {
        for slots in same.chunks(batch) {
            let windows = slots.iter().map(|slot| slot.read(tokens));
            let batch = Batch {
                windows: windows.collect::<Result<_, _>>()?,
            };
            let (input, targets) = batch.input(&lm.devices()[0]);
            let losses = lm.nll(input, targets, batch.ignored()).into_data();
            let losses: Vec<f32> = losses.iter::<f32>().collect();
            let losses = losses.chunks(slots[0].length);
            for ((slot, window), losses) in slots.iter().zip(&batch.windows).zip(losses) {
                for (at, context) in contexts(window).enumerate().skip(slot.scored) {
                    let token = slot.start + at as u64 + 1;
                    match context {
                        0 => bytes -= tokens.bytes_of(token..token + 1),
                        context => buckets.add(context, f64::from(losses[at])),
                    }
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
        score: Score::new(buckets.sum(), buckets.count(), bytes),
        positions: buckets.positions(length.tokens),
    })
}

impl Slot {
    fn read(&self, tokens: &dyn Tokens) -> Result<Window, DataError> {
        Window::read(tokens, self.start..self.start + self.length as u64 + 1)
    }
}

/// How many tokens of the window each of its tokens but the first sees: those before it, or those of its
/// own document. The first one of a document is not predicted.
fn contexts(window: &Window) -> impl Iterator<Item = usize> {
    let documents = window.documents.as_deref();
    let mut context = 0;
    (1..window.tokens.len()).map(move |at| {
        let first = documents.is_some_and(|ids| ids[at - 1] != ids[at]);
        context = if first { 0 } else { context + 1 };
        context
    })
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
    use burn::tensor::{Int, Tensor, TensorData};
    use burn_longnet::attention::branches;
    use burn_longnet::model::{LmInput, LongNetLMConfig};
    use std::ops::Range;

    /// Tokens of one or two bytes, in documents that begin at some of them; if none does, in one text.
    struct Numbers(Vec<i32>, Vec<usize>);

    impl Numbers {
        /// Where the document of the token at `at` begins.
        fn document(&self, at: usize) -> usize {
            self.1
                .iter()
                .copied()
                .rfind(|start| *start <= at)
                .unwrap_or(0)
        }
    }

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

        fn documents(&self, range: Range<u64>) -> Result<Option<Vec<i32>>, DataError> {
            let ids = range.map(|at| self.document(at as usize) as i32);
            Ok((!self.1.is_empty()).then(|| ids.collect()))
        }

        fn place(&self, at: u64) -> String {
            format!("number {at}")
        }
    }

    const VOCABULARY: i32 = 13;

    fn text(tokens: usize) -> Numbers {
        let token = |i: usize| (i * i * 7 + i / 3) as i32 % VOCABULARY;
        Numbers((0..tokens).map(token).collect(), vec![])
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
        let matrix = |values: Vec<i32>| {
            let values = TensorData::new(values, [1, context]);
            Tensor::<2, Int>::from_data(values, &Device::default())
        };
        let range = at - context..at;
        let documents = text.documents(range.start as u64..range.end as u64);
        let read = LmInput::new(matrix(text.0[range].to_vec()));
        let logits = lm.forward(read.documents(documents.unwrap().map(matrix)));
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
            .filter(|at| text.1.is_empty() || text.document(*at) != *at)
            .map(|at| {
                let seen = context(at).min(at - text.document(at));
                (seen, one(lm, text, at, context(at)))
            })
            .collect()
    }

    fn length(tokens: usize) -> Length {
        Length {
            tokens,
            beyond_training: tokens > 8,
        }
    }

    /// Whether the loss of `text` in windows of `n` is that of the definition.
    fn assert_scored(lm: &LongNetLM, text: &Numbers, n: usize, mode: Mode) {
        let expected = brute_force(lm, text, n, mode);
        let of = |from: usize, to: usize| {
            let inside = expected.iter().filter(|e| (from..=to).contains(&e.0));
            let losses: Vec<f64> = inside.map(|e| e.1).collect();
            (losses.len() as u64, losses.iter().sum::<f64>())
        };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-5;
        let (count, sum) = of(1, n);
        for pass in [1, 3 * n, 1000] {
            let found = by_length(lm, text, text.len(), length(n), mode, pass).unwrap();
            let case = format!("{} {n} {mode:?} {found:?}", text.len());
            assert_eq!(found.score.tokens, count, "{case}");
            assert!(close(found.score.loss, sum / count as f64), "{case}");
            let all: u64 = found.positions.iter().map(|p| p.tokens).sum();
            assert_eq!(all, count, "{case}");
            for p in &found.positions {
                let (count, sum) = of(p.from, p.to);
                assert_eq!(p.tokens, count, "{case}");
                assert!(close(p.loss, sum / count as f64), "{case}");
            }
        }
    }

    fn modes(n: usize) -> impl Iterator<Item = Mode> {
        let strides = [1, 2, 3, n].into_iter().filter(move |s| *s <= n);
        strides.map(Mode::Sliding).chain([Mode::Full])
    }

    #[test]
    fn each_token_is_scored_once_with_the_context_that_is_promised() {
        let lm = model();
        for (tokens, n) in [(30, 8), (33, 8), (9, 8), (10, 8), (29, 5), (40, 19), (7, 2)] {
            for mode in modes(n) {
                assert_scored(&lm, &text(tokens), n, mode);
                let all = by_length(&lm, &text(tokens), tokens as u64, length(n), mode, 64);
                assert_eq!(all.unwrap().score.tokens, tokens as u64 - 1);
            }
        }
    }

    #[test]
    fn documents_apart_do_not_see_each_other_and_their_first_tokens_do_not_count() {
        let lm = model();
        for starts in [vec![0], vec![0, 1, 5, 6, 17, 32], vec![0, 8, 16, 24]] {
            let text = Numbers(text(33).0, starts);
            for mode in modes(8) {
                assert_scored(&lm, &text, 8, mode);
                let found = by_length(&lm, &text, 33, length(8), mode, 64).unwrap();
                let counts = |at: &usize| text.document(*at) != *at;
                let bytes = (1..33).filter(counts).map(|at| 1 + text.0[at] as u64 % 2);
                assert_eq!(found.score.bytes, bytes.sum::<u64>());
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
