"""PyTorch's attention on a GPU, on the problems of `cargo xtask bench cuda` and under the same names.

Dense causal attention is FlashAttention-2 by scaled_dot_product_attention. Dilated attention is as fast as a user
can write it: FlashAttention-2 on strided views of each branch, mixed by logsumexp, and a backward pass that hands
the merged out and logsumexp to the kernel, so that each branch gives its exact share of the gradients.

    python3 gpu.py --out torch.json            measure on the GPU
    python3 gpu.py --check                     compare with dense masked attention in f64, small sizes
    python3 gpu.py --check --device cpu        the same with the CPU's flash kernel
    python3 gpu.py --beside ours.json          print the speeds of an earlier --out beside ours

Needs torch with CUDA and nothing else. Tensors are [heads, n, d]; batch is 1.
"""

import argparse
import json
import math
import re
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
# Heads times head size, LongNet's branches and the lengths: those of benches/src/cases/cuda.rs.
MODEL = 1024
BRANCHES = [(2048, 1), (4096, 2), (8192, 4)]
LENGTHS = [8192, 32768, 131072]
DENSE = 8192
LONGEST = range(18, 21)


def flash(q, k, v):
    """Causal attention of [batch, heads, rows, d]: out, logsumexp [batch, heads, rows] in f32, and what the
    backward pass wants besides."""
    if q.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, True)
        return out, lse, ()
    out, lse, *rest = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True)
    # Rows are padded in some versions.
    return out, lse[:, :, : q.shape[2]], rest[:6]


def flash_backward(dout, q, k, v, out, lse, rest):
    """dq, dk, dv, given any out and lse: the kernel takes D and the softmax from them."""
    if q.device.type == "cpu":
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return backward(dout, q, k, v, out, lse, 0.0, True)
    backward = torch.ops.aten._scaled_dot_product_flash_attention_backward
    seq_q, seq_k, max_q, max_k, seed, offset = rest
    return backward(dout, q, k, v, out, lse, seq_q, seq_k, max_q, max_k, 0.0, True, seed, offset)


