//! What must hold whatever the numbers are.

mod common;

use common::reference::Tensor;
use common::{Case, Inputs, Layout, Number, Random};
use half::bf16;
use longnet_cpu::{Labels, Problem, View, Walk, backward, forward};
use longnet_pattern::{
    BlockGrid, BlockMask, DilatedPattern, Dropout, HIDDEN, MixGradient, Pattern, Permutation,
    Precision, Span, Tail,
};

fn pattern(heads: usize, branches: &[(usize, usize)], causal: bool) -> Pattern {
    DilatedPattern::new(heads, branches.iter().copied())
        .causal(causal)
        .build()
        .unwrap()
}

/// A window, and the first block for and by all, the same in all heads but the first.
fn window(heads: usize, n: usize, [q_block, k_block]: [usize; 2], causal: bool) -> Pattern {
    let mask = BlockMask::new(heads, BlockGrid::cross(n, n, q_block, k_block)).causal(causal);
    let near = |head: usize, i: usize, j: usize| {
        (i * q_block).abs_diff(j * k_block) <= 2 * k_block + usize::from(head == 0) * n / 4
    };
    let mask = mask.build_from_fn(|head, i, j| i == 0 || j == 0 || near(head, i, j));
    mask.unwrap().into()
}

/// Values for the blocks of a mask, and `-inf` for some.
fn bias(pattern: &Pattern, entries: usize) -> Vec<f64> {
    let Pattern::Blocks(mask) = pattern else {
        unreachable!()
    };
    let mut random = Random(77);
    let mut value = |i: usize| match i % 13 {
        7 => f64::NEG_INFINITY,
        _ => f64::from(random.uniform() as f32),
    };
    (0..entries * mask.blocks()).map(&mut value).collect()
}

fn case(pattern: Pattern, span: Span) -> Case {
    Case {
        pattern,
        span,
        batch: 1,
        kv_heads: 1,
        d: 12,
        d_v: 20,
        scale: 0.4,
        labels: None,
        bias: None,
        dropout: None,
        gradient: MixGradient::Exact,
        precision: Precision::Highest,
        walk: Walk::Fastest,
        dlse: true,
        layout: Layout::HeadsInside,
        seed: 5,
    }
}

/// All results of a case as one list.
fn all<E: Number>(case: &Case) -> Vec<Vec<u64>> {
    let r = case.run::<E>(&case.inputs::<E>());
    let bits = |x: Vec<f64>| x.into_iter().map(f64::to_bits).collect();
    [r.out, r.lse, r.dq, r.dk, r.dv, r.dbias].map(bits).into()
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let branches = [(256, 1), (600, 2), (1200, 5)];
    for gradient in [MixGradient::Exact, MixGradient::Detached] {
        for causal in [false, true] {
            let case = Case {
                kv_heads: 2,
                batch: 2,
                gradient,
                dropout: Some(Dropout { p: 0.1, seed: 3 }),
                ..case(pattern(4, &branches, causal), Span::full(1100))
            };
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build().unwrap().install(|| all::<f32>(&case))
            };
            let one = on(1);
            assert!(one == on(2) && one == on(3));
        }
    }
    // One head, so that threads add to the same rows of dq.
    let case = case(pattern(1, &[(3000, 1), (5000, 3)], true), Span::full(5000));
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| all::<f32>(&case))
    };
    let one = on(1);
    for threads in 2..=5 {
        assert!(one == on(threads));
    }
}

#[test]
fn bits_of_block_masks_do_not_depend_on_the_number_of_threads() {
    for (heads, entries, causal) in [(4, 2, true), (4, 1, false), (1, 0, true)] {
        let n = if heads == 1 { 4000 } else { 1100 };
        let pattern = window(heads, n, [48, 80], causal);
        let case = Case {
            kv_heads: heads.div_ceil(2),
            batch: 2,
            bias: (entries > 0).then(|| bias(&pattern, entries)),
            ..case(pattern, Span::full(n))
        };
        for walk in [Walk::Blocks, Walk::Dense] {
            let case = Case {
                walk,
                ..case.clone()
            };
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build().unwrap().install(|| all::<f32>(&case))
            };
            let one = on(1);
            for threads in 2..=5 {
                assert!(one == on(threads), "{walk:?}");
            }
        }
    }
}

