"""Dilated attention as well as a PyTorch user can write it: the CPU flash kernel per branch, mixed by lse.

Tensors are [heads, n, d]. A branch (w, r) cuts the sequence into segments of w; head h sees the
positions of a segment that are h mod r, modulo r. Segments and heads are batch dimensions of the kernel.
"""

import torch

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Part:
    """Some heads of one branch, as views [batch, heads, rows, width] of [heads, n, width] tensors."""

    def __init__(self, view, contiguous):
        self.view = view
        self.contiguous = contiguous

    def load(self, x):
        x = self.view(x)
        return x.contiguous() if self.contiguous else x


def offset_view(w, r, o):
    """The heads that have offset o: [segments, heads / r, w / r, width]."""

    def view(x):
        h, n, d = x.shape
        return x.view(h, n // w, w // r, r, d)[o::r, :, :, o].transpose(0, 1)

    return view


def heads_view(w, r, first):
    """r neighbouring heads, one of each offset: [segments, r, w / r, width]."""

    def view(x):
        _, n, d = x.shape
        x = x[first : first + r].view(r, n // w, w // r, r, d)
        return x.diagonal(dim1=0, dim2=3).permute(0, 3, 1, 2)

    return view


def whole(x):
    """[segments, heads, w, width] as [heads, n, width]: a view of what the kernels return, whose memory is
    [segments, w, heads, width], or [segments, heads, w, width] where there is one segment."""
    return x.transpose(0, 1).flatten(1, 2)


def parts(heads, w, r, plan):
    if plan == "heads":
        return [Part(heads_view(w, r, first), False) for first in range(0, heads, r)]
    contiguous = plan == "offsets, copied"
    return [Part(offset_view(w, r, o), contiguous) for o in range(r)]


PLANS = ["offsets", "offsets, copied", "heads"]


class Dilated:
    """Causal attention over branches, in one plan."""

    def __init__(self, n, heads, branches, plan):
        branches = [(min(w, n), r) for w, r in branches]
        for w, r in branches:
            if n % w or w % r or heads % r:
                raise ValueError(f"branch {w} by {r} does not divide n {n} and {heads} heads")
        if branches[0][1] != 1:
            raise ValueError("the first branch must cover every position")
        self.branches = [parts(heads, w, r, plan if r > 1 else "offsets") for w, r in branches]

    def forward(self, q, k, v):
        """(out, lse), [heads, n, d] and [heads, n]."""
        results = []
        lse = None
        for branch in self.branches:
            for part in branch:
                o, l = flash(part.load(q), part.load(k), part.load(v), 0.0, True)
                l = l.unsqueeze(3)
                results.append((part, o, l))
                if lse is None:
                    lse = whole(l).clone()
                else:
                    row = part.view(lse)
                    row.copy_(torch.logaddexp(row, l))
        out = None
        for part, o, l in results:
            weight = (l - part.view(lse)).exp_().to(q.dtype)
            if out is None:
                out = whole(o.mul_(weight))
            else:
                part.view(out).addcmul_(o, weight)
        return out, lse.squeeze(2)

    def backward(self, dout, q, k, v, out, lse):
        """dq, dk, dv. The kernel's delta and softmax come from the merged out and lse, so that each
        branch gives its exact share."""
        total = None
        lse = lse.unsqueeze(2)
        for branch in self.branches:
            for part in branch:
                l = part.view(lse).squeeze(3)
                tensors = [part.load(x) for x in (dout, q, k, v, out)]
                grads = flash_backward(*tensors, l, 0.0, True)
                if total is None:
                    total = [whole(g) for g in grads]
                else:
                    for t, g in zip(total, grads):
                        part.view(t).add_(g)
        return total


class Function(torch.autograd.Function):
    """Differentiable dilated attention, its passes by a Dilated each."""

    @staticmethod
    def forward(ctx, q, k, v, forward, backward):
        out, lse = forward.forward(q, k, v)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.dilated = backward
        return out

    @staticmethod
    def backward(ctx, dout):
        q, k, v, out, lse = ctx.saved_tensors
        return *ctx.dilated.backward(dout, q, k, v, out, lse), None, None