def head_group(w, r, o):
    """The rows that the heads with offset o see in each segment: [segments, heads / r, w / r, width]."""

    def view(x):
        h, n, d = x.shape
        return x.view(h, n // w, w // r, r, d)[o::r, :, :, o].transpose(0, 1)

    return view


def neighbours(w, r):
    """All heads in one call: head i * r + o on residue o, [segments, heads, w / r, width]. Copies."""

    def view(x):
        h, n, d = x.shape
        x = x.view(h // r, r, n // w, w // r, r, d).diagonal(dim1=1, dim2=4)
        # [heads / r, segments, w / r, d, r] with r last.
        return x.permute(1, 0, 4, 2, 3)

    return view


class Groups:
    """A call for each head group of a branch, on views."""

    def __init__(self, w, r, copied):
        self.views = [head_group(w, r, o) for o in range(r)]
        self.copied = copied

    def load(self, x):
        return [view(x).contiguous() if self.copied else view(x) for view in self.views]

    def write(self, x, parts, into):
        for view, part in zip(self.views, parts):
            into(view(x), part)


class Together:
    """One call for a branch: the head groups are gathered into one tensor."""

    copied = True

    def __init__(self, w, r):
        self.view = neighbours(w, r)

    def load(self, x):
        return [self.view(x).flatten(1, 2)]

    def write(self, x, parts, into):
        view = self.view(x)
        into(view, parts[0].reshape(view.shape))


PLANS = {
    "one call a head group, views": lambda w, r: Groups(w, r, False),
    "one call a head group, copies": lambda w, r: Groups(w, r, True),
    "one call a branch, gathered": Together,
}


class Dilated:
    """Causal attention over branches, in one plan."""

    def __init__(self, n, heads, branches, plan):
        branches = [(min(w, n), r) for w, r in branches]
        for w, r in branches:
            if n % w or w % r or heads % r:
                raise ValueError(f"branch {w} by {r} does not divide n {n} and {heads} heads")
        if branches[0][1] != 1:
            raise ValueError("the first branch must cover every position")
        make = PLANS[plan]
        self.branches = [Groups(w, 1, False) if r == 1 else make(w, r) for w, r in branches]

    def forward(self, q, k, v):
        """out, lse [heads, n], and what the backward pass wants of each branch."""
        results, kept, lse = [], [], None
        for branch in self.branches:
            outs, lses = [], []
            for part in zip(branch.load(q), branch.load(k), branch.load(v)):
                out, l, rest = flash(*part)
                outs.append(out)
                lses.append(l.unsqueeze(3))
            # Lengths of rows, and of a random state that is not used without dropout: the same for all calls.
            kept.append(rest)
            results.append((outs, lses))
            if lse is None:
                lse = torch.empty((*q.shape[:2], 1), dtype=lses[0].dtype, device=q.device)
                branch.write(lse, lses, lambda to, x: to.copy_(x))
            else:
                branch.write(lse, lses, lambda to, x: to.copy_(torch.logaddexp(to, x)))
        merged = torch.empty_like(v)
        for index, (branch, (outs, lses)) in enumerate(zip(self.branches, results)):
            total = branch.load(lse)
            weighted = []
            for out, l, t in zip(outs, lses, total):
                weighted.append(out * (l - t).exp_().to(out.dtype))
            if index == 0:
                branch.write(merged, weighted, lambda to, x: to.copy_(x))
            else:
                branch.write(merged, weighted, lambda to, x: to.add_(x))
        return merged, lse.squeeze(2), kept

    def backward(self, dout, q, k, v, out, lse, kept):
        """dq, dk, dv: the sum of what the branches give."""
        lse = lse.unsqueeze(2)
        total = [torch.empty_like(x) for x in (q, k, v)]
        for index, (branch, rest) in enumerate(zip(self.branches, kept)):
            loaded = [branch.load(x) for x in (dout, q, k, v, out)]
            lses = [l.squeeze(3).contiguous() for l in branch.load(lse)]
            parts = [flash_backward(*x, l, rest) for *x, l in zip(*loaded, lses)]
            for x, gradient in zip(total, zip(*parts)):
                if index == 0:
                    branch.write(x, gradient, lambda to, g: to.copy_(g))
                else:
                    branch.write(x, gradient, lambda to, g: to.add_(g))
        return total


class Function(torch.autograd.Function):
    """Differentiable dilated attention: forward by one plan, backward by another."""

    @staticmethod
    def forward(ctx, q, k, v, forward, backward):
        out, lse, kept = forward.forward(q, k, v)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.plan, ctx.kept = backward, kept
        return out

    @staticmethod
    def backward(ctx, dout):
        q, k, v, out, lse = ctx.saved_tensors
        return *ctx.plan.backward(dout, q, k, v, out, lse, ctx.kept), None, None


def dense_flash(q, k, v):
    """FlashAttention-2; in f32, which it does not take, the memory-efficient kernel."""
    if q.device.type == "cpu":
        return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    backend = SDPBackend.EFFICIENT_ATTENTION if q.dtype == torch.float32 else SDPBackend.FLASH_ATTENTION
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]


def counts(heads, n, branches):
    """[heads, n, n]: how many branches show a query a key, by the definition."""
    i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
    head = torch.arange(heads)[:, None, None]
    total = torch.zeros(heads, n, n, dtype=torch.float64)
    for w, r in branches:
        same = (i // w == j // w) & (j <= i)
        residue = head % r
        total += same & ((i % w) % r == residue) & ((j % w) % r == residue)
    return total


def reference(q, k, v, branches):
    """The definition, in f64."""
    weights = counts(q.shape[0], q.shape[1], branches).to(q.device)
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2]) + weights.log()
    return scores.softmax(2) @ v


def visited(n, heads, branches):
    """Pairs over all heads."""
    total = 0
    for w, r in branches:
        w = min(w, n)
        rows = w // r
        # Each head sees one residue of a segment.
        total += heads * (n // w) * rows * (rows + 1) // 2
    return total


def flops(n, heads, d, branches, both):
    """Two products forward, five backward."""
    return visited(n, heads, branches) * 4 * d * (3.5 if both else 1.0)


def relative(got, want):
    return ((got.double() - want).norm() / want.norm()).item()


def inputs(heads, n, d, dtype, device, seed=0):
    generator = torch.Generator(device=device).manual_seed(seed)
    make = lambda: torch.randn(heads, n, d, generator=generator, device=device, dtype=torch.float32)
    return [make().to(dtype) for _ in range(4)]


def gradients(function, q, k, v, dout):
    q, k, v = (x.detach().clone().requires_grad_() for x in (q, k, v))
    out = function(q, k, v)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), dout)]


