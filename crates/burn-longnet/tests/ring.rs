//! Attention over shards is attention over the sequence.

use burn::tensor::{Bool, DType, Device, Distribution, FloatDType, Int, Tensor, TensorData};
use burn_longnet::functional::{AttentionOptions, Documents, sparse_attention_with_lse};
use burn_longnet::pattern::ring::{Layout, RingSchedule, Shards};
use burn_longnet::pattern::{
    BlockGrid, BlockMask, DilatedPattern, Dropout, HeadAssignment, HeadOffset, MixGradient,
    Pattern, Sizes, Tail,
};
use burn_longnet::ring::{LocalComm, SequenceShard, Traffic, ring_attention};
use std::time::Duration;

const LAYOUTS: [Layout; 3] = [Layout::Contiguous, Layout::Zigzag, Layout::Striped];
const WORLDS: [usize; 5] = [1, 2, 3, 4, 8];
const DEADLINE: Duration = Duration::from_secs(60);

/// A call over a whole sequence, with what its gradients are taken of.
#[derive(Clone)]
struct Case {
    name: &'static str,
    pattern: Pattern,
    batch: usize,
    n: usize,
    kv_heads: usize,
    d: usize,
    d_v: usize,
    padding: bool,
    documents: bool,
    /// Entries of the bias, 1 or as many as the batch.
    bias: Option<usize>,
    dropout: Option<Dropout>,
    detached: bool,
    dtype: DType,
}

impl Case {
    fn new(name: &'static str, pattern: Pattern, n: usize) -> Self {
        Self {
            name,
            batch: 1,
            n,
            kv_heads: pattern.heads(),
            d: 8,
            d_v: 8,
            padding: false,
            documents: false,
            bias: None,
            dropout: None,
            detached: false,
            dtype: DType::F32,
            pattern,
        }
    }
}

/// The tensors of a case.
struct Numbers {
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    bias: Option<Tensor<2>>,
    dout: Tensor<4>,
    dlse: Tensor<3>,
    padding: Option<Tensor<2, Bool>>,
    documents: Option<Tensor<2, Int>>,
}

impl Numbers {
    fn new(case: &Case) -> Self {
        let device = Device::default();
        device.seed(case.n as u64);
        let normal = |shape: [usize; 4]| {
            let t = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            // The same numbers whatever the dtype.
            t.cast(FloatDType::from(case.dtype)).cast(FloatDType::F32)
        };
        let (batch, heads, n) = (case.batch, case.pattern.heads(), case.n);
        let bias = case.bias.map(|entries| {
            let Pattern::Blocks(mask) = &case.pattern else {
                panic!("a bias needs blocks");
            };
            let bias =
                Tensor::<2>::random([entries, mask.blocks()], Distribution::Default, &device);
            // Some blocks are hidden.
            let hidden = bias.clone().lower_elem(0.1);
            bias.mask_fill(hidden, f64::NEG_INFINITY)
        });
        let flags = |f: &dyn Fn(usize, usize) -> i64| {
            let values: Vec<i64> = (0..batch * n).map(|at| f(at / n, at % n)).collect();
            Tensor::<2, Int>::from_data(TensorData::new(values, [batch, n]), &device)
        };
        Self {
            q: normal([batch, heads, n, case.d]),
            k: normal([batch, case.kv_heads, n, case.d]),
            v: normal([batch, case.kv_heads, n, case.d_v]),
            bias,
            dout: normal([batch, heads, n, case.d_v]),
            dlse: normal([batch, heads, n, 1]).squeeze_dim(3),
            padding: (case.padding)
                .then(|| {
                    flags(&|b, at| i64::from((at * 7 + b) % 11 == 0 || at + 3 * b > n * 9 / 10))
                })
                .map(|flags| flags.equal_elem(1)),
            // Ids that need all of 32 bits.
            documents: (case.documents).then(|| {
                flags(&|b, at| {
                    [16_777_216, 16_777_217, i64::from(i32::MAX), -3][(at + 5 * b) / 13 % 4]
                })
            }),
        }
    }
}

/// Results as host numbers, each `[rows of all heads and entries][width]` with positions inside.
#[derive(Clone, Debug)]
struct Results {
    /// out, lse, dq, dk, dv.
    tensors: [Vec<f64>; 5],
    dbias: Vec<f64>,
}

