//! A language model on shards is the model on the sequence.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use burn_longnet::attention::{
    AttentionInput, BlockSparseAttentionConfig, DilatedAttentionConfig, MhaInput,
    MultiHeadBlockSparseAttentionConfig, MultiHeadDilatedAttentionConfig, branches,
};
use burn_longnet::model::{LayerAttention, LmInput, LongNetLM, LongNetLMConfig, Positions};
use burn_longnet::pattern::ring::{Layout, Shards};
use burn_longnet::position::AttentionPosition;
use burn_longnet::ring::{LocalComm, Ring, SequenceShard, Single};
use std::sync::Arc;
use std::time::Duration;

const LAYOUTS: [Layout; 3] = [Layout::Contiguous, Layout::Zigzag, Layout::Striped];
const DEADLINE: Duration = Duration::from_secs(60);
const N: usize = 41;

struct Collect<'a>(&'a Gradients, Vec<f64>);

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.0).expect("a gradient");
        self.1.extend(gradient.into_data().iter::<f64>());
    }
}

fn config() -> LongNetLMConfig {
    LongNetLMConfig::new(23, 16, 2, 4)
        .with_branches(branches([(8, 1), (32, 2), (64, 4)]))
        .with_max_length(64)
        .with_loss_chunk(7)
}

fn ids(f: impl Fn(usize) -> i64) -> Tensor<2, Int> {
    let values: Vec<i64> = (0..2 * N).map(f).collect();
    Tensor::from_data(TensorData::new(values, [2, N]), &Device::default())
}

/// Hidden states of this rank, and its share of the gradients of all parameters.
fn run(model: &LongNetLM, shard: Option<&SequenceShard>) -> (Vec<f64>, Vec<f64>) {
    let take = |t: Tensor<2, Int>| shard.map_or(t.clone(), |shard| shard.take(t, 1));
    let tokens = take(ids(|at| (at * at + 3 * at) as i64 % 23));
    let targets = take(ids(|at| (at * 7 + 1) as i64 % 23));
    let documents = take(ids(|at| (at % N / 17) as i64));
    let rows = tokens.dims()[1];
    let input = LmInput::new(tokens)
        .documents(documents)
        .shard(shard.cloned())
        .seed(11);
    let hidden = model.forward_hidden(input.clone());
    // A sum over tokens is the same over any shards.
    let loss = model.loss(input, targets).mul_scalar(rows as f64);
    let mut gradients = Collect(&loss.backward(), Vec::new());
    model.visit(&mut gradients);
    (hidden.into_data().iter::<f64>().collect(), gradients.1)
}

fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let error = norm(&mut got.iter().zip(want).map(|(g, w)| g - w));
    let size = norm(&mut want.iter().copied());
    assert!(error < 5e-6 * size, "{what}: off by {:e}", error / size);
}

/// `[2, rows, width]` of each rank as `[2, N, width]`.
fn join(parts: &[Vec<f64>], shards: &Shards) -> Vec<f64> {
    let width = parts.iter().map(Vec::len).sum::<usize>() / (2 * N);
    let mut all = Vec::new();
    for batch in 0..2 {
        for position in 0..N {
            let (rank, row) = shards.owner(position);
            let at = (batch * shards.rows(rank) + row) * width;
            all.extend(&parts[rank][at..at + width]);
        }
    }
    all
}

#[test]
fn hidden_states_and_gradients_are_those_of_one_rank() {
    let blocks = LayerAttention::BlockSparse {
        pattern: "window(16) | global(4)".parse().unwrap(),
        block: 4,
    };
    let configs = [
        config().with_positions(Positions::Rotary),
        config()
            .with_positions(Positions::XPos)
            .with_checkpoint_activations(true),
        config()
            .with_positions(Positions::Learned)
            .with_dropout(0.2)
            .with_attention_dropout(0.2)
            .with_activation_dropout(0.1),
        config().with_layer_attention(vec![LayerAttention::Dilated, blocks]),
    ];
    for config in configs {
        let device = Device::default().autodiff();
        let model = config.init(&device);
        let want = run(&model, None);
        for world in [1, 2, 3] {
            for layout in LAYOUTS {
                let ranks = LocalComm::run(world, DEADLINE, |comm| {
                    // Every rank has a graph of its own.
                    let model = model.clone().fork(&device);
                    run(&model, Some(&SequenceShard::new(comm, layout, N)))
                });
                let ranks = ranks.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
                let (hidden, gradients): (Vec<_>, Vec<_>) = ranks.into_iter().unzip();
                let hidden = join(&hidden, &Shards::new(layout, N, world));
                let what = format!("{layout:?}, {world} ranks, {:?}", config.positions);
                if world == 1 {
                    assert_eq!((&hidden, &gradients[0]), (&want.0, &want.1), "{what}");
                }
                close(&hidden, &want.0, &what);
                let mut sum = vec![0.0; want.1.len()];
                for share in &gradients {
                    sum.iter_mut().zip(share).for_each(|(sum, x)| *sum += x);
                }
                close(&sum, &want.1, &what);
            }
        }
    }
}

