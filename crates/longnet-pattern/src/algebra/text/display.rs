//! From a pattern to text that reads back as the same.

use super::signature::{HEAD_OPTIONS, HEADS, OFFSET_OPTIONS, OFFSETS, TAIL_OPTIONS, TAILS};
use crate::algebra::{BlockPattern, Branches};
use std::fmt::{Display, Formatter, Result};

/// How tightly a pattern's outermost operator binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Union,
    Intersection,
    Difference,
    Single,
}

impl Display for BlockPattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let name = self.name();
        match self {
            Self::All | Self::Empty => f.write_str(name),
            Self::Window(tokens)
            | Self::Global(tokens)
            | Self::GlobalRows(tokens)
            | Self::GlobalColumns(tokens)
            | Self::Sink(tokens)
            | Self::Strided(tokens) => write!(f, "{name}({tokens})"),
            Self::Dilated { rates, reach } => match rates[..] {
                [rate] => write!(f, "{name}({rate}, {reach})"),
                _ => write!(f, "{name}({rates:?}, {reach})"),
            },
            Self::Hierarchical(levels) if levels.is_empty() => write!(f, "empty"),
            Self::Hierarchical(levels) => list(f, name, levels, |f, level| match level.window {
                Some(window) => write!(f, "{}/{window}", level.stride),
                None => write!(f, "{}/all", level.stride),
            }),
            Self::Fixed { stride, summary } => write!(f, "{name}({stride}, {summary})"),
            Self::Random { blocks, seed } => {
                write!(f, "{name}({blocks}{})", Seed(*seed))
            }
            Self::Density { of, target, seed } => {
                // Not -0, which is no number of the text.
                let target = target + 0.0;
                write!(f, "{name}({of}, {target}{})", Seed(*seed))
            }
            Self::Blocks(pairs) if pairs.is_empty() => write!(f, "empty"),
            Self::Blocks(pairs) => list(f, name, pairs, |f, [i, j]| write!(f, "{i}:{j}")),
            Self::BlockBranch { segment, dilation } => {
                write!(f, "{name}({segment}, {dilation})")
            }
            Self::Branches(branches) => write!(f, "{branches}"),
            Self::Union(of) => match &of[..] {
                [] => write!(f, "empty"),
                [one] => write!(f, "{one}"),
                _ => joined(f, of, " | ", Binding::Intersection),
            },
            Self::Intersection(of) => match &of[..] {
                [] => write!(f, "all"),
                [one] => write!(f, "{one}"),
                _ => joined(f, of, " & ", Binding::Difference),
            },
            Self::Difference { from, without } => {
                part(f, from, Binding::Difference)?;
                f.write_str(" - ")?;
                part(f, without, Binding::Single)
            }
            Self::Heads(entries) => {
                f.write_str("[")?;
                for (at, entry) in entries.iter().enumerate() {
                    f.write_str(if at > 0 { ", " } else { "" })?;
                    write!(f, "{}", entry.pattern)?;
                    if entry.heads != 1 {
                        write!(f, " x {}", entry.heads)?;
                    }
                }
                f.write_str("]")
            }
        }
    }
}

impl Display for Branches {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("branches(")?;
        for (at, branch) in self.branches.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            write!(f, "{}/{}", branch.segment, branch.dilation)?;
        }
        let heads = HEAD_OPTIONS.iter().position(|x| *x == self.head_assignment);
        let offset = OFFSET_OPTIONS.iter().position(|x| *x == self.head_offset);
        let tail = TAIL_OPTIONS.iter().position(|x| *x == self.tail);
        for (name, words, word) in [
            ("heads", HEADS, heads),
            ("offset", OFFSETS, offset),
            ("tail", TAILS, tail),
        ] {
            // The first is the default.
            if let Some(word) = word.filter(|word| *word > 0) {
                write!(f, ", {name} = {}", words[word])?;
            }
        }
        f.write_str(")")
    }
}

/// An argument that is left out where it is 0.
struct Seed(u64);

impl Display for Seed {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            0 => Ok(()),
            seed => write!(f, ", seed = {seed}"),
        }
    }
}

fn list<T>(
    f: &mut Formatter<'_>,
    name: &str,
    items: &[T],
    write: impl Fn(&mut Formatter<'_>, &T) -> Result,
) -> Result {
    write!(f, "{name}(")?;
    for (at, item) in items.iter().enumerate() {
        f.write_str(if at > 0 { ", " } else { "" })?;
        write(f, item)?;
    }
    f.write_str(")")
}

fn joined(f: &mut Formatter<'_>, of: &[BlockPattern], sign: &str, least: Binding) -> Result {
    for (at, pattern) in of.iter().enumerate() {
        f.write_str(if at > 0 { sign } else { "" })?;
        part(f, pattern, least)?;
    }
    Ok(())
}

/// In parentheses if it binds less than `least`.
fn part(f: &mut Formatter<'_>, pattern: &BlockPattern, least: Binding) -> Result {
    match binding(pattern) < least {
        true => write!(f, "({pattern})"),
        false => write!(f, "{pattern}"),
    }
}

fn binding(pattern: &BlockPattern) -> Binding {
    match pattern {
        BlockPattern::Union(of) | BlockPattern::Intersection(of) if of.len() == 1 => {
            binding(&of[0])
        }
        BlockPattern::Union(of) if !of.is_empty() => Binding::Union,
        BlockPattern::Intersection(of) if !of.is_empty() => Binding::Intersection,
        BlockPattern::Difference { .. } => Binding::Difference,
        _ => Binding::Single,
    }
}
