//! Who the other ranks are.

use super::ParallelError;
use super::lease::Lease;
use crate::config::sections::{Engine, Parallel};
use crate::loader::{Batch, Part};
use burn_longnet::model::LmInput;
use burn_longnet::pattern::ring::{Layout, Shards};
use burn_longnet::ring::{Comm, SequenceShard, Single, even_parts};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The ranks of a run, as one of them sees them: rank `d * ring + r` is place `r` of the ring that has the rows of
/// data rank `d`, so that the ranks of a ring, which talk most, are neighbours.
#[derive(Clone)]
pub struct Mesh {
    /// All ranks.
    pub world: Arc<dyn Comm>,
    /// The ranks that share this one's sequences.
    ring: Arc<Lease>,
    /// Ranks that share the batch, and which of them this one is.
    pub data: (usize, usize),
    /// How positions are dealt to the ranks of the ring.
    pub layout: Layout,
    /// Whether the optimiser's state is shared.
    pub zero: bool,
    /// How long ranks wait for each other.
    pub deadline: Duration,
    /// Devices that compute, of which each does what was measured of one.
    pub devices: usize,
    /// The shard of the last length, which knows what to send.
    shard: Arc<Mutex<Option<SequenceShard>>>,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mesh({} of {})", self.world.rank(), self.world.world())
    }
}

impl Mesh {
    /// A run on one rank.
    pub fn single() -> Self {
        let single: Arc<dyn Comm> = Arc::new(Single);
        Self {
            ring: Arc::new(Lease::new(single.clone())),
            world: single,
            data: (1, 0),
            layout: Layout::Contiguous,
            zero: false,
            deadline: Duration::MAX,
            devices: 1,
            shard: Arc::default(),
        }
    }

    /// This rank's place among those of `world`. All of them make this call.
    ///
    /// # Errors
    ///
    /// There are more or fewer of them than the config asks for, or one of them does not come.
    pub fn new(world: Arc<dyn Comm>, parallel: &Parallel) -> Result<Self, ParallelError> {
        let &Parallel { ring, data, .. } = parallel;
        let (wanted, found) = (parallel.ranks(), world.world());
        if wanted != found {
            return Err(ParallelError::Ranks {
                ring,
                data,
                wanted,
                found,
            });
        }
        let at = world.rank() / ring;
        let members: Vec<usize> = (at * ring..(at + 1) * ring).collect();
        Ok(Self {
            ring: Arc::new(Lease::new(world.subgroup(&members)?)),
            world,
            data: (data, at),
            layout: parallel.layout,
            zero: parallel.zero,
            deadline: Duration::from_secs_f64(parallel.deadline),
            shard: Arc::default(),
            devices: match parallel.engine {
                Engine::Threads => 1,
                Engine::Mpi => wanted,
            },
        })
    }

    /// Whether there is no other rank.
    pub fn is_single(&self) -> bool {
        self.world.world() == 1
    }

    /// Whether this rank writes, prints and decides.
    pub fn leads(&self) -> bool {
        self.world.rank() == 0
    }

    /// After the last pass of the run: what autodiff graphs keep of it holds nothing.
    pub fn end_passes(&self) {
        self.ring.end();
    }

    /// What this rank takes of `batch`.
    pub fn part<'a>(&self, batch: &'a Batch) -> Part<'a> {
        let (data, at) = self.data;
        let rows = even_parts(batch.windows.len(), data)[at].clone();
        let (ranks, rank) = (self.ring.world(), self.ring.rank());
        if ranks == 1 {
            return Part::new(batch, rows, None);
        }
        let n = batch.windows[0].tokens.len() - 1;
        match n >= 2 * ranks {
            true => Part::new(
                batch,
                rows,
                Some((Shards::new(self.layout, n, ranks), rank)),
            ),
            // The short end of a text, in evaluations, is not worth sharing.
            false if rank == 0 => Part::new(batch, rows, None),
            false => Part::new(batch, 0..0, None),
        }
    }

    /// What a language model reads, `input` being of `part`.
    pub fn input(&self, input: LmInput, part: &Part<'_>) -> LmInput {
        let Some(shards) = part.shards() else {
            return input;
        };
        let mut kept = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        let shard = match kept.take() {
            Some(shard) if *shard.shards() == shards => shard,
            _ => SequenceShard::new(self.ring.clone(), self.layout, shards.n()),
        };
        input.shard(kept.insert(shard).clone())
    }
}
