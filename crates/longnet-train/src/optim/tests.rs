//! Tests of the optimisers by name.

use super::*;
use burn::module::{ModuleVisitor, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::collections::BTreeMap;

#[derive(Module, Debug)]
struct Small {
    embedding: Embedding,
    norm: LayerNorm,
    layer: Linear,
    head: Linear,
}

impl Small {
    fn new() -> Self {
        let device = Device::default().autodiff();
        Self {
            embedding: EmbeddingConfig::new(5, 3).init(&device),
            norm: LayerNormConfig::new(3).init(&device),
            layer: LinearConfig::new(3, 4).init(&device),
            head: LinearConfig::new(4, 5).with_bias(false).init(&device),
        }
    }

    /// A loss whose gradient is other in every step.
    fn loss(&self, step: usize) -> Tensor<1> {
        let device = self.head.weight.device();
        let ids = Tensor::<1, Int>::arange(0..5, &device).unsqueeze::<2>();
        let x = self.norm.forward(self.embedding.forward(ids));
        let logits = self.head.forward(self.layer.forward(x).tanh());
        let wanted = (step % 3) as f64;
        (logits - wanted).square().mean()
    }

    fn gradients(&self, factor: f64, step: usize) -> GradientsParams {
        let loss = self.loss(step).mul_scalar(factor);
        GradientsParams::from_grads(loss.backward(), self)
    }

    /// Each parameter by its name.
    fn weights(&self) -> BTreeMap<String, TensorData> {
        let mut weights = Weights::default();
        self.visit(&mut weights);
        weights.found
    }
}

#[derive(Default)]
struct Weights {
    path: Vec<String>,
    found: BTreeMap<String, TensorData>,
}

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().into_data();
        self.found.insert(self.path.join("."), data);
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

fn train(optimizer: OptimizerKind) -> Train {
    Train {
        optimizer,
        ..Train::default()
    }
}

fn all() -> Vec<OptimizerKind> {
    Settings::readers("weight_decay").collect()
}

const MATRICES: [&str; 2] = ["head.weight", "layer.weight"];

#[test]
fn with_every_optimizer_a_restored_state_makes_the_same_steps_bit_for_bit() {
    let mut trains: Vec<Train> = all().into_iter().map(train).collect();
    assert_eq!(trains.len(), 10);
    for optimizer in [OptimizerKind::Sgd, OptimizerKind::RmsProp] {
        for momentum in [0.0, 0.5] {
            trains.push(Train {
                momentum: Some(momentum),
                ..train(optimizer)
            });
        }
    }
    for train in trains {
        let kind = (train.optimizer, train.momentum);
        let mut model = Small::new();
        let mut original = optimizer(&train, &model);
        for step in 0..3 {
            let gradients = model.gradients(1.0, step);
            model = original.step(1e-2, model, gradients);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("optimizer.bpk");
        original.save(&path).unwrap();
        let mut restored = optimizer(&train, &model).load(&path).unwrap();
        // The state matters: an optimiser without it goes elsewhere.
        let mut fresh = optimizer(&train, &model);
        let (mut a, mut b, mut c) = (model.clone(), model.clone(), model);
        for step in 3..7 {
            let gradients = a.gradients(1.0, step);
            a = original.step(1e-2, a, gradients);
            let gradients = b.gradients(1.0, step);
            b = restored.step(1e-2, b, gradients);
            let gradients = c.gradients(1.0, step);
            c = fresh.step(1e-2, c, gradients);
        }
        assert_eq!(a.weights(), b.weights(), "{kind:?}");
        let has_state = kind != (OptimizerKind::Sgd, Some(0.0));
        assert_eq!(a.weights() != c.weights(), has_state, "{kind:?}");
    }
}

/// The gradients of every second parameter.
fn share(model: &Small, gradients: GradientsParams, rank: usize) -> GradientsParams {
    struct Share(GradientsParams, GradientsParams, Vec<u64>);
    impl ModuleVisitor for Share {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.remove::<D>(param.id);
            if let Some(gradient) = gradient.filter(|_| self.2.contains(&param.id.val())) {
                self.1.register(param.id, gradient);
            }
        }
    }
    let mut share = Share(gradients, GradientsParams::new(), ids(model, rank));
    model.visit(&mut share);
    share.1
}

/// The ids of every second parameter.
fn ids(model: &Small, rank: usize) -> Vec<u64> {
    struct Ids(Vec<u64>);
    impl ModuleVisitor for Ids {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.id.val());
        }
    }
    let mut ids = Ids(Vec::new());
    model.visit(&mut ids);
    ids.0.into_iter().skip(rank).step_by(2).collect()
}

