//! Burn's own dense attention on Flex: its kernel forward, materialised scores where gradients are asked
//! for.

use super::tensors::{numbers, tensors};
use crate::check::{OTHERS, check, results};
use crate::contender::{Contender, Pass, seconds};
use crate::inputs::Inputs;
use crate::oracle::{Amount, Sample, Tensor, samples};
use crate::problem::Problem;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor as BurnTensor};

/// Dense causal attention, on a problem of its own.
pub struct Flex {
    problem: Problem,
    pass: Pass,
    samples: Vec<Sample>,
    /// q, k, v, the gradient of out.
    tensors: [BurnTensor<4>; 4],
}

impl Flex {
    /// `problem` must be dense.
    pub fn new(problem: &Problem, pass: Pass) -> Self {
        let device = match pass {
            Pass::Forward => Device::flex(),
            Pass::Both => Device::flex().autodiff(),
        };
        let inputs = Inputs::<f32>::new(problem);
        let amount = match pass {
            Pass::Forward => Amount::Rows,
            Pass::Both => Amount::Gradients,
        };
        let mut tensors = tensors(problem, &inputs, &device);
        if pass == Pass::Both {
            let [q, k, v, dout] = tensors;
            tensors = [q.require_grad(), k.require_grad(), v.require_grad(), dout];
        }
        Self {
            problem: problem.clone(),
            pass,
            samples: samples(problem, &inputs, amount),
            tensors,
        }
    }

    /// Out, and dq, dk, dv after a backward pass.
    fn compute(&self) -> Vec<BurnTensor<4>> {
        let [q, k, v, dout] = self.tensors.clone();
        let options = AttentionModuleOptions {
            is_causal: true,
            ..Default::default()
        };
        let out = attention(q, k, v, None, None, options);
        if self.pass == Pass::Forward {
            return vec![out];
        }
        let gradients = (out.clone() * dout).sum().backward();
        let leaves = self.tensors[..3].iter();
        let of = |leaf: &BurnTensor<4>| leaf.grad(&gradients).expect("a gradient of each leaf");
        std::iter::once(out.inner()).chain(leaves.map(of)).collect()
    }
}

impl Contender for Flex {
    fn name(&self) -> String {
        "Flex dense".into()
    }

    fn note(&self) -> String {
        format!("dense causal, n {}", self.problem.n)
    }

    fn flops(&self) -> Option<f64> {
        Some(self.problem.flops(self.pass))
    }

    fn check(&mut self, _: &[Sample]) -> Result<Option<f64>, String> {
        let computed: Vec<Vec<f32>> = self.compute().into_iter().map(numbers).collect();
        let read = |tensor, head, row| {
            let index = match tensor {
                Tensor::Out => 0,
                Tensor::Dq => 1,
                Tensor::Dk => 2,
                Tensor::Dv => 3,
                Tensor::Lse => return None,
            };
            self.problem.row(computed.get(index)?, head, row)
        };
        let tensors = results(self.pass, false);
        check(&self.samples, &tensors, &read, OTHERS).map(Some)
    }

    fn run(&mut self) -> Result<f64, String> {
        Ok(seconds(|| drop(self.compute())))
    }
}
