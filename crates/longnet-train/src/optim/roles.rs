//! What parameters are for an optimiser.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

/// The parameters of a model. The output head is a matrix that stands in none of the lists: it decays,
/// and is not among what a matrix optimiser such as Muon is for.
#[derive(Debug, Default)]
pub(super) struct Roles {
    /// Weights of layers.
    pub matrices: Vec<ParamId>,
    /// Norms and biases.
    pub vectors: Vec<ParamId>,
    /// A vector for each token or position.
    pub embeddings: Vec<ParamId>,
}

impl Roles {
    pub(super) fn of<M: Module>(model: &M) -> Self {
        let mut visit = Visit::default();
        model.visit(&mut visit);
        visit.roles
    }
}

#[derive(Default)]
struct Visit {
    /// Names and types of the modules around a parameter.
    path: Vec<(String, String)>,
    roles: Roles,
}

impl ModuleVisitor for Visit {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let within = |is: fn(&(String, String)) -> bool| self.path.iter().any(is);
        let ids = if within(|(_, module)| module.contains("Embedding")) {
            &mut self.roles.embeddings
        } else if D < 2 {
            &mut self.roles.vectors
        } else if within(|(name, _)| name == "head") {
            return;
        } else {
            &mut self.roles.matrices
        };
        ids.push(param.id);
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.into(), container_type.into()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}
