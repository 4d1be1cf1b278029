"""The models of sequences: shapes, what they can learn, what they refuse."""

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import nn, optim, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, ShapeError
from gpunn.models import CharacterModel, SequenceClassifier, SequenceDecoder
from gpunn.tensor import no_grad

CELLS = ["rnn", "lstm", "gru"]


def train(model, loss, steps, lr=0.02):
    adam = optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        adam.zero_grad()
        value = loss()
        value.backward()
        adam.step()
    return value.item()


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_a_character_model_learns_a_text_by_heart(cell):
    text = "the quick brown fox jumps. " * 2
    model = CharacterModel("".join(sorted(set(text))), 8, 32, cell=cell, generator=random_generator(0))
    indices = model.encode(text)[None]

    def loss():
        return F.cross_entropy(model(indices[:, :-1])[0].reshape(-1, len(model.alphabet)), indices[0, 1:])

    assert train(model, loss, 120) < 0.2
    assert model.generate("the q", 26, 0.01, random_generator(0)) == "uick brown fox jumps. the "


def test_the_state_carries_a_text_on():
    model = CharacterModel("abc", 4, 8, 2, "lstm", generator=random_generator(0))
    indices = np.array([[0, 1, 2, 2, 1, 0]])
    whole, (h, c) = model(indices)
    first, state = model(indices[:, :2])
    second, (h2, c2) = model(indices[:, 2:], state)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], 1), whole.data, atol=1e-6)
    np.testing.assert_allclose((h2.data, c2.data), (h.data, c.data), atol=1e-6)


def test_generate_draws_from_the_softmax():
    model = CharacterModel("abc", 4, 8, generator=random_generator(0))
    with no_grad():
        scores = model(model.encode("a")[None])[0].data[0, -1].astype(float)
    generator = random_generator(1)
    for temperature in (0.5, 2.0):
        share = np.exp(scores / temperature) / np.exp(scores / temperature).sum()
        drawn = [model.generate("a", 1, temperature, generator) for _ in range(2000)]
        # Three standard deviations of a share of 2,000 draws are at most 0.034.
        np.testing.assert_allclose([drawn.count(c) / 2000 for c in "abc"], share, atol=0.034)
    model.train()
    assert model.generate("ab", 0) == ""
    assert model.training


def test_a_sample_is_the_same_for_the_same_generator():
    model = CharacterModel("abcd", 4, 8, cell="gru", generator=random_generator(0))
    one, two, other = (model.generate("ab", 50, 1.0, random_generator(seed)) for seed in (1, 1, 2))
    assert one == two != other
    assert len(one) == 50


@pytest.mark.parametrize("cell", CELLS)
def test_a_classifier_reads_sequences_of_any_length(cell, rng):
    model = SequenceClassifier(3, 8, 4, num_layers=2, cell=cell, generator=random_generator(0))
    sequences = [tensor(rng.standard_normal((length, 3)).astype(np.float32)) for length in (2, 5, 1)]
    packed = model(nn.pack_sequence(sequences, enforce_sorted=False))
    for row, sequence in zip(packed.data, sequences, strict=True):
        np.testing.assert_allclose(row, model(sequence.data[None]).data[0], atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_decoder_learns_words_and_ends_them(cell):
    model = SequenceDecoder(3, 16, 4, cell=cell, generator=random_generator(0))
    features, words = np.eye(3, dtype=np.float32), np.array([[1, 2, 3, 0], [2, 0, 0, 0], [3, 3, 0, 0]])

    def loss():
        return F.cross_entropy(model(tensor(features), words).reshape(-1, 4), words.reshape(-1))

    assert train(model, loss, 150) < 0.05
    np.testing.assert_array_equal(model.decode(features, 4), words)
    np.testing.assert_array_equal(model.decode(tensor(features), 2), words[:, :2])


def test_nothing_is_decoded_behind_the_end_sign():
    model = SequenceDecoder(2, 4, 3, generator=random_generator(0))
    model.output.bias.data[...] = [9, 0, 0]  # ends at once
    assert not model.decode(np.ones((2, 2), np.float32), 5).any()


def test_models_refuse_bad_settings_and_inputs():
    for alphabet in ("", "aba"):
        with pytest.raises(ArgumentError, match="CharacterModel: alphabet must hold each of its characters once"):
            CharacterModel(alphabet)
    with pytest.raises(ArgumentError, match="embedding_size must be an integer of at least 1, got embedding_size=0"):
        CharacterModel("ab", 0)
    with pytest.raises(ArgumentError, match="SequenceClassifier: cell must be one of rnn, lstm, gru, got cell='cnn'"):
        SequenceClassifier(2, 3, 4, cell="cnn")
    with pytest.raises(ArgumentError, match="SequenceDecoder: symbols must be at least 2, got symbols=1"):
        SequenceDecoder(2, 3, 1)
    model = CharacterModel("ab", 2, 3)
    for args, message in (
        (("", 1), "prompt must hold at least one character, got prompt=''"),
        (("a", -1), "length must be an integer of at least 0, got length=-1"),
        (("a", 1, 0.0), "temperature must be above 0 and finite, got temperature=0.0"),
        (("a", 1, float("nan")), "temperature must be above 0"),
        (("axb", 1), "the text must hold characters of the alphabet only, got unknown='x'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.generate(*args)
    decoder = SequenceDecoder(2, 3, 4)
    with pytest.raises(ShapeError, match=r"symbols must have the dimensions \(N, T\), .*got symbols=\(3, 2\)"):
        decoder(np.ones((2, 2), np.float32), np.zeros((3, 2), int))
    with pytest.raises(ArgumentError, match="decode: longest must be an integer of at least 1, got longest=0"):
        decoder.decode(np.ones((2, 2), np.float32), 0)
