//! The communicator of a job with one rank.

use super::group::shift_to_oneself;
use super::{Comm, CommError, Expected, Pending, Traffic};
use burn::tensor::Tensor;
use std::sync::Arc;

/// One rank, alone: it has nobody to wait for, and no call fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl Single {
    fn only(parts: Vec<Tensor<1>>, operation: &str) -> Tensor<1> {
        let [part] = parts
            .try_into()
            .unwrap_or_else(|_| panic!("{operation} takes one part a rank of 1"));
        part.inner()
    }
}

impl Comm for Single {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn start_shift(
        &self,
        _: usize,
        send: Option<Tensor<1>>,
        receive: Option<Expected>,
    ) -> Result<Pending, CommError> {
        Ok(shift_to_oneself(send.map(Tensor::inner), receive))
    }

    fn all_reduce(&self, t: Tensor<1>) -> Result<Tensor<1>, CommError> {
        Ok(t.inner())
    }

    fn reduce_scatter(&self, parts: Vec<Tensor<1>>) -> Result<Tensor<1>, CommError> {
        Ok(Self::only(parts, "reduce_scatter"))
    }

    fn all_gather(&self, t: Tensor<1>) -> Result<Vec<Tensor<1>>, CommError> {
        Ok(vec![t.inner()])
    }

    fn all_to_all(&self, parts: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, CommError> {
        Ok(vec![Self::only(parts, "all_to_all")])
    }

    fn all_gather_bytes(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, CommError> {
        Ok(vec![bytes])
    }

    fn barrier(&self) -> Result<(), CommError> {
        Ok(())
    }

    fn subgroup(&self, members: &[usize]) -> Result<Arc<dyn Comm>, CommError> {
        assert_eq!(members, [0], "the only rank of 1 is rank 0");
        Ok(Arc::new(Self))
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    fn abort(&self, _: &str) {}
}
