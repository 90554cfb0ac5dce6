//! This rank's part of a sequence.

use super::Comm;
use crate::pattern::ring::{Layout, RingSchedule, Shards};
use crate::pattern::{Pattern, Progression};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The part of a sequence that this rank holds, and the way to the ranks that hold the rest.
///
/// Clones share what is worked out once for each pattern: keep a shard as long as the length stays.
#[derive(Clone)]
pub struct SequenceShard {
    comm: Arc<dyn Comm>,
    shards: Shards,
    known: Arc<Mutex<Vec<Known>>>,
}

/// What a rank does for a pattern and a number of kv heads.
struct Known {
    pattern: Pattern,
    kv_heads: usize,
    schedule: Arc<RingSchedule>,
}

/// Patterns that stay: a model has one a kind of layer, a few more where heads are of several kinds.
const KEPT: usize = 64;

impl fmt::Debug for SequenceShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequenceShard")
            .field("rank", &self.rank())
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}

impl SequenceShard {
    /// This rank's part of a sequence of `n` positions, dealt to the ranks of `comm` by `layout`.
    pub fn new(comm: Arc<dyn Comm>, layout: Layout, n: usize) -> Self {
        Self {
            shards: Shards::new(layout, n, comm.world()),
            comm,
            known: Arc::default(),
        }
    }

    /// The ranks.
    pub fn comm(&self) -> &Arc<dyn Comm> {
        &self.comm
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.comm.rank()
    }

    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.comm.world()
    }

    /// Who holds which positions.
    pub fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Number of positions of the whole sequence.
    pub fn n(&self) -> usize {
        self.shards.n()
    }

    /// How many positions this rank holds.
    pub fn rows(&self) -> usize {
        self.shards.rows(self.rank())
    }

    /// The positions of this rank, see [`Shards::chunks`].
    pub fn chunks(&self) -> Vec<Progression> {
        self.shards.chunks(self.rank())
    }

    /// The positions of this rank, row by row.
    pub fn positions(&self, device: &Device) -> Tensor<1, Int> {
        let positions: Vec<i64> = (self.shards.positions(self.rank()))
            .map(|position| position as i64)
            .collect();
        let rows = positions.len();
        Tensor::from_data(TensorData::new(positions, [rows]), device)
    }

    /// This rank's part of a tensor that has all positions along `dim`: tokens, labels, documents, masks.
    ///
    /// # Panics
    ///
    /// If there are not `n` of them.
    pub fn take<const D: usize, K: burn::tensor::kind::Basic>(
        &self,
        all: Tensor<D, K>,
        dim: usize,
    ) -> Tensor<D, K> {
        let n = all.dims()[dim];
        assert_eq!(
            n,
            self.n(),
            "dim {dim} has {n} positions, the sequence {}",
            self.n()
        );
        match &self.chunks()[..] {
            [] => all.slice_dim(dim, 0..0),
            [chunk] if chunk.step > 1 => {
                let rows = self.positions(&all.device());
                all.select(dim, rows)
            }
            [chunk] => all.slice_dim(dim, chunk.first..chunk.end()),
            chunks => {
                let part =
                    |chunk: &Progression| all.clone().slice_dim(dim, chunk.first..chunk.end());
                Tensor::cat(chunks.iter().map(part).collect(), dim)
            }
        }
    }

    /// What this rank does in attention over `pattern`.
    ///
    /// # Panics
    ///
    /// As [`RingSchedule::new`], and if the pattern cannot be built over this sequence.
    pub fn schedule(&self, pattern: &Pattern, kv_heads: usize) -> Arc<RingSchedule> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &Known| known.kv_heads == kv_heads && known.pattern == *pattern;
        if let Some(at) = known.iter().position(same) {
            known[..=at].rotate_right(1);
            return known[0].schedule.clone();
        }
        let schedule = RingSchedule::new(pattern, &self.shards, kv_heads, self.rank())
            .unwrap_or_else(|error| panic!("{error}"));
        let schedule = Arc::new(schedule);
        known.insert(
            0,
            Known {
                pattern: pattern.clone(),
                kv_heads,
                schedule: schedule.clone(),
            },
        );
        known.truncate(KEPT);
        schedule
    }
}
