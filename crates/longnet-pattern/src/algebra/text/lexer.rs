//! From text to tokens.

use super::ParseError;

/// A token and the byte where it starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Token<'a> {
    pub at: usize,
    pub kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'a> {
    /// Letters, digits and underscores, not starting with a digit.
    Name(&'a str),
    /// Digits, underscores and at most one point, starting with a digit.
    Number(&'a str),
    /// One of `( ) [ ] , | & - / : =`.
    Sign(char),
    End,
}

impl std::fmt::Display for Kind<'_> {
    /// As a message names it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(text) | Self::Number(text) => write!(f, "'{}'", shorten(text)),
            Self::Sign(sign) => write!(f, "'{sign}'"),
            Self::End => write!(f, "the end"),
        }
    }
}

/// The start of a text that may be long.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(32) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// All tokens; the last is the end.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut tokens = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some(&(at, c)) = rest.peek() {
        if c.is_whitespace() {
            rest.next();
            continue;
        }
        let word = |x: char| x.is_ascii_alphanumeric() || x == '_';
        let number = |x: char| x.is_ascii_digit() || x == '_' || x == '.';
        let long: Option<&dyn Fn(char) -> bool> = match c {
            'a'..='z' | 'A'..='Z' | '_' => Some(&word),
            '0'..='9' => Some(&number),
            _ => None,
        };
        let kind = match long {
            Some(inside) => {
                while rest.next_if(|&(_, x)| inside(x)).is_some() {}
                let end = rest.peek().map_or(text.len(), |&(end, _)| end);
                match c.is_ascii_digit() {
                    true => Kind::Number(&text[at..end]),
                    false => Kind::Name(&text[at..end]),
                }
            }
            None if "()[],|&-/:=".contains(c) => {
                rest.next();
                Kind::Sign(c)
            }
            None => {
                let what = format!("unexpected character {c:?}");
                let remedy =
                    "patterns are names with arguments, such as window(1024) | global(128)";
                return Err(ParseError::new(text, at, what, remedy));
            }
        };
        tokens.push(Token { at, kind });
    }
    tokens.push(Token {
        at: text.len(),
        kind: Kind::End,
    });
    Ok(tokens)
}
