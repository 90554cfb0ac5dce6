//! One branch as padded tiles.

use super::bias::BlockBias;
use super::collect::Collect;
use super::tensors::{
    LOW, column, equal, fill, from_f32, from_i32, lower_equal, merge, select_rows, wide,
};
use crate::ops::{AttentionSpec, Bias, Labels};
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape};
use longnet_pattern::{HIDDEN, Progression, Run};

/// The tensors of a call, rows flattened over heads: `[batch, heads * n, width]`.
pub struct Inputs<'a, B: Backend> {
    pub q: FloatTensor<B>,
    pub k: FloatTensor<B>,
    pub v: FloatTensor<B>,
    pub labels: Labels<B>,
    /// `[1 or batch, blocks]`.
    pub bias: Option<FloatTensor<B>>,
    pub spec: &'a AttentionSpec,
    pub batch: usize,
    pub kv_heads: usize,
    pub device: B::Device,
    pub dtype: DType,
}

impl<'a, B: Backend> Inputs<'a, B> {
    pub fn new(
        q: FloatTensor<B>,
        k: FloatTensor<B>,
        v: FloatTensor<B>,
        labels: Labels<B>,
        bias: Bias<B>,
        spec: &'a AttentionSpec,
    ) -> Self {
        let [batch, kv_heads, ..] = k.shape().dims::<4>();
        let device = q.device();
        let flat = |t: FloatTensor<B>| {
            let [batch, heads, n, width] = t.shape().dims::<4>();
            B::float_reshape(wide::<B>(t), [batch, heads * n, width].into())
        };
        let (q, k, v) = (flat(q), flat(k), flat(v));
        let dtype = q.dtype();
        let bias = match bias {
            Bias::None => None,
            Bias::Blocks(bias) => {
                assert!(
                    spec.schedule.mask().is_some(),
                    "a bias needs a block mask: dilated patterns have no blocks"
                );
                Some(B::float_cast(bias, dtype.into()))
            }
        };
        Self {
            q,
            k,
            v,
            labels,
            bias,
            spec,
            batch,
            kv_heads,
            device,
            dtype,
        }
    }

    /// The log of the number of zero keys of each row, `[1, heads * n_q, 1]`.
    pub fn zero_keys_lse(&self) -> Option<FloatTensor<B>> {
        let schedule = &self.spec.schedule;
        let count = |head, a| -> usize {
            (0..schedule.branches())
                .map(|b| schedule.zero_keys(b, head, a))
                .sum()
        };
        let n_q = schedule.span().n_q;
        let rows: Vec<f32> = (0..schedule.heads())
            .flat_map(|head| (0..n_q).map(move |a| (head, a)))
            .map(|(head, a)| count(head, a) as f32)
            .collect();
        rows.iter().any(|count| *count > 0.0).then(|| {
            let shape = [1, rows.len(), 1];
            let one = B::float_log(from_f32::<B>(rows, shape, &self.device, self.dtype));
            B::float_expand(one, [self.batch, shape[1], 1].into())
        })
    }
}

/// Padded tiles `[heads, runs, rows]` of queries and `[heads, runs, keys]` of keys, for the heads
/// that run the branch. Of a block mask each listed block is a run.
pub struct Branch<B: Backend> {
    shape: [usize; 4],
    /// Row of `q` (of `k`) behind each slot; padded slots point at a row of their own head.
    q_rows: IntTensor<B>,
    k_rows: IntTensor<B>,
    /// The slots of each row of `[heads * n]`.
    q_parts: Collect<B>,
    k_parts: Collect<B>,
    /// `[batch, heads, runs, rows, keys]`, true where a pair is not visited.
    masked: BoolTensor<B>,
    /// `[batch, heads, runs, keys, 1]`, true where a key slot is padding or hidden.
    dead_keys: BoolTensor<B>,
    /// Dropout factors, as `masked`.
    factors: Option<FloatTensor<B>>,
    /// Zero keys of each query slot, `[1, heads, runs, rows, 1]`.
    zero_keys: FloatTensor<B>,
    bias: Option<BlockBias<B>>,
}

/// The gradients of one branch, see [`Branch::backward`].
pub struct Grads<B: Backend> {
    pub q: FloatTensor<B>,
    pub k: FloatTensor<B>,
    pub v: FloatTensor<B>,
    pub bias: Option<FloatTensor<B>>,
}

