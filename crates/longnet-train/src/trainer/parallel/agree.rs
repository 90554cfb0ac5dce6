//! What ranks tell each other beside tensors.

use super::{Mesh, ParallelError, fingerprint};
use burn::module::Module;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// What a rank says at the end of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// Why the run should end, if it should.
    pub stop: Option<String>,
    /// Whether a checkpoint should be written.
    pub save: bool,
}

/// Where a rank begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::trainer) struct Start {
    weights: u32,
    text: String,
    /// The step of the newest checkpoint in the folder of the run.
    newest: Option<usize>,
}

impl Start {
    pub fn new<M: Module>(model: &M, text: String, newest: Option<usize>) -> Self {
        Self {
            weights: fingerprint(model),
            text,
            newest,
        }
    }

    /// Sees that all ranks begin alike, and returns the newest checkpoint that rank 0 sees.
    pub fn agree(self, mesh: &Mesh) -> Result<Option<usize>, ParallelError> {
        let all = mesh.exchange(self)?;
        let first = &all[0];
        let other = |start: &Self| (start.weights, &start.text) != (first.weights, &first.text);
        match all.iter().position(other) {
            Some(rank) => Err(ParallelError::Start { rank }),
            None => Ok(first.newest),
        }
    }
}

impl Mesh {
    /// What every rank says, by rank.
    ///
    /// # Errors
    ///
    /// A rank does not come, or says nothing that can be read.
    pub fn exchange<T: Serialize + DeserializeOwned>(
        &self,
        said: T,
    ) -> Result<Vec<T>, ParallelError> {
        if self.is_single() {
            return Ok(vec![said]);
        }
        let bytes = serde_json::to_vec(&said).expect("messages are plain data");
        let all = self.world.all_gather_bytes(bytes)?;
        let read = |(rank, bytes): (usize, &Vec<u8>)| {
            serde_json::from_slice(bytes).map_err(|error| ParallelError::Message {
                rank,
                reason: error.to_string(),
            })
        };
        all.iter().enumerate().map(read).collect()
    }

    /// The word of all: what any rank wants stopped, and what rank 0 wants saved.
    ///
    /// # Errors
    ///
    /// As [`exchange`](Self::exchange).
    pub fn agree(&self, word: Word) -> Result<Word, ParallelError> {
        let all = self.exchange(word)?;
        Ok(Word {
            save: all[0].save,
            stop: all.into_iter().find_map(|word| word.stop),
        })
    }

    /// The result of `work`, which may take some ranks longer than the deadline: all of them show that they
    /// live until the last one is done.
    ///
    /// # Errors
    ///
    /// A rank ends or stalls meanwhile.
    pub fn patiently<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, ParallelError> {
        if self.is_single() {
            return Ok(work());
        }
        let beat = (self.deadline / 4).min(Duration::from_secs(10));
        std::thread::scope(|scope| {
            let worker = scope.spawn(work);
            loop {
                let until = Instant::now() + beat;
                while !worker.is_finished() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let done = worker.is_finished();
                let all = self.world.all_gather_bytes(vec![done.into()])?;
                if all.iter().all(|done| done == &[1]) {
                    break;
                }
            }
            let result = worker.join();
            Ok(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}