def combinations(n, heads, branches, both):
    """Dilated attention as functions of q, k, v: every plan, with every plan for the backward pass."""
    plans = {plan: Dilated(n, heads, branches, plan) for plan in PLANS}
    if not both:
        return {note: lambda q, k, v, x=x: x.forward(q, k, v)[0] for note, x in plans.items()}
    return {
        f"{a}; backward: {b}": lambda q, k, v, x=x, y=y: Function.apply(q, k, v, x, y)
        for a, x in plans.items()
        for b, y in plans.items()
    }


def check(device, dtypes):
    """Every plan and dense attention against the definition. Exits with an error where one is off."""
    cases = [
        (4, 64, 16, [(16, 1), (32, 2), (64, 4)]),
        (8, 256, 64, [(64, 1), (128, 2), (256, 4)]),
        (4, 384, 128, [(32, 1), (64, 2), (128, 4)]),
        (2, 128, 64, [(128, 1)]),
    ]
    failed = False
    for dtype in dtypes:
        # Of half precision: some roundings of each branch's result and of their sum.
        limit = {"f32": 1e-5, "f16": 8 / 2048, "bf16": 8 / 256}[dtype]
        for heads, n, d, branches in cases:
            q, k, v, dout = inputs(heads, n, d, DTYPES[dtype], device)
            wide = [x.double() for x in (q, k, v)]
            want = gradients(lambda q, k, v: reference(q, k, v, branches), *wide, dout.double())
            functions = {}
            if not (device == "cuda" and dtype == "f32"):
                functions = combinations(n, heads, branches, True)
            if branches == [(n, 1)]:
                functions["dense"] = dense_flash
            for name, function in functions.items():
                got = gradients(function, q, k, v, dout)
                errors = [relative(g, w) for g, w in zip(got, want)]
                right = all(error <= limit for error in errors)
                failed |= not right
                errors = " ".join(f"{error:.1e}" for error in errors)
                print(f"{'ok' if right else 'WRONG'}: {dtype} h {heads} n {n} d {d}, {name}: out dq dk dv {errors}")
    if failed:
        sys.exit("the results are wrong")


def measure(work, device, budget, most):
    """Seconds of each run. On a GPU each is timed by events."""
    work()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    once = time.perf_counter() - start
    times = []
    for _ in range(max(3, min(most, int(budget / once)))):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
    return times


