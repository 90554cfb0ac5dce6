//! Training steps of the language model, as `longnet train` makes them: like that program, the process
//! keeps the memory that it frees (`longnet_train::backend::prepare_process`).

use crate::contender::{Contender, seconds};
use crate::oracle::Sample;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_longnet::model::LongNetLM;
use longnet_train::backend::prepare_process;
use longnet_train::config::Config;
use longnet_train::optim::{norm, optimizer, scale_and_clip};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::{fs, io};

/// Loss of each step so far; read while the trainer is a contender.
pub type Losses = Rc<RefCell<Vec<f64>>>;

/// The model, its optimiser and a sequence to learn.
pub struct OursTrainer {
    /// Taken by the optimiser while it makes the next one.
    model: Option<LongNetLM>,
    optimizer: ModuleOptimizer,
    config: Config,
    inputs: Tensor<2, Int>,
    targets: Tensor<2, Int>,
    /// Whether nothing compares the losses.
    unchecked: bool,
    losses: Losses,
}

const BETWEEN_STEPS: &str = "there is a model between steps";

impl OursTrainer {
    /// The model of `config` on `tokens`, one more than its context; each step adds to `losses`. From
    /// here on the process keeps the memory that it frees.
    pub fn new(config: &Config, tokens: &[i32], unchecked: bool, losses: Losses) -> Self {
        prepare_process();
        let device = Device::flex().autodiff();
        device.seed(0);
        let model = config.language_model().init(&device);
        let n = tokens.len() - 1;
        let row = |tokens: &[i32]| {
            Tensor::<2, Int>::from_data(TensorData::new(tokens.to_vec(), [1, n]), &device)
        };
        Self {
            optimizer: optimizer(&config.train, &model),
            model: Some(model),
            config: config.clone(),
            inputs: row(&tokens[..n]),
            targets: row(&tokens[1..]),
            unchecked,
            losses,
        }
    }

    /// Writes each parameter to a file of `folder` that has its name; the names with their shapes.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<Vec<(String, Vec<usize>)>> {
        let mut writer = Writer {
            folder,
            path: Vec::new(),
            shapes: Vec::new(),
            failed: Ok(()),
        };
        self.model.as_ref().expect(BETWEEN_STEPS).visit(&mut writer);
        writer.failed.map(|()| writer.shapes)
    }

    /// How many there are, in words.
    pub fn parameters(&self) -> String {
        let model = self.model.as_ref().expect(BETWEEN_STEPS);
        format!("{} parameters", model.num_params())
    }

    fn step(&mut self) {
        let model = self.model.take().expect(BETWEEN_STEPS);
        let loss = model.loss(self.inputs.clone(), self.targets.clone());
        let value = loss.clone().into_scalar();
        self.losses.borrow_mut().push(value);
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let norm = norm(&model, &grads);
        let grads = scale_and_clip(&model, grads, 1.0, norm, self.config.train.clip);
        let model = self.optimizer.step(self.config.train.lr, model, grads);
        self.model = Some(model);
    }
}

impl Contender for OursTrainer {
    fn name(&self) -> String {
        "ours".into()
    }

    fn note(&self) -> String {
        match self.unchecked {
            true => format!("{}; unchecked", self.parameters()),
            false => self.parameters(),
        }
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.inputs.dims()[1])
    }

    /// Only warms up: steps are compared with another implementation's, by their losses.
    fn check(&mut self, _: &[Sample]) -> Result<Option<f64>, String> {
        self.step();
        Ok(None)
    }

    fn run(&mut self) -> Result<f64, String> {
        Ok(seconds(|| self.step()))
    }
}

struct Writer<'a> {
    folder: &'a Path,
    path: Vec<String>,
    shapes: Vec<(String, Vec<usize>)>,
    failed: io::Result<()>,
}

impl ModuleVisitor for Writer<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join(".");
        let value = param.val();
        let shape = value.dims().to_vec();
        let numbers = super::tensors::numbers(value);
        let written = fs::write(self.folder.join(&name), bytemuck::cast_slice(&numbers));
        if self.failed.is_ok() {
            self.failed = written;
        }
        self.shapes.push((name, shape));
    }
}
