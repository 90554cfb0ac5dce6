//! The op against the dense reference.

mod common;

use common::reference::{Results, reference};
use common::{Case, Layout, Number, cases, cases_of};
use half::{bf16, f16};
use longnet_cpu::Walk;
use longnet_pattern::{BlockGrid, BlockMask, DilatedPattern, MixGradient, Precision, Span};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn rms(x: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = x.fold((0.0, 0), |(sum, count), x| (sum + x * x, count + 1));
    (sum / f64::max(count as f64, 1.0)).sqrt()
}

/// RMS of the error over RMS of the reference. Gradients may cancel down to nothing (a row with one
/// key has none for its query), so the denominator is at least a tenth of the RMS of the sums of
/// their terms' absolute values.
fn error(ours: &[f64], exact: &[f64], sizes: &[f64]) -> f64 {
    assert_eq!(ours.len(), exact.len());
    let difference = |(&x, &y): (&f64, &f64)| if x == y { 0.0 } else { x - y };
    let error = rms(ours.iter().zip(exact).map(difference));
    let finite = |x: &[f64]| rms(x.iter().copied().filter(|x| x.is_finite()));
    if error == 0.0 {
        0.0
    } else {
        error / finite(exact).max(0.1 * finite(sizes))
    }
}

/// Errors of out, lse, dq, dk, dv, dbias.
fn errors<E: Number>(case: &Case) -> [f64; 6] {
    let inputs = case.inputs::<E>();
    let (exact, sizes) = reference(case, &inputs);
    let ours = case.run::<E>(&inputs);
    let fields = |r: Results| [r.out, r.lse, r.dq, r.dk, r.dv, r.dbias];
    let (ours, exact, sizes) = (fields(ours), fields(exact), fields(sizes));
    // What no pair adds to is exactly zero.
    for (ours, sizes) in ours.iter().zip(&sizes) {
        for (x, size) in ours.iter().zip(sizes) {
            assert!(*size != 0.0 || *x == 0.0, "{x} where there is nothing");
        }
    }
    std::array::from_fn(|i| error(&ours[i], &exact[i], &sizes[i]))
}

fn check<E: Number>(case: &Case, out: f64, gradients: f64) -> Result<(), TestCaseError> {
    let errors = errors::<E>(case);
    for (i, error) in errors.into_iter().enumerate() {
        let tolerance = if i < 2 { out } else { gradients };
        prop_assert!(
            error <= tolerance,
            "{:?} of out, lse, dq, dk, dv, dbias",
            errors
        );
    }
    Ok(())
}

/// The same cases in every run.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x10),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn f32_is_within_1e_5(case in cases(60)) {
        check::<f32>(&case, 1e-5, 1e-5)?;
    }

    #[test]
    fn f64_is_within_1e_12(case in cases(60)) {
        check::<f64>(&case, 1e-12, 1e-12)?;
    }
}

proptest! {
    #![proptest_config(config(150))]

    // Units of roundoff: rounding `out` once costs less than one; the gradients start from the
    // rounded `out`.
    #[test]
    fn bf16_is_within_roundoff(case in cases(40)) {
        check::<bf16>(&case, 2f64.powi(-8), 3.0 * 2f64.powi(-8))?;
    }

    #[test]
    fn f16_is_within_roundoff(case in cases(40)) {
        check::<f16>(&case, 2f64.powi(-11), 3.0 * 2f64.powi(-11))?;
    }
}

/// The results of the forward pass alone.
fn check_forward<E: Number>(case: &Case, tolerance: f64) -> Result<(), TestCaseError> {
    check::<E>(case, tolerance, f64::INFINITY)
}

/// Around the most query rows that are decoded.
const FEW: std::ops::Range<usize> = 1..19;

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn few_rows_in_f32_are_within_1e_5(case in cases_of(300, FEW)) {
        check::<f32>(&case, 1e-5, 1e-5)?;
    }

    #[test]
    fn few_rows_in_f64_are_within_1e_12(case in cases_of(300, FEW)) {
        check::<f64>(&case, 1e-12, 1e-12)?;
    }

    #[test]
    fn few_rows_in_bf16_are_within_roundoff(case in cases_of(300, FEW)) {
        check_forward::<bf16>(&case, 2f64.powi(-8))?;
    }

    #[test]
    fn few_rows_in_f16_are_within_roundoff(case in cases_of(300, FEW)) {
        check_forward::<f16>(&case, 2f64.powi(-11))?;
    }
}