/// In the orders that kernels may follow, sums differ by rounding alone.
#[test]
fn an_order_of_blocks_changes_no_result_by_more_than_a_millionth() {
    let n = 1500;
    let Pattern::Blocks(plain) = window(2, n, [64, 64], true) else {
        panic!("a block mask")
    };
    let blocks = plain.grid().k_blocks;
    let order = Permutation::new((0..blocks).map(|i| i * 7 % blocks).collect());
    let order = order.expect("7 does not divide the number of blocks");
    let ordered = plain.in_order(&order, &order.inverse());
    assert_ne!(plain, ordered);
    let [plain, ordered] = [plain, ordered].map(|mask| case(mask.into(), Span::full(n)));
    let x = plain.inputs::<f32>();
    let (a, b) = (plain.run::<f32>(&x), ordered.run::<f32>(&x));
    assert_ne!((&a.out, &a.dq), (&b.out, &b.dq), "the order is followed");
    for (name, a, b) in [
        ("out", a.out, b.out),
        ("lse", a.lse, b.lse),
        ("dq", a.dq, b.dq),
        ("dk", a.dk, b.dk),
        ("dv", a.dv, b.dv),
    ] {
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let apart = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b));
        let size = norm(&mut a.iter().copied());
        assert!(apart <= 1e-6 * size, "{name}: {apart:e} of {size:e}");
    }
    // The same bits on any number of threads.
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| all::<f32>(&ordered))
    };
    assert!(on(1) == on(3));
}

#[test]
fn a_mask_of_all_blocks_is_dense_attention() {
    for (span, causal) in [
        (Span::full(300), true),
        (Span::cross(200, 310), false),
        (Span::decode(7, 310), true),
    ] {
        let mask = BlockMask::new(2, BlockGrid::cross(320, 320, 32, 20)).causal(causal);
        let all = mask.build_from_fn(|_, _, _| true).unwrap();
        let blocks = case(all.into(), span);
        let dense = case(Pattern::dense(2, causal), span);
        let x = blocks.inputs::<f64>();
        let (a, b) = (blocks.run::<f64>(&x), dense.run::<f64>(&x));
        for (a, b) in [
            (a.out, b.out),
            (a.lse, b.lse),
            (a.dq, b.dq),
            (a.dk, b.dk),
            (a.dv, b.dv),
        ] {
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-12;
            assert!(!a.iter().zip(&b).any(far));
        }
    }
}

#[test]
fn a_bias_of_minus_infinity_hides_a_block_and_whatever_stands_in_it() {
    // 16 query rows are decoded, 70 are not.
    for n_q in [16, 70] {
        let grid = BlockGrid::cross(n_q, 90, 10, 30);
        let hidden = |i: usize, j: usize| j == 1 || i == 1;
        let build = |mask: BlockMask| Case {
            d: 8,
            d_v: 8,
            layout: Layout::Contiguous,
            ..case(mask.into(), Span::cross(n_q, 90))
        };
        let all = BlockMask::new(1, grid)
            .build_from_fn(|_, _, _| true)
            .unwrap();
        let some = BlockMask::new(1, grid).build_from_fn(|_, i, j| !hidden(i, j));
        let without = build(some.unwrap());
        let mut values = vec![0.0; all.blocks()];
        for i in 0..grid.q_blocks {
            for j in (0..3).filter(|&j| hidden(i, j)) {
                values[all.bias_index(0, i, j).unwrap()] = f64::NEG_INFINITY;
            }
        }
        let with = Case {
            bias: Some(values.clone()),
            walk: Walk::Dense,
            ..build(all)
        };
        let mut x = with.inputs::<f32>();
        x.k.data[30 * 8..60 * 8].fill(f64::NAN);
        x.v.data[30 * 8..60 * 8].fill(f64::NAN);
        let (a, b) = (with.run::<f32>(&x), without.run::<f32>(&x));
        for (a, b) in [
            (&a.out, &b.out),
            (&a.lse, &b.lse),
            (&a.dq, &b.dq),
            (&a.dk, &b.dk),
            (&a.dv, &b.dv),
        ] {
            let close = |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= 1e-5;
            assert!(a.iter().zip(b).all(close));
        }
        let silent = |(x, v): (&f64, &f64)| v.is_finite() || *x == 0.0;
        assert!(a.dbias.iter().zip(&values).all(silent));
    }
}

