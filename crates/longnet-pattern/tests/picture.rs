//! Masks as text and as drawings.

use longnet_pattern::{BlockGrid, BlockMask, BlockPattern};

fn mask(text: &str, heads: usize, grid: BlockGrid, causal: bool) -> BlockMask {
    let pattern: BlockPattern = text.parse().unwrap();
    pattern.mask(heads, grid, causal).unwrap()
}

#[test]
fn a_character_is_a_block_or_several() {
    let text = mask(
        "[window(16), all]",
        2,
        BlockGrid::cross(32, 48, 8, 16),
        true,
    )
    .to_text([0, 1]);
    assert_eq!(
        text,
        "head 0: 4 by 3 blocks of 8 by 16 positions\n+..\n+..\n.+.\n.+.\n\
         head 1: 4 by 3 blocks of 8 by 16 positions\n+..\n+..\n#+.\n#+.\n"
    );
    // 100 blocks, two to a character; the last row and column are whole.
    let all = mask("all", 3, BlockGrid::square(1000, 10), false).to_text([2, 0]);
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(
        lines[0],
        "heads 2, 0: 100 by 100 blocks of 10 by 10 positions, 2 by 2 of them a character"
    );
    assert_eq!(lines.len(), 51);
    assert!(lines[1..].iter().all(|line| *line == "#".repeat(50)));
    // The last one is a block by itself: cut on the diagonal, unless it is one position.
    for (block, end) in [(2, "##+"), (1, "###")] {
        let odd = mask("all", 1, BlockGrid::square(65 * block, block), true).to_text([0]);
        assert!(odd.lines().last().unwrap().ends_with(end), "{odd}");
    }
    let empty = mask("all", 1, BlockGrid::square(0, 8), true).to_text([0]);
    assert_eq!(empty.lines().count(), 1);
}

#[test]
fn the_cells_of_a_million_tokens_are_few() {
    let mask = mask(
        "window(1024) | global(512)",
        12,
        BlockGrid::square(1 << 20, 128),
        true,
    );
    let text = mask.to_text(0..12);
    assert!(text.starts_with(
        "heads 0 to 11: 8192 by 8192 blocks of 128 by 128 positions, 128 by 128 of them"
    ));
    assert_eq!(text.lines().count(), 65);
    let svg = mask.to_svg(0..12);
    assert!(svg.len() < 20_000, "{}", svg.len());
}

#[test]
fn a_drawing_is_well_formed_and_names_its_parts() {
    let grid = BlockGrid::square(2048, 128);
    let mask = mask(
        "[window(512) x 3, window(512) | global(128) x 2, block_branch(1024, 2) x 2, strided(512)]",
        8,
        grid,
        true,
    );
    let svg = mask.to_svg(0..8);
    for part in [
        "heads 0 to 2<",
        "heads 3, 4<",
        "head 5<",
        "head 6<",
        "head 7<",
        "key position (tokens)",
        "query position (tokens)",
        ">2048<",
        "full",
        "partial: cut by causality",
        "not listed",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    assert_eq!(svg.matches("<svg ").count(), svg.matches("</svg>").count());
    // Tags close themselves or are closed, in order.
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        let name = |text: &str| text.split([' ', '/']).next().unwrap().to_string();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(name(closed))),
            None if tag.ends_with('/') => {}
            None => open.push(name(tag)),
        }
    }
    assert!(open.is_empty());
    let one = mask.to_svg([7]);
    assert!(one.contains("head 7<") && !one.contains("head 5<"));
    for grid in [
        BlockGrid::square(0, 8),
        BlockGrid::square(1, 8),
        BlockGrid::cross(8, 8000, 8, 8),
    ] {
        let svg = BlockPattern::All.mask(1, grid, false).unwrap().to_svg([0]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}

#[test]
#[should_panic(expected = "head 8 of a mask with 8 heads")]
fn heads_that_are_not_there_are_refused() {
    mask("all", 8, BlockGrid::square(16, 8), false).to_text([8]);
}
