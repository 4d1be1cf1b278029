"""Functions and methods of arrays against PyTorch's, forward and gradient, in random configurations."""

import math

import array_case
import numpy as np
import pytest

from gpunn import functional as F
from gpunn import tensor

BELOW_1, FROM_1, ABOVE_0 = np.tanh, lambda x: 1.1 + x * x, lambda x: 0.1 + x * x
EACH = {
    "acos": BELOW_1, "acosh": FROM_1, "asin": BELOW_1, "asinh": None, "atan": None, "atanh": BELOW_1, "ceil": None,
    "cos": None, "cosh": None, "erf": None, "erfc": None, "exp2": None, "expm1": None, "floor": None, "isfinite": None,
    "isinf": None, "isnan": None, "log10": ABOVE_0, "log1p": ABOVE_0, "log2": ABOVE_0, "nan_to_num": None,
    "ones_like": None, "reciprocal": FROM_1, "round": None, "rsqrt": ABOVE_0, "sign": None, "sin": None, "sinh": None,
    "square": None, "tan": BELOW_1, "trunc": None, "zeros_like": None,
}  # fmt: skip
PAIRS = ["atan2", "fmod", "hypot", "logaddexp", "remainder", "lerp"]


class Settings:
    """What a configuration draws beside its array: axes, numbers, indices, masks."""

    def __init__(self, rng, shape):
        self.axis = int(rng.integers(-3, 3))
        self.other = (self.axis + int(rng.integers(1, 3))) % 3
        self.number = int(rng.integers(-3, 4))
        self.flag = bool(rng.integers(2))
        self.order = tuple(map(int, rng.permutation(3)))
        self.p = float(rng.choice([0.5, 1, 1.5, 2, 3, math.inf, -math.inf, 0]))
        self.size = shape[self.axis]
        self.count = int(rng.integers(1, self.size + 1))
        place = self.axis % 3
        part = [n if a == place else int(rng.integers(1, n + 1)) for a, n in enumerate(shape)]
        self.part = tuple(map(slice, part))
        self.indices = rng.integers(0, self.size, part)
        self.mask = rng.random(shape[1:]) < 0.5


