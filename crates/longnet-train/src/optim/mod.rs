//! Optimisers by name, with groups of parameters, and the norm of the whole gradient.

mod clip;
pub mod record;
mod roles;
mod settings;
#[cfg(test)]
mod tests;

pub use clip::{norm, scale_and_clip};
pub use settings::Settings;

use crate::config::sections::{OptimizerKind, Train};
use burn::module::{Module, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdaGradConfig, AdafactorConfig, AdamConfig, AdanConfig, AdjustLrFn, DynOptimizer, LambConfig,
    LionConfig, ModuleOptimizer, MuonConfig, Optimizer, RmsPropConfig, SgdConfig,
};
use burn_longnet::optim::AdamW;
use roles::Roles;

/// The optimiser of `train` for `model`. Matrices, the output head among them, have weight decay; norms,
/// biases and embeddings do not.
///
/// Burn's L-BFGS is not among them: it evaluates the loss several times a step, for which batches that
/// change are no use.
pub fn optimizer<M: Module>(train: &Train, model: &M) -> ModuleOptimizer {
    let s = Settings::of(train);
    let roles = Roles::of(model);
    match train.optimizer {
        OptimizerKind::AdamW => grouped(&s, &roles, |decay| adamw(&s, decay)),
        OptimizerKind::Adam => grouped(&s, &roles, |decay| {
            AdamConfig::new()
                .with_beta_1(s.beta1)
                .with_beta_2(s.beta2)
                .with_epsilon(s.eps)
                .with_weight_decay(penalty(decay))
                .build()
        }),
        OptimizerKind::Adafactor => grouped(&s, &roles, |decay| {
            AdafactorConfig::new()
                .with_epsilon_1(s.eps)
                // The schedule says how the rate falls.
                .with_relative_step(false)
                .with_weight_decay(decay)
                .build()
        }),
        OptimizerKind::AdaGrad => grouped(&s, &roles, |decay| {
            AdaGradConfig::new()
                .with_epsilon(s.eps)
                .with_weight_decay(penalty(decay))
                .build()
        }),
        OptimizerKind::Adan => grouped(&s, &roles, |decay| {
            AdanConfig::new()
                .with_beta_1(s.beta1)
                .with_beta_2(s.beta2)
                .with_beta_3(s.beta3)
                .with_epsilon(s.eps)
                .with_weight_decay(decay)
                .build()
        }),
        OptimizerKind::Lamb => {
            let lamb = |decay, trust| {
                LambConfig::new()
                    .with_beta_1(s.beta1)
                    .with_beta_2(s.beta2)
                    .with_epsilon(s.eps)
                    .with_weight_decay(decay)
                    .with_use_trust_ratio(trust)
                    .build()
            };
            // The ratio of norms would hold back biases, which begin at 0.
            let vectors = ParamGroup::from_ids(roles.vectors.clone());
            grouped(&s, &roles, |decay| lamb(decay, true)).with_group(
                vectors,
                lamb(0.0, false),
                None,
            )
        }
        OptimizerKind::Lion => grouped(&s, &roles, |decay| {
            LionConfig::new()
                .with_beta_1(s.beta1)
                .with_beta_2(s.beta2)
                .with_weight_decay(decay)
                .build()
        }),
        OptimizerKind::Muon => {
            let muon = MuonConfig::new()
                .with_momentum(momentum(s.momentum, true))
                .with_weight_decay(penalty(s.weight_decay))
                // One train.lr for both optimisers.
                .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
                .build();
            let matrices = ParamGroup::from_ids(roles.matrices.clone());
            grouped(&s, &roles, |decay| adamw(&s, decay)).with_group(matrices, muon, None)
        }
        OptimizerKind::RmsProp => grouped(&s, &roles, |decay| {
            RmsPropConfig::new()
                .with_alpha(s.beta2)
                .with_momentum(s.momentum as f32)
                .with_epsilon(s.eps)
                .with_weight_decay(penalty(decay))
                .build()
        }),
        OptimizerKind::Sgd => grouped(&s, &roles, |decay| {
            let momentum = (s.momentum > 0.0).then(|| momentum(s.momentum, false));
            SgdConfig::new()
                .with_momentum(momentum)
                .with_weight_decay(penalty(decay))
                .build()
        }),
    }
}

fn adamw(s: &Settings, decay: f32) -> AdamW {
    AdamW::new(s.beta1, s.beta2, s.eps, decay)
}

/// Weight decay that is added to the gradient.
fn penalty(decay: f32) -> Option<WeightDecayConfig> {
    (decay > 0.0).then(|| WeightDecayConfig::new(decay))
}

fn momentum(momentum: f64, nesterov: bool) -> MomentumConfig {
    MomentumConfig::new()
        .with_momentum(momentum)
        .with_dampening(0.0)
        .with_nesterov(nesterov)
}

/// `rule` with the weight decay of `s` for matrices, and with none for all else.
fn grouped<O>(s: &Settings, roles: &Roles, rule: impl Fn(f32) -> O) -> ModuleOptimizer
where
    O: Optimizer + DynOptimizer,
{
    let plain = [roles.vectors.as_slice(), &roles.embeddings].concat();
    let plain = ParamGroup::from_ids(plain);
    ModuleOptimizer::from(rule(s.weight_decay)).with_group(plain, rule(0.0), None)
}
