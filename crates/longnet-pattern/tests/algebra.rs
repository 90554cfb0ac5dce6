//! Block patterns: the masks they compile to, against their formulas.

#[path = "common/expressions.rs"]
mod expressions;

use expressions::{At, by_head, has, joined, leaf};
use longnet_pattern::{
    BlockGrid, BlockMask, BlockPattern, Branches, HeadEntry, Level, Pattern, PatternError, Span,
};
use proptest::prelude::*;

/// A grid, its heads and causality, and a pattern for it.
#[derive(Clone, Debug)]
struct Case {
    pattern: BlockPattern,
    heads: usize,
    grid: BlockGrid,
    causal: bool,
    /// Tokens of a block of the formulas.
    block: usize,
}

impl Case {
    fn mask(&self) -> BlockMask {
        (self.pattern.mask(self.heads, self.grid, self.causal)).unwrap()
    }

    /// Whether a position sees another, by the formulas.
    fn sees(&self, head: usize, i: usize, j: usize) -> bool {
        let at = At {
            block: self.block,
            head,
            inside: head,
            i: i / self.block,
            j: j / self.block,
        };
        i < self.grid.q_end()
            && j < self.grid.k_end()
            && (!self.causal || j <= i)
            && has(&self.pattern, at)
    }

    fn each_pair(
        &self,
        mut check: impl FnMut(usize, usize, usize) -> Result<(), TestCaseError>,
    ) -> Result<(), TestCaseError> {
        for head in 0..self.heads {
            for i in 0..self.grid.q_end() {
                for j in 0..self.grid.k_end() {
                    check(head, i, j)?;
                }
            }
        }
        Ok(())
    }
}

/// Few positions, in blocks of one size, of which one divides the other, or not at all.
fn grids() -> impl Strategy<Value = (BlockGrid, usize)> {
    let sizes = prop_oneof![
        4 => (1usize..9).prop_map(|b| (b, b, b)),
        1 => (1usize..5, 1usize..4).prop_map(|(b, f)| (b * f, b, b * f)),
        1 => (1usize..5, 1usize..4).prop_map(|(b, f)| (b, b * f, b * f)),
        1 => Just((4, 6, 12)),
        1 => Just((6, 4, 12)),
    ];
    let lengths = prop_oneof![
        1 => (0usize..4, 0usize..4),
        3 => (0usize..50).prop_map(|n| (n, n)),
        2 => (0usize..50, 0usize..50),
    ];
    (sizes, lengths)
        .prop_map(|((q, k, block), (n_q, n_k))| (BlockGrid::cross(n_q, n_k, q, k), block))
}

