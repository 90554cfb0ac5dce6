//! The patterns that a text may name, their arguments, and what they make.

use super::super::{BlockPattern, Branches, Level};
use crate::{Branch, HeadAssignment, HeadOffset, Tail};

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number up to 2^48.
    Number,
    /// A whole number of 64 bits.
    Seed,
    /// A number from 0 to 1.
    Share,
    /// A whole number or several in brackets.
    Numbers,
    /// A pattern.
    Pattern,
    /// Two numbers with a sign between, as often as one likes. The second may be `all`, if that is allowed.
    Pairs { sign: char, all: bool },
    /// One of some words.
    Word(&'static [&'static str]),
}

/// An argument of a pattern.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    pub optional: bool,
}

/// The value of an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(u64),
    Share(f64),
    Numbers(Vec<usize>),
    Pattern(BlockPattern),
    Pairs(Vec<(usize, Option<usize>)>),
    Word(usize),
}

/// A pattern that text may name.
pub struct Signature {
    pub name: &'static str,
    pub parameters: &'static [Parameter],
    /// How it is written, for messages.
    pub example: &'static str,
    /// From the values in the order of the parameters. `None`: not given.
    pub make: fn(Values) -> BlockPattern,
}

/// Values in the order of the parameters.
pub struct Values(pub std::vec::IntoIter<Option<Value>>);

impl Values {
    fn number64(&mut self) -> u64 {
        match self.0.next().flatten() {
            Some(Value::Number(number)) => number,
            _ => 0,
        }
    }

    fn number(&mut self) -> usize {
        self.number64() as usize
    }

    fn share(&mut self) -> f64 {
        match self.0.next().flatten() {
            Some(Value::Share(share)) => share,
            _ => 0.0,
        }
    }

    fn numbers(&mut self) -> Vec<usize> {
        match self.0.next().flatten() {
            Some(Value::Numbers(numbers)) => numbers,
            _ => Vec::new(),
        }
    }

    fn pattern(&mut self) -> BlockPattern {
        match self.0.next().flatten() {
            Some(Value::Pattern(pattern)) => pattern,
            _ => BlockPattern::Empty,
        }
    }

    fn pairs(&mut self) -> Vec<(usize, Option<usize>)> {
        match self.0.next().flatten() {
            Some(Value::Pairs(pairs)) => pairs,
            _ => Vec::new(),
        }
    }

    /// The option of an index into the words; the first if it is not given.
    fn word<T: Copy>(&mut self, options: &[T]) -> T {
        match self.0.next().flatten() {
            Some(Value::Word(word)) => options[word],
            _ => options[0],
        }
    }
}

const fn of(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        optional: false,
    }
}

const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter {
        name,
        kind,
        optional: true,
    }
}

const TOKENS: &[Parameter] = &[of("tokens", Kind::Number)];
const SEED: Parameter = optional("seed", Kind::Seed);

/// The words for the options of branches, the default first.
pub const HEADS: &[&str] = &["all", "grouped"];
pub const OFFSETS: &[&str] = &["modulo", "by_group"];
pub const TAILS: &[&str] = &["masked", "zero_keys"];
pub const HEAD_OPTIONS: [HeadAssignment; 2] = [HeadAssignment::All, HeadAssignment::Grouped];
pub const OFFSET_OPTIONS: [HeadOffset; 2] = [HeadOffset::Modulo, HeadOffset::ByGroup];
pub const TAIL_OPTIONS: [Tail; 2] = [Tail::Masked, Tail::ZeroKeys];