impl<B: Backend> Branch<B> {
    /// `None` if no row sees anything.
    pub fn new(inputs: &Inputs<'_, B>, branch: usize) -> Option<Self> {
        let schedule = &inputs.spec.schedule;
        let heads = schedule.heads();
        let (runs, places) = runs_of(inputs, branch);
        let most = |f: fn(&Run) -> usize| runs.iter().flat_map(|(_, r)| r).map(f).max();
        let (rows, keys) = (most(|r| r.q.len)?, most(|r| r.k.len)?);
        let count = runs.iter().map(|(_, r)| r.len()).max()?;
        let shape = [runs.len(), count, rows, keys];
        let (device, span) = (&inputs.device, schedule.span());
        let group = heads / inputs.kv_heads;

        let (q_index, q_parts) =
            slots::<B>(&runs, count, rows, heads * span.n_q, device, |head, run| {
                (run.q, [head * span.n_q; 2])
            });
        let most = q_index.len().max(heads * span.n_q.max(span.n_k));
        assert!(
            i32::try_from(most).is_ok(),
            "the fallback addresses rows with 32 bits, and branch {branch} has {most}; use the backend flex, or a smaller batch of heads or tokens"
        );
        let (k_index, k_parts) =
            slots::<B>(&runs, count, keys, heads * span.n_k, device, |head, run| {
                (run.k, [head / group * span.n_k, head * span.n_k])
            });
        let rows_of = |index: &[Slot]| index.iter().map(|s| s.flat as i32).collect::<Vec<_>>();

        // Row a of a run sees key slots 0..visible(a).
        let mut last_seen = vec![-1; shape[0] * count * rows];
        let mut zero_keys = vec![0.0; last_seen.len()];
        for (h, (head, runs)) in runs.iter().enumerate() {
            for (s, run) in runs.iter().enumerate() {
                for a in 0..run.q.len {
                    let slot = (h * count + s) * rows + a;
                    last_seen[slot] = run.visible(a) as i32 - 1;
                    zero_keys[slot] = schedule.zero_keys(branch, *head, run.q.at(a)) as f32;
                }
            }
        }
        let full = Shape::new([inputs.batch, shape[0], count, rows, keys]);
        let last_seen = from_i32::<B>(last_seen, [1, shape[0], count, rows, 1], device);
        let slot = from_i32::<B>((0..keys as i32).collect(), [1, 1, 1, 1, keys], device);
        let mut visible = lower_equal::<B>(slot, last_seen, &full);

        let alive = k_index.iter().map(|s| i32::from(s.used)).collect();
        let alive = from_i32::<B>(alive, [1, shape[0], count, keys, 1], device);
        let dead = Shape::new([inputs.batch, shape[0], count, keys, 1]);
        let zero = from_i32::<B>(vec![0], [1, 1, 1, 1, 1], device);
        let mut dead_keys = equal::<B>(alive, zero, &dead);
        if let Labels::Pair { q, k } = &inputs.labels {
            let pick = |labels: &IntTensor<B>, index: &[Slot], width, column: bool| {
                let index = index.iter().map(|s| s.row as i32).collect();
                let index = from_i32::<B>(index, [shape[0] * count * width], device);
                let [r, c] = if column { [width, 1] } else { [1, width] };
                let shape = Shape::new([inputs.batch, shape[0], count, r, c]);
                B::int_reshape(B::int_select(labels.clone(), 1, index), shape)
            };
            let same = equal::<B>(
                pick(q, &q_index, rows, true),
                pick(k, &k_index, keys, false),
                &full,
            );
            let hidden = from_i32::<B>(vec![HIDDEN], [1, 1, 1, 1, 1], device);
            let key_hidden = |labels, shape: &Shape| equal::<B>(labels, hidden.clone(), shape);
            let row = key_hidden(pick(k, &k_index, keys, false), &full);
            visible = B::bool_and(visible, B::bool_and(same, B::bool_not(row)));
            dead_keys = B::bool_or(dead_keys, key_hidden(pick(k, &k_index, keys, true), &dead));
        }
        let n = |index: &[Slot]| [index.len()];
        let bias = BlockBias::new(inputs, &places, [shape[0], count]);
        let mut masked = B::bool_not(visible);
        if let Some(bias) = &bias {
            let hidden = bias.hidden(&full);
            masked = B::bool_or(masked, hidden);
        }
        Some(Self {
            q_rows: from_i32::<B>(rows_of(&q_index), n(&q_index), device),
            k_rows: from_i32::<B>(rows_of(&k_index), n(&k_index), device),
            q_parts,
            k_parts,
            masked,
            dead_keys,
            factors: factors(inputs, &runs, shape),
            zero_keys: from_f32::<B>(
                zero_keys,
                [1, shape[0], count, rows, 1],
                device,
                inputs.dtype,
            ),
            bias,
            shape,
        })
    }

