//! An expression for one head and one block size, and what its rows see.

use super::random::Shuffle;
use super::ranges::Ranges;
use std::ops::Range;

/// A set of pairs of blocks. Lengths are in blocks, heads are settled. Equal sets have equal rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Set {
    All,
    Empty,
    /// `|i - j| <= half`.
    Band {
        half: usize,
    },
    /// `i - j` is 0 or `±rate t` with `rate t <= reach`.
    Steps {
        rates: Vec<usize>,
        reach: usize,
    },
    /// `i < count`.
    Rows {
        count: usize,
    },
    /// `j < count`.
    Columns {
        count: usize,
    },
    /// `i mod stride == 0` and `|i - j| <= half`, all if `None`.
    Level {
        stride: usize,
        half: Option<usize>,
    },
    /// `|i - j| <= stride` or `(i - j) mod stride == 0`.
    Strided {
        stride: usize,
    },
    /// `i div stride == j div stride` or `j mod stride >= stride - summary`.
    Fixed {
        stride: usize,
        summary: usize,
    },
    /// Both in one segment and on the residue `offset` of it.
    Segments {
        segment: usize,
        dilation: usize,
        offset: usize,
    },
    Random {
        blocks: usize,
        seed: u64,
        head: usize,
    },
    Density {
        of: Box<Set>,
        target: Target,
        seed: u64,
        head: usize,
    },
    /// In ascending order.
    Listed(Vec<[usize; 2]>),
    Union(Vec<Set>),
    Intersection(Vec<Set>),
    Difference(Box<[Set; 2]>),
}

/// A share of the blocks, by its bits: equal ones are equal sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target(u64);

impl Target {
    pub fn new(share: f64) -> Self {
        Self(share.to_bits())
    }

