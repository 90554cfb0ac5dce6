//! What is measured in a step, as burn-train's metrics.

use burn_train::ItemLazy;
use burn_train::metric::state::NumericMetricState;
use burn_train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};
use std::f64::consts::LN_2;
use std::sync::Arc;

/// The measurements of one training step or one validation batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Mean loss of a token, in nats.
    pub loss: f64,
    /// Predicted tokens.
    pub tokens: usize,
    /// Bytes of text that a token stands for.
    pub bytes_per_token: f64,
    /// Wall time.
    pub seconds: f64,
    /// Norm of the gradient before clipping; 0 in validation.
    pub grad_norm: f64,
    /// Learning rate; 0 in validation.
    pub lr: f64,
    /// Model FLOPs a second as a share of what the device can do; 0 where that is not known.
    pub utilisation: f64,
    /// What z-loss adds to the loss that is minimised; `loss` is without it.
    pub z_loss: f64,
    /// What label smoothing adds to it.
    pub smoothing: f64,
    /// The factor of the loss in f16; 1 without.
    pub loss_scale: f64,
    /// Steps of the run, up to this one, that changed nothing since their loss or gradient was not finite.
    pub skipped: usize,
}

impl Measured {
    /// Loss in bits per byte of text.
    pub fn bits_per_byte(&self) -> f64 {
        self.loss / LN_2 / self.bytes_per_token
    }
}

impl ItemLazy for Measured {
    fn sync(self) -> Result<Self, burn::tensor::ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<Measured> for Measured {
    fn adapt(&self) -> Measured {
        *self
    }
}

/// One number of [`Measured`], averaged over tokens; that of a byte, over bytes.
#[derive(Clone)]
pub struct Gauge {
    name: MetricName,
    higher_is_better: bool,
    /// What is averaged.
    of: fn(&Measured) -> f64,
    /// From the average to what is shown.
    shown: fn(f64) -> f64,
    /// How much an item counts in it.
    weight: fn(&Measured) -> usize,
    state: NumericMetricState,
}

impl Gauge {
    fn new(
        name: &str,
        higher_is_better: bool,
        of: fn(&Measured) -> f64,
        shown: fn(f64) -> f64,
    ) -> Self {
        Self {
            name: Arc::new(name.into()),
            higher_is_better,
            of,
            shown,
            weight: |m| m.tokens,
            state: NumericMetricState::new(),
        }
    }

    /// Mean loss in nats per token.
    pub fn loss() -> Self {
        Self::new(LOSS, false, |m| m.loss, |x| x)
    }

    /// The loss in bits per byte.
    pub fn bits_per_byte() -> Self {
        Self {
            weight: |m| (m.bytes_per_token * m.tokens as f64).round() as usize,
            ..Self::new(BITS_PER_BYTE, false, Measured::bits_per_byte, |x| x)
        }
    }

    /// exp(loss): per token, and over many steps exp of their mean loss.
    pub fn perplexity() -> Self {
        Self::new(PERPLEXITY, false, |m| m.loss, f64::exp)
    }

    /// Tokens over wall time.
    pub fn speed() -> Self {
        Self::new(SPEED, true, |m| m.seconds / m.tokens as f64, f64::recip)
    }

    /// Norm of the whole gradient before clipping.
    pub fn grad_norm() -> Self {
        Self::new(GRAD_NORM, false, |m| m.grad_norm, |x| x)
    }

    /// Learning rate.
    pub fn lr() -> Self {
        Self::new(LEARNING_RATE, false, |m| m.lr, |x| x)
    }

    /// Model FLOPs utilisation, in percent.
    pub fn utilisation() -> Self {
        Self::new(UTILISATION, true, |m| m.utilisation.recip(), |x| 100.0 / x)
    }

    /// What z-loss adds to the loss.
    pub fn z_loss() -> Self {
        Self::new(Z_LOSS, false, |m| m.z_loss, |x| x)
    }

    /// What label smoothing adds to the loss.
    pub fn smoothing() -> Self {
        Self::new(SMOOTHING, false, |m| m.smoothing, |x| x)
    }

    /// The factor of the loss in f16.
    pub fn loss_scale() -> Self {
        Self::new(LOSS_SCALE, true, |m| m.loss_scale, |x| x)
    }

    /// Steps that were skipped so far.
    pub fn skipped() -> Self {
        Self::new(SKIPPED, false, |m| m.skipped as f64, |x| x)
    }

    fn entry(&self, entry: NumericEntry) -> NumericEntry {
        match entry {
            NumericEntry::Value(v) => NumericEntry::Value((self.shown)(v)),
            NumericEntry::Final(v) => NumericEntry::Final((self.shown)(v)),
            NumericEntry::Aggregated {
                aggregated_value,
                count,
            } => NumericEntry::Aggregated {
                aggregated_value: (self.shown)(aggregated_value),
                count,
            },
        }
    }

    fn serialized(&self, stored: NumericEntry) -> SerializedEntry {
        let show =
            |value: NumericEntry| burn_train::metric::format_float(self.entry(value).current(), 4);
        let (mean, last) = (
            show(self.state.running_value()),
            show(self.state.current_value()),
        );
        SerializedEntry::new(format!("mean {mean} - last {last}"), stored.serialize())
    }
}

/// Names of the metrics.
pub const LOSS: &str = "Loss";
/// Bits per byte.
pub const BITS_PER_BYTE: &str = "Bits/byte";
/// Perplexity.
pub const PERPLEXITY: &str = "Perplexity";
/// Tokens per second.
pub const SPEED: &str = "Tokens/s";
/// Model FLOPs utilisation.
pub const UTILISATION: &str = "MFU %";
/// Gradient norm.
pub const GRAD_NORM: &str = "Gradient norm";
/// Learning rate.
pub const LEARNING_RATE: &str = "Learning rate";
/// What z-loss adds.
pub const Z_LOSS: &str = "Z loss";
/// What label smoothing adds.
pub const SMOOTHING: &str = "Smoothing";
/// The factor of the loss in f16.
pub const LOSS_SCALE: &str = "Loss scale";
/// Skipped steps.
pub const SKIPPED: &str = "Skipped steps";

impl Metric for Gauge {
    type Input = Measured;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: self.higher_is_better,
        }
        .into()
    }

    fn update(
        &mut self,
        item: &Measured,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, burn::tensor::TensorReadError> {
        let value = (self.of)(item);
        // One skipped step must not make the mean of all others nothing.
        let counts = if value.is_finite() {
            (self.weight)(item)
        } else {
            0
        };
        self.state.update(value, counts);
        Ok(self.serialized(self.entry(self.state.current_value())))
    }

    fn compute(&mut self) -> Result<SerializedEntry, burn::tensor::TensorReadError> {
        Ok(self.serialized(self.entry(self.state.final_value())))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for Gauge {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.entry(self.state.current_value()))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.entry(self.state.running_value()))
    }

    fn final_value(&self) -> NumericEntry {
        self.entry(self.state.final_value())
    }
}
