//! Which encoding attention uses, and its tables for one call.

use super::{Centre, Rotary, RotationTable, XPos, XPosError};
use crate::error::{ConfigError, check_positive};
use crate::pattern::ring::Shards;
use crate::pattern::{Pattern, Progression, Span};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How attention tells positions apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionPosition {
    /// Not at all.
    #[default]
    None,
    /// [`Rotary`].
    Rotary {
        /// The base of the frequencies.
        theta: f64,
    },
    /// [`XPos`].
    #[serde(rename = "xpos")]
    XPos {
        /// The base of the frequencies.
        theta: f64,
        /// The distance over which the fastest decaying pair falls to 2/7.
        scale_base: f64,
    },
}

/// The factors of queries and keys in one call.
#[derive(Clone, Debug)]
pub struct PositionTables {
    query: RotationTable,
    key: RotationTable,
}

impl PositionTables {
    /// Queries and keys, each `[batch, heads, positions, width]`, with their positions in them.
    ///
    /// # Panics
    ///
    /// If the shapes are not those that the tables were made for.
    pub fn apply(&self, query: Tensor<4>, key: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        (self.query.apply(query), self.key.apply(key))
    }
}

impl AttentionPosition {
    /// Rotary with the usual base of 10000.
    pub fn rotary() -> Self {
        let Rotary { theta } = Rotary::default();
        Self::Rotary { theta }
    }

    /// xPos with torchscale's bases, 10000 for the frequencies and 512 for the decay.
    pub fn xpos() -> Self {
        let Rotary { theta } = Rotary::default();
        Self::XPos {
            theta,
            scale_base: 512.0,
        }
    }

