//! Tests of adaptive attention.

use super::super::{AttentionInput, SparseAttention};
use super::*;
use crate::attention::{
    MhaInput, MultiHeadAdaptiveAttentionConfig, MultiHeadBlockSparseAttentionConfig,
};
use crate::dropout::DropoutSeed;
use burn::module::{Module, Param};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Distribution, FloatDType, Int, TensorData, Tolerance};

fn random(shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Attention by its definition, over all pairs, with the choice and gates of the module.
fn dense(module: &AdaptiveAttention, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let config = module.config();
    let [batch, heads, n, d] = q.dims();
    let scores = module.scores(&q, &k, None);
    let chosen = select::best(scores.clone().inner(), None, config.top_k, config.causal);
    let bias = module.bias(scores, chosen).clamp_min(-1e30);
    // A value for each pair of positions.
    let block_of: Vec<i32> = (0..n).map(|i| (i / config.block) as i32).collect();
    let block_of = Tensor::<1, Int>::from_data(TensorData::new(block_of, [n]), &q.device());
    let bias = bias.select(2, block_of.clone()).select(3, block_of);
    let group = heads / k.dims()[1];
    let wide = |x: Tensor<4>| {
        let [_, kv_heads, n, d] = x.dims();
        x.unsqueeze_dim::<5>(2)
            .expand([batch, kv_heads, group, n, d])
            .reshape([batch, heads, n, d])
    };
    let mut scores = q.matmul(wide(k).swap_dims(2, 3)) / (d as f64).sqrt() + bias;
    if config.causal {
        let future = Tensor::<2, burn::tensor::Bool>::tril_mask([n, n], 0, &scores.device());
        scores = scores.mask_fill(future.unsqueeze::<4>(), -1e30);
    }
    burn::tensor::activation::softmax(scores, 3).matmul(wide(v))
}

#[test]
fn it_is_attention_over_the_chosen_blocks_with_their_gates() {
    let device = Device::default();
    for (n, block, top_k, causal, scorer) in [
        (40, 8, 2, true, BlockScorer::Learned),
        (37, 8, 3, false, BlockScorer::Learned),
        (37, 8, 3, true, BlockScorer::Mean),
        (5, 8, 4, true, BlockScorer::Learned),
        (1, 16, 1, true, BlockScorer::Mean),
        (33, 16, 99, true, BlockScorer::Learned),
    ] {
        let module = AdaptiveAttentionConfig::new(4, 6, top_k)
            .with_block(block)
            .with_causal(causal)
            .with_scorer(scorer)
            .init(&device);
        let q = random([2, 4, n, 6], &device);
        let (k, v) = (random([2, 2, n, 6], &device), random([2, 2, n, 5], &device));
        let input = AttentionInput::new(q.clone(), k.clone(), v.clone());
        module.attend(input).into_data().assert_approx_eq::<f32>(
            &dense(&module, q, k, v).into_data(),
            Tolerance::absolute(2e-5),
        );
    }
}

#[test]
fn gradients_pass_through_gates_to_the_scorer_and_what_it_pools() {
    let device = Device::default().autodiff();
    let module = AdaptiveAttentionConfig::new(4, 6, 2)
        .with_block(8)
        .with_causal(true)
        .init(&device);
    let plain = device.clone().inner();
    let leaf = |shape| Tensor::from_inner(random(shape, &plain)).require_grad();
    let (q, k, v) = (
        leaf([2, 4, 37, 6]),
        leaf([2, 2, 37, 6]),
        leaf([2, 2, 37, 5]),
    );
    let weights = [&module.query_score, &module.key_score].map(|p| p.clone().unwrap().weight.val());
    let gradients = |out: Tensor<4>| {
        let grads = out.powi_scalar(3).sum().backward();
        let of = |x: &Tensor<4>| x.grad(&grads).unwrap().reshape([-1]);
        let of_weight = |x: &Tensor<2>| x.grad(&grads).unwrap().reshape([-1]);
        [
            of(&q),
            of(&k),
            of(&v),
            of_weight(&weights[0]),
            of_weight(&weights[1]),
        ]
    };
    let input = AttentionInput::new(q.clone(), k.clone(), v.clone());
    let ours = gradients(module.attend(input.seed(DropoutSeed::Off)));
    let want = gradients(dense(&module, q.clone(), k.clone(), v.clone()));
    for (ours, want) in ours.into_iter().zip(want) {
        let want: Tensor<1> = want;
        assert!(want.clone().abs().max().into_scalar::<f32>() > 1e-3);
        ours.into_data()
            .assert_approx_eq::<f32>(&want.into_data(), Tolerance::rel_abs(1e-4, 1e-4));
    }
}

#[test]
fn a_causal_choice_depends_on_nothing_later() {
    let device = Device::default();
    for scorer in [BlockScorer::Learned, BlockScorer::Mean] {
        let module = AdaptiveAttentionConfig::new(2, 4, 2)
            .with_block(8)
            .with_causal(true)
            .with_scorer(scorer)
            .init(&device);
        let [q, k, v] = [(); 3].map(|()| random([1, 2, 40, 4], &device));
        let out =
            |q: Tensor<4>, k: Tensor<4>, v: Tensor<4>| module.attend(AttentionInput::new(q, k, v));
        let before = out(q.clone(), k.clone(), v.clone());
        for at in [1, 8, 11, 16, 23, 39] {
            // Other queries, keys and values from `at` on.
            let later = |x: &Tensor<4>| {
                let other = x.clone().slice_dim(2, at..40) * -2.0 + 1.0;
                Tensor::cat(vec![x.clone().slice_dim(2, 0..at), other], 2)
            };
            let after = out(later(&q), later(&k), later(&v));
            after
                .slice_dim(2, 0..at)
                .into_data()
                .assert_eq(&before.clone().slice_dim(2, 0..at).into_data(), true);
        }
    }
}

#[test]
fn the_own_block_is_always_chosen_and_never_more_than_asked_for() {
    let device = Device::default();
    for causal in [false, true] {
        let chosen = select::best(random([2, 3, 7, 7], &device), None, 3, causal);
        let chosen: Vec<i64> = chosen.int().into_data().iter::<i64>().collect();
        for (at, row) in chosen.chunks(7).enumerate() {
            let i = at % 7;
            assert_eq!(row[i], 1);
            let seen = row.iter().sum::<i64>() as usize;
            let available = if causal { i + 1 } else { 7 };
            assert_eq!(seen, 3.min(available));
            assert!(!causal || row[i + 1..].iter().all(|x| *x == 0));
        }
    }
    // A score that is no number chooses nothing.
    let nan = random([1, 1, 4, 4], &device) * f64::NAN;
    let chosen = select::best(nan, None, 3, true).int().sum();
    assert_eq!(chosen.into_scalar::<i64>(), 4);
    // Nor where there is room for all.
    let nan = random([1, 1, 4, 4], &device) * f64::NAN;
    let chosen = select::best(nan, None, 4, true).int().sum();
    assert_eq!(chosen.into_scalar::<i64>(), 4);
    for (causal, all) in [(true, 10), (false, 16)] {
        let chosen = select::best(random([1, 1, 4, 4], &device), None, 9, causal);
        assert_eq!(chosen.int().sum().into_scalar::<i64>(), all);
    }
}

#[test]
fn noise_is_a_function_of_the_seed_and_off_in_evaluation() {
    let device = Device::default();
    let module = AdaptiveAttentionConfig::new(1, 4, 2)
        .with_block(4)
        .with_gumbel(10.0)
        .init(&device);
    let [q, k, v] = [(); 3].map(|()| random([1, 1, 64, 4], &device));
    let with = |seed: Option<u64>| {
        let input = AttentionInput::new(q.clone(), k.clone(), v.clone()).seed(seed);
        module.attend(input).into_data()
    };
    assert_eq!(with(Some(1)), with(Some(1)));
    assert_ne!(with(Some(1)), with(Some(2)));
    assert_eq!(with(None), with(None));
}

/// Of 8 blocks one holds keys with a mark, at another place in each sequence; the loss asks the queries of the
/// last block for the value there. Attention's own scores are all alike, so only the scorer can find it.
#[test]
fn the_scorer_learns_to_find_the_one_block_that_matters() {
    const BLOCKS: usize = 8;
    const BLOCK: usize = 4;
    const BATCH: usize = 16;
    let device = Device::default().autodiff();
    let mut module = AdaptiveAttentionConfig::new(1, 8, 2)
        .with_block(BLOCK)
        .with_causal(true)
        .with_scale(Some(0.0))
        .init(&device);
    // It begins convinced of the opposite: the marked block has the lowest score.
    for (projection, value) in [
        (&mut module.query_score, -0.1),
        (&mut module.key_score, 0.1),
    ] {
        let weight = &mut projection.as_mut().unwrap().weight;
        *weight = Param::from_tensor(weight.val().detach().full_like(value));
    }
    let n = BLOCKS * BLOCK;
    // q, k, v, and the block that is marked in each sequence.
    let batch = |round: usize| {
        let plain = device.clone().inner();
        let marked: Vec<usize> = (0..BATCH)
            .map(|b| (round * 5 + b * 3) % (BLOCKS - 1))
            .collect();
        let mark: Vec<f32> = (0..BATCH * n * 8)
            .map(|at| {
                let (b, i, c) = (at / (n * 8), at / 8 % n, at % 8);
                f32::from(u8::from(c == 0 && i / BLOCK == marked[b])) * 3.0
            })
            .collect();
        let mark = Tensor::<4>::from_data(TensorData::new(mark, [BATCH, 1, n, 8]), &plain);
        let noise = |scale: f64| random([BATCH, 1, n, 8], &plain) * scale;
        (noise(1.0) + 1.0, noise(0.3) + mark.clone(), mark, marked)
    };
    let finds = |module: &AdaptiveAttention, round: usize| {
        let (q, k, _, marked) = batch(round);
        let scores = module.clone().valid().scores(&q, &k, None);
        let chosen = select::best(scores, None, 2, true);
        let chosen: Vec<i64> = chosen.int().into_data().iter::<i64>().collect();
        let found = |&(b, m): &(usize, &usize)| chosen[(b * BLOCKS + BLOCKS - 1) * BLOCKS + m] == 1;
        marked.iter().enumerate().filter(found).count() as f64 / BATCH as f64
    };
    let share =
        |module: &AdaptiveAttention| (1000..1010).map(|r| finds(module, r)).sum::<f64>() / 10.0;
    let before = share(&module);
    let mut adam: ModuleOptimizer = AdamConfig::new().init();
    for round in 0..150 {
        let (q, k, v, _) = batch(round);
        let [q, k, v] = [q, k, v].map(Tensor::from_inner);
        let input = AttentionInput::new(q, k, v).seed(round as u64);
        let read = module
            .attend(input)
            .slice([0..BATCH, 0..1, n - BLOCK..n, 0..1]);
        // The marked block alone would give 3.
        let loss = (read - 3.0).powi_scalar(2).mean();
        let grads = GradientsParams::from_grads(loss.backward(), &module);
        module = adam.step(0.03, module, grads);
    }
    let after = share(&module);
    println!("the marked block is chosen in {before:.2} of the sequences before, {after:.2} after");
    assert!(
        before < 0.1 && after > 0.99,
        "{before} before, {after} after"
    );
}

/// What the module says, by loops over numbers in f64.
struct Numbers {
    heads: usize,
    kv_heads: usize,
    n: usize,
    d: usize,
    block: usize,
    top_k: usize,
    causal: bool,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// Projections of pooled queries and keys, `[d, d]` each.
    weights: Option<[Vec<f64>; 2]>,
}

impl Numbers {
    /// The mean of some rows, projected.
    fn pooled(
        &self,
        x: &[f64],
        head: usize,
        rows: std::ops::Range<usize>,
        which: usize,
    ) -> Vec<f64> {
        let d = self.d;
        let count = rows.len() as f64;
        let at = |row: usize, c: usize| x[(head * self.n + row) * d + c];
        let mean: Vec<f64> = (0..d)
            .map(|c| rows.clone().map(|row| at(row, c)).sum::<f64>() / count)
            .collect();
        match &self.weights {
            None => mean,
            Some(weights) => (0..d)
                .map(|to| {
                    (0..d)
                        .map(|from| mean[from] * weights[which][from * d + to])
                        .sum()
                })
                .collect(),
        }
    }

    fn attention(&self) -> Vec<f64> {
        let Self {
            heads,
            kv_heads,
            n,
            d,
            block,
            causal,
            ..
        } = *self;
        let blocks = n.div_ceil(block);
        let mut out = Vec::new();
        for head in 0..heads {
            let kv = head / (heads / kv_heads);
            // The gate of each chosen block of keys, in logarithms, by block of queries.
            let chosen: Vec<Vec<Option<f64>>> = (0..blocks)
                .map(|i| {
                    let rows = match causal {
                        true => (i * block + 1).saturating_sub(block)..i * block + 1,
                        false => i * block..n.min((i + 1) * block),
                    };
                    let query = self.pooled(&self.q, head, rows, 0);
                    let mut others: Vec<(f64, usize)> = (0..blocks)
                        .filter(|&j| j != i && (!causal || j < i))
                        .map(|j| {
                            let key =
                                self.pooled(&self.k, kv, j * block..n.min((j + 1) * block), 1);
                            let dot: f64 = query.iter().zip(&key).map(|(a, b)| a * b).sum();
                            (dot / (d as f64).sqrt(), j)
                        })
                        .collect();
                    others.sort_by(|a, b| b.0.total_cmp(&a.0));
                    let mut gates = vec![None; blocks];
                    gates[i] = Some(0.0);
                    for (score, j) in others.into_iter().take(self.top_k - 1) {
                        let gate = -(-score).exp().ln_1p();
                        gates[j] = Some(if self.weights.is_some() { gate } else { 0.0 });
                    }
                    gates
                })
                .collect();
            for i in 0..n {
                let end = if causal { i + 1 } else { n };
                let weights: Vec<(usize, f64)> = (0..end)
                    .filter_map(|j| {
                        let gate = chosen[i / block][j / block]?;
                        let dot: f64 = (0..d)
                            .map(|c| self.q[(head * n + i) * d + c] * self.k[(kv * n + j) * d + c])
                            .sum();
                        Some((j, (dot / (d as f64).sqrt() + gate).exp()))
                    })
                    .collect();
                let sum: f64 = weights.iter().map(|(_, w)| w).sum();
                out.extend((0..d).map(|c| {
                    let of = |(j, w): &(usize, f64)| w * self.v[(kv * n + j) * d + c];
                    weights.iter().map(of).sum::<f64>() / sum
                }));
            }
        }
        out
    }
}

#[test]
fn it_is_what_loops_over_numbers_give() {
    let device = Device::default();
    let list = |x: &Tensor<4>| x.to_data().iter::<f64>().collect::<Vec<_>>();
    let (heads, kv_heads, d) = (6, 2, 4);
    for (n, block, top_k, causal, scorer) in [
        (43, 8, 3, true, BlockScorer::Learned),
        (43, 8, 3, false, BlockScorer::Learned),
        (40, 4, 2, true, BlockScorer::Mean),
        (9, 4, 3, false, BlockScorer::Mean),
    ] {
        let module = AdaptiveAttentionConfig::new(heads, d, top_k)
            .with_block(block)
            .with_causal(causal)
            .with_scorer(scorer)
            .init(&device);
        let q = random([1, heads, n, d], &device);
        let [k, v] = [(); 2].map(|()| random([1, kv_heads, n, d], &device));
        let weight = |projection: &Option<Linear>| {
            let weight = projection.as_ref().map(|p| p.weight.val().into_data());
            weight.map(|data| data.iter::<f64>().collect::<Vec<_>>())
        };
        let weights = weight(&module.query_score).zip(weight(&module.key_score));
        let numbers = Numbers {
            heads,
            kv_heads,
            n,
            d,
            block,
            top_k,
            causal,
            q: list(&q),
            k: list(&k),
            v: list(&v),
            weights: weights.map(|(query, key)| [query, key]),
        };
        let got = list(&module.attend(AttentionInput::new(q, k, v)));
        for (got, want) in got.iter().zip(numbers.attention()) {
            assert!((got - want).abs() < 2e-5, "{got} {want}");
        }
    }
}

#[test]
fn padding_changes_nothing_whatever_it_holds() {
    let device = Device::default();
    for (scorer, causal) in [
        (BlockScorer::Learned, true),
        (BlockScorer::Learned, false),
        (BlockScorer::Mean, true),
    ] {
        let module = AdaptiveAttentionConfig::new(2, 4, 2)
            .with_block(4)
            .with_causal(causal)
            .with_scorer(scorer)
            .init(&device);
        let [q, k, v] = [(); 3].map(|()| random([1, 2, 30, 4], &device));
        let index = Tensor::<1, Int>::arange(0..30, &device);
        // Single positions, and all of the third block.
        let padding = index.clone().remainder_scalar(7).equal_elem(3);
        let padding = padding.bool_or(index.div_scalar(4).equal_elem(2));
        let with = |value: f64| {
            let hide = |x: &Tensor<4>| {
                let padding = padding.clone().reshape([1, 1, 30, 1]).expand(x.dims());
                x.clone().mask_fill(padding, value)
            };
            let input = AttentionInput::new(hide(&q), hide(&k), v.clone())
                .mask_pad(padding.clone().unsqueeze::<2>());
            let rows = padding.clone().reshape([1, 1, 30, 1]).expand([1, 2, 30, 4]);
            module.attend(input).mask_fill(rows, 0.0).into_data()
        };
        let plain = with(0.0);
        assert_eq!(plain, with(1e9));
        assert_eq!(plain, with(f64::NAN));
    }
}

#[test]
fn blocks_are_scored_in_f32_where_queries_have_fewer_bits() {
    let device = Device::default();
    let module = AdaptiveAttentionConfig::new(2, 8, 2)
        .with_block(16)
        .with_causal(true)
        .init(&device);
    let half = |x: Tensor<4>| x.cast(FloatDType::BF16);
    let [q, k] = [(); 2].map(|()| half(random([1, 2, 100, 8], &device) + 3.0));
    let scores = module.scores(&q, &k, None);
    assert_eq!(scores.dtype(), DType::F32);
    let want = module.scores(&q.cast(FloatDType::F32), &k.cast(FloatDType::F32), None);
    assert_eq!(scores.into_data(), want.into_data());
}

#[test]
fn an_empty_sequence_has_an_empty_result() {
    let device = Device::default();
    let module = AdaptiveAttentionConfig::new(2, 4, 2)
        .with_causal(true)
        .init(&device);
    let x = || Tensor::<4>::zeros([1, 2, 0, 4], &device);
    let out = module.attend(AttentionInput::new(x(), x(), x()));
    assert_eq!(out.dims(), [1, 2, 0, 4]);
}

#[test]
fn too_many_blocks_are_refused_before_they_are_scored() {
    let config = AdaptiveAttentionConfig::new(1024, 4, 4096).with_block(1);
    let error = config.check_length(4096).unwrap_err().to_string();
    assert!(
        error.contains("block = 1") && error.contains("use larger blocks"),
        "{error}"
    );
    config.check_length(1024).unwrap();
    config.with_block(16).check_length(4096).unwrap();
}

#[test]
fn with_room_for_all_blocks_multi_head_attention_is_that_over_all_pairs() {
    let device = Device::default().autodiff();
    let position = AttentionPosition::xpos();
    let adaptive = MultiHeadAdaptiveAttentionConfig::new(16, 4, 99)
        .with_block(8)
        .with_n_kv_heads(Some(2))
        .with_causal(true)
        .with_scorer(BlockScorer::Mean)
        .with_position(position);
    let learned = adaptive.clone().with_scorer(BlockScorer::Learned);
    let error = learned.validate().unwrap_err().to_string();
    assert!(error.contains("rotary"), "{error}");
    let adaptive = adaptive.init(&device);
    let mut all = MultiHeadBlockSparseAttentionConfig::new(16, 4, "all".parse().unwrap())
        .with_block(8)
        .with_n_kv_heads(Some(2))
        .with_causal(true)
        .with_position(position)
        .init(&device);
    all.query = adaptive.query.clone();
    all.key = adaptive.key.clone();
    all.value = adaptive.value.clone();
    all.output = adaptive.output.clone();
    let x = Tensor::<3>::random([2, 43, 16], Distribution::Normal(0.0, 1.0), &device);
    let input = || MhaInput::self_attn(x.clone()).seed(DropoutSeed::Off);
    let weight = &adaptive.key.as_ref().unwrap().weight;
    let of = |context: Tensor<3>| {
        let gradients = context.clone().powi_scalar(2).sum().backward();
        let gradient = weight.val().grad(&gradients).unwrap();
        (context.inner(), gradient)
    };
    let (got, got_gradient) = of(adaptive.forward(input()).context);
    let (want, want_gradient) = of(all.forward(input()).context);
    let tolerance = || Tolerance::<f32>::rel_abs(1e-4, 1e-4);
    got.into_data()
        .assert_approx_eq::<f32>(&want.into_data(), tolerance());
    got_gradient
        .into_data()
        .assert_approx_eq::<f32>(&want_gradient.into_data(), tolerance());
}
