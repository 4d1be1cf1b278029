import numpy as np
import oracles
import pytest

from gpunn import nn, tensor
from gpunn.errors import ArgumentError, ShapeError
from gpunn.functional.recurrent import pick, place


def draw(seed):
    rng = np.random.default_rng(4000 + seed)
    n, more = int(rng.integers(1, 6)), tuple(rng.integers(1, 4, rng.integers(0, 3)).tolist())
    lengths = rng.integers(1, 6, n)
    if sorted_ := bool(rng.integers(2)):
        lengths = np.sort(lengths)[::-1].copy()
    return rng, lengths, more, bool(rng.integers(2)), sorted_


def round_trip(lib, make, x, lengths, first, sorted_, longer):
    """The packed rows, what padding them again gives, and the lengths."""
    packed = lib.pack_padded_sequence(x, make(lengths), batch_first=first, enforce_sorted=sorted_)
    return packed, *lib.pad_packed_sequence(packed, batch_first=first, padding_value=-2.0, total_length=longer)


@pytest.mark.peer
def test_packing_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng, lengths, more, first, sorted_ = draw(seed)
        steps = int(lengths.max() + rng.integers(3))  # with steps behind the longest now and then
        x = rng.standard_normal(((len(lengths), steps) if first else (steps, len(lengths))) + more)
        longer = steps if rng.integers(2) else None
        leaf = torch.tensor(x, requires_grad=True)
        theirs, padded, back = round_trip(torch.nn.utils.rnn, torch.tensor, leaf, lengths, first, sorted_, longer)
        gy = rng.standard_normal(tuple(padded.shape))
        padded.backward(torch.tensor(gy))

        def ours(x, gy, lengths=lengths, first=first, sorted_=sorted_, longer=longer):
            mine = tensor(x, requires_grad=True)
            packed, padded, back = round_trip(nn, np.asarray, mine, lengths, first, sorted_, longer)
            padded.backward(gy)
            order = () if sorted_ else (packed.sorted_indices, packed.unsorted_indices)
            return packed.data.data, padded.data, mine.grad, packed.batch_sizes, back, *order

        expected = [theirs.data, padded, leaf.grad, theirs.batch_sizes, back]
        expected += [] if sorted_ else [theirs.sorted_indices, theirs.unsorted_indices]
        mine = run_xp(ours, x, gy)
        for number, (a, b) in enumerate(zip(mine, expected, strict=True)):
            # Sequences of one length may come in another order: the packed rows and the two orders then differ.
            if sorted_ or number not in (0, 5, 6) or len(set(lengths.tolist())) == len(lengths):
                np.testing.assert_array_equal(a, b.detach().numpy(), err_msg=f"{seed} {number}")


@pytest.mark.peer
def test_lists_of_sequences_match_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng, lengths, more, first, sorted_ = draw(seed)
        arrays = [rng.standard_normal((int(length), *more)) for length in lengths]
        leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
        theirs = torch.nn.utils.rnn.pad_sequence(leaves, batch_first=first, padding_value=1.5)
        gy = rng.standard_normal(tuple(theirs.shape))
        theirs.backward(torch.tensor(gy))

        def ours(gy, *arrays, first=first):
            mine = [tensor(a, requires_grad=True) for a in arrays]
            padded = nn.pad_sequence(mine, batch_first=first, padding_value=1.5)
            padded.backward(gy)
            return padded.data, *(leaf.grad for leaf in mine)

        for a, b in zip(run_xp(ours, gy, *arrays), [theirs, *(leaf.grad for leaf in leaves)], strict=True):
            np.testing.assert_array_equal(a, b.detach().numpy(), err_msg=str(seed))
        if sorted_:
            packed = torch.nn.utils.rnn.pack_sequence([leaf.detach() for leaf in leaves])
            np.testing.assert_array_equal(nn.pack_sequence(arrays).data, packed.data.numpy())


