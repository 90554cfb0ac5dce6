//! Values found again by their keys: multi-query associative recall (Arora et al. 2023, after Fu et
//! al. 2022), as text.
//!
//! A sequence begins with pairs, one a line: a key of two letters and a value of one digit, such as
//! `qx=7`. Then come as many queries, which are the same lines in another order, at random places
//! among lines of filler, `....`. The digits of the queries are asked for.

use super::probe::{Answer, Predict, Probe, answers};
use super::results::{Answered, Distance, Recall, RecallCell};
use super::{EvalError, Length, bucket, ends};
use crate::config::sections::Eval;
use crate::data::{Random, Tokenizer};

/// Keys are two letters; there are this many.
pub const KEYS: usize = 26 * 26;

/// Values are digits; there are this many.
const VALUES: u64 = 10;

/// Lines as tokens. Keys and values are encoded by themselves, so that a value has the same tokens in
/// each line.
struct Lines<'a>(&'a dyn Tokenizer);

impl Lines<'_> {
    fn encode(&self, text: &str) -> Vec<i32> {
        self.0.encode(text.as_bytes())
    }

    /// Appends the line of a pair to `tokens`; says where its value is.
    fn pair(&self, (key, value): (usize, u64), tokens: &mut Vec<i32>) -> std::ops::Range<usize> {
        let letter = |i: usize| char::from(b'a' + i as u8);
        let key = format!("{}{}=", letter(key / 26), letter(key % 26));
        tokens.extend(self.encode(&key));
        let from = tokens.len();
        tokens.extend(self.encode(&value.to_string()));
        let to = tokens.len();
        tokens.extend(self.encode("\n"));
        from..to
    }

    fn filler(&self) -> Vec<i32> {
        self.encode("....\n")
    }
}

/// A sequence with the distances of its answers from the values that they repeat.
struct Sample {
    probe: Probe,
    distances: Vec<usize>,
}

/// Number `number` of the sequences of `length` tokens with so many pairs, if these fit.
fn sample(
    tokenizer: &dyn Tokenizer,
    seed: usize,
    number: usize,
    length: usize,
    pairs: usize,
) -> Option<Sample> {
    let mut random = Random::new(Random::new(seed as u64).next() ^ number as u64);
    let mut keys: Vec<usize> = (0..KEYS).collect();
    random.shuffle(&mut keys);
    let value = |key: &usize| (*key, random.below(VALUES));
    let mut pairs: Vec<(usize, u64)> = keys[..pairs].iter().map(value).collect();

    let lines = Lines(tokenizer);
    let mut tokens = Vec::with_capacity(length);
    let mut shown = vec![0; KEYS];
    for &pair in &pairs {
        shown[pair.0] = lines.pair(pair, &mut tokens).start;
    }
    // The queries have the same tokens as the pairs.
    let filler = lines.filler();
    let room = length.checked_sub(2 * tokens.len())?;
    random.shuffle(&mut pairs);
    let mut rest: Vec<Option<(usize, u64)>> = pairs.into_iter().map(Some).collect();
    rest.resize(rest.len() + room / filler.len(), None);
    random.shuffle(&mut rest);

    // What no whole line fills stands in front.
    let front: Vec<i32> = filler
        .iter()
        .copied()
        .cycle()
        .take(room % filler.len())
        .collect();
    let (mut answers, mut distances) = (Vec::new(), Vec::new());
    for line in rest {
        match line {
            Some(pair) => {
                let value = lines.pair(pair, &mut tokens);
                distances.push(value.start - shown[pair.0]);
                answers.push(value.start + front.len()..value.end + front.len());
            }
            None => tokens.extend(&filler),
        }
    }
    tokens.splice(0..0, front);
    let probe = Probe { tokens, answers };
    Some(Sample { probe, distances })
}

/// Whether some of `lengths` have room for some of `eval.pairs`, which is to be known before anything
/// is spent.
///
/// # Errors
///
/// None has.
pub fn check(tokenizer: &dyn Tokenizer, eval: &Eval, lengths: &[Length]) -> Result<(), EvalError> {
    let longest = lengths[lengths.len() - 1].tokens;
    let fewest = eval.pairs.iter().copied().min().unwrap_or(1);
    let fits = |length| sample(tokenizer, eval.seed, 0, length, fewest).is_some();
    match fits(longest) {
        true => Ok(()),
        false => Err(EvalError::NoRoom {
            task: "recall",
            least: (longest..).find(|length| fits(*length)).unwrap_or(longest),
            longest,
        }),
    }
}

/// Asks `model` for values in sequences of each of `lengths` with each of `eval.pairs`, at most `pass`
/// tokens at once.
pub fn recall(
    model: &impl Predict,
    tokenizer: &dyn Tokenizer,
    eval: &Eval,
    lengths: &[Length],
    pass: usize,
) -> Recall {
    let mut result = Recall {
        seed: eval.seed,
        chance: 1.0 / VALUES as f64,
        skipped: Vec::new(),
        cells: Vec::new(),
    };
    for length in lengths {
        for &pairs in &eval.pairs {
            let sample = |number| sample(tokenizer, eval.seed, number, length.tokens, pairs);
            // Each is made again when its turn comes: they may be long.
            if !(0..eval.samples).all(|number| sample(number).is_some()) {
                result.skipped.push((length.tokens, pairs));
                continue;
            }
            let mut distances = Vec::new();
            let probes = (0..eval.samples).filter_map(sample).map(|sample| {
                distances.extend(sample.distances);
                sample.probe
            });
            let answers = answers(model, probes, pass).into_iter().flatten();
            let by_distance: Vec<(usize, Answer)> = distances.into_iter().zip(answers).collect();
            result.cells.push(RecallCell {
                length: length.tokens,
                beyond_training: length.beyond_training,
                pairs,
                answered: Answered::of(by_distance.iter().map(|(_, answer)| answer)),
                distances: buckets(&by_distance),
            });
        }
    }
    result
}

