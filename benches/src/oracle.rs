//! What should come out, in f64, written straight from the definition: softmax over the keys that a row
//! sees, walked one by one. Nothing here knows of the library's schedules.
//!
//! A whole problem would take minutes, so rows and keys are sampled: some rows of every head, and in
//! one head a whole segment, whose every row gives its lse and out and takes part in the gradients of
//! sampled keys.
//!
//! The same walk with every intermediate rounded to a half-precision type is the "plain implementation
//! in the same dtype" that the error of a half-precision contender is measured by.

use crate::inputs::Inputs;
use crate::number::Number;
use crate::problem::Problem;
use rayon::prelude::*;

/// The last rows of a masked sequence, whose keys' gradients are sampled.
const TAIL: usize = 512;

/// Which result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tensor {
    Out,
    Lse,
    Dq,
    Dk,
    Dv,
}

/// A row of a result.
pub struct Sample {
    pub tensor: Tensor,
    pub head: usize,
    pub row: usize,
    /// Whether it is in the later half of its segment.
    pub late: bool,
    /// By the definition.
    pub want: Vec<f64>,
    /// By a plain implementation in the inputs' type, where that is a half-precision one.
    pub plain: Option<Vec<f64>>,
}

/// Which samples to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Some rows of every head.
    Rows,
    /// These, and a whole segment of one head.
    RowsAndSegment,
    /// All that, and gradients.
    Gradients,
}

/// Samples of the results of `problem` on `inputs`.
pub fn samples<E: Number>(problem: &Problem, inputs: &Inputs<E>, amount: Amount) -> Vec<Sample> {
    let window = problem.window();
    let windows = problem.n.div_ceil(window);
    let gradients = amount == Amount::Gradients;
    let mut samples: Vec<Sample> = (0..problem.heads)
        .into_par_iter()
        .flat_map(|head| {
            // The first, a middle and the last segment; rows on every residue, the last one among them.
            let mut starts = vec![0, windows / 2 * window, (windows - 1) * window];
            starts.dedup();
            let mut samples = Vec::new();
            for start in starts {
                let block = Block::new(problem, inputs, head, start);
                let last = block.rows - 1;
                let rows = [
                    0,
                    last / 3,
                    last / 2,
                    last - last / 7,
                    last.saturating_sub(1),
                    last,
                ];
                for row in rows {
                    block.sample_row::<E>(row, gradients, &mut samples);
                }
            }
            samples
        })
        .collect();
    if amount != Amount::Rows {
        // A head that is on odd residues.
        let head = 3.min(problem.heads - 1);
        let block = Block::new(problem, inputs, head, windows / 3 * window);
        block.sample_all::<E>(gradients, &mut samples);
    }
    samples
}

impl Problem {
    /// A span of positions that see nothing outside of it.
    fn window(&self) -> usize {
        if self.mask.is_some() {
            return self.n;
        }
        let longest = self.branches.iter().map(|b| b.0).max();
        let longest = longest.expect("a branch");
        assert!(
            self.branches.iter().all(|b| longest.is_multiple_of(b.0)),
            "segments must nest: {:?}",
            self.branches
        );
        longest.min(self.n)
    }

    /// The positions that `i` sees in `head`, ascending, and how many branches show each.
    pub fn visible(&self, head: usize, i: usize) -> Vec<(usize, u32)> {
        let mut seen = Vec::new();
        if let Some(mask) = &self.mask {
            let (rows, keys) = (mask.grid().q_block, mask.grid().k_block);
            let blocks = mask.row(head, i / rows).iter();
            let seen = blocks.flat_map(|j| j * keys..(j + 1) * keys);
            return seen.filter(|j| *j <= i).map(|j| (j, 1)).collect();
        }
        for &(w, r) in &self.branches {
            let (start, offset) = (i / w * w, head % r);
            if (i - start) % r == offset {
                seen.extend((start + offset..=i).step_by(r));
            }
        }
        seen.sort_unstable();
        let mut counted: Vec<(usize, u32)> = Vec::with_capacity(seen.len());
        for j in seen {
            match counted.last_mut() {
                Some((last, count)) if *last == j => *count += 1,
                _ => counted.push((j, 1)),
            }
        }
        counted
    }
}

