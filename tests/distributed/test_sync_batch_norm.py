"""Batch normalisation by the batches of all ranks, against that of one process with all of them."""

import copy
import sys

import numpy as np
import pytest
from ranks import needs_mpirun, run_ranks

from gpunn import distributed, nn, optim, tensor
from gpunn.distributed import SyncBatchNorm, convert
from gpunn.errors import ArgumentError, ShapeError
from gpunn.interop import onnx
from gpunn.train import Trainer

EQUAL = """
    import itertools, sys
    import ml_dtypes, numpy as np
    from gpunn import backend, distributed, nn, tensor

    device, few = sys.argv[1], sys.argv[2] == "few"
    world = distributed.init(device)
    n, rank = world.size, world.rank
    rng = np.random.default_rng(0)
    cases = {
        nn.BatchNorm1d: [(6,), (3, 7)], nn.BatchNorm2d: [(5, 4, 4), (2, 40, 40)], nn.BatchNorm3d: [(3, 2, 3, 2)],
    }
    shares = [[2] * n, [5, 2, 1, 3][:n], [0, 3, 1, 0][:n], [1, 1, 0, 0][:n]]
    settings = [{}, {"affine": False}, {"bias": False}, {"momentum": None}, {"track_running_stats": False}]
    settings = [{"relu": relu, **each} for each in settings for relu in (False, True)]
    dtypes = {np.float32: 1e-5, np.float64: 1e-12, np.float16: 4e-3, ml_dtypes.bfloat16: 3e-2}
    chosen = list(itertools.product(dtypes, settings, shares))[:: 7 if few else 1]

    def assert_near(actual, expected, tolerance, what):
        a, e = (np.asarray(backend.to_cpu(x), np.float64) for x in (actual, expected))
        assert a.shape == e.shape and np.abs(a - e).max(initial=0) <= tolerance * max(1, np.abs(e).max(initial=0)), (
            what, a, e)

    for dtype, setting, share in chosen:
        for kind, shapes in cases.items():
            for shape in shapes:
                what, tolerance = (kind.__name__, shape, dtype, setting, share), dtypes[dtype]
                channels, ends = shape[0], np.cumsum(share)
                mine = slice(ends[rank] - share[rank], ends[rank])
                one = kind(channels, dtype=dtype, **setting)
                for parameter in one.parameters():
                    parameter.data[...] = rng.normal(1, 0.5, channels)
                two = distributed.convert(kind(channels, dtype=dtype, **setting), world).to(world.device)
                two.load_state_dict(one.state_dict())
                offset = rng.normal(0, 3, (channels, *[1] * (len(shape) - 1)))
                for step in range(2):
                    x, gy = rng.normal(size=(2, sum(share), *shape))
                    x, gy = ((x + offset) * (1 + step)).astype(dtype), gy.astype(dtype)
                    whole = tensor(x, requires_grad=True)
                    y = one(whole)
                    y.backward(gy)
                    with backend.use_device(world.device):
                        part = tensor(backend.asarray(x[mine].copy(), world.device), requires_grad=True)
                        z = two(part)
                        z.backward(backend.asarray(gy[mine].copy(), world.device))
                    assert_near(z.data, y.data[mine], tolerance, what)
                    assert_near(part.grad, whole.grad[mine], tolerance, what)
                    for (name, p), q in zip(two.named_parameters(), one.parameters(), strict=True):
                        wide = np.asarray(backend.to_cpu(p.grad), np.float64)
                        assert_near(world.all_reduce(wide), q.grad, 4 * tolerance, (name, *what))
                        p.grad = q.grad = None
                    assert two.state_dict().keys() == one.state_dict().keys()
                    for name, array in one.state_dict().items():
                        own = backend.to_cpu(two.state_dict()[name])
                        assert_near(own, array, tolerance, (name, *what))
                        assert len({a.tobytes() for a in world.all_gather(own)}) == 1
                if setting.get("track_running_stats", True):
                    one.eval(), two.eval()
                    with backend.use_device(world.device):
                        z = two(tensor(backend.asarray(x[mine], world.device)))
                    assert_near(z.data, one(tensor(x)).data[mine], tolerance, what)

    layer = distributed.SyncBatchNorm(3, momentum=None, world=world)
    x = tensor(np.zeros((0, 3, 2), np.float32), requires_grad=True)
    y = layer(x)
    y.backward(np.zeros((0, 3, 2), np.float32))
    assert y.shape == x.grad.shape == (0, 3, 2) and layer.num_batches_tracked.item() == 0
    try:
        layer(np.zeros((int(rank == 0), 3), np.float32))
    except Exception as error:
        assert "training needs more than one value a channel" in str(error)
        print("equal")
"""


@pytest.mark.distributed
@needs_mpirun
def test_it_is_batch_norm_of_the_whole_batch():
    assert run_ranks(2, EQUAL, "cpu", "few").out.split() == ["equal"] * 2


@pytest.mark.distributed
@pytest.mark.slow
@needs_mpirun
@pytest.mark.parametrize(("count", "onednn"), [(2, "auto"), (2, "off"), (4, "auto")])
def test_it_is_batch_norm_of_the_whole_batch_in_all_cases(count, onednn):
    settings = {"GPUNN_ONEDNN": "off"} if onednn == "off" else {}
    assert run_ranks(count, EQUAL, "cpu", "all", limit=300, **settings).out.split() == ["equal"] * count


@pytest.mark.distributed
@pytest.mark.slow
@needs_mpirun
def test_it_is_batch_norm_of_the_whole_batch_on_two_emulated_gpus():
    pytest.importorskip("cupy")
    device = (sys.executable, "-m", "gpunn.cuda.device", "--devices", "2", "--", sys.executable)
    assert run_ranks(2, EQUAL, "gpu", "few", before=device, limit=300).out.split() == ["equal"] * 2