/// The answers by their distances, up to 1, 2, 4, 8, ... tokens.
fn buckets(answers: &[(usize, Answer)]) -> Vec<Distance> {
    let mut found: Vec<usize> = answers.iter().map(|(d, _)| bucket(*d)).collect();
    found.sort_unstable();
    found.dedup();
    let distance = |number: usize| {
        let inside = answers.iter().filter(|(d, _)| bucket(*d) == number);
        let (from, to) = ends(number);
        Distance {
            from,
            to,
            answered: Answered::of(inside.map(|(_, answer)| answer)),
        }
    };
    found.into_iter().map(distance).collect()
}

#[cfg(test)]
mod tests {
    use super::super::probe::tests::{Rule, model};
    use super::*;
    use crate::data::ByteTokenizer;

    fn eval(samples: usize, pairs: &[usize]) -> Eval {
        Eval {
            samples,
            pairs: pairs.to_vec(),
            ..Eval::default()
        }
    }

    fn lengths(all: &[usize]) -> Vec<Length> {
        let length = |&tokens| Length {
            tokens,
            beyond_training: false,
        };
        all.iter().map(length).collect()
    }

    #[test]
    fn each_key_is_shown_once_and_asked_for_once_at_the_distance_that_is_said() {
        for (length, pairs) in [(64, 6), (60, 6), (263, 4), (7000, 676), (500, 1)] {
            let Sample { probe, distances } = sample(&ByteTokenizer, 3, 1, length, pairs).unwrap();
            let text = String::from_utf8(ByteTokenizer.decode(&probe.tokens)).unwrap();
            assert_eq!(text.len(), length);
            assert_eq!(probe.answers.len(), pairs);
            let shown = &text[length % 5..length % 5 + 5 * pairs];
            assert!(!shown.contains('.'), "{shown}");
            let mut asked = std::collections::HashSet::new();
            for (answer, distance) in probe.answers.iter().zip(&distances) {
                let line = &text[answer.start - 3..answer.end + 1];
                assert!(asked.insert(line), "{line} twice");
                let places: Vec<usize> = text.match_indices(&line[..3]).map(|m| m.0).collect();
                assert_eq!(places, [answer.start - 3 - distance, answer.start - 3]);
                assert_eq!(&text[places[0]..places[0] + 5], line);
            }
        }
        assert!(sample(&ByteTokenizer, 3, 1, 59, 6).is_none());
    }

    /// Finds the value if the key stands in the last `sight` tokens.
    fn finder(sight: usize) -> Rule<impl Fn(&[i32]) -> Option<i32>> {
        Rule(move |before: &[i32]| {
            let (text, key) = before.split_at(before.len() - 3);
            let text = &text[text.len().saturating_sub(sight)..];
            let at = text.windows(3).position(|part| part == key)?;
            text.get(at + 3).copied()
        })
    }

    #[test]
    fn who_sees_the_key_is_right_and_by_distance_who_does_not() {
        let eval = eval(8, &[4, 16]);
        let all = recall(
            &finder(9999),
            &ByteTokenizer,
            &eval,
            &lengths(&[256, 700]),
            64,
        );
        assert_eq!(all.cells.len(), 4);
        for cell in &all.cells {
            let asked = 8 * cell.pairs as u64;
            assert_eq!((cell.answered.asked, cell.answered.right), (asked, asked));
            let by_distance: u64 = cell.distances.iter().map(|d| d.answered.asked).sum();
            assert_eq!(by_distance, asked);
        }
        let near = recall(&finder(128), &ByteTokenizer, &eval, &lengths(&[700]), 9999);
        for distance in near.cells.iter().flat_map(|c| &c.distances) {
            match distance.to {
                to if to <= 128 => assert_eq!(distance.answered.accuracy, 1.0),
                // Tokens out of sight have 256 equal logits, of which the first is chosen: NUL.
                _ => assert_eq!(distance.answered.accuracy, 0.0),
            }
        }
        assert!(near.cells.iter().all(|c| c.answered.accuracy < 1.0));
    }

    #[test]
    fn what_does_not_fit_is_named_and_an_untrained_model_guesses() {
        let eval = eval(3, &[4, 16]);
        let lm = model(256);
        let lengths = lengths(&[30, 64]);
        let result = recall(&lm, &ByteTokenizer, &eval, &lengths, 128);
        assert_eq!(result.skipped, [(30, 4), (30, 16), (64, 16)]);
        assert_eq!(result.cells.len(), 1);
        assert_eq!(result.cells[0].answered.asked, 12);
        assert!(result.cells[0].answered.accuracy <= 0.5);
        assert_eq!(result, recall(&lm, &ByteTokenizer, &eval, &lengths, 128));
        assert_eq!(check(&ByteTokenizer, &eval, &lengths), Ok(()));
        assert_eq!(
            check(&ByteTokenizer, &eval, &lengths[..1]),
            Err(EvalError::NoRoom {
                task: "recall",
                least: 40,
                longest: 30
            })
        );
    }
}
