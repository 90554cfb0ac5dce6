//! What a schedule costs, exactly.

use crate::{DilatedPattern, Pattern, Schedule};

/// The sizes that turn visited pairs into FLOPs and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Batch entries.
    pub batch: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Head size of queries and keys.
    pub d: usize,
    /// Head size of values and outputs.
    pub d_v: usize,
    /// Bytes of one element of q, k, v and out.
    pub bytes_per_element: usize,
}

/// The cost of one attention call. FLOPs count a multiply-add as two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Visited (query, key) pairs over all heads and batch entries, with multiplicity.
    pub pairs: u64,
    /// FLOPs of the forward pass: two products a pair.
    pub forward_flops: u64,
    /// FLOPs of the backward pass: five products a pair, the scores among them.
    pub backward_flops: u64,
    /// Bytes of the tensors that the forward pass reads and writes once: q, k, v, out, lse.
    pub forward_bytes: u64,
    /// Bytes of the tensors that the backward pass reads and writes once: q, k, v, out, lse, their
    /// gradients.
    pub backward_bytes: u64,
}

impl Schedule {
    /// Visited pairs of one batch entry, over all heads, with multiplicity.
    pub fn visited_pairs(&self) -> u64 {
        (0..self.branches()).map(|b| self.branch_pairs(b)).sum()
    }

    /// Visited pairs of one branch of one batch entry, over all heads.
    pub fn branch_pairs(&self, branch: usize) -> u64 {
        // Heads with the same residue, or with the same lists, visit the same pairs.
        let class = |head| match self.mask() {
            Some(mask) => Some(mask.table_of()[head] as usize),
            None => self.offset(branch, head),
        };
        let mut known: Vec<(usize, u64)> = Vec::new();
        let mut total = 0;
        for head in 0..self.heads() {
            let Some(class) = class(head) else {
                continue;
            };
            let pairs = match known.iter().find(|(c, _)| *c == class) {
                Some(&(_, pairs)) => pairs,
                None => {
                    let pairs = self.runs(branch, head).map(|run| run.pairs()).sum();
                    known.push((class, pairs));
                    pairs
                }
            };
            total += pairs;
        }
        total
    }

    /// The cost of one call with these sizes.
    pub fn cost(&self, sizes: &Sizes) -> Cost {
        let Sizes {
            batch,
            kv_heads,
            d,
            d_v,
            bytes_per_element,
        } = *sizes;
        let [batch, kv_heads, d, d_v, bytes] =
            [batch, kv_heads, d, d_v, bytes_per_element].map(|x| x as u64);
        let (n_q, n_k, heads) = (
            self.span().n_q as u64,
            self.span().n_k as u64,
            self.heads() as u64,
        );
        let pairs = batch * self.visited_pairs();
        let queries = batch * heads * n_q;
        let keys = batch * kv_heads * n_k;
        let inputs = (queries * d + keys * (d + d_v)) * bytes;
        // lse is f32, f64 beside f64.
        let (out, lse) = (queries * d_v * bytes, queries * bytes.max(4));
        Cost {
            pairs,
            forward_flops: 2 * pairs * (d + d_v),
            backward_flops: 2 * pairs * (3 * d + 2 * d_v),
            forward_bytes: inputs + out + lse,
            backward_bytes: 2 * (inputs + out + lse),
        }
    }
}

impl Pattern {
    /// The most key/value rows that a decoding cache of kv head `kv_head` of `kv_heads` must hold at
    /// once over the first `n` positions: keys that the current or a later position of their segment
    /// still sees.
    ///
    /// # Panics
    ///
    /// If `kv_heads` does not divide the pattern's heads.
    pub fn cache_entries(&self, kv_heads: usize, kv_head: usize, n: usize) -> usize {
        let heads = self.heads();
        assert!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "kv_heads = {kv_heads} must divide heads = {heads}"
        );
        match self {
            Self::Dilated(dilated) => dilated.cache_entries(kv_heads, kv_head, n),
            Self::Blocks(mask) => mask.cache_entries(kv_heads, kv_head, n),
        }
    }
}

impl DilatedPattern {
    fn cache_entries(&self, kv_heads: usize, kv_head: usize, n: usize) -> usize {
        let group = self.heads() / kv_heads;
        let mut residues: Vec<(usize, usize, usize)> = Vec::new();
        for head in kv_head * group..(kv_head + 1) * group {
            for (b, branch) in self.branches.iter().enumerate() {
                if let Some(offset) = self.offset(b, head) {
                    residues.push((branch.segment, branch.dilation, offset));
                }
            }
        }
        residues.sort_unstable();
        residues.dedup();
        // Needs repeat with the segments' least common multiple. `ends[p]`: how many of the keys up
        // to p are needed at p for the last time.
        let n = self.period(n);
        let mut ends = vec![0usize; n];
        let (mut live, mut most) = (0, 0);
        for p in 0..n {
            let last_need = |&(w, r, o): &(usize, usize, usize)| {
                // The last row of the segment that is on the residue.
                let start = p / w * w;
                (p % w % r == o).then(|| {
                    let last = w.min(n - start) - 1;
                    start + o + (last - o) / r * r
                })
            };
            if let Some(last) = residues.iter().filter_map(last_need).max() {
                live += 1;
                ends[last] += 1;
            }
            most = most.max(live);
            live -= ends[p];
        }
        most
    }
}
