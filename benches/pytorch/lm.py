"""A training step of the language model, the same as longnet-train's: MAGNETO's sub-LayerNorm, rotary
positions, exact GELU, a head tied to the embedding, AdamW with clipping of the whole gradient."""

import os
import time

import torch
import torch.nn.functional as F
from torch import nn

import attention
import dilated


class Model(nn.Module):
    def __init__(self, folder, shapes, n, heads, layers, branches, epsilon, theta):
        super().__init__()
        self.heads, self.layers, self.epsilon = heads, layers, epsilon
        given = {}
        for name, shape in shapes.items():
            path = os.path.join(folder, name)
            size = torch.Size(shape).numel()
            given[name] = torch.from_file(path, size=size, dtype=torch.float32).view(shape).clone()

        # Burn keeps [in, out].
        def linear(name, *parts):
            weight = torch.cat([given.pop(f"{part}.weight").T for part in parts]).contiguous()
            bias = torch.cat([given.pop(f"{part}.bias") for part in parts])
            self.set(name + ".weight", weight)
            self.set(name + ".bias", bias)

        def norm(name, part):
            self.set(name + ".weight", given.pop(part + ".gamma"))
            self.set(name + ".bias", given.pop(part + ".beta"))

        self.set("embedding", given.pop("embedding.weight"))
        for i in range(layers):
            at = f"layers.{i}."
            norm(f"{i}.norm1", at + "attention_norm")
            linear(f"{i}.qkv", *(at + "attention." + x for x in ("query", "key", "value")))
            norm(f"{i}.inner1", at + "attention.inner_norm")
            linear(f"{i}.out", at + "attention.output")
            norm(f"{i}.norm2", at + "feed_forward_norm")
            linear(f"{i}.up", at + "feed_forward.inner")
            norm(f"{i}.inner2", at + "feed_forward.norm")
            linear(f"{i}.down", at + "feed_forward.outer")
        norm("norm", "norm")
        if given:
            raise ValueError(f"parameters that the model does not have: {list(given)}")

        width = self.embedding.shape[1] // heads
        frequencies = theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles = torch.arange(n, dtype=torch.float64)[:, None] * frequencies
        rotations = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
        self.register_buffer("rotations", rotations[:, None])
        # Tensors that lie as those of a layer do.
        q, k, dout = (torch.randn(n, heads, width).transpose(0, 1) for _ in range(3))
        v = torch.randn(n, 3, heads, width)[:, 2].transpose(0, 1)
        *self.attention, self.note = attention.fastest_plans(n, heads, branches, q, k, v, dout)

    def set(self, name, value):
        self.register_parameter(name.replace(".", "_"), nn.Parameter(value))

    def get(self, name):
        return getattr(self, name.replace(".", "_"))

    def linear(self, name, x):
        return F.linear(x, self.get(name + ".weight"), self.get(name + ".bias"))

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.get(name + ".weight"), self.get(name + ".bias"), self.epsilon)

    def rotate(self, x):
        """Channel pairs (2i, 2i + 1) of [n, heads, width] as complex numbers."""
        pairs = torch.view_as_complex(x.unflatten(2, (-1, 2)))
        return torch.view_as_real(pairs * self.rotations).flatten(2)

    def layer(self, i, x):
        n, width = x.shape
        qkv = self.linear(f"{i}.qkv", self.norm(f"{i}.norm1", x))
        q, k, v = qkv.view(n, 3, self.heads, -1).unbind(1)
        q, k, v = (t.transpose(0, 1) for t in (self.rotate(q), self.rotate(k), v))
        a = dilated.Function.apply(q, k, v, *self.attention).transpose(0, 1).reshape(n, width)
        x = x + self.linear(f"{i}.out", self.norm(f"{i}.inner1", a))
        h = F.gelu(self.linear(f"{i}.up", self.norm(f"{i}.norm2", x)))
        return x + self.linear(f"{i}.down", self.norm(f"{i}.inner2", h))

    def loss(self, tokens, targets):
        x = F.embedding(tokens, self.embedding)
        for i in range(self.layers):
            x = self.layer(i, x)
        return F.cross_entropy(F.linear(self.norm("norm", x), self.embedding), targets)


class Train:
    def __init__(self, folder, shapes, tokens, model, optimizer, clip):
        self.model = Model(folder, shapes, len(tokens) - 1, **model)
        tokens = torch.tensor(tokens)
        self.inputs, self.targets = tokens[:-1], tokens[1:]
        self.clip = clip
        plain, decaying = [], []
        for name, parameter in self.model.named_parameters():
            is_plain = parameter.dim() < 2 or name == "embedding"
            (plain if is_plain else decaying).append(parameter)
        decay = optimizer.pop("weight_decay")
        groups = [{"params": decaying, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, fused=True, **optimizer)
        count = sum(p.numel() for p in self.model.parameters())
        self.note = f"{count} parameters; {self.model.note}"

    def run(self):
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(self.inputs, self.targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        loss = loss.item()
        return {"seconds": time.perf_counter() - start, "loss": loss}
