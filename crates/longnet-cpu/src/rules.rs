//! What masks or drops single pairs inside of a tile.

use crate::buffer::Buffer;
use crate::kernels::Kernels;
use crate::problem::Problem;
use crate::real::Real;
use longnet_pattern::dropout::mix;
use longnet_pattern::{HIDDEN, Progression, labels_match};

/// Labels and dropout of one batch entry and query head.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    labels: Option<[&'a [i32]; 2]>,
    dropout: Option<Draws>,
    /// Positions of the queries and the keys.
    positions: [Progression; 2],
}

#[derive(Clone, Copy)]
struct Draws {
    key: u32,
    threshold: u32,
    scale: f64,
}

/// One row or column of a tile.
#[derive(Clone, Copy)]
pub struct Token {
    label: i32,
    /// Its half of the dropout generator.
    word: u32,
}

/// Which rows of a tile's columns a row may see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    Nothing,
    Some,
    Everything,
}

impl<'a> Rules<'a> {
    pub fn new(problem: &Problem<'a>, batch: usize, heads: usize, head: usize) -> Self {
        let span = problem.schedule.span();
        Self {
            labels: problem.labels.map(|l| {
                [
                    &l.q[batch * span.n_q..][..span.n_q],
                    &l.k[batch * span.n_k..][..span.n_k],
                ]
            }),
            dropout: problem.dropout.filter(|d| d.p > 0.0).map(|d| Draws {
                key: d.key(batch, heads, head),
                // Where p is 1 the scale is 0, so the one draw that passes does not count.
                threshold: d.threshold().min(u32::MAX as u64) as u32,
                scale: d.scale(),
            }),
            positions: [span.queries(), span.keys()],
        }
    }

    /// Whether any weight is dropped.
    pub fn drops(&self) -> bool {
        self.dropout.is_some()
    }

    /// Query row `a`.
    #[inline]
    pub fn query(&self, a: usize) -> Token {
        let position = self.positions[0].at(a) as u32;
        Token {
            label: self.labels.map_or(0, |[q, _]| q[a]),
            word: self
                .dropout
                .map_or(0, |d| mix(d.key.wrapping_add(position))),
        }
    }

    /// Key row `b`.
    #[inline]
    pub fn key(&self, b: usize) -> Token {
        let position = self.positions[1].at(b) as u32;
        Token {
            label: self.labels.map_or(0, |[_, k]| k[b]),
            word: self.dropout.map_or(0, |_| mix(position)),
        }
    }

    /// Whether key rows have tokens that differ: else [`Columns`] need not be loaded.
    pub fn any(&self) -> bool {
        self.labels.is_some() || self.drops()
    }

    /// Whether the labels let query row `a` see key row `b`.
    #[inline]
    pub fn sees(&self, a: usize, b: usize) -> bool {
        self.labels.is_none_or(|[q, k]| labels_match(q[a], k[b]))
    }

    /// Whether no query sees key row `b`, so that it may hold anything.
    #[inline]
    pub fn hides(&self, b: usize) -> bool {
        self.labels.is_some_and(|[_, k]| k[b] == HIDDEN)
    }

    /// Dropout factors of a row over `columns` from `start` on.
    pub fn factors<R: Real>(
        &self,
        kernels: &Kernels<R>,
        factors: &mut [R],
        row: Token,
        columns: &Columns,
        start: usize,
    ) {
        if let Some(Draws {
            threshold, scale, ..
        }) = self.dropout
        {
            let words = &columns.words[start..];
            kernels.keep(factors, row.word, words, threshold, R::from_f64(scale));
        }
    }
}

/// The columns of a tile.
#[derive(Default)]
pub struct Columns {
    labels: Vec<i32>,
    words: Vec<u32>,
    least: i32,
    most: i32,
}

impl Columns {
    /// Takes the tokens of `indices`.
    pub fn load(&mut self, indices: Progression, token: impl Fn(usize) -> Token) {
        self.load_each(indices.iter(), token);
    }

    /// The same for indices that need not be evenly spaced.
    pub fn load_each(
        &mut self,
        indices: impl Iterator<Item = usize>,
        token: impl Fn(usize) -> Token,
    ) {
        self.labels.clear();
        self.words.clear();
        for index in indices {
            let Token { label, word } = token(index);
            self.labels.push(label);
            self.words.push(word);
        }
        self.least = self.labels.iter().copied().min().unwrap_or(HIDDEN);
        self.most = self.labels.iter().copied().max().unwrap_or(HIDDEN);
    }

    /// What `row` may see of them.
    #[inline]
    pub fn sight(&self, row: Token) -> Sight {
        if row.label == HIDDEN || row.label < self.least || row.label > self.most {
            Sight::Nothing
        } else if self.least == self.most {
            Sight::Everything
        } else {
            Sight::Some
        }
    }

    /// Sets the scores of a row to `-inf` outside of `visible` and where labels differ. `s` holds the
    /// columns from `start` on; `visible` counts from the first column.
    pub fn mask<R: Real>(
        &self,
        s: &mut [R],
        start: usize,
        visible: std::ops::Range<usize>,
        row: Token,
    ) {
        let sight = self.sight(row);
        let end = match sight {
            Sight::Nothing => start,
            _ => visible.end.clamp(start, start + s.len()),
        };
        let from = visible.start.clamp(start, end);
        s[..from - start].fill(R::NEG_INFINITY);
        s[end - start..].fill(R::NEG_INFINITY);
        if sight == Sight::Some {
            let labels = &self.labels[from..end];
            for (s, &label) in s[from - start..end - start].iter_mut().zip(labels) {
                if !labels_match(row.label, label) {
                    *s = R::NEG_INFINITY;
                }
            }
        }
    }
}

/// Scratch for the dropout factors of one row.
pub fn factor_row<R: Real>(rules: bool, columns: usize) -> Buffer<R> {
    Buffer::new(if rules { columns } else { 0 })
}