class Report:
    def __init__(self, device):
        self.device, self.cases = device, []

    def case(self, name, who, flops, n, works, budget, most):
        """A row of the fastest of works, functions by name."""
        best, why = None, []
        for note, work in works.items():
            try:
                if self.device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                times = measure(work, self.device, budget, most)
            except (RuntimeError, ValueError) as error:
                why.append(f"{note}: {str(error).splitlines()[0]}")
                if self.device == "cuda":
                    torch.cuda.empty_cache()
                continue
            median = statistics.median(times)
            if best is None or median < best["median_seconds"]:
                best = {"median_seconds": median, "seconds": sorted(times), "note": note}
                if self.device == "cuda":
                    best["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        row = {"who": who, "flops": flops, "tokens": n, "failed": why}
        if best:
            row |= best | {"gflops": flops / best["median_seconds"] / 1e9}
            text = f"{best['median_seconds'] * 1e3:.3f} ms, {row['gflops'] / 1e3:.1f} TFLOP/s, {best['note']}"
        else:
            text = "; ".join(why)
        print(f"{name}: {who}: {text}", flush=True)
        self.cases.append({"name": name, "rows": [row]})
        return best is not None


def passes(report, kind, who, dtype, d, n, branches, functions, options, both_only=False):
    """The cases of a problem, named as those of the Rust program."""
    heads = options.model // d
    q, k, v, dout = inputs(heads, n, d, DTYPES[dtype], report.device)
    leaves = [x.detach().clone().requires_grad_() for x in (q, k, v)]
    fine = True
    for both in [True] if both_only else [False, True]:

        def work(function):
            if not both:
                with torch.no_grad():
                    return function(q, k, v)
            return torch.autograd.grad(function(*leaves), leaves, dout)

        works = {note: lambda f=f: work(f) for note, f in functions(heads, both).items()}
        name = f"cuda {kind} {dtype} d {d} n {n}, {'forward+backward' if both else 'forward'}"
        total = flops(n, heads, d, branches, both)
        fine = report.case(name, who, total, n, works, options.seconds, options.runs)
    return fine


def bench(options):
    device = options.device
    report = Report(device)

    def dilated(n):
        return lambda heads, both: combinations(n, heads, options.branches, both)

    for d in (64, 128):
        for dtype in ("bf16", "f32"):
            who = "FlashAttention-2, dense" if dtype != "f32" else "memory-efficient attention, dense"
            dense = lambda heads, both: {"scaled_dot_product_attention": dense_flash}
            passes(report, "dense", who, dtype, d, options.dense, [(options.dense, 1)], dense, options)
        for n in options.lengths:
            # FlashAttention-2 has no f32.
            passes(report, "dilated", "PyTorch", "bf16", d, n, options.branches, dilated(n), options)
    for d in (64, 128):
        for n in options.longest:
            try:
                fine = passes(
                    report, "longest", "PyTorch", "bf16", d, n, options.branches, dilated(n), options, both_only=True
                )
            except RuntimeError as error:
                print(f"longest bf16 d {d} n {n}: {str(error).splitlines()[0]}")
                fine = False
            if not fine:
                break
    machine = {"torch": torch.__version__, "cuda": torch.version.cuda, "device": device}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        machine["gpu"] = properties.name
        machine["memory_gib"] = properties.total_memory / 2**30
    result = {"machine": machine, "cases": report.cases}
    with open(options.out, "w") as file:
        json.dump(result, file, indent=2)
    print(options.out)


def beside(ours, theirs):
    """A table of TFLOP/s on visited FLOPs: ours, PyTorch's on the same problem, and ours over dense
    FlashAttention-2 of that head size."""

    def load(path):
        with open(path) as file:
            return {case["name"]: case["rows"] for case in json.load(file)["cases"]}

    ours, theirs = load(ours), load(theirs)

    def speed(rows, who=""):
        rows = [row for row in rows or [] if row["who"].startswith(who) and row.get("gflops")]
        return rows[0]["gflops"] / 1e3 if rows else None

    show = lambda x, text: "-" if x is None else format(x, text)
    print(f"{'TFLOP/s':55} {'ours':>8} {'PyTorch':>8} {'ours/it':>8} {'ours/FA-2':>9}")
    for name, rows in ours.items():
        a, b = speed(rows, "ours"), speed(theirs.get(name))
        # "cuda KIND DTYPE d D n N, PASS": the dense case of that type, head size and pass.
        same = re.fullmatch(r"cuda \w+ (\w+ d \d+) n \d+, (.*)", name)
        same = re.compile(rf"cuda dense {same[1]} n \d+, {re.escape(same[2])}") if same else None
        dense = [speed(rows, "FlashAttention-2") for x, rows in theirs.items() if same and same.fullmatch(x)]
        dense = dense[0] if dense else None

        def over(y):
            return None if a is None or y is None else a / y

        print(f"{name:55} {show(a, '8.1f'):>8} {show(b, '8.1f'):>8} {show(over(b), '8.2f'):>8} {show(over(dense), '9.2f'):>9}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--check", action="store_true", help="compare with the definition, measure nothing")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything runs")
    parser.add_argument("--out", default="torch.json", help="the JSON file to write, or to read for --beside")
    parser.add_argument("--beside", metavar="JSON", help="print the speeds of --out beside those of this file")
    options = parser.parse_args()
    if options.beside:
        return beside(options.beside, options.out)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch has no CUDA device here")
    if options.check:
        return check(options.device, ["f32", "bf16"] if options.device == "cpu" else ["f32", "bf16", "f16"])
    options.model, options.branches, options.dense = MODEL, BRANCHES, DENSE
    options.lengths, options.longest = LENGTHS, [1 << bits for bits in LONGEST]
    options.seconds, options.runs = 1.0, 50
    if options.quick:
        options.branches, options.dense = [(128, 1), (256, 2), (512, 4)], 512
        options.lengths, options.longest, options.seconds = [1024], [2048], 0.1
    bench(options)


if __name__ == "__main__":
    main()
