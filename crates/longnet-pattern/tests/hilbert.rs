//! Orders along a Hilbert curve.

use longnet_pattern::{BlockGrid, BlockPattern, Permutation, hilbert};

fn far(order: &Permutation, width: usize) -> usize {
    let cells = order.as_slice().windows(2);
    let steps = cells.map(|pair| {
        let place = |cell: usize| (cell / width, cell % width);
        let ((y, x), (v, u)) = (place(pair[0]), place(pair[1]));
        y.abs_diff(v) + x.abs_diff(u)
    });
    steps.filter(|step| *step != 1).count()
}

#[test]
fn every_cell_comes_once_and_beside_the_one_before() {
    for height in 0..70 {
        for width in 0..70 {
            let order = hilbert::order(height, width);
            assert_eq!(order.len(), height * width);
            let mut cells = order.as_slice().to_vec();
            cells.sort_unstable();
            assert!(cells.into_iter().eq(0..height * width));
            assert_eq!(far(&order, width), 0, "{height} by {width}");
        }
    }
    for (height, width) in [
        (1, 1000),
        (1000, 1),
        (4, 999),
        (999, 4),
        (2, 501),
        (224, 197),
        (1023, 512),
        (513, 512),
        (3, 1000),
    ] {
        assert_eq!(
            far(&hilbert::order(height, width), width),
            0,
            "{height} by {width}"
        );
    }
}

#[test]
fn a_square_of_a_power_of_two_has_the_curve_of_hilbert() {
    // By its definition: quadrants in turn, the first and last mirrored on a diagonal.
    fn curve(level: u32) -> Vec<(usize, usize)> {
        if level == 0 {
            return vec![(0, 0)];
        }
        let (part, half) = (curve(level - 1), 1 << (level - 1));
        let flip = |&(x, y): &(usize, usize)| (y, x);
        let last = |&(x, y): &(usize, usize)| (2 * half - 1 - y, half - 1 - x);
        let mut all: Vec<_> = part.iter().map(flip).collect();
        all.extend(part.iter().map(|&(x, y)| (x, y + half)));
        all.extend(part.iter().map(|&(x, y)| (x + half, y + half)));
        all.extend(part.iter().map(last));
        all
    }
    for level in 0..7 {
        let side = 1 << level;
        let order = hilbert::order(side, side);
        let expected: Vec<usize> = curve(level).iter().map(|(x, y)| y * side + x).collect();
        assert_eq!(order.as_slice(), expected);
    }
}

#[test]
fn near_in_the_order_is_near_in_the_grid() {
    // Runs of 64 cells lie in boxes not much larger than 8 by 8, where rows of the image are 1 by 64.
    for (height, width) in [(64, 64), (100, 75), (61, 64), (33, 300), (301, 34)] {
        let order = hilbert::order(height, width);
        for run in order.as_slice().chunks(64) {
            let side = |f: fn(usize, usize) -> usize| {
                let places = run.iter().map(|cell| f(*cell, width));
                places.clone().max().unwrap() - places.min().unwrap() + 1
            };
            let (high, wide) = (side(|c, w| c / w), side(|c, w| c % w));
            assert!(
                high * wide <= 4 * 64,
                "{height} by {width}: {high} by {wide}"
            );
        }
    }
}

#[test]
fn inverses_undo() {
    for (height, width) in [(1, 7), (5, 3), (8, 8), (9, 10)] {
        let order = hilbert::order(height, width);
        let items: Vec<_> = (0..height * width).map(|x| x * 3).collect();
        assert_eq!(order.inverse().apply(&order.apply(&items)), items);
        assert_eq!(order.apply(&order.inverse().apply(&items)), items);
        assert_eq!(order.inverse().inverse(), order);
    }
    assert_eq!(Permutation::new(vec![1, 0, 1]), None);
    assert_eq!(Permutation::new(vec![1, 2]), None);
    assert_eq!(Permutation::new(vec![0, 1]), Some(Permutation::identity(2)));
}

#[test]
#[should_panic(expected = "3 items for a permutation of 4")]
fn other_lengths_are_refused() {
    hilbert::order(2, 2).apply(&[1, 2, 3]);
}

#[test]
fn blocks_are_visited_in_any_order_with_the_same_pairs() {
    let (height, width) = (12, 20);
    for block in [4, 5, 7, 240, 300] {
        let order = hilbert::block_order(height, width, block);
        let grid = BlockGrid::square(height * width, block);
        assert_eq!(order.len(), grid.q_blocks);
        let pattern: BlockPattern = "[window(60) x 1, random(3) x 1]".parse().unwrap();
        let mask = pattern.mask(2, grid, false).unwrap();
        for head in 0..2 {
            let mut pairs = mask.visit(head, &order, &order);
            let queries: Vec<usize> = pairs.iter().map(|pair| pair[0]).collect();
            let place = order.inverse();
            assert!(queries.is_sorted_by_key(|i| place.as_slice()[*i]));
            let keys = pairs.chunk_by(|a, b| a[0] == b[0]);
            assert!(
                keys.into_iter()
                    .all(|row| row.is_sorted_by_key(|pair| place.as_slice()[pair[1]]))
            );
            pairs.sort_unstable();
            let plain = Permutation::identity(grid.q_blocks);
            assert_eq!(pairs, mask.visit(head, &plain, &plain));
            let listed = |i| mask.row(head, i).iter().map(move |j| [i, j]);
            assert!((0..grid.q_blocks).flat_map(listed).eq(pairs));
        }
    }
}
