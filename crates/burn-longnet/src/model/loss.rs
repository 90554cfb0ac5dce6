//! Cross entropy over a vocabulary whose logits never exist at once.

#[cfg(test)]
mod tests;

use crate::precision::wide;
#[cfg(feature = "flex")]
use crate::rowwise::host;
use crate::rowwise::matmul;
use crate::vjp::Inputs;
use burn::backend::DispatchTensor;
use burn::tensor::{Bool, DType, FloatDType, IndexingUpdateOp, Int, Tensor, assert_shape};
#[cfg(feature = "flex")]
use longnet_cpu::rowwise::cross_entropy;
use std::ops::Range;

/// How [`chunked_cross_entropy`] computes.
#[derive(Clone, Debug)]
pub struct ChunkedLoss {
    /// Rows of logits that exist at a time.
    pub chunk: usize,
    /// Targets of this value do not count.
    pub ignore_index: Option<i64>,
    /// The factor of `(ln Z)^2`, the square of the logarithm of softmax's denominator, which keeps
    /// logits from drifting (PaLM, arXiv 2204.02311, has 1e-4). 0: none.
    pub z_loss: f64,
    /// The share of a target's weight that is spread evenly over the vocabulary (arXiv 1512.00567).
    /// 0: none.
    pub label_smoothing: f64,
}

impl ChunkedLoss {
    /// Whether anything is added to the cross entropy.
    fn adds(&self) -> bool {
        self.z_loss != 0.0 || self.label_smoothing != 0.0
    }
}

impl Default for ChunkedLoss {
    fn default() -> Self {
        Self {
            chunk: 1024,
            ignore_index: None,
            z_loss: 0.0,
            label_smoothing: 0.0,
        }
    }
}

/// A loss with its parts, each `[1]` and the mean over the targets that count.
#[derive(Clone, Debug)]
pub struct LossTerms {
    /// What is minimised: `cross_entropy + z_loss + smoothing`. Only it has gradients.
    pub total: Tensor<1>,
    /// Cross entropy in nats.
    pub cross_entropy: Tensor<1>,
    /// [`ChunkedLoss::z_loss`] times `(ln Z)^2`.
    pub z_loss: Tensor<1>,
    /// What [`ChunkedLoss::label_smoothing`] adds.
    pub smoothing: Tensor<1>,
}

/// The output projection `hidden · weight + bias`, one chunk of rows after the other.
struct Head {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    /// Rows that count, where some do not.
    kept: Option<Tensor<1, Bool>>,
    options: ChunkedLoss,
}

/// Of one chunk of rows, each `[rows, 1]`.
struct Rows {
    likelihood: Tensor<2>,
    /// z-loss and smoothing, where there are any.
    added: Option<[Tensor<2>; 2]>,
}

impl Head {
    fn new(
        hidden: Tensor<2>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
        targets: Tensor<1, Int>,
        options: &ChunkedLoss,
    ) -> Self {
        let [rows, d_model] = hidden.dims();
        let [_, vocabulary] = weight.dims();
        assert_shape!(weight, [d_model, _]);
        assert_shape!(targets, [rows]);
        if let Some(bias) = &bias {
            assert_shape!(bias, [vocabulary]);
        }
        assert!(options.chunk > 0, "the loss needs chunks of at least 1 row");
        let (z_loss, smoothing) = (options.z_loss, options.label_smoothing);
        assert!(
            z_loss >= 0.0 && z_loss.is_finite(),
            "the factor of the z-loss is {z_loss}, but must be 0 or more"
        );
        assert!(
            (0.0..1.0).contains(&smoothing),
            "the label smoothing is {smoothing}, but must be 0 or more and below 1"
        );
        let targets = targets.inner();
        let kept = options
            .ignore_index
            .map(|ignored| targets.clone().not_equal_elem(ignored));
        let targets = match &kept {
            Some(kept) => targets.mask_fill(kept.clone().bool_not(), 0),
            None => targets,
        };
        Self {
            hidden: hidden.inner(),
            weight: weight.inner(),
            bias: bias.map(Tensor::inner),
            targets,
            kept,
            options: options.clone(),
        }
    }

