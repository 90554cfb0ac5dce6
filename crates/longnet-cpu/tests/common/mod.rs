//! Random problems, how they are stored, and what the op makes of them.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod blocks;
pub mod levels;
pub mod reference;

use half::{bf16, f16};
use longnet_cpu::{Bias, Element, Labels, Problem, View, Walk, backward, forward};
use longnet_pattern::{
    DilatedPattern, Dropout, HIDDEN, HeadAssignment, HeadOffset, MixGradient, Pattern, Precision,
    Span, Tail,
};
use proptest::prelude::*;
use reference::{Results, Tensor};
use std::ops::Range;

/// Elements that convert from and to f64.
pub trait Number: Element<Acc: Into<f64> + Copy + std::fmt::Debug + PartialEq> {
    fn of(x: f64) -> Self;
    fn value(self) -> f64;
    fn acc(x: f64) -> Self::Acc;
}

macro_rules! number {
    ($t:ty, $acc:ty, $of:expr, $value:expr) => {
        impl Number for $t {
            fn of(x: f64) -> Self {
                $of(x)
            }
            fn value(self) -> f64 {
                $value(self)
            }
            fn acc(x: f64) -> $acc {
                x as $acc
            }
        }
    };
}

number!(f32, f32, |x| x as f32, |x| x as f64);
number!(f64, f64, |x| x, |x| x);
number!(f16, f32, f16::from_f64, f16::to_f64);
number!(bf16, f32, bf16::from_f64, bf16::to_f64);

/// Uniform numbers in -1..1 from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn tensor<E: Number>(&mut self, shape: [usize; 4]) -> Tensor {
        let data = (0..shape.iter().product()).map(|_| E::of(self.uniform()).value());
        Tensor {
            data: data.collect(),
            shape,
        }
    }
}

/// How a tensor lies in memory.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    Contiguous,
    /// `[batch, rows, heads, width]`, as projections write it.
    HeadsInside,
    /// `[batch, heads, width, rows]` with every second element unused and a gap in front.
    Transposed,
    /// Rows in reverse order, by a negative stride.
    Reversed,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub pattern: Pattern,
    pub span: Span,
    pub batch: usize,
    pub kv_heads: usize,
    pub d: usize,
    pub d_v: usize,
    pub scale: f64,
    pub labels: Option<(Vec<i32>, Vec<i32>)>,
    /// Of a block mask, for all batch entries or each.
    pub bias: Option<Vec<f64>>,
    pub dropout: Option<Dropout>,
    pub gradient: MixGradient,
    pub precision: Precision,
    pub walk: Walk,
    pub dlse: bool,
    pub layout: Layout,
    pub seed: u64,
}

pub fn cases(longest: usize) -> impl Strategy<Value = Case> {
    cases_of(longest, 1..longest)
}

