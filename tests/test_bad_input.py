"""What no function takes: each array and each setting replaced by something else gives an error of gpunn's own."""

import inspect

import numpy as np
import pytest

import gpunn.functional as F
from gpunn import data, nn, optim, tensor
from gpunn.backend import random_generator
from gpunn.data.image_files import ImageFiles
from gpunn.errors import ArgumentError, DtypeError, GpunnError, ShapeError
from gpunn.train import Checkpoint, EarlyStopping, Plots, Trainer, confusion_matrix, evaluate

# ---- every function --------------------------------------------------------------------------------------------------


def ones(*shape):
    return np.ones(shape, np.float32)


SIGNALS, IMAGES, VOLUMES = ones(2, 4, 9), ones(2, 4, 6, 5), ones(2, 4, 4, 3, 2)
ROWS, CLASSES, SIGNS = ones(3, 4), np.array([0, 1, 2]), np.array([1, -1, 1])
BY_RANK = [SIGNALS, IMAGES, VOLUMES]


def cell(gates, *states):
    return *states, ones(gates * 3, 4), ones(gates * 3, 3)


CALLS = {
    **{f"conv{x.ndim - 2}d": (x, ones(6, 4, *(2,) * (x.ndim - 2))) for x in BY_RANK},
    **{f"conv_transpose{x.ndim - 2}d": (x, ones(4, 6, *(2,) * (x.ndim - 2))) for x in BY_RANK},
    **{f"{kind}_pool{x.ndim - 2}d": (x, 2) for x in BY_RANK for kind in ("max", "avg")},
    **{f"adaptive_{kind}_pool{x.ndim - 2}d": (x, 2) for x in BY_RANK for kind in ("max", "avg")},
    **{f"global_{kind}_pool{x.ndim - 2}d": (x,) for x in BY_RANK for kind in ("max", "avg")},
    **{f"max_unpool{x.ndim - 2}d": (x, np.zeros(x.shape, int), 2) for x in BY_RANK},
    **{f"dropout{x.ndim - 2}d": (x,) for x in BY_RANK},
    **{f"lp_pool{x.ndim - 2}d": (x, 2, 2) for x in BY_RANK},
    **{f"fractional_max_pool{x.ndim - 2}d": (x, 1, 2) for x in BY_RANK[1:]},
    "grid_sample": (IMAGES, ones(2, 3, 4, 2)), "affine_grid": (ones(2, 2, 3), (2, 1, 3, 4)),
    "interpolate": (IMAGES, 3), "unfold": (IMAGES, 2), "fold": (ones(2, 4, 9), 4, 2),
    "pixel_shuffle": (IMAGES, 2), "pixel_unshuffle": (ones(2, 3, 4, 6), 2), "channel_shuffle": (IMAGES, 2),
    "scaled_dot_product_attention": (ROWS, ROWS, ones(3, 2)),
    **{f"bias_relu_{order}": (IMAGES, ones(4)) for order in ("pool_lrn", "lrn_pool")},
    "layer_norm": (ROWS, (4,)), "group_norm": (SIGNALS, 2), "instance_norm": (SIGNALS,),
    "batch_norm": (ROWS, ones(4), ones(4)), "local_response_norm": (IMAGES, 5), "dropout": (ROWS,),
    "rnn": (ones(3, 2, 4), *cell(1, ones(2, 3))), "gru": (ones(3, 2, 4), *cell(3, ones(2, 3))),
    "lstm": (ones(3, 2, 4), *cell(4, None)), "lstm_cell": (ones(2, 4), *cell(4, (ones(2, 3), ones(2, 3)))),
    "rnn_cell": (ones(2, 4), *cell(1, ones(2, 3))), "gru_cell": (ones(2, 4), *cell(3, ones(2, 3))),
    "alpha_dropout": (ROWS, 0.5, True), "feature_alpha_dropout": (ROWS, 0.5, True), "threshold": (ROWS, 0.5, 0.0),
    "gumbel_softmax": (ROWS,),
    "prelu": (ROWS, ones(4)),
    "linear": (ROWS, ones(5, 4)), "bilinear": (ROWS, ones(3, 2), ones(5, 4, 2)),
    "embedding": (CLASSES, ones(5, 3)), "embedding_bag": (CLASSES, ones(5, 3), np.array([0, 1])),
    "pad": (ROWS, (1, 1)), "einsum": ("ij,kj", ROWS, ROWS),
    **dict.fromkeys((
        "mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy", "cosine_similarity", "kl_div",
        "binary_cross_entropy_with_logits", "maximum", "minimum", "atan2", "floor_divide", "fmod", "hypot",
        "logaddexp", "remainder", "pow",
    ), (ROWS, ROWS)),
    **dict.fromkeys(("cross_entropy", "nll_loss", "multi_margin_loss"), (ROWS, CLASSES)),
    "matmul": (ROWS, ones(4, 2)), "where": (ROWS > 0, ROWS, ROWS), "clip": (ROWS, 0.0, 1.0),
    "concatenate": ([ROWS, ROWS],), "stack": ([ROWS, ROWS],), "split": (ROWS, 2),
    "hinge_embedding_loss": (ones(3), SIGNS), "cosine_embedding_loss": (ROWS, ROWS, SIGNS),
    "rms_norm": (ROWS, 4), "pairwise_distance": (ROWS, ROWS), "soft_margin_loss": (ones(3), SIGNS),
    "margin_ranking_loss": (ones(3), ones(3), SIGNS), "multilabel_margin_loss": (ones(3), CLASSES),
    "multilabel_soft_margin_loss": (ROWS, ROWS), "poisson_nll_loss": (ROWS, ROWS), "gaussian_nll_loss": (ROWS,) * 3,
    **dict.fromkeys(("triplet_margin_loss", "triplet_margin_with_distance_loss"), (ROWS,) * 3),
    "ctc_loss": (ones(5, 3, 4), CLASSES[:, None] + 1, [5, 5, 5], [1, 1, 1]),
    "lerp": (ROWS, ROWS, ROWS), "cat": ([ROWS, ROWS],), "reshape": (ROWS, (4, 3)), "unsqueeze": (ROWS, 1),
    "permute": (ROWS, (1, 0)), "swapaxes": (ROWS, 0, 1), "movedim": (ROWS, 0, 1), "broadcast_to": (ROWS, (2, 3, 4)),
    "tile": (ROWS, (1, 2)), "chunk": (ROWS, 2), "flip": (ROWS, 0), "roll": (ROWS, 1), "topk": (ROWS, 2),
    "masked_fill": (ROWS, ROWS > 0, 1.0), "masked_select": (ROWS, ROWS > 0), "index_select": (ROWS, 0, CLASSES),
    "gather": (ROWS, 0, CLASSES[:, None]), "scatter": (ROWS, 0, CLASSES[:, None], ROWS),
    "scatter_add": (ROWS, 0, CLASSES[:, None], ROWS), "dot": (ROWS[0], ROWS[0]), "outer": (ROWS[0], ROWS[0]),
    "cross": (ROWS[:, :3], ROWS[:, :3]), "full_like": (ROWS, 1.0), "cumsum": (ROWS, 0), "cumprod": (ROWS, 0),
    "searchsorted": (ROWS[0], ROWS), "atanh": (ROWS / 2,),
    "one_hot": (CLASSES,), "skeletonize": (ROWS > 0,), "to_device": (ROWS, "cpu"),
}  # fmt: skip


