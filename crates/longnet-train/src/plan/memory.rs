//! The memory of a training step, by going through it buffer by buffer.
//!
//! This is the model's own forward and backward pass with sizes for tensors: what each operation of
//! `burn-longnet` keeps for the backward pass on the CPU, what it makes anew and what it changes in
//! place. A change there belongs here, too; the tests compare both with the program's true peak.

#[cfg(test)]
use super::ledger::Bytes;
use super::ledger::{Ledger, Moment, Part};
use super::shape::Shape;

/// Bytes of one element of weights, of their gradients' sums and of logits.
const WIDE: f64 = 4.0;

/// What the program needs before it holds a model: its code, its threads and the framework's, measured
/// with a model of eight thousand parameters.
const PROGRAM: f64 = 28e6;

/// Room that a product takes for packed operands, a thread.
const PACKED: f64 = 2.1e6;
/// A product that sums over this many rows is computed in parts, each with a result of its own.
const SPLIT_DEPTH: f64 = 2048.0;
/// Tensors of f32 that the gradient of a norm makes at once where activations have 16 bits.
const WIDE_IN_NORM: f64 = 4.0;
/// Rows of one part, and the most parts.
const PART_ROWS: f64 = 1024.0;
const PARTS: f64 = 8.0;
/// The largest result, in elements, that is computed so.
const SMALL: f64 = (1 << 20) as f64;

/// Bytes for each score of a pair of blocks: what stays until the backward pass (the scores themselves, which blocks
/// are hidden, and of the causal half what is added to attention scores), what choosing takes, and what the
/// gradient takes. Without a gradient of the scores they do not stay.
const SCORE_KEPT: [f64; 2] = [3.0, 7.0];
const SCORE_CHOSEN: f64 = 24.0;
const SCORE_GRADIENT: f64 = 17.0;

/// The worst moment of a step with these sizes.
pub(super) fn worst(shape: &Shape) -> Moment {
    let mut walk = Walk {
        s: shape,
        ledger: Ledger::default(),
    };
    walk.run();
    walk.ledger.worst()
}

/// What is left after a step.
#[cfg(test)]
pub(super) fn after(shape: &Shape) -> Bytes {
    let mut walk = Walk {
        s: shape,
        ledger: Ledger::default(),
    };
    walk.run();
    walk.ledger.now()
}

struct Walk<'a> {
    s: &'a Shape,
    ledger: Ledger,
}

use Part::{Activations, Attention, Gradients, Loss, Optimizer, Program, Weights, Workspace};