#[test]
#[should_panic(expected = "a bias needs a block mask")]
fn dilated_patterns_refuse_a_bias() {
    let case = Case {
        bias: Some(vec![0.0]),
        ..case(pattern(1, &[(8, 1)], true), Span::full(20))
    };
    case.run::<f32>(&case.inputs::<f32>());
}

#[test]
fn bf16_bits_do_not_depend_on_the_number_of_threads() {
    for gradient in [MixGradient::Exact, MixGradient::Detached] {
        let branches = [(256, 1), (600, 2)];
        let case = Case {
            kv_heads: 2,
            gradient,
            ..case(pattern(4, &branches, true), Span::full(500))
        };
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| all::<bf16>(&case))
        };
        let one = on(1);
        assert!(one == on(2) && one == on(5));
    }
}

#[test]
fn a_change_in_the_future_leaves_the_past_bit_identical() {
    for (n_q, cut) in [(500, 333), (8, 496)] {
        let span = Span::decode(n_q, 500);
        for pattern in [
            pattern(2, &[(64, 1), (300, 3)], true),
            window(2, 500, [40, 24], true),
        ] {
            let case = case(pattern, span);
            let before = case.inputs::<f32>();
            let mut after = case.inputs::<f32>();
            for x in [&mut after.q, &mut after.k, &mut after.v] {
                let shape = x.shape;
                for (i, x) in x.data.iter_mut().enumerate() {
                    if 500 - shape[2] + i / shape[3] % shape[2] >= cut {
                        *x *= -3.0;
                    }
                }
            }
            let (a, b) = (case.run::<f32>(&before), case.run::<f32>(&after));
            let d_v = case.d_v;
            let past = |i: usize, width: usize| 500 - n_q + i / width % n_q < cut;
            let mut changed = 0;
            for i in 0..a.out.len() {
                assert!(!past(i, d_v) || a.out[i] == b.out[i]);
                changed += usize::from(a.out[i] != b.out[i]);
            }
            assert!(changed > 0);
            for i in 0..a.lse.len() {
                assert!(!past(i, 1) || a.lse[i] == b.lse[i]);
            }
        }
    }
}

#[test]
fn decoding_has_the_same_bits_on_any_number_of_threads() {
    let case = Case {
        kv_heads: 2,
        d: 64,
        d_v: 80,
        dropout: Some(Dropout { p: 0.1, seed: 3 }),
        ..case(
            pattern(4, &[(8192, 1), (4000, 3)], true),
            Span::decode(3, 7001),
        )
    };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let run = || case.run::<f32>(&case.inputs::<f32>());
        let r = pool.build().unwrap().install(run);
        (r.out, r.lse)
    };
    let one = on(1);
    assert!((2..5).all(|threads| on(threads) == one));
}

#[test]
fn decoding_gives_the_rows_of_the_full_forward() {
    let (n, heads, d, d_v) = (1500, 4, 20, 7);
    let branches = [(256, 1), (700, 3), (2000, 8)];
    let labels: Vec<i32> = (0..n as i32)
        .map(|i| if i % 11 == 5 { HIDDEN } else { i / 900 })
        .collect();
    let mut random = Random(8);
    let mut tensor = |heads, width| -> Vec<f32> {
        let values = random.tensor::<f32>([1, heads, n, width]).data;
        values.into_iter().map(|x| x as f32).collect()
    };
    let (q, k, v) = (tensor(heads, d), tensor(2, d), tensor(2, d_v));
    // `n_q` rows, the last ones of `n_k` positions.
    let rows = |n_q: usize, n_k: usize| {
        let schedule = pattern(heads, &branches, true)
            .schedule(Span::decode(n_q, n_k))
            .unwrap();
        let problem = Problem {
            labels: Some(Labels {
                q: &labels[n_k - n_q..n_k],
                k: &labels[..n_k],
            }),
            dropout: Some(Dropout { p: 0.2, seed: 4 }),
            ..Problem::new(&schedule, d)
        };
        let part = |x, heads, width, first: usize, rows| {
            let whole = View::contiguous(x, [1, heads, n, width]);
            View {
                offset: first * width,
                shape: [1, heads, rows, width],
                ..whole
            }
        };
        let (mut out, mut lse) = (
            vec![f32::NAN; heads * n_q * d_v],
            vec![f32::NAN; heads * n_q],
        );
        forward(
            &problem,
            part(&q, heads, d, n_k - n_q, n_q),
            part(&k, 2, d, 0, n_k),
            part(&v, 2, d_v, 0, n_k),
            &mut out,
            &mut lse,
        );
        (out, lse)
    };
    let (out, lse) = rows(n, n);
    for (n_q, n_k) in [(1, 1), (1, 2), (3, 700), (1, 1100), (16, 1404), (5, n)] {
        let (few_out, few_lse) = rows(n_q, n_k);
        let whole = |x: &[f32], width: usize| -> Vec<f32> {
            let head = |h| x[(h * n + n_k - n_q) * width..][..n_q * width].to_vec();
            (0..heads).flat_map(head).collect()
        };
        for (few, whole) in [(few_out, whole(&out, d_v)), (few_lse, whole(&lse, 1))] {
            let (mut error, mut size) = (0.0, 0.0);
            for (x, y) in few.iter().zip(&whole).filter(|(x, y)| x != y) {
                error += (x - y).powi(2);
                size += y.powi(2);
            }
            assert!(error <= 1e-12 * size, "{n_q} of {n_k}: {error} of {size}");
        }
    }
}

