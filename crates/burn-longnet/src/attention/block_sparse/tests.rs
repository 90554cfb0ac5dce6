//! Tests of block-sparse attention.

use super::super::DilatedAttentionConfig;
use super::*;
use crate::attention::{
    MhaInput, MultiHeadBlockSparseAttention, MultiHeadBlockSparseAttentionConfig, branches,
};
use crate::dropout::DropoutSeed;
use crate::functional::Documents;
use crate::position::AttentionPosition;
use burn::module::{Module, Param};
use burn::tensor::Int;
use burn::tensor::{Bool, Device, Distribution, TensorData, Tolerance};

fn random(shape: [usize; 4]) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::default())
}

/// Attention by its definition over all pairs, of which `sees(head, i, j)` are seen.
fn dense(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    sees: impl Fn(usize, usize, usize) -> bool,
) -> Tensor<4> {
    let [batch, heads, n_q, d] = q.dims();
    let [_, kv_heads, n_k, _] = k.dims();
    let share = heads / kv_heads;
    let wide = |x: Tensor<4>| {
        let of = |h: usize| x.clone().slice_dim(1, h / share..h / share + 1);
        Tensor::cat((0..heads).map(of).collect(), 1)
    };
    let hidden: Vec<bool> = (0..heads * n_q * n_k)
        .map(|at| !sees(at / (n_q * n_k), at / n_k % n_q, at % n_k))
        .collect();
    let hidden = TensorData::new(hidden, [1, heads, n_q, n_k]);
    let hidden = Tensor::<4, Bool>::from_data(hidden, &q.device());
    let hidden = hidden.expand([batch, heads, n_q, n_k]);
    let scores = q.matmul(wide(k).swap_dims(2, 3)) / (d as f64).sqrt();
    // Rows that see nothing are zero.
    let weights = scores
        .mask_fill(hidden.clone(), -1e30)
        .exp_softmax()
        .mask_fill(hidden, 0.0);
    weights.matmul(wide(v))
}

trait Softmax {
    fn exp_softmax(self) -> Self;
}

impl Softmax for Tensor<4> {
    fn exp_softmax(self) -> Self {
        burn::tensor::activation::softmax(self, 3)
    }
}

fn assert_close(a: Tensor<4>, b: Tensor<4>) {
    a.into_data()
        .assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(2e-5));
}

#[test]
fn it_is_attention_over_the_blocks_of_the_pattern() {
    for (text, n, block, key_block, causal) in [
        ("window(16) | global(8)", 61, 8, None, true),
        ("window(16) | global(8)", 61, 8, None, false),
        ("random(2, 3) | sink(8)", 40, 8, Some(4), true),
        ("all", 33, 16, None, true),
        ("empty", 9, 4, None, false),
        ("window(8) - sink(4)", 1, 4, None, true),
        ("[window(8) x 3, all x 1]", 37, 4, None, true),
    ] {
        let module = BlockSparseAttentionConfig::new(4, text.parse().unwrap())
            .with_block(block)
            .with_key_block(key_block)
            .with_causal(causal)
            .init();
        let span = Span::full(n);
        let mask = module
            .config()
            .pattern
            .mask(4, module.config().grid(span), causal)
            .unwrap();
        let (q, k, v) = (
            random([2, 4, n, 6]),
            random([2, 2, n, 6]),
            random([2, 2, n, 3]),
        );
        let got = module.forward(AttentionInput::new(q.clone(), k.clone(), v.clone()));
        assert_close(got, dense(q, k, v, |h, i, j| mask.sees(h, i, j)));
    }
}

#[test]
fn some_heads_are_dilated_and_some_are_windowed() {
    let n = 50;
    let (q, k, v) = (
        random([1, 6, n, 4]),
        random([1, 2, n, 4]),
        random([1, 2, n, 4]),
    );
    // The second group has one query head of the first kv head and all of the second: kv heads are repeated.
    let mixed = BlockSparseAttentionConfig::new(
        6,
        "[branches(16/1, 32/2) x 2, window(16) x 4]"
            .parse()
            .unwrap(),
    )
    .with_block(8)
    .with_causal(true)
    .init();
    let got = mixed.forward(AttentionInput::new(q.clone(), k.clone(), v.clone()));
    let dilated = DilatedAttentionConfig::new(2, branches([(16, 1), (32, 2)]))
        .with_causal(true)
        .init();
    let first = dilated.forward(AttentionInput::new(
        q.clone().slice_dim(1, 0..2),
        k.clone().slice_dim(1, 0..1),
        v.clone().slice_dim(1, 0..1),
    ));
    let window = |_, i: usize, j: usize| j <= i && (i / 8).abs_diff(j / 8) <= 1;
    let rest = dense(q, k, v, window).slice_dim(1, 2..6);
    assert_close(got, Tensor::cat(vec![first, rest], 1));
}

