//! Text from a model.

use crate::config::Config;
use crate::data::Tokenizer;
use crate::sampler::Sampler;
use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use burn_longnet::model::LongNetLM;

/// Draws tokens that continue a prompt, one at a time. The context, at most as long as in training, is
/// computed anew for each.
pub struct Generator<'a> {
    lm: &'a LongNetLM,
    sampler: Sampler,
    context: usize,
    tokens: Vec<i32>,
    left: usize,
}

impl<'a> Generator<'a> {
    /// Continues `config.generate.prompt`; an empty one stands for a line feed.
    pub fn new(lm: &'a LongNetLM, tokenizer: &dyn Tokenizer, config: &Config) -> Self {
        let generate = &config.generate;
        let prompt = match generate.prompt.as_str() {
            "" => "\n",
            prompt => prompt,
        };
        Self {
            lm,
            sampler: Sampler::new(generate),
            context: config.data.context,
            tokens: tokenizer.encode(prompt.as_bytes()),
            left: generate.tokens,
        }
    }
}

impl Iterator for Generator<'_> {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        self.left = self.left.checked_sub(1)?;
        let start = self.tokens.len().saturating_sub(self.context);
        let window = self.tokens[start..].to_vec();
        let n = window.len();
        let device = &self.lm.devices()[0];
        let window = Tensor::<2, Int>::from_data(TensorData::new(window, [1, n]), device);
        let hidden = self.lm.forward_hidden(window).slice_dim(1, n - 1..n);
        let logits = self.lm.logits(hidden).try_into_vec_as::<f32>();
        let logits = logits.expect("the device computes logits");
        let token = self.sampler.draw(&logits) as i32;
        self.tokens.push(token);
        Some(token)
    }
}
