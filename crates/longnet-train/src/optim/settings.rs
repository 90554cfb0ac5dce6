//! The numbers of each optimiser.

use crate::config::sections::{OptimizerKind, Train};

use OptimizerKind::{AdaGrad, Adafactor, Adam, AdamW, Adan, Lamb, Lion, Muon, RmsProp, Sgd};

/// What an optimiser computes with: what is set, and its usual values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Decay rate of the mean of gradients.
    pub beta1: f32,
    /// Decay rate of the mean of squared gradients; for some, of another one.
    pub beta2: f32,
    /// Adan's decay rate of the mean of squares.
    pub beta3: f32,
    /// Share of the last step that is kept.
    pub momentum: f64,
    /// Against division by 0.
    pub eps: f32,
    /// Weight decay of matrices.
    pub weight_decay: f32,
}

impl Settings {
    /// Of the optimiser of `train`.
    pub fn of(train: &Train) -> Self {
        let kind = train.optimizer;
        let beta1 = match kind {
            Adan => 0.98,
            _ => 0.9,
        };
        let beta2 = match kind {
            Adan => 0.92,
            Lion | RmsProp => 0.99,
            _ => 0.98,
        };
        let momentum = match kind {
            Muon => 0.95,
            Sgd => 0.9,
            _ => 0.0,
        };
        let eps = match kind {
            AdaGrad => 1e-10,
            Adan | RmsProp => 1e-8,
            Adafactor => 1e-30,
            _ => 1e-6,
        };
        let weight_decay = match kind {
            Lion => 0.1,
            Adam | AdaGrad | RmsProp | Sgd => 0.0,
            AdamW | Adafactor | Adan | Lamb | Muon => 0.01,
        };
        Self {
            beta1: train.beta1.unwrap_or(beta1) as f32,
            beta2: train.beta2.unwrap_or(beta2) as f32,
            beta3: train.beta3.unwrap_or(0.99) as f32,
            momentum: train.momentum.unwrap_or(momentum),
            eps: train.eps.unwrap_or(eps) as f32,
            weight_decay: train.weight_decay.unwrap_or(weight_decay) as f32,
        }
    }

    /// The fields of the config that only some optimisers read: name, value, and whether the chosen one
    /// does.
    pub fn fields(train: &Train) -> [(&'static str, Option<f64>, bool); 5] {
        let field = |name, value| (name, value, reads(train.optimizer, name));
        [
            field("beta1", train.beta1),
            field("beta2", train.beta2),
            field("beta3", train.beta3),
            field("momentum", train.momentum),
            field("eps", train.eps),
        ]
    }

    /// The optimisers that read `field`.
    pub fn readers(field: &str) -> impl Iterator<Item = OptimizerKind> {
        let all = [
            AdamW, Adam, Adafactor, AdaGrad, Adan, Lamb, Lion, Muon, RmsProp, Sgd,
        ];
        all.into_iter().filter(move |&kind| reads(kind, field))
    }
}

fn reads(kind: OptimizerKind, field: &str) -> bool {
    match field {
        "beta1" => matches!(kind, AdamW | Adam | Adan | Lamb | Lion | Muon),
        "beta2" => matches!(kind, AdamW | Adam | Adan | Lamb | Lion | Muon | RmsProp),
        "beta3" => kind == Adan,
        "momentum" => matches!(kind, Muon | RmsProp | Sgd),
        "eps" => !matches!(kind, Lion | Sgd),
        _ => true,
    }
}
