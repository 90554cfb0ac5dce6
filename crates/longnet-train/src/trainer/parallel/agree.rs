//! What ranks tell each other beside tensors.

use super::{Mesh, ParallelError, fingerprint};
use crate::config::Config;
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
    config: u32,
    weights: u32,
    text: String,
    /// The step of the newest checkpoint in the folder of the run.
    newest: Option<usize>,
}

impl Start {
    pub fn new<M: Module>(config: &Config, model: &M, text: String, newest: Option<usize>) -> Self {
        Self {
            config: alike(config),
            weights: fingerprint(model),
            text,
            newest,
        }
    }

    /// Sees that all ranks begin alike, and returns the newest checkpoint that rank 0 sees.
    pub fn agree(self, mesh: &Mesh) -> Result<Option<usize>, ParallelError> {
        let all = mesh.exchange(self)?;
        let first = &all[0];
        if let Some(rank) = all.iter().position(|start| start.config != first.config) {
            return Err(ParallelError::Config { rank });
        }
        let other = |start: &Self| (start.weights, &start.text) != (first.weights, &first.text);
        match all.iter().position(other) {
            Some(rank) => Err(ParallelError::Start { rank }),
            None => Ok(first.newest),
        }
    }
}

/// A hash of what `config` must have in common on all ranks: all but where hosts have their files, whose text is
/// compared itself.
fn alike(config: &Config) -> u32 {
    let mut config = config.clone();
    config.train.run_dir = String::new();
    (config.data.root, config.data.paths) = (String::new(), Vec::new());
    crc32c::crc32c(format!("{config:?}").as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::Device;
    use burn_longnet::pattern::ring::Layout;
    use burn_longnet::ring::LocalComm;

    #[test]
    fn ranks_with_other_configs_are_named_at_the_start() {
        let mut config = Config::default();
        config.parallel.ring = 2;
        let model = LinearConfig::new(2, 2).init(&Device::default());
        let error = |change: &(dyn Fn(&mut Config) + Sync)| {
            let all = LocalComm::run(2, Duration::from_secs(20), |world| {
                let mesh = Mesh::new(world, &config.parallel)?;
                let mut config = config.clone();
                if mesh.world.rank() == 1 {
                    change(&mut config);
                }
                Start::new(&config, &model, "text".into(), None).agree(&mesh)
            });
            all.into_iter()
                .map(|rank| rank.unwrap())
                .collect::<Vec<_>>()
        };
        for rank in error(&|config| config.parallel.layout = Layout::Zigzag) {
            assert!(matches!(rank, Err(ParallelError::Config { rank: 1 })));
        }
        // Hosts may have their files in different places.
        for rank in error(&|config| config.data.root = "/elsewhere".into()) {
            assert_eq!(rank.unwrap(), None);
        }
    }
}
