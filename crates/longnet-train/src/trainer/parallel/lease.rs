//! A communicator that can be taken back.

use burn::tensor::Tensor;
use burn_longnet::ring::{Comm, CommError, Expected, Pending, Traffic};
use std::sync::{Arc, PoisonError, RwLock};

/// What passes of a model communicate by. Autodiff graphs keep copies of it that outlive the run, and a rank has
/// ended, in the eyes of the others, when the last copy of its communicator is dropped: so they have this, which
/// can be [ended](Self::end).
#[derive(Debug)]
pub struct Lease {
    comm: RwLock<Option<Arc<dyn Comm>>>,
}

impl Lease {
    pub fn new(comm: Arc<dyn Comm>) -> Self {
        Self {
            comm: RwLock::new(Some(comm)),
        }
    }

    /// Drops the communicator. No call is possible any more.
    pub fn end(&self) {
        let mut comm = self.comm.write().unwrap_or_else(PoisonError::into_inner);
        *comm = None;
    }

    fn comm(&self) -> Arc<dyn Comm> {
        let comm = self.comm.read().unwrap_or_else(PoisonError::into_inner);
        comm.clone().expect("no pass of a model follows the run")
    }
}

impl Comm for Lease {
    fn rank(&self) -> usize {
        self.comm().rank()
    }

    fn world(&self) -> usize {
        self.comm().world()
    }

    fn start_shift(
        &self,
        by: usize,
        send: Option<Tensor<1>>,
        receive: Option<Expected>,
    ) -> Result<Pending, CommError> {
        self.comm().start_shift(by, send, receive)
    }

    fn all_reduce(&self, t: Tensor<1>) -> Result<Tensor<1>, CommError> {
        self.comm().all_reduce(t)
    }

    fn reduce_scatter(&self, parts: Vec<Tensor<1>>) -> Result<Tensor<1>, CommError> {
        self.comm().reduce_scatter(parts)
    }

    fn all_gather(&self, t: Tensor<1>) -> Result<Vec<Tensor<1>>, CommError> {
        self.comm().all_gather(t)
    }

    fn all_to_all(&self, parts: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        self.comm().all_to_all(parts)
    }

    fn all_gather_bytes(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommError> {
        self.comm().all_gather_bytes(bytes)
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.comm().barrier()
    }

    fn subgroup(&self, members: &[usize]) -> Result<Arc<dyn Comm>, CommError> {
        self.comm().subgroup(members)
    }

    fn traffic(&self) -> Traffic {
        self.comm().traffic()
    }

    fn abort(&self, why: &str) {
        self.comm().abort(why);
    }
}
