//! What can end a run on several ranks.

use burn_longnet::ring::CommError;

/// Why ranks cannot go on together.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ParallelError {
    /// A rank that failed, stalled or does something else.
    #[error(
        "{0}; 'longnet train CONFIG --resume auto' goes on from the newest checkpoint, also on fewer ranks ([parallel])"
    )]
    Comm(#[from] CommError),
    /// Ranks are not where they should be.
    #[error(
        "step {step}: the weights of rank {rank} are not those of rank 0: its memory or device may be damaged, or ranks run different programs or on different kinds of devices; 'longnet train CONFIG --resume auto' goes on from the newest checkpoint, where they were equal"
    )]
    Drift {
        /// Steps done.
        step: usize,
        /// A rank with other weights.
        rank: usize,
    },
    /// Ranks that are told different things.
    #[error(
        "the config of rank {rank} is not that of rank 0; start all ranks with the same file and the same --set"
    )]
    Config {
        /// A rank with another config.
        rank: usize,
    },
    /// Ranks that begin in different places.
    #[error(
        "rank {rank} starts with other weights or another text than rank 0; start all ranks with the same program, config and text, on the same kind of device"
    )]
    Start {
        /// The rank.
        rank: usize,
    },
    /// A message that is none.
    #[error(
        "rank {rank} sent what is no message of this program: {reason}; start all ranks with the same program"
    )]
    Message {
        /// The rank.
        rank: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something went wrong on one rank alone.
    #[error("rank {rank}: {message}")]
    Rank {
        /// The rank.
        rank: usize,
        /// What it said.
        message: String,
    },
    /// Not as many ranks as the config asks for.
    #[error(
        "ring = {ring} times data = {data} are {wanted} ranks, but there are {found}; start it with 'mpirun -n {wanted} longnet train ...', or change them"
    )]
    Ranks {
        /// Of a sequence.
        ring: usize,
        /// Of a batch.
        data: usize,
        /// Their product.
        wanted: usize,
        /// Processes.
        found: usize,
    },
    /// No MPI in this program.
    #[error(
        "engine = \"mpi\", but this program was built without it; build it with --features mpi (cargo build --release -p longnet-cli --features mpi), or use engine = \"threads\""
    )]
    NotBuilt,
    /// Processes that know nothing of each other.
    #[error(
        "mpirun started {found} processes, but engine = \"threads\" has its ranks within one; use --set parallel.engine=mpi, or start it without mpirun"
    )]
    Mpirun {
        /// Processes.
        found: usize,
    },
}

impl ParallelError {
    /// The field of the config that is to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Ranks { .. } => Some("parallel.ring"),
            Self::NotBuilt | Self::Mpirun { .. } => Some("parallel.engine"),
            _ => None,
        }
    }

    /// Whether another rank failed, so that its error is the one to be told.
    pub fn is_echo(&self) -> bool {
        matches!(
            self,
            Self::Comm(CommError::Aborted { .. } | CommError::Gone { .. })
        )
    }
}