#[test]
fn one_visible_key_gives_its_value() {
    let span = Span::decode(2, 5000);
    let mut labels = vec![HIDDEN; span.n_k];
    for seen in [0, 1023, 1024, 4999] {
        labels[seen] = 0;
        let case = Case {
            d: 64,
            d_v: 64,
            labels: Some((vec![0; 2], labels.clone())),
            ..case(pattern(1, &[(5000, 1)], false), span)
        };
        let x = case.inputs::<bf16>();
        // The other keys are NaN in memory.
        let r = case.run::<bf16>(&x);
        for row in r.out.chunks_exact(64) {
            assert_eq!(row, x.v.row(0, 0, seen));
        }
        labels[seen] = HIDDEN;
    }
}

/// The sum of `out * dout` and `lse * dlse`.
fn objective(case: &Case, x: &Inputs) -> f64 {
    let r = case.run::<f64>(x);
    let dot = |x: &[f64], y: &[f64]| {
        let seen = x.iter().zip(y).filter(|(x, _)| x.is_finite());
        seen.map(|(x, y)| x * y).sum::<f64>()
    };
    dot(&r.out, &x.dout.data) + dot(&r.lse, &x.dlse)
}

#[test]
fn exact_gradients_are_those_of_finite_differences() {
    let zero_keys = DilatedPattern::new(4, [(9, 2), (30, 4)])
        .tail(Tail::ZeroKeys)
        .build()
        .unwrap();
    for pattern in [
        pattern(4, &[(9, 1), (16, 2), (40, 3)], true),
        pattern(4, &[(9, 1), (16, 2), (40, 3)], false),
        zero_keys,
        window(4, 41, [7, 5], true),
        window(4, 41, [5, 9], false),
    ] {
        let bias = match pattern {
            Pattern::Blocks(_) => Some(bias(&pattern, 1)),
            _ => None,
        };
        let case = Case {
            bias,
            kv_heads: 2,
            dropout: Some(Dropout { p: 0.2, seed: 9 }),
            labels: Some((
                vec![1; 41],
                (0..41).map(|j| if j % 7 == 3 { 0 } else { 1 }).collect(),
            )),
            ..case(pattern, Span::full(41))
        };
        let x = case.inputs::<f64>();
        let r = case.run::<f64>(&x);
        let mut random = Random(11);
        let h = 1e-5;
        type Field = fn(&mut Inputs) -> &mut Tensor;
        let fields: [(Field, &[f64]); 3] = [
            (|x| &mut x.q, &r.dq),
            (|x| &mut x.k, &r.dk),
            (|x| &mut x.v, &r.dv),
        ];
        for (field, gradient) in fields {
            for _ in 0..20 {
                let i = random.next() as usize % gradient.len();
                let at = |shift: f64| {
                    let mut x = case.inputs::<f64>();
                    field(&mut x).data[i] += shift;
                    objective(&case, &x)
                };
                let slope = (at(h) - at(-h)) / (2.0 * h);
                let error = (slope - gradient[i]).abs();
                assert!(error < 1e-8, "{slope} is not {}", gradient[i]);
            }
        }
        for i in (0..r.dbias.len()).step_by(3) {
            let at = |shift: f64| {
                let mut case = case.clone();
                case.bias.as_mut().unwrap()[i] += shift;
                objective(&case, &case.inputs::<f64>())
            };
            let slope = (at(h) - at(-h)) / (2.0 * h);
            let error = (slope - r.dbias[i]).abs();
            assert!(error < 1e-8, "{slope} is not {}", r.dbias[i]);
        }
    }
}