# Of x, an array of three axes, and settings, the same for both; ``to`` makes an array of each kind.
CALLS = {
    "amax": lambda f, x, s, to: f.amax(x, dim=s.axis, keepdim=s.flag),
    "amin": lambda f, x, s, to: f.amin(x, dim=(s.axis, s.other)),
    "argsort": lambda f, x, s, to: f.argsort(x, s.axis, s.flag),
    "broadcast_to": lambda f, x, s, to: f.broadcast_to(x[:, :1], (2, x.shape[0], 3, x.shape[2])),
    "cat": lambda f, x, s, to: f.cat([x, x * x], dim=s.axis),
    "chunk": lambda f, x, s, to: f.chunk(x, 1 + abs(s.number), dim=s.axis)[-1],
    "clone": lambda f, x, s, to: x.clone(),
    "contiguous": lambda f, x, s, to: x.swapaxes(0, 2).contiguous(),
    "cpu": lambda f, x, s, to: x.cpu(),
    "cross": lambda f, x, s, to: f.cross(x, x * x[:1], dim=1),
    "cumprod": lambda f, x, s, to: x.cumprod(dim=s.axis),
    "diagonal": lambda f, x, s, to: f.diagonal(x, s.number // 2, dim1=s.axis, dim2=s.other),
    "div": lambda f, x, s, to: x.div(2 + x * x, rounding_mode="floor" if s.flag else None),
    "dot": lambda f, x, s, to: f.dot(x[0, 0], x[-1, -1]),
    "expand": lambda f, x, s, to: x[:, :, :1].expand(2, -1, -1, 4),
    "flatten": lambda f, x, s, to: f.flatten(x, s.order[0] // 2, 1),
    "floor_divide": lambda f, x, s, to: x + f.floor_divide(x.detach(), 2 + x.detach()),
    "flip": lambda f, x, s, to: f.flip(x, dims=(s.axis, s.other)),
    "full_like": lambda f, x, s, to: f.full_like(x, s.number),
    "gather": lambda f, x, s, to: f.gather(x, s.axis, to(s.indices)),
    "index_select": lambda f, x, s, to: f.index_select(x, s.axis, to(s.indices.reshape(-1))),
    "masked_fill": lambda f, x, s, to: x.masked_fill(to(s.mask), s.number),
    "masked_select": lambda f, x, s, to: f.masked_select(x, to(s.mask)),
    "mean": lambda f, x, s, to: f.mean(x, dim=s.axis, keepdim=s.flag),
    "movedim": lambda f, x, s, to: f.movedim(x, (s.axis, s.other), s.order[:2]),
    "mul": lambda f, x, s, to: x.mul(x[:1]),
    "neg": lambda f, x, s, to: x.neg(),
    "nonzero": lambda f, x, s, to: f.nonzero(x.round(), as_tuple=s.flag),
    "norm": lambda f, x, s, to: f.norm(x, s.p, dim=s.axis, keepdim=s.flag),
    "outer": lambda f, x, s, to: f.outer(x[0, 0], x[:, 0, 0]),
    "permute": lambda f, x, s, to: x.permute(*s.order) if s.flag else f.permute(x, s.order),
    "pow": lambda f, x, s, to: f.pow(1 + x * x, x if s.flag else s.number),
    "prod": lambda f, x, s, to: f.prod(x, dim=s.axis, keepdim=s.flag),
    "reshape": lambda f, x, s, to: f.reshape(x, (x.shape[2], -1)),
    "roll": lambda f, x, s, to: f.roll(x, (s.number, 2), dims=(s.axis, s.other)),
    "round": lambda f, x, s, to: f.round(x, decimals=1),
    "scatter": lambda f, x, s, to: f.scatter(x, s.axis, to(s.indices), s.number),
    "scatter_add": lambda f, x, s, to: f.scatter_add(x, s.axis, to(s.indices), x[s.part] * x[s.part]),
    "searchsorted": lambda f, x, s, to: f.searchsorted(f.sort(x, -1)[0], x, right=s.flag),
    "sort": lambda f, x, s, to: f.sort(x, dim=s.axis, descending=s.flag),
    "squeeze": lambda f, x, s, to: f.squeeze(x[:1], dim=0 if s.flag else (0, 1)),
    "std": lambda f, x, s, to: f.std(x, dim=(s.axis, s.other), correction=int(s.flag)),
    "sub": lambda f, x, s, to: x.sub(x * x, alpha=s.number),
    "sum": lambda f, x, s, to: f.sum(x, dim=(s.axis, s.other), keepdim=s.flag),
    "swapaxes": lambda f, x, s, to: f.swapaxes(x, s.axis, s.other),
    "t": lambda f, x, s, to: x[0].t() if s.flag else x[0, 0].t(),
    "tile": lambda f, x, s, to: f.tile(x, (2, 1 + abs(s.number))),
    "to": lambda f, x, s, to: x.to(x[:1]),
    "topk": lambda f, x, s, to: f.topk(x, s.count, s.axis, s.flag),
    "trace": lambda f, x, s, to: f.trace(x[0]) if s.flag else x[0].trace(),
    "tril": lambda f, x, s, to: f.tril(x, s.number),
    "triu": lambda f, x, s, to: f.triu(x, s.number),
    "unbind": lambda f, x, s, to: f.unbind(x, dim=s.axis)[-1],
    "unsqueeze": lambda f, x, s, to: x.unsqueeze(s.axis),
    "var": lambda f, x, s, to: f.var(x, dim=(s.axis, s.other), correction=int(s.flag)),
    "view": lambda f, x, s, to: x.view(-1, x.shape[1]),
}


@pytest.mark.peer(*EACH, *PAIRS)
def test_each_element_is_pytorchs():
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x = np.asarray(rng.standard_normal(array_case.shape(rng)))
        for name, domain in EACH.items():
            _assert_same(torch, rng, [domain(x) if domain else 2 * x], lambda f, x, to, n=name: getattr(f, n)(x))
        a, b = (np.asarray(rng.standard_normal(shape)) for shape in array_case.broadcast_pair(rng))
        for name in PAIRS:
            more = [np.asarray(rng.random())] if name == "lerp" else []
            _assert_same(torch, rng, [a, 3 + b, *more], lambda f, *x, n=name: getattr(f, n)(*x[:-1]))


@pytest.mark.peer(*CALLS)
def test_functions_of_arrays_are_pytorchs():
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x = np.asarray(rng.standard_normal((rng.integers(2, 5), 3, rng.integers(2, 5))))  # 3 for cross
        settings = Settings(rng, x.shape)
        for call in CALLS.values():
            _assert_same(torch, rng, [x], lambda f, x, to, c=call, s=settings: c(f, x, s, to))


def _assert_same(torch, rng, arrays, call):
    ours = [tensor(np.asarray(a), requires_grad=True) for a in arrays]
    theirs = [torch.tensor(np.asarray(a), requires_grad=True) for a in arrays]
    results, peers = call(F, *ours, tensor), call(torch, *theirs, torch.tensor)
    several = isinstance(results, tuple)
    for y, peer in zip(results if several else [results], peers if several else [peers], strict=True):
        np.testing.assert_allclose(y.data, peer.detach().numpy(), rtol=1e-11, atol=1e-12)
        assert y.dtype == peer.detach().numpy().dtype
        if peer.requires_grad:
            g = np.asarray(rng.standard_normal(y.shape))
            y.backward(g)
            peer.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        expected = np.zeros(b.shape) if b.grad is None else b.grad.numpy()
        actual = np.zeros(a.shape) if a.grad is None else a.grad
        np.testing.assert_allclose(actual, expected, rtol=1e-8, atol=1e-10)
