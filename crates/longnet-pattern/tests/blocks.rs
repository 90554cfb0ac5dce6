//! Block masks: their lists, and the schedules over them, against the sets of pairs that they stand for.

mod common;

use common::visits;
use longnet_pattern::{BlockGrid, BlockMask, Pattern, PatternError, Sizes, Span};
use proptest::prelude::*;

/// A mask, and the set it was made from: `[head][query block][key block]`.
#[derive(Clone, Debug)]
struct Drawn {
    mask: BlockMask,
    set: Vec<Vec<Vec<bool>>>,
}

impl Drawn {
    fn sees(&self, head: usize, i: usize, j: usize) -> bool {
        let grid = self.mask.grid();
        (!self.mask.is_causal() || j <= i)
            && (self.set[head].get(i / grid.q_block))
                .and_then(|row| row.get(j / grid.k_block))
                .is_some_and(|x| *x)
    }
}

/// Up to 60 positions in blocks of 1 to 20; sparse or full of neighbours; some heads alike.
fn masks() -> impl Strategy<Value = Drawn> {
    (1usize..21, 1usize..21, 0usize..60, 0usize..60, 1usize..5).prop_flat_map(
        |(q_block, k_block, n_q, n_k, heads)| {
            let grid = BlockGrid::cross(n_q, n_k, q_block, k_block);
            let table = prop::collection::vec(
                prop::collection::vec(prop::bool::weighted(0.5), grid.k_blocks),
                grid.q_blocks,
            );
            let tables = prop::collection::vec(table, 1..4);
            let pick = prop::collection::vec(0usize..4, heads);
            (tables, pick, any::<bool>()).prop_map(move |(tables, pick, causal)| {
                let set: Vec<_> = pick
                    .iter()
                    .map(|x| tables[x % tables.len()].clone())
                    .collect();
                let mask = BlockMask::new(set.len(), grid)
                    .causal(causal)
                    .build_from_fn(|head, i, j| set[head][i][j])
                    .unwrap();
                Drawn { mask, set }
            })
        },
    )
}

/// A span inside of the grid, by shares of it.
fn span(grid: BlockGrid, cut: [usize; 4], step: usize) -> Span {
    let part = |end: usize, start: usize, len: usize| {
        let start = end * start / 100;
        (start, (end - start) * len / 100 / step)
    };
    let (q_start, n_q) = part(grid.q_end(), cut[0], cut[1]);
    let (k_start, n_k) = part(grid.k_end(), cut[2], cut[3]);
    Span {
        q_start,
        n_q,
        k_start,
        n_k,
        step,
    }
}

