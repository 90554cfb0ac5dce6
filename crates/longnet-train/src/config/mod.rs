//! The configuration: sections, where their values come from, and what is wrong with them.
//!
//! Each section is one struct, declared with a line of documentation and a default per field
//! ([`sections`]). [`Resolved::load`] reads a file and `--set` assignments over the defaults and
//! checks the result; every error names its file and line.

mod check;
mod error;
mod lower;
mod pattern;
mod recompute;
mod schema;
mod section;
pub mod sections;
mod show;
mod source;
pub mod stage;
mod suggest;
mod value;

pub use error::{ConfigError, ConfigErrors};
pub use recompute::Recompute;
pub use section::{Field, Section};
pub use source::{Origin, Resolved, quoted};
pub use stage::Stage;
pub(crate) use suggest::closest;

use sections::{Attention, Data, Eval, Generate, Model, Parallel, Train};

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The network.
    pub model: Model,
    /// The attention pattern.
    pub attention: Attention,
    /// The text to learn.
    pub data: Data,
    /// Optimisation, evaluation and checkpoints.
    pub train: Train,
    /// Several ranks.
    pub parallel: Parallel,
    /// Sampling.
    pub generate: Generate,
    /// Evaluation.
    pub eval: Eval,
}

impl Config {
    /// The sections, in the order they are shown.
    pub fn sections(&self) -> [&dyn Section; 7] {
        [
            &self.model,
            &self.attention,
            &self.data,
            &self.train,
            &self.parallel,
            &self.generate,
            &self.eval,
        ]
    }

    fn sections_mut(&mut self) -> [&mut dyn Section; 7] {
        [
            &mut self.model,
            &mut self.attention,
            &mut self.data,
            &mut self.train,
            &mut self.parallel,
            &mut self.generate,
            &mut self.eval,
        ]
    }
}