#[test]
fn with_every_optimizer_shares_of_the_state_make_the_whole_and_are_taken_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("optimizer.bpk");
    for train in all().into_iter().map(train) {
        let kind = train.optimizer;
        let mut model = Small::new();
        let mut whole = optimizer(&train, &model);
        let mut shares = [0, 1].map(|_| optimizer(&train, &model));
        for step in 0..3 {
            for (rank, own) in shares.iter_mut().enumerate() {
                let gradients = share(&model, model.gradients(1.0, step), rank);
                let _ = own.step(1e-2, model.clone(), gradients);
            }
            let gradients = model.gradients(1.0, step);
            model = whole.step(1e-2, model, gradients);
        }
        let bytes = shares.map(|own| own.into_bytes().unwrap().to_vec());
        let merged = record::merged(bytes.into()).unwrap();
        assert_eq!(merged.len(), whole.to_record().len(), "{kind:?}");
        merged.save(&path).unwrap();
        let mut merged = optimizer(&train, &model).load(&path).unwrap();
        let mut shares = [0, 1].map(|rank| {
            let ids = ids(&model, rank);
            let some = record::load_some(&path, &|id| ids.contains(&id)).unwrap();
            optimizer(&train, &model).load_record(some)
        });
        let (mut a, mut b, mut c) = (model.clone(), model.clone(), model);
        for step in 3..7 {
            let gradients = a.gradients(1.0, step);
            a = whole.step(1e-2, a, gradients);
            let gradients = b.gradients(1.0, step);
            b = merged.step(1e-2, b, gradients);
            let gradients = [0, 1].map(|rank| share(&c, c.gradients(1.0, step), rank));
            for (own, gradients) in shares.iter_mut().zip(gradients) {
                c = own.step(1e-2, c, gradients);
            }
        }
        assert_eq!(a.weights(), b.weights(), "{kind:?}");
        assert_eq!(a.weights(), c.weights(), "{kind:?}");
    }
}

#[test]
fn every_optimizer_lowers_a_loss() {
    for kind in all() {
        let mut model = Small::new();
        let mut rule = optimizer(&train(kind), &model);
        let loss = |model: &Small| model.loss(1).into_scalar::<f64>();
        let before = loss(&model);
        let lr = match kind {
            OptimizerKind::Sgd | OptimizerKind::Lamb | OptimizerKind::Adafactor => 0.1,
            _ => 0.02,
        };
        for _ in 0..40 {
            let gradients = model.gradients(1.0, 1);
            model = rule.step(lr, model, gradients);
        }
        let after = loss(&model);
        assert!(after < 0.5 * before, "{kind:?}: from {before} to {after}");
    }
}

#[test]
fn matrices_decay_and_norms_biases_and_embeddings_do_not() {
    for kind in all() {
        let train = Train {
            weight_decay: Some(0.5),
            ..train(kind)
        };
        let model = Small::new();
        let before = model.weights();
        let mut rule = optimizer(&train, &model);
        // A gradient of 0 leaves decay alone to change a parameter.
        let gradients = model.gradients(0.0, 1);
        let after = rule.step(0.1, model, gradients).weights();
        for (name, value) in &before {
            let decays = MATRICES.contains(&name.as_str());
            assert_eq!(after[name] != *value, decays, "{kind:?}: {name}");
        }
        if matches!(
            kind,
            OptimizerKind::AdamW | OptimizerKind::Muon | OptimizerKind::Lion
        ) {
            let first = |all: &BTreeMap<String, TensorData>| {
                all["layer.weight"].iter::<f32>().next().unwrap()
            };
            assert!(
                (first(&after) - 0.95 * first(&before)).abs() < 1e-6,
                "{kind:?}"
            );
        }
    }
}

#[test]
fn muon_is_for_the_matrices_of_layers_and_adamw_for_all_else() {
    let model = Small::new();
    let gradients = || model.gradients(1.0, 1);
    let steps = |kind| {
        let mut rule = optimizer(&train(kind), &model);
        rule.step(0.1, model.clone(), gradients()).weights()
    };
    let (muon, adamw) = (steps(OptimizerKind::Muon), steps(OptimizerKind::AdamW));
    for (name, value) in &adamw {
        assert_eq!(muon[name] != *value, name == "layer.weight", "{name}");
    }
}

#[test]
fn what_is_not_set_is_the_optimizer_s_usual_value() {
    let of = |kind| Settings::of(&train(kind));
    let adamw = of(OptimizerKind::AdamW);
    assert_eq!((adamw.beta1, adamw.beta2, adamw.eps), (0.9, 0.98, 1e-6));
    assert_eq!(adamw.weight_decay, 0.01);
    let adan = of(OptimizerKind::Adan);
    assert_eq!((adan.beta1, adan.beta2, adan.beta3), (0.98, 0.92, 0.99));
    assert_eq!(of(OptimizerKind::Sgd).momentum, 0.9);
    let set = Train {
        beta1: Some(0.5),
        ..train(OptimizerKind::Lion)
    };
    assert_eq!(
        (Settings::of(&set).beta1, Settings::of(&set).beta2),
        (0.5, 0.99)
    );
}