fn steps() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), 1usize..7]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn runs_visit_exactly_the_pairs(drawn in masks(), cut in prop::array::uniform4(0usize..101), step in steps()) {
        let span = span(drawn.mask.grid(), cut, step);
        let pattern = Pattern::from(drawn.mask.clone());
        let schedule = pattern.schedule(span).unwrap();
        let (n_q, n_k) = (span.n_q, span.n_k);
        let mut total = 0;
        for head in 0..pattern.heads() {
            let seen = visits(&schedule, schedule.runs(0, head));
            for (a, row) in seen.iter().enumerate() {
                for (b, &times) in row.iter().enumerate() {
                    let (i, j) = (span.q_start + a * step, span.k_start + b * step);
                    prop_assert_eq!(times, usize::from(drawn.sees(head, i, j)));
                    prop_assert_eq!(times, pattern.multiplicity(head, i, j));
                    prop_assert_eq!(times, schedule.multiplicity(head, a, b));
                    total += times as u64;
                }
            }
            // Any cut of the rows or of the keys gives the same pairs, blocks apart too.
            let (rows, keys) = (n_q / 3, n_k * 2 / 3);
            let single = |rows, keys| schedule.block_runs(head, rows, keys).map(|(run, _)| run);
            for cut in [
                visits(&schedule, schedule.query_runs(0, head, 0..rows).chain(schedule.query_runs(0, head, rows..n_q))),
                visits(&schedule, schedule.key_runs(0, head, 0..keys).chain(schedule.key_runs(0, head, keys..n_k))),
                visits(&schedule, single(0..n_q, 0..keys).chain(single(0..n_q, keys..n_k))),
            ] {
                prop_assert_eq!(&cut, &seen);
            }
            for keys in [0..keys, keys..n_k] {
                let inside = visits(&schedule, schedule.runs_within(0, head, rows..n_q, keys.clone()));
                for a in 0..n_q {
                    for b in 0..n_k {
                        let kept = a >= rows && keys.contains(&b);
                        prop_assert_eq!(inside[a][b], if kept { seen[a][b] } else { 0 });
                    }
                }
            }
        }
        prop_assert_eq!(schedule.visited_pairs(), total);
    }

    #[test]
    fn runs_of_single_blocks_name_their_place_in_the_bias(drawn in masks(), cut in prop::array::uniform4(0usize..101), step in steps()) {
        let (mask, grid) = (&drawn.mask, drawn.mask.grid());
        let span = span(grid, cut, step);
        let schedule = Pattern::from(mask.clone()).schedule(span).unwrap();
        let mut named = vec![0; mask.blocks()];
        for head in 0..mask.heads() {
            for (run, bias) in schedule.block_runs(head, 0..span.n_q, 0..span.n_k) {
                let (q, k) = (span.queries(), span.keys());
                let (i, j) = (q.at(run.q.first) / grid.q_block, k.at(run.k.first) / grid.k_block);
                prop_assert_eq!(mask.bias_index(head, i, j), Some(bias));
                prop_assert_eq!(q.at(run.q.at(run.q.len - 1)) / grid.q_block, i);
                prop_assert_eq!(k.at(run.k.at(run.k.len - 1)) / grid.k_block, j);
                let full = schedule.full_columns(i).contains(&j);
                let rows = q.iter().filter(|p| p / grid.q_block == i).count();
                let could_be = (j * grid.k_block..(j + 1) * grid.k_block).filter(|p| p % step == span.k_start % step).count();
                let whole = run.q.len == rows && run.k.len == could_be && run.diagonal.is_none();
                prop_assert_eq!(full, whole);
                named[bias] += 1;
            }
        }
        prop_assert!(named.iter().all(|x| *x <= 1));
        if span == Span::cross(grid.q_end(), grid.k_end()) {
            prop_assert!(named.iter().all(|x| *x == 1));
        }
    }

    #[test]
    fn lists_and_their_transpose_hold_the_set(drawn in masks()) {
        let (mask, grid) = (&drawn.mask, drawn.mask.grid());
        let mut blocks = 0;
        for (head, set) in drawn.set.iter().enumerate() {
            for (i, row) in set.iter().enumerate() {
                let visible = |j: &usize| !mask.is_causal() || j * grid.k_block < (i + 1) * grid.q_block;
                let list: Vec<usize> = (0..grid.k_blocks).filter(|&j| row[j]).filter(visible).collect();
                prop_assert_eq!(mask.row(head, i).iter().collect::<Vec<_>>(), list.clone());
                for (at, &j) in list.iter().enumerate() {
                    prop_assert_eq!(mask.bias_index(head, i, j), Some(blocks + at));
                    prop_assert!(mask.column(head, j).iter().any(|x| x == i));
                }
                blocks += list.len();
            }
            prop_assert_eq!(mask.bias_starts()[head + 1] as usize, blocks);
        }
        prop_assert_eq!(mask.blocks(), blocks);
        // Equal heads share a table, others do not.
        for (a, x) in drawn.set.iter().enumerate() {
            for (b, y) in drawn.set.iter().enumerate() {
                let lists = |head: usize| (0..grid.q_blocks).map(|i| mask.row(head, i).iter().collect()).collect::<Vec<Vec<_>>>();
                prop_assert!(x != y || lists(a) == lists(b));
                prop_assert_eq!(mask.table_of()[a] == mask.table_of()[b], lists(a) == lists(b));
            }
        }
        // The flat arrays, as a device reads them.
        for t in 0..mask.tables() {
            for j in 0..grid.k_blocks {
                let starts = &mask.column_starts()[t * (grid.k_blocks + 1) + j..][..2];
                let mut last = None;
                for at in starts[0] as usize..starts[1] as usize {
                    let (i, entry) = (mask.rows().get(at), mask.entries()[at]);
                    let row = &mask.row_starts()[t * (grid.q_blocks + 1) + i..][..2];
                    prop_assert!((row[0]..row[1]).contains(&entry));
                    prop_assert_eq!(mask.columns().get(entry as usize), j);
                    prop_assert!(last < Some(i));
                    last = Some(i);
                }
            }
        }
        prop_assert_eq!(mask.entries().len(), mask.columns().len());
    }

    #[test]
    fn uncovered_rows_and_cache_entries_are_those_of_the_pairs(drawn in masks(), n in 0usize..70) {
        let pattern = Pattern::from(drawn.mask.clone());
        let heads = pattern.heads();
        for head in 0..heads {
            let blind = (0..n).filter(|&i| (0..n).all(|j| !drawn.sees(head, i, j))).count();
            prop_assert_eq!(pattern.uncovered_rows(head, n), blind);
        }
        // Keys up to p that a row from p on sees, causal or not.
        let any = Drawn { mask: BlockMask::new(heads, drawn.mask.grid()).build_from_fn(|h, i, j| drawn.set[h][i][j]).unwrap(), ..drawn.clone() };
        let needed = |p: usize| (0..=p).filter(|&j| (p..n).any(|i| (0..heads).any(|h| any.sees(h, i, j)))).count();
        let most = (0..n).map(needed).max().unwrap_or(0);
        prop_assert_eq!(pattern.cache_entries(1, 0, n), most);
    }
}

