use super::*;
use crate::evaluate::results::{Distance, PasskeyCell, Position, RecallCell, Score};

fn answered(right: u64) -> Answered {
    Answered {
        asked: 10,
        right,
        accuracy: right as f64 / 10.0,
        loss: 1.0,
        rank: 2.0,
    }
}

fn by_length(length: usize, stride: Option<usize>, loss: f64) -> ByLength {
    ByLength {
        length,
        beyond_training: length > 64,
        stride,
        score: Score::new(loss * 100.0, 100, 100),
        positions: vec![Position {
            from: 1,
            to: 1,
            tokens: 4,
            loss: loss + 1.0,
        }],
    }
}

fn results(losses: [f64; 2]) -> Results {
    let mut results = Results::new("runs/a<b".into(), 64);
    results.text = Some(Text {
        label: "validation".into(),
        order0: 4.0,
        order1: 3.0,
        whole: Score::new(200.0, 100, 100),
        lengths: vec![
            by_length(32, None, losses[0]),
            by_length(128, None, losses[1]),
            by_length(128, Some(16), losses[1]),
        ],
    });
    results.passkey = Some(Passkey {
        seed: 0,
        chance: 1e-5,
        skipped: vec![],
        cells: vec![PasskeyCell {
            length: 512,
            beyond_training: true,
            depth: 0.25,
            answered: answered(7),
        }],
    });
    let cell = |length, pairs, right| RecallCell {
        length,
        beyond_training: false,
        pairs,
        answered: answered(right),
        distances: vec![Distance {
            from: 17,
            to: 32,
            answered: answered(right),
        }],
    };
    results.recall = Some(Recall {
        seed: 0,
        chance: 0.1,
        skipped: vec![(64, 16)],
        cells: vec![cell(64, 4, 3), cell(256, 4, 5), cell(256, 16, 10)],
    });
    results
}

#[test]
fn what_was_measured_is_drawn_with_its_numbers() {
    let svg = figure(&results([2.5, 2.25]));
    for expected in [
        ">Loss on the validation text by context length<",
        ">windows moved by 16<",
        ">windows of 128<",
        ">training<",
        ">25 %<",
        ">70 %<",
        ">100 %<",
        ">no room<",
        ">4 pairs<",
        "runs/a&lt;b",
    ] {
        assert!(svg.contains(expected), "no {expected} in:\n{svg}");
    }
    // Two modes, windows of two lengths, two numbers of pairs.
    assert_eq!(svg.matches("<polyline").count(), 6);
    assert_eq!(svg.matches("<circle").count(), 3 + 2 + 2);
}

#[test]
fn numbers_that_are_not_finite_leave_no_trace() {
    for svg in [
        figure(&results([f64::NAN, 2.25])),
        figure(&results([f64::NAN; 2])),
        figure(&results([2.0; 2])),
        figure(&Results::new("x".into(), 1)),
    ] {
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
