//! The schedule visits exactly the pairs of the pattern, as often as `multiplicity` says.

mod common;

use common::visits;
use longnet_pattern::{DilatedPattern, HeadAssignment, HeadOffset, Pattern, Sizes, Span, Tail};
use proptest::prelude::*;

fn patterns() -> impl Strategy<Value = Pattern> {
    let branch = (1usize..40, 1usize..9);
    (
        1usize..8,
        prop::collection::vec(branch, 1..5),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(heads, branches, causal, grouped, by_group)| {
            DilatedPattern::new(heads, branches)
                .causal(causal)
                .head_assignment(if grouped {
                    HeadAssignment::Grouped
                } else {
                    HeadAssignment::All
                })
                .head_offset(if by_group {
                    HeadOffset::ByGroup
                } else {
                    HeadOffset::Modulo
                })
                .build()
                .unwrap()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn runs_visit_exactly_the_pairs(pattern in patterns(), q_start in 0usize..50, n_q in 0usize..60, k_start in 0usize..50, n_k in 0usize..60, step in prop_oneof![Just(1usize), 1usize..9]) {
        let span = Span { q_start, n_q, k_start, n_k, step };
        let schedule = pattern.schedule(span).unwrap();
        let mut total = 0;
        for head in 0..pattern.heads() {
            let branches = 0..schedule.branches();
            let seen = visits(&schedule, branches.clone().flat_map(|b| schedule.runs(b, head)));
            for (a, row) in seen.iter().enumerate() {
                for (b, &times) in row.iter().enumerate() {
                    prop_assert_eq!(times, pattern.multiplicity(head, q_start + a * step, k_start + b * step));
                    prop_assert_eq!(times, schedule.multiplicity(head, a, b));
                    total += times as u64;
                }
            }
            // The runs of a dilated branch are in the order of their rows.
            for branch in branches.clone() {
                let firsts: Vec<_> = schedule.runs(branch, head).map(|run| (run.q.first, run.k.first)).collect();
                prop_assert!(firsts.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
            }
            // Any cut of the rows or of the keys gives the same pairs.
            let (rows, keys) = (n_q / 3, n_k * 2 / 3);
            for cut in [
                visits(&schedule, branches.clone().flat_map(|b| schedule.query_runs(b, head, 0..rows).chain(schedule.query_runs(b, head, rows..n_q)))),
                visits(&schedule, branches.clone().flat_map(|b| schedule.key_runs(b, head, 0..keys).chain(schedule.key_runs(b, head, keys..n_k)))),
            ] {
                prop_assert_eq!(&cut, &seen);
            }
        }
        prop_assert_eq!(schedule.visited_pairs(), total);
        prop_assert_eq!(schedule.is_empty(), total == 0);
    }

    #[test]
    fn uncovered_rows_are_those_that_see_nothing(pattern in patterns(), n in 0usize..150) {
        for head in 0..pattern.heads() {
            let blind = (0..n).filter(|&i| (0..n).all(|j| pattern.multiplicity(head, i, j) == 0)).count();
            prop_assert_eq!(pattern.uncovered_rows(head, n), blind);
        }
    }

    #[test]
    fn cache_entries_are_the_most_keys_needed_at_once(pattern in patterns(), kv in 1usize..4, n in 1usize..90) {
        prop_assume!(pattern.heads() % kv == 0);
        let group = pattern.heads() / kv;
        let causal = match &pattern {
            Pattern::Dilated(d) => (0..pattern.heads()).map(|h| (0..d.branches().len()).map(|b| (d.branches()[b], d.offset(b, h))).collect::<Vec<_>>()).collect::<Vec<_>>(),
            _ => unreachable!(),
        };
        // A causal row i at or after p that sees key j <= p keeps j in the cache at p.
        let sees = |h: usize, i: usize, j: usize| causal[h].iter().any(|(b, o)| {
            i / b.segment == j / b.segment && *o == Some(i % b.segment % b.dilation) && *o == Some(j % b.segment % b.dilation)
        });
        let needed = |p: usize| (0..=p).filter(|&j| (p..n).any(|i| (0..group).any(|h| sees(h, i, j)))).count();
        let most = (0..n).map(needed).max().unwrap();
        let period = |n| pattern.cache_entries(kv, 0, n);
        prop_assert_eq!(period(n), most);
    }

    #[test]
    fn zero_keys_count_the_padded_rows(heads in 1usize..6, branches in prop::collection::vec((1usize..40, 1usize..9), 1..4), n in 1usize..120) {
        let pattern = DilatedPattern::new(heads, branches.clone()).head_offset(HeadOffset::ByGroup).tail(Tail::ZeroKeys).build().unwrap();
        let schedule = pattern.schedule(Span::full(n)).unwrap();
        for head in 0..heads {
            for (b, &(w, r)) in branches.iter().enumerate() {
                let (g, o) = (w.min(n), head / heads.div_ceil(r));
                let alone = DilatedPattern::new(heads, [(w, r)]).head_offset(HeadOffset::ByGroup).tail(Tail::ZeroKeys).build().unwrap();
                let Pattern::Dilated(alone) = alone else { unreachable!() };
                for i in 0..n {
                    prop_assert_eq!(schedule.zero_keys(b, head, i), alone.zero_keys(head, i, n));
                    let covered = o < w && i % w % r == o;
                    let padded = (0..g.div_ceil(r)).map(|l| l * r + o).filter(|t| *t >= g || i / g * g + t >= n).count();
                    prop_assert_eq!(schedule.zero_keys(b, head, i), if covered { padded } else { 0 });
                }
            }
        }
    }
}

#[test]
fn a_million_tokens_with_the_papers_branches_take_milliseconds_and_bytes() {
    let start = std::time::Instant::now();
    let pattern = DilatedPattern::new(
        12,
        [(2048, 1), (4096, 2), (8192, 4), (16384, 6), (32768, 12)],
    )
    .causal(true)
    .build()
    .unwrap();
    let schedule = pattern.schedule(Span::full(1 << 20)).unwrap();
    let pairs = schedule.visited_pairs();
    assert!(start.elapsed().as_millis() < 50, "{:?}", start.elapsed());
    assert!(
        schedule.size_in_bytes() < 4096,
        "{}",
        schedule.size_in_bytes()
    );
    // Of branch 0: 512 segments of 2048 * 2049 / 2 pairs in 12 heads.
    assert_eq!(schedule.branch_pairs(0), 12 * 512 * (2048 * 2049 / 2));
    let sizes = Sizes {
        batch: 2,
        kv_heads: 12,
        d: 64,
        d_v: 64,
        bytes_per_element: 2,
    };
    let cost = schedule.cost(&sizes);
    assert_eq!(cost.pairs, 2 * pairs);
    assert_eq!(cost.forward_flops, 4 * 64 * cost.pairs);
    assert_eq!(cost.backward_flops, 10 * 64 * cost.pairs);
    assert_eq!(cost.forward_bytes, 2 * 12 * (1 << 20) * (4 * 64 * 2 + 4));
}

#[test]
fn segments_that_nest_bound_the_cache_by_the_longest() {
    let pattern = DilatedPattern::new(4, [(64, 1), (128, 2), (256, 4)])
        .causal(true)
        .build()
        .unwrap();
    let bound = 64 + 64 + 64;
    for head in 0..4 {
        let entries = pattern.cache_entries(4, head, 1 << 30);
        assert!(entries <= bound, "{entries}");
    }
    assert!(pattern.cache_entries(1, 0, 1 << 30) <= 256);
}

#[test]
fn one_branch_over_everything_is_dense_attention() {
    let pattern = Pattern::dense(3, true);
    let schedule = pattern.schedule(Span::full(10)).unwrap();
    assert_eq!(schedule.visited_pairs(), 3 * 55);
    assert_eq!(pattern.multiplicity(2, 7, 7), 1);
    assert_eq!(pattern.multiplicity(2, 7, 8), 0);
}
