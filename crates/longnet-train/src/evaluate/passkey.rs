//! A key hidden in filler text, and asked for at the end (Mohtashami and Jaggi 2023).

use super::probe::{Predict, Probe, answers};
use super::results::{Answered, Passkey, PasskeyCell};
use super::{EvalError, Length};
use crate::config::sections::Eval;
use crate::data::{Random, Tokenizer};

const BEGIN: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I will quiz you about the important information there.\n";
const FILLER: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";
const END: &str = "\nWhat is the pass key? The pass key is";

/// Keys have five digits, the first of which is not 0.
const KEYS: u64 = 90_000;

fn keys(seed: usize, samples: usize) -> impl Iterator<Item = u64> {
    let mut random = Random::new(seed as u64);
    (0..samples).map(move |_| KEYS / 9 + random.below(KEYS))
}

/// The parts of a prompt, as tokens. Each is encoded by itself, so that the key has the same tokens
/// wherever it stands.
struct Parts {
    begin: Vec<i32>,
    filler: Vec<i32>,
    needle: Vec<i32>,
    end: Vec<i32>,
    answer: Vec<i32>,
}

impl Parts {
    fn new(tokenizer: &dyn Tokenizer, key: u64) -> Self {
        let encode = |text: &str| tokenizer.encode(text.as_bytes());
        Self {
            begin: encode(BEGIN),
            filler: encode(FILLER),
            needle: encode(&format!(
                "\nThe pass key is {key}. Remember it. {key} is the pass key.\n"
            )),
            end: encode(END),
            answer: encode(&format!(" {key}")),
        }
    }

    /// Tokens without any filler.
    fn least(&self) -> usize {
        self.begin.len() + self.needle.len() + self.end.len() + self.answer.len()
    }

    /// `length` tokens, the needle after the share `depth` of the filler.
    fn probe(&self, length: usize, depth: f64) -> Probe {
        let filler = length - self.least();
        let before = (filler as f64 * depth).round() as usize;
        let fill = |n: usize| self.filler.iter().cycle().take(n);
        let mut tokens = self.begin.clone();
        tokens.extend(fill(before));
        tokens.extend(&self.needle);
        tokens.extend(fill(filler - before));
        tokens.extend(&self.end);
        tokens.extend(&self.answer);
        let answer = length - self.answer.len()..length;
        Probe {
            tokens,
            answers: vec![answer],
        }
    }
}

/// The least tokens of a prompt with its key.
pub fn least(tokenizer: &dyn Tokenizer, eval: &Eval) -> usize {
    let least = |key| Parts::new(tokenizer, key).least();
    keys(eval.seed, eval.samples).map(least).max().unwrap_or(0)
}

/// Whether some of `lengths` have room for the prompt, which is to be known before anything is spent.
///
/// # Errors
///
/// None has.
pub fn check(tokenizer: &dyn Tokenizer, eval: &Eval, lengths: &[Length]) -> Result<(), EvalError> {
    let (least, longest) = (least(tokenizer, eval), lengths[lengths.len() - 1].tokens);
    match longest < least {
        true => Err(EvalError::NoRoom {
            task: "passkey",
            least,
            longest,
        }),
        false => Ok(()),
    }
}

