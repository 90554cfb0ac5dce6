//! Continuing a sequence.

use super::lm::LongNetLM;
use super::sample::{Sampling, SamplingError};
use burn::tensor::{Int, Tensor, TensorData};
use std::ops::ControlFlow;

impl LongNetLM {
    /// Up to `count` tokens that continue `prompt`, each from a forward pass over the last
    /// `max_length` tokens before it. Dropout is off.
    ///
    /// # Panics
    ///
    /// If `prompt` is empty or has a token outside the vocabulary; if no token can be drawn, see
    /// [`SamplingError`].
    pub fn generate(&self, prompt: &[usize], count: usize, sampling: &Sampling) -> Vec<usize> {
        self.generate_while(prompt, count, sampling, |_| ControlFlow::Continue(()))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`generate`](Self::generate), handing each token to `each` at once, which may break off.
    ///
    /// # Errors
    ///
    /// No token can be drawn: the model has diverged, or `sampling` is out of range.
    ///
    /// # Panics
    ///
    /// If `prompt` is empty or has a token outside the vocabulary.
    pub fn generate_while(
        &self,
        prompt: &[usize],
        count: usize,
        sampling: &Sampling,
        mut each: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Vec<usize>, SamplingError> {
        let vocabulary = self.config().vocab_size;
        assert!(
            !prompt.is_empty(),
            "generation needs a prompt of at least one token"
        );
        if let Some(token) = prompt.iter().find(|token| **token >= vocabulary) {
            panic!("the prompt has token {token}, outside the vocabulary of {vocabulary}");
        }
        let model = burn::module::Module::valid(self);
        let device = model.embedding.weight.device();
        let mut tokens = prompt.to_vec();
        for step in 0..count {
            let context = &tokens[tokens.len().saturating_sub(self.config().max_length)..];
            let n = context.len();
            let ids = context.iter().map(|token| *token as i64).collect();
            let ids = TensorData::new::<i64, _>(ids, [1, n]);
            let hidden = model.forward_hidden(Tensor::<2, Int>::from_data(ids, &device));
            let last = model.logits(hidden.slice_dim(1, n - 1..n));
            let logits: Vec<f32> = last.into_data().iter::<f32>().collect();
            let token = sampling.choose(&logits, &tokens, step as u64)?;
            tokens.push(token);
            if each(token).is_break() {
                break;
            }
        }
        Ok(tokens.split_off(prompt.len()))
    }
}