#[test]
fn rows_that_see_nothing_are_zero_whatever_stands_there() {
    // Of 8 heads those from 4 on have no row in a segment of 4; head 1 covers half of the rows of none.
    let case = Case {
        labels: Some((
            (0..30).map(|i| if i < 15 { 0 } else { HIDDEN }).collect(),
            (0..30).map(|j| if j < 7 { 0 } else { HIDDEN }).collect(),
        )),
        kv_heads: 8,
        ..case(pattern(8, &[(4, 8)], false), Span::full(30))
    };
    let mut x = case.inputs::<f32>();
    let visible = |h: usize, i: usize| h < 4 && i < 15 && i % 4 == h && i / 4 * 4 + h < 7;
    for i in 0..8 * 30 {
        if !visible(i / 30, i % 30) {
            x.q.data[i * 12..][..12].fill(f64::NAN);
            x.dout.data[i * 20..][..20].fill(f64::NAN);
            x.dlse[i] = f64::NAN;
        }
    }
    let r = case.run::<f32>(&x);
    for i in 0..8 * 30 {
        let nothing = !visible(i / 30, i % 30);
        assert_eq!(r.lse[i] == f64::NEG_INFINITY, nothing);
        assert_eq!(r.out[i * 20..][..20].iter().all(|x| *x == 0.0), nothing);
        assert!(!nothing || r.dq[i * 12..][..12].iter().all(|x| *x == 0.0));
    }
    assert!(r.dk.iter().chain(&r.dv).all(|x| x.is_finite()));
    assert!(r.dv.iter().any(|x| *x != 0.0));
}

#[test]
fn large_scores_do_not_overflow() {
    let case = Case {
        scale: 3e4,
        ..case(pattern(1, &[(50, 1), (100, 2)], true), Span::full(100))
    };
    let r = case.run::<f32>(&case.inputs::<f32>());
    let mut values = r
        .out
        .iter()
        .chain(&r.lse)
        .chain(&r.dq)
        .chain(&r.dk)
        .chain(&r.dv);
    assert!(values.all(|x| x.is_finite()));
}

#[test]
fn all_weights_dropped_gives_zeros_and_an_undropped_lse() {
    let keep = case(pattern(1, &[(50, 1)], true), Span::full(50));
    let drop = Case {
        dropout: Some(Dropout { p: 1.0, seed: 1 }),
        ..keep.clone()
    };
    let x = keep.inputs::<f32>();
    let (keep, drop) = (keep.run::<f32>(&x), drop.run::<f32>(&x));
    assert_eq!(keep.lse, drop.lse);
    assert!(drop.out.iter().chain(&drop.dv).all(|x| *x == 0.0));
}

#[test]
fn empty_problems_write_what_there_is() {
    let empty = |batch, n_q, n_k, d_v| Case {
        batch,
        d_v,
        layout: Layout::Contiguous,
        ..case(pattern(2, &[(8, 1), (16, 2)], true), Span::cross(n_q, n_k))
    };
    for (batch, n_q, n_k, d_v) in [
        (0, 5, 5, 4),
        (2, 0, 5, 4),
        (2, 5, 0, 4),
        (1, 0, 0, 1),
        (1, 5, 5, 0),
    ] {
        for gradient in [MixGradient::Exact, MixGradient::Detached] {
            let case = Case {
                gradient,
                ..empty(batch, n_q, n_k, d_v)
            };
            let r = case.run::<bf16>(&case.inputs::<bf16>());
            assert_eq!(r.lse.len(), batch * 2 * n_q);
            let blind = r.lse.iter().all(|x| *x == f64::NEG_INFINITY);
            assert_eq!(blind, n_k == 0 || r.lse.is_empty());
            let zeros = |x: &[f64]| x.iter().all(|x| *x == 0.0);
            if d_v > 0 {
                assert!(zeros(&r.out) && zeros(&r.dq) && zeros(&r.dk) && zeros(&r.dv));
            }
        }
    }
}

