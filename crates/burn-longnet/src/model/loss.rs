//! Cross entropy over a vocabulary whose logits never exist at once.

use crate::precision::wide;
use crate::vjp::Inputs;
use burn::backend::DispatchTensor;
use burn::tensor::{Bool, DType, FloatDType, IndexingUpdateOp, Int, Tensor, assert_shape};
use std::ops::Range;

/// How [`chunked_cross_entropy`] computes.
#[derive(Clone, Debug)]
pub struct ChunkedLoss {
    /// Rows of logits that exist at a time.
    pub chunk: usize,
    /// Targets of this value do not count.
    pub ignore_index: Option<i64>,
}

impl Default for ChunkedLoss {
    fn default() -> Self {
        Self {
            chunk: 1024,
            ignore_index: None,
        }
    }
}

/// The output projection `hidden · weight + bias`, one chunk of rows after the other.
struct Head {
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    /// Rows that count, where some do not.
    kept: Option<Tensor<1, Bool>>,
    chunk: usize,
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
            chunk: options.chunk,
        }
    }

    /// The dtype of softmax and sums.
    fn wide(&self) -> DType {
        wide(self.hidden.dtype())
    }

    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, chunk) = (self.hidden.dims()[0], self.chunk);
        (0..rows)
            .step_by(chunk)
            .map(move |start| start..(start + chunk).min(rows))
    }

    fn hidden(&self, rows: &Range<usize>) -> Tensor<2> {
        self.hidden.clone().slice_dim(0, rows.clone())
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

    /// Negative log-likelihoods `[rows, 1]`, and the softmax `[rows, vocabulary]` as
    /// its numerator and denominator.
    fn likelihood(&self, rows: &Range<usize>) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let mut logits = self.hidden(rows).matmul(self.weight.clone());
        if let Some(bias) = &self.bias {
            logits = logits + bias.clone().unsqueeze();
        }
        let logits = logits.cast(self.wide());
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

    fn mean(&self) -> Tensor<1> {
        let device = self.hidden.device();
        let zero = Tensor::<2>::zeros([1, 1], (&device, self.wide()));
        let sum = self.chunks().fold(zero, |sum, rows| {
            sum + self.likelihood(&rows).0.sum().unsqueeze()
        });
        (sum * self.mean_factor()).reshape([1])
    }

    /// The mean together with its gradients, so that the logits need not be computed again.
    fn mean_with_gradients(&self) -> (Tensor<1>, HeadGradients) {
        let device = self.hidden.device();
        let dtype: FloatDType = self.hidden.dtype().into();
        let factor = self.mean_factor();
        let mut sum = Tensor::<2>::zeros([1, 1], (&device, self.wide()));
        let mut hidden = Vec::new();
        let mut weight = Tensor::<2>::zeros(self.weight.shape(), (&device, self.wide()));
        let mut bias = self
            .bias
            .as_ref()
            .map(|bias| Tensor::<1>::zeros(bias.shape(), (&device, self.wide())));
        for rows in self.chunks() {
            let (nll, exp, denominator) = self.likelihood(&rows);
            sum = sum + nll.sum().unsqueeze();
            // Gradients of the sum, which are at most 1: of the mean of many rows f16 would keep
            // nothing.
            let one = match self.kept(&rows) {
                Some(kept) => kept,
                None => denominator.ones_like(),
            };
            let dlogits = exp * (one.clone() / denominator);
            let dlogits = dlogits.scatter(1, self.targets(&rows), -one, IndexingUpdateOp::Add);
            if let Some(bias) = &mut bias {
                *bias = bias.clone() + dlogits.clone().sum_dim(0).squeeze_dim(0);
            }
            let dlogits = dlogits.cast(dtype);
            let product = self.hidden(&rows).transpose().matmul(dlogits.clone());
            weight = weight + product.cast(self.wide());
            hidden.push(dlogits.matmul(self.weight.clone().transpose()));
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
        ((sum * factor).reshape([1]), gradients)
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

/// Mean cross entropy of `softmax(hidden · weight + bias)`, in nats, over the targets that count; 0
/// where none does. Softmax, sums and the result are in f32 (f64 for f64).
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
    let (loss, gradients) = head.mean_with_gradients();
    inputs.finish(loss, move |dloss| gradients.scaled(dloss))
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
    let chunks = head.chunks().map(|rows| head.likelihood(&rows).0);
    Tensor::cat(chunks.collect(), 0).reshape([rows])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tolerance, activation::log_softmax};

    struct Case {
        hidden: Tensor<2>,
        weight: Tensor<2>,
        bias: Tensor<1>,
        targets: Tensor<1, Int>,
    }

    const ROWS: usize = 23;

    fn case() -> Case {
        let device = Device::default().autodiff();
        let normal = Distribution::Normal(0.0, 1.0);
        let targets: [i64; ROWS] =
            std::array::from_fn(|i| if i % 5 == 2 { -7 } else { i as i64 % 11 });
        Case {
            hidden: Tensor::random([ROWS, 6], normal, &device).require_grad(),
            weight: Tensor::random([6, 11], normal, &device).require_grad(),
            bias: Tensor::random([11], normal, &device).require_grad(),
            targets: Tensor::from_data(targets, &device),
        }
    }

    /// With all logits at once, by Burn's own operations.
    fn plain(case: &Case, ignored: Option<i64>) -> Tensor<1> {
        let logits =
            case.hidden.clone().matmul(case.weight.clone()) + case.bias.clone().unsqueeze();
        let kept = match ignored {
            Some(ignored) => case.targets.clone().not_equal_elem(ignored).float(),
            None => Tensor::ones([ROWS], &case.hidden.device()),
        };
        let targets = case.targets.clone().clamp_min(0).unsqueeze_dim::<2>(1);
        let nll = -log_softmax(logits, 1)
            .gather(1, targets)
            .squeeze_dim::<1>(1);
        (nll * kept.clone()).sum() / kept.sum()
    }

    #[test]
    fn the_loss_and_its_gradients_are_those_of_all_logits_at_once() {
        for chunk in [1, 4, ROWS, 1000] {
            for ignored in [Some(-7), None] {
                let mut case = case();
                if ignored.is_none() {
                    case.targets = case.targets.clamp_min(0);
                }
                let options = ChunkedLoss {
                    chunk,
                    ignore_index: ignored,
                };
                let chunked = chunked_cross_entropy(
                    case.hidden.clone(),
                    case.weight.clone(),
                    Some(case.bias.clone()),
                    case.targets.clone(),
                    &options,
                );
                let expected = plain(&case, ignored);
                let close = |a: Tensor<2>, b: Tensor<2>| {
                    a.into_data()
                        .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-6));
                };
                close(
                    chunked.clone().inner().unsqueeze(),
                    expected.clone().inner().unsqueeze(),
                );
                let got = (chunked * 3.0).backward();
                let want = (expected * 3.0).backward();
                close(
                    case.hidden.grad(&got).unwrap(),
                    case.hidden.grad(&want).unwrap(),
                );
                close(
                    case.weight.grad(&got).unwrap(),
                    case.weight.grad(&want).unwrap(),
                );
                let bias = |grads| case.bias.grad(grads).unwrap().unsqueeze();
                close(bias(&got), bias(&want));
            }
        }
    }

    #[test]
    fn the_likelihoods_average_to_the_loss() {
        let Case {
            hidden,
            weight,
            targets,
            ..
        } = case();
        let options = ChunkedLoss {
            chunk: 5,
            ignore_index: Some(-7),
        };
        let nll = chunked_nll(
            hidden.clone(),
            weight.clone(),
            None,
            targets.clone(),
            &options,
        );
        let counted = (0..ROWS).filter(|i| i % 5 != 2).count();
        let loss = chunked_cross_entropy(hidden, weight, None, targets, &options);
        let mean = nll.sum().into_scalar::<f32>() / counted as f32;
        assert!((mean - loss.into_scalar::<f32>()).abs() < 1e-6);
    }

    #[test]
    fn nothing_that_counts_is_a_loss_of_zero_without_gradient() {
        let case = case();
        let options = ChunkedLoss {
            chunk: 4,
            ignore_index: Some(-7),
        };
        let none = case.targets.zeros_like() - 7;
        let loss = chunked_cross_entropy(case.hidden.clone(), case.weight, None, none, &options);
        assert_eq!(loss.clone().into_scalar::<f32>(), 0.0);
        let gradient = case.hidden.grad(&loss.backward()).unwrap();
        assert_eq!(gradient.abs().max().into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn half_precision_keeps_the_gradients_of_means_of_many_rows() {
        let device = Device::default().autodiff();
        let rows = 4096;
        let hidden = Tensor::<2>::random([rows, 2], Distribution::Uniform(0.5, 1.5), &device);
        let bias = Tensor::<1>::from_data([8.0, 0.5, 0.0, -0.5, -1.0], &device);
        let gradients = |dtype: DType| {
            let leaf = |x: Tensor<2>| x.cast(dtype).detach().require_grad();
            let (hidden, bias) = (leaf(hidden.clone()), leaf(bias.clone().unsqueeze()));
            let weight = leaf(Tensor::zeros([2, 5], &device));
            let loss = chunked_cross_entropy(
                hidden,
                weight.clone(),
                Some(bias.clone().squeeze_dim(0)),
                Tensor::zeros([rows], &device),
                &ChunkedLoss {
                    chunk: 512,
                    ignore_index: None,
                },
            );
            // As loss scaling does.
            let gradients = (loss * 4096.0).backward();
            [&weight, &bias].map(|leaf| leaf.grad(&gradients).unwrap().cast(DType::F32))
        };
        for (half, full) in gradients(DType::F16).into_iter().zip(gradients(DType::F32)) {
            half.into_data()
                .assert_approx_eq::<f32>(&full.into_data(), Tolerance::relative(5e-3));
        }
    }
}
