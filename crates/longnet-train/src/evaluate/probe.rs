//! Sequences in which some tokens are asked for.

use super::results::Answered;
use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use burn_longnet::model::LongNetLM;
use std::ops::Range;

/// A sequence with answers in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The sequence, answers included.
    pub tokens: Vec<i32>,
    /// Where the answers stand; none begins at 0.
    pub answers: Vec<Range<usize>>,
}

/// What can say how likely tokens are.
pub trait Predict {
    /// For each of `asked`, a sequence and a position in it above 0: the logits of the token there,
    /// given those before it. The sequences have one length.
    fn logits(&self, sequences: &[&[i32]], asked: &[(usize, usize)]) -> Vec<Vec<f32>>;
}

impl Predict for LongNetLM {
    fn logits(&self, sequences: &[&[i32]], asked: &[(usize, usize)]) -> Vec<Vec<f32>> {
        let device = self.devices()[0].clone();
        // Nothing follows the last token.
        let n = sequences[0].len() - 1;
        let read: Vec<i32> = sequences.iter().flat_map(|s| &s[..n]).copied().collect();
        let read = TensorData::new(read, [sequences.len(), n]);
        let hidden = self.forward_hidden(Tensor::<2, Int>::from_data(read, &device));
        let width = self.config().d_model;
        let hidden = hidden.reshape([sequences.len() * n, width]);
        let before = |(sequence, at): &(usize, usize)| (sequence * n + at - 1) as i64;
        let mut all = Vec::with_capacity(asked.len());
        for asked in asked.chunks(self.config().loss_chunk) {
            let rows: Vec<i64> = asked.iter().map(before).collect();
            let rows = TensorData::new(rows, [asked.len()]);
            let rows = Tensor::<1, Int>::from_data(rows, &device);
            let logits = self.logits(hidden.clone().select(0, rows).unsqueeze());
            let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
            let vocabulary = self.config().vocab_size;
            all.extend(logits.chunks(vocabulary).map(<[f32]>::to_vec));
        }
        all
    }
}

/// How one answer was predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Whether each of its tokens was the likeliest: greedy decoding would then have written it.
    pub right: bool,
    /// Its tokens.
    pub tokens: usize,
    /// Sum of their losses, in nats.
    pub loss: f64,
    /// Sum of their ranks in the vocabulary; 1 is the likeliest.
    pub rank: f64,
}

/// The answers of each of `probes`, which have one length, at most `pass` tokens at once.
///
/// One forward pass asks for all tokens of all answers, each after the right ones before it. An answer
/// whose every token is the likeliest then is exactly one that greedy decoding writes.
///
/// # Panics
///
/// If the probes have several lengths, or an answer that no token is before.
pub fn answers(
    model: &impl Predict,
    probes: impl IntoIterator<Item = Probe>,
    pass: usize,
) -> Vec<Vec<Answer>> {
    let mut probes = probes.into_iter().peekable();
    let mut all = Vec::new();
    while let Some(length) = probes.peek().map(|probe| probe.tokens.len()) {
        let some: Vec<Probe> = probes.by_ref().take((pass / length).max(1)).collect();
        assert!(
            some.iter().all(|p| p.tokens.len() == length),
            "probes of several lengths"
        );
        let sequences: Vec<&[i32]> = some.iter().map(|p| p.tokens.as_slice()).collect();
        let places = |(s, probe): (usize, &Probe)| {
            let places = probe.answers.iter().cloned().flatten();
            places.map(|at| (s, at)).collect::<Vec<_>>()
        };
        let asked: Vec<(usize, usize)> = some.iter().enumerate().flat_map(places).collect();
        let mut logits = model.logits(&sequences, &asked).into_iter();
        for probe in &some {
            let answer = |range: &Range<usize>| {
                let tokens = &probe.tokens[range.clone()];
                answer(tokens.iter().zip(&mut logits))
            };
            all.push(probe.answers.iter().map(answer).collect());
        }
    }
    all
}

/// An answer from its tokens and the logits of each.
fn answer<'a>(tokens: impl Iterator<Item = (&'a i32, Vec<f32>)>) -> Answer {
    let mut answer = Answer {
        right: true,
        tokens: 0,
        loss: 0.0,
        rank: 0.0,
    };
    for (token, logits) in tokens {
        let token = *token as usize;
        let own = f64::from(logits[token]);
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let top = f64::from(top);
        let sum: f64 = logits.iter().map(|l| (f64::from(*l) - top).exp()).sum();
        // Of equals the first is chosen, as in sampling; NaN is never above anything.
        let ahead = |(other, logit): (usize, &f32)| {
            let logit = f64::from(*logit);
            logit > own || logit.is_nan() || (logit == own && other < token)
        };
        let ahead = logits.iter().enumerate().filter(|l| ahead(*l)).count();
        answer.right &= ahead == 0 && own.is_finite();
        answer.tokens += 1;
        answer.loss += top + sum.ln() - own;
        answer.rank += 1.0 + ahead as f64;
    }
    answer
}

