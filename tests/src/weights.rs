//! Parameters of a Burn module under the names that another project gives them.

use crate::goldens::Goldens;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Gradients, Tensor, TensorData};
use std::collections::{BTreeMap, BTreeSet};

/// The other project's name of a parameter, from Burn's path.
pub type Name<'a> = &'a dyn Fn(&str) -> String;

/// Where a traversal is: field names, and the kinds of the containers.
#[derive(Default)]
struct Path(Vec<(String, String)>);

impl Path {
    fn enter(&mut self, name: &str, kind: &str) {
        self.0.push((name.to_owned(), kind.to_owned()));
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    fn name(&self, rename: Name) -> String {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        let path = names.join(".");
        // PyTorch's names of what Burn calls gamma and beta.
        let path = path.replace(".gamma", ".weight").replace(".beta", ".bias");
        rename(&path)
    }

    /// PyTorch keeps the weights of its linear layers as `[out, in]`, Burn as `[in, out]`.
    fn transposed(&self, rank: usize) -> bool {
        rank == 2 && self.0.iter().any(|(_, kind)| kind == "Struct:Linear")
    }
}

struct Loader<'a> {
    path: Path,
    weights: &'a Goldens,
    rename: Name<'a>,
    loaded: BTreeSet<String>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, kind: &str) {
        self.path.enter(name, kind);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name(self.rename);
        let golden = self.weights.get(&name);
        let (id, old, mapper) = param.consume();
        let mut shape: [usize; D] = golden.shape.clone().try_into().expect("rank");
        let mut data = golden.data.clone();
        if self.path.transposed(D) {
            data = transpose(&data, [shape[0], shape[1]]);
            shape.swap(0, 1);
        }
        assert_eq!(shape, old.dims(), "shape of {name}");
        self.loaded.insert(name);
        let data = TensorData::new(data, shape);
        let new = Tensor::from_data(data, (&old.device(), DType::F32));
        Param::from_mapped_value(id, new.set_require_grad(old.is_require_grad()), mapper)
    }
}

/// `module` with all its parameters replaced by `weights`.
///
/// # Panics
///
/// If a parameter is not among `weights` or has another shape, or if `weights` has one that the
/// module lacks, unless `spare` says so.
pub fn load<M: Module>(module: M, weights: &Goldens, rename: Name, spare: &[&str]) -> M {
    let mut loader = Loader {
        path: Path::default(),
        weights,
        rename,
        loaded: BTreeSet::new(),
    };
    let module = module.map(&mut loader);
    let left: Vec<&str> = weights
        .names()
        .into_iter()
        .filter(|name| !loader.loaded.contains(*name))
        .filter(|name| !spare.iter().any(|end| name.ends_with(end)))
        .collect();
    assert!(left.is_empty(), "the module has no parameters {left:?}");
    module
}

struct Reader<'a> {
    path: Path,
    gradients: &'a Gradients,
    rename: Name<'a>,
    read: BTreeMap<String, Vec<f64>>,
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, kind: &str) {
        self.path.enter(name, kind);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name(self.rename);
        let gradient =
            (param.val().grad(self.gradients)).unwrap_or_else(|| panic!("no gradient of {name}"));
        let dims = gradient.dims();
        let mut data = crate::run::numbers(gradient);
        if self.path.transposed(D) {
            data = transpose(&data, [dims[0], dims[1]]);
        }
        self.read.insert(name, data);
    }
}

/// The gradients of all parameters, in the other project's names and layout.
///
/// # Panics
///
/// If a parameter has no gradient.
pub fn gradients<M: Module>(
    module: &M,
    gradients: &Gradients,
    rename: Name,
) -> BTreeMap<String, Vec<f64>> {
    let mut reader = Reader {
        path: Path::default(),
        gradients,
        rename,
        read: BTreeMap::new(),
    };
    module.visit(&mut reader);
    reader.read
}

fn transpose(data: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..rows * columns)
        .map(|x| data[x % rows * columns + x / rows])
        .collect()
}