/// One head's inputs over a window.
struct Block<'a> {
    problem: &'a Problem,
    head: usize,
    start: usize,
    rows: usize,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    dout: Vec<f64>,
}

/// What the gradients of keys need of a row.
#[derive(Clone, Copy, Default)]
struct Softmax {
    max: f64,
    sum: f64,
    delta: f64,
}

struct Row {
    softmax: Softmax,
    out: Vec<f64>,
    dq: Vec<f64>,
}

impl<'a> Block<'a> {
    fn new<E: Number>(problem: &'a Problem, inputs: &Inputs<E>, head: usize, start: usize) -> Self {
        let rows = problem.window().min(problem.n - start);
        let at = (head * problem.n + start) * problem.d;
        let take = |x: &[E]| -> Vec<f64> {
            let part = &x[at..at + rows * problem.d];
            part.iter().map(|x| x.to_f64()).collect()
        };
        Self {
            problem,
            head,
            start,
            rows,
            q: take(&inputs.q),
            k: take(&inputs.k),
            v: take(&inputs.v),
            dout: take(&inputs.dout),
        }
    }

    fn at<'b>(&self, x: &'b [f64], row: usize) -> &'b [f64] {
        &x[row * self.problem.d..][..self.problem.d]
    }

    /// `s_ij + ln m`.
    fn score(&self, i: usize, j: usize, count: u32, round: fn(f64) -> f64) -> f64 {
        let scale = 1.0 / (self.problem.d as f64).sqrt();
        let s = round(round(dot(self.at(&self.q, i), self.at(&self.k, j))) * scale);
        round(s + round(f64::from(count).ln()))
    }

    fn visible(&self, i: usize) -> impl Iterator<Item = (usize, u32)> + use<'_> {
        let keys = self.problem.visible(self.head, self.start + i).into_iter();
        keys.map(|(j, count)| (j - self.start, count))
    }

    fn row(&self, i: usize, gradients: bool, round: fn(f64) -> f64) -> Row {
        let d = self.problem.d;
        let (mut out, mut dq) = (vec![0.0; d], vec![0.0; d]);
        let mut seen: Vec<(usize, f64)> = self
            .visible(i)
            .map(|(j, count)| (j, self.score(i, j, count, round)))
            .collect();
        let max = seen.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
        let sum = seen.iter().map(|s| (s.1 - max).exp()).sum();
        let mut softmax = Softmax {
            max,
            sum,
            delta: 0.0,
        };
        for (j, s) in &mut seen {
            *s = softmax.p(*s, round);
            add(&mut out, *s, self.at(&self.v, *j));
        }
        out.iter_mut().for_each(|x| *x = round(*x));
        if gradients {
            let dout = self.at(&self.dout, i);
            let dp: Vec<f64> = (seen.iter())
                .map(|(j, _)| round(dot(dout, self.at(&self.v, *j))))
                .collect();
            let products = seen.iter().zip(&dp).map(|((_, p), dp)| round(p * dp));
            softmax.delta = round(products.sum());
            for ((j, p), dp) in seen.iter().zip(&dp) {
                add(
                    &mut dq,
                    self.ds(*p, *dp, softmax, round),
                    self.at(&self.k, *j),
                );
            }
            dq.iter_mut().for_each(|x| *x = round(*x));
        }
        Row { softmax, out, dq }
    }

    fn ds(&self, p: f64, dp: f64, softmax: Softmax, round: fn(f64) -> f64) -> f64 {
        let scale = 1.0 / (self.problem.d as f64).sqrt();
        round(round(p * round(dp - softmax.delta)) * scale)
    }

    /// dk and dv of key `j`, from the softmax of every row that sees it.
    fn key(&self, j: usize, rows: &[Softmax], round: fn(f64) -> f64) -> [Vec<f64>; 2] {
        let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; self.problem.d]);
        for (i, softmax) in rows.iter().enumerate().skip(j) {
            let Some((_, count)) = self.visible(i).find(|seen| seen.0 == j) else {
                continue;
            };
            let dout = self.at(&self.dout, i);
            let p = softmax.p(self.score(i, j, count, round), round);
            let dp = round(dot(dout, self.at(&self.v, j)));
            add(&mut dv, p, dout);
            add(
                &mut dk,
                self.ds(p, dp, *softmax, round),
                self.at(&self.q, i),
            );
        }
        [dk, dv].map(|x| x.into_iter().map(round).collect())
    }

    fn sample_row<E: Number>(&self, i: usize, gradients: bool, to: &mut Vec<Sample>) {
        let want = self.row(i, gradients, exact);
        let plain = E::HALF.then(|| self.row(i, gradients, E::round_f64));
        let (plain_out, plain_dq) = plain.map(|row| (row.out, row.dq)).unzip();
        to.push(self.sample(Tensor::Lse, i, vec![want.softmax.lse()], None));
        to.push(self.sample(Tensor::Out, i, want.out, plain_out));
        if gradients {
            to.push(self.sample(Tensor::Dq, i, want.dq, plain_dq));
        }
    }

    fn sample(&self, tensor: Tensor, i: usize, want: Vec<f64>, plain: Option<Vec<f64>>) -> Sample {
        Sample {
            tensor,
            head: self.head,
            row: self.start + i,
            late: 2 * i >= self.rows,
            want,
            plain,
        }
    }

    /// lse and out of all rows (of a mask the last ones), and gradients of some of their keys.
    fn sample_all<E: Number>(&self, gradients: bool, to: &mut Vec<Sample>) {
        // A sequence that is one segment is long: its last keys are seen by few rows.
        let first = match self.problem.mask {
            Some(_) => self.rows.saturating_sub(TAIL),
            None => 0,
        };
        let rows = |round| -> Vec<Row> {
            (first..self.rows)
                .into_par_iter()
                .map(|i| self.row(i, gradients, round))
                .collect()
        };
        let want = rows(exact);
        let plain = E::HALF.then(|| rows(E::round_f64));
        if gradients {
            let softmax = |rows: &[Row]| -> Vec<Softmax> {
                let unseen = std::iter::repeat_n(Softmax::default(), first);
                unseen.chain(rows.iter().map(|r| r.softmax)).collect()
            };
            let (exactly, plainly) = (softmax(&want), plain.as_deref().map(softmax));
            let keys: Vec<usize> = (0..24)
                .map(|k| first + k * (self.rows - 1 - first) / 23)
                .collect();
            to.par_extend(keys.into_par_iter().flat_map_iter(|j| {
                let [dk, dv] = self.key(j, &exactly, exact);
                let plain = plainly.as_ref().map(|rows| self.key(j, rows, E::round_f64));
                let (plain_dk, plain_dv) = plain.map(|[dk, dv]| (dk, dv)).unzip();
                [
                    self.sample(Tensor::Dk, j, dk, plain_dk),
                    self.sample(Tensor::Dv, j, dv, plain_dv),
                ]
            }));
        }
        let mut plain = plain.map(Vec::into_iter);
        for (i, row) in want.into_iter().enumerate() {
            let i = first + i;
            let plain = plain.as_mut().and_then(Iterator::next).map(|row| row.out);
            to.push(self.sample(Tensor::Lse, i, vec![row.softmax.lse()], None));
            to.push(self.sample(Tensor::Out, i, row.out, plain));
        }
    }
}

