//! What was measured. As JSON, it is the schema of `longnet eval --json`.

use serde::Serialize;
use std::f64::consts::LN_2;

/// All that one evaluation measured. Numbers that are not finite are null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// Version of this schema.
    pub schema: u32,
    /// Folder of the checkpoint.
    pub checkpoint: String,
    /// Tokens of a sequence in training.
    pub trained_context: usize,
    /// Loss on text, if it was asked for.
    pub text: Option<Text>,
    /// Keys found again, if they were asked for.
    pub passkey: Option<Passkey>,
    /// Values found again, if they were asked for.
    pub recall: Option<Recall>,
}

impl Results {
    /// Nothing yet.
    pub fn new(checkpoint: String, trained_context: usize) -> Self {
        Self {
            schema: 1,
            checkpoint,
            trained_context,
            text: None,
            passkey: None,
            recall: None,
        }
    }

    /// As JSON, with a line feed at the end.
    pub fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("numbers and strings are JSON");
        text + "\n"
    }
}

/// How well tokens were predicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Bytes of text that these stand for.
    pub bytes: u64,
    /// Mean loss of a token, in nats.
    pub loss: f64,
    /// exp(loss).
    pub perplexity: f64,
    /// Loss in bits per byte of text.
    pub bits_per_byte: f64,
}

impl Score {
    /// Of tokens whose losses, in nats, have the sum `sum`.
    pub fn new(sum: f64, tokens: u64, bytes: u64) -> Self {
        let loss = sum / tokens as f64;
        Self {
            tokens,
            bytes,
            loss,
            perplexity: loss.exp(),
            bits_per_byte: sum / LN_2 / bytes as f64,
        }
    }
}

/// Loss on text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Text {
    /// "validation", or "given" for text that the run did not name.
    pub label: String,
    /// Bits per byte of the text that single bytes leave open.
    pub order0: f64,
    /// Bits per byte that are left open by the byte before.
    pub order1: f64,
    /// With windows of data.context, over all of the text.
    pub whole: Score,
    /// By length.
    pub lengths: Vec<ByLength>,
}

/// Loss with windows of one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByLength {
    /// Tokens that the model reads at once.
    pub length: usize,
    /// Whether that is more than in training.
    pub beyond_training: bool,
    /// How far windows are moved; none where one begins at the end of the other.
    pub stride: Option<usize>,
    /// How well tokens were predicted.
    #[serde(flatten)]
    pub score: Score,
    /// The same tokens by how many the model read before each.
    pub positions: Vec<Position>,
}

impl ByLength {
    /// "full", or "sliding" with its stride.
    pub fn mode(&self) -> String {
        match self.stride {
            None => "full".into(),
            Some(stride) => format!("sliding {stride}"),
        }
    }
}

/// Loss of the tokens with some amount of context.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Position {
    /// The least context, in tokens.
    pub from: usize,
    /// The most.
    pub to: usize,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Their mean loss, in nats.
    pub loss: f64,
}

/// How well answers were found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answered {
    /// Answers that were asked for.
    pub asked: u64,
    /// Those all of whose tokens were the likeliest ones, which is what greedy decoding would have
    /// written.
    pub right: u64,
    /// right / asked.
    pub accuracy: f64,
    /// Mean loss of an answer's token, in nats.
    pub loss: f64,
    /// Mean rank of an answer's token in the vocabulary by likelihood; 1 is the likeliest.
    pub rank: f64,
}

/// Keys found again in filler text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Passkey {
    /// Seed of the keys.
    pub seed: usize,
    /// What guessing a key would score.
    pub chance: f64,
    /// Lengths without room for the prompt.
    pub skipped: Vec<usize>,
    /// By length and depth.
    pub cells: Vec<PasskeyCell>,
}

/// Keys at one depth of prompts of one length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PasskeyCell {
    /// Tokens of prompt and key together.
    pub length: usize,
    /// Whether that is more than in training.
    pub beyond_training: bool,
    /// Share of the filler text that is before the key.
    pub depth: f64,
    /// How well the keys were found.
    #[serde(flatten)]
    pub answered: Answered,
}

/// Values found again by their keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recall {
    /// Seed of the pairs.
    pub seed: usize,
    /// What guessing a value would score.
    pub chance: f64,
    /// Lengths and numbers of pairs without room.
    pub skipped: Vec<(usize, usize)>,
    /// By length and number of pairs.
    pub cells: Vec<RecallCell>,
}

/// Values of so many pairs in sequences of one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecallCell {
    /// Tokens of a sequence.
    pub length: usize,
    /// Whether that is more than in training.
    pub beyond_training: bool,
    /// Pairs of key and value in it, each of which is asked for once.
    pub pairs: usize,
    /// How well the values were found.
    #[serde(flatten)]
    pub answered: Answered,
    /// The same by how far back the value stands.
    pub distances: Vec<Distance>,
}

/// Values that stand some distance back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// The least distance, in tokens.
    pub from: usize,
    /// The most.
    pub to: usize,
    /// How well they were found.
    #[serde(flatten)]
    pub answered: Answered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_null() {
        let mut results = Results::new("runs/x".into(), 64);
        results.text = Some(Text {
            label: "validation".into(),
            order0: 1.0,
            order1: 0.5,
            whole: Score::new(f64::NAN, 10, 10),
            lengths: vec![],
        });
        let read: serde_json::Value = serde_json::from_str(&results.json()).unwrap();
        assert!(read["text"]["whole"]["loss"].is_null());
        assert_eq!(read["text"]["whole"]["tokens"], 10);
        assert_eq!(read["schema"], 1);
        assert!(read["passkey"].is_null());
    }
}