#[test]
fn a_cached_length_gives_the_same_and_others_their_own() {
    let module = BlockSparseAttentionConfig::new(1, "window(8)".parse().unwrap())
        .with_block(4)
        .init();
    for n in [20, 40, 20, 8, 60, 12, 20] {
        let x = random([1, 1, n, 4]);
        let input = || AttentionInput::new(x.clone(), x.clone(), x.clone());
        let window = |_, i: usize, j: usize| (i / 4).abs_diff(j / 4) <= 1;
        let want = dense(x.clone(), x.clone(), x.clone(), window);
        assert_close(module.forward(input()), want);
    }
}

#[test]
fn along_a_hilbert_curve_the_result_is_the_same() {
    let (height, width) = (24, 32);
    for causal in [false, true] {
        let plain = BlockSparseAttentionConfig::new(2, "window(64) | random(4)".parse().unwrap())
            .with_block(16)
            .with_causal(causal);
        let curved = plain.clone().with_hilbert(Some([height, width]));
        let inputs = [(); 3].map(|()| leaf([1, 2, height * width, 8]));
        let of = |config: BlockSparseAttentionConfig| {
            let [q, k, v] = inputs.clone();
            let out = config.init().forward(AttentionInput::new(q, k, v));
            let [dq, dk, dv] = gradients(out.clone(), &inputs);
            [out.inner(), dq, dk, dv]
        };
        for (plain, curved) in of(plain).into_iter().zip(of(curved)) {
            let size = plain.clone().powi_scalar(2).mean().sqrt();
            let apart = (plain - curved).powi_scalar(2).mean().sqrt();
            assert!((apart / size).into_scalar::<f32>() < 1e-6);
        }
    }
}

#[test]
#[should_panic(expected = "is an image of 8 blocks of 4 tokens, the sequence has 10")]
fn an_image_of_another_length_is_refused() {
    let x = random([1, 1, 40, 4]);
    BlockSparseAttentionConfig::new(1, "window(8)".parse().unwrap())
        .with_block(4)
        .with_hilbert(Some([4, 8]))
        .init()
        .forward(AttentionInput::new(x.clone(), x.clone(), x));
}

#[test]
#[should_panic(expected = "heads")]
fn a_list_of_other_heads_is_refused() {
    let pattern = "[window(8) x 3]".parse().unwrap();
    BlockSparseAttentionConfig::new(4, pattern).init();
}

/// Gradients of q, k and v.
fn gradients(out: Tensor<4>, inputs: &[Tensor<4>; 3]) -> [Tensor<4>; 3] {
    let grads = out.powi_scalar(3).sum().backward();
    [0, 1, 2].map(|i| inputs[i].grad(&grads).unwrap())
}

fn leaf(shape: [usize; 4]) -> Tensor<4> {
    Tensor::from_inner(random(shape)).require_grad()
}

#[test]
fn gradients_of_repeated_kv_heads_spans_padding_and_documents_are_those_of_all_pairs() {
    let (n_q, n_k) = (13, 45);
    // The second group has one query head of the first kv head and all of the second.
    let module = BlockSparseAttentionConfig::new(
        6,
        "[branches(16/1) x 2, window(16) | sink(8) x 4]"
            .parse()
            .unwrap(),
    )
    .with_block(8)
    .with_causal(true)
    .init();
    let inputs = [
        leaf([2, 6, n_q, 4]),
        leaf([2, 2, n_k, 4]),
        leaf([2, 2, n_k, 3]),
    ];
    let [q, k, v] = inputs.clone();
    let span = Span {
        q_start: 32,
        n_q,
        k_start: 0,
        n_k,
        step: 1,
    };
    let device = Device::default();
    let padding = Tensor::<1, Int>::arange(0..n_k as i64, &device)
        .remainder_scalar(5)
        .equal_elem(1)
        .unsqueeze::<2>()
        .expand([2, n_k]);
    let document = |at: usize| at / 19;
    let ids = |start: usize, n: usize| {
        let ids: Vec<i32> = (start..start + n).map(|at| document(at) as i32).collect();
        Tensor::<1, Int>::from_data(ids.as_slice(), &device)
            .unsqueeze::<2>()
            .expand([2, n])
    };
    let documents = Documents {
        query: ids(32, n_q),
        key: ids(0, n_k),
    };
    let input = AttentionInput::new(q.clone(), k.clone(), v.clone())
        .span(span)
        .mask_pad(padding)
        .documents(documents)
        .seed(DropoutSeed::Off);
    let sees = |head: usize, i: usize, j: usize| {
        let i = i + 32;
        let shown = match head {
            0 | 1 => i / 16 == j / 16,
            _ => (i / 8).abs_diff(j / 8) <= 1 || j < 8,
        };
        shown && j <= i && j % 5 != 1 && document(i) == document(j)
    };
    // All rows of the reference see something.
    for head in 0..6 {
        assert!((0..n_q).all(|i| (0..n_k).any(|j| sees(head, i, j))));
    }
    let got = module.forward(input);
    let want = {
        let [_, heads, ..] = q.dims();
        let wide = |x: Tensor<4>| {
            let of = |h: usize| x.clone().slice_dim(1, h / 3..h / 3 + 1);
            Tensor::cat((0..heads).map(of).collect(), 1)
        };
        let hidden: Vec<f32> = (0..6 * n_q * n_k)
            .map(|at| {
                f32::from(u8::from(!sees(at / (n_q * n_k), at / n_k % n_q, at % n_k))) * -1e30
            })
            .collect();
        let hidden = TensorData::new(hidden, [1, 6, n_q, n_k]);
        let hidden = Tensor::<4>::from_data(hidden, &q.device());
        let scores = q.clone().matmul(wide(k).swap_dims(2, 3)) / 2.0 + hidden;
        scores.exp_softmax().matmul(wide(v))
    };
    assert_close(got.clone().inner(), want.clone().inner());
    for (got, want) in gradients(got, &inputs)
        .into_iter()
        .zip(gradients(want, &inputs))
    {
        assert!(want.clone().abs().max().into_scalar::<f32>() > 1e-3);
        got.into_data()
            .assert_approx_eq::<f32>(&want.into_data(), Tolerance::rel_abs(1e-4, 1e-4));
    }
}

