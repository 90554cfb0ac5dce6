//! The backward pass: the scalars `D` of each query row, then one fused pass over blocks of keys that
//! gives dk, dv and, added up in a fixed order, dq.

mod deltas;
mod fused;
mod turns;

use crate::context::{Context, check_len, check_shape};
use crate::element::Element;
use crate::problem::Problem;
use crate::real::Real;
use crate::tiles::Tiles;
use crate::view::View;
use longnet_pattern::MixGradient;

/// What both passes read.
struct Gradients<'a, E: Element> {
    cx: Context<'a, E>,
    out: View<'a, E>,
    lse: &'a [E::Acc],
    dout: View<'a, E>,
    dlse: Option<&'a [E::Acc]>,
    /// Whether the weights that mix branches are constants.
    detached: bool,
    /// How many `D` a row has: one, or one a branch if the mix is detached.
    deltas: usize,
}

impl<E: Element> Gradients<'_, E> {
    /// Row `i` of a head in `[batch, heads, n_q]`.
    fn row(&self, [batch, head]: [usize; 2], i: usize) -> usize {
        (batch * self.cx.heads + head) * self.cx.span.n_q + i
    }

    /// Whether the row sees nothing.
    fn is_blind(&self, row: usize) -> bool {
        self.lse[row] == E::Acc::NEG_INFINITY
    }

    /// The log-sum-exp in base 2; where the row sees nothing `inf`, so that its weights are 0.
    fn lse_base_2(&self, row: usize) -> E::Acc {
        if self.is_blind(row) {
            E::Acc::INFINITY
        } else {
            E::Acc::from_f64(self.lse[row].to_f64() * std::f64::consts::LOG2_E)
        }
    }
}

pub fn backward<E: Element, T: Tiles<E>>(
    tiles: T,
    problem: &Problem,
    q: View<E>,
    k: View<E>,
    v: View<E>,
    out: View<E>,
    lse: &[E::Acc],
    dout: View<E>,
    dlse: Option<&[E::Acc]>,
    dq: &mut [E],
    dk: &mut [E],
    dv: &mut [E],
    dbias: Option<&mut [f64]>,
) {
    let cx = Context::new(problem, q, k, v);
    let rows = cx.batch * cx.heads * cx.span.n_q;
    let keys = cx.batch * cx.kv_heads * cx.span.n_k;
    let shape = [cx.batch, cx.heads, cx.span.n_q, cx.d_v];
    for (name, view) in [("out", &out), ("dout", &dout)] {
        check_shape(name, view.shape, shape);
        view.check_bounds(name);
    }
    check_len("lse", lse.len(), rows);
    if let Some(dlse) = dlse {
        check_len("dlse", dlse.len(), rows);
    }
    check_len("dq", dq.len(), rows * cx.d);
    check_len("dk", dk.len(), keys * cx.d);
    check_len("dv", dv.len(), keys * cx.d_v);
    if let Some(dbias) = &dbias {
        let bias = problem.bias.expect("only a bias has a gradient");
        check_len("dbias", dbias.len(), bias.values.len());
    }
    // Nothing is mixed of a block mask.
    let detached = problem.gradient == MixGradient::Detached && problem.schedule.mask().is_none();
    let deltas = if detached {
        problem.schedule.branches()
    } else {
        1
    };
    let gradients = Gradients {
        cx,
        out,
        lse,
        dout,
        dlse,
        detached,
        deltas,
    };
    let mut delta = vec![E::Acc::ZERO; rows * deltas];
    deltas::pass(tiles, &gradients, &mut delta);
    let mut sums = Vec::new();
    fused::pass(tiles, &gradients, &delta, dq, dk, dv, &mut sums);
    if let (Some(dbias), Some(mask)) = (dbias, problem.schedule.mask()) {
        dbias.fill(0.0);
        let one = dbias.len() == mask.blocks();
        for (batch, sums) in sums {
            let first = if one { 0 } else { batch * mask.blocks() };
            for (block, sum) in sums {
                dbias[first + block] += sum;
            }
        }
    }
}