impl Softmax {
    fn p(&self, score: f64, round: fn(f64) -> f64) -> f64 {
        round((score - self.max).exp() / self.sum)
    }

    fn lse(&self) -> f64 {
        self.max + self.sum.ln()
    }
}

fn exact(x: f64) -> f64 {
    x
}

/// Eight sums, so that the loop becomes vector code.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8
        .remainder()
        .iter()
        .zip(b8.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (a, b) in a8.zip(b8) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
}

#[cfg(test)]
mod tests {
    use super::*;
    use longnet_tests::blocks::Blocks;
    use longnet_tests::dilated::Dilated;
    use longnet_tests::{oracle, problem};

    fn small() -> Problem {
        Problem::dilated(5, 96, 8, &[(8, 1), (16, 2), (32, 4)])
    }

    #[test]
    fn visible_keys_are_those_of_the_definition() {
        let problem = small();
        let pattern = Dilated::new(problem.heads, &problem.branches, true);
        for head in 0..problem.heads {
            for i in 0..problem.n {
                let want: Vec<(usize, u32)> = (0..problem.n)
                    .map(|j| {
                        let branches = 0..problem.branches.len();
                        let count = branches.filter(|&b| pattern.sees(b, head, i, j)).count();
                        (j, count as u32)
                    })
                    .filter(|seen| seen.1 > 0)
                    .collect();
                assert_eq!(problem.visible(head, i), want, "head {head}, position {i}");
            }
        }
    }