#[test]
fn modules_over_shards_are_those_over_the_sequence() {
    let device = Device::default();
    let x = Tensor::<3>::random([2, N, 16], burn::tensor::Distribution::Default, &device);
    let dilated = MultiHeadDilatedAttentionConfig::new(16, 4)
        .with_branches(branches([(8, 1), (64, 2)]))
        .with_causal(true)
        .with_n_kv_heads(Some(2))
        .with_position(AttentionPosition::rotary())
        .init(&device);
    let blocks =
        MultiHeadBlockSparseAttentionConfig::new(16, 4, "window(16) | global(4)".parse().unwrap())
            .with_block(8)
            .init(&device);
    let numbers = |x: Tensor<3>| x.into_data().iter::<f64>().collect::<Vec<_>>();
    let want = [
        numbers(dilated.forward(MhaInput::self_attn(x.clone())).context),
        numbers(blocks.forward(MhaInput::self_attn(x.clone())).context),
    ];
    for world in [1, 2, 4] {
        for layout in LAYOUTS {
            let ranks = LocalComm::run(world, DEADLINE, |comm| {
                let dilated = Ring::new(dilated.clone(), comm.clone(), layout);
                let blocks = Ring::new(blocks.clone(), comm, layout);
                let part = MhaInput::self_attn(dilated.shard(N).take(x.clone(), 1));
                [
                    numbers(dilated.forward(part.clone(), N).context),
                    numbers(blocks.forward(part, N).context),
                ]
            });
            let ranks = ranks.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
            for (which, want) in want.iter().enumerate() {
                let parts: Vec<_> = ranks.iter().map(|rank| rank[which].clone()).collect();
                let got = join(&parts, &Shards::new(layout, N, world));
                match world {
                    1 => assert_eq!(&got, want),
                    _ => close(&got, want, &format!("{layout:?}, {world} ranks")),
                }
            }
        }
    }
}

#[test]
fn one_rank_is_the_plain_module() {
    let device = Device::default();
    let x = Tensor::<4>::random([1, 4, N, 8], burn::tensor::Distribution::Default, &device);
    let input = || AttentionInput::new(x.clone(), x.clone(), x.clone());
    let dilated = DilatedAttentionConfig::new(4, branches([(8, 1), (32, 4)])).init();
    let ring = Ring::new(dilated.clone(), Arc::new(Single), Layout::Zigzag);
    assert_eq!(
        ring.forward(input(), N).into_data(),
        dilated.forward(input()).into_data()
    );
    let blocks = BlockSparseAttentionConfig::new(4, "window(64)".parse().unwrap()).init();
    let ring = Ring::new(blocks.clone(), Arc::new(Single), Layout::Striped);
    assert_eq!(
        ring.forward(input(), N).into_data(),
        blocks.forward(input()).into_data()
    );
}

#[test]
#[should_panic(expected = "adaptive attention chooses among the blocks of a whole sequence")]
fn adaptive_attention_does_not_run_on_a_shard() {
    let device = Device::default();
    let adaptive = burn_longnet::attention::MultiHeadAdaptiveAttentionConfig::new(16, 4, 2)
        .with_block(8)
        .init(&device);
    let x = Tensor::<3>::zeros([1, 16, 16], &device);
    Ring::new(adaptive, Arc::new(Single), Layout::Contiguous).forward(MhaInput::self_attn(x), 16);
}