    fn share(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl Set {
    /// How many sets and progressions a row is made of.
    pub fn parts(&self) -> usize {
        1 + match self {
            Self::Steps { rates, .. } => rates.len(),
            Self::Density { of, .. } => of.parts(),
            Self::Union(of) | Self::Intersection(of) => of.iter().map(Self::parts).sum(),
            Self::Difference(parts) => parts.iter().map(Self::parts).sum(),
            _ => 0,
        }
    }

    /// The key blocks inside of `within` that query block `i` sees, if it may see the first `visible` ones.
    /// `within` is inside of those.
    pub fn row(&self, i: usize, visible: usize, within: Range<usize>) -> Ranges {
        if within.is_empty() {
            return Ranges::default();
        }
        let cut = |range: Range<usize>| {
            Ranges::one(range.start.max(within.start)..range.end.min(within.end))
        };
        let band = |half: usize| cut(i.saturating_sub(half)..i.saturating_add(half + 1));
        match self {
            Self::All => Ranges::one(within),
            Self::Empty => Ranges::default(),
            Self::Band { half } => band(*half),
            Self::Steps { rates, reach } => {
                let mut columns = Vec::new();
                columns.extend(within.contains(&i).then_some(i));
                for &rate in rates {
                    let before = i.min(*reach) / rate;
                    let after = visible.saturating_sub(i + 1).min(*reach) / rate;
                    let all = i - before * rate..i + after * rate + 1;
                    columns.extend(progression(all.start, rate, all.end, &within));
                }
                Ranges::from_unsorted(columns)
            }
            Self::Rows { count } => cut(0..if i < *count { visible } else { 0 }),
            Self::Columns { count } => cut(0..*count),
            Self::Level { stride, .. } if !i.is_multiple_of(*stride) => Ranges::default(),
            Self::Level { half, .. } => half.map_or_else(|| cut(0..visible), band),
            Self::Strided { stride } => {
                let mut every = Ranges::default();
                for j in progression(i % stride, *stride, visible, &within) {
                    every.push(j..j + 1);
                }
                every.union(band(*stride))
            }
            Self::Fixed { stride, summary } => {
                let own = i / stride * stride;
                let mut ends = Ranges::default();
                if *summary > 0 {
                    let summary = (*summary).min(*stride);
                    let first = within.start / stride * stride;
                    for start in (first..within.end).step_by(*stride) {
                        let end = start + stride;
                        ends.push(
                            within.start.max(end - summary)..within.end.min(end).max(within.start),
                        );
                    }
                }
                ends.union(cut(own..own + stride))
            }
            Self::Segments {
                segment,
                dilation,
                offset,
            } => {
                let (start, inside) = (i / segment * segment, i % segment);
                let end = start.saturating_add(*segment);
                if inside % dilation != *offset {
                    return Ranges::default();
                }
                if *dilation == 1 {
                    return cut(start..end);
                }
                let mut every = Ranges::default();
                for j in progression(start + offset, *dilation, end, &within) {
                    every.push(j..j + 1);
                }
                every
            }
            Self::Random { blocks, seed, head } => {
                if *blocks >= visible {
                    return cut(0..visible);
                }
                let drawn = Shuffle::new(visible, *seed, *head, i).iter().take(*blocks);
                Ranges::from_unsorted(drawn.filter(|j| within.contains(j)).collect())
            }
            Self::Density {
                of,
                target,
                seed,
                head,
            } => {
                let all = of.row(i, visible, 0..visible);
                let shuffle = |count| Shuffle::new(count, *seed, *head, i);
                to_density(all, i, visible, target.share(), shuffle)
                    .intersection(&Ranges::one(within))
            }
            Self::Listed(pairs) => {
                let from = pairs.partition_point(|pair| *pair < [i, within.start]);
                let to = pairs.partition_point(|pair| *pair < [i, within.end]);
                let mut row = Ranges::default();
                (pairs[from..to.max(from)].iter()).for_each(|&[_, j]| row.push(j..j + 1));
                row
            }
            Self::Union(of) => (of.iter()).fold(Ranges::default(), |row, part| {
                row.union(part.row(i, visible, within.clone()))
            }),
            Self::Intersection(of) => {
                let all = Ranges::one(within.clone());
                (of.iter()).fold(all, |row, part| {
                    row.intersection(&part.row(i, visible, row.hull()))
                })
            }
            Self::Difference(parts) => {
                let [from, without] = &**parts;
                let row = from.row(i, visible, within);
                row.difference(&without.row(i, visible, row.hull()))
            }
        }
    }
}

/// `first`, `first + step`, ... below `end`, as far as they are in `within`.
fn progression(
    first: usize,
    step: usize,
    end: usize,
    within: &Range<usize>,
) -> impl Iterator<Item = usize> + use<> {
    let skipped = within.start.saturating_sub(first).div_ceil(step);
    let first = first.saturating_add(skipped.saturating_mul(step));
    (first..end.min(within.end)).step_by(step)
}

/// A row with as many of the `visible` key blocks as the target asks for.
fn to_density(
    row: Ranges,
    i: usize,
    visible: usize,
    target: f64,
    shuffle: impl Fn(usize) -> Shuffle,
) -> Ranges {
    let share = (target * visible as f64).round() as usize;
    let least = usize::from(target > 0.0 && visible > 0);
    let (count, wanted) = (row.count(), share.clamp(least, visible.max(least)));
    if count <= wanted {
        let new = shuffle(visible).iter().filter(|j| !row.contains(*j));
        let new = Ranges::from_unsorted(new.take(wanted - count).collect());
        return row.union(new);
    }
    let diagonal = row.contains(i) && wanted > 0;
    let rest: Vec<usize> = row.iter().flatten().filter(|&j| j != i).collect();
    let kept = shuffle(rest.len()).iter().map(|place| rest[place]);
    let mut kept: Vec<usize> = kept.take(wanted - usize::from(diagonal)).collect();
    kept.extend(diagonal.then_some(i));
    Ranges::from_unsorted(kept)
}
