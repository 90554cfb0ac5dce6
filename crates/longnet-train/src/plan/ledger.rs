//! What is in memory, part by part.

use std::ops::{Index, IndexMut};

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The program's own code, its threads and what the run's framework holds.
    Program,
    /// The parameters.
    Weights,
    /// Their gradients.
    Gradients,
    /// The optimiser's state.
    Optimizer,
    /// What layers keep for the backward pass, and the gradients that pass through them.
    Activations,
    /// Queries, keys, values, results and tables of attention, and their gradients.
    Attention,
    /// Logits, and the gradients of the head.
    Loss,
    /// Room that matrix products need while they run.
    Workspace,
}

impl Part {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 8] = [
        Self::Program,
        Self::Weights,
        Self::Gradients,
        Self::Optimizer,
        Self::Activations,
        Self::Attention,
        Self::Loss,
        Self::Workspace,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Weights => "weights",
            Self::Gradients => "gradients",
            Self::Optimizer => "optimiser",
            Self::Activations => "activations",
            Self::Attention => "attention",
            Self::Loss => "loss",
            Self::Workspace => "workspace",
        }
    }
}

/// Bytes of each part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bytes([f64; Part::ALL.len()]);

impl Bytes {
    /// The sum of all parts.
    pub fn total(&self) -> f64 {
        self.0.iter().sum()
    }
}

impl Index<Part> for Bytes {
    type Output = f64;

    fn index(&self, part: Part) -> &f64 {
        &self.0[part as usize]
    }
}

impl IndexMut<Part> for Bytes {
    fn index_mut(&mut self, part: Part) -> &mut f64 {
        &mut self.0[part as usize]
    }
}

/// The worst moment of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// What is in memory then.
    pub memory: Bytes,
    /// The most that each part is at any moment.
    pub most: Bytes,
    /// What is done then.
    pub doing: &'static str,
}

/// Buffers as they come and go; knows the worst moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    now: Bytes,
    peak: Bytes,
    /// The most of each part, at moments of their own.
    most: Bytes,
    /// What happened at the worst moment.
    at: &'static str,
    doing: &'static str,
}

impl Ledger {
    /// Names what follows.
    pub fn begin(&mut self, doing: &'static str) {
        self.doing = doing;
    }

    /// A buffer that stays until [`free`](Self::free).
    pub fn hold(&mut self, part: Part, bytes: f64) {
        self.now[part] += bytes;
        self.most[part] = self.most[part].max(self.now[part]);
        if self.now.total() > self.peak.total() {
            self.peak = self.now;
            self.at = self.doing;
        }
    }

    /// The end of a buffer, or of several together.
    pub fn free(&mut self, part: Part, bytes: f64) {
        self.now[part] -= bytes;
        debug_assert!(self.now[part] > -1.0, "{part:?} in {}", self.doing);
    }

    /// A buffer that is there for a moment.
    pub fn touch(&mut self, part: Part, bytes: f64) {
        self.hold(part, bytes);
        self.free(part, bytes);
    }

    /// What is there now.
    #[cfg(test)]
    pub fn now(&self) -> Bytes {
        self.now
    }

    /// What was there at the worst moment.
    pub fn worst(&self) -> Moment {
        Moment {
            memory: self.peak,
            most: self.most,
            doing: self.at,
        }
    }
}
