//! Expressions to test with, and what they mean by their formulas.

#![allow(dead_code, reason = "each test file uses some of it")]

use longnet_pattern::{BlockPattern, Branch, Branches, HeadEntry, Level};
use proptest::prelude::*;

/// Where a pair of blocks is asked for.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Tokens of a block of the formulas.
    pub block: usize,
    /// Query head, and its place in its entry of a list of heads.
    pub head: usize,
    pub inside: usize,
    pub i: usize,
    pub j: usize,
}

/// Whether a pattern has a pair, read off the formulas. Random draws are not among them.
pub fn has(pattern: &BlockPattern, at: At) -> bool {
    let At {
        block,
        head,
        inside,
        i,
        j,
    } = at;
    let distance = i.abs_diff(j);
    let band = |tokens: usize| distance <= tokens / block / 2;
    let branch = |w: usize, r: usize, offset: usize| {
        i / w == j / w && i % w % r == offset && j % w % r == offset
    };
    match pattern {
        BlockPattern::All => true,
        BlockPattern::Empty => false,
        BlockPattern::Window(tokens) => band(*tokens),
        BlockPattern::Dilated { rates, reach } => {
            distance == 0
                || (rates.iter()).any(|r| distance.is_multiple_of(*r) && distance <= reach / block)
        }
        BlockPattern::Global(tokens) => i < tokens / block || j < tokens / block,
        BlockPattern::GlobalRows(tokens) => i < tokens / block,
        BlockPattern::GlobalColumns(tokens) | BlockPattern::Sink(tokens) => j < tokens / block,
        BlockPattern::Hierarchical(levels) => levels
            .iter()
            .any(|level| i.is_multiple_of(level.stride / block) && level.window.is_none_or(band)),
        BlockPattern::Strided(tokens) => {
            let l = tokens / block;
            distance <= l || distance.is_multiple_of(l)
        }
        BlockPattern::Fixed { stride, summary } => {
            let (l, c) = (stride / block, summary / block);
            i / l == j / l || j % l + c >= l
        }
        BlockPattern::Blocks(pairs) => pairs.contains(&[i, j]),
        BlockPattern::BlockBranch { segment, dilation } => {
            branch(segment / block, *dilation, inside % dilation)
        }
        BlockPattern::Branches(branches) => (branches.branches.iter())
            .any(|b| b.dilation == 1 && branch(b.segment.div_ceil(block), 1, 0)),
        BlockPattern::Union(of) => of.iter().any(|part| has(part, at)),
        BlockPattern::Intersection(of) => of.iter().all(|part| has(part, at)),
        BlockPattern::Difference { from, without } => has(from, at) && !has(without, at),
        BlockPattern::Heads(entries) => {
            let mut inside = head;
            for entry in entries {
                if inside < entry.heads {
                    return has(&entry.pattern, At { inside, ..at });
                }
                inside -= entry.heads;
            }
            panic!("no entry for head {head}")
        }
        other => panic!("{other} has no formula"),
    }
}

/// Any pattern of the table but random ones, for blocks of `block` tokens and `rows` by `columns` blocks.
pub fn leaf(
    block: usize,
    rows: usize,
    columns: usize,
) -> impl Strategy<Value = BlockPattern> + Clone {
    let tokens = move || 0..12 * block + 3;
    let whole = move || block..8 * block + 3;
    let level =
        (whole(), prop::option::of(tokens())).prop_map(|(stride, window)| Level { stride, window });
    let pair = (0..rows.max(1), 0..columns.max(1)).prop_map(|(i, j)| [i, j]);
    prop_oneof![
        Just(BlockPattern::All),
        Just(BlockPattern::Empty),
        tokens().prop_map(BlockPattern::Window),
        (prop::collection::vec(1usize..6, 0..4), tokens())
            .prop_map(|(rates, reach)| BlockPattern::Dilated { rates, reach }),
        tokens().prop_map(BlockPattern::Global),
        tokens().prop_map(BlockPattern::GlobalRows),
        tokens().prop_map(BlockPattern::GlobalColumns),
        tokens().prop_map(BlockPattern::Sink),
        prop::collection::vec(level, 0..4).prop_map(BlockPattern::Hierarchical),
        whole().prop_map(BlockPattern::Strided),
        (whole(), tokens()).prop_map(|(stride, summary)| BlockPattern::Fixed { stride, summary }),
        prop::collection::vec(pair, 0..if rows * columns == 0 { 1 } else { 12 })
            .prop_map(BlockPattern::Blocks),
        (whole(), 1usize..5)
            .prop_map(|(segment, dilation)| BlockPattern::BlockBranch { segment, dilation }),
        (1usize..9).prop_map(move |w| BlockPattern::Branches(Branches::new([(w * block, 1)]))),
    ]
}

/// Patterns joined by operators.
pub fn joined(
    leaf: impl Strategy<Value = BlockPattern> + Clone + 'static,
) -> impl Strategy<Value = BlockPattern> {
    leaf.prop_recursive(3, 12, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several().prop_map(BlockPattern::Union),
            several().prop_map(BlockPattern::Intersection),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a - b),
        ]
    })
}

/// For all of so many heads, or with a list of them somewhere.
pub fn by_head(
    heads: usize,
    pattern: impl Strategy<Value = BlockPattern> + Clone + 'static,
) -> impl Strategy<Value = BlockPattern> {
    let cut = (1..heads.max(2)).prop_map(move |cut| cut.min(heads));
    let list = (cut, pattern.clone(), pattern.clone()).prop_map(move |(cut, a, b)| {
        let entry = |pattern, heads| HeadEntry { pattern, heads };
        let entries = [entry(a, cut), entry(b, heads - cut)];
        BlockPattern::Heads(
            entries
                .into_iter()
                .filter(|entry| entry.heads > 0)
                .collect(),
        )
    });
    prop_oneof![
        pattern.clone(),
        list.clone(),
        (list, pattern).prop_map(|(list, pattern)| list | pattern),
    ]
}

/// Any pattern at all, also with draws and branches, for texts and tables.
pub fn any_pattern() -> impl Strategy<Value = BlockPattern> {
    let branch =
        (1usize..9000, 1usize..9).prop_map(|(segment, dilation)| Branch { segment, dilation });
    let branches = (prop::collection::vec(branch, 1..4), any::<[bool; 3]>()).prop_map(
        |(branches, [grouped, by_group, zero])| {
            let mut branches = Branches::new(branches);
            if grouped {
                branches.head_assignment = longnet_pattern::HeadAssignment::Grouped;
            }
            if by_group {
                branches.head_offset = longnet_pattern::HeadOffset::ByGroup;
            }
            if zero {
                branches.tail = longnet_pattern::Tail::ZeroKeys;
            }
            BlockPattern::Branches(branches)
        },
    );
    // A table has no numbers above 2^63.
    let seed = || prop_oneof![Just(0), 0u64..1 << 63];
    let drawn = prop_oneof![
        4 => leaf(16, 9, 9),
        1 => branches,
        1 => (0usize..99, seed()).prop_map(|(blocks, seed)| BlockPattern::Random { blocks, seed }),
        1 => (leaf(16, 9, 9), 0u32..1001, seed()).prop_map(|(of, mille, seed)| {
            let target = f64::from(mille) / 1000.0;
            BlockPattern::Density { of: Box::new(of), target, seed }
        }),
    ]
    .boxed();
    by_head(4, joined(drawn).boxed())
}
