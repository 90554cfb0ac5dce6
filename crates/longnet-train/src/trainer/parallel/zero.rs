//! The optimiser's state, a share on each rank (ZeRO-1, arXiv 1910.02054): each steps the parameters of its share, and
//! sends the others their new weights.

use super::{Mesh, ParallelError};
use crate::optim::record;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::store::RecordError;
use burn::tensor::{Shape, Tensor};
use std::collections::BTreeMap;

/// Values of one message of a rank, unless one tensor has more.
const BUCKET: usize = 1 << 22;
/// Bytes of one round of messages of all ranks when states are collected.
const CHUNK: usize = 16 << 20;

/// Who steps which parameters: all ranks have the same weights, so all of them share.
pub(in crate::trainer) struct Zero {
    rank: usize,
    /// The owner of each parameter by its id.
    owners: BTreeMap<u64, usize>,
    /// In each round of sharing weights, those that each rank sends.
    rounds: Vec<Vec<Vec<ParamId>>>,
}

impl Zero {
    /// Shares the parameters of `model`, as evenly as whole tensors allow.
    pub fn new<M: Module>(model: &M, mesh: &Mesh) -> Self {
        let mut sizes = Sizes(Vec::new());
        model.visit(&mut sizes);
        let ranks = mesh.world.world();
        let mut order: Vec<usize> = (0..sizes.0.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(sizes.0[i].1));
        let mut loads = vec![0; ranks];
        let mut of = vec![0; sizes.0.len()];
        for i in order {
            let least = (0..ranks).min_by_key(|&rank| loads[rank]).expect("a rank");
            loads[least] += sizes.0[i].1.max(1);
            of[i] = least;
        }
        let mut rounds: Vec<Vec<Vec<ParamId>>> = Vec::new();
        for rank in 0..ranks {
            let (mut round, mut held) = (0, 0);
            let own = sizes.0.iter().zip(&of).filter(|(_, of)| **of == rank);
            for ((id, size), _) in own {
                if held > 0 && held + size > BUCKET {
                    (round, held) = (round + 1, 0);
                }
                if rounds.len() <= round {
                    rounds.push(vec![Vec::new(); ranks]);
                }
                rounds[round][rank].push(*id);
                held += size;
            }
        }
        let owners = sizes.0.iter().zip(of);
        Self {
            rank: mesh.world.rank(),
            owners: owners.map(|((id, _), of)| (id.val(), of)).collect(),
            rounds,
        }
    }

    /// Whether this rank steps the parameter.
    pub fn owns(&self, id: u64) -> bool {
        self.owners.get(&id) == Some(&self.rank)
    }

    /// The gradients of this rank's share.
    pub fn own<M: Module>(&self, model: &M, gradients: GradientsParams) -> GradientsParams {
        struct Own<'a>(&'a Zero, GradientsParams, GradientsParams);
        impl ModuleVisitor for Own<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = self.1.remove::<D>(param.id);
                if let Some(gradient) = gradient.filter(|_| self.0.owns(param.id.val())) {
                    self.2.register(param.id, gradient);
                }
            }
        }
        let mut own = Own(self, gradients, GradientsParams::new());
        model.visit(&mut own);
        own.2
    }

    /// `model` with the weights that each rank has stepped; as far as they came, if a rank does not.
    pub fn share<M: Module>(&self, mesh: &Mesh, mut model: M) -> (M, Result<(), ParallelError>) {
        let mut sizes = Sizes(Vec::new());
        model.visit(&mut sizes);
        let sizes: BTreeMap<u64, usize> = sizes.0.iter().map(|(id, n)| (id.val(), *n)).collect();
        for round in &self.rounds {
            let mut sent = Flat {
                wanted: &round[self.rank],
                like: None,
                parts: Vec::new(),
            };
            model.visit(&mut sent);
            let own = match sent.parts.is_empty() {
                false => Tensor::cat(sent.parts, 0),
                true => sent.like.expect("a model has parameters").slice(0..0),
            };
            let mut weights = BTreeMap::new();
            let received = match mesh.world.all_gather(own) {
                Ok(received) => received,
                Err(error) => return (model, Err(error.into())),
            };
            for (ids, all) in round.iter().zip(received) {
                let mut at = 0;
                for id in ids {
                    let size = sizes[&id.val()];
                    weights.insert(id.val(), all.clone().slice(at..at + size));
                    at += size;
                }
            }
            model = model.map(&mut Replace(weights));
        }
        (model, Ok(()))
    }

    /// Each rank's share of the state of the optimiser, on rank 0; None on the others.
    ///
    /// # Errors
    ///
    /// A rank does not come, or its state cannot be read.
    pub fn gather(
        &self,
        mesh: &Mesh,
        optimizer: &ModuleOptimizer,
    ) -> Result<Option<Vec<Vec<u8>>>, ParallelError> {
        let bytes = optimizer
            .into_bytes()
            .map_err(|e| unreadable(self.rank, e))?;
        let lengths = mesh.exchange(bytes.len())?;
        let mut all: Vec<Vec<u8>> = vec![Vec::new(); lengths.len()];
        let most = lengths.iter().copied().max().unwrap_or(0);
        let length = CHUNK.div_ceil(lengths.len());
        for start in (0..most).step_by(length) {
            let end = (start + length).min(bytes.len());
            let chunk = bytes.get(start..end).unwrap_or_default().to_vec();
            let chunks = mesh.world.all_gather_bytes(chunk)?;
            if mesh.leads() {
                for (all, chunk) in all.iter_mut().zip(chunks) {
                    all.extend(chunk);
                }
            }
        }
        Ok(mesh.leads().then_some(all))
    }

    /// The whole state of which these are the shares.
    ///
    /// # Errors
    ///
    /// One of them cannot be read.
    pub fn merged(shares: Vec<Vec<u8>>) -> Result<OptimizerRecord, ParallelError> {
        record::merged(shares).map_err(|e| unreadable(0, e))
    }
}

fn unreadable(rank: usize, error: RecordError) -> ParallelError {
    ParallelError::Message {
        rank,
        reason: error.to_string(),
    }
}

/// Ids and sizes in the model's order.
struct Sizes(Vec<(ParamId, usize)>);

impl ModuleVisitor for Sizes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push((param.id, param.lazy_shape().num_elements()));
    }
}

/// Collects some weights.
struct Flat<'a> {
    wanted: &'a [ParamId],
    /// Any weights, for their dtype and device.
    like: Option<Tensor<1>>,
    parts: Vec<Tensor<1>>,
}

impl ModuleVisitor for Flat<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let flat = || {
            let weights = param.val().inner();
            let size = weights.shape().num_elements();
            weights.reshape([size])
        };
        if self.wanted.contains(&param.id) {
            self.parts.push(flat());
        } else if self.like.is_none() {
            self.like = Some(flat());
        }
    }
}

/// Puts new weights in the places of the old ones.
struct Replace(BTreeMap<u64, Tensor<1>>);

impl ModuleMapper for Replace {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove(&param.id.val()) {
            None => param,
            Some(new) => param.map(|old| {
                let shape: Shape = old.shape();
                let requires = old.is_require_grad();
                Tensor::from_inner(new.reshape::<D, _>(shape)).set_require_grad(requires)
            }),
        }
    }
}
