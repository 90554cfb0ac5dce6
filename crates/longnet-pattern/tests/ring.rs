//! Sequences over the ranks of a ring.

use longnet_pattern::ring::{Layout, Shards};

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