TRAINED = """
    import sys
    import numpy as np
    from gpunn import distributed, nn, optim, tensor
    from gpunn import functional as F
    from gpunn.backend import random_generator
    from gpunn.data import ArrayDataset, DataLoader
    from gpunn.errors import ArgumentError, TrainingError
    from gpunn.train import Trainer

    world = distributed.init()
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(31, 2, 6, 6)).astype(np.float32), rng.integers(3, size=31)  # a tail of 7

    def trainer(samples=samples, drop_last=False, **settings):
        drawn = {"generator": random_generator(0)}
        model = nn.Sequential(
            nn.Conv2d(2, 8, 3, **drawn), nn.BatchNorm2d(8, relu=True), nn.Flatten(), nn.Linear(128, 9, **drawn),
            nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 3, **drawn),
        )
        data = DataLoader(ArrayDataset(*samples), 12, shuffle=True, seed=1, drop_last=drop_last)

        def loss(batch):
            return F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1])

        sgd = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return Trainer(model, sgd, data, loss, measure=lambda: {"norm": float(np.abs(model[1].weight.data).sum())},
                       **settings)

    one, two = trainer(), trainer(distributed=world, sync_batch_norm=True)
    for record, expected in zip(two.run(3), one.run(3), strict=True):
        np.testing.assert_allclose(record["train_loss"], expected["train_loss"], rtol=1e-5)
    for (name, array), expected in zip(two.model.state_dict().items(), one.model.state_dict().values(), strict=True):
        assert np.abs(array - expected).max() <= 2e-5 * np.abs(expected).max(), name
        assert len({a.tobytes() for a in world.all_gather(np.asarray(array))}) == 1, name

    wrong = samples[0].copy(), samples[1]
    wrong[0][17] = np.nan  # in one rank's share
    try:
        trainer(wrong, distributed=world, sync_batch_norm=True).run(1)
    except TrainingError as error:
        assert "first in the batch itself" in str(error), error
    few = samples[0][:25], samples[1][:25]  # a tail of 1
    try:
        trainer(few, distributed=world, sync_batch_norm=True)
    except ArgumentError as error:
        print(error)
    trainer(few, True, distributed=world, sync_batch_norm=True).run(1)
"""


@pytest.mark.distributed
@needs_mpirun
def test_a_trainer_trains_by_it_as_one_process():
    rule = "Trainer: each rank must have samples of each batch for sync_batch_norm: DataLoader(drop_last=True)"
    assert run_ranks(2, TRAINED).out.splitlines() == [f"{rule}, got ranks=2"] * 2


def test_a_trainer_without_ranks_or_of_such_a_layer_refuses_it():
    for model, settings in ((nn.Sequential(nn.BatchNorm1d(3)), {}), (nn.BatchNorm1d(3), {"distributed": True})):
        sgd = optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(ArgumentError, match="sync_batch_norm is of the ranks of distributed, and of layers inside"):
            Trainer(model, sgd, [], lambda batch: (batch, 1), sync_batch_norm=True, **settings)


def test_one_rank_is_batch_norm(rng):
    one, two = nn.BatchNorm2d(3), SyncBatchNorm(3)
    x, gy = rng.standard_normal((2, 4, 3, 5, 5)).astype(np.float32)
    results = []
    for layer in (one, two):
        leaf = tensor(x, requires_grad=True)
        y = layer(leaf)
        y.backward(gy)
        results.append([y.data, leaf.grad, *(p.grad for p in layer.parameters()), *layer.state_dict().values()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_converted_model_keeps_what_it_had():
    shared = nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Linear(3, 4), shared, nn.Sequential(shared, nn.BatchNorm1d(4, relu=True, bias=False)))
    model[2].eval()
    seen = []
    shared.register_forward_hook(lambda *_: seen.append(1))
    parameters, names, listing = list(model.parameters()), list(model.state_dict()), repr(model)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    assert convert(model) is model
    assert [type(m) for m in (model[1], model[2][0], model[2][1])] == [SyncBatchNorm] * 3
    assert model[1] is model[2][0]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert list(model.state_dict()) == names
    assert repr(model) == listing.replace("BatchNorm1d", "SyncBatchNorm")
    assert model[2][1].relu
    assert not model[2][1].training
    copied = copy.deepcopy(model)
    assert copied[1].world is model[1].world
    assert copied[1].weight is not model[1].weight
    model(tensor(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))).sum().backward()
    optimizer.step()
    assert seen == [1, 1]
    before = model[1]
    assert convert(model)[1] is before  # a second time nothing changes


def test_a_layer_alone_is_converted_to_another():
    layer = nn.BatchNorm2d(3)
    made = convert(layer)
    assert isinstance(made, SyncBatchNorm)
    assert made.weight is layer.weight
    assert made.world is distributed.init()


def test_it_is_exported_in_evaluation(tmp_path):
    pytest.importorskip("onnx")
    model = convert(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    x = np.zeros((2, 1, 4, 4), np.float32)
    onnx.export(model.eval(), x, tmp_path / "model.onnx")
    np.testing.assert_allclose(onnx.load(tmp_path / "model.onnx")(x).data, model(x).data, atol=1e-6)


def test_errors():
    with pytest.raises(ShapeError, match="SyncBatchNorm: x must have 2 or 3 or 4 or 5 dimensions"):
        SyncBatchNorm(3)(np.zeros(3, np.float32))
    with pytest.raises(ShapeError, match="training needs more than one value a channel"):
        SyncBatchNorm(3)(np.zeros((1, 3), np.float32))