def needed(name):
    """The arguments that a function must be given."""
    return [p.name for p in inspect.signature(getattr(F, name)).parameters.values() if p.default is p.empty]


CALLS |= {name: (ROWS,) for name in F.__all__ if name not in CALLS and needed(name) == ["x"]}
WRONG = {"None": None, "text": "abc", "a dict": {}, "objects": np.array([[None, 1]]), "dates": np.zeros(3, "M8[s]")}
OPTIONAL = {("rnn", 1), ("gru", 1)}  # the states, zeros where they are None


def test_every_function_is_in_the_table():
    assert CALLS.keys() == set(F.__all__)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_array_is_refused(name, kind):
    call, args = getattr(F, name), CALLS[name]
    call(*args)
    for place, given in enumerate(args):
        if isinstance(given, np.ndarray) and not (kind == "None" and (name, place) in OPTIONAL):
            with pytest.raises(GpunnError, match=f"{name.rstrip('123d')}.*: .*"):
                call(*args[:place], WRONG[kind], *args[place + 1 :])


def numbers(name):
    """The settings of a function that are numbers, by their defaults."""
    parameters = inspect.signature(getattr(F, name)).parameters.values()
    return [p.name for p in parameters if isinstance(p.default, int | float) and not isinstance(p.default, bool)]


@pytest.mark.parametrize("name", [name for name in CALLS if numbers(name)])
def test_what_is_no_number_is_refused(name):
    given = len(CALLS[name])
    for place, setting in enumerate(inspect.signature(getattr(F, name)).parameters):
        if place >= given and setting in numbers(name):
            for wrong in ("abc", 1j, {}):
                with pytest.raises(GpunnError, match=f"{name}: .*{setting}="):
                    getattr(F, name)(*CALLS[name], **{setting: wrong})


