"""Attention tasks: they read q, k, v, dout from a folder and write out, lse, dq, dk, dv there."""

import os
import time

import torch
import torch.nn.functional as F

import dilated

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def load(folder, name, dtype, shape):
    path = os.path.join(folder, name)
    size = shape[0] * shape[1] * shape[2]
    # A file is mapped privately: nothing is written back.
    return torch.from_file(path, shared=False, size=size, dtype=DTYPES[dtype]).view(shape).clone()


def store(folder, name, tensor):
    tensor = tensor.detach().contiguous().flatten()
    with open(os.path.join(folder, name), "wb") as file:
        file.write(tensor.view(torch.uint8).numpy())


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fastest(candidates):
    """The name and value whose call takes least, of two rounds after one to warm up."""
    times = {name: [] for name in candidates}
    for _ in range(3):
        for name, work in candidates.items():
            times[name].append(seconds(work))
    return min(candidates, key=lambda name: min(times[name][1:]))


def fastest_plans(n, heads, branches, q, k, v, dout=None):
    """Dilated attention in the plans that are fastest here and for tensors that lie so: forward, backward
    (None without dout), and their names."""
    plans = {plan: dilated.Dilated(n, heads, branches, plan) for plan in dilated.PLANS}
    forward = fastest({plan: (lambda x=x: x.forward(q, k, v)) for plan, x in plans.items()})
    note = f"forward: {forward}"
    if dout is None:
        return plans[forward], None, note
    given = (dout, q, k, v, *plans[forward].forward(q, k, v))
    backward = fastest({plan: (lambda x=x: x.backward(*given)) for plan, x in plans.items()})
    return plans[forward], plans[backward], f"{note}, backward: {backward}"


class Task:
    note = ""

    def __init__(self, folder, dtype, heads, n, d):
        self.folder = folder
        shape = (heads, n, d)
        self.q, self.k, self.v, self.dout = (load(folder, x, dtype, shape) for x in ("q", "k", "v", "dout"))

    def run(self):
        return {"seconds": seconds(self.compute)}

    def results(self):
        for name, tensor in zip(("out", "lse", "dq", "dk", "dv"), self.compute()):
            if tensor is not None:
                store(self.folder, "result-" + name, tensor)


class Dense(Task):
    """Causal scaled_dot_product_attention; backward by autograd."""

    def __init__(self, folder, dtype, heads, n, d, both, branches=None):
        super().__init__(folder, dtype, heads, n, d)
        self.both = both
        self.q, self.k, self.v, self.dout = (x.unsqueeze(0) for x in (self.q, self.k, self.v, self.dout))
        if both:
            for x in (self.q, self.k, self.v):
                x.requires_grad_()

    def compute(self):
        out = F.scaled_dot_product_attention(self.q, self.k, self.v, is_causal=True)
        if not self.both:
            return out, None
        return out, None, *torch.autograd.grad(out, (self.q, self.k, self.v), self.dout)


class Dilated(Task):
    """Dilated attention in the plans that are fastest here, forward and backward each."""

    def __init__(self, folder, dtype, heads, n, d, both, branches):
        super().__init__(folder, dtype, heads, n, d)
        self.both = both
        dout = self.dout if both else None
        plans = fastest_plans(n, heads, branches, self.q, self.k, self.v, dout)
        self.forward, self.backward, self.note = plans

    def compute(self):
        out, lse = self.forward.forward(self.q, self.k, self.v)
        if not self.both:
            return out, lse
        return out, lse, *self.backward.backward(self.dout, self.q, self.k, self.v, out, lse)


class Decode(Task):
    """The last position alone, over the keys of its own segments."""

    ROWS = 100

    def __init__(self, folder, dtype, heads, n, d, both, branches):
        super().__init__(folder, dtype, heads, n, d)
        # Heads and keys of each branch that the position is on.
        self.parts = []
        position = n - 1
        for w, r in branches:
            start = position // w * w
            o = (position - start) % r
            self.parts.append((slice(o, heads, r), slice(start + o, n, r)))
        self.row = self.q[:, position:].unsqueeze(0)
        self.k, self.v = self.k.unsqueeze(0), self.v.unsqueeze(0)

    def compute(self):
        results = []
        heads = self.row.shape[1]
        total = torch.full((1, heads, 1), float("-inf"))
        for h, keys in self.parts:
            o, lse = dilated.flash(self.row[:, h], self.k[:, h, keys], self.v[:, h, keys])
            total[:, h] = torch.logaddexp(total[:, h], lse)
            results.append((h, o, lse))
        out = torch.zeros_like(self.row)
        for h, o, lse in results:
            out[:, h] += o * (lse - total[:, h]).exp().unsqueeze(3).to(o.dtype)
        return out, total

    def run(self):
        def rows():
            for _ in range(self.ROWS):
                self.compute()

        return {"seconds": seconds(rows) / self.ROWS}
