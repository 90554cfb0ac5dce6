//! The partial results of a kv head's rows, merged.

use crate::context::Context;
use crate::element::Element;
use crate::real::Real;

/// What the pieces gave, one after the other, each for all rows: `o` and `l` are relative to `2^m`.
pub struct Parts<'a, R> {
    pub o: &'a [R],
    pub m: &'a [R],
    pub l: &'a [R],
}

/// Writes the results of the rows of a kv head.
pub fn merge<E: Element>(
    cx: &Context<E>,
    kv_head: usize,
    parts: Parts<E::Acc>,
    out: &mut [E],
    lse: &mut [E::Acc],
) {
    let (schedule, n_q, rows) = (cx.schedule(), cx.span.n_q, lse.len());
    let mut sum = vec![E::Acc::ZERO; cx.d_v_pad];
    for (row, lse) in lse.iter_mut().enumerate() {
        let head = kv_head * (cx.heads / cx.kv_heads) + row / n_q;
        // Zero keys have a score of 0 and add nothing to the output.
        let zeros: usize = (0..schedule.branches())
            .map(|branch| schedule.zero_keys(branch, head, row % n_q))
            .sum();
        let mut l = E::Acc::from_f64(zeros as f64);
        let seen = || (row..parts.m.len()).step_by(rows);
        let mut top = if zeros > 0 {
            E::Acc::ZERO
        } else {
            E::Acc::NEG_INFINITY
        };
        for part in seen() {
            top = if parts.m[part] > top {
                parts.m[part]
            } else {
                top
            };
        }
        if zeros > 0 {
            l *= (E::Acc::ZERO - top).exp2::<false>();
        }
        sum.fill(E::Acc::ZERO);
        // Pieces without a key for this row are left out: their factor would be 2^(-inf - -inf).
        for part in seen().filter(|&part| parts.l[part] != E::Acc::ZERO) {
            let factor = (parts.m[part] - top).exp2::<false>();
            l += factor * parts.l[part];
            let o = &parts.o[part * cx.d_v_pad..][..cx.d_v_pad];
            cx.kernels.add_scaled(&mut sum, o, factor);
        }
        let factor = if l == E::Acc::ZERO {
            E::Acc::ZERO
        } else {
            E::Acc::ONE / l
        };
        for (to, &x) in out[row * cx.d_v..][..cx.d_v].iter_mut().zip(&sum) {
            *to = E::round(x * factor);
        }
        let base_2 = top.to_f64() + l.to_f64().log2();
        *lse = E::Acc::from_f64(base_2 * std::f64::consts::LN_2);
    }
}
