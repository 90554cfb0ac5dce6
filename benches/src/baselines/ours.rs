//! `longnet-cpu`, on host slices.

use crate::check::{OURS, check};
use crate::contender::{Contender, Pass, seconds};
use crate::inputs::Inputs;
use crate::number::Number;
use crate::oracle::{Sample, Tensor};
use crate::problem::Problem;
use longnet_cpu::{Problem as Call, View, backward, forward};
use longnet_pattern::{Schedule, Span};
use std::cell::RefCell;

/// Where results go; may be longer than they are.
pub struct Results<E> {
    out: Vec<E>,
    lse: Vec<f32>,
    /// dq, dk, dv; empty without a backward pass.
    gradients: [Vec<E>; 3],
}

impl<E: Number> Results<E> {
    /// Room for the results of `problem`.
    pub fn new(problem: &Problem, pass: Pass) -> Self {
        let len = match pass {
            Pass::Forward => 0,
            Pass::Both => problem.len(),
        };
        Self {
            out: bytemuck::zeroed_vec(problem.len()),
            lse: vec![0.0; problem.heads * problem.n],
            gradients: [(); 3].map(|()| bytemuck::zeroed_vec(len)),
        }
    }
}

/// The kernels on a whole sequence.
pub struct Ours<'a, E> {
    problem: Problem,
    schedule: Schedule,
    pass: Pass,
    inputs: &'a Inputs<E>,
    results: &'a RefCell<Results<E>>,
    /// Samples of its own, of a contender that is named by its length.
    own: Option<Vec<Sample>>,
}

impl<'a, E: Number> Ours<'a, E> {
    /// On the first elements of `inputs`, into the first of `results`.
    pub fn new(
        problem: &Problem,
        pass: Pass,
        inputs: &'a Inputs<E>,
        results: &'a RefCell<Results<E>>,
    ) -> Self {
        Self {
            schedule: problem.schedule(Span::full(problem.n)),
            problem: problem.clone(),
            pass,
            inputs,
            results,
            own: None,
        }
    }

    /// Named by its length, and with samples of its own.
    pub fn by_length(mut self, samples: Vec<Sample>) -> Self {
        self.own = Some(samples);
        self
    }

    fn compute(&self) {
        let (len, shape) = (self.problem.len(), self.problem.shape());
        let x = self.inputs;
        let [q, k, v, dout] =
            [&x.q, &x.k, &x.v, &x.dout].map(|x| View::contiguous(&x[..len], shape));
        let results = &mut *self.results.borrow_mut();
        let out = &mut results.out[..len];
        let lse = &mut results.lse[..len / self.problem.d];
        let call = Call::new(&self.schedule, self.problem.d);
        forward(&call, q, k, v, out, lse);
        if self.pass == Pass::Both {
            let out = View::contiguous(&*out, shape);
            let [dq, dk, dv] = results.gradients.each_mut().map(|x| &mut x[..len]);
            backward(&call, q, k, v, out, lse, dout, None, dq, dk, dv);
        }
    }
}

impl<E: Number> Contender for Ours<'_, E> {
    fn name(&self) -> String {
        match self.own {
            Some(_) => format!("n {}", self.problem.n),
            None => "ours".into(),
        }
    }

    fn flops(&self) -> Option<f64> {
        Some(self.problem.flops(self.pass))
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.problem.n)
    }

    fn check(&mut self, samples: &[Sample]) -> Result<Option<f64>, String> {
        self.compute();
        let results = self.results.borrow();
        let [dq, dk, dv] = &results.gradients;
        let read = |tensor, head, row| {
            let tensor = match tensor {
                Tensor::Lse => {
                    return Some(vec![f64::from(results.lse[head * self.problem.n + row])]);
                }
                Tensor::Out => &results.out,
                Tensor::Dq => dq,
                Tensor::Dk => dk,
                Tensor::Dv => dv,
            };
            self.problem.row(tensor, head, row)
        };
        check(self.own.as_deref().unwrap_or(samples), &read, OURS).map(Some)
    }

    fn run(&mut self) -> Result<f64, String> {
        Ok(seconds(|| self.compute()))
    }
}

/// The last row of a sequence, as decoding asks for it.
pub struct OursDecode<'a, E> {
    problem: Problem,
    schedule: Schedule,
    inputs: &'a Inputs<E>,
    out: Vec<E>,
    lse: Vec<f32>,
}

/// A row takes too little time for the clock.
pub const ROWS: usize = 100;

impl<'a, E: Number> OursDecode<'a, E> {
    pub fn new(problem: &Problem, inputs: &'a Inputs<E>) -> Self {
        Self {
            schedule: problem.schedule(Span::decode(1, problem.n)),
            inputs,
            out: bytemuck::zeroed_vec(problem.heads * problem.d),
            lse: vec![0.0; problem.heads],
            problem: problem.clone(),
        }
    }

    fn compute(&mut self) {
        let Problem { heads, n, d, .. } = self.problem;
        let shape = self.problem.shape();
        let q = View {
            offset: (n - 1) * d,
            shape: [1, heads, 1, d],
            ..View::contiguous(&self.inputs.q, shape)
        };
        let [k, v] = [&self.inputs.k, &self.inputs.v].map(|x| View::contiguous(&x[..], shape));
        let call = Call::new(&self.schedule, d);
        forward(&call, q, k, v, &mut self.out, &mut self.lse);
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
        self.compute();
        let one = self.problem.with_n(1);
        let read = |tensor, head, row| match tensor {
            _ if row + 1 != self.problem.n => None,
            Tensor::Out => one.row(&self.out, head, 0),
            Tensor::Lse => Some(vec![f64::from(self.lse[head])]),
            _ => None,
        };
        check(samples, &read, OURS).map(Some)
    }

    fn run(&mut self) -> Result<f64, String> {
        let total = seconds(|| (0..ROWS).for_each(|_| self.compute()));
        Ok(total / ROWS as f64)
    }
}