#[test]
fn a_dense_mask_is_a_function_and_lists() {
    let grid = BlockGrid::cross(50, 70, 8, 16);
    let set = |head: usize, i: usize, j: usize| (head + i * 3 + j * 5).is_multiple_of(4);
    let dense: Vec<bool> = (0..3)
        .flat_map(|h| (0..7).flat_map(move |i| (0..5).map(move |j| set(h, i, j))))
        .collect();
    for causal in [false, true] {
        let new = || BlockMask::new(3, grid).causal(causal);
        let by_fn = new().build_from_fn(set).unwrap();
        let by_rows = new()
            .build_from_rows(|h, i, row| row.extend((0..5).filter(|&j| set(h, i, j))))
            .unwrap();
        assert_eq!(by_fn, new().build_from_dense(&dense).unwrap());
        assert_eq!(by_fn, by_rows);
        let shared = new().shared().build_from_fn(set).unwrap();
        assert_eq!(shared, new().build_from_dense(&dense[..35]).unwrap());
        assert_eq!((shared.tables(), by_fn.tables()), (1, 3));
        assert_eq!(shared.blocks(), 3 * shared.columns().len());
    }
}

#[test]
fn neighbouring_blocks_are_one_run_where_that_is_exact() {
    let runs = |causal, sees: &dyn Fn(usize, usize) -> bool| {
        let mask = BlockMask::new(1, BlockGrid::cross(80, 80, 10, 8)).causal(causal);
        let mask = mask.build_from_fn(|_, i, j| sees(i, j)).unwrap();
        let schedule = Pattern::from(mask).schedule(Span::full(77)).unwrap();
        let run = |run: longnet_pattern::Run| (run.q.first, run.q.len, run.k.first, run.k.len);
        schedule.runs(0, 0).map(run).collect::<Vec<_>>()
    };
    let all = [(0, 77, 0, 77)];
    assert_eq!(runs(false, &|_, _| true), all);
    assert_eq!(runs(true, &|_, _| true), all);
    // Two rectangles, the second one lower.
    let two = |i: usize, j: usize| j < 3 && i < 5 || j > 4 && i > 2;
    assert_eq!(runs(false, &two), [(0, 50, 0, 24), (30, 47, 40, 37)]);
    // The fourth query block ends at 40: causally the second one is cut to its keys before 40.
    assert_eq!(runs(true, &two), [(0, 50, 0, 24), (40, 37, 40, 37)]);
    // The first key block alone, from the third query block on a second: the rows above do not see that.
    let grows = |i: usize, j: usize| j == 0 || j == 1 && i > 1;
    assert_eq!(runs(true, &grows), [(0, 20, 0, 8), (20, 57, 0, 16)]);
}

#[test]
fn many_blocks_take_wider_indices() {
    let mask = |blocks| {
        let grid = BlockGrid::square(blocks, 1);
        let mask = BlockMask::new(1, grid).build_from_rows(|_, i, row| row.push(i));
        mask.unwrap()
    };
    assert!(matches!(
        mask(1 << 16).columns(),
        longnet_pattern::Indices::U16(_)
    ));
    let wide = mask((1 << 16) + 1);
    assert!(matches!(wide.rows(), longnet_pattern::Indices::U32(_)));
    assert_eq!(wide.row(0, 1 << 16).get(0), 1 << 16);
}

