//! Text from a model.

use crate::config::Config;
use crate::config::sections::Generate;
use crate::data::{Decoder, Tokenizer, TokenizerError};
use burn_longnet::model::{LongNetLM, Sampling};
use std::ops::ControlFlow;

/// How the section says that tokens are drawn.
pub fn sampling(generate: &Generate) -> Sampling {
    Sampling {
        temperature: generate.temperature,
        top_k: (generate.top_k > 0).then_some(generate.top_k),
        top_p: (generate.top_p < 1.0).then_some(generate.top_p),
        seed: generate.seed as u64,
    }
}

/// Continues `config.generate.prompt`, where an empty one stands for a line feed, and hands the bytes
/// of each token to `each` as soon as it is drawn.
///
/// # Errors
///
/// A prompt that the tokenizer does not take, and the first error of `each`, which ends the text.
pub fn generate<E: From<TokenizerError>>(
    lm: &LongNetLM,
    tokenizer: &dyn Tokenizer,
    config: &Config,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let generate = &config.generate;
    let prompt = match generate.prompt.as_str() {
        "" => "\n",
        prompt => prompt,
    };
    let prompt = tokenizer.encode(prompt.as_bytes())?.into_iter();
    let prompt: Vec<_> = prompt.map(|token| token as usize).collect();
    let mut result = Ok(());
    let mut decoder = Decoder::new(tokenizer);
    lm.generate_while(&prompt, generate.tokens, &sampling(generate), |token| {
        result = each(&decoder.push(token as i32));
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    result?;
    each(&decoder.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_s_word_for_all_tokens_is_no_filter() {
        let all = Generate {
            top_k: 0,
            top_p: 1.0,
            temperature: 0.5,
            seed: 3,
            ..Generate::default()
        };
        let expected = Sampling {
            temperature: 0.5,
            top_k: None,
            top_p: None,
            seed: 3,
        };
        assert_eq!(sampling(&all), expected);
        let few = Generate {
            top_k: 7,
            top_p: 0.9,
            ..all
        };
        let filters = (sampling(&few).top_k, sampling(&few).top_p);
        assert_eq!(filters, (Some(7), Some(0.9)));
    }
}
