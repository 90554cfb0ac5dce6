//! Pictures of a mask, of bounded size.

mod svg;
mod text;

use super::{BlockGrid, BlockMask};

/// What a cell of a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// No pair is seen.
    None,
    /// Some pairs are. Of several blocks, up to a quarter of them are listed, or up to two, three or four.
    Partial {
        /// From 0 to 3.
        quarter: usize,
    },
    /// All pairs are.
    Full,
}

/// The blocks of a head, several to a cell where there are many.
struct Picture {
    /// Query blocks of a row of cells, key blocks of a column.
    q_step: usize,
    k_step: usize,
    /// `[row][column]`.
    cells: Vec<Vec<Cell>>,
}

impl Picture {
    /// At most `most` rows and columns, in time proportional to the blocks of the head.
    fn new(mask: &BlockMask, head: usize, most: usize) -> Self {
        let BlockGrid {
            q_block,
            k_block,
            q_blocks,
            k_blocks,
        } = mask.grid();
        let (q_step, k_step) = (
            q_blocks.div_ceil(most).max(1),
            k_blocks.div_ceil(most).max(1),
        );
        let columns = k_blocks.div_ceil(k_step);
        let rows = (0..q_blocks).step_by(q_step).map(|first| {
            let rows = first..q_blocks.min(first + q_step);
            let (mut listed, mut full) = (vec![0; columns], vec![0; columns]);
            for i in rows.clone() {
                // Key blocks that end before the first row does are full.
                let whole = match mask.is_causal() {
                    true => (i * q_block + 1) / k_block,
                    false => k_blocks,
                };
                for j in mask.row(head, i).iter() {
                    listed[j / k_step] += 1;
                    full[j / k_step] += usize::from(j < whole);
                }
            }
            let cell = |column: usize| {
                let width = k_step.min(k_blocks - column * k_step);
                let blocks = width * rows.len();
                match (listed[column], full[column]) {
                    (0, _) => Cell::None,
                    (_, full) if full == blocks => Cell::Full,
                    (listed, _) => Cell::Partial {
                        quarter: (4 * listed - 1) / blocks,
                    },
                }
            };
            (0..columns).map(cell).collect()
        });
        Self {
            q_step,
            k_step,
            cells: rows.collect(),
        }
    }

    /// Whether a cell is several blocks.
    fn is_coarse(&self) -> bool {
        self.q_step > 1 || self.k_step > 1
    }
}

/// The heads of a picture, those with the same lists together, by the first of them.
fn groups(mask: &BlockMask, heads: impl IntoIterator<Item = usize>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut group_of = std::collections::HashMap::new();
    for head in heads {
        assert!(
            head < mask.heads(),
            "head {head} of a mask with {} heads",
            mask.heads()
        );
        let next = groups.len();
        match *group_of.entry(mask.table_of()[head]).or_insert(next) {
            at if at < next => groups[at].push(head),
            _ => groups.push(vec![head]),
        }
    }
    groups
}

/// `head 3`, `heads 0 to 3, 6`.
fn caption(heads: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &head in heads {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == head => *last = head,
            _ => parts.push((head, head)),
        }
    }
    let part = |&(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    };
    let parts: Vec<String> = parts.iter().map(part).collect();
    let noun = if heads.len() == 1 { "head" } else { "heads" };
    format!("{noun} {}", parts.join(", "))
}