    /// The dtype of softmax and sums.
    fn wide(&self) -> DType {
        wide(self.hidden.dtype())
    }

    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, chunk) = (self.hidden.dims()[0], self.options.chunk);
        (0..rows)
            .step_by(chunk)
            .map(move |start| start..(start + chunk).min(rows))
    }

    /// Rows that do not count are zero, since infinite ones times 0 would not be.
    fn hidden(&self, rows: &Range<usize>) -> Tensor<2> {
        let hidden = self.hidden.clone().slice_dim(0, rows.clone());
        match &self.kept {
            Some(kept) => {
                let ignored = kept.clone().slice_dim(0, rows.clone()).bool_not();
                let ignored = ignored.unsqueeze_dim::<2>(1).expand(hidden.shape());
                hidden.mask_fill(ignored, 0)
            }
            None => hidden,
        }
    }

    fn targets(&self, rows: &Range<usize>) -> Tensor<2, Int> {
        self.targets
            .clone()
            .slice_dim(0, rows.clone())
            .unsqueeze_dim(1)
    }

    /// Which rows count, as 1 or 0.
    fn kept(&self, rows: &Range<usize>) -> Option<Tensor<2>> {
        let kept = self.kept.clone()?.slice_dim(0, rows.clone());
        Some(kept.unsqueeze_dim::<2>(1).float().cast(self.wide()))
    }

    /// The factor that makes a sum over rows a mean over those that count.
    fn mean_factor(&self) -> Tensor<2> {
        let device = self.hidden.device();
        match &self.kept {
            Some(kept) => {
                let count = kept.clone().float().cast(self.wide()).sum();
                count.clamp_min(1.0).recip().unsqueeze()
            }
            None => {
                let rows = self.hidden.dims()[0].max(1);
                Tensor::full([1, 1], 1.0 / rows as f64, (&device, self.wide()))
            }
        }
    }

    /// In the dtype of softmax.
    fn logits(&self, rows: &Range<usize>) -> Tensor<2> {
        let mut logits = matmul(self.hidden(rows), self.weight.clone());
        if let Some(bias) = &self.bias {
            logits = logits + bias.clone().unsqueeze();
        }
        logits.cast(self.wide())
    }

    /// Negative log-likelihoods `[rows, 1]`.
    fn likelihood(&self, rows: &Range<usize>) -> Tensor<2> {
        self.likelihood_of(rows, self.logits(rows))
    }

    fn likelihood_of(&self, rows: &Range<usize>, logits: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "flex")]
        if host::holds(&logits) {
            return self.fused(rows, logits).0;
        }
        self.softmax(rows, logits).0
    }

    /// The loss of each row.
    fn rows(&self, rows: &Range<usize>) -> Rows {
        let logits = self.logits(rows);
        let extras = Extras::new(self, rows, &logits);
        let likelihood = self.likelihood_of(rows, logits);
        Rows {
            added: extras.map(|extras| extras.added(&likelihood)),
            likelihood,
        }
    }

    /// The loss of each row, and its gradient with respect to the logits.
    fn rows_with_gradient(&self, rows: &Range<usize>) -> (Rows, Tensor<2>) {
        let logits = self.logits(rows);
        let extras = Extras::new(self, rows, &logits);
        let (likelihood, gradient) = self.gradient_of(rows, logits);
        match extras {
            None => (
                Rows {
                    likelihood,
                    added: None,
                },
                gradient,
            ),
            Some(extras) => {
                let gradient = extras.gradient(&likelihood, gradient);
                let added = Some(extras.added(&likelihood));
                (Rows { likelihood, added }, gradient)
            }
        }
    }

    /// Negative log-likelihoods `[rows, 1]`, and their gradients with respect to the logits.
    fn gradient_of(&self, rows: &Range<usize>, logits: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        #[cfg(feature = "flex")]
        if host::holds(&logits) {
            return self.fused(rows, logits);
        }
        let (nll, exp, denominator) = self.softmax(rows, logits);
        let one = match self.kept(rows) {
            Some(kept) => kept,
            None => denominator.ones_like(),
        };
        let softmax = exp * (one.clone() / denominator);
        let gradient = softmax.scatter(1, self.targets(rows), -one, IndexingUpdateOp::Add);
        (nll, gradient)
    }

    /// As [`gradient`](Self::gradient), in one pass.
    #[cfg(feature = "flex")]
    fn fused(&self, rows: &Range<usize>, logits: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let vocabulary = logits.dims()[1];
        let targets = self.targets(rows).into_data();
        let kept = self.kept.clone();
        let kept = kept.map(|kept| kept.slice_dim(0, rows.clone()).into_data());
        let kept: Option<Vec<_>> = kept.map(|kept| kept.iter::<bool>().collect());
        let token =
            |(i, target): (usize, i64)| {
                let counts = kept.as_ref().is_none_or(|kept| kept[i]);
                counts.then(|| {
                    let token = usize::try_from(target).ok();
                    token.filter(|&token| token < vocabulary).unwrap_or_else(|| {
                    let row = rows.start + i;
                    panic!("target {target} of row {row} is outside the vocabulary of {vocabulary}")
                })
                })
            };
        let targets: Vec<_> = targets.iter::<i64>().enumerate().map(token).collect();
        let (gradient, nll) = host::changed(logits, |logits| cross_entropy(logits, &targets));
        (host::tensor(nll, [rows.len(), 1]), gradient)
    }

    /// Negative log-likelihoods `[rows, 1]`, and the softmax `[rows, vocabulary]` as
    /// its numerator and denominator.
    fn softmax(&self, rows: &Range<usize>, logits: Tensor<2>) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let picked = logits.clone().gather(1, self.targets(rows));
        let largest = logits.clone().max_dim(1);
        let exp = (logits - largest.clone()).exp();
        let sum = exp.clone().sum_dim(1);
        let nll = sum.clone().log() + largest - picked;
        let nll = match self.kept(rows) {
            Some(kept) => nll * kept,
            None => nll,
        };
        (nll, exp, sum)
    }

    fn sums(&self) -> Sums {
        Sums(std::array::from_fn(|_| {
            Tensor::zeros([1, 1], (&self.hidden.device(), self.wide()))
        }))
    }

    fn mean(&self) -> LossTerms {
        let mut sums = self.sums();
        for rows in self.chunks() {
            sums.add(self.rows(&rows));
        }
        sums.terms(self.mean_factor())
    }

    /// The mean together with its gradients, so that the logits need not be computed again.
    fn mean_with_gradients(&self) -> (LossTerms, HeadGradients) {
        let device = self.hidden.device();
        let dtype: FloatDType = self.hidden.dtype().into();
        let factor = self.mean_factor();
        let mut sums = self.sums();
        let mut hidden = Vec::new();
        let mut weight = Tensor::<2>::zeros(self.weight.shape(), (&device, self.wide()));
        let mut bias = self
            .bias
            .as_ref()
            .map(|bias| Tensor::<1>::zeros(bias.shape(), (&device, self.wide())));
        for rows in self.chunks() {
            // Gradients of the sum, which are at most 1: of the mean of many rows f16 would keep
            // nothing.
            let (losses, dlogits) = self.rows_with_gradient(&rows);
            sums.add(losses);
            if let Some(bias) = &mut bias {
                *bias = bias.clone() + dlogits.clone().sum_dim(0).squeeze_dim(0);
            }
            let narrow = dlogits.clone().cast(dtype);
            let inputs = self.hidden(&rows).transpose();
            let product = match self.hidden.dtype() {
                // A sum over many rows may leave f16, or be so large that f16 adds nothing to it.
                DType::F16 => matmul(inputs.cast(self.wide()), dlogits),
                _ => matmul(inputs, narrow.clone()),
            };
            weight = weight + product.cast(self.wide());
            hidden.push(matmul(narrow, self.weight.clone().transpose()));
        }
        let gradients = HeadGradients {
            hidden: if hidden.is_empty() {
                self.hidden.zeros_like()
            } else {
                Tensor::cat(hidden, 0)
            },
            weight,
            bias,
            factor: factor.clone(),
        };
        (sums.terms(factor), gradients)
    }
}