pub const SIGNATURES: &[Signature] = &[
    Signature {
        name: "all",
        parameters: &[],
        example: "all",
        make: |_| BlockPattern::All,
    },
    Signature {
        name: "empty",
        parameters: &[],
        example: "empty",
        make: |_| BlockPattern::Empty,
    },
    Signature {
        name: "window",
        parameters: TOKENS,
        example: "window(1024)",
        make: |mut v| BlockPattern::Window(v.number()),
    },
    Signature {
        name: "dilated",
        parameters: &[of("rates", Kind::Numbers), of("reach", Kind::Number)],
        example: "dilated([1, 2, 4], 3)",
        make: |mut v| BlockPattern::Dilated {
            rates: v.numbers(),
            reach: v.number(),
        },
    },
    Signature {
        name: "global",
        parameters: TOKENS,
        example: "global(128)",
        make: |mut v| BlockPattern::Global(v.number()),
    },
    Signature {
        name: "global_rows",
        parameters: TOKENS,
        example: "global_rows(128)",
        make: |mut v| BlockPattern::GlobalRows(v.number()),
    },
    Signature {
        name: "global_columns",
        parameters: TOKENS,
        example: "global_columns(128)",
        make: |mut v| BlockPattern::GlobalColumns(v.number()),
    },
    Signature {
        name: "sink",
        parameters: TOKENS,
        example: "sink(128)",
        make: |mut v| BlockPattern::Sink(v.number()),
    },
    Signature {
        name: "hierarchical",
        parameters: &[of(
            "levels",
            Kind::Pairs {
                sign: '/',
                all: true,
            },
        )],
        example: "hierarchical(64/256, 256/1024, 1024/all)",
        make: |mut v| {
            let level = |(stride, window)| Level { stride, window };
            BlockPattern::Hierarchical(v.pairs().into_iter().map(level).collect())
        },
    },
    Signature {
        name: "strided",
        parameters: TOKENS,
        example: "strided(2048)",
        make: |mut v| BlockPattern::Strided(v.number()),
    },
    Signature {
        name: "fixed",
        parameters: &[of("stride", Kind::Number), of("summary", Kind::Number)],
        example: "fixed(2048, 128)",
        make: |mut v| BlockPattern::Fixed {
            stride: v.number(),
            summary: v.number(),
        },
    },
    Signature {
        name: "random",
        parameters: &[of("blocks", Kind::Number), SEED],
        example: "random(3, seed = 7)",
        make: |mut v| BlockPattern::Random {
            blocks: v.number(),
            seed: v.number64(),
        },
    },
    Signature {
        name: "density",
        parameters: &[of("of", Kind::Pattern), of("target", Kind::Share), SEED],
        example: "density(window(1024), 0.1, seed = 7)",
        make: |mut v| BlockPattern::Density {
            of: Box::new(v.pattern()),
            target: v.share(),
            seed: v.number64(),
        },
    },
    Signature {
        name: "blocks",
        parameters: &[of(
            "pairs",
            Kind::Pairs {
                sign: ':',
                all: false,
            },
        )],
        example: "blocks(0:0, 1:0, 1:1)",
        make: |mut v| {
            let pair = |(row, column): (usize, Option<usize>)| [row, column.unwrap_or(0)];
            BlockPattern::Blocks(v.pairs().into_iter().map(pair).collect())
        },
    },
    Signature {
        name: "block_branch",
        parameters: &[of("segment", Kind::Number), of("dilation", Kind::Number)],
        example: "block_branch(2048, 2)",
        make: |mut v| BlockPattern::BlockBranch {
            segment: v.number(),
            dilation: v.number(),
        },
    },
    Signature {
        name: "branches",
        parameters: &[
            of(
                "branches",
                Kind::Pairs {
                    sign: '/',
                    all: false,
                },
            ),
            optional("heads", Kind::Word(HEADS)),
            optional("offset", Kind::Word(OFFSETS)),
            optional("tail", Kind::Word(TAILS)),
        ],
        example: "branches(2048/1, 4096/2)",
        make: |mut v| {
            let branch = |(segment, dilation): (usize, Option<usize>)| Branch {
                segment,
                dilation: dilation.unwrap_or(1),
            };
            BlockPattern::Branches(Branches {
                branches: v.pairs().into_iter().map(branch).collect(),
                head_assignment: v.word(&HEAD_OPTIONS),
                head_offset: v.word(&OFFSET_OPTIONS),
                tail: v.word(&TAIL_OPTIONS),
            })
        },
    },
    Signature {
        name: "bigbird",
        parameters: &[
            of("window", Kind::Number),
            of("global", Kind::Number),
            of("random", Kind::Number),
            SEED,
        ],
        example: "bigbird(1024, 128, 3, seed = 7)",
        make: |mut v| BlockPattern::bigbird(v.number(), v.number(), v.number(), v.number64()),
    },
    Signature {
        name: "longformer",
        parameters: &[of("window", Kind::Number), of("global", Kind::Number)],
        example: "longformer(1024, 128)",
        make: |mut v| BlockPattern::longformer(v.number(), v.number()),
    },
    Signature {
        name: "streaming",
        parameters: &[of("sink", Kind::Number), of("window", Kind::Number)],
        example: "streaming(128, 1024)",
        make: |mut v| BlockPattern::streaming(v.number(), v.number()),
    },
];