/// Cases whose patterns are drawn by `patterns`, from the heads and a strategy of leaves.
fn cases<S: Strategy<Value = BlockPattern> + 'static>(
    patterns: fn(usize, BoxedStrategy<BlockPattern>) -> S,
) -> impl Strategy<Value = Case> {
    (grids(), 1usize..5, any::<bool>()).prop_flat_map(move |((grid, block), heads, causal)| {
        let (rows, columns) = (grid.q_end().div_ceil(block), grid.k_end().div_ceil(block));
        let pattern = patterns(heads, leaf(block, rows, columns).boxed());
        pattern.prop_map(move |pattern| Case {
            pattern,
            heads,
            grid,
            causal,
            block,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_pattern_is_its_formula(case in cases(|_, leaf| leaf)) {
        let mask = case.mask();
        case.each_pair(|head, i, j| {
            prop_assert_eq!(mask.sees(head, i, j), case.sees(head, i, j), "head {} {}, {}", head, i, j);
            Ok(())
        })?;
    }

    #[test]
    fn operators_are_those_of_sets(case in cases(|heads, leaf| by_head(heads, joined(leaf).boxed()))) {
        let mask = case.mask();
        case.each_pair(|head, i, j| {
            prop_assert_eq!(mask.sees(head, i, j), case.sees(head, i, j), "head {} {}, {}", head, i, j);
            Ok(())
        })?;
        // Heads with equal rows share a table.
        for a in 0..case.heads {
            for b in 0..case.heads {
                let rows = |head| (0..case.grid.q_blocks).map(|i| mask.row(head, i).iter().collect()).collect::<Vec<Vec<_>>>();
                prop_assert_eq!(mask.table_of()[a] == mask.table_of()[b], rows(a) == rows(b));
            }
        }
    }

    #[test]
    fn causality_cuts_and_never_widens(case in cases(|heads, leaf| by_head(heads, joined(leaf).boxed()))) {
        let free = Case { causal: false, ..case.clone() }.mask();
        let cut = Case { causal: true, ..case.clone() }.mask();
        case.each_pair(|head, i, j| {
            prop_assert_eq!(cut.sees(head, i, j), j <= i && free.sees(head, i, j));
            Ok(())
        })?;
    }

    #[test]
    fn laws_of_sets_hold_with_draws(
        case in cases(|_, leaf| leaf),
        other in (0usize..6, any::<u64>()).prop_map(|(blocks, seed)| BlockPattern::Random { blocks, seed }),
    ) {
        let (a, b) = (case.pattern.clone(), other);
        let mask = |pattern: BlockPattern| Case { pattern, ..case.clone() }.mask();
        prop_assert_eq!(mask(a.clone() | b.clone()), mask(b.clone() | a.clone()));
        prop_assert_eq!(mask(a.clone() & b.clone()), mask(b.clone() & a.clone()));
        prop_assert_eq!(mask(a.clone() & b.clone()), mask(a.clone() - (a.clone() - b.clone())));
        prop_assert_eq!(mask((a.clone() - b.clone()) | (a.clone() & b.clone())), mask(a.clone()));
        prop_assert_eq!(mask(BlockPattern::All - (a.clone() | b.clone())), mask((BlockPattern::All - a.clone()) & (BlockPattern::All - b.clone())));
        prop_assert_eq!(mask(a.clone() - a.clone()).blocks(), 0);
        prop_assert_eq!(mask(BlockPattern::Union(vec![])).blocks(), 0);
        prop_assert_eq!(mask(BlockPattern::Intersection(vec![])), mask(BlockPattern::All));
        // Masks combine as their patterns do.
        let (left, right) = (mask(a.clone()), mask(b.clone()));
        prop_assert_eq!(left.union(&right).unwrap(), mask(a.clone() | b.clone()));
        prop_assert_eq!(left.intersection(&right).unwrap(), mask(a.clone() & b.clone()));
        prop_assert_eq!(left.difference(&right).unwrap(), mask(a - b));
    }

    #[test]
    fn random_rows_have_their_blocks_and_grow_with_them(case in cases(|_, _| Just(BlockPattern::Empty)), blocks in 0usize..9, seed in any::<u64>()) {
        let mask = |blocks| Case { pattern: BlockPattern::Random { blocks, seed }, ..case.clone() }.mask();
        let (fewer, more) = (mask(blocks), mask(blocks + 1));
        prop_assert_eq!(&fewer, &mask(blocks));
        let (q, k) = (case.block / case.grid.q_block, case.block / case.grid.k_block);
        let columns = case.grid.k_blocks.div_ceil(k);
        for head in 0..case.heads {
            for i in 0..case.grid.q_blocks {
                let visible = if case.causal { columns.min(i / q + 1) } else { columns };
                let mut drawn: Vec<usize> = fewer.row(head, i).iter().map(|j| j / k).collect();
                drawn.dedup();
                // Of several query blocks to one of the formulas only the last sees the whole diagonal.
                if i % q + 1 == q {
                    prop_assert_eq!(drawn.len(), blocks.min(visible));
                }
                let more: Vec<usize> = more.row(head, i).iter().collect();
                prop_assert!(fewer.row(head, i).iter().all(|j| more.contains(&j)));
            }
        }
    }

    #[test]
    fn a_target_density_is_met_within_one_block_a_row(
        case in cases(|heads, leaf| by_head(heads, joined(leaf).boxed())),
        target in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        seed in any::<u64>(),
    ) {
        // One block size: elsewhere a block of the formulas is several of the grid.
        prop_assume!(case.grid.q_block == case.grid.k_block);
        let of = case.mask();
        let pattern = BlockPattern::Density { of: Box::new(case.pattern.clone()), target, seed };
        let mask = Case { pattern, ..case.clone() }.mask();
        for head in 0..case.heads {
            for i in 0..case.grid.q_blocks {
                let visible = if case.causal { case.grid.k_blocks.min(i + 1) } else { case.grid.k_blocks };
                let row: Vec<usize> = mask.row(head, i).iter().collect();
                let before: Vec<usize> = of.row(head, i).iter().collect();
                prop_assert!((row.len() as f64 - target * visible as f64).abs() <= 1.0);
                prop_assert!(row.is_empty() == (target == 0.0 || visible == 0));
                // Nothing is dropped that need not be, and the diagonal last.
                let kept = row.iter().filter(|j| before.contains(j)).count();
                prop_assert_eq!(kept, row.len().min(before.len()));
                prop_assert!(row.is_empty() || !before.contains(&i) || row.contains(&i));
            }
        }
        prop_assert_eq!(mask.block_density() > 0.0, target > 0.0 && mask.blocks() > 0);
    }

    #[test]
    fn density_is_visited_over_possible_pairs(case in cases(by_head), cut in prop::array::uniform4(0usize..101)) {
        let part = |end: usize, start: usize, len: usize| (end * start / 100, (end - end * start / 100) * len / 100);
        let (q_start, n_q) = part(case.grid.q_end(), cut[0], cut[1]);
        let (k_start, n_k) = part(case.grid.k_end(), cut[2], cut[3]);
        let schedule = Pattern::from(case.mask()).schedule(Span { q_start, n_q, k_start, n_k, step: 1 }).unwrap();
        let (mut visited, mut possible) = (0u64, 0u64);
        for head in 0..case.heads {
            for i in q_start..q_start + n_q {
                for j in k_start..k_start + n_k {
                    possible += u64::from(!case.causal || j <= i);
                    visited += u64::from(case.sees(head, i, j));
                }
            }
        }
        prop_assert_eq!(schedule.possible_pairs(), possible);
        let expected = if possible == 0 { 0.0 } else { visited as f64 / possible as f64 };
        prop_assert_eq!(schedule.density(), expected);
    }

    #[test]
    fn heads_of_different_kinds_see_what_their_own_patterns_say(
        case in cases(by_head),
        branches in prop::collection::vec((1usize..20, 1usize..6), 1..4),
        sizes in (0usize..4, 1usize..4, 0usize..4),
        grouped in any::<bool>(),
    ) {
        let mut dilated = Branches::new(branches);
        if grouped {
            dilated.head_assignment = longnet_pattern::HeadAssignment::Grouped;
        }
        let (before, inside, after) = sizes;
        let window = BlockPattern::Window(5 * case.block);
        let random = BlockPattern::Random { blocks: 2, seed: 3 };
        let entry = |pattern: &BlockPattern, heads| HeadEntry { pattern: pattern.clone(), heads };
        let entries = [entry(&window, before), entry(&BlockPattern::Branches(dilated.clone()), inside), entry(&random, after), entry(&window, after)];
        let pattern = BlockPattern::Heads(entries.into_iter().filter(|e| e.heads > 0).collect());
        let heads = before + inside + 2 * after;
        let groups = pattern.head_groups(heads, case.grid, case.causal).unwrap();
        let alone = |pattern: BlockPattern, heads| Case { pattern, heads, ..case.clone() };
        let reference = longnet_pattern::DilatedPattern::new(inside, dilated.branches.clone())
            .causal(case.causal).head_assignment(dilated.head_assignment).build().unwrap();
        let drawn = alone(random.clone(), heads).mask();
        let window = alone(window, 1);
        let mut next = 0;
        for group in groups {
            prop_assert_eq!(group.heads.start, next);
            next = group.heads.end;
            prop_assert_eq!(group.pattern.heads(), group.heads.len());
            prop_assert_eq!(group.pattern.is_causal(), case.causal);
            for head in group.heads.clone() {
                for i in 0..case.grid.q_end() {
                    for j in 0..case.grid.k_end() {
                        let expected = if (before..before + inside).contains(&head) {
                            reference.multiplicity(head - before, i, j)
                        } else if (before + inside..before + inside + after).contains(&head) {
                            usize::from(drawn.sees(head, i, j))
                        } else {
                            usize::from(window.sees(0, i, j))
                        };
                        prop_assert_eq!(group.pattern.multiplicity(head - group.heads.start, i, j), expected);
                    }
                }
            }
        }
        prop_assert_eq!(next, heads);
    }

    #[test]
    fn branches_as_blocks_are_exact_or_refused(
        (grid, block) in grids(),
        segment in 1usize..60,
        dilation in 1usize..4,
        heads in 1usize..4,
        causal in any::<bool>(),
    ) {
        let exact = Branches::new([(segment, dilation)]);
        let reference = longnet_pattern::DilatedPattern::new(heads, [(segment, dilation)]).causal(causal).build().unwrap();
        match BlockPattern::Branches(exact).mask(heads, grid, causal) {
            Ok(mask) => for head in 0..heads {
                for i in 0..grid.q_end() {
                    for j in 0..grid.k_end() {
                        prop_assert_eq!(usize::from(mask.sees(head, i, j)), reference.multiplicity(head, i, j));
                    }
                }
            },
            Err(error) => {
                prop_assert_eq!(error, PatternError::BranchBlocks { segment, dilation, block });
                let whole = segment % block == 0 || segment >= grid.q_end().max(grid.k_end());
                prop_assert!(dilation > 1 && block > 1 || !whole);
            }
        }
    }
}

/// The rows of head 0 in characters.
fn picture(pattern: &str, grid: BlockGrid, causal: bool) -> String {
    let mask = pattern.parse::<BlockPattern>().unwrap();
    let text = mask.mask(1, grid, causal).unwrap().to_text([0]);
    text.split_once('\n').unwrap().1.to_string()
}

#[test]
fn the_worked_examples_look_as_in_the_papers() {
    let grid = BlockGrid::square(64, 8);
    // Sparse Transformer, figure 3: strided and fixed, stride 3 blocks.
    assert_eq!(
        picture("strided(24)", grid, true),
        "+.......\n#+......\n##+.....\n###+....\n.###+...\n..###+..\n#..###+.\n.#..###+\n"
    );
    assert_eq!(
        picture("fixed(24, 8)", grid, true),
        "+.......\n#+......\n##+.....\n..#+....\n..##+...\n..###+..\n..#..#+.\n..#..##+\n"
    );
    // A window of 3 blocks is one to each side; of 2 also.
    for window in ["window(24)", "window(31)", "window(16)"] {
        assert_eq!(
            picture(window, BlockGrid::square(32, 8), false),
            "##..\n###.\n.###\n..##\n"
        );
    }
    assert_eq!(
        picture(
            "hierarchical(8/16, 16/32, 32/all)",
            BlockGrid::square(48, 8),
            false
        ),
        "######\n###...\n#####.\n..###.\n######\n....##\n"
    );
}

#[test]
fn query_and_key_blocks_of_two_sizes_see_the_same_positions() {
    let pattern: BlockPattern = "(window(512) | global(128) | random(2)) - sink(128)"
        .parse()
        .unwrap();
    let square = pattern.mask(2, BlockGrid::square(1000, 128), true).unwrap();
    for (q_block, k_block) in [(128, 32), (64, 128), (16, 128)] {
        let grid = BlockGrid::cross(1000, 1000, q_block, k_block);
        let mask = pattern.mask(2, grid, true).unwrap();
        for head in 0..2 {
            for i in 0..1000 {
                for j in 0..1000 {
                    assert_eq!(mask.sees(head, i, j), square.sees(head, i, j));
                }
            }
        }
    }
}

#[test]
fn equal_heads_are_compiled_once() {
    let grid = BlockGrid::square(4096, 64);
    let tables = |text: &str| {
        let pattern: BlockPattern = text.parse().unwrap();
        pattern.mask(8, grid, true).unwrap().tables()
    };
    assert_eq!(tables("window(512) | global(64)"), 1);
    assert_eq!(tables("[window(512) x 4, window(513) x 3, window(256)]"), 2);
    assert_eq!(tables("random(3)"), 8);
    assert_eq!(tables("block_branch(1024, 4)"), 4);
    assert_eq!(
        tables("[block_branch(1024, 4) x 4, block_branch(1024, 4) x 4]"),
        4
    );
    // All of a short row is no draw.
    assert_eq!(tables("random(64)"), 1);
}

#[test]
fn a_million_tokens_compile_in_milliseconds() {
    let pattern: BlockPattern = "window(1024) | global(512)".parse().unwrap();
    let grid = BlockGrid::square(1 << 20, 128);
    for causal in [true, false] {
        for heads in [1, 12] {
            let start = std::time::Instant::now();
            let mask = pattern.mask(heads, grid, causal).unwrap();
            let time = start.elapsed();
            println!(
                "causal {causal}, {heads} heads: {} blocks of a table in {time:?}",
                mask.columns().len()
            );
            assert!(time.as_millis() < 1000, "{time:?}");
            assert_eq!(mask.tables(), 1);
            assert!(matches!(mask.columns(), longnet_pattern::Indices::U16(_)));
        }
    }
    // Each head its own draw; and a strided row of 512 blocks.
    for (text, heads) in [
        ("window(1024) | global(512) | random(3)", 12),
        ("strided(2048)", 1),
    ] {
        let pattern: BlockPattern = text.parse().unwrap();
        let start = std::time::Instant::now();
        let mask = pattern.mask(heads, grid, true).unwrap();
        println!(
            "{text}, {heads} heads: {} blocks in {:?}",
            mask.columns().len(),
            start.elapsed()
        );
        assert!(start.elapsed().as_secs() < 5);
    }
}

#[test]
fn too_many_blocks_are_refused_before_they_are_built() {
    let grid = BlockGrid::square(1 << 24, 16);
    let start = std::time::Instant::now();
    let error = BlockPattern::All.mask(1, grid, true).unwrap_err();
    assert!(
        matches!(error, PatternError::TooManyBlocks { .. }),
        "{error}"
    );
    assert!(start.elapsed().as_secs() < 10);
}

#[test]
fn errors_name_the_argument_and_the_remedy() {
    let error = |text: &str, heads: usize| {
        let pattern: BlockPattern = text.parse().unwrap();
        let mask = pattern.mask(heads, BlockGrid::square(1000, 100), false);
        mask.unwrap_err().to_string()
    };
    for (text, heads, starts) in [
        ("window(100)", 0, "heads is 0; give"),
        (
            "strided(99)",
            1,
            "strided: tokens is 99 tokens, less than a block of 100; give at least 100",
        ),
        (
            "strided(0)",
            1,
            "strided: tokens is 0; give a number from 1",
        ),
        (
            "dilated([1, 0], 2)",
            1,
            "dilated: rates is 0; give a number from 1",
        ),
        (
            "hierarchical(99/all)",
            1,
            "hierarchical: stride is 99 tokens, less than a block",
        ),
        (
            "block_branch(50, 1)",
            1,
            "block_branch: segment is 50 tokens, less than a block",
        ),
        (
            "[window(100) x 3]",
            4,
            "the list of patterns is for 3 heads, but there are 4; give",
        ),
        (
            "[[window(100)] x 1]",
            1,
            "a list of heads inside of a list of heads; give",
        ),
        (
            "branches(200/2)",
            1,
            "branches: (200, 2) is not made of whole blocks of 100 tokens; give the heads an entry",
        ),
        (
            "branches(250/1)",
            1,
            "branches: (250, 1) is not made of whole blocks",
        ),
        (
            "branches(200/1, 400/1)",
            1,
            "branches: a head runs 2 of them",
        ),
        (
            "branches(200/1, tail = zero_keys)",
            1,
            "branches: a block mask has no zero keys",
        ),
    ] {
        let message = error(text, heads);
        assert!(message.starts_with(starts), "{message}");
    }
    assert!(BlockPattern::Window(usize::MAX).check(1).is_err());
    let density = |target| BlockPattern::Density {
        of: Box::new(BlockPattern::All),
        target,
        seed: 0,
    };
    assert!(density(f64::NAN).check(1).is_err() && density(1.01).check(1).is_err());
    let deep = (0..100).fold(BlockPattern::All, |deep, _| BlockPattern::All - deep);
    assert_eq!(deep.check(1), Err(PatternError::TooDeep { limit: 64 }));
    let grid = BlockGrid {
        q_block: (1 << 40) + 1,
        k_block: 1 << 40,
        q_blocks: 1,
        k_blocks: 1,
    };
    let error = BlockPattern::All
        .mask(1, grid, false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("have no common multiple up to 2^48; use"),
        "{error}"
    );
    let masks = [true, false].map(|causal| {
        BlockPattern::All
            .mask(1, BlockGrid::square(9, 3), causal)
            .unwrap()
    });
    let error = masks[0].union(&masks[1]).unwrap_err().to_string();
    assert!(
        error.starts_with("the masks differ in their causality; combine"),
        "{error}"
    );
    // Inside of an operator branches are a set.
    let both: BlockPattern = "branches(200/1, 400/1) | empty".parse().unwrap();
    assert!(both.mask(1, BlockGrid::square(1000, 100), false).is_ok());
}

#[test]
fn a_reach_is_a_length_that_bounds_the_distance_whatever_the_rate() {
    let pattern: BlockPattern = "dilated([1, 3], 64)".parse().unwrap();
    let mask = pattern.mask(1, BlockGrid::square(256, 16), false).unwrap();
    let row: Vec<usize> = mask.row(0, 8).iter().collect();
    // Four blocks to either side by ones, so one step of three.
    assert_eq!(row, [4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let pattern: BlockPattern = "dilated(3, 100)".parse().unwrap();
    let mask = pattern.mask(1, BlockGrid::square(256, 16), false).unwrap();
    let row: Vec<usize> = mask.row(0, 8).iter().collect();
    assert_eq!(row, [2, 5, 8, 11, 14]);
}

#[test]
fn listed_pairs_beyond_a_grid_are_absent() {
    let pattern: BlockPattern = "blocks(0:0, 3:1, 7:0, 7:7)".parse().unwrap();
    let pairs = |n: usize| {
        let mask = pattern.mask(2, BlockGrid::square(n, 4), false).unwrap();
        mask.blocks() / 2
    };
    assert_eq!(
        [1, 4, 15, 16, 28, 29, 400].map(pairs),
        [1, 1, 2, 2, 2, 4, 4]
    );
}

#[test]
fn causal_branches_have_no_zero_keys() {
    let pattern: BlockPattern = "[branches(64/2, tail = zero_keys) x 1, window(16) x 1]"
        .parse()
        .unwrap();
    let zero_keys = |causal| {
        let groups = pattern
            .head_groups(2, BlockGrid::square(100, 8), causal)
            .unwrap();
        let longnet_pattern::Pattern::Dilated(dilated) = &groups[0].pattern else {
            panic!("{groups:?}");
        };
        dilated.tail() == longnet_pattern::Tail::ZeroKeys
    };
    assert!(zero_keys(false));
    assert!(!zero_keys(true));
}

#[test]
fn everything_is_dense_without_a_list() {
    // As blocks it would be past 2^32 of them.
    let groups = BlockPattern::All
        .head_groups(8, BlockGrid::square(1 << 24, 16), true)
        .unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].pattern, longnet_pattern::Pattern::dense(8, true));
}

#[test]
fn rows_that_would_take_too_long_are_refused() {
    let text = vec!["random(1)"; 4096].join(" | ");
    let pattern: BlockPattern = text.parse().unwrap();
    let error = pattern
        .mask(64, BlockGrid::square(1 << 20, 16), true)
        .unwrap_err();
    assert!(matches!(error, PatternError::TooMuchWork { .. }), "{error}");
    assert!(pattern.mask(2, BlockGrid::square(64, 16), true).is_ok());
}

#[test]
fn warnings_name_lengths_that_round_to_nothing() {
    let pattern = BlockPattern::streaming(64, 128)
        | BlockPattern::Dilated {
            rates: vec![1, 4],
            reach: 400,
        }
        | BlockPattern::Fixed {
            stride: 512,
            summary: 100,
        };
    let warnings = pattern
        .warnings(BlockGrid::square(1024, 128))
        .unwrap()
        .join("\n");
    for text in [
        "sink(64) is shorter than a block of 128 tokens and sees nothing; use 128",
        "window(128) is shorter than two blocks of 128 tokens and sees the diagonal only; use 256",
        "fixed(512, 100): a summary shorter than a block of 128 tokens is none; use 128",
        "dilated([1, 4], 400): a reach shorter than 4 blocks of 128 tokens holds no step of rate 4; use 512",
    ] {
        assert!(warnings.contains(text), "{warnings}");
    }
    assert!(
        pattern
            .warnings(BlockGrid::square(1024, 64))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn kv_heads_of_a_group_are_a_range_where_groups_do_not_share_them() {
    let pattern: BlockPattern = "[branches(64/2) x 4, window(64) x 8]".parse().unwrap();
    let groups = pattern
        .head_groups(12, BlockGrid::square(128, 16), true)
        .unwrap();
    let kv_heads = |kv| {
        groups
            .iter()
            .map(|group| group.kv_heads(12, kv))
            .collect::<Vec<_>>()
    };
    assert_eq!(kv_heads(12), [Some(0..4), Some(4..12)]);
    assert_eq!(kv_heads(3), [Some(0..1), Some(1..3)]);
    assert_eq!(kv_heads(1), [Some(0..1), Some(0..1)]);
    // Six query heads to a kv head: the second group has two of the first one's.
    assert_eq!(kv_heads(2), [Some(0..1), None]);
}

#[test]
fn levels_are_values() {
    let level = Level {
        stride: 64,
        window: None,
    };
    assert_eq!(
        "hierarchical(64/all)".parse(),
        Ok(BlockPattern::Hierarchical(vec![level]))
    );
}