/// Sums over rows of cross entropy, z-loss and smoothing, each `[1, 1]`.
struct Sums([Tensor<2>; 3]);

impl Sums {
    fn add(&mut self, rows: Rows) {
        let Self([likelihood, z_loss, smoothing]) = self;
        let grow = |sum: &mut Tensor<2>, rows: Tensor<2>| {
            *sum = sum.clone() + rows.sum().unsqueeze();
        };
        grow(likelihood, rows.likelihood);
        if let Some([z, smooth]) = rows.added {
            grow(z_loss, z);
            grow(smoothing, smooth);
        }
    }

    fn terms(self, factor: Tensor<2>) -> LossTerms {
        let [cross_entropy, z_loss, smoothing] =
            self.0.map(|sum| (sum * factor.clone()).reshape([1]));
        LossTerms {
            total: cross_entropy.clone() + z_loss.clone() + smoothing.clone(),
            cross_entropy,
            z_loss,
            smoothing,
        }
    }
}

/// What z-loss and label smoothing need to know of the logits of some rows, beside what cross entropy
/// finds: it may have been one fused pass, which leaves nothing else.
struct Extras<'a> {
    options: &'a ChunkedLoss,
    targets: Tensor<2, Int>,
    kept: Option<Tensor<2>>,
    /// The target's logit, `[rows, 1]`.
    picked: Tensor<2>,
    /// The mean logit, `[rows, 1]`.
    mean: Tensor<2>,
}

impl<'a> Extras<'a> {
    /// `None` where nothing is added.
    fn new(head: &'a Head, rows: &Range<usize>, logits: &Tensor<2>) -> Option<Self> {
        head.options.adds().then(|| {
            let targets = head.targets(rows);
            Self {
                options: &head.options,
                picked: logits.clone().gather(1, targets.clone()),
                mean: logits.clone().mean_dim(1),
                targets,
                kept: head.kept(rows),
            }
        })
    }

    fn kept(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.kept {
            Some(kept) => x * kept.clone(),
            None => x,
        }
    }