#[test]
fn the_gradient_of_the_mix_reaches_dilated_heads() {
    let inputs = [
        leaf([1, 2, 40, 4]),
        leaf([1, 2, 40, 4]),
        leaf([1, 2, 40, 4]),
    ];
    let input = || {
        let [q, k, v] = inputs.clone();
        AttentionInput::new(q, k, v).seed(DropoutSeed::Off)
    };
    let pairs = [(8, 1), (32, 2)];
    let of = |gradient| {
        let module = BlockSparseAttentionConfig::new(2, "branches(8/1, 32/2)".parse().unwrap())
            .with_causal(true)
            .with_gradient(gradient)
            .init();
        let dilated = DilatedAttentionConfig::new(2, branches(pairs))
            .with_causal(true)
            .with_gradient(gradient)
            .init();
        let [got, ..] = gradients(module.forward(input()), &inputs);
        let [want, ..] = gradients(dilated.forward(input()), &inputs);
        assert_close(got.clone(), want);
        got
    };
    let apart = (of(MixGradient::Exact) - of(MixGradient::Detached))
        .abs()
        .max();
    assert!(apart.into_scalar::<f32>() > 1e-3);
}

#[test]
fn groups_of_heads_drop_by_seeds_of_their_own() {
    let module = BlockSparseAttentionConfig::new(
        2,
        "[branches(64/1) x 1, branches(64/1) x 1]".parse().unwrap(),
    )
    .with_dropout(0.5)
    .init();
    let same = || random([1, 1, 40, 4]).repeat_dim(1, 2);
    let (q, k, v) = (same(), same(), same());
    let with = |seed: DropoutSeed| {
        module.forward(AttentionInput::new(q.clone(), k.clone(), v.clone()).seed(seed))
    };
    let head = |out: &Tensor<4>, head: usize| out.clone().slice_dim(1, head..head + 1).into_data();
    let off = with(DropoutSeed::Off);
    assert_eq!(head(&off, 0), head(&off, 1));
    let on = with(DropoutSeed::Given(3));
    assert_ne!(head(&on, 0), head(&on, 1));
    assert_eq!(
        on.clone().into_data(),
        with(DropoutSeed::Given(3)).into_data()
    );
    assert_ne!(on.into_data(), with(DropoutSeed::Given(4)).into_data());
}

#[test]
fn heads_of_several_kinds_have_the_positions_that_each_kind_alone_has() {
    let device = Device::default();
    let module = |pattern: &str| {
        MultiHeadBlockSparseAttentionConfig::new(16, 4, pattern.parse().unwrap())
            .with_block(8)
            .with_causal(true)
            .with_position(AttentionPosition::xpos())
            .init(&device)
    };
    let mut mixed = module("[branches(16/1) x 2, window(32) x 2]");
    mixed.output.weight = Param::from_tensor(Tensor::eye(16, &device));
    let x = Tensor::<3>::random([2, 90, 16], Distribution::Normal(0.0, 1.0), &device);
    let of = |module: MultiHeadBlockSparseAttention, channels: std::ops::Range<usize>| {
        let module = module.load_record(mixed.clone().into_record());
        let context = module.forward(MhaInput::self_attn(x.clone())).context;
        context.slice_dim(2, channels).unsqueeze::<4>()
    };
    for (text, channels) in [
        ("[branches(16/1) x 2, branches(48/1) x 2]", 0..8),
        ("branches(16/1)", 0..8),
        ("window(32)", 8..16),
    ] {
        let want = of(module(text), channels.clone());
        let got = mixed.forward(MhaInput::self_attn(x.clone())).context;
        assert_close(got.slice_dim(2, channels).unsqueeze::<4>(), want);
    }
    // Segments that do not divide each other.
    let crossing = of(module("[branches(48/1) x 2, branches(32/1) x 2]"), 8..16);
    assert_close(crossing, of(module("branches(32/1)"), 8..16));
}