fn numbers<const D: usize>(t: Tensor<D>) -> Vec<f64> {
    t.into_data().iter::<f64>().collect()
}

/// Forward and backward over what `take` gives of the sequence.
fn run(case: &Case, x: &Numbers, shard: Option<&SequenceShard>, between: impl FnOnce()) -> Results {
    let device = Device::default().autodiff();
    let take4 = |t: &Tensor<4>| shard.map_or(t.clone(), |shard| shard.take(t.clone(), 2));
    let leaf = |t: &Tensor<4>| {
        let t = take4(t).cast(FloatDType::from(case.dtype)).into_data();
        Tensor::<4>::from_data(t, (&device, case.dtype)).require_grad()
    };
    let (q, k, v) = (leaf(&x.q), leaf(&x.k), leaf(&x.v));
    let bias = x
        .bias
        .as_ref()
        .map(|bias| Tensor::<2>::from_data(bias.to_data(), &device).require_grad());
    let ids = x
        .documents
        .clone()
        .map(|ids| shard.map_or(ids.clone(), |s| s.take(ids, 1)));
    let padding = x
        .padding
        .clone()
        .map(|p| shard.map_or(p.clone(), |s| s.take(p, 1)));
    let options = AttentionOptions {
        mask_pad: padding,
        documents: ids.map(Documents::same),
        bias: bias.clone(),
        dropout: case.dropout,
        gradient: match case.detached {
            true => MixGradient::Detached,
            false => MixGradient::Exact,
        },
        ..AttentionOptions::default()
    };
    let (out, lse) = match shard {
        None => sparse_attention_with_lse(q.clone(), k.clone(), v.clone(), &case.pattern, &options),
        Some(shard) => ring_attention(
            q.clone(),
            k.clone(),
            v.clone(),
            &case.pattern,
            shard,
            &options,
        ),
    };
    between();
    let dout = take4(&x.dout);
    let dlse = shard.map_or(x.dlse.clone(), |shard| shard.take(x.dlse.clone(), 2));
    let onto = |t: Tensor<4>| Tensor::<4>::from_data(t.into_data(), &device);
    let empty = lse.clone().detach().equal_elem(f64::NEG_INFINITY);
    let dlse = Tensor::<3>::from_data(dlse.into_data(), &device).mask_fill(empty.clone(), 0.0);
    let loss = (out.clone().cast(FloatDType::F32) * onto(dout)).sum()
        + (lse.clone().cast(FloatDType::F32).mask_fill(empty, 0.0) * dlse).sum();
    let gradients = loss.backward();
    let gradient = |t: &Tensor<4>| numbers(t.grad(&gradients).expect("a gradient"));
    Results {
        tensors: [
            numbers(out.inner()),
            numbers(lse.inner()),
            gradient(&q),
            gradient(&k),
            gradient(&v),
        ],
        dbias: bias.map_or(Vec::new(), |bias| {
            numbers(bias.grad(&gradients).expect("a gradient"))
        }),
    }
}

/// The results over all shards, joined, and what was sent forward and in all.
fn ringed(case: &Case, x: &Numbers, layout: Layout, world: usize) -> (Results, [Vec<Traffic>; 2]) {
    let ranks = LocalComm::run(world, DEADLINE, |comm| {
        let shard = SequenceShard::new(comm.clone(), layout, case.n);
        let mut forward = Traffic::default();
        let results = run(case, x, Some(&shard), || forward = comm.traffic());
        (results, [forward, comm.traffic()])
    });
    let ranks: Vec<_> = ranks.into_iter().collect::<Result<_, _>>().unwrap();
    let shards = Shards::new(layout, case.n, world);
    let joined = |which: usize| {
        let of = |rank: usize| &ranks[rank].0.tensors[which];
        let heads = if which >= 3 {
            case.kv_heads
        } else {
            case.pattern.heads()
        };
        let planes = case.batch * heads;
        let values: usize = (0..world).map(|rank| of(rank).len()).sum();
        let width = values / (planes * case.n).max(1);
        let mut all = Vec::with_capacity(values);
        for plane in 0..planes {
            for position in 0..case.n {
                let (rank, row) = shards.owner(position);
                let at = (plane * shards.rows(rank) + row) * width;
                all.extend(&of(rank)[at..at + width]);
            }
        }
        all
    };
    let mut dbias = vec![0.0; ranks[0].0.dbias.len()];
    for (results, _) in &ranks {
        dbias
            .iter_mut()
            .zip(&results.dbias)
            .for_each(|(sum, x)| *sum += x);
    }
    let results = Results {
        tensors: [0, 1, 2, 3, 4].map(joined),
        dbias,
    };
    let traffic = [0, 1].map(|when| ranks.iter().map(|(_, traffic)| traffic[when]).collect());
    (results, traffic)
}