    /// ln Z; 0 in rows that do not count.
    fn log_z(&self, likelihood: &Tensor<2>) -> Tensor<2> {
        self.kept(likelihood.clone() + self.picked.clone())
    }

    /// z-loss and smoothing of each row.
    fn added(&self, likelihood: &Tensor<2>) -> [Tensor<2>; 2] {
        let ChunkedLoss {
            z_loss,
            label_smoothing,
            ..
        } = *self.options;
        [
            self.log_z(likelihood).square() * z_loss,
            self.kept(self.picked.clone() - self.mean.clone()) * label_smoothing,
        ]
    }

    /// From the gradient of the likelihood, `softmax - onehot`, to that of all terms,
    /// `softmax (1 + 2 z ln Z) - (1 - s) onehot - s / vocabulary`.
    fn gradient(&self, likelihood: &Tensor<2>, gradient: Tensor<2>) -> Tensor<2> {
        let vocabulary = gradient.dims()[1] as f64;
        let smoothing = self.options.label_smoothing;
        let z = self.log_z(likelihood) * (2.0 * self.options.z_loss);
        let one = self.kept(z.ones_like());
        let gradient = gradient * (z.clone() + 1.0) - one.clone() * (smoothing / vocabulary);
        let target = z + one * smoothing;
        gradient.scatter(1, self.targets.clone(), target, IndexingUpdateOp::Add)
    }
}

/// Gradients of the sum over rows.
struct HeadGradients {
    /// In the dtype of the inputs; what follows is wide.
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    /// Makes the sum a mean, `[1, 1]`.
    factor: Tensor<2>,
}

impl HeadGradients {
    /// Of the mean, times its own gradient.
    fn scaled(self, dloss: Tensor<1>) -> Vec<Option<DispatchTensor>> {
        let dtype: FloatDType = self.hidden.dtype().into();
        let wide = self.factor.dtype();
        let scale = self.factor * dloss.cast(wide).unsqueeze();
        let scaled = |sum: Tensor<2>| (sum.cast(wide) * scale.clone()).cast(dtype);
        let mut all = vec![
            Some(scaled(self.hidden).into_dispatch()),
            Some(scaled(self.weight).into_dispatch()),
        ];
        let bias = self.bias.map(Tensor::unsqueeze);
        all.extend(bias.map(|bias| Some(scaled(bias).squeeze_dim::<1>(0).into_dispatch())));
        all
    }
}

/// Mean cross entropy of `softmax(hidden · weight + bias)`, in nats, over the targets that count, with
/// what [`ChunkedLoss`] adds to it; 0 where none counts. Softmax, sums and the result are in f32 (f64
/// for f64).
///
/// `[rows, vocabulary]` logits never exist at once: [`ChunkedLoss::chunk`] rows do, in the forward
/// pass, which computes the gradients as well where some will be asked for.
///
/// # Shapes
///
/// - hidden: `[rows, d_model]`
/// - weight: `[d_model, vocabulary]`
/// - bias: `[vocabulary]`
/// - targets: `[rows]`, each in `0..vocabulary` or [`ChunkedLoss::ignore_index`]
/// - output: `[1]`
///
/// # Panics
///
/// If the shapes do not fit together, or the chunk is 0. A target outside the vocabulary is a panic
/// on backends that check indices, and undefined elsewhere.
pub fn chunked_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    options: &ChunkedLoss,
) -> Tensor<1> {
    chunked_loss(hidden, weight, bias, targets, options).total
}

/// As [`chunked_cross_entropy`], with the parts of the loss.
///
/// # Panics
///
/// As [`chunked_cross_entropy`].
pub fn chunked_loss(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    options: &ChunkedLoss,
) -> LossTerms {
    let mut inputs = Inputs::new(&hidden.device());
    inputs.push(hidden.clone());
    inputs.push(weight.clone());
    if let Some(bias) = &bias {
        inputs.push(bias.clone());
    }
    let head = Head::new(hidden, weight, bias, targets, options);
    if !inputs.is_tracked() {
        return head.mean();
    }
    let (terms, gradients) = head.mean_with_gradients();
    LossTerms {
        total: inputs.finish(terms.total, move |dloss| gradients.scaled(dloss)),
        ..terms
    }
}

/// The negative log-likelihood of each target, in nats, 0 where it does not count; without
/// gradients. Shapes and panics as in [`chunked_cross_entropy`]; the output is `[rows]`.
pub fn chunked_nll(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    options: &ChunkedLoss,
) -> Tensor<1> {
    let rows = hidden.dims()[0];
    let head = Head::new(hidden, weight, bias, targets, options);
    if rows == 0 {
        return Tensor::zeros([0], (&head.hidden.device(), head.wide()));
    }
    let chunks = head.chunks().map(|rows| head.likelihood(&rows));
    Tensor::cat(chunks.collect(), 0).reshape([rows])
}
