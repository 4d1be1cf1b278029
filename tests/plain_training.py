"""What a training should hold, kept in plain NumPy beside it: networks, optimizers, schedules, clipping.

Every function takes and gives arrays and numbers, computes in float64, and knows nothing of gpunn.
"""

import math

import numpy as np
from optimizers import BY_NAME, element_rule

# ---- networks -------------------------------------------------------------------------------------------------------


class Interruption(Exception):
    """Of a pass: what a fuse raises, and batch normalisation in training for one value a channel."""


def stream(generator):
    """Where a random generator is, as nested tuples, which can be compared."""
    return _tuples(generator.bit_generator.state)


def _tuples(value):
    if isinstance(value, dict):
        return tuple((name, _tuples(each)) for name, each in value.items())
    return tuple(value.tolist()) if isinstance(value, np.ndarray) else value


def generator_at(place):
    """A generator where :func:`stream` found another."""
    named = dict(place)
    state = named | {"state": {name: np.array(words, np.uint64) for name, words in named["state"]}}
    generator = np.random.Generator(np.random.Philox())
    generator.bit_generator.state = state | {"buffer": np.array(named["buffer"], np.uint64)}
    return generator


def draw(place, count):
    """Uniform numbers of dropout's stream (gpunn/ops/dropout/__init__.py), and where the generator is then."""
    generator = generator_at(place)
    key = int(generator.integers(2**64, dtype=np.uint64))
    return np.random.Generator(np.random.Philox(key=key, counter=0)).random(count), stream(generator)


