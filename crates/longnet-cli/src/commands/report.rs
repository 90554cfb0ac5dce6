//! Results as text.

use longnet_train::data::Tokens;
use longnet_train::entropy::Entropy;
use longnet_train::evaluate::Evaluation;

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