fn relative_rms(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    // -inf where a row sees nothing, in both.
    let finite = |i: &usize| {
        let same = got[*i] == want[*i];
        assert!(
            same || (got[*i] - want[*i]).is_finite(),
            "{} for {}",
            got[*i],
            want[*i]
        );
        !same
    };
    let difference = norm(&mut (0..got.len()).filter(finite).map(|i| got[i] - want[i]));
    let size = norm(&mut want.iter().copied().filter(|x| x.is_finite()));
    if difference == 0.0 {
        0.0
    } else {
        difference / size
    }
}

fn assert_close(got: &Results, want: &Results, tolerance: f64, what: &str) {
    for (which, name) in ["out", "lse", "dq", "dk", "dv"].into_iter().enumerate() {
        let error = relative_rms(&got.tensors[which], &want.tensors[which]);
        assert!(error <= tolerance, "{what}: {name} is off by {error:e}");
    }
    let error = relative_rms(&got.dbias, &want.dbias);
    assert!(error <= tolerance, "{what}: dbias is off by {error:e}");
}

/// What the pattern crate predicts that each rank sends, forward and in all.
fn predicted(case: &Case, layout: Layout, world: usize) -> [Vec<u64>; 2] {
    let shards = Shards::new(layout, case.n, world);
    let sizes = Sizes {
        batch: case.batch,
        kv_heads: case.kv_heads,
        d: case.d,
        d_v: case.d_v,
        bytes_per_element: case.dtype.size(),
    };
    let apart = match &case.pattern {
        Pattern::Dilated(dilated) if case.detached => dilated.branches_apart(),
        _ => None,
    };
    let patterns = match apart {
        Some(apart) => apart.into_iter().map(Pattern::Dilated).collect(),
        None => vec![case.pattern.clone()],
    };
    // Zero keys are nobody's.
    let masked = |pattern: &Pattern| match pattern {
        Pattern::Dilated(dilated) => Pattern::Dilated(dilated.with_tail(Tail::Masked)),
        other => other.clone(),
    };
    let patterns: Vec<_> = patterns.iter().map(masked).collect();
    let labels = case.padding || case.documents;
    let rank = |rank| {
        let traffic = patterns.iter().map(|pattern| {
            let ring = RingSchedule::new(pattern, &shards, case.kv_heads, rank).unwrap();
            ring.traffic(&sizes, labels)
        });
        traffic.fold((0, 0), |(f, b), t| (f + t.forward, b + t.backward))
    };
    let ranks: Vec<_> = (0..world).map(rank).collect();
    [
        ranks.iter().map(|(f, _)| *f).collect(),
        ranks.iter().map(|(f, b)| f + b).collect(),
    ]
}

fn check(case: &Case, tolerance: f64) {
    let x = Numbers::new(case);
    let want = run(case, &x, None, || ());
    for world in WORLDS {
        for layout in LAYOUTS {
            let what = format!("{}, {layout:?}, {world} ranks", case.name);
            let (got, traffic) = ringed(case, &x, layout, world);
            match world {
                1 => assert_eq!(
                    (&got.tensors, &got.dbias),
                    (&want.tensors, &want.dbias),
                    "{what}"
                ),
                _ => assert_close(&got, &want, tolerance, &what),
            }
            let [forward, all] = predicted(case, layout, world);
            let bytes = |ranks: &[Traffic]| ranks.iter().map(|t| t.bytes).collect::<Vec<_>>();
            assert_eq!(bytes(&traffic[0]), forward, "forward, {what}");
            assert_eq!(bytes(&traffic[1]), all, "in all, {what}");
        }
    }
}

