//! From tokens to a pattern: recursive descent, in the order in which operators bind.

use super::ParseError;
use super::lexer::{Kind as Lexeme, Token, shorten, tokens};
use super::signature::{Kind, Parameter, SIGNATURES, Signature, Value, Values};
use crate::algebra::check::DEEPEST;
use crate::algebra::{BlockPattern, HeadEntry};
use crate::dilated::LARGEST;

pub fn parse(text: &str) -> Result<BlockPattern, ParseError> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        text,
        tokens: &tokens,
        // A level of the pattern may be one of parentheses and one of an operator.
        deeper: 2 * DEEPEST + 2,
    };
    let pattern = parser.union()?;
    if parser.next() != Lexeme::End {
        return Err(parser.unexpected("join patterns with |, & or -"));
    }
    match pattern.depth() > DEEPEST {
        true => Err(parser.too_deep()),
        false => Ok(pattern),
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Those left. The last one is the end, which is never taken.
    tokens: &'a [Token<'a>],
    /// How many more levels there may be.
    deeper: usize,
}

impl<'a> Parser<'a> {
    fn next(&self) -> Lexeme<'a> {
        self.tokens[0].kind
    }

    fn at(&self) -> usize {
        self.tokens[0].at
    }

    fn take(&mut self) -> Lexeme<'a> {
        let kind = self.next();
        if kind != Lexeme::End {
            self.tokens = &self.tokens[1..];
        }
        kind
    }

    fn take_sign(&mut self, sign: char) -> bool {
        let found = self.next() == Lexeme::Sign(sign);
        if found {
            self.take();
        }
        found
    }

    fn require(&mut self, sign: char, remedy: &str) -> Result<(), ParseError> {
        match self.take_sign(sign) {
            true => Ok(()),
            false => Err(self.unexpected(remedy)),
        }
    }

    fn error(&self, at: usize, what: impl Into<String>, remedy: impl Into<String>) -> ParseError {
        ParseError::new(self.text, at, what, remedy)
    }

    fn unexpected(&self, remedy: impl Into<String>) -> ParseError {
        self.error(self.at(), format!("unexpected {}", self.next()), remedy)
    }

    fn too_deep(&self) -> ParseError {
        let remedy = "write the pattern with fewer parentheses, and a - (b | c) for a - b - c";
        self.error(self.at(), format!("more than {DEEPEST} levels"), remedy)
    }

    /// One level down.
    fn inside<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        let Some(deeper) = self.deeper.checked_sub(1) else {
            return Err(self.too_deep());
        };
        let before = std::mem::replace(&mut self.deeper, deeper);
        let read = read(self)?;
        self.deeper = before;
        Ok(read)
    }

    /// `a | b | ...`
    fn union(&mut self) -> Result<BlockPattern, ParseError> {
        let mut of = vec![self.inside(Self::intersection)?];
        while self.take_sign('|') {
            of.push(self.inside(Self::intersection)?);
        }
        Ok(one_or(of, BlockPattern::Union))
    }

    /// `a & b & ...`
    fn intersection(&mut self) -> Result<BlockPattern, ParseError> {
        let mut of = vec![self.difference()?];
        while self.take_sign('&') {
            of.push(self.difference()?);
        }
        Ok(one_or(of, BlockPattern::Intersection))
    }

    /// `a - b - ...`, from the left.
    fn difference(&mut self) -> Result<BlockPattern, ParseError> {
        let mut pattern = self.single()?;
        let mut depth = pattern.depth();
        while self.take_sign('-') {
            pattern = pattern - self.single()?;
            depth += 1;
            if depth > DEEPEST {
                return Err(self.too_deep());
            }
        }
        Ok(pattern)
    }

    /// A pattern by name, in parentheses, or a list of heads.
    fn single(&mut self) -> Result<BlockPattern, ParseError> {
        let at = self.at();
        if self.take_sign('(') {
            let pattern = self.inside(Self::union)?;
            self.require(')', "close the parenthesis with ')'")?;
            return Ok(pattern);
        }
        if self.take_sign('[') {
            return self.inside(Self::heads);
        }
        let Lexeme::Name(name) = self.next() else {
            return Err(self.unexpected("give a pattern, such as window(1024)"));
        };
        self.take();
        let Some(signature) = SIGNATURES.iter().find(|s| s.name == name) else {
            let names = || SIGNATURES.iter().map(|s| s.name);
            let remedy = match closest(name, names()) {
                Some(name) => format!("did you mean '{name}'?"),
                None => format!("use one of {}", names().collect::<Vec<_>>().join(", ")),
            };
            let what = format!("unknown pattern '{}'", shorten(name));
            return Err(self.error(at, what, remedy));
        };
        if signature.parameters.is_empty() {
            return Ok((signature.make)(Values(Vec::new().into_iter())));
        }
        let remedy = format!("write {}", signature.example);
        self.require('(', &remedy)?;
        self.inside(|parser| parser.arguments(signature))
    }

    /// The rest of `[a x 4, b x 4]`.
    fn heads(&mut self) -> Result<BlockPattern, ParseError> {
        let mut entries = Vec::new();
        loop {
            let pattern = self.union()?;
            let heads = self.multiplier()?.unwrap_or(1);
            entries.push(HeadEntry { pattern, heads });
            if self.take_sign(']') {
                return Ok(BlockPattern::Heads(entries));
            }
            let remedy = "go on with ',', a number of heads such as x 4, or ']'";
            self.require(',', remedy)?;
            if self.take_sign(']') {
                return Ok(BlockPattern::Heads(entries));
            }
        }
    }

    /// `x 4` or `x4`, if it is there.
    fn multiplier(&mut self) -> Result<Option<usize>, ParseError> {
        let Lexeme::Name(name) = self.next() else {
            return Ok(None);
        };
        let Some(digits) = name.strip_prefix('x') else {
            return Ok(None);
        };
        let mut at = self.at();
        let heads = if digits.is_empty() {
            self.take();
            at = self.at();
            self.count()?
        } else {
            match digits.parse() {
                Ok(heads) if heads <= LARGEST => {
                    self.take();
                    heads
                }
                _ => return Err(self.unexpected("give a number of heads, such as x 4")),
            }
        };
        match heads {
            0 => {
                let remedy = "give at least 1, or leave the entry out";
                Err(self.error(at, "an entry for 0 heads", remedy))
            }
            heads => Ok(Some(heads)),
        }
    }

    /// The rest of `name(1, b = 2)`.
    fn arguments(&mut self, signature: &Signature) -> Result<BlockPattern, ParseError> {
        let parameters = signature.parameters;
        let mut values: Vec<Option<Value>> = vec![None; parameters.len()];
        let mut place = 0;
        let mut named = false;
        while self.next() != Lexeme::Sign(')') {
            let at = self.at();
            let index = match self.argument_name() {
                Some(name) => {
                    named = true;
                    self.parameter(signature, name, at)?
                }
                None if named => {
                    let remedy = "give arguments without a name before those with one";
                    return Err(self.unexpected(remedy));
                }
                None => {
                    let pairs = |p: &&Parameter| matches!(p.kind, Kind::Pairs { .. });
                    // Pairs take all arguments without a name.
                    let first = parameters.first().filter(pairs).map(|_| 0);
                    let index = first.unwrap_or(place);
                    place += 1;
                    if index == parameters.len() {
                        let what = format!("too many arguments of '{}'", signature.name);
                        let remedy = format!("write {}", signature.example);
                        return Err(self.error(at, what, remedy));
                    }
                    index
                }
            };
            let parameter = &parameters[index];
            let value = self.value(parameter, signature)?;
            match (&mut values[index], value) {
                (empty @ None, value) => *empty = Some(value),
                (Some(Value::Pairs(pairs)), Value::Pairs(more)) => pairs.extend(more),
                _ => {
                    let what = format!("a second value for '{}'", parameter.name);
                    return Err(self.error(at, what, "give each argument once"));
                }
            }
            if !self.take_sign(',') {
                break;
            }
        }
        let missing = (parameters.iter().zip(&values)).find(|(p, v)| !p.optional && v.is_none());
        if let Some((parameter, _)) = missing {
            let what = format!("'{}' is missing for '{}'", parameter.name, signature.name);
            let remedy = format!("write {}", signature.example);
            return Err(self.error(self.at(), what, remedy));
        }
        self.require(')', "go on with ',' or ')'")?;
        Ok((signature.make)(Values(values.into_iter())))
    }

    /// The name in front of `=`, if there is one.
    fn argument_name(&mut self) -> Option<&'a str> {
        let (Lexeme::Name(name), Some(second)) = (self.next(), self.tokens.get(1)) else {
            return None;
        };
        (second.kind == Lexeme::Sign('=')).then(|| {
            self.take();
            self.take();
            name
        })
    }

    fn parameter(&self, signature: &Signature, name: &str, at: usize) -> Result<usize, ParseError> {
        let names = || signature.parameters.iter().map(|p| p.name);
        if let Some(index) = names().position(|known| known == name) {
            return Ok(index);
        }
        let (pattern, short) = (signature.name, shorten(name));
        let remedy = match closest(name, names()) {
            Some(name) => format!("did you mean '{name}'?"),
            None => format!("it takes {}", names().collect::<Vec<_>>().join(", ")),
        };
        Err(self.error(at, format!("'{pattern}' has no argument '{short}'"), remedy))
    }

    fn value(&mut self, parameter: &Parameter, signature: &Signature) -> Result<Value, ParseError> {
        Ok(match parameter.kind {
            Kind::Seed => Value::Number(self.whole(u64::MAX)?),
            Kind::Number => Value::Number(self.whole(LARGEST as u64)?),
            Kind::Share => Value::Share(self.share()?),
            Kind::Pattern => Value::Pattern(self.union()?),
            Kind::Numbers => {
                let mut numbers = Vec::new();
                if !self.take_sign('[') {
                    numbers.push(self.count()?);
                    return Ok(Value::Numbers(numbers));
                }
                while !self.take_sign(']') {
                    numbers.push(self.count()?);
                    if self.next() != Lexeme::Sign(']') {
                        self.require(',', "go on with ',' or ']'")?;
                    }
                }
                Value::Numbers(numbers)
            }
            Kind::Pairs { sign, all } => {
                let first = self.count()?;
                self.require(sign, &format!("write {}", signature.example))?;
                let second = match self.next() {
                    Lexeme::Name("all") if all => {
                        self.take();
                        None
                    }
                    _ => Some(self.count()?),
                };
                Value::Pairs(vec![(first, second)])
            }
            Kind::Word(words) => match self.next() {
                Lexeme::Name(word) if words.contains(&word) => {
                    self.take();
                    Value::Word(words.iter().position(|x| *x == word).unwrap_or(0))
                }
                _ => {
                    let remedy = format!("'{}' is {}", parameter.name, words.join(" or "));
                    return Err(self.unexpected(remedy));
                }
            },
        })
    }

    fn count(&mut self) -> Result<usize, ParseError> {
        Ok(self.whole(LARGEST as u64)? as usize)
    }

    fn whole(&mut self, most: u64) -> Result<u64, ParseError> {
        let Lexeme::Number(text) = self.next() else {
            return Err(self.unexpected("give a whole number"));
        };
        let digits = text.replace('_', "");
        match digits.parse() {
            Ok(number) if number <= most => {
                self.take();
                Ok(number)
            }
            _ if digits.contains('.') => Err(self.unexpected("give a whole number")),
            _ => Err(self.unexpected(format!("give a number up to {most}"))),
        }
    }

    fn share(&mut self) -> Result<f64, ParseError> {
        let remedy = "give a share of the blocks from 0 to 1, such as 0.1";
        let Lexeme::Number(text) = self.next() else {
            return Err(self.unexpected(remedy));
        };
        match text.replace('_', "").parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => {
                self.take();
                Ok(share)
            }
            _ => Err(self.unexpected(remedy)),
        }
    }
}

fn one_or(
    mut of: Vec<BlockPattern>,
    several: fn(Vec<BlockPattern>) -> BlockPattern,
) -> BlockPattern {
    match of.len() {
        1 => of.remove(0),
        _ => several(of),
    }
}

/// The candidate that a word is most likely a misspelling of, if any is close enough.
fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 32 {
        return None;
    }
    let word = word.to_lowercase();
    let likeness = |name: &str| {
        let prefix = word.len() > 2 && name.starts_with(&word);
        strsim::jaro_winkler(&word, name) + f64::from(u8::from(prefix))
    };
    (candidates.map(|name| (likeness(name), name)))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