proptest! {
    #![proptest_config(config(12))]

    // More keys than a work item.
    #[test]
    fn few_rows_of_long_caches_are_within_1e_5(case in cases_of(6000, FEW)) {
        check::<f32>(&case, 1e-5, 1e-5)?;
    }
}

proptest! {
    #![proptest_config(config(40))]

    // Under levels without products of bfloat16 it is the highest precision.
    #[test]
    fn high_precision_is_within_1e_4(case in cases(200)) {
        let case = Case { precision: Precision::High, ..case };
        check::<f32>(&case, 1e-4, 1e-4)?;
    }
}

proptest! {
    #![proptest_config(config(6))]

    // More rows than a tile and than a work item.
    #[test]
    fn long_sequences_cross_every_block(case in cases(700)) {
        check::<f32>(&case, 1e-5, 1e-5)?;
        check::<bf16>(&case, 2f64.powi(-8), 3.0 * 2f64.powi(-8))?;
    }
}

/// More query rows than one block of dq, and more keys than an item, in a few shapes.
#[test]
fn gradients_reach_every_block_of_rows() {
    let span = |q_start, n_q, k_start, n_k| Span {
        q_start,
        n_q,
        k_start,
        n_k,
        step: 1,
    };
    for (i, (heads, kv_heads, span)) in [
        (1, 1, Span::full(1300)),
        (2, 1, span(150, 1200, 0, 1100)),
        (9, 9, span(100, 1100, 700, 500)),
    ]
    .into_iter()
    .enumerate()
    {
        let pattern = DilatedPattern::new(heads, [(1250, 1), (640, 2), (4000, 5)])
            .causal(i != 1)
            .build()
            .unwrap();
        let case = Case {
            pattern,
            span,
            batch: 1,
            kv_heads,
            d: 5,
            d_v: 3,
            scale: 0.4,
            labels: None,
            bias: None,
            dropout: None,
            gradient: match i {
                0 => MixGradient::Detached,
                _ => MixGradient::Exact,
            },
            precision: Precision::Highest,
            walk: Walk::Fastest,
            dlse: true,
            layout: Layout::HeadsInside,
            seed: 8,
        };
        check::<f32>(&case, 1e-5, 1e-5).unwrap();
        check::<bf16>(&case, 2f64.powi(-8), 3.0 * 2f64.powi(-8)).unwrap();
    }
}

/// A scale that cannot follow the comparison of scores.
#[test]
fn scales_of_any_sign_and_size_are_right() {
    for scale in [0.0, -0.3, 1e-30, 1e-60] {
        let dilated = DilatedPattern::new(2, [(40, 1), (80, 3)]).causal(true);
        let mask = BlockMask::new(2, BlockGrid::square(70, 10)).causal(true);
        let mask = mask.build_from_fn(|head, i, j| (i * 3 + j + head) % 4 > 0);
        let mask = mask.unwrap();
        let bias = (0..mask.blocks()).map(|block| block as f64 % 5.0 - 2.0);
        let bias = Some(bias.collect());
        for (pattern, bias) in [(dilated.build().unwrap(), None), (mask.into(), bias)] {
            let case = Case {
                pattern,
                span: Span::full(70),
                batch: 1,
                kv_heads: 1,
                d: 6,
                d_v: 4,
                scale,
                labels: None,
                bias,
                dropout: None,
                gradient: MixGradient::Exact,
                precision: Precision::High,
                walk: Walk::Dense,
                dlse: false,
                layout: Layout::HeadsInside,
                seed: 8,
            };
            // Gradients of q and k beyond the smallest f32 are 0.
            let gradients = if scale == 1e-60 { f64::INFINITY } else { 1e-5 };
            check::<f32>(&case, 1e-5, gradients).unwrap();
            let gradients = gradients.max(3.0 * 2f64.powi(-8));
            check::<bf16>(&case, 2f64.powi(-8), gradients).unwrap();
        }
    }
}

#[test]
fn all_of_this_holds_under_every_level() {
    common::levels::run_again_under_every_level();
}