fn dilated(heads: usize, branches: &[(usize, usize)], causal: bool) -> Pattern {
    let pattern = DilatedPattern::new(heads, branches.iter().copied());
    pattern.causal(causal).build().unwrap()
}

fn blocks(heads: usize, n: usize, [q, k]: [usize; 2], causal: bool) -> Pattern {
    BlockMask::new(heads, BlockGrid::cross(n, n, q, k))
        .causal(causal)
        .build_from_fn(|head, i, j| {
            (i * q).abs_diff(j * k) < 20 + head || j < 2 || (i + j) % 5 == 0
        })
        .unwrap()
        .into()
}

#[test]
fn dilated_branches() {
    // Segments that fit into shards, that do not, that are as long as the sequence and longer; ragged lengths.
    for causal in [true, false] {
        check(
            &Case::new(
                "nested",
                dilated(4, &[(8, 1), (32, 2), (128, 4)], causal),
                128,
            ),
            2e-6,
        );
        check(
            &Case::new(
                "ragged",
                dilated(3, &[(7, 1), (50, 3), (1000, 5)], causal),
                101,
            ),
            2e-6,
        );
    }
    let grouped = DilatedPattern::new(6, [(16, 1), (64, 2), (200, 3)])
        .head_assignment(HeadAssignment::Grouped)
        .causal(true)
        .build()
        .unwrap();
    check(&Case::new("grouped", grouped, 90), 2e-6);
    let by_group = DilatedPattern::new(4, [(20, 2), (60, 4)]).head_offset(HeadOffset::ByGroup);
    check(
        &Case::new("rows that see nothing", by_group.build().unwrap(), 77),
        2e-6,
    );
}

#[test]
fn dense_attention_of_any_length() {
    for causal in [true, false] {
        for n in [1, 2, 3, 7, 9, 64, 99] {
            check(&Case::new("dense", Pattern::dense(2, causal), n), 2e-6);
        }
    }
}

#[test]
fn shared_kv_heads_and_wide_values() {
    let mut case = Case::new("gqa", dilated(6, &[(16, 1), (90, 3)], true), 90);
    (case.batch, case.kv_heads, case.d, case.d_v) = (2, 2, 5, 12);
    check(&case, 2e-6);
}

#[test]
fn masks_of_blocks_with_a_bias() {
    for (n, size, causal) in [
        (96, [16, 16], true),
        (83, [8, 16], false),
        (83, [5, 3], true),
    ] {
        let mut case = Case::new("blocks", blocks(4, n, size, causal), n);
        (case.batch, case.kv_heads) = (2, 2);
        check(&case, 2e-6);
        for entries in [1, 2] {
            case.bias = Some(entries);
            check(&case, 2e-6);
        }
    }
}

#[test]
fn padding_and_documents() {
    let mut case = Case::new("padding", dilated(2, &[(16, 1), (120, 2)], true), 103);
    (case.batch, case.padding) = (2, true);
    check(&case, 2e-6);
    (case.name, case.documents) = ("padding and documents", true);
    check(&case, 2e-6);
    (case.name, case.padding) = ("documents", false);
    check(&case, 2e-6);
    case.pattern = blocks(2, 103, [8, 8], false);
    check(&case, 2e-6);
}

#[test]
fn dropout_drops_the_same_pairs() {
    let mut case = Case::new("dropout", dilated(4, &[(16, 1), (128, 3)], true), 70);
    case.batch = 2;
    case.dropout = Some(Dropout {
        p: 0.3,
        seed: 0x1234_5678_9abc,
    });
    check(&case, 2e-6);
    case.pattern = Pattern::dense(4, false);
    check(&case, 2e-6);
}

#[test]
fn detached_weights() {
    let mut case = Case::new(
        "detached",
        dilated(4, &[(8, 1), (32, 2), (128, 4)], true),
        100,
    );
    (case.detached, case.kv_heads) = (true, 2);
    check(&case, 2e-6);
    case.padding = true;
    case.dropout = Some(Dropout { p: 0.2, seed: 5 });
    check(&case, 2e-6);
}