impl Answered {
    /// The sum of `answers`.
    pub fn of<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> Self {
        let (mut asked, mut right, mut tokens, mut loss, mut rank) = (0, 0, 0, 0.0, 0.0);
        for answer in answers {
            asked += 1;
            right += u64::from(answer.right);
            tokens += answer.tokens;
            loss += answer.loss;
            rank += answer.rank;
        }
        Self {
            asked,
            right,
            accuracy: right as f64 / asked as f64,
            loss: loss / tokens as f64,
            rank: rank / tokens as f64,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn_longnet::attention::branches;
    use burn_longnet::model::{LongNetLMConfig, Sampling};

    /// Knows what comes next from a rule that reads the tokens before.
    pub struct Rule<F>(pub F);

    impl<F: Fn(&[i32]) -> Option<i32>> Predict for Rule<F> {
        fn logits(&self, sequences: &[&[i32]], asked: &[(usize, usize)]) -> Vec<Vec<f32>> {
            let logits = |&(s, at): &(usize, usize)| {
                let mut logits = vec![0.0; 256];
                if let Some(token) = (self.0)(&sequences[s][..at]) {
                    logits[token as usize] = 20.0;
                }
                logits
            };
            asked.iter().map(logits).collect()
        }
    }

    pub fn model(vocabulary: usize) -> LongNetLM {
        let device = Device::default();
        device.seed(5);
        LongNetLMConfig::new(vocabulary, 16, 2, 2)
            .with_branches(branches([(8, 1), (32, 2)]))
            .with_max_length(64)
            .with_loss_chunk(3)
            .init(&device)
    }

    #[test]
    fn an_answer_is_right_exactly_if_greedy_decoding_writes_it() {
        let lm = model(11);
        let prompts: Vec<Vec<usize>> = (0..6)
            .map(|p| (0..20).map(|i| (i * i + p * i + p) % 11).collect())
            .collect();
        for wrong in [None, Some(0), Some(1), Some(3)] {
            let probe = |prompt: &Vec<usize>| {
                let mut answer = lm.generate(prompt, 4, &Sampling::greedy());
                if let Some(at) = wrong {
                    answer[at] = (answer[at] + 1) % 11;
                }
                let tokens = prompt.iter().chain(&answer).map(|t| *t as i32);
                // An earlier part of the prompt is asked for as well.
                Probe {
                    tokens: tokens.collect(),
                    answers: vec![7..8, 20..24],
                }
            };
            let probes: Vec<Probe> = prompts.iter().map(probe).collect();
            let at_once = answers(&lm, probes.clone(), 1000);
            for answers in &at_once {
                assert_eq!(answers[1].right, wrong.is_none(), "{answers:?}");
                assert_eq!((answers[0].tokens, answers[1].tokens), (1, 4));
                if wrong.is_none() {
                    assert_eq!(answers[1].rank, 4.0);
                }
            }
            let one_by_one = answers(&lm, probes, 1);
            for (a, b) in at_once.iter().flatten().zip(one_by_one.iter().flatten()) {
                assert!(a.right == b.right && (a.loss - b.loss).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn losses_are_those_of_the_model() {
        let lm = model(11);
        let tokens: Vec<i32> = (0..30).map(|i| i * i % 11).collect();
        let probe = Probe {
            tokens: tokens.clone(),
            answers: vec![1..2, 4..9, 29..30],
        };
        let found = &answers(&lm, [probe], 64)[0];
        let read = Tensor::<1, Int>::from_data(tokens.as_slice(), &Device::default());
        let (inputs, targets) = (read.clone().slice(0..29), read.slice(1..30));
        let nll = lm.nll(inputs.unsqueeze::<2>(), targets.unsqueeze(), None);
        let nll: Vec<f64> = nll.into_data().iter::<f64>().collect();
        for (answer, range) in found.iter().zip([0..1, 3..8, 28..29]) {
            let expected: f64 = nll[range].iter().sum();
            assert!((answer.loss - expected).abs() < 1e-4, "{found:?}");
        }
    }

    #[test]
    fn of_equally_likely_tokens_the_first_is_chosen_and_nan_is_never_right() {
        let asked = |logits: [f32; 3], token: usize| {
            let tokens: &'static [i32] = &[0, 1, 2];
            answer([(&tokens[token], logits.to_vec())].into_iter())
        };
        assert!(asked([1.0, 1.0, 0.0], 0).right);
        assert!(!asked([1.0, 1.0, 0.0], 1).right);
        assert_eq!(asked([1.0, 1.0, 0.0], 2).rank, 3.0);
        assert!((asked([0.0; 3], 2).loss - 3f64.ln()).abs() < 1e-12);
        for token in 0..3 {
            assert!(!asked([f32::NAN, 1.0, 0.0], token).right);
            assert!(!asked([f32::NAN; 3], token).right);
        }
        assert!(asked([f32::NAN, 1.0, 0.0], 1).loss.is_nan());
    }
}