/// Cases with so many query rows; the key rows are up to `longest`.
pub fn cases_of(longest: usize, queries: Range<usize>) -> impl Strategy<Value = Case> {
    let branches = prop::collection::vec((1..longest + 10, 1usize..9), 1..5);
    let heads = prop_oneof![
        Just((1usize, 1usize)),
        Just((3, 3)),
        Just((4, 2)),
        Just((6, 1)),
        Just((5, 5)),
        Just((6, 3)),
    ];
    let pattern = (heads, branches, any::<[bool; 4]>());
    let span = (0..longest, queries, 0..longest, 1..longest, 0..5usize);
    let sizes = (
        1usize..3,
        prop_oneof![4 => 1usize..40, 1 => Just(64), 1 => Just(100), 1 => Just(257)],
        prop_oneof![4 => 1usize..40, 1 => Just(64), 1 => Just(80), 1 => Just(300)],
    );
    let layout = prop_oneof![
        Just(Layout::Contiguous),
        Just(Layout::HeadsInside),
        Just(Layout::Transposed),
        Just(Layout::Reversed),
    ];
    let rules = (0..4usize, 0..4usize, any::<bool>(), any::<bool>());
    let sizes = (sizes, prop::option::weighted(0.4, blocks::kinds()));
    (pattern, span, sizes, layout, rules, any::<u64>()).prop_map(
        |(((heads, kv_heads), branches, flags), span, (sizes, blocks), layout, rules, seed)| {
            let (batch, d, d_v) = sizes;
            let [causal, grouped, by_group, zero_keys] = flags;
            let (q_start, n_q, k_start, n_k, kind) = span;
            let span = match (zero_keys, kind) {
                (true, _) | (_, 0) => Span::full(n_q),
                (_, 1) => Span::cross(n_q, n_k),
                (_, 2) => Span::decode(n_q.min(n_k), n_k),
                _ => Span {
                    q_start,
                    n_q,
                    k_start,
                    n_k,
                    step: if kind == 3 { 1 } else { 2 + q_start % 7 },
                },
            };
            let dilated = || {
                DilatedPattern::new(heads, branches)
                    .causal(causal)
                    .head_assignment(match grouped {
                        true => HeadAssignment::Grouped,
                        false => HeadAssignment::All,
                    })
                    .head_offset(match by_group {
                        true => HeadOffset::ByGroup,
                        false => HeadOffset::Modulo,
                    })
                    .tail(match zero_keys {
                        true => Tail::ZeroKeys,
                        false => Tail::Masked,
                    })
                    .build()
                    .unwrap()
            };
            let pattern = match &blocks {
                Some(kind) => kind.pattern(heads, causal, span, seed),
                None => dilated(),
            };
            let bias = blocks.and_then(|kind| kind.bias(&pattern, batch, seed));
            let (labels, dropout, detached, dlse) = rules;
            Case {
                pattern,
                span,
                batch,
                kv_heads,
                d,
                d_v,
                scale: 1.5 / (d as f64).sqrt(),
                labels: labels_of(labels, batch, span, seed),
                bias,
                dropout: (dropout == 0).then_some(Dropout { p: 0.3, seed }),
                gradient: match detached {
                    true => MixGradient::Detached,
                    false => MixGradient::Exact,
                },
                precision: Precision::Highest,
                walk: [Walk::Fastest, Walk::Blocks, Walk::Dense][(seed % 3) as usize],
                dlse,
                layout,
                seed,
            }
        },
    )
}

/// Kind 0: padding; 1: documents, one after the other; 2: mixed up, with padding; else none.
fn labels_of(kind: usize, batch: usize, span: Span, seed: u64) -> Option<(Vec<i32>, Vec<i32>)> {
    if kind > 2 {
        return None;
    }
    let mut random = Random(seed ^ 1);
    let mut draw = |position: usize| {
        let hidden = random.next().is_multiple_of(4);
        match kind {
            0 => [0, if hidden { HIDDEN } else { 0 }],
            1 => [position as i32 / 9; 2],
            _ => {
                let label = (random.next() % 3) as i32 - 1;
                [label, if hidden { HIDDEN } else { label }]
            }
        }
    };
    let q = (0..batch * span.n_q).map(|i| draw(span.q_start + i % span.n_q)[0]);
    let q = q.collect();
    let k = (0..batch * span.n_k).map(|j| draw(span.k_start + j % span.n_k)[1]);
    Some((q, k.collect()))
}

/// The tensors of a case, in values that `E` holds exactly.
pub struct Inputs {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub dout: Tensor,
    pub dlse: Vec<f64>,
}

impl Case {
    pub fn inputs<E: Number>(&self) -> Inputs {
        let (heads, span) = (self.pattern.heads(), self.span);
        let mut random = Random(self.seed);
        let rows = self.batch * heads * span.n_q;
        let mut tensor = |heads, rows, width| random.tensor::<E>([self.batch, heads, rows, width]);
        Inputs {
            q: tensor(heads, span.n_q, self.d),
            k: tensor(self.kv_heads, span.n_k, self.d),
            v: tensor(self.kv_heads, span.n_k, self.d_v),
            dout: tensor(heads, span.n_q, self.d_v),
            dlse: (0..rows)
                .map(|_| if self.dlse { random.uniform() } else { 0.0 })
                .collect(),
        }
    }