#[test]
fn sixteen_bits() {
    for dtype in [DType::F16, DType::BF16] {
        let mut case = Case::new("16 bits", dilated(4, &[(16, 1), (128, 3)], true), 96);
        (case.documents, case.padding, case.batch) = (true, true, 2);
        let x = Numbers::new(&Case {
            dtype,
            ..case.clone()
        });
        let exact = run(&case, &x, None, || ());
        case.dtype = dtype;
        let single = run(&case, &x, None, || ());
        for world in [2, 3, 8] {
            for layout in LAYOUTS {
                let (got, traffic) = ringed(&case, &x, layout, world);
                let [forward, all] = predicted(&case, layout, world);
                assert_eq!(
                    traffic[0].iter().map(|t| t.bytes).collect::<Vec<_>>(),
                    forward
                );
                assert_eq!(traffic[1].iter().map(|t| t.bytes).collect::<Vec<_>>(), all);
                for which in 0..5 {
                    let error =
                        |of: &Results| relative_rms(&of.tensors[which], &exact.tensors[which]);
                    let (ring, one) = (error(&got), error(&single));
                    assert!(
                        ring <= 2.0 * one + 1e-6,
                        "{dtype:?}, {layout:?}, {world} ranks: tensor {which} is off by {ring:e}, on one by {one:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn f64_is_exact_to_its_own_digits() {
    let mut case = Case::new("f64", dilated(2, &[(16, 1), (128, 3)], true), 60);
    (case.dtype, case.documents) = (DType::F64, true);
    check(&case, 1e-6);
}

#[test]
fn segments_inside_of_shards_send_nothing() {
    let case = Case::new(
        "inside",
        dilated(4, &[(8, 1), (16, 2), (32, 4)], false),
        128,
    );
    let x = Numbers::new(&case);
    let (_, traffic) = ringed(&case, &x, Layout::Contiguous, 4);
    assert!(traffic[1].iter().all(|t| *t == Traffic::default()));
}

#[test]
fn one_message_a_hop_and_direction() {
    let case = Case::new("dense", Pattern::dense(2, false), 64);
    let (_, traffic) = ringed(&case, &Numbers::new(&case), Layout::Striped, 4);
    assert!(traffic[0].iter().all(|sent| sent.messages == 3));
    assert!(traffic[1].iter().all(|sent| sent.messages == 3 + 3 + 3));
}

#[test]
fn hidden_keys_may_hold_anything() {
    let mut case = Case::new("padding", dilated(2, &[(16, 1), (64, 2)], false), 64);
    case.padding = true;
    let clean = Numbers::new(&case);
    let want = run(&case, &clean, None, || ());
    let mut x = Numbers::new(&case);
    let hidden = x.padding.clone().unwrap().reshape([1, 1, 64, 1]);
    for t in [&mut x.k, &mut x.v] {
        *t = t
            .clone()
            .mask_fill(hidden.clone().expand(t.dims()), f64::NAN);
    }
    for layout in LAYOUTS {
        let (got, _) = ringed(&case, &x, layout, 4);
        assert_close(&got, &want, 2e-6, "padding that is NaN");
    }
}

#[test]
fn ranks_that_disagree_end_with_an_error_on_all() {
    let pattern = Pattern::dense(2, false);
    let ranks = LocalComm::run(3, DEADLINE, |comm| {
        // One rank believes in a longer sequence.
        let n = if comm.rank() == 1 { 36 } else { 30 };
        let shard = SequenceShard::new(comm, Layout::Contiguous, n);
        let x = Tensor::<4>::zeros([1, 2, shard.rows(), 4], &Device::default());
        ring_attention(
            x.clone(),
            x.clone(),
            x,
            &pattern,
            &shard,
            &AttentionOptions::default(),
        );
    });
    assert!(ranks.iter().all(Result::is_err));
    let said = ranks.iter().map(|r| r.as_ref().unwrap_err().to_string());
    assert!(
        said.clone().any(|text| text.contains("disagree")),
        "{:?}",
        said.collect::<Vec<_>>()
    );
}

#[test]
fn zero_keys_of_ragged_tails() {
    let pattern = DilatedPattern::new(4, [(8, 1), (40, 3)]).tail(Tail::ZeroKeys);
    let mut case = Case::new("zero keys", pattern.build().unwrap(), 61);
    (case.batch, case.padding) = (2, true);
    check(&case, 2e-6);
    case.detached = true;
    check(&case, 2e-6);
}
