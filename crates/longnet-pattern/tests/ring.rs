//! Sequences over the ranks of a ring.

mod common;

use common::visits;
use longnet_pattern::ring::{Layout, RingSchedule, Shards};
use longnet_pattern::{BlockGrid, BlockMask, DilatedPattern, HeadOffset, Pattern, Sizes, Span};
use proptest::prelude::*;

const LAYOUTS: [Layout; 3] = [Layout::Contiguous, Layout::Zigzag, Layout::Striped];

#[test]
fn every_position_has_one_owner() {
    for layout in LAYOUTS {
        for world in [1, 2, 3, 4, 8] {
            for n in (0..40).chain([64, 97, 1000]) {
                let shards = Shards::new(layout, n, world);
                let mut owners = vec![None; n];
                for rank in 0..world {
                    let positions: Vec<usize> = shards.positions(rank).collect();
                    assert_eq!(positions.len(), shards.rows(rank));
                    assert!(positions.is_sorted(), "{shards:?} {positions:?}");
                    assert!(shards.chunks(rank).len() <= 2);
                    for (row, &position) in positions.iter().enumerate() {
                        assert_eq!(shards.position(rank, row), position);
                        assert_eq!(shards.owner(position), (rank, row));
                        assert!(owners[position].replace(rank).is_none());
                    }
                }
                assert!(owners.iter().all(Option::is_some));
                let rows: Vec<usize> = (0..world).map(|rank| shards.rows(rank)).collect();
                let (least, most) = (rows.iter().min().unwrap(), rows.iter().max().unwrap());
                let slack = if layout == Layout::Zigzag { 2 } else { 1 };
                assert!(most - least <= slack, "{shards:?} {rows:?}");
                assert!(n < world || *least > 0, "{shards:?} {rows:?}");
                let all: Vec<usize> = (100..100 + n).collect();
                let parts: Vec<_> = (0..world).map(|rank| shards.take(rank, &all)).collect();
                assert_eq!(shards.join(&parts), all);
            }
        }
    }
}

#[test]
fn one_rank_holds_everything_in_one_chunk() {
    for layout in LAYOUTS {
        let chunks = Shards::new(layout, 11, 1).chunks(0);
        assert_eq!(chunks.len(), 1);
        assert_eq!((chunks[0].first, chunks[0].step, chunks[0].len), (0, 1, 11));
    }
}

