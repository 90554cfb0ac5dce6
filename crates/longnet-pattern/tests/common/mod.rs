//! What runs visit.

use longnet_pattern::{Run, Schedule};

/// How often each local pair is visited by the given runs.
pub fn visits(schedule: &Schedule, runs: impl Iterator<Item = Run>) -> Vec<Vec<usize>> {
    let mut seen = vec![vec![0; schedule.span().n_k]; schedule.span().n_q];
    for run in runs {
        assert!(run.q.len > 0 && run.k.len > 0);
        let mut pairs = 0;
        for a in 0..run.q.len {
            assert!(
                run.visible(a) > 0,
                "a run has no row that sees nothing: {run:?}"
            );
            for b in 0..run.visible(a) {
                assert!(run.first_row(b) <= a);
                seen[run.q.at(a)][run.k.at(b)] += 1;
                pairs += 1;
            }
        }
        for b in 0..run.k.len {
            let first = run.first_row(b);
            assert!(
                first < run.q.len,
                "a run has no key that is not seen: {run:?}"
            );
            assert!(b < run.visible(first) && (first == 0 || b >= run.visible(first - 1)));
        }
        assert_eq!(run.pairs(), pairs);
    }
    seen
}