    /// Whether the numbers can work at all.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match *self {
            Self::None => Ok(()),
            Self::Rotary { theta } => check_positive("position.theta", theta),
            Self::XPos { theta, scale_base } => {
                check_positive("position.theta", theta)?;
                check_positive("position.scale_base", scale_base)
            }
        }
    }

    /// The tables of the positions in `span` of `pattern`, which only xPos asks for, for heads of `width` channels, or `None` without an
    /// encoding. Made without autodiff.
    ///
    /// # Errors
    ///
    /// [`XPosError`]: the factors would leave `dtype`.
    ///
    /// # Panics
    ///
    /// If `width` is odd and there is an encoding.
    pub fn tables(
        &self,
        pattern: impl FnOnce() -> Pattern,
        span: Span,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<PositionTables>, XPosError> {
        let used = span.q_start.min(span.k_start)..span.q_end().max(span.k_end());
        let positions = [vec![span.queries()], vec![span.keys()]];
        self.tables_of(pattern, positions, used, width, dtype, device)
    }

    /// As [`tables`](Self::tables), of the positions of `rank`: those that the tables of the whole sequence have there.
    ///
    /// # Errors
    ///
    /// As [`tables`](Self::tables).
    ///
    /// # Panics
    ///
    /// As [`tables`](Self::tables), and if there is no such rank.
    pub fn shard_tables(
        &self,
        pattern: impl FnOnce() -> Pattern,
        shards: &Shards,
        rank: usize,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<PositionTables>, XPosError> {
        let positions = [shards.chunks(rank), shards.chunks(rank)];
        self.tables_of(pattern, positions, 0..shards.n(), width, dtype, device)
    }

    /// `used`: a range that holds all positions of the sequence.
    fn tables_of(
        &self,
        pattern: impl FnOnce() -> Pattern,
        [query, key]: [Vec<Progression>; 2],
        used: Range<usize>,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<PositionTables>, XPosError> {
        let tables = match *self {
            Self::None => return Ok(None),
            Self::Rotary { theta } => {
                let table =
                    |positions: &[_]| Rotary { theta }.table_of(positions, width, dtype, device);
                let query_table = table(&query);
                let key = if key == query {
                    query_table.clone()
                } else {
                    table(&key)
                };
                PositionTables {
                    query: query_table,
                    key,
                }
            }
            Self::XPos { theta, scale_base } => {
                let centre = centre(&pattern(), used, scale_base, dtype)?;
                let xpos = XPos {
                    theta,
                    scale_base,
                    centre,
                };
                PositionTables {
                    query: xpos.query_table_of(&query, width, dtype, device),
                    key: xpos.key_table_of(&key, width, dtype, device),
                }
            }
        };
        Ok(Some(tables))
    }

    /// Whether the encoding works for sequences of up to `length` tokens.
    ///
    /// # Errors
    ///
    /// [`XPosError`]: the factors would leave `dtype`.
    pub fn check(&self, pattern: &Pattern, length: usize, dtype: DType) -> Result<(), XPosError> {
        match *self {
            Self::XPos { scale_base, .. } => {
                centre(pattern, 0..length, scale_base, dtype).map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

/// Where xPos is centred for `pattern`, over the positions `used`: on the segments that hold every
/// visible pair, whatever the length, unless they are so long that only those positions fit.
fn centre(
    pattern: &Pattern,
    used: Range<usize>,
    scale_base: f64,
    dtype: DType,
) -> Result<Centre, XPosError> {
    let half = |n: usize| n.div_ceil(2) as f64;
    let segment = enclosing_segment(pattern);
    let by_segment = XPos::check(scale_base, half(segment), dtype);
    if by_segment.is_ok() {
        return Ok(Centre::Segment(segment));
    }
    let reach = half(used.len());
    let by_length = XPos::check(scale_base, reach, dtype);
    match (by_length, by_segment) {
        (Ok(()), _) => Ok(Centre::Position(used.start as f64 + reach)),
        (Err(length), Err(segment)) if segment.smallest < length.smallest => Err(segment),
        (Err(error), _) => Err(error),
    }
}

/// A length whose multiples cut no segment: the largest segment, when the shorter ones divide it.
fn enclosing_segment(pattern: &Pattern) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    match pattern {
        Pattern::Dilated(dilated) => dilated
            .branches()
            .iter()
            .fold(1, |a, b| (a / gcd(a, b.segment)).saturating_mul(b.segment)),
        _ => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::DilatedPattern;
    use burn::tensor::{Distribution, Tolerance};

    fn pattern(branches: &[(usize, usize)]) -> Pattern {
        DilatedPattern::new(1, branches.iter().copied())
            .build()
            .unwrap()
    }

    #[test]
    fn scores_do_not_depend_on_the_centre() {
        let device = Device::default();
        let x = Tensor::<4>::random([1, 1, 24, 8], Distribution::Normal(0.0, 1.0), &device);
        let span = Span::full(24);
        let scores = |segments: &[(usize, usize)]| {
            let tables = AttentionPosition::xpos()
                .tables(|| pattern(segments), span, 8, DType::F32, &device)
                .unwrap()
                .unwrap();
            let (q, k) = tables.apply(x.clone(), x.clone());
            q.matmul(k.transpose())
                .into_data()
                .try_to_vec::<f32>()
                .unwrap()
        };
        let nested = scores(&[(12, 1), (4, 1)]);
        let crossing = scores(&[(4, 1), (6, 1)]);
        let whole = scores(&[(1 << 20, 1)]);
        for (i, j) in (0..24).flat_map(|i| (i / 12 * 12..i / 12 * 12 + 12).map(move |j| (i, j))) {
            let at = i * 24 + j;
            for score in [nested[at], crossing[at]] {
                assert!((score - whole[at]).abs() < 1e-5 * (1.0 + whole[at].abs()));
            }
        }
    }

    #[test]
    fn a_shard_has_the_rows_of_the_whole_sequence() {
        use crate::pattern::ring::Layout;
        let device = Device::default();
        let x = Tensor::<4>::random([1, 1, 300, 8], Distribution::Default, &device);
        let rows = |t: &Tensor<4>, shards: &Shards, rank| {
            let rows: Vec<i64> = shards.positions(rank).map(|p| p as i64).collect();
            t.clone().select(2, Tensor::from_data(&rows[..], &device))
        };
        // The centre is a position of the whole sequence; that of the second is a segment's.
        let xpos = AttentionPosition::xpos();
        for (encoding, segment) in [
            (AttentionPosition::rotary(), 1),
            (xpos, 64),
            (xpos, 1 << 40),
        ] {
            let whole = encoding.tables(
                || pattern(&[(segment, 1)]),
                Span::full(300),
                8,
                DType::F32,
                &device,
            );
            let (q, k) = whole.unwrap().unwrap().apply(x.clone(), x.clone());
            for layout in [Layout::Contiguous, Layout::Zigzag, Layout::Striped] {
                let shards = Shards::new(layout, 300, 3);
                for rank in 0..3 {
                    let part = encoding.shard_tables(
                        || pattern(&[(segment, 1)]),
                        &shards,
                        rank,
                        8,
                        DType::F32,
                        &device,
                    );
                    let own = rows(&x, &shards, rank);
                    let (part_q, part_k) = part.unwrap().unwrap().apply(own.clone(), own);
                    for (part, whole) in [(part_q, &q), (part_k, &k)] {
                        part.into_data().assert_approx_eq::<f32>(
                            &rows(whole, &shards, rank).into_data(),
                            Tolerance::absolute(1e-5),
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn few_positions_work_however_far_they_are() {
        let device = Device::default();
        let random = |n| Tensor::<4>::random([1, 1, n, 8], Distribution::Default, &device);
        let (q, k) = (random(4), random(1004));
        let dense = pattern(&[(1 << 40, 1)]);
        let scores = |k_start: usize| {
            let span = Span {
                q_start: k_start + 1000,
                n_q: 4,
                k_start,
                n_k: 1004,
                step: 1,
            };
            let tables = AttentionPosition::xpos()
                .tables(|| dense.clone(), span, 8, DType::F32, &device)
                .unwrap()
                .unwrap();
            let (q, k) = tables.apply(q.clone(), k.clone());
            q.matmul(k.transpose()).into_data()
        };
        // Scores depend on distances alone.
        scores(999_000).assert_approx_eq::<f32>(&scores(0), Tolerance::absolute(1e-4));
    }

    #[test]
    fn a_scale_base_that_is_too_small_names_one_that_works() {
        let long = pattern(&[(1 << 20, 1)]);
        let encoding = |scale_base| AttentionPosition::XPos {
            theta: 1e4,
            scale_base,
        };
        let error = encoding(512.0)
            .check(&long, 1 << 20, DType::F32)
            .unwrap_err();
        assert_eq!(error.reach, (1 << 19) as f64);
        encoding(error.smallest)
            .check(&long, 1 << 20, DType::F32)
            .unwrap();
        encoding(error.smallest - 1.0)
            .check(&long, 1 << 20, DType::F32)
            .unwrap_err();
        encoding(512.0).check(&long, 1 << 14, DType::F32).unwrap();
        encoding(512.0)
            .check(&pattern(&[(1 << 14, 1)]), 1 << 20, DType::F32)
            .unwrap();
        encoding(512.0)
            .check(&pattern(&[(1 << 14, 1)]), 1 << 20, DType::F16)
            .unwrap_err();
    }
}
