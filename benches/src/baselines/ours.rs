//! `longnet-cpu`, on host slices.

use crate::check::{OURS, check, results};
use crate::contender::{Contender, Pass, seconds};
use crate::inputs::Inputs;
use crate::number::Number;
use crate::oracle::{Sample, Tensor};
use crate::problem::Problem;
use longnet_cpu::{Problem as Call, View, Walk, backward, forward};
use longnet_pattern::{Schedule, Span};

/// What a run returns.
struct Results<E> {
    out: Vec<E>,
    lse: Vec<f32>,
    /// dq, dk, dv; empty without a backward pass.
    gradients: [Vec<E>; 3],
}

/// The kernels on a whole sequence.
pub struct Ours<'a, E> {
    problem: Problem,
    schedule: Schedule,
    pass: Pass,
    inputs: &'a Inputs<E>,
    walk: Walk,
    /// A name and samples of its own.
    own: Option<(String, Vec<Sample>)>,
}

impl<'a, E: Number> Ours<'a, E> {
    /// On the first elements of `inputs`.
    pub fn new(problem: &Problem, pass: Pass, inputs: &'a Inputs<E>) -> Self {
        Self {
            schedule: problem.schedule(Span::full(problem.n)),
            problem: problem.clone(),
            pass,
            inputs,
            walk: Walk::Fastest,
            own: None,
        }
    }

    /// With a name and samples of its own.
    pub fn named(mut self, name: String, samples: Vec<Sample>) -> Self {
        self.own = Some((name, samples));
        self
    }

    /// Walks a mask so.
    pub fn walking(mut self, walk: Walk) -> Self {
        self.walk = walk;
        self
    }

    /// Results are allocated here, as the other contenders allocate theirs.
    fn compute(&self) -> Results<E> {
        let (len, shape) = (self.problem.len(), self.problem.shape());
        let x = self.inputs;
        let [q, k, v, dout] =
            [&x.q, &x.k, &x.v, &x.dout].map(|x| View::contiguous(&x[..len], shape));
        let mut out: Vec<E> = bytemuck::zeroed_vec(len);
        let mut lse = vec![0.0; self.problem.heads * self.problem.n];
        let call = Call {
            walk: self.walk,
            ..Call::new(&self.schedule, self.problem.d)
        };
        forward(&call, q, k, v, &mut out, &mut lse);
        let mut gradients = [(); 3].map(|()| Vec::new());
        if self.pass == Pass::Both {
            gradients = gradients.map(|_| bytemuck::zeroed_vec(len));
            let o = View::contiguous(&out[..], shape);
            let [dq, dk, dv] = gradients.each_mut().map(|x| &mut x[..]);
            backward(&call, q, k, v, o, &lse, dout, None, dq, dk, dv, None);
        }
        Results {
            out,
            lse,
            gradients,
        }
    }
}

impl<E: Number> Contender for Ours<'_, E> {
    fn name(&self) -> String {
        let own = self.own.as_ref().map(|(name, _)| name.clone());
        own.unwrap_or_else(|| "ours".into())
    }

    fn note(&self) -> String {
        match self.problem.mask {
            Some(_) => format!("sparsity {:.4}", self.problem.sparsity()),
            None => String::new(),
        }
    }

    fn flops(&self) -> Option<f64> {
        Some(self.problem.flops(self.pass))
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.problem.n)
    }

    fn check(&mut self, samples: &[Sample]) -> Result<Option<f64>, String> {
        let computed = self.compute();
        let [dq, dk, dv] = &computed.gradients;
        let read = |tensor, head, row| {
            let tensor = match tensor {
                Tensor::Lse => {
                    return Some(vec![f64::from(computed.lse[head * self.problem.n + row])]);
                }
                Tensor::Out => &computed.out,
                Tensor::Dq => dq,
                Tensor::Dk => dk,
                Tensor::Dv => dv,
            };
            self.problem.row(tensor, head, row)
        };
        let tensors = results(self.pass, true);
        let samples = self.own.as_ref().map_or(samples, |(_, own)| own);
        check(samples, &tensors, &read, OURS).map(Some)
    }

    fn run(&mut self) -> Result<f64, String> {
        Ok(seconds(|| drop(self.compute())))
    }
}

/// The last row of a sequence, as decoding asks for it.
pub struct OursDecode<'a, E> {
    problem: Problem,
    schedule: Schedule,
    inputs: &'a Inputs<E>,
}

/// A row takes too little time for the clock.
pub const ROWS: usize = 100;

impl<'a, E: Number> OursDecode<'a, E> {
    pub fn new(problem: &Problem, inputs: &'a Inputs<E>) -> Self {
        Self {
            schedule: problem.schedule(Span::decode(1, problem.n)),
            inputs,
            problem: problem.clone(),
        }
    }

    /// Out and lse of the row.
    fn compute(&self) -> (Vec<E>, Vec<f32>) {
        let Problem { heads, n, d, .. } = self.problem;
        let shape = self.problem.shape();
        let q = View {
            offset: (n - 1) * d,
            shape: [1, heads, 1, d],
            ..View::contiguous(&self.inputs.q, shape)
        };
        let [k, v] = [&self.inputs.k, &self.inputs.v].map(|x| View::contiguous(&x[..], shape));
        let call = Call::new(&self.schedule, d);
        let mut out = bytemuck::zeroed_vec(heads * d);
        let mut lse = vec![0.0; heads];
        forward(&call, q, k, v, &mut out, &mut lse);
        (out, lse)
    }
}

impl<E: Number> Contender for OursDecode<'_, E> {
    fn name(&self) -> String {
        "ours".into()
    }

    fn flops(&self) -> Option<f64> {
        Some(self.problem.decode_flops())
    }

    fn tokens(&self) -> Option<usize> {
        Some(1)
    }

    fn check(&mut self, samples: &[Sample]) -> Result<Option<f64>, String> {
        let (out, lse) = self.compute();
        let one = self.problem.with_n(1);
        let read = |tensor, head, row| match tensor {
            _ if row + 1 != self.problem.n => None,
            Tensor::Out => one.row(&out, head, 0),
            Tensor::Lse => Some(vec![f64::from(lse[head])]),
            _ => None,
        };
        check(samples, &results(Pass::Forward, true), &read, OURS).map(Some)
    }

    fn run(&mut self) -> Result<f64, String> {
        let total = seconds(|| (0..ROWS).for_each(|_| drop(self.compute())));
        Ok(total / ROWS as f64)
    }
}
