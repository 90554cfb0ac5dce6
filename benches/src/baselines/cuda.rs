//! Attention on a CUDA device: ours, and Burn's own.

use super::Op;
use super::batch::{caught, repeats};
use super::tensors::{numbers, tensors};
use crate::check::{OTHERS, check, results};
use crate::contender::{Contender, Pass, seconds};
use crate::inputs::Inputs;
use crate::number::Number;
use crate::oracle::{Sample, Tensor};
use crate::problem::Problem;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor as BurnTensor};

/// The op by our kernels. Panics of the device are errors.
pub struct OursCuda {
    op: Op,
    device: Device,
    reserved: String,
}

impl OursCuda {
    /// On `device`.
    ///
    /// # Errors
    ///
    /// The inputs do not fit.
    pub fn new<E: Number>(
        device: &Device,
        problem: &Problem,
        pass: Pass,
        inputs: &Inputs<E>,
    ) -> Result<Self, String> {
        device.memory_cleanup();
        let op = caught(|| Ok(Op::on(("cuda", device), true, problem, pass, inputs)))?;
        Ok(Self {
            op,
            device: device.clone(),
            reserved: String::new(),
        })
    }
}

impl Contender for OursCuda {
    fn name(&self) -> String {
        self.op.name()
    }

    fn note(&self) -> String {
        format!("{}{}", self.op.note(), self.reserved)
    }

    fn flops(&self) -> Option<f64> {
        self.op.flops()
    }

    fn tokens(&self) -> Option<usize> {
        self.op.tokens()
    }

    fn check(&mut self, samples: &[Sample]) -> Result<Option<f64>, String> {
        let op = &mut self.op;
        let error = caught(|| {
            let error = op.check(samples)?;
            op.batched()?;
            Ok(error)
        })?;
        if let Some(usage) = self.device.memory_pool_usage() {
            // The most so far: a pool keeps what it has had.
            let gib = usage.bytes_reserved as f64 / f64::from(1 << 30);
            self.reserved = format!(", {gib:.1} GiB reserved");
        }
        Ok(error)
    }

    fn run(&mut self) -> Result<f64, String> {
        caught(|| self.op.run())
    }
}

/// Burn's own dense causal attention, forward. Panics of the device are errors.
pub struct BurnCuda {
    problem: Problem,
    /// q, k, v.
    tensors: [BurnTensor<4>; 3],
    repeats: usize,
}

impl BurnCuda {
    /// `problem` must be dense.
    ///
    /// # Errors
    ///
    /// The inputs do not fit.
    pub fn new<E: Number>(
        device: &Device,
        problem: &Problem,
        inputs: &Inputs<E>,
    ) -> Result<Self, String> {
        let [q, k, v, _] = caught(|| Ok(tensors(problem, inputs, device)))?;
        Ok(Self {
            problem: problem.clone(),
            tensors: [q, k, v],
            repeats: 1,
        })
    }

    fn compute(&self) -> BurnTensor<4> {
        let [q, k, v] = self.tensors.clone();
        let options = AttentionModuleOptions {
            is_causal: true,
            ..Default::default()
        };
        attention(q, k, v, None, None, options)
    }

    fn time(&self) -> f64 {
        let total = seconds(|| {
            (1..self.repeats).for_each(|_| drop(self.compute()));
            // The device computes in order: the last result is there when all are.
            drop(numbers(self.compute().slice([0..1, 0..1, 0..1, 0..1])));
        });
        total / self.repeats as f64
    }
}

impl Contender for BurnCuda {
    fn name(&self) -> String {
        "Burn's attention".into()
    }

    fn note(&self) -> String {
        format!("{} a run", self.repeats)
    }

    fn flops(&self) -> Option<f64> {
        Some(self.problem.flops(Pass::Forward))
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.problem.n)
    }

    fn check(&mut self, samples: &[Sample]) -> Result<Option<f64>, String> {
        caught(|| {
            let out = numbers(self.compute());
            let read = |tensor, head, row| match tensor {
                Tensor::Out => self.problem.row(&out, head, row),
                _ => None,
            };
            let error = check(samples, &results(Pass::Forward, false), &read, OTHERS)?;
            // The first of these compiles what reads a number.
            self.time();
            self.repeats = repeats(self.time());
            Ok(Some(error))
        })
    }

    fn run(&mut self) -> Result<f64, String> {
        caught(|| Ok(self.time()))
    }
}