    /// Forward and backward by the op, into poisoned buffers, from poisoned surroundings.
    pub fn run<E: Number>(&self, inputs: &Inputs) -> Results {
        let schedule = self.pattern.schedule(self.span).unwrap();
        let problem = Problem {
            schedule: &schedule,
            scale: self.scale,
            labels: self.labels.as_ref().map(|(q, k)| Labels { q, k }),
            bias: self.bias.as_ref().map(|values| Bias { values }),
            dropout: self.dropout,
            gradient: self.gradient,
            precision: self.precision,
            walk: self.walk,
        };
        let hidden = |batch: usize, b: usize| {
            let labels = self.labels.as_ref();
            labels.is_some_and(|(_, k)| k[batch * self.span.n_k + b] == HIDDEN)
        };
        let shown = |_: usize, _: usize| false;
        let q = Stored::<E>::new(&inputs.q, self.layout, shown);
        let k = Stored::<E>::new(&inputs.k, self.layout, hidden);
        let v = Stored::<E>::new(&inputs.v, self.layout, hidden);
        let dout = Stored::<E>::new(&inputs.dout, self.layout, shown);
        let poisoned = |len: usize| vec![E::of(f64::NAN); len];
        let mut out = poisoned(inputs.dout.data.len());
        let mut lse = vec![E::acc(f64::NAN); inputs.dlse.len()];
        forward(&problem, q.view(), k.view(), v.view(), &mut out, &mut lse);
        let out_view = View::contiguous(&out, inputs.dout.shape);
        let dlse: Vec<E::Acc> = inputs.dlse.iter().map(|&x| E::acc(x)).collect();
        let dlse = self.dlse.then_some(&dlse[..]);
        let [mut dq, mut dk, mut dv] =
            [&inputs.q, &inputs.k, &inputs.v].map(|x| poisoned(x.data.len()));
        let mut dbias = self.bias.as_ref().map(|bias| vec![f64::NAN; bias.len()]);
        backward(
            &problem,
            q.view(),
            k.view(),
            v.view(),
            out_view,
            &lse,
            dout.view(),
            dlse,
            &mut dq,
            &mut dk,
            &mut dv,
            dbias.as_deref_mut(),
        );
        let values = |x: Vec<E>| x.into_iter().map(E::value).collect();
        Results {
            out: values(out),
            lse: lse.into_iter().map(Into::into).collect(),
            dq: values(dq),
            dk: values(dk),
            dv: values(dv),
            dbias: dbias.unwrap_or_default(),
        }
    }
}

/// A tensor in memory, with NaN wherever none of its elements lies.
pub struct Stored<E> {
    data: Vec<E>,
    offset: usize,
    shape: [usize; 4],
    strides: [isize; 4],
}

impl<E: Number> Stored<E> {
    pub fn new(x: &Tensor, layout: Layout, poisoned: impl Fn(usize, usize) -> bool) -> Self {
        let shape = x.shape;
        let [batch, heads, rows, width] = shape.map(|s| s as isize);
        let (offset, strides) = match layout {
            Layout::Contiguous => (0, [heads * rows * width, rows * width, width, 1]),
            Layout::HeadsInside => (3, [heads * rows * width, width, heads * width, 1]),
            Layout::Transposed => (7, [2 * heads * rows * width, 2 * rows * width, 2, 2 * rows]),
            Layout::Reversed => (
                (rows - 1).max(0) as usize * width as usize,
                [heads * rows * width, rows * width, -width, 1],
            ),
        };
        let len = 2 * (batch * heads * rows * width) as usize + 8;
        let mut stored = Self {
            data: vec![E::of(f64::NAN); len],
            offset,
            shape,
            strides,
        };
        for (i, &value) in x.data.iter().enumerate() {
            let at = x.index(i);
            if !poisoned(at[0], at[2]) {
                let shift: isize = at.iter().zip(strides).map(|(&i, s)| i as isize * s).sum();
                stored.data[offset.wrapping_add_signed(shift)] = E::of(value);
            }
        }
        stored
    }

    pub fn view(&self) -> View<'_, E> {
        View {
            data: &self.data,
            offset: self.offset,
            shape: self.shape,
            strides: self.strides,
        }
    }
}