    /// The branch's own `(out, lse)` in the order of rows: `[batch, heads * n_q, d_v]` and
    /// `[batch, heads * n_q, 1]`, without zero keys.
    pub fn forward(&self, inputs: &Inputs<'_, B>) -> (FloatTensor<B>, FloatTensor<B>) {
        let (q, k, v) = self.gather(inputs);
        let scores = fill::<B>(self.scores(inputs, q, k), self.masked.clone(), LOW);
        let top = B::float_max_dim(scores.clone(), 4);
        let weights = B::float_exp(B::float_sub(scores, top.clone()));
        let weights = fill::<B>(weights, self.masked.clone(), 0.0);
        let sum = B::float_sum_dim(weights.clone(), 4);
        let lse = B::float_add(top, B::float_log(sum.clone()));
        let out = B::float_matmul(self.drop(weights), v);
        // 1 is the least sum of a row that sees anything.
        let out = B::float_div(out, B::float_clamp_min(sum, 1.0.into()));
        let parts = [self.slots(out, 2), self.slots(lse, 2)];
        let rest = [0.0, f32::NEG_INFINITY];
        let [out, lse] = self.q_parts.rows(parts, rest, |[o1, l1], [o2, l2]| {
            merge::<B>((o1, l1), (o2, l2)).into()
        });
        (out, lse)
    }

    /// The branch's share of the gradients, in the order of rows; those of keys and values are per
    /// query head. `delta`: the rows' D, or `None` for the branch's own.
    pub fn backward(
        &self,
        inputs: &Inputs<'_, B>,
        dout: &FloatTensor<B>,
        lse: &FloatTensor<B>,
        dlse: &FloatTensor<B>,
        delta: Option<&FloatTensor<B>>,
    ) -> Grads<B> {
        let tile = |t: &FloatTensor<B>| self.tile(t.clone(), &self.q_rows, 2);
        let (q, k, v) = self.gather(inputs);
        // As for dead keys: rows that see nothing may hold anything.
        let dead_rows = B::bool_all_dim(self.masked.clone(), 4);
        let q = fill::<B>(q, dead_rows.clone(), 0.0);
        let (dout, lse) = (fill::<B>(tile(dout), dead_rows, 0.0), tile(lse));
        let scores = self.scores(inputs, q.clone(), k.clone());
        let weights = B::float_exp(B::float_sub(scores, lse.clone()));
        let weights = fill::<B>(weights, self.masked.clone(), 0.0);
        let dweights = self.drop(B::float_matmul(dout.clone(), B::float_swap_dims(v, 3, 4)));
        let delta = match delta {
            Some(delta) => tile(delta),
            None => {
                // D = <dout, out of this branch> - dlse
                let sum = B::float_sum_dim(weights.clone(), 4);
                // With zero keys lse is at least 0; without them the power may overflow.
                let zeros = B::float_exp(B::float_neg(B::float_clamp_min(lse, 0.0.into())));
                let zeros = B::float_mul(zeros, self.zero_keys.clone());
                let sum = B::float_clamp_min(B::float_add(sum, zeros), f32::MIN_POSITIVE.into());
                let own = B::float_div(column::<B>(weights.clone(), dweights.clone()), sum);
                B::float_sub(own, tile(dlse))
            }
        };
        let dscores = B::float_mul(weights.clone(), B::float_sub(dweights, delta));
        let dscores = fill::<B>(dscores, self.masked.clone(), 0.0);
        let dbias = (self.bias.as_ref()).map(|bias| bias.gradient(dscores.clone()));
        let dscores = B::float_mul_scalar(dscores, inputs.spec.scale.into());
        let transpose = |t| B::float_swap_dims(t, 3, 4);
        let dq = B::float_matmul(dscores.clone(), k);
        let dk = B::float_matmul(transpose(dscores), q);
        let dv = B::float_matmul(transpose(self.drop(weights)), dout);
        let sum = |parts: &Collect<B>, tiles, side| {
            let [rows] = parts.rows([self.slots(tiles, side)], [0.0], |[a], [b]| {
                [B::float_add(a, b)]
            });
            rows
        };
        Grads {
            q: sum(&self.q_parts, dq, 2),
            k: sum(&self.k_parts, dk, 3),
            v: sum(&self.k_parts, dv, 3),
            bias: dbias,
        }
    }

    fn gather(&self, inputs: &Inputs<'_, B>) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
        // Rows of dead slots may hold anything, and 0 * NaN is NaN.
        let keys = |t: &FloatTensor<B>| {
            fill::<B>(
                self.tile(t.clone(), &self.k_rows, 3),
                self.dead_keys.clone(),
                0.0,
            )
        };
        (
            self.tile(inputs.q.clone(), &self.q_rows, 2),
            keys(&inputs.k),
            keys(&inputs.v),
        )
    }

    fn scores(
        &self,
        inputs: &Inputs<'_, B>,
        q: FloatTensor<B>,
        k: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let scores = B::float_matmul(q, B::float_swap_dims(k, 3, 4));
        let scores = B::float_mul_scalar(scores, inputs.spec.scale.into());
        match &self.bias {
            Some(bias) => B::float_add(scores, bias.values.clone()),
            None => scores,
        }
    }

