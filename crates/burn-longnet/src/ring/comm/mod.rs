//! Communicators: what a rank can do together with the others.

mod error;
mod exchange;
mod group;
mod local;
#[cfg(feature = "mpi")]
mod mpi;
mod single;
#[cfg(test)]
mod tests;

pub use error::{CommError, catch, raise};
pub use local::LocalComm;
#[cfg(feature = "mpi")]
pub use mpi::MpiComm;
pub use single::Single;

use burn::tensor::{DType, Device, Tensor};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One rank's end of a group of ranks that run the same program.
///
/// All ranks of a group make the same calls in the same order; only what is sent differs. A rank that
/// does not come within the deadline, ends, panics or disagrees about a call (which one, how many
/// values, their dtype) fails the whole job: its calls return an error on *every* rank, at once, and
/// name the rank at fault. No call waits for ever. After an error the group is of no more use.
///
/// Tensors go in and come out without autodiff, in order and unchanged; what comes in is on the
/// caller's own device. A rank may hold several groups (see [`subgroup`](Self::subgroup)); calls of
/// one group from several threads of a rank have no order and are a mistake.
pub trait Comm: fmt::Debug + Send + Sync {
    /// This rank's number within the group, below [`world`](Self::world).
    fn rank(&self) -> usize;

    /// The number of ranks in the group.
    fn world(&self) -> usize;

    /// Sends `send` to rank `(rank + by) % world` and receives from rank `(rank - by) mod world`, and
    /// returns once both are issued. `None`: nothing goes that way. Both sides know what to expect.
    ///
    /// [`Pending::wait`] gives what was received. Between the two the caller can compute.
    ///
    /// # Errors
    ///
    /// See [`CommError`], as for all that follow.
    fn start_shift(
        &self,
        by: usize,
        send: Option<Tensor<1>>,
        receive: Option<Expected>,
    ) -> Result<Pending, CommError>;

    /// [`start_shift`](Self::start_shift) and [`Pending::wait`] in one.
    fn shift(
        &self,
        by: usize,
        send: Option<Tensor<1>>,
        receive: Option<Expected>,
    ) -> Result<Option<Tensor<1>>, CommError> {
        self.start_shift(by, send, receive)?.wait()
    }

    /// The sum over ranks, of as many values on each; the same bits on all.
    ///
    /// Ranks are added in the order of their numbers, 16-bit numbers in f32. Scratch: about two
    /// times the tensor.
    fn all_reduce(&self, t: Tensor<1>) -> Result<Tensor<1>, CommError>;

    /// The sum over ranks of their `parts[rank]`: each rank is left with one part of the sum.
    ///
    /// All ranks give parts of the same lengths, one a rank; the order of summing is that of
    /// [`all_reduce`](Self::all_reduce), and so are the bits.
    ///
    /// # Panics
    ///
    /// If there is not one part a rank, or their dtypes differ.
    fn reduce_scatter(&self, parts: Vec<Tensor<1>>) -> Result<Tensor<1>, CommError>;

    /// Every rank's tensor, by rank. Lengths may differ, also be 0; the dtype may not.
    fn all_gather(&self, t: Tensor<1>) -> Result<Vec<Tensor<1>>, CommError>;

    /// Sends `parts[to]` to each rank, and returns what each rank had for this one. Lengths may differ.
    ///
    /// # Panics
    ///
    /// If there is not one part a rank, or their dtypes differ.
    fn all_to_all(&self, parts: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError>;

    /// Every rank's bytes, by rank: for control data. Lengths may differ.
    fn all_gather_bytes(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommError>;

    /// Returns once all ranks have called it.
    fn barrier(&self) -> Result<(), CommError>;

    /// A group of some ranks of this one, numbered in the order given. All of them, and only they,
    /// make this call, with the same `members`.
    ///
    /// # Panics
    ///
    /// If `members` has a rank twice, one that does not exist, or not this one.
    fn subgroup(&self, members: &[usize]) -> Result<Arc<dyn Comm>, CommError>;

    /// What this rank has sent to other ranks through this group and its subgroups.
    fn traffic(&self) -> Traffic;

    /// Ends the job: every rank's calls, also those that wait now, fail with this reason.
    fn abort(&self, why: &str);
}

/// What a rank is about to receive.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The number of values.
    pub len: usize,
    /// Their dtype.
    pub dtype: DType,
    /// Where they are wanted.
    pub device: Device,
}

/// A transfer that is under way.
pub struct Pending(Box<dyn FnOnce() -> Result<Option<Tensor<1>>, CommError> + Send>);

impl Pending {
    fn new(wait: impl FnOnce() -> Result<Option<Tensor<1>>, CommError> + Send + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// What was received, once it has come; returns also only when the receiver of what was sent has
    /// begun the same transfer, so that no rank runs ahead and fills another's memory.
    ///
    /// # Errors
    ///
    /// See [`CommError`].
    pub fn wait(self) -> Result<Option<Tensor<1>>, CommError> {
        (self.0)()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// What was sent to other ranks, without headers and empty messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of tensors and control data.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}

/// `0..len` in `parts` consecutive ranges, of which the first are longer by one if it does not divide.
///
/// # Panics
///
/// If there are no parts.
pub fn even_parts(len: usize, parts: usize) -> Vec<Range<usize>> {
    let (each, longer) = (len / parts, len % parts);
    let start = |i: usize| i * each + i.min(longer);
    (0..parts).map(|i| start(i)..start(i + 1)).collect()
}