#[test]
fn layouts_have_names() {
    let names = serde_json::to_string(&LAYOUTS).unwrap();
    assert_eq!(names, r#"["contiguous","zigzag","striped"]"#);
}

fn patterns() -> impl Strategy<Value = Pattern> {
    let branch = prop_oneof![(1usize..30, 1usize..7), (20usize..90, 1usize..7)];
    let dilated = (
        1usize..4,
        prop::collection::vec(branch, 1..4),
        any::<[bool; 2]>(),
    );
    let dilated = dilated.prop_map(|(group, branches, [causal, by_group])| {
        let offset = if by_group {
            HeadOffset::ByGroup
        } else {
            HeadOffset::Modulo
        };
        let pattern = DilatedPattern::new(2 * group, branches).causal(causal);
        pattern.head_offset(offset).build().unwrap()
    });
    let blocks = (1usize..12, 1usize..12, any::<bool>(), 1usize..5);
    let blocks = blocks.prop_map(|(q, k, causal, every)| {
        let grid = BlockGrid::cross(100, 100, q, k);
        let mask = BlockMask::new(2, grid).causal(causal);
        let sees = |head: usize, i: usize, j: usize| (head + 3 * i + 5 * j).is_multiple_of(every);
        Pattern::from(mask.build_from_fn(sees).unwrap())
    });
    prop_oneof![2 => dilated, 1 => blocks]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn parts_see_every_pair_once_and_exchanges_are_the_rows_that_are_seen(
        pattern in patterns(), n in 0usize..100, world in 1usize..6, layout in prop::sample::select(LAYOUTS.to_vec()),
        shared in any::<bool>(),
    ) {
        let shards = Shards::new(layout, n, world);
        let kv_heads = if shared { 2 } else { pattern.heads() };
        let group = pattern.heads() / kv_heads;
        let ring: Vec<_> = (0..world).map(|rank| RingSchedule::new(&pattern, &shards, kv_heads, rank).unwrap()).collect();
        let sizes = Sizes { batch: 3, kv_heads, d: 5, d_v: 7, bytes_per_element: 4 };
        let mut sent = 0;
        for to in 0..world {
            for by in 0..world {
                let (from, hop) = ((to + world - by) % world, &ring[to].hops()[by]);
                let [queries, keys] = [to, from].map(|rank| shards.positions(rank).collect::<Vec<_>>());
                let sees = |head, a: usize, b: usize| pattern.multiplicity(head, queries[a], keys[b]);
                for head in 0..pattern.heads() {
                    let mut seen = vec![vec![0; keys.len()]; queries.len()];
                    for part in &hop.parts {
                        let schedule = &part.schedule;
                        let runs = (0..schedule.branches()).flat_map(|b| schedule.runs(b, head));
                        for (a, row) in visits(schedule, runs).iter().enumerate() {
                            for (b, times) in row.iter().enumerate() {
                                seen[part.q.start + a][part.k.start + b] += times;
                            }
                        }
                    }
                    for (a, row) in seen.iter().enumerate() {
                        for (b, &times) in row.iter().enumerate() {
                            prop_assert_eq!(times, sees(head, a, b));
                        }
                    }
                }
                let needed = |kv_heads: std::ops::Range<usize>| -> Vec<usize> {
                    let heads = kv_heads.start * group..kv_heads.end * group;
                    let seen = |b: &usize| heads.clone().any(|h| (0..queries.len()).any(|a| sees(h, a, *b) > 0));
                    (0..keys.len()).filter(seen).collect()
                };
                if by > 0 {
                    for (kv_head, rows) in hop.incoming.heads().iter().enumerate() {
                        prop_assert_eq!(rows.iter().collect::<Vec<_>>(), needed(kv_head..kv_head + 1));
                        prop_assert_eq!(rows.iter().count(), rows.len());
                    }
                    prop_assert_eq!(hop.incoming.any().iter().collect::<Vec<_>>(), needed(0..kv_heads));
                    prop_assert_eq!(hop.incoming.is_empty(), hop.parts.is_empty());
                }
                prop_assert_eq!(&hop.incoming, &ring[from].hops()[by].outgoing);
                sent += hop.incoming.bytes(&sizes) + hop.incoming.label_bytes(3);
            }
        }
        let pairs: u64 = ring.iter().map(|schedule| schedule.visited_pairs()).sum();
        prop_assert_eq!(pairs, pattern.schedule(Span::full(n)).unwrap().visited_pairs());
        let forward: u64 = ring.iter().map(|schedule| schedule.traffic(&sizes, true).forward).sum();
        prop_assert_eq!(forward, sent);
        let traffic = ring.iter().map(|schedule| schedule.traffic(&sizes, false));
        let (forward, backward) = traffic.fold((0, 0), |(f, b), t| (f + t.forward, b + t.backward));
        prop_assert_eq!(backward, 2 * forward);
    }
}

#[test]
fn segments_that_fit_into_a_shard_are_not_sent() {
    let pattern = DilatedPattern::new(4, [(16, 1), (64, 4)])
        .causal(true)
        .build()
        .unwrap();
    for world in [2, 4, 8] {
        let shards = Shards::new(Layout::Contiguous, 512, world);
        for rank in 0..world {
            let ring = RingSchedule::new(&pattern, &shards, 4, rank).unwrap();
            assert!(ring.hops()[1..].iter().all(|hop| hop.incoming.is_empty()));
        }
    }
}

#[test]
fn a_crossing_segment_sends_its_residue_rows_to_later_ranks_only() {
    // One segment over both ranks, one row in four: 128 of 512, the 64 of the first rank are sent.
    let pattern = DilatedPattern::new(4, [(16, 1), (512, 4)])
        .causal(true)
        .build()
        .unwrap();
    let shards = Shards::new(Layout::Contiguous, 512, 2);
    let rank = |rank| RingSchedule::new(&pattern, &shards, 4, rank).unwrap();
    let [first, second] = [rank(0), rank(1)];
    let heads = first.hops()[1].outgoing.heads();
    assert!(
        heads
            .iter()
            .enumerate()
            .all(|(head, rows)| { rows.iter().eq((0..64).map(|i| 4 * i + head)) })
    );
    assert!(second.hops()[1].outgoing.is_empty());
}

#[test]
fn zigzag_and_stripes_balance_causal_attention() {
    let pattern = Pattern::dense(2, true);
    for layout in [Layout::Zigzag, Layout::Striped] {
        let shards = Shards::new(layout, 4096, 4);
        let rank = |rank| {
            RingSchedule::new(&pattern, &shards, 2, rank)
                .unwrap()
                .visited_pairs()
        };
        let pairs: Vec<u64> = (0..4).map(rank).collect();
        let (least, most) = (*pairs.iter().min().unwrap(), *pairs.iter().max().unwrap());
        assert!(most - least <= most / 500, "{layout:?} {pairs:?}");
    }
}

#[test]
fn a_million_positions_take_milliseconds() {
    let branches = [(2048, 1), (4096, 2), (8192, 4), (16384, 6), (32768, 12)];
    let pattern = DilatedPattern::new(12, branches)
        .causal(true)
        .build()
        .unwrap();
    for layout in [Layout::Contiguous, Layout::Zigzag] {
        let shards = Shards::new(layout, 1 << 20, 64);
        let start = std::time::Instant::now();
        RingSchedule::new(&pattern, &shards, 12, 5).unwrap();
        assert!(start.elapsed().as_millis() < 2000, "{:?}", start.elapsed());
    }
}