    #[test]
    fn samples_are_those_of_the_dense_oracle() {
        let dense = Problem::dense(2, 50, 4);
        let listed = "random(2) | window(8)".parse().unwrap();
        let masked = dense.masked(dense.mask(&listed, 8));
        for small in [small(), dense, masked] {
            let inputs = Inputs::<f32>::new(&small);
            let pattern = Dilated::new(small.heads, &small.branches, true);
            let blocks = small.mask.as_ref().map(|mask| Blocks {
                size: [8, 8],
                set: (0..2)
                    .map(|head| {
                        let row = |i| {
                            (0..7)
                                .map(|j| mask.bias_index(head, i, j).is_some())
                                .collect()
                        };
                        (0..7).map(row).collect()
                    })
                    .collect(),
                bias: None,
            });
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
            let want = oracle::attention(
                &problem::Problem {
                    blocks,
                    ..problem::Problem::new(pattern, small.n, small.d)
                },
                &problem::Inputs {
                    q: wide(&inputs.q),
                    k: wide(&inputs.k),
                    v: wide(&inputs.v),
                    dout: wide(&inputs.dout),
                    dlse: None,
                },
            )
            .values;
            let samples = samples(&small, &inputs, Amount::Gradients);
            let of = |tensor| samples.iter().filter(move |s| s.tensor == tensor);
            for (tensor, all) in [
                (Tensor::Out, &want.out),
                (Tensor::Lse, &want.lse),
                (Tensor::Dq, &want.dq),
                (Tensor::Dk, &want.dk),
                (Tensor::Dv, &want.dv),
            ] {
                assert!(of(tensor).count() >= 6, "{tensor:?}");
                for sample in of(tensor) {
                    let width = sample.want.len();
                    let row = (sample.head * small.n + sample.row) * width;
                    for (got, want) in sample.want.iter().zip(&all[row..row + width]) {
                        assert!((got - want).abs() < 1e-12, "{tensor:?} {got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_plain_implementation_in_half_precision_errs_by_its_digits() {
        use half::bf16;
        let problem = small();
        let inputs = Inputs::<bf16>::new(&problem);
        for sample in samples(&problem, &inputs, Amount::Gradients) {
            let Some(plain) = &sample.plain else {
                assert_eq!(sample.tensor, Tensor::Lse);
                continue;
            };
            let norm = |x: &[f64]| dot(x, x).sqrt();
            let apart: Vec<f64> = plain.iter().zip(&sample.want).map(|(a, b)| a - b).collect();
            let size = norm(&sample.want) + 0.1;
            assert!(norm(&apart) < 0.1 * size, "{:?}", sample.tensor);
        }
    }
}
