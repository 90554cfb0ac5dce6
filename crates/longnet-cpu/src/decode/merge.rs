//! The partial results of a kv head's rows, merged.

use crate::context::Context;
use crate::element::Element;
use crate::real::Real;

/// The rows of a kv head: what the pieces gave, one after the other, each for all rows (`o` and `l` are
/// relative to `2^m`), and where their results go.
pub struct Parts<'a, E: Element> {
    pub kv_head: usize,
    pub o: &'a [E::Acc],
    pub m: &'a [E::Acc],
    pub l: &'a [E::Acc],
    pub out: &'a mut [E],
    pub lse: &'a mut [E::Acc],
}

impl<E: Element> Parts<'_, E> {
    /// Writes the results. `sum` holds a padded row.
    pub fn merge(self, cx: &Context<E>, sum: &mut [E::Acc]) {
        let (schedule, n_q, rows) = (cx.schedule(), cx.span.n_q, self.lse.len());
        for (row, lse) in self.lse.iter_mut().enumerate() {
            let head = self.kv_head * (cx.heads / cx.kv_heads) + row / n_q;
            // Zero keys have a score of 0 and add nothing to the output.
            let zeros: usize = (0..schedule.branches())
                .map(|branch| schedule.zero_keys(branch, head, row % n_q))
                .sum();
            let mut l = E::Acc::from_f64(zeros as f64);
            let seen = || (row..self.m.len()).step_by(rows);
            let mut top = if zeros > 0 {
                E::Acc::ZERO
            } else {
                E::Acc::NEG_INFINITY
            };
            for part in seen() {
                top = if self.m[part] > top {
                    self.m[part]
                } else {
                    top
                };
            }
            if zeros > 0 {
                l *= (E::Acc::ZERO - top).exp2::<false>();
            }
            sum.fill(E::Acc::ZERO);
            // Pieces without a key for this row are left out: their factor would be 2^(-inf - -inf).
            for part in seen().filter(|&part| self.l[part] != E::Acc::ZERO) {
                let factor = (self.m[part] - top).exp2::<false>();
                l += factor * self.l[part];
                let o = &self.o[part * cx.d_v_pad..][..cx.d_v_pad];
                for (sum, &x) in sum.iter_mut().zip(o) {
                    *sum += x * factor;
                }
            }
            let factor = if l == E::Acc::ZERO {
                E::Acc::ZERO
            } else {
                E::Acc::ONE / l
            };
            for (to, &x) in self.out[row * cx.d_v..][..cx.d_v].iter_mut().zip(&*sum) {
                *to = E::round(x * factor);
            }
            let base_2 = top.to_f64() + l.to_f64().log2();
            *lse = E::Acc::from_f64(base_2 * std::f64::consts::LN_2);
        }
    }
}
