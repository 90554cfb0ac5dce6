//! Text from a model.

mod outlet;

pub use burn_longnet::model::SamplingError;
pub use outlet::{Flow, Outlet};

use crate::config::Config;
use crate::config::sections::Generate;
use crate::data::{Decoder, Tokenizer};
use burn_longnet::model::{LongNetLM, Sampling};
use std::ops::ControlFlow;

/// How the section says that tokens are drawn, of which there are `vocabulary`.
pub fn sampling(generate: &Generate, vocabulary: usize) -> Sampling {
    Sampling {
        vocabulary: Some(vocabulary),
        repetition_penalty: generate.repetition_penalty,
        repetition_window: (generate.repetition_window > 0).then_some(generate.repetition_window),
        temperature: generate.temperature,
        top_k: (generate.top_k > 0).then_some(generate.top_k),
        top_p: (generate.top_p < 1.0).then_some(generate.top_p),
        min_p: (generate.min_p > 0.0).then_some(generate.min_p),
        seed: generate.seed as u64,
    }
}

/// The tokens of `prompt`, of which an empty one stands for a line feed.
pub fn prompt(tokenizer: &dyn Tokenizer, prompt: &[u8]) -> Vec<usize> {
    let text = match prompt {
        b"" => b"\n",
        prompt => prompt,
    };
    let tokens = tokenizer.encode(text).into_iter();
    let tokens: Vec<usize> = tokens.map(|token| token as usize).collect();
    match tokens.is_empty() {
        // A tokenizer may have nothing for a line feed.
        true => vec![tokenizer.end().unwrap_or(0) as usize],
        false => tokens,
    }
}

/// Continues `config.generate.prompt` as [`continue_prompt`] does.
///
/// # Errors
///
/// As [`continue_prompt`].
pub fn generate<E: From<SamplingError>>(
    lm: &LongNetLM,
    tokenizer: &dyn Tokenizer,
    config: &Config,
    each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let prompt = prompt(tokenizer, config.generate.prompt.as_bytes());
    continue_prompt(lm, tokenizer, &prompt, &config.generate, each)
}