#[test]
fn a_million_tokens_in_a_window_take_milliseconds() {
    let start = std::time::Instant::now();
    let mask = BlockMask::new(12, BlockGrid::square(1 << 20, 128))
        .causal(true)
        .build_from_rows(|_, i, row| {
            let window = i.saturating_sub(7)..=i;
            row.extend((0..4.min(*window.start())).chain(window));
        })
        .unwrap();
    let schedule = Pattern::from(mask.clone())
        .schedule(Span::full(1 << 20))
        .unwrap();
    let pairs = schedule.visited_pairs();
    assert!(start.elapsed().as_millis() < 100, "{:?}", start.elapsed());
    assert_eq!(mask.tables(), 1);
    // 4 global and 7 earlier blocks, and half of the one on the diagonal, but for the first rows.
    let blocks: u64 = (0..8192u64)
        .map(|i| i.min(7) + i.saturating_sub(7).min(4))
        .sum();
    assert_eq!(pairs, 12 * (blocks * 128 * 128 + 8192 * (128 * 129 / 2)));
    assert!(schedule.size_in_bytes() < 2 << 20);
    let sizes = Sizes {
        batch: 2,
        kv_heads: 4,
        d: 64,
        d_v: 64,
        bytes_per_element: 2,
    };
    assert_eq!(schedule.cost(&sizes).pairs, 2 * pairs);
}

#[test]
fn errors_name_what_is_wrong_and_the_remedy() {
    let grid = BlockGrid::square(100, 10);
    let build = |heads, grid| {
        let mask = BlockMask::new(heads, grid).build_from_fn(|_, _, _| true);
        mask.unwrap_err().to_string()
    };
    assert!(build(0, grid).starts_with("heads is 0; give"));
    let zero = BlockGrid { k_block: 0, ..grid };
    assert!(build(1, zero).starts_with("k_block is 0, outside"));
    let huge = BlockGrid {
        q_blocks: 1 << 48,
        ..grid
    };
    assert!(build(1, huge).starts_with("q_blocks is 281474976710656, with blocks of 10"));
    let dense = BlockMask::new(2, grid).build_from_dense(&[true; 99]);
    assert!(
        (dense.unwrap_err().to_string())
            .starts_with("the dense mask has 99 elements; give q_blocks * k_blocks = 10 * 10")
    );
    let rows = |list: [usize; 2]| {
        let mask = BlockMask::new(2, grid).build_from_rows(|h, i, row| {
            if (h, i) == (1, 3) {
                row.extend(list);
            }
        });
        mask.unwrap_err()
    };
    assert_eq!(
        rows([4, 4]),
        PatternError::BlockOrder {
            head: 1,
            row: 3,
            first: 4,
            second: 4
        }
    );
    assert!(
        (rows([4, 10]).to_string())
            .starts_with("head 1, query block 3: key block 10 is outside 0..10; list")
    );
    let mask = BlockMask::new(1, grid)
        .build_from_fn(|_, _, _| true)
        .unwrap();
    let schedule = Pattern::from(mask).schedule(Span::cross(100, 101));
    assert!(
        (schedule.unwrap_err().to_string())
            .starts_with("keys reach position 101, but the blocks of the mask end at 100; make")
    );
}

#[test]
fn explain_and_warnings_speak_of_blocks() {
    let mask = BlockMask::new(2, BlockGrid::square(64, 8))
        .causal(true)
        .build_from_rows(|h, i, row| {
            if h == 0 {
                row.extend(0..=i);
            } else if i > 1 {
                row.push(2);
            }
        })
        .unwrap();
    let pattern = Pattern::from(mask);
    let text = pattern.explain(0, 45);
    assert!(
        text.contains(
            "query block 5 (positions 40..48): 6 key blocks of 8 positions: 0, 1, 2, 3, ..., 5"
        ),
        "{text}"
    );
    assert!(text.contains("46 keys in all"), "{text}");
    let blind = pattern.explain(1, 5);
    assert!(blind.contains("attends to nothing"), "{blind}");
    let warnings = pattern.warnings(70).join("\n");
    for warning in [
        "the query blocks of the mask end at position 64 of 70",
        "head 0: 6 of 70 rows",
        "head 1: 22 of 70 rows",
    ] {
        assert!(warnings.contains(warning), "{warnings}");
    }
    assert!(pattern.explain(0, 64).contains("past the 64 positions"));
}
