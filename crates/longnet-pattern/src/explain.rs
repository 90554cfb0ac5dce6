//! A pattern in words.

use crate::{DilatedPattern, Pattern};
use std::fmt::Write;

impl Pattern {
    /// What query position `i` of `head` sees: one line a branch, or the key blocks.
    ///
    /// # Panics
    ///
    /// If `head` is not below the number of heads.
    pub fn explain(&self, head: usize, i: usize) -> String {
        let heads = self.heads();
        assert!(head < heads, "head {head} of a pattern with {heads} heads");
        match self {
            Self::Dilated(dilated) => dilated.explain(head, i),
            Self::Blocks(mask) => mask.explain(head, i),
        }
    }

    /// What a user should know before training with the pattern at length `n`: rows that see
    /// nothing, branches without a head. Empty when there is nothing to say.
    pub fn warnings(&self, n: usize) -> Vec<String> {
        match self {
            Self::Dilated(dilated) => dilated.warnings(n),
            Self::Blocks(mask) => mask.warnings(n),
        }
    }
}

impl DilatedPattern {
    fn warnings(&self, n: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        for (b, branch) in self.branches.iter().enumerate() {
            let (w, r) = (branch.segment, branch.dilation);
            let heads: Vec<usize> = self.heads_of(b).collect();
            if heads.is_empty() {
                warnings.push(format!(
                    "branch {b} (segment {w}, dilation {r}) has no heads: {} heads are split over {} branches; use more heads or fewer branches",
                    self.all_heads,
                    self.branches.len()
                ));
            }
            let blind: Vec<usize> = heads
                .into_iter()
                .filter(|&h| self.offset(b, h).is_none())
                .collect();
            if !blind.is_empty() {
                warnings.push(format!(
                    "branch {b} (segment {w}, dilation {r}): heads {blind:?} have an offset of {w} or more and see nothing; use a dilation rate up to the segment length"
                ));
            }
        }
        for head in 0..self.heads() {
            let rows = self.uncovered_rows(head, n);
            if rows > 0 {
                warnings.push(format!(
                    "head {head}: {rows} of {n} rows are covered by no branch and attend to nothing; add a branch with dilation 1"
                ));
            }
        }
        warnings
    }

    fn explain(&self, head: usize, i: usize) -> String {
        let mut text = format!("head {head}, position {i}\n");
        let mut total = 0;
        for (b, branch) in self.branches.iter().enumerate() {
            let (w, r) = (branch.segment, branch.dilation);
            let start = i / w * w;
            let _ = write!(text, "  branch {b} (segment {w}, dilation {r}): ");
            let line = match self.offset(b, head) {
                None if !self.heads_of(b).contains(&head) => "not run by this head".to_string(),
                None => format!("sees nothing, its offset is not below the segment length {w}"),
                Some(o) if !self.covers(b, head, i) => format!(
                    "sees nothing, the position is off the residue {o} mod {r} of segment {start}..{}",
                    start + w
                ),
                Some(o) => {
                    let end = if self.causal { i + 1 } else { start + w };
                    let keys: Vec<usize> = (start + o..end).step_by(r).take(4).collect();
                    let count = (end - start - o).div_ceil(r);
                    let last = start + o + (count - 1) * r;
                    total += count;
                    let list = keys
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ");
                    let more = match count {
                        0..=4 => String::new(),
                        5 => format!(", {last}"),
                        _ => format!(", ..., {last}"),
                    };
                    format!(
                        "{count} keys of segment {start}..{}: {list}{more}",
                        start + w
                    )
                }
            };
            text.push_str(&line);
            text.push('\n');
        }
        if total == 0 {
            text.push_str("  attends to nothing: its output is zero\n");
        } else {
            let _ = writeln!(
                text,
                "  {total} keys in all, a key seen by two branches counted twice"
            );
        }
        text
    }
}
