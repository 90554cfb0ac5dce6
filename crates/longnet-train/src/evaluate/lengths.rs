//! Which context lengths can be measured.

use super::EvalError;
use crate::config::Config;
use burn::tensor::DType;
use burn_longnet::ConfigError;
use burn_longnet::model::Positions;

/// A context length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Tokens that the model reads at once.
    pub tokens: usize,
    /// Whether the model was trained with fewer.
    pub beyond_training: bool,
}

/// The lengths of `eval.lengths`, in order and once each, or those that stand for none: the context,
/// half and a quarter of it. `trained` is the context of training.
///
/// # Errors
///
/// A length that the model's positions do not allow, and a stride beyond the shortest one.
pub fn lengths(config: &Config, trained: usize) -> Result<Vec<Length>, EvalError> {
    let context = config.data.context;
    let mut lengths = match config.eval.lengths.as_slice() {
        [] => vec![context / 4, context / 2, context],
        given => given.to_vec(),
    };
    lengths.retain(|length| *length > 1);
    lengths.sort_unstable();
    lengths.dedup();
    for &length in &lengths {
        allowed(config, length)?;
    }
    let (stride, shortest) = (config.eval.sliding, lengths[0]);
    if stride > shortest {
        return Err(EvalError::Stride {
            length: shortest,
            stride,
        });
    }
    let length = |tokens| Length {
        tokens,
        beyond_training: tokens > trained,
    };
    Ok(lengths.into_iter().map(length).collect())
}

fn allowed(config: &Config, length: usize) -> Result<(), EvalError> {
    let (context, positions) = (config.data.context, config.model.positions);
    let refused = |positions, reason| EvalError::Positions {
        length,
        positions,
        reason,
    };
    if positions == Positions::Learned && length > context {
        let reason = format!(
            "the model has a vector for each of data.context = {context} positions; choose lengths up to that"
        );
        return Err(refused("learned", reason));
    }
    let model = config.language_model().with_max_length(length);
    let cannot = |error: ConfigError| match error {
        ConfigError::Position(error) => refused("xpos", error.to_string()),
        error => EvalError::Attention {
            length,
            reason: error.to_string(),
        },
    };
    model.validate(DType::F32).map_err(cannot)?;
    // Kinds of attention take turns from layer to layer.
    for layer in 0..model.layer_attention.len().clamp(1, model.n_layers) {
        let groups = model.head_groups(layer, length);
        groups.map_err(|error| EvalError::Attention {
            length,
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(context: usize, lengths: &[usize]) -> Config {
        let mut config = Config::default();
        config.data.context = context;
        config.eval.lengths = lengths.to_vec();
        config
    }

    fn tokens(config: &Config) -> Vec<usize> {
        let lengths = lengths(config, config.data.context).unwrap();
        lengths.iter().map(|length| length.tokens).collect()
    }

    #[test]
    fn lengths_are_sorted_single_and_never_none() {
        assert_eq!(tokens(&config(4096, &[])), [1024, 2048, 4096]);
        assert_eq!(tokens(&config(2, &[])), [2]);
        assert_eq!(tokens(&config(4096, &[64, 8, 64])), [8, 64]);
        let marks = lengths(&config(64, &[64, 65]), 64).unwrap();
        assert!(!marks[0].beyond_training && marks[1].beyond_training);
    }

    #[test]
    fn positions_that_end_name_their_field() {
        let mut learned = config(64, &[64, 65]);
        learned.model.positions = Positions::Learned;
        let error = lengths(&learned, 64).unwrap_err().to_string();
        assert!(
            error.starts_with("eval.lengths: 65: model.positions = \"learned\": the model has a vector for each of data.context = 64"),
            "{error}"
        );
        learned.eval.lengths = vec![64];
        assert_eq!(tokens(&learned), [64]);

        let mut xpos = config(64, &[64, 1 << 26]);
        xpos.attention.segments = vec![1 << 26];
        xpos.attention.dilations = vec![1];
        xpos.model.positions = Positions::XPos;
        let error = lengths(&xpos, 64).unwrap_err().to_string();
        assert!(
            error.starts_with("eval.lengths: 67108864: model.positions = \"xpos\": ")
                && error.contains("the smallest that works"),
            "{error}"
        );
    }

    #[test]
    fn a_stride_beyond_the_shortest_length_is_refused() {
        let mut sliding = config(64, &[]);
        sliding.eval.sliding = 17;
        let error = lengths(&sliding, 64).unwrap_err();
        assert_eq!(
            error,
            EvalError::Stride {
                length: 16,
                stride: 17
            }
        );
        sliding.eval.sliding = 16;
        assert_eq!(tokens(&sliding), [16, 32, 64]);
    }
}
