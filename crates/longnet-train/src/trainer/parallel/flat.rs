//! Tensors of parameters in a few large messages.

use super::{Mesh, ParallelError};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor};
use burn_longnet::ring::{Comm, CommError};

/// Values of one message, unless one tensor has more.
const BUCKET: usize = 1 << 22;

/// The sum over all ranks of `gradients`, in f32 and with the same bits on each. `missing` lists the parameters,
/// counted in the model's order, that have none on any rank.
///
/// # Errors
///
/// A rank does not come.
pub(in crate::trainer) fn reduced<M: Module>(
    mesh: &Mesh,
    model: &M,
    gradients: GradientsParams,
    missing: &[usize],
) -> Result<GradientsParams, ParallelError> {
    let mut pack = Pack {
        comm: &*mesh.world,
        from: gradients,
        to: GradientsParams::new(),
        missing,
        count: 0,
        waiting: Vec::new(),
        held: 0,
        error: None,
    };
    model.visit(&mut pack);
    pack.flush();
    match pack.error {
        Some(error) => Err(error.into()),
        None => Ok(pack.to),
    }
}

/// Goes over the parameters and sends a bucket as soon as it is full.
struct Pack<'a> {
    comm: &'a dyn Comm,
    from: GradientsParams,
    to: GradientsParams,
    missing: &'a [usize],
    count: usize,
    /// Gradients of the bucket, and what puts their sums where they belong.
    waiting: Vec<(Tensor<1>, Put)>,
    held: usize,
    error: Option<CommError>,
}

type Put = Box<dyn FnOnce(&mut GradientsParams, Tensor<1>)>;

impl Pack<'_> {
    fn flush(&mut self) {
        self.held = 0;
        let (parts, puts): (Vec<_>, Vec<_>) = self.waiting.drain(..).unzip();
        if parts.is_empty() || self.error.is_some() {
            return;
        }
        let lengths: Vec<usize> = parts.iter().map(|part| part.dims()[0]).collect();
        match self.comm.all_reduce(Tensor::cat(parts, 0)) {
            Err(error) => self.error = Some(error),
            Ok(sum) => {
                let sums = sum.split_with_sizes(lengths, 0);
                for (sum, put) in sums.into_iter().zip(puts) {
                    put(&mut self.to, sum);
                }
            }
        }
    }
}

impl ModuleVisitor for Pack<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (id, shape) = (param.id, param.lazy_shape());
        let number = self.count;
        self.count += 1;
        if self.missing.contains(&number) {
            return;
        }
        let size = shape.num_elements();
        let gradient = match self.from.remove::<D>(id) {
            Some(gradient) => gradient.cast(FloatDType::F32).reshape([size]),
            // It has one on another rank.
            None => Tensor::zeros([size], &param.val().device().inner()),
        };
        if self.held > 0 && self.held + size > BUCKET {
            self.flush();
        }
        self.held += size;
        let put: Put = Box::new(move |to, sum| to.register(id, sum.reshape::<D, _>(shape)));
        self.waiting.push((gradient, put));
    }
}

/// The parameters, counted in the model's order, that `gradients` have nothing for.
pub(in crate::trainer) fn missing<M: Module>(model: &M, gradients: &GradientsParams) -> Vec<usize> {
    struct Missing<'a>(&'a GradientsParams, usize, Vec<usize>);
    impl ModuleVisitor for Missing<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.0.get::<D>(param.id).is_none() {
                self.2.push(self.1);
            }
            self.1 += 1;
        }
    }
    let mut missing = Missing(gradients, 0, Vec::new());
    model.visit(&mut missing);
    missing.2
}

/// A hash of the weights, bit by bit.
pub(in crate::trainer) fn fingerprint<M: Module>(model: &M) -> u32 {
    struct Hash(u32);
    impl ModuleVisitor for Hash {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().inner().into_data();
            self.0 = crc32c::crc32c_append(self.0, data.as_bytes());
        }
    }
    let mut hash = Hash(0);
    model.visit(&mut hash);
    hash.0
}