class Pass:
    """One pass of a batch through ``layers``, (kind, path, settings) each.

    ``arrays`` are the parameters and buffers by name, ``training`` the modes by path, ``streams`` the states of random
    generators by name; of those that a pass changes, ``buffers`` and ``streams`` are the new values.
    """

    def __init__(self, layers, arrays, training, streams):
        self.arrays = {name: np.float64(a) if a.dtype.kind == "f" else a for name, a in arrays.items()}
        self.dtypes = {name: a.dtype for name, a in arrays.items()}
        self.layers, self.training, self.streams = layers, training, dict(streams)
        self.buffers, self.gradients, self.way_back = {}, {}, []

    def forward(self, x, fused=False):
        """The output; with ``fused`` the fuse ends it."""
        for kind, path, settings in self.layers:
            if kind == "fuse":
                if fused:
                    raise Interruption
                continue
            x, back = getattr(self, kind)(x, path, **settings)
            self.way_back.append(back)
        return x

    def backward(self, logits, labels, weight=1.0):
        """The mean cross entropy; ``weight`` times its gradients are added to ``gradients``."""
        n = len(labels)
        shifted = logits - logits.max(1, keepdims=True)
        chances = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
        g = weight * (chances - np.eye(logits.shape[1])[labels]) / n
        for back in reversed(self.way_back):
            g = back(g)
        self.way_back = []
        return float(-np.log(chances[np.arange(n), labels]).mean())

    def add(self, name, g):
        self.gradients[name] = self.gradients.get(name, 0) + g

    def linear(self, x, path, weight=None):
        weight, bias = weight or f"{path}.weight", f"{path}.bias"
        w = self.arrays[weight]

        def back(g):
            self.add(weight, g.T @ x)
            if bias in self.arrays:
                self.add(bias, g.sum(0))
            return g @ w

        return x @ w.T + self.arrays.get(bias, 0), back

    def tanh(self, x, path):
        y = np.tanh(x)
        return y, lambda g: g * (1 - y * y)

    def flatten(self, x, path):
        return x.reshape(len(x), -1), lambda g: g.reshape(x.shape)

    def conv(self, x, path):
        w = self.arrays[f"{path}.weight"]
        size = w.shape[2:]
        windows = np.lib.stride_tricks.sliding_window_view(x, size, (2, 3))
        y = np.einsum("nchwij,ocij->nohw", windows, w) + self.arrays[f"{path}.bias"][:, None, None]

        def back(g):
            self.add(f"{path}.weight", np.einsum("nohw,nchwij->ocij", g, windows))
            self.add(f"{path}.bias", g.sum((0, 2, 3)))
            gx, (height, width) = np.zeros_like(x), g.shape[2:]
            for i, j in np.ndindex(size):
                gx[:, :, i : i + height, j : j + width] += np.einsum("nohw,oc->nchw", g, w[:, :, i, j])
            return gx

        return y, back

    def batch_norm(self, x, path, momentum):
        axes = (0, *range(2, x.ndim))
        shape = (1, -1, *(1,) * (x.ndim - 2))
        mean, var = self.arrays[f"{path}.running_mean"], self.arrays[f"{path}.running_var"]
        learning = self.training[path]
        if learning:
            count = x.size // x.shape[1]
            if count == 1:
                raise Interruption
            batches = self.arrays[f"{path}.num_batches_tracked"] + 1
            share = 1 / batches if momentum is None else momentum
            old = mean, var
            mean, var = x.mean(axes), x.var(axes)
            new = {
                "running_mean": (1 - share) * old[0] + share * mean,
                "running_var": (1 - share) * old[1] + share * var * count / (count - 1),
                "num_batches_tracked": batches,
            }
            self.buffers |= {f"{path}.{name}": value for name, value in new.items()}
            self.arrays |= {f"{path}.{name}": value for name, value in new.items()}
        root = np.sqrt(var + 1e-5).reshape(shape)
        normal = (x - mean.reshape(shape)) / root
        w = self.arrays[f"{path}.weight"].reshape(shape)

        def back(g):
            self.add(f"{path}.weight", (g * normal).sum(axes))
            self.add(f"{path}.bias", g.sum(axes))
            if learning:
                g = g - g.mean(axes).reshape(shape) - normal * (g * normal).mean(axes).reshape(shape)
            return g * w / root

        return w * normal + self.arrays[f"{path}.bias"].reshape(shape), back

    def dropout(self, x, path, p, stream):
        if not self.training[path]:
            return x, lambda g: g
        numbers, self.streams[stream] = draw(self.streams[stream], x.size)
        scale = (numbers >= p).reshape(x.shape) / (1 - p)
        return x * scale, lambda g: g * scale

    def embedding(self, x, path):
        w = self.arrays[f"{path}.weight"]

        def back(g):
            gw = np.zeros_like(w)
            np.add.at(gw, x, g)
            self.add(f"{path}.weight", gw)

        return w[x], back

    def rnn(self, x, path):
        """All steps of (N, T, in), from a state of zeros: (N, T, H)."""
        w, u, b, c = (self.arrays[f"{path}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        states = [np.zeros((len(x), len(w)))]
        for t in range(x.shape[1]):
            states.append(np.tanh(x[:, t] @ w.T + b + states[-1] @ u.T + c))

        def back(g):
            gx, carried = np.zeros_like(x), 0
            for t in reversed(range(x.shape[1])):
                inside = (g[:, t] + carried) * (1 - states[t + 1] ** 2)
                self.add(f"{path}.weight_ih_l0", inside.T @ x[:, t])
                self.add(f"{path}.weight_hh_l0", inside.T @ states[t])
                self.add(f"{path}.bias_ih_l0", inside.sum(0))
                self.add(f"{path}.bias_hh_l0", inside.sum(0))
                gx[:, t], carried = inside @ w, inside @ u
            return gx

        return np.stack(states[1:], 1), back

    def last(self, x, path):
        def back(g):
            gx = np.zeros_like(x)
            gx[:, -1] = g
            return gx

        return x[:, -1], back


# ---- gradients ------------------------------------------------------------------------------------------------------


def clipped_norm(gradients, limit, kind):
    """The norm of all gradients together, and the gradients with a norm of at most ``limit``."""
    if not gradients:
        return 0.0, {}
    everything = np.concatenate([np.abs(np.float64(g)).ravel() for g in gradients.values()])
    norm = everything.max() if kind == math.inf else (everything**kind).sum() ** (1 / kind)
    return norm, {name: np.float64(g) * min(1.0, limit / (norm + 1e-6)) for name, g in gradients.items()}


# ---- optimizers -----------------------------------------------------------------------------------------------------


def moved(kind, p, g, states, steps, settings):
    """A parameter and its states after step number ``steps`` of the optimizer ``kind``."""
    row = BY_NAME[kind]
    others = ("l1", "l2", "maximize", "initial_accumulator_value")
    given = {name: value for name, value in settings.items() if name not in others}
    given |= row.told | ({"steps": steps} if row.counts else {})
    p, g = np.float64(p), np.float64(g)
    if p.ndim > 1:
        g = g + settings["l1"] * np.sign(p) + 2 * settings["l2"] * p
    names = [name for name in row.states if name in states]
    arrays = [a.ravel() for a in (p, g, *(np.float64(states[name]) for name in names))]
    results = row.rule(*arrays, **given) if row.whole else element_rule(row.rule, arrays, **given)
    p, *new = (a.reshape(p.shape) for a in results)
    return p, dict(zip(names, new, strict=True))


def kept(kind, settings):
    """The names of the states that the optimizer keeps with these settings."""
    row = BY_NAME[kind]
    return [name for name in row.states if name not in row.needed_by or settings.get(row.needed_by[name])]


# ---- schedules ------------------------------------------------------------------------------------------------------


def _cosine(start, end, progress):
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def one_cycle(t, low, top, last):
    """From ``low`` to ``top`` and on to ``last``, in nine steps."""
    end = 0.3 * 9 - 1
    return _cosine(low, top, t / end) if t <= end else _cosine(top, last, (t - end) / (8 - end))


# The rate at t of a schedule alone, from L; what makes them is in training_case.
RATES = {
    "step": lambda t, base: base * 0.5 ** (t // 2),
    "milestones": lambda t, base: base * 0.5 ** ((t >= 1) + (t >= 4)),
    "exponential": lambda t, base: base * 0.9**t,
    "linear": lambda t, base: base * (0.25 + 0.75 * min(t, 4) / 4),
    "cosine": lambda t, base: 0.001 + (base - 0.001) * (1 + math.cos(math.pi * t / 5)) / 2,
    "one cycle": lambda t, base: one_cycle(t, 0.1 / 25, 0.1, 0.1 / 25e4),
    "sequential": lambda t, base: base * (0.5 + 0.5 * t / 3 if t < 3 else 0.5 ** (t - 3)),
}


def onward(name, t, rate, base):
    """The rate of a group after the step of a schedule to t, as PyTorch has it; at t = 0 it is made."""
    now, before = (RATES[name](each, 1.0) if each >= 0 else 1.0 for each in (t, t - 1))
    if name == "one cycle" or (name == "sequential" and t in (0, 3)):
        return RATES[name](t, base)
    if name == "cosine" and t > 0:
        if t % 10 == 6:  # the step behind the bottom
            return rate + RATES[name](t, base) - 0.001
        now, before = (RATES[name](each, 1.0) - 0.001 for each in (t, t - 1))
        return 0.001 + (rate - 0.001) * now / before
    return rate if name == "cosine" else rate * now / before