@pytest.mark.parametrize("axis", [0, 1])
def test_moves_have_their_gradients(run_xp, axis, rng):
    x, index = rng.standard_normal((5, 4, 3)), np.array([3, 0, 2])
    for forward in (lambda v: pick(v, index, axis), lambda v: place(v, np.array([4, 0, 6, 1, 2]), 7)):

        def backward(gy, forward=forward):
            def gradient(x, gy):
                leaf = tensor(x, requires_grad=True)
                forward(leaf).backward(gy)
                return leaf.grad

            return run_xp(gradient, x, gy)

        oracles.assert_gradient(lambda v, forward=forward: run_xp(forward, v), backward, x, rng)


def test_place_is_the_opposite_of_pick(run_xp, rng):
    x, index = rng.standard_normal((3, 2)), np.array([4, 0, 2])
    y = run_xp(place, x, index, 6, 9.0)
    np.testing.assert_array_equal(y[index], x)
    np.testing.assert_array_equal(np.delete(y, index, 0), np.full((3, 2), 9.0))
    np.testing.assert_array_equal(run_xp(pick, y, index), x)
    leaf = tensor(x, requires_grad=True)
    place(leaf, index, 6).backward(y)
    np.testing.assert_array_equal(leaf.grad, x)


def test_integers_are_packed_too():
    letters = np.array([[1, 2, 3], [4, 5, 0]])
    packed = nn.pack_padded_sequence(tensor(letters), [3, 2], batch_first=True)
    assert packed.data.data.tolist() == [1, 4, 2, 5, 3]
    padded, lengths = nn.pad_packed_sequence(packed, batch_first=True)
    assert (padded.data.tolist(), lengths.tolist()) == (letters.tolist(), [3, 2])
    assert padded.dtype == letters.dtype


def test_errors_name_rule_and_values():
    x = np.ones((4, 3, 2))
    for lengths, settings, error, message in (
        ([5, 2, 1], {}, ArgumentError, r"lengths must lie in 1 to 4, the steps of input, got lengths=\[5, 2, 1\]"),
        ([4, 2, 0], {}, ArgumentError, r"lengths must lie in 1 to 4, .* got lengths=\[4, 2, 0\]"),
        ([2, 4, 1], {}, ArgumentError, r"lengths must not grow .* enforce_sorted=False, got lengths=\[2, 4, 1\]"),
        ([4, 2], {}, ShapeError, "there must be a length for each sequence, got lengths=2, sequences=3"),
        ([4, 2, 1, 1], {"batch_first": True}, ArgumentError, "lengths must lie in 1 to 3"),
    ):
        with pytest.raises(error, match=f"pack_padded_sequence: {message}"):
            nn.pack_padded_sequence(x, lengths, **settings)
    with pytest.raises(ShapeError, match=r"input must have the dimensions \(T, N, ...\), got shape=\(4,\)"):
        nn.pack_padded_sequence(x[:, 0, 0], [4])
    with pytest.raises(ShapeError, match="there must be at least 1 sequence"):
        nn.pack_padded_sequence(x[:, :0], [])
    packed = nn.pack_padded_sequence(x, [4, 2, 1])
    with pytest.raises(
        ArgumentError, match="total_length must be at least the longest length, got total_length=3, longest=4"
    ):
        nn.pad_packed_sequence(packed, total_length=3)
    for function in (nn.pad_sequence, nn.pack_sequence):
        with pytest.raises(ShapeError, match=f"{function.__name__}: there must be at least 1 sequence"):
            function([])
        with pytest.raises(
            ShapeError, match=r"sequence 1 must be like sequence 0 but for its length, got first=\(\(4, 3, 2\)"
        ):
            function([x, x[:, :2]])
    with pytest.raises(ArgumentError, match="pack_padded_sequence: lengths must lie in 1 to 4"):
        nn.pack_sequence([x, x[:0]])
    with pytest.raises(ShapeError, match="sequence 0 must have an axis of steps"):
        nn.pad_sequence([np.ones(())])
