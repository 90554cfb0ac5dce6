//! Gradients of a module's parameters under the names that another project gives them.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};
use std::collections::BTreeMap;

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
