//! Block patterns as text: see the [table](crate::algebra#text).
//!
//! Reading is a function of the text alone, takes time in proportion to its length, and refuses texts above
//! 64 KiB or nested deeper than 64.

mod display;
mod error;
mod lexer;
mod parser;
mod signature;

pub use error::ParseError;

use super::BlockPattern;
use std::str::FromStr;

/// Longer texts are refused.
const LONGEST: usize = 1 << 16;

impl FromStr for BlockPattern {
    type Err = ParseError;

    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// The text is no pattern: the error names the place and a remedy.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > LONGEST {
            let what = format!("a pattern of {} bytes", text.len());
            let remedy = format!("write at most {LONGEST}, or build the mask from rows");
            return Err(ParseError::new(text, 0, what, remedy));
        }
        parser::parse(text)
    }
}