/// Asks `model` for keys at each of `eval.depths` of prompts of each of `lengths`, at most `pass`
/// tokens at once. The keys are the same for all of these.
pub fn passkey(
    model: &impl Predict,
    tokenizer: &dyn Tokenizer,
    eval: &Eval,
    lengths: &[Length],
    pass: usize,
) -> Passkey {
    let least = least(tokenizer, eval);
    let mut result = Passkey {
        seed: eval.seed,
        chance: 1.0 / KEYS as f64,
        skipped: Vec::new(),
        cells: Vec::new(),
    };
    for length in lengths {
        if length.tokens < least {
            result.skipped.push(length.tokens);
            continue;
        }
        for &depth in &eval.depths {
            let probe = |key| Parts::new(tokenizer, key).probe(length.tokens, depth);
            let probes = keys(eval.seed, eval.samples).map(probe);
            let answers = answers(model, probes, pass);
            result.cells.push(PasskeyCell {
                length: length.tokens,
                beyond_training: length.beyond_training,
                depth,
                answered: Answered::of(answers.iter().flatten()),
            });
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::probe::tests::{Rule, model};
    use super::*;
    use crate::data::ByteTokenizer;

    fn eval(samples: usize, depths: &[f64]) -> Eval {
        Eval {
            samples,
            depths: depths.to_vec(),
            ..Eval::default()
        }
    }

    fn lengths(all: &[usize]) -> Vec<Length> {
        let length = |&tokens| Length {
            tokens,
            beyond_training: tokens > 500,
        };
        all.iter().map(length).collect()
    }

    #[test]
    fn a_prompt_has_its_length_its_key_at_its_depth_and_asks_for_it() {
        for (length, depth) in [(400, 0.0), (400, 0.3), (400, 1.0), (1001, 0.5)] {
            let probe = Parts::new(&ByteTokenizer, 31415).probe(length, depth);
            let text = ByteTokenizer.decode(&probe.tokens);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(text.len(), length);
            assert!(text.ends_with("What is the pass key? The pass key is 31415"));
            assert_eq!(&text[probe.answers[0].clone()], " 31415");
            let at = text.find("\nThe pass key is 31415.").unwrap();
            let filler = (length - Parts::new(&ByteTokenizer, 31415).least()) as f64;
            let share = (at - BEGIN.len()) as f64 / filler;
            assert!((share - depth).abs() < 0.01, "{share} of the filler");
        }
        let least = least(&ByteTokenizer, &eval(3, &[0.0]));
        let tight = Parts::new(&ByteTokenizer, 99999).probe(least, 0.5);
        assert_eq!(tight.tokens.len(), least);
    }

    /// Finds the key if it stands in the last `sight` tokens.
    fn finder(sight: usize) -> Rule<impl Fn(&[i32]) -> Option<i32>> {
        Rule(move |before: &[i32]| {
            let text = ByteTokenizer.decode(&before[before.len().saturating_sub(sight)..]);
            let text = String::from_utf8(text).unwrap();
            let key = text.split("The pass key is").nth(1)?.get(..6)?.to_string();
            let written = text.rsplit("The pass key is").next()?;
            Some(i32::from(key.as_bytes()[written.len()]))
        })
    }

    #[test]
    fn who_sees_the_key_is_right_and_who_does_not_is_not() {
        let eval = eval(7, &[0.0, 0.5, 1.0]);
        let all = passkey(
            &finder(4000),
            &ByteTokenizer,
            &eval,
            &lengths(&[400, 900]),
            64,
        );
        assert_eq!(all.cells.len(), 6);
        for cell in &all.cells {
            assert_eq!((cell.answered.asked, cell.answered.right), (7, 7));
            assert!(cell.answered.loss < 1e-5 && cell.answered.rank == 1.0);
            assert_eq!(cell.beyond_training, cell.length == 900);
        }
        // Sight of 300: at 900 the key is in sight at the end only.
        let some = passkey(&finder(300), &ByteTokenizer, &eval, &lengths(&[900]), 2000);
        let accuracy: Vec<f64> = some.cells.iter().map(|c| c.answered.accuracy).collect();
        assert_eq!(accuracy, [0.0, 0.0, 1.0]);
    }

    #[test]
    fn lengths_without_room_are_named_and_an_untrained_model_scores_nothing() {
        let (eval, lengths) = (eval(2, &[0.5]), lengths(&[64, 300]));
        let lm = model(256);
        let result = passkey(&lm, &ByteTokenizer, &eval, &lengths, 512);
        assert_eq!(result.skipped, [64]);
        assert_eq!(result.cells.len(), 1);
        let answered = result.cells[0].answered;
        assert_eq!((answered.asked, answered.right), (2, 0));
        // Not far from not knowing anything.
        assert!((answered.loss - 256f64.ln()).abs() < 2.0, "{answered:?}");
        assert_eq!(
            result,
            passkey(&lm, &ByteTokenizer, &eval, &lengths, 512),
            "the seed does not determine the keys"
        );
        assert_eq!(check(&ByteTokenizer, &eval, &lengths), Ok(()));
        let error = check(&ByteTokenizer, &eval, &lengths[..1]).unwrap_err();
        assert!(error.to_string().contains("passkey needs 2"), "{error}");
    }

    #[test]
    fn keys_are_drawn_by_seed_and_have_five_digits() {
        let some: Vec<u64> = keys(1, 1000).collect();
        assert!(some.iter().all(|key| (10_000..100_000).contains(key)));
        assert_ne!(some, keys(2, 1000).collect::<Vec<_>>());
        assert_eq!(some[..10], keys(1, 10).collect::<Vec<_>>());
    }
}