/// Continues `prompt` as `generate` says, but for its own prompt, up to its number of tokens, a stop
/// string or the end of a document, and hands the bytes to `each` as soon as they are certain (see [`Outlet`]).
///
/// # Errors
///
/// The first error of `each`, which ends the text, and a token that cannot be drawn.
pub fn continue_prompt<E: From<SamplingError>>(
    lm: &LongNetLM,
    tokenizer: &dyn Tokenizer,
    prompt: &[usize],
    generate: &Generate,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut outlet = Outlet::new(&generate.stop);
    let mut decoder = Decoder::new(tokenizer);
    let mut result = Ok(Flow::Open);
    let sampling = sampling(generate, tokenizer.vocab());
    lm.generate_while(prompt, generate.tokens, &sampling, |token| {
        if tokenizer.end() == Some(token as i32) {
            return ControlFlow::Break(());
        }
        let mut certain = Vec::new();
        let flow = outlet.push(&decoder.push(token as i32), &mut certain);
        let shown = match certain.is_empty() {
            true => Ok(()),
            false => each(&certain),
        };
        result = shown.map(|()| flow);
        match result {
            Ok(Flow::Open) => ControlFlow::Continue(()),
            Ok(Flow::Stopped) | Err(_) => ControlFlow::Break(()),
        }
    })?;
    let mut rest = Vec::new();
    if result? == Flow::Open && outlet.push(&decoder.finish(), &mut rest) == Flow::Open {
        rest.extend(outlet.finish());
    }
    match rest.is_empty() {
        true => Ok(()),
        false => each(&rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ByteTokenizer;
    use burn::tensor::Device;
    use burn_longnet::attention::branches;
    use burn_longnet::model::LongNetLMConfig;

    #[test]
    fn the_section_s_word_for_all_tokens_is_no_filter() {
        let all = Generate {
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 0,
            temperature: 0.5,
            seed: 3,
            ..Generate::default()
        };
        let expected = Sampling {
            vocabulary: Some(256),
            temperature: 0.5,
            seed: 3,
            ..Sampling::default()
        };
        assert_eq!(sampling(&all, 256), expected);
        let few = Generate {
            top_k: 7,
            top_p: 0.9,
            min_p: 0.1,
            repetition_penalty: 1.3,
            repetition_window: 64,
            ..all
        };
        let expected = Sampling {
            top_k: Some(7),
            top_p: Some(0.9),
            min_p: Some(0.1),
            repetition_penalty: 1.3,
            repetition_window: Some(64),
            ..expected
        };
        assert_eq!(sampling(&few, 256), expected);
    }

    fn model() -> LongNetLM {
        let device = Device::default();
        device.seed(7);
        LongNetLMConfig::new(256, 16, 1, 2)
            .with_branches(branches([(16, 1)]))
            .with_max_length(32)
            .init(&device)
    }

    /// What `settings` make of "ab", in one piece.
    fn text(lm: &LongNetLM, settings: &Generate) -> Result<Vec<u8>, SamplingError> {
        let mut text = Vec::new();
        let start = prompt(&ByteTokenizer, b"ab");
        continue_prompt(lm, &ByteTokenizer, &start, settings, |bytes| {
            text.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(text)
    }

    #[test]
    fn a_stop_string_ends_the_text_before_it() {
        let lm = model();
        let mut settings = Generate {
            tokens: 40,
            temperature: 1.0,
            top_k: 0,
            ..Generate::default()
        };
        // What is drawn, byte by byte, is seldom UTF-8: the stop strings are taken from what is.
        let whole = (0..).find_map(|seed| {
            settings.seed = seed;
            let text = text(&lm, &settings).unwrap();
            assert_eq!(text.len(), 40);
            let ascii = |pair: &&[u8]| pair.is_ascii() && pair[0] != pair[1];
            let at = text.windows(2).skip(5).find(ascii)?.to_vec();
            let at = text.windows(2).position(|pair| pair == at)?;
            Some((text, at))
        });
        let (whole, at) = whole.unwrap();
        let stop = String::from_utf8(whole[at..at + 2].to_vec()).unwrap();
        settings.stop = vec!["not in the text".into(), stop];
        assert_eq!(text(&lm, &settings).unwrap(), &whole[..at]);
    }

    #[test]
    fn a_diverged_model_is_an_error() {
        use burn::module::{Module, ModuleMapper, Param};
        use burn::tensor::Tensor;
        struct Diverge;
        impl ModuleMapper for Diverge {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|value| value * f32::NAN)
            }
        }
        let lm = model().map(&mut Diverge);
        for temperature in [0.0, 1.0] {
            let settings = Generate {
                temperature,
                ..Generate::default()
            };
            assert_eq!(text(&lm, &settings), Err(SamplingError::NotFinite));
        }
    }

    #[test]
    fn tokens_that_the_tokenizer_does_not_have_are_not_drawn() {
        // Half of the model's tokens are no bytes.
        let lm = LongNetLMConfig::new(512, 16, 1, 2)
            .with_branches(branches([(16, 1)]))
            .with_max_length(32)
            .init(&Device::default());
        let settings = Generate {
            tokens: 40,
            top_k: 0,
            ..Generate::default()
        };
        assert_eq!(text(&lm, &settings).unwrap().len(), 40);
    }

    #[test]
    fn an_error_of_the_reader_ends_the_text() {
        let mut calls = 0;
        let settings = Generate::default();
        let result = continue_prompt(&model(), &ByteTokenizer, &[1], &settings, |_| {
            calls += 1;
            Err(SamplingError::NotFinite)
        });
        assert_eq!((calls, result), (1, Err(SamplingError::NotFinite)));
    }
}
