//! The one thing that engines do: an exchange, in which each rank sends some messages and receives some.
//! All collectives are made of exchanges, and an exchange is where ranks are found to disagree.

use super::{CommError, Expected};
use burn::tensor::{DType, Tensor};
use std::fmt;
use std::sync::Arc;

/// How messages travel between the ranks of a job.
pub(super) trait Wire: fmt::Debug + Send + Sync + 'static {
    /// Issues an exchange. The receipt waits for it and gives what came, in the order of `wants`.
    fn start(&self, exchange: Exchange) -> Result<Receipt, CommError>;

    /// Fails all calls of all ranks with this reason.
    fn abort(&self, why: &str);
}

pub(super) type Receipt = Box<dyn FnOnce() -> Result<Vec<Payload>, CommError> + Send>;

/// One rank's part in an exchange. Ranks are those of the job.
pub(super) struct Exchange {
    pub(super) operation: Operation,
    pub(super) members: Arc<[usize]>,
    pub(super) sends: Vec<(usize, Payload)>,
    pub(super) wants: Vec<(usize, Want)>,
}

/// Which exchange of which group. All ranks of the group must say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) group: u64,
    pub(super) number: u64,
    pub(super) kind: Kind,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (operation {} of its group)", self.kind, self.number)
    }
}

/// What an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Shift { by: usize },
    Reduce { len: usize },
    Gather,
    ToAll,
    GatherBytes,
    Barrier,
    Subgroup,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shift { by } => write!(f, "a shift by {by}"),
            Self::Reduce { len } => write!(f, "a reduction of {len} values"),
            Self::Gather => f.write_str("all_gather"),
            Self::ToAll => f.write_str("all_to_all"),
            Self::GatherBytes => f.write_str("all_gather_bytes"),
            Self::Barrier => f.write_str("a barrier"),
            Self::Subgroup => f.write_str("making a subgroup"),
        }
    }
}

/// What travels.
#[expect(
    clippy::large_enum_variant,
    reason = "there are as many as messages under way, and most are tensors"
)]
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Tensor(Tensor<1>),
    Bytes(Vec<u8>),
}

impl Payload {
    pub(super) fn content(&self) -> Content {
        match self {
            Self::Tensor(t) => Content {
                dtype: Some(t.dtype()),
                len: t.dims()[0],
            },
            Self::Bytes(bytes) => Content {
                dtype: None,
                len: bytes.len(),
            },
        }
    }

    pub(super) fn tensor(self) -> Tensor<1> {
        match self {
            Self::Tensor(t) => t,
            Self::Bytes(_) => unreachable!("bytes are delivered only where bytes are wanted"),
        }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Tensor(_) => unreachable!("tensors are delivered only where tensors are wanted"),
        }
    }
}

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// None: bytes.
    pub(super) dtype: Option<DType>,
    pub(super) len: usize,
}

impl Content {
    pub(super) fn bytes(&self) -> usize {
        self.len * self.dtype.map_or(1, |dtype| dtype.size())
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Some(dtype) => write!(f, "{} values of {dtype:?}", self.len),
            None => write!(f, "{} bytes", self.len),
        }
    }
}

/// What a rank expects of another.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// So many values.
    Exactly(Expected),
    /// As many values as the other has; `len` means nothing.
    Any(Expected),
    Bytes,
}

impl Want {
    /// Whether `from`, in `theirs`, sent what this rank, `to` in `ours`, wants; what differs otherwise.
    pub(super) fn check(
        &self,
        (from, theirs): (usize, Kind),
        (to, ours): (usize, Kind),
        content: Content,
    ) -> Result<(), String> {
        if theirs != ours {
            return Err(unexpected((from, theirs), (to, ours), content));
        }
        let wanted = match self {
            Self::Exactly(e) => Content {
                dtype: Some(e.dtype),
                len: e.len,
            },
            Self::Any(e) => Content {
                dtype: Some(e.dtype),
                len: content.len,
            },
            Self::Bytes => Content {
                dtype: None,
                len: content.len,
            },
        };
        if wanted != content {
            return Err(format!(
                "rank {from} sends {content}, rank {to} expects {wanted}"
            ));
        }
        Ok(())
    }
}

/// What differs if `from` sends something that `to` has no use for.
pub(super) fn unexpected(
    (from, theirs): (usize, Kind),
    (to, ours): (usize, Kind),
    content: Content,
) -> String {
    match theirs == ours {
        true => format!("rank {from} sends {content} to rank {to}, which expects nothing"),
        false => format!("rank {from} is in {theirs}, rank {to} in {ours}"),
    }
}
