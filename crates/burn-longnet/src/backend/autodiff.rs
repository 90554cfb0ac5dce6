//! The backward step, over any backend.

use crate::ops::{AttentionSpec, Bias, Labels, SparseAttentionOps};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::{DType, Shape};
use std::sync::{Arc, Mutex};

/// Where the step of `lse` leaves its gradient for the step of `out`.
type Dlse<B> = Arc<Mutex<Option<FloatTensor<B>>>>;

#[derive(Debug)]
struct AttentionBackward;

#[derive(Clone, Debug)]
struct Saved<B: Backend> {
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    labels: Labels<B>,
    bias: Bias<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    dlse: Dlse<B>,
    spec: AttentionSpec,
}

/// The parents are q, k, v and, if there is one, the bias.
impl<B: SparseAttentionOps, const N: usize> Backward<B, N> for AttentionBackward {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dout = grads.consume::<B>(&ops.node);
        let Saved {
            q,
            k,
            v,
            labels,
            bias,
            out,
            lse,
            dlse,
            spec,
        } = ops.state;
        let dlse = dlse
            .lock()
            .expect("no step panics while it holds this lock")
            .take();
        let dlse =
            dlse.unwrap_or_else(|| B::float_zeros(lse.shape(), &lse.device(), lse.dtype().into()));
        let (dq, dk, dv, dbias) =
            B::sparse_attention_backward(q, k, v, labels, bias, out, lse, dout, dlse, spec);
        for (node, grad) in ops.parents.into_iter().zip([dq, dk, dv, dbias]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// `lse` hangs off the node of `out`, so this step runs before that of `out`: it leaves its gradient
/// there and registers a zero gradient, so that the step of `out` runs even where only `lse` is used.
#[derive(Debug)]
struct LseBackward;

impl<B: Backend> Backward<B, 1> for LseBackward {
    type State = (Dlse<B>, Shape, DType);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dlse = grads.consume::<B>(&ops.node);
        let (cell, shape, dtype) = ops.state;
        if let [Some(out)] = ops.parents {
            let zeros = B::float_zeros(shape, &dlse.device(), dtype.into());
            grads.register::<B>(out.id, zeros);
            *cell
                .lock()
                .expect("no step panics while it holds this lock") = Some(dlse);
        }
    }
}

/// What a forward step reads.
struct Inputs<B: Backend> {
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    labels: Labels<B>,
    bias: Bias<B>,
    spec: AttentionSpec,
}

impl<B: SparseAttentionOps> Inputs<B> {
    fn forward(self) -> (FloatTensor<B>, FloatTensor<B>) {
        B::sparse_attention_forward(self.q, self.k, self.v, self.labels, self.bias, self.spec)
    }

    /// The same with a step for the backward pass.
    fn tracked<C: CheckpointStrategy, const N: usize>(
        self,
        nodes: [NodeGuard; N],
    ) -> (FloatTensor<Autodiff<B, C>>, FloatTensor<Autodiff<B, C>>) {
        let step = Backward::<B, N>::prepare::<C>(AttentionBackward, nodes);
        match step.compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let Self {
                    q,
                    k,
                    v,
                    labels,
                    bias,
                    spec,
                } = self;
                let (out, lse) = B::sparse_attention_forward(
                    q.clone(),
                    k.clone(),
                    v.clone(),
                    labels.clone(),
                    bias.clone(),
                    spec.clone(),
                );
                let dlse: Dlse<B> = Arc::default();
                let (shape, dtype) = (out.shape(), out.dtype());
                let saved = Saved {
                    q,
                    k,
                    v,
                    labels,
                    bias,
                    out: out.clone(),
                    lse: lse.clone(),
                    dlse: dlse.clone(),
                    spec,
                };
                let out = step.finish(saved, out);
                let lse = match LseBackward
                    .prepare::<C>([out.node()])
                    .compute_bound()
                    .stateful()
                {
                    OpsKind::Tracked(step) => step.finish((dlse, shape, dtype), lse),
                    OpsKind::UnTracked(step) => step.finish(lse),
                };
                (out, lse)
            }
            OpsKind::UnTracked(step) => {
                let (out, lse) = self.forward();
                let out = step.finish(out);
                let lse = match LseBackward
                    .prepare::<C>([out.node()])
                    .compute_bound()
                    .stateful()
                {
                    OpsKind::Tracked(_) => unreachable!("the parent of lse is untracked"),
                    OpsKind::UnTracked(step) => step.finish(lse),
                };
                (out, lse)
            }
        }
    }
}

impl<B: SparseAttentionOps, C: CheckpointStrategy> SparseAttentionOps for Autodiff<B, C> {
    fn sparse_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        labels: Labels<Self>,
        bias: Bias<Self>,
        spec: AttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let labels = match labels {
            Labels::None => Labels::None,
            Labels::Pair { q, k } => Labels::Pair { q, k },
        };
        let (q, q_node) = q.into_parts();
        let (k, k_node) = k.into_parts();
        let (v, v_node) = v.into_parts();
        let inputs = |bias| Inputs {
            q,
            k,
            v,
            labels,
            bias,
            spec,
        };
        match bias {
            Bias::None => inputs(Bias::None).tracked::<C, 3>([q_node, k_node, v_node]),
            Bias::Blocks(bias) => {
                let (bias, bias_node) = bias.into_parts();
                let nodes = [q_node, k_node, v_node, bias_node];
                inputs(Bias::Blocks(bias)).tracked::<C, 4>(nodes)
            }
        }
    }
}
