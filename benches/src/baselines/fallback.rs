//! The op in plain tensor ops, as backends without kernels run it, here on Flex.

use super::tensors::{numbers, tensors};
use crate::check::{OTHERS, check, results};
use crate::contender::{Contender, Pass, seconds};
use crate::inputs::Inputs;
use crate::oracle::{Sample, Tensor};
use crate::problem::Problem;
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{Device, Tensor as BurnTensor};
use burn_longnet::backend::fallback;
use burn_longnet::ops::{AttentionSpec, Labels};
use longnet_pattern::{MixGradient, Span};

/// The fallback on a problem.
pub struct Fallback {
    problem: Problem,
    pass: Pass,
    spec: AttentionSpec,
    /// q, k, v, the gradient of out.
    tensors: [DispatchTensor; 4],
    dlse: DispatchTensor,
}

impl Fallback {
    pub fn new(problem: &Problem, pass: Pass, inputs: &Inputs<f32>) -> Self {
        let device = Device::flex();
        let [batch, heads, n, _] = problem.shape();
        Self {
            spec: AttentionSpec {
                schedule: problem.schedule(Span::full(problem.n)),
                scale: 1.0 / (problem.d as f64).sqrt(),
                gradient: MixGradient::Exact,
                precision: longnet_pattern::Precision::Highest,
                dropout: None,
            },
            tensors: tensors(problem, inputs, &device).map(BurnTensor::into_dispatch),
            dlse: BurnTensor::<3>::zeros([batch, heads, n], &device).into_dispatch(),
            problem: problem.clone(),
            pass,
        }
    }

    /// Out, lse, and dq, dk, dv after a backward pass.
    fn compute(&self) -> Vec<DispatchTensor> {
        let [q, k, v, dout] = self.tensors.clone();
        let (out, lse) = fallback::forward::<Dispatch>(
            q.clone(),
            k.clone(),
            v.clone(),
            Labels::None,
            &self.spec,
        );
        if self.pass == Pass::Forward {
            return vec![out, lse];
        }
        let (dq, dk, dv) = fallback::backward::<Dispatch>(
            q,
            k,
            v,
            Labels::None,
            out.clone(),
            lse.clone(),
            dout,
            self.dlse.clone(),
            &self.spec,
        );
        vec![out, lse, dq, dk, dv]
    }
}

impl Contender for Fallback {
    fn name(&self) -> String {
        "fallback".into()
    }

    fn flops(&self) -> Option<f64> {
        Some(self.problem.flops(self.pass))
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.problem.n)
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn check(&mut self, samples: &[Sample]) -> Result<Option<f64>, String> {
        let mut computed = self.compute();
        let lse = numbers(BurnTensor::<3>::from_dispatch(computed.remove(1)));
        let rest: Vec<Vec<f32>> = computed
            .into_iter()
            .map(|x| numbers(BurnTensor::<4>::from_dispatch(x)))
            .collect();
        let read = |tensor, head, row| {
            let index = match tensor {
                Tensor::Lse => return Some(vec![f64::from(lse[head * self.problem.n + row])]),
                Tensor::Out => 0,
                Tensor::Dq => 1,
                Tensor::Dk => 2,
                Tensor::Dv => 3,
            };
            self.problem.row(rest.get(index)?, head, row)
        };
        let tensors = results(self.pass, true);
        check(samples, &tensors, &read, OTHERS).map(Some)
    }

    fn run(&mut self) -> Result<f64, String> {
        Ok(seconds(|| drop(self.compute())))
    }
}
