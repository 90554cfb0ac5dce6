//! The op through Burn: in plain tensor ops, as backends without kernels run it, or by the kernels of a
//! device.

#[cfg(feature = "cuda")]
use super::batch;
use super::tensors::{numbers, tensors};
use crate::check::{OTHERS, OURS, check, results};
use crate::contender::{Contender, Pass, seconds};
use crate::inputs::Inputs;
use crate::number::Number;
use crate::oracle::{Sample, Tensor};
use crate::problem::Problem;
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{Device, Tensor as BurnTensor};
use burn_longnet::backend::fallback;
use burn_longnet::ops::{AttentionSpec, Bias, Labels, SparseAttentionOps};
use longnet_pattern::{MixGradient, Span};

/// The op on a problem, without autodiff.
pub struct Op {
    name: String,
    /// By the device's kernels, not in plain tensor ops.
    kernels: bool,
    problem: Problem,
    pass: Pass,
    spec: AttentionSpec,
    /// q, k, v, the gradient of out.
    tensors: [DispatchTensor; 4],
    dlse: DispatchTensor,
    /// Computations of a run.
    repeats: usize,
    note: String,
}

impl Op {
    /// The fallback on Flex.
    pub fn fallback(problem: &Problem, pass: Pass, inputs: &Inputs<f32>) -> Self {
        let device = Device::flex();
        Self::new("fallback".into(), false, problem, pass, inputs, &device)
    }

    /// The fallback, or the kernels, of a device.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    pub fn on<E: Number>(
        (name, device): (&str, &Device),
        kernels: bool,
        problem: &Problem,
        pass: Pass,
        inputs: &Inputs<E>,
    ) -> Self {
        let name = match kernels {
            true => "ours".into(),
            false => format!("fallback on {name}"),
        };
        Self::new(name, kernels, problem, pass, inputs, device)
    }

    fn new<E: Number>(
        name: String,
        kernels: bool,
        problem: &Problem,
        pass: Pass,
        inputs: &Inputs<E>,
        device: &Device,
    ) -> Self {
        let [batch, heads, n, _] = problem.shape();
        Self {
            name,
            kernels,
            spec: AttentionSpec {
                schedule: problem.schedule(Span::full(problem.n)),
                scale: 1.0 / (problem.d as f64).sqrt(),
                gradient: MixGradient::Exact,
                precision: longnet_pattern::Precision::Highest,
                dropout: None,
            },
            tensors: tensors(problem, inputs, device).map(BurnTensor::into_dispatch),
            dlse: BurnTensor::<3>::zeros([batch, heads, n], device).into_dispatch(),
            problem: problem.clone(),
            pass,
            repeats: 1,
            note: String::new(),
        }
    }

    /// Computes several times in a run, as often as the device's speed asks for, so that what the host does
    /// before the first and after the last does not count. To be called when it has warmed up.
    #[cfg(feature = "cuda")]
    pub fn batched(&mut self) -> Result<(), String> {
        // The first of these compiles what reads a number.
        self.run()?;
        self.repeats = batch::repeats(self.run()?);
        self.note = format!("{} a run", self.repeats);
        Ok(())
    }

    /// Waits for one number of each result: a device computes when it is asked for numbers.
    fn wait(computed: Vec<DispatchTensor>) {
        for (index, tensor) in computed.into_iter().enumerate() {
            match index {
                1 => drop(numbers(BurnTensor::<3>::from_dispatch(tensor).slice([
                    0..1,
                    0..1,
                    0..1,
                ]))),
                _ => drop(numbers(BurnTensor::<4>::from_dispatch(tensor).slice([
                    0..1,
                    0..1,
                    0..1,
                    0..1,
                ]))),
            }
        }
    }

    /// Out, lse, and dq, dk, dv after a backward pass.
    fn compute(&self) -> Vec<DispatchTensor> {
        let [q, k, v, dout] = self.tensors.clone();
        let (labels, bias) = (Labels::None, Bias::None);
        let [q2, k2, v2] = [q.clone(), k.clone(), v.clone()];
        let (out, lse) = match self.kernels {
            true => Dispatch::sparse_attention_forward(q2, k2, v2, labels, bias, self.spec.clone()),
            false => fallback::forward::<Dispatch>(q2, k2, v2, labels, bias, &self.spec),
        };
        if self.pass == Pass::Forward {
            return vec![out, lse];
        }
        let (labels, bias) = (Labels::None, Bias::None);
        let (out2, lse2, dlse) = (out.clone(), lse.clone(), self.dlse.clone());
        let spec = self.spec.clone();
        let (dq, dk, dv, _) = match self.kernels {
            true => Dispatch::sparse_attention_backward(
                q, k, v, labels, bias, out2, lse2, dout, dlse, spec,
            ),
            false => {
                fallback::backward::<Dispatch>(q, k, v, labels, bias, out2, lse2, dout, dlse, &spec)
            }
        };
        vec![out, lse, dq, dk, dv]
    }
}

impl Contender for Op {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn note(&self) -> String {
        self.note.clone()
    }

    fn flops(&self) -> Option<f64> {
        Some(self.problem.flops(self.pass))
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.problem.n)
    }

    fn is_slow(&self) -> bool {
        !self.kernels
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
        let allowed = if self.kernels { OURS } else { OTHERS };
        check(samples, &tensors, &read, allowed).map(Some)
    }

    fn run(&mut self) -> Result<f64, String> {
        let total = seconds(|| {
            (1..self.repeats).for_each(|_| drop(self.compute()));
            Self::wait(self.compute());
        });
        Ok(total / self.repeats as f64)
    }
}
