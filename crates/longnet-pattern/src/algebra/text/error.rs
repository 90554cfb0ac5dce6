//! What is wrong with a text, and where.

use std::fmt;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    line: usize,
    column: usize,
    lines: usize,
    what: String,
    remedy: String,
}

impl ParseError {
    /// At a byte of the text.
    pub(super) fn new(
        text: &str,
        at: usize,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            lines: text.matches('\n').count() + 1,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column of the line in characters, from 1.
    pub fn column(&self) -> usize {
        self.column
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at ", self.what)?;
        if self.lines > 1 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "column {}; {}", self.column, self.remedy)
    }
}

impl std::error::Error for ParseError {}
