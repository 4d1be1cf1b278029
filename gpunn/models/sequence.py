"""Recurrent models for the three shapes of use: many to many, many to one, one to many."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.backend import Array, asarray, generator_or_default, get_array_module, to_cpu
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes
from gpunn.functional.record import raw
from gpunn.tensor import Tensor, no_grad, tensor

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
"""The recurrent layers by their names, ``cell`` of :class:`SequenceClassifier` and :class:`CharacterModel`."""


def _recurrent(
    op: str, cell: str, input_size: int, hidden_size: int, num_layers: int, generator: Any, dropout: float = 0.0
) -> Any:
    check(cell in CELLS, ArgumentError, op, f"cell must be one of {', '.join(CELLS)}", cell=cell)
    settings: dict[str, Any] = {"batch_first": True, "dropout": dropout, "generator": generator}
    return CELLS[cell](input_size, hidden_size, num_layers, **settings)


def _vectors(count: int, size: int, generator: np.random.Generator | None) -> nn.Parameter:
    """A learned vector for each of ``count`` symbols."""
    return nn.Parameter(generator_or_default(generator).standard_normal((count, size)).astype(np.float32))


class CharacterModel(nn.Module):
    """Many to many: the character that comes next, after each one of a text.

    ::

        embedding → RNN, LSTM or GRU → linear     indices (N, T) to logits (N, T, len(alphabet))

    ``alphabet`` holds every character once; an index is the place of a character in it. ``model(indices, state)``
    returns the logits and the state for the next call.

    >>> from gpunn.backend import random_generator
    >>> model = CharacterModel("ab ", hidden_size=8, cell="gru", generator=random_generator(0))
    >>> model(model.encode("ab ba")[None])[0].shape
    (1, 5, 3)
    >>> model.generate("a", 4, generator=random_generator(0)) == model.generate("a", 4, generator=random_generator(0))
    True

    Source: A. Graves, "Generating sequences with recurrent neural networks", 2013.
    """

    def __init__(
        self, alphabet: str, embedding_size: int = 64, hidden_size: int = 256, num_layers: int = 1, cell: str = "lstm",
        dropout: float = 0.0, generator: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        op = "CharacterModel"
        once = len(alphabet) > 0 and len(set(alphabet)) == len(alphabet)
        check(once, ArgumentError, op, "alphabet must hold each of its characters once", length=len(alphabet))
        check_sizes(op, embedding_size=embedding_size)
        self.alphabet = alphabet
        self._index = {character: place for place, character in enumerate(alphabet)}
        self.embedding = _vectors(len(alphabet), embedding_size, generator)
        self.recurrent = _recurrent(op, cell, embedding_size, hidden_size, num_layers, generator, dropout)
        self.output = nn.Linear(hidden_size, len(alphabet), generator=generator)

    def encode(self, text: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The index of each character of ``text``; raises ArgumentError for one that is not in the alphabet."""
        unknown = sorted(set(text) - self._index.keys())
        rule = "the text must hold characters of the alphabet only"
        check(not unknown, ArgumentError, "CharacterModel", rule, unknown="".join(unknown[:20]))
        return np.array([self._index[character] for character in text], np.int64)

    def forward(self, indices: Any, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.recurrent(F.embedding(indices, self.embedding), state)
        return self.output(y), state

    def generate(
        self, prompt: str, length: int, temperature: float = 1.0, generator: np.random.Generator | None = None
    ) -> str:
        """``length`` characters that continue ``prompt``, each drawn from softmax(logits / temperature).

        The state is carried from character to character, so a step costs the same however long the text is.
        """
        op = "generate"
        check(len(prompt) > 0, ArgumentError, op, "prompt must hold at least one character", prompt=prompt)
        check_sizes(op, 0, length=length)
        usable = 0 < temperature < float("inf")
        check(usable, ArgumentError, op, "temperature must be above 0 and finite", temperature=temperature)
        generator = generator_or_default(generator)
        written: list[str] = []
        indices, state = self.encode(prompt)[None], None
        with self.evaluating(), no_grad():
            for _ in range(length):
                logits, state = self(asarray(indices, self.embedding.device), state)
                scores = to_cpu(logits.data)[0, -1].astype(np.float64) / temperature
                cumulated = np.exp(scores - scores.max()).cumsum()
                chosen = int(np.searchsorted(cumulated, generator.random() * cumulated[-1], side="right"))
                written.append(self.alphabet[min(chosen, len(self.alphabet) - 1)])
                indices = np.array([[self._index[written[-1]]]])
        return "".join(written)


class SequenceClassifier(nn.Module):
    """Many to one: the class of a sequence, from the last hidden state.

    ::

        RNN, LSTM or GRU → last state of the last layer → linear     (N, T, input_size) to logits (N, classes)

    Sequences of different lengths come as a :class:`gpunn.nn.PackedSequence`.

    >>> SequenceClassifier(8, 16, 10, cell="gru")(np.zeros((2, 5, 8), np.float32)).shape
    (2, 10)
    """

    def __init__(
        self, input_size: int, hidden_size: int, classes: int, num_layers: int = 1, cell: str = "lstm",
        generator: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        self.recurrent = _recurrent("SequenceClassifier", cell, input_size, hidden_size, num_layers, generator)
        self.output = nn.Linear(hidden_size, classes, generator=generator)

    def forward(self, x: Any) -> Tensor:
        _, last = self.recurrent(x)
        h = last[0] if isinstance(last, tuple) else last
        return self.output(h[-1])


class SequenceDecoder(nn.Module):
    """One to many: a sequence of symbols from a vector of features.

    ::

        features → linear, tanh → initial state;  embedding of the symbol before → RNN, LSTM or GRU → linear

    Symbol 0 is the end sign, which stands before the first symbol too. In training ``model(features, symbols)``, for
    features (N, F) and the wanted symbols (N, T), returns logits (N, T, symbols): it is given the wanted symbol before
    each step (teacher forcing). :meth:`decode` is given its own choices.

    >>> model = SequenceDecoder(8, 16, symbols=5)
    >>> features = np.zeros((2, 8), np.float32)
    >>> model(features, np.array([[1, 2, 0], [3, 0, 0]])).shape
    (2, 3, 5)
    >>> model.decode(features, longest=4).shape
    (2, 4)

    Source: I. Sutskever, O. Vinyals, Q. Le, "Sequence to sequence learning with neural networks", 2014.
    """

    def __init__(
        self, features: int, hidden_size: int, symbols: int, embedding_size: int = 16, cell: str = "gru",
        generator: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        check(symbols >= 2, ArgumentError, "SequenceDecoder", "symbols must be at least 2", symbols=symbols)
        self.initial = nn.Linear(features, hidden_size, generator=generator)
        self.embedding = _vectors(symbols, embedding_size, generator)
        self.recurrent = _recurrent("SequenceDecoder", cell, embedding_size, hidden_size, 1, generator)
        self.output = nn.Linear(hidden_size, symbols, generator=generator)

    def _first(self, features: Any) -> Any:
        h = F.tanh(self.initial(features))
        h = h.reshape(1, *h.shape)
        if not isinstance(self.recurrent, nn.LSTM):
            return h
        return h, get_array_module(raw(h)).zeros(h.shape, h.dtype)

    def forward(self, features: Any, symbols: Any) -> Tensor:
        fits = symbols.ndim == 2 and len(symbols) == len(features)
        rule = "symbols must have the dimensions (N, T), with the N of the features"
        check(fits, ShapeError, "SequenceDecoder", rule, symbols=symbols.shape, features=features.shape)
        before = F.concatenate([0 * symbols[:, :1], symbols[:, :-1]], 1)
        y, _ = self.recurrent(F.embedding(before, self.embedding), self._first(features))
        return self.output(y)

    def decode(self, features: Any, longest: int) -> Array:
        """The likeliest symbol at each of ``longest`` steps (N, longest), 0 from the end sign on."""
        check_sizes("decode", longest=longest)
        with self.evaluating(), no_grad():
            state = self._first(tensor(raw(features)))
            xp = get_array_module(raw(features))
            symbols = xp.zeros((len(features), longest), np.int64)
            going, before = xp.ones(len(features), bool), symbols[:, :1]
            for step in range(longest):
                y, state = self.recurrent(F.embedding(before, self.embedding), state)
                chosen = self.output(y).data[:, 0].argmax(1)
                symbols[:, step] = xp.where(going, chosen, 0)
                going &= chosen != 0
                before = symbols[:, step : step + 1]
        return symbols