impl Walk<'_> {
    /// A second step: the optimiser has its state from the first.
    fn run(&mut self) {
        let s = self.s;
        self.ledger.hold(Program, PROGRAM);
        self.ledger.hold(Weights, s.parameters * WIDE + s.copies);
        self.ledger
            .hold(Optimizer, s.parameters * s.optimizer_bytes);
        self.ledger.hold(Workspace, s.threads * PACKED);
        // The gradients of the passes before are there in the next pass.
        for pass in 0..s.accumulate.min(2) {
            self.forward();
            self.loss();
            self.backward();
            if s.half {
                self.ledger.begin("gradients made f32");
                self.ledger.touch(Gradients, s.parameters * s.element);
            }
            if pass > 0 {
                self.ledger.begin("the sum of two passes' gradients");
                self.ledger.touch(Gradients, s.largest * WIDE);
                self.ledger.free(Gradients, s.parameters * WIDE);
            }
        }
        if s.messages > 0.0 {
            self.ledger.begin("the sum of all ranks' gradients");
            self.ledger.touch(Gradients, s.messages);
        }
        self.ledger.begin("the norm of the gradient");
        self.ledger.touch(Gradients, s.largest * WIDE);
        self.ledger.begin("the optimiser's step");
        self.ledger.touch(Optimizer, 2.0 * s.largest * WIDE);
        self.ledger.begin("saving a checkpoint");
        self.ledger.free(Gradients, s.parameters * WIDE);
        self.ledger.touch(Optimizer, s.parameters * s.saved_bytes);
    }

    /// Bytes of `width` channels for each token of the pass.
    fn rows(&self, width: f64) -> f64 {
        self.s.tokens * width * self.s.element
    }

    fn forward(&mut self) {
        let s = self.s;
        self.ledger.begin("the forward pass");
        self.ledger.hold(Activations, self.rows(s.d));
        if s.embedding_norm {
            self.ledger.hold(Activations, self.rows(s.d));
        }
        if s.dropout {
            self.ledger.hold(Activations, self.rows(s.d));
        }
        self.ledger
            .hold(Attention, s.tables * s.context * s.head * WIDE);
        for (&recompute, &scores) in s.recompute.iter().zip(&s.scores) {
            match recompute {
                true => self.untracked_layer(scores),
                false => self.layer(scores),
            }
        }
        if s.pre_norm {
            // The input stays for the norm; the result is what the head reads.
            self.ledger.hold(Activations, self.rows(s.d));
        }
    }

    /// Bytes that one layer with so many scores of blocks keeps: of its activations and of attention. Its result,
    /// which is the next one's input, is among them; its input is not.
    fn kept(&self, scores: f64) -> [f64; 2] {
        let s = self.s;
        let (d, q, kv, ff) = (s.d, s.queries, s.keys, s.ff);
        // q, k, v and the result for the backward step, and log-sum-exp.
        let mut attention = 2.0 * q + 2.0 * kv + s.heads;
        if s.qk_norm {
            // The norms keep what they read.
            attention += q + kv;
        }
        // The merged heads, which the next norm or projection reads.
        let mut activations = q;
        if s.sub_norm {
            activations += q + ff;
        }
        // Before or after each part a norm keeps its input: both that and its result stay.
        activations += 2.0 * d + 2.0 * d;
        if s.dropout {
            activations += 2.0 * d;
        }
        activations += ff * s.inner_tensors;
        let scores = scores * SCORE_KEPT[usize::from(s.learned_scores)];
        [self.rows(activations), self.rows(attention) + scores]
    }

    fn layer(&mut self, scores: f64) {
        // What else comes and goes on the way is less than what is there at the end.
        self.ledger.touch(Attention, scores * SCORE_CHOSEN);
        let [activations, attention] = self.kept(scores);
        self.ledger.hold(Attention, attention);
        self.ledger.hold(Activations, activations);
    }

    /// A layer that keeps its input alone, held by the one before.
    fn untracked_layer(&mut self, scores: f64) {
        let s = self.s;
        self.ledger.touch(Attention, scores * SCORE_CHOSEN);
        let projected = self.rows(2.0 * s.queries + 3.0 * s.keys);
        self.ledger.touch(Attention, projected);
        let inner = self.rows(2.0 * s.d + s.ff * s.inner_at_once);
        self.ledger.touch(Activations, inner);
        self.ledger.hold(Activations, self.rows(s.d));
    }

    fn loss(&mut self) {
        let s = self.s;
        self.ledger.begin("the loss");
        let head = s.vocabulary * s.d * WIDE;
        let chunk = s.chunk.min(s.tokens);
        self.ledger.hold(Loss, head);
        let logits = chunk * s.vocabulary * WIDE;
        self.ledger.hold(Loss, logits);
        // The next chunk's logits exist beside the last one's gradients.
        let second = if s.tokens > chunk { logits } else { 0.0 };
        self.ledger.touch(Loss, second);
        self.ledger
            .touch(Loss, head + self.weight_workspace(s.vocabulary, s.d, chunk));
        self.ledger.hold(Loss, self.rows(s.d));
        self.ledger.touch(Loss, head);
        self.ledger.free(Loss, logits);
        // The chunks' gradients are joined.
        self.ledger.touch(Loss, self.rows(s.d));
        // What the head read is not needed any more.
        self.ledger.free(Activations, self.rows(s.d));
    }

    /// What the gradient of a weight takes beside itself, summed over `rows`.
    fn weight_workspace(&self, from: f64, to: f64, rows: f64) -> f64 {
        let size = from * to;
        let packed = self.s.threads * PACKED * 0.5;
        match rows >= SPLIT_DEPTH && size <= SMALL {
            true => {
                (rows / PART_ROWS)
                    .floor()
                    .min(PARTS)
                    .min(2.0 * self.s.threads)
                    * size
                    * WIDE
                    + packed
            }
            false => packed,
        }
    }

    /// What the gradient of a weight takes for copies in f32: of both operands, the first of which is transposed
    /// into a copy before, and of the result.
    fn widened(&self, from: f64, to: f64) -> f64 {
        let s = self.s;
        match s.widens {
            true => s.tokens * (from + to) * WIDE + self.rows(from) + from * to * WIDE,
            false => 0.0,
        }
    }

    fn backward(&mut self) {
        let s = self.s;
        self.ledger.begin("the backward pass");
        let head = s.vocabulary * s.d * WIDE;
        // The gradients of hidden states and head are scaled in place and handed on.
        self.ledger.free(Loss, head + self.rows(s.d));
        let embedding = if s.tied { 0.0 } else { head };
        let outside = s.parameters - s.layers as f64 * s.layer_parameters;
        self.ledger.hold(Gradients, outside * WIDE - embedding);
        self.ledger.hold(Activations, self.rows(s.d));
        if s.pre_norm {
            // The last norm changes the gradient in place and then needs its input no more.
            self.ledger.free(Activations, self.rows(s.d));
        }
        for (&recompute, &scores) in s.recompute.iter().zip(&s.scores).rev() {
            if recompute {
                self.ledger.begin("a layer computed again");
                self.layer(scores);
                // Its result is only multiplied with the gradient, whose place it takes.
                self.ledger.free(Activations, self.rows(s.d));
                self.ledger
                    .begin("the backward pass of a layer computed again");
            }
            self.layer_backward(scores);
        }
        self.ledger.begin("the embedding's gradient");
        self.ledger.touch(Gradients, 2.0 * head);
        self.ledger.hold(Gradients, embedding);
        // The gradient of the embedded tokens, and what stayed before the first layer.
        let stayed = [s.embedding_norm, s.dropout].map(u8::from);
        let stayed: u8 = stayed.iter().sum();
        self.ledger
            .free(Activations, self.rows(s.d) * (1.0 + f64::from(stayed)));
        self.ledger
            .free(Attention, s.tables * s.context * s.head * WIDE);
    }

    /// From the gradient of a layer's result, which is held, to that of its input. The result itself is
    /// not there any more; in its stead the input goes at the end.
    fn layer_backward(&mut self, scores: f64) {
        let s = self.s;
        let (d, q, kv, ff) = (s.d, s.queries, s.keys, s.ff);
        let [activations, attention] = self.kept(scores);

        // The feed-forward part: the gradient of its result stays for the residual.
        if s.dropout {
            self.ledger.touch(Activations, self.rows(d));
        }
        let mut feed_forward = self.rows(2.0 * d + ff * s.inner_tensors);
        if s.sub_norm {
            feed_forward += self.rows(ff);
        }
        if s.dropout {
            feed_forward += self.rows(d);
        }
        self.ledger.hold(Activations, self.rows(ff));
        let outer = ff * d * WIDE;
        self.ledger.hold(Gradients, outer);
        let workspace = self.weight_workspace(ff, d, s.tokens) + self.widened(ff, d);
        self.ledger.touch(Workspace, workspace);
        self.ledger
            .touch(Activations, self.rows(ff * s.inner_gradients));
        if s.half && s.sub_norm {
            self.ledger
                .touch(Workspace, s.tokens * ff * WIDE * WIDE_IN_NORM);
        }
        self.ledger.hold(Activations, self.rows(d));
        self.ledger
            .hold(Gradients, s.layer_parameters * WIDE - outer);
        self.ledger.touch(Workspace, workspace);
        self.ledger.free(Activations, self.rows(ff) + feed_forward);
        // The two gradients become one.
        self.ledger.free(Activations, self.rows(d));

        // Attention.
        let rest = activations - feed_forward;
        self.ledger.hold(Activations, self.rows(q));
        let workspace = self.weight_workspace(q, d, s.tokens) + self.widened(q, d);
        self.ledger.touch(Workspace, workspace);
        let gradients = self.rows(q + 2.0 * kv + s.heads);
        self.ledger.hold(Attention, gradients);
        self.ledger.touch(Attention, scores * SCORE_GRADIENT);
        self.ledger.free(Attention, attention);
        self.ledger.free(Activations, self.rows(q));
        self.ledger.touch(Attention, self.rows(q.max(kv)));
        self.ledger.hold(Activations, self.rows(d));
        self.ledger.touch(Activations, self.rows(d));
        self.ledger.free(Attention, gradients);
        self.ledger.free(Activations, self.rows(d) + rest);
    }
}