    fn drop(&self, t: FloatTensor<B>) -> FloatTensor<B> {
        match &self.factors {
            Some(factors) => B::float_mul(t, factors.clone()),
            None => t,
        }
    }

    /// Rows of `t [batch, rows, width]` as tiles `[batch, heads, runs, self.shape[side], width]`.
    fn tile(&self, t: FloatTensor<B>, rows: &IntTensor<B>, side: usize) -> FloatTensor<B> {
        let [batch, _, width] = t.shape().dims::<3>();
        let [heads, runs, ..] = self.shape;
        let tiles = Shape::new([batch, heads, runs, self.shape[side], width]);
        B::float_reshape(select_rows::<B>(t, rows.clone()), tiles)
    }

    /// Tiles as `[batch, slots, width]`.
    fn slots(&self, tiles: FloatTensor<B>, side: usize) -> FloatTensor<B> {
        let [batch, .., width] = tiles.shape().dims::<5>();
        let count = self.shape[0] * self.shape[1] * self.shape[side];
        B::float_reshape(tiles, [batch, count, width].into())
    }
}

/// The heads that run the branch with their runs; of a block mask also the runs' places in the bias.
fn runs_of<B: Backend>(
    inputs: &Inputs<'_, B>,
    branch: usize,
) -> (Vec<(usize, Vec<Run>)>, Vec<Vec<usize>>) {
    let (schedule, span) = (&inputs.spec.schedule, inputs.spec.schedule.span());
    (0..schedule.heads())
        .map(|head| {
            let (runs, places): (Vec<Run>, Vec<usize>) = match schedule.mask() {
                Some(_) => schedule.block_runs(head, 0..span.n_q, 0..span.n_k).unzip(),
                None => (schedule.runs(branch, head).collect(), Vec::new()),
            };
            ((head, runs), places)
        })
        .filter(|((_, runs), _)| !runs.is_empty())
        .unzip()
}

/// A place in a padded tile.
#[derive(Clone, Copy)]
struct Slot {
    /// The row of its sequence, and of the tensor flattened over heads.
    row: usize,
    flat: usize,
    /// Whether a run reaches it.
    used: bool,
}

/// The slots of one side of the runs, and how to get from them back to `[heads * n]`, `total` rows. `side`
/// gives the indices of a run, and where those of a head start in the tensor and in the result.
fn slots<B: Backend>(
    runs: &[(usize, Vec<Run>)],
    count: usize,
    width: usize,
    total: usize,
    device: &B::Device,
    side: impl Fn(usize, &Run) -> (Progression, [usize; 2]),
) -> (Vec<Slot>, Collect<B>) {
    let mut slots = Vec::with_capacity(runs.len() * count * width);
    let mut row_of = Vec::with_capacity(slots.capacity());
    for (head, runs) in runs {
        // Padding points at the first row of its head.
        let (_, [first, _]) = side(*head, &runs[0]);
        for s in 0..count {
            let run = runs.get(s).map(|run| side(*head, run));
            for i in 0..width {
                let used = run.filter(|(rows, _)| i < rows.len);
                let row = used.map_or(0, |(rows, _)| rows.at(i));
                row_of.push(used.map(|(_, [_, result])| result + row));
                slots.push(Slot {
                    row,
                    flat: first + row,
                    used: used.is_some(),
                });
            }
        }
    }
    let collect = Collect::new(total, &row_of, device);
    (slots, collect)
}

/// The dropout factor of every pair: 0 or 1 drawn on the host, scaled in the dtype of the computation.
fn factors<B: Backend>(
    inputs: &Inputs<'_, B>,
    runs: &[(usize, Vec<Run>)],
    [heads, count, rows, keys]: [usize; 4],
) -> Option<FloatTensor<B>> {
    let dropout = inputs.spec.dropout?;
    let (schedule, span) = (&inputs.spec.schedule, inputs.spec.schedule.span());
    let mut kept = vec![0.0; inputs.batch * heads * count * rows * keys];
    for batch in 0..inputs.batch {
        for (h, (head, runs)) in runs.iter().enumerate() {
            for (s, run) in runs.iter().enumerate() {
                for a in 0..run.q.len {
                    let first = ((((batch * heads) + h) * count + s) * rows + a) * keys;
                    let i = span.queries().at(run.q.at(a));
                    for b in 0..run.visible(a) {
                        let j = span.keys().at(run.k.at(b));
                        let factor = dropout.factor(batch, schedule.heads(), *head, i, j);
                        kept[first + b] = f32::from(factor != 0.0);
                    }
                }
            }
        }
    }
    let shape = [inputs.batch, heads, count, rows, keys];
    let kept = from_f32::<B>(kept, shape, &inputs.device, inputs.dtype);
    Some(B::float_mul_scalar(kept, dropout.scale().into()))
}
