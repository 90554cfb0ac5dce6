//! The checked shapes of a call, and what all of its work items share.

use crate::element::Element;
use crate::kernels::{Kernels, LANE, PANEL};
use crate::problem::Problem;
use crate::real::Real;
use crate::rules::Rules;
use crate::view::View;
use longnet_pattern::{Run, Schedule, Span};
use std::ops::Range;

/// One call.
pub struct Context<'a, E: Element> {
    pub problem: &'a Problem<'a>,
    pub q: View<'a, E>,
    pub k: View<'a, E>,
    pub v: View<'a, E>,
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub span: Span,
    pub d: usize,
    pub d_v: usize,
    /// Widths of packed rows.
    pub d_pad: usize,
    pub d_v_pad: usize,
    pub kernels: &'static Kernels<E::Acc>,
}

impl<'a, E: Element> Context<'a, E> {
    /// Checks every shape.
    pub fn new(problem: &'a Problem<'a>, q: View<'a, E>, k: View<'a, E>, v: View<'a, E>) -> Self {
        let span = problem.schedule.span();
        let [batch, heads, n_q, d] = q.shape;
        let [_, kv_heads, n_k, _] = k.shape;
        let d_v = v.shape[3];
        assert_eq!(
            (heads, n_q, n_k),
            (problem.schedule.heads(), span.n_q, span.n_k),
            "heads, queries and keys of q {:?} and k {:?} must be those of the schedule",
            q.shape,
            k.shape
        );
        assert!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "kv heads of k {:?} must divide the {heads} heads of q",
            k.shape
        );
        check_shape("k", k.shape, [batch, kv_heads, n_k, d]);
        check_shape("v", v.shape, [batch, kv_heads, n_k, d_v]);
        for (name, view) in [("q", &q), ("k", &k), ("v", &v)] {
            view.check_bounds(name);
        }
        if let Some(labels) = problem.labels {
            check_len("labels.q", labels.q.len(), batch * n_q);
            check_len("labels.k", labels.k.len(), batch * n_k);
        }
        if let Some(bias) = problem.bias {
            let mask = problem.schedule.mask();
            let blocks = mask
                .expect("a bias needs a block mask: dilated patterns have no blocks")
                .blocks();
            let len = bias.values.len();
            assert!(
                len == blocks || len == batch * blocks,
                "bias must hold {blocks} values, one a listed block, or that for each of {batch} batch entries, got {len}"
            );
        }
        if let Some(dropout) = problem.dropout {
            assert!(
                (0.0..=1.0).contains(&dropout.p),
                "dropout.p = {} must be in 0..=1",
                dropout.p
            );
        }
        Self {
            problem,
            q,
            k,
            v,
            batch,
            heads,
            kv_heads,
            span,
            d,
            d_v,
            d_pad: d.next_multiple_of(LANE),
            d_v_pad: d_v.next_multiple_of(LANE),
            kernels: E::Acc::kernels(),
        }
    }

    pub fn schedule(&self) -> &Schedule {
        self.problem.schedule
    }

    /// The kv head that a query head reads.
    pub fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    pub fn rules(&self, batch: usize, head: usize) -> Rules<'a> {
        Rules::new(self.problem, batch, self.heads, head)
    }

    /// The runs of some rows and keys, each with the place of its block in the bias if there is one.
    pub fn runs(
        &self,
        branch: usize,
        head: usize,
        rows: Range<usize>,
        keys: Range<usize>,
    ) -> impl Iterator<Item = (Run, Option<usize>)> {
        let schedule = self.schedule();
        let (single, merged) = match self.problem.bias {
            Some(_) => (Some(schedule.block_runs(head, rows, keys)), None),
            None => (None, Some(schedule.runs_within(branch, head, rows, keys))),
        };
        let single = single.into_iter().flatten();
        let merged = merged.into_iter().flatten();
        single
            .map(|(run, block)| (run, Some(block)))
            .chain(merged.map(|run| (run, None)))
    }

    /// The bias of a block in base 2, as scores are; 0 without one.
    pub fn bias_base_2(&self, batch: usize, block: Option<usize>) -> E::Acc {
        let (Some(bias), Some(block)) = (self.bias_of(batch), block) else {
            return E::Acc::ZERO;
        };
        E::Acc::from_f64(bias[block] * std::f64::consts::LOG2_E)
    }

    /// The bias of a batch entry.
    pub fn bias_of(&self, batch: usize) -> Option<&'a [f64]> {
        let bias = self.problem.bias?.values;
        let blocks = self.schedule().mask().map_or(0, |mask| mask.blocks());
        let entry = if bias.len() == blocks { 0 } else { batch };
        Some(&bias[entry * blocks..][..blocks])
    }

    /// Scores are kept in base 2: what their product is multiplied with.
    pub fn scale_base_2(&self) -> E::Acc {
        E::Acc::from_f64(self.problem.scale * std::f64::consts::LOG2_E)
    }

    /// How many of `rows` rows of `width` packed elements fit a budget of 2 MiB.
    pub fn rows_that_fit(&self, width: usize) -> usize {
        let bytes = width.max(1) * size_of::<E::Acc>();
        ((1 << 21) / bytes / PANEL * PANEL).clamp(PANEL, 4096)
    }
}

pub fn check_shape(name: &str, shape: [usize; 4], expected: [usize; 4]) {
    assert_eq!(
        shape, expected,
        "{name} must have the shape {expected:?}, got {shape:?}"
    );
}

pub fn check_len(name: &str, len: usize, expected: usize) {
    assert_eq!(
        len, expected,
        "{name} must hold {expected} elements, got {len}"
    );
}
