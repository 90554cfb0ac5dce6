//! Results as text.

use longnet_train::data::Tokens;
use longnet_train::entropy::Entropy;
use longnet_train::evaluate::Evaluation;
use longnet_train::evaluate::results::{Answered, ByLength, Passkey, Recall, Score};

/// How predictable the `label` text is.
pub fn entropies(label: &str, entropy: &Entropy) -> String {
    format!(
        "order-0 {:.3}, order-1 (bigrams) {:.3} bits/byte of the {label} text",
        entropy.order0, entropy.order1
    )
}

/// An evaluation on the `label` text beside the entropies of its text.
pub fn evaluation(label: &str, evaluation: &Evaluation, entropy: &Entropy) -> String {
    let bits = evaluation.bits_per_byte();
    let verdict = match bits < entropy.order1 {
        true => "below",
        false => "not below",
    };
    format!(
        "{label:<12}loss {:.4}, perplexity {:.2}, {bits:.3} bits/byte over {} tokens at {:.0} tokens/s\n\
         entropy     {}\n\
         The model is {verdict} what the byte before alone can tell.\n",
        evaluation.loss,
        evaluation.loss.exp(),
        evaluation.tokens,
        evaluation.tokens as f64 / evaluation.seconds,
        entropies(label, entropy),
    )
}

/// 26214 as "26.2 kB".
pub fn size(tokens: &impl Tokens) -> String {
    match tokens.bytes() as f64 {
        b if b < 1e3 => format!("{b} bytes"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

/// An evaluation of all of a text as it is written down.
pub fn score(evaluation: &Evaluation) -> Score {
    let tokens = evaluation.tokens as f64;
    let bytes = (tokens * evaluation.bytes_per_token).round();
    Score::new(
        evaluation.loss * tokens,
        evaluation.tokens as u64,
        bytes as u64,
    )
}

/// What marks a length beyond training.
fn mark(beyond_training: bool) -> &'static str {
    if beyond_training { "*" } else { " " }
}

/// What the mark means.
pub fn beyond(trained: usize) -> String {
    format!("\n* beyond training, which was with {trained} tokens\n")
}

/// What limits every length beyond `segment`, the longest one of the attention.
pub fn sight(segment: usize) -> String {
    format!(
        "\nNo token sees further back than its segment, and the longest of attention.segments is {segment}.\n"
    )
}

/// What stands above the rows of [`by_length`], of which this is the first.
pub fn by_length_head(first: &ByLength) -> String {
    let tokens = first.score.tokens;
    format!(
        "\nBy context length, the same {tokens} tokens each time:\n\n{:>10}   {:<16}{:>10}{:>12}{:>11}\n",
        "length", "windows", "loss", "perplexity", "bits/byte"
    )
}

/// A row of the table by length.
pub fn by_length(found: &ByLength) -> String {
    let Score {
        loss,
        perplexity,
        bits_per_byte,
        ..
    } = found.score;
    format!(
        "{:>10}{}  {:<16}{loss:>10.4}{perplexity:>12.2}{bits_per_byte:>11.3}\n",
        found.length,
        mark(found.beyond_training),
        found.mode(),
    )
}

/// The loss by the context that each token has, a column for each length, windows one after the other.
pub fn by_position(all: &[ByLength]) -> String {
    let full: Vec<&ByLength> = all.iter().filter(|l| l.stride.is_none()).collect();
    let mut table = "\nLoss by the tokens before each in its window:\n\n".to_string();
    let columns = full.iter().map(|l| format!("{:>10}", l.length));
    table += &format!(
        "{:>17}{}\n",
        "tokens \\ length",
        columns.collect::<String>()
    );
    let longest = full.iter().max_by_key(|l| l.positions.len());
    for row in longest.map_or(&[][..], |l| &l.positions) {
        let losses = full.iter().map(|l| {
            let found = l.positions.iter().find(|p| p.from == row.from);
            found.map_or(format!("{:>10}", ""), |p| format!("{:>10.4}", p.loss))
        });
        let range = range(row.from, row.to);
        table += &format!("{range:>17}{}\n", losses.collect::<String>());
    }
    table
}

/// "1", "2 to 3".
fn range(from: usize, to: usize) -> String {
    match from == to {
        true => from.to_string(),
        false => format!("{from} to {to}"),
    }
}

/// 0.5 as "50.0 %".
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Accuracy by length and depth.
pub fn passkey(passkey: &Passkey, samples: usize) -> String {
    let mut table = format!(
        "\nPasskey retrieval, {samples} keys at each length and depth (guessing: {:.3} %):\n\n{:>10}{:>9}{:>11}{:>12}{:>8}\n",
        passkey.chance * 100.0,
        "length",
        "depth",
        "found",
        "loss",
        "rank"
    );
    for cell in &passkey.cells {
        let Answered {
            accuracy,
            loss,
            rank,
            ..
        } = cell.answered;
        table += &format!(
            "{:>10}{}{:>8}{:>11}{loss:>12.4}{rank:>8.1}\n",
            cell.length,
            mark(cell.beyond_training),
            format!("{:.0} %", cell.depth * 100.0),
            percent(accuracy),
        );
    }
    for length in &passkey.skipped {
        table += &format!("{length:>10}   has no room for the prompt\n");
    }
    table
        + "loss: nats a token of the key; rank: of its tokens in the vocabulary, 1 is the likeliest\n"
}

/// Accuracy by length, number of pairs and distance.
pub fn recall(recall: &Recall, samples: usize) -> String {
    let chance = percent(recall.chance);
    let mut table = format!(
        "\nAssociative recall, {samples} sequences of each length and number of pairs (guessing: {chance}):\n\n{:>10}{:>9}{:>9}{:>11}{:>12}{:>8}   found by distance in tokens\n",
        "length", "pairs", "asked", "found", "loss", "rank"
    );
    for cell in &recall.cells {
        let Answered {
            asked,
            accuracy,
            loss,
            rank,
            ..
        } = cell.answered;
        let distance = cell.distances.iter().map(|d| {
            let (range, share) = (range(d.from, d.to), percent(d.answered.accuracy));
            format!("{range}: {share}")
        });
        table += &format!(
            "{:>10}{}{:>8}{asked:>9}{:>11}{loss:>12.4}{rank:>8.1}   {}\n",
            cell.length,
            mark(cell.beyond_training),
            cell.pairs,
            percent(accuracy),
            distance.collect::<Vec<_>>().join(", "),
        );
    }
    for (length, pairs) in &recall.skipped {
        table += &format!("{length:>10}{pairs:>9}   have no room\n");
    }
    table
}
