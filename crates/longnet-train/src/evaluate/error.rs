//! What cannot be measured.

/// Why an evaluation cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A length that the position encoding does not reach.
    #[error("eval.lengths: {length}: model.positions = \"{positions}\": {reason}")]
    Positions {
        /// The length.
        length: usize,
        /// The position encoding.
        positions: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// A length for which the attention cannot be built.
    #[error("eval.lengths: {length}: {reason}; choose other lengths")]
    Attention {
        /// The length.
        length: usize,
        /// Why.
        reason: String,
    },
    /// A length that the text does not reach.
    #[error(
        "eval.lengths: {length}: the {label} text has {tokens} tokens to score, and one window takes {length} + 1; choose shorter lengths, a larger eval.text_tokens, or more text"
    )]
    ShortText {
        /// The length.
        length: usize,
        /// What the text is called.
        label: &'static str,
        /// Its tokens.
        tokens: u64,
    },
    /// Windows that would leave tokens out.
    #[error(
        "eval.sliding: windows of {length} tokens cannot be moved by {stride}, which would leave tokens out; at most the shortest length works"
    )]
    Stride {
        /// The shortest length.
        length: usize,
        /// The stride.
        stride: usize,
    },
    /// No length has room for a task.
    #[error(
        "eval.lengths: {task} needs {least} tokens or more, and the longest length is {longest}; choose longer ones or leave {task} out of eval.tasks"
    )]
    NoRoom {
        /// The task.
        task: &'static str,
        /// The least it needs.
        least: usize,
        /// The longest length.
        longest: usize,
    },
}

impl EvalError {
    /// The field of the config that is to blame.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Stride { .. } => "eval.sliding",
            _ => "eval.lengths",
        }
    }
}
