//! Attention with heads divided among ranks is attention on one device.

use burn::tensor::{Bool, Device, Distribution, Int, Tensor};
use burn_longnet::functional::{AttentionOptions, Documents, sparse_attention_with_lse};
use burn_longnet::pattern::ring::Layout;
use burn_longnet::pattern::{
    BlockGrid, BlockMask, DilatedPattern, HeadAssignment, HeadOffset, Pattern,
};
use burn_longnet::ring::{CommError, HeadShard, LocalComm, SequenceShard, head_parallel_attention};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);
const HEADS: usize = 4;
/// Divisible by nothing.
const N: usize = 53;

fn patterns() -> Vec<(&'static str, Pattern)> {
    let dilated = || DilatedPattern::new(HEADS, [(8, 1), (24, 3), (64, 4)]).causal(true);
    let by_group = dilated().head_offset(HeadOffset::ByGroup).causal(false);
    let grouped = dilated().head_assignment(HeadAssignment::Grouped);
    // Every head its own blocks.
    let blocks = BlockMask::new(HEADS, BlockGrid::square(N, 7)).causal(true);
    let blocks = blocks.build_from_fn(|head, i, j| i == j || (i + j) % (head + 2) == 0);
    vec![
        ("modulo", dilated().build().unwrap()),
        ("by group", by_group.build().unwrap()),
        ("grouped", grouped.build().unwrap()),
        ("blocks", blocks.unwrap().into()),
    ]
}

struct Numbers {
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    dout: Tensor<4>,
    dlse: Tensor<3>,
    padding: Tensor<2, Bool>,
    documents: Tensor<2, Int>,
    bias: Option<Tensor<2>>,
}

impl Numbers {
    fn new(kv_heads: usize, pattern: &Pattern) -> Self {
        let device = Device::default();
        device.seed(kv_heads as u64);
        let normal = |heads, d| {
            Tensor::<4>::random([2, heads, N, d], Distribution::Normal(0.0, 1.0), &device)
        };
        let at = Tensor::<1, Int>::arange(0..N as i64, &device)
            .unsqueeze_dim::<2>(0)
            .expand([2, N]);
        let bias = match pattern {
            Pattern::Blocks(mask) => Some(Tensor::random(
                [1, mask.blocks()],
                Distribution::Default,
                &device,
            )),
            _ => None,
        };
        Self {
            q: normal(HEADS, 8),
            k: normal(kv_heads, 8),
            v: normal(kv_heads, 6),
            dout: normal(HEADS, 6),
            dlse: normal(HEADS, 1).squeeze_dim(3),
            padding: at.clone().remainder_scalar(11).equal_elem(3),
            documents: at.div_scalar(31),
            bias,
        }
    }

    /// out, lse, dq, dk, dv of the rows that `shard` has, and dbias; all without it.
    fn run(&self, pattern: &Pattern, shard: Option<&HeadShard>) -> Vec<Tensor<4>> {
        let take = |t: &Tensor<4>| match shard {
            Some(shard) => shard.take(t.clone(), 2),
            None => t.clone(),
        };
        let leaf = |t: &Tensor<4>| take(t).autodiff().require_grad();
        let (q, k, v) = (leaf(&self.q), leaf(&self.k), leaf(&self.v));
        let bias = self.bias.clone().map(|bias| bias.autodiff().require_grad());
        let (mut padding, mut documents) = (self.padding.clone(), self.documents.clone());
        if let Some(shard) = shard {
            padding = shard.take_of_group(padding, 1);
            documents = shard.take_of_group(documents, 1);
        }
        let options = AttentionOptions {
            mask_pad: Some(padding),
            documents: Some(Documents::same(documents)),
            bias: bias.clone(),
            ..Default::default()
        };
        let (q4, k4, v4) = (q.clone(), k.clone(), v.clone());
        let (out, lse) = match shard {
            Some(shard) => head_parallel_attention(q4, k4, v4, pattern, shard, &options),
            None => sparse_attention_with_lse(q4, k4, v4, pattern, &options),
        };
        let lse: Tensor<4> = lse.unsqueeze_dim(3);
        let dlse = take(&self.dlse.clone().unsqueeze_dim(3));
        // Rows that see nothing have an lse of -inf.
        let none = lse.clone().detach().equal_elem(f64::NEG_INFINITY);
        let finite = lse.clone().mask_fill(none, 0.0);
        let loss = (out.clone() * take(&self.dout)).sum() + (finite.clone() * dlse).sum();
        let grads = loss.backward();
        let mut results = vec![out.inner(), finite.inner()];
        results.extend([q, k, v].map(|t| t.grad(&grads).unwrap()));
        results.extend(bias.map(|bias| bias.grad(&grads).unwrap().unsqueeze::<4>()));
        results
    }
}

