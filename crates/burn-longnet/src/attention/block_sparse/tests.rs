//! Tests of block-sparse attention.

use super::super::DilatedAttentionConfig;
use super::*;
use crate::attention::branches;
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
#[should_panic(expected = "heads")]
fn a_list_of_other_heads_is_refused() {
    let pattern = "[window(8) x 3]".parse().unwrap();
    BlockSparseAttentionConfig::new(4, pattern).init();
}