# ---- single ones -----------------------------------------------------------------------------------------------------


def step_with(gradient):
    p = tensor(ones(3), requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = gradient
    try:
        optimizer.step()
    finally:
        assert p.data.tolist() == [1, 1, 1]


X = tensor(ones(2, 3), requires_grad=True)
CASES = {
    "tensor of nothing": (lambda: tensor(None), DtypeError, "data must be numbers, got data=None"),
    "tensor of texts": (lambda: tensor(["a"]), DtypeError, r"data must be numbers, got data=\['a'\]"),
    "tensor of objects": (lambda: tensor(np.array([{}])), DtypeError, "data must be numbers, got dtype='object'"),
    "ragged lists": (lambda: tensor([[1], [1, 2]]), ShapeError, "lists within a list must have one length"),
    "plus text": (lambda: X + "a", DtypeError, "add: operands must be arrays or numbers, got type='str'"),
    "None minus": (lambda: None - X, DtypeError, "subtract: operands must be arrays or numbers, got type='NoneType'"),
    "times a complex number": (lambda: X * 1j, DtypeError, "multiply: operands must be arrays or numbers"),
    "reshape to text": (lambda: X.reshape("a"), ArgumentError, r"reshape: sizes must be integers, got wanted=\('a',\)"),
    "item of several": (lambda: X.item(), ShapeError, r"item: there must be one element, got shape=\(2, 3\)"),
    "ddof": (lambda: X.std(ddof="a"), ArgumentError, "std: ddof must be a number, got ddof='a'"),
    "swapaxes": (lambda: X.swapaxes((0, 1), 0), ShapeError, r"swapaxes: axis must be an integer, got axis=\(0, 1\)"),
    "abs of complex numbers": (lambda: F.abs(np.ones(2) * 1j), DtypeError, "x must hold real numbers"),
    "an equation": (lambda: F.einsum(3, ROWS), ArgumentError, "the equation must be a string, got equation=3"),
    "pieces": (lambda: F.split(ROWS, 1.5), ArgumentError, "pieces must be an integer, or a list of them, got pieces"),
    "an array to stack": (lambda: F.stack(3), ArgumentError, "stack: arrays must be a list or tuple of them"),
    "an ignored class": (
        lambda: F.cross_entropy(ROWS, CLASSES, ignore_index=1.5), ArgumentError, "ignore_index must be an integer, got",
    ),
    "a soft target": (
        lambda: F.cross_entropy(ROWS, 2 * ROWS), ArgumentError, "must lie in 0 to 1, got least=2.0, most=2.0",
    ),
    "a padding row": (
        lambda: F.embedding(CLASSES, ROWS, 0.5), ArgumentError, "padding_idx must lie in -3 to 2, got padding_idx=0.5",
    ),
    "negative alpha": (
        lambda: F.local_response_norm(IMAGES, 5, alpha=-1), ArgumentError, "must be at least 0, got alpha=-1, k=1.0",
    ),
    "momentum": (
        lambda: F.batch_norm(ROWS, training=True, momentum="2"), ArgumentError, "momentum must be a number, got mom",
    ),
    "running mean": (
        lambda: F.instance_norm(SIGNALS, [1, 2, 3, 4]), DtypeError, "running_mean must be a NumPy or CuPy array",
    ),
    "pads of an array": (lambda: F.conv2d(IMAGES, ones(1, 4, 2, 2), padding=ones(2)), ArgumentError, "padding must be"),
    "groups": (lambda: F.conv2d(IMAGES, ones(1, 4, 2, 2), groups=True), ArgumentError, "groups must be an integer"),
    "layer of text": (lambda: nn.Linear("3", 2), ArgumentError, "in_features must be an integer of at least 1, got in"),
    "dropout of text": (lambda: nn.Dropout("0.5"), ArgumentError, "Dropout: p must be a number, got p='0.5'"),
    "hidden size": (lambda: nn.LSTM(3, 4.5), ArgumentError, "LSTM: hidden_size must be an integer of at least 1"),
    "sequence in lists": (lambda: nn.GRU(3, 4)([[1.0]]), DtypeError, "GRU: x must be a NumPy or CuPy array"),
    "state of an LSTM": (
        lambda: nn.GRU(4, 3)(ones(5, 2, 4), (ones(1, 2, 3),) * 2), DtypeError, "GRU: h must be a NumPy or CuPy array",
    ),
    "no lengths": (lambda: nn.pack_padded_sequence(ROWS, None), ArgumentError, "lengths must be integers, one for"),
    "a length of NaN": (
        lambda: nn.pack_padded_sequence(ROWS, [3, np.nan, 1, 1]), ArgumentError, "lengths must be integers, one for",
    ),
    "half a length": (lambda: nn.pack_padded_sequence(ROWS, [3, 2.5, 1, 1]), ArgumentError, "lengths must be integers"),
    "padded as packed": (lambda: nn.pad_packed_sequence(ROWS), DtypeError, "sequence must be a PackedSequence, got"),
    "a sequence of None": (lambda: nn.pad_sequence([None]), DtypeError, "sequence 0 must be a NumPy or CuPy array"),
    "no parameters": (lambda: optim.SGD(None, lr=1), ArgumentError, "SGD: parameters must be a list .*'NoneType'"),
    "a module": (lambda: optim.Adam(nn.Linear(2, 3)), ArgumentError, r"for a module its parameters\(\), got type='Lin"),
    "short gradient": (lambda: step_with(ones(1)), ShapeError, r"of the parameter's shape, got grad=\(1,\), .*=\(3,\)"),
    "listed gradient": (lambda: step_with([1, 2, 3]), ShapeError, "grad must be a raw floating array .* got grad='lis"),
    "integer gradient": (lambda: step_with(CLASSES), ShapeError, "grad must be a raw floating array .* dtype='int64'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_error_says_what_is_wrong(name):
    call, kind, message = CASES[name]
    with pytest.raises(kind, match=message):
        call()


# ---- how many --------------------------------------------------------------------------------------------------------

DATA = data.ArrayDataset(np.arange(8))


def a_trainer(**settings):
    model = nn.Linear(1, 1)
    batches = [np.ones((1, 1), np.float32)]
    return Trainer(
        model, optim.SGD(model.parameters(), lr=0.1), batches, lambda x: (model(tensor(x)).sum(), 1), **settings
    )


COUNTS = {
    "DataLoader: batch_size": lambda n, _: data.DataLoader(DATA, n),
    "DataLoader: workers": lambda n, _: data.DataLoader(DATA, workers=n),
    "DataLoader: prefetch": lambda n, _: data.DataLoader(DATA, prefetch=n),
    "DataLoader: seed": lambda n, _: data.DataLoader(DATA, seed=n),
    "RandomSampler: num_samples": lambda n, _: data.RandomSampler(DATA, num_samples=n),
    "WeightedRandomSampler: num_samples": lambda n, _: data.WeightedRandomSampler([1, 1, 1], n),
    "circles: train": lambda n, _: data.circles(train=n),
    "random_crop: size": lambda n, _: data.random_crop(IMAGES, n, random_generator(0)),
    "ImageFiles: size": lambda n, _: ImageFiles([], n),
    "Trainer: epochs": lambda n, _: a_trainer().run(n),
    "Trainer: accumulate": lambda n, _: a_trainer(accumulate=n),
    "DataLoader: batch_size, of evaluate": lambda n, _: evaluate(nn.Linear(4, 3), ROWS, CLASSES, n),
    "EarlyStopping: patience": lambda n, _: EarlyStopping("test_loss", n),
    "Plots: every": lambda n, folder: Plots(folder, print, every=n),
    "Checkpoint: every_steps": lambda n, folder: Checkpoint(folder, every_steps=n),
    "Checkpoints: keep": lambda n, folder: Checkpoint(folder, keep=n),
    "confusion_matrix: classes": lambda n, _: confusion_matrix(CLASSES[:2], CLASSES[:2], n),
    "Linear: in_features": lambda n, _: nn.Linear(n, 2),
    "Embedding: num_embeddings": lambda n, _: nn.Embedding(n, 2),
}  # fmt: skip


@pytest.mark.parametrize("wrong", [2.0, np.float32(2), "2", True], ids=repr)
@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_an_integer(name, wrong, tmp_path):
    COUNTS[name](np.int64(2), tmp_path)
    with pytest.raises(GpunnError, match=f"{name.partition(',')[0]} must .*(integer|fit)") as caught:
        COUNTS[name](wrong, tmp_path)
    assert repr(wrong) in str(caught.value)


def test_indices_of_a_subset_are_integers():
    for wrong in ([1.7], ["1"], [True, False]):
        with pytest.raises(ArgumentError, match="Subset: indices must be integers, got dtype="):
            data.Subset(DATA, wrong)
    assert len(data.Subset(DATA, [])) == 0