#[test]
fn a_broadcast_view_is_read_through_zero_strides() {
    let schedule = pattern(3, &[(16, 1)], false)
        .schedule(Span::full(16))
        .unwrap();
    let problem = Problem::new(&schedule, 4);
    let row = [0.1f32, -0.2, 0.3, 0.7];
    let view = View {
        data: &row[..],
        offset: 0,
        shape: [2, 3, 16, 4],
        strides: [0, 0, 0, 1],
    };
    let (mut out, mut lse) = (vec![f32::NAN; 2 * 3 * 16 * 4], vec![f32::NAN; 2 * 3 * 16]);
    forward(&problem, view, view, view, &mut out, &mut lse);
    for (x, y) in out.iter().zip(row.iter().cycle()) {
        assert!((x - y).abs() < 1e-6);
    }
}

fn call(q: [usize; 4], k: [usize; 4], v: [usize; 4], out: usize, lse: usize) {
    let schedule = pattern(4, &[(16, 1)], false)
        .schedule(Span::cross(5, 6))
        .unwrap();
    let data = vec![0f32; 1000];
    let view = |shape| View::contiguous(&data, shape);
    let (mut out, mut lse) = (vec![0.0; out], vec![0.0; lse]);
    forward(
        &Problem::new(&schedule, 3),
        view(q),
        view(k),
        view(v),
        &mut out,
        &mut lse,
    );
}

#[test]
fn consistent_shapes_are_accepted() {
    call(
        [2, 4, 5, 3],
        [2, 2, 6, 3],
        [2, 2, 6, 7],
        2 * 4 * 5 * 7,
        2 * 4 * 5,
    );
}

#[test]
#[should_panic(expected = "must be those of the schedule")]
fn another_length_than_the_schedules_panics() {
    call(
        [2, 4, 6, 3],
        [2, 2, 6, 3],
        [2, 2, 6, 7],
        2 * 4 * 6 * 7,
        2 * 4 * 6,
    );
}

#[test]
#[should_panic(expected = "must divide the 4 heads")]
fn kv_heads_that_do_not_divide_panic() {
    call(
        [2, 4, 5, 3],
        [2, 3, 6, 3],
        [2, 3, 6, 7],
        2 * 4 * 5 * 7,
        2 * 4 * 5,
    );
}

#[test]
#[should_panic(expected = "k must have the shape [2, 2, 6, 3], got [2, 2, 6, 4]")]
fn head_sizes_that_differ_panic() {
    call(
        [2, 4, 5, 3],
        [2, 2, 6, 4],
        [2, 2, 6, 7],
        2 * 4 * 5 * 7,
        2 * 4 * 5,
    );
}

#[test]
#[should_panic(expected = "out must hold 280 elements, got 279")]
fn a_short_result_panics() {
    call(
        [2, 4, 5, 3],
        [2, 2, 6, 3],
        [2, 2, 6, 7],
        2 * 4 * 5 * 7 - 1,
        2 * 4 * 5,
    );
}

#[test]
#[should_panic(expected = "dout must have the shape [1, 1, 5, 3], got [1, 1, 5, 2]")]
fn another_shape_of_dout_panics() {
    let schedule = pattern(1, &[(16, 1)], false)
        .schedule(Span::full(5))
        .unwrap();
    let data = [0f32; 15];
    let x = View::contiguous(&data, [1, 1, 5, 3]);
    let dout = View::contiguous(&data, [1, 1, 5, 2]);
    let [mut dq, mut dk, mut dv] = [data; 3];
    let problem = Problem::new(&schedule, 3);
    backward(
        &problem,
        x,
        x,
        x,
        x,
        &data[..5],
        dout,
        None,
        &mut dq,
        &mut dk,
        &mut dv,
        None,
    );
}

#[test]
#[should_panic(
    expected = "q: shape [1, 1, 5, 3], strides [15, 15, 3, 1] and offset 1 reach elements 1..=15 of a slice of 15"
)]
fn a_view_beyond_its_slice_panics() {
    let schedule = pattern(1, &[(16, 1)], false)
        .schedule(Span::full(5))
        .unwrap();
    let data = [0f32; 15];
    let x = View::contiguous(&data, [1, 1, 5, 3]);
    let (mut out, mut lse) = (data, [0f32; 5]);
    forward(
        &Problem::new(&schedule, 3),
        View { offset: 1, ..x },
        x,
        x,
        &mut out,
        &mut lse,
    );
}

#[test]
fn all_of_this_holds_under_every_level() {
    common::levels::run_again_under_every_level();
}