fn error(got: &Tensor<4>, want: &Tensor<4>) -> f32 {
    let norm = |t: Tensor<4>| t.powi_scalar(2).sum().sqrt().into_scalar::<f32>();
    norm(got.clone() - want.clone()) / norm(want.clone()).max(1e-30)
}

/// `rings x heads` ranks, against one device.
fn check(rings: usize, heads: usize, layout: Layout, kv_heads: usize) {
    for (name, pattern) in patterns() {
        let x = Numbers::new(kv_heads, &pattern);
        let want = x.run(&pattern, None);
        let ends = LocalComm::run(rings * heads, DEADLINE, |comm| -> Result<(), CommError> {
            let rank = comm.rank();
            let (ring, head) = (rank / heads, rank % heads);
            let of_heads: Vec<_> = (0..heads).map(|h| ring * heads + h).collect();
            let of_ring: Vec<_> = (0..rings).map(|r| r * heads + head).collect();
            let (of_heads, of_ring) = (comm.subgroup(&of_heads)?, comm.subgroup(&of_ring)?);
            let shard = match rings {
                1 => HeadShard::new(of_heads, N),
                _ => HeadShard::of_ring(of_heads, SequenceShard::new(of_ring, layout, N)),
            };
            let got = x.run(&pattern, Some(&shard));
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let got = match i {
                    // Each rank has its share of the gradient of what all hold.
                    5 => {
                        let flat = comm.all_reduce(got.clone().flatten(0, 3))?;
                        flat.reshape(want.dims())
                    }
                    _ => got.clone(),
                };
                let want = match i {
                    5 => want.clone(),
                    _ => shard.take(want.clone(), 2),
                };
                let error = error(&got, &want);
                assert!(
                    error < 2e-6,
                    "{name}, {rings} x {heads} ranks, {layout:?}, {kv_heads} kv heads, tensor {i}: {error}"
                );
            }
            Ok(())
        });
        for end in ends {
            end.unwrap().unwrap();
        }
    }
}

#[test]
fn heads_divided_among_ranks() {
    for heads in [1, 2, 4] {
        // As many kv heads, some that divide, and fewer than ranks, which are sent to several.
        for kv_heads in [4, 2, 1] {
            check(1, heads, Layout::Contiguous, kv_heads);
        }
    }
}

#[test]
fn heads_and_a_ring() {
    for layout in [Layout::Contiguous, Layout::Zigzag, Layout::Striped] {
        check(2, 2, layout, 2);
    }
    check(3, 2, Layout::Zigzag, 1);
    check(2, 4, Layout::Striped, 4);
}

#[test]
#[should_panic(expected = "4 heads cannot be divided among 3 ranks")]
fn heads_that_ranks_do_not_divide() {
    LocalComm::run(3, DEADLINE, |comm| {
        let pattern = Pattern::dense(HEADS, false);
        let x = Numbers::new(4, &pattern);
        x.run(&pattern, Some(&HeadShard::new(comm, N)));
    });
}

#[test]
fn heads_keep_what_they_see() {
    for (name, pattern) in patterns() {
        for heads in [0..2, 1..4, 3..4] {
            let part = pattern.of_heads(heads.clone());
            let again = pattern.of_heads(0..4).of_heads(heads.clone());
            assert_eq!(part, again, "{name}");
            for (own, head) in heads.enumerate() {
                for (i, j) in (0..N).flat_map(|i| (0..N).map(move |j| (i, j))) {
                    let want = pattern.multiplicity(head, i, j);
                    assert_eq!(part.multiplicity(own, i, j), want, "{name} {head} {i} {j}");
                }
            }
        }
    }
}
