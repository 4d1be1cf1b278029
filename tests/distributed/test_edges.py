"""What goes wrong at the edges of data parallel training: see edge_case, whose functions several ranks run."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from ranks import needs_mpirun, run_ranks

from gpunn import distributed, nn, optim, tensor
from gpunn.data import ArrayDataset, DataLoader
from gpunn.train import Trainer

HERE = str(Path(__file__).parent)


@pytest.mark.distributed
@needs_mpirun
@pytest.mark.parametrize(
    "names",
    [
        [
            "groups_are_added",
            "data_sets_draw",
            "samplers_leave_tails",
            "batches_differ_in_size",
            "measures_in_training",
        ],
        pytest.param(
            ["tells_what_was_changed", "float16_skips_no_more", "shares_weigh_nothing"], marks=pytest.mark.slow
        ),
    ],
)
def test_cases(names):
    program = f"import sys; sys.path.insert(0, {HERE!r}); from edge_case import run; run(*{names!r})"
    assert "done" in run_ranks(2, program).out.split()


WORKERS = """
import numpy as np
from gpunn import distributed
from gpunn.data import ArrayDataset, DataLoader
{unguarded}
if __name__ == "__main__":
    world = distributed.init()
    loader = DataLoader(ArrayDataset(np.arange(9)), 8, workers=1, worker_kind="process")
    loader.share(world.rank, world.size)
    print([None if batch is None else batch.tolist() for batch in loader])
    world.barrier()
"""


@pytest.mark.distributed
@pytest.mark.slow
@needs_mpirun
def test_processes_that_a_rank_starts_are_no_ranks(tmp_path):
    (tmp_path / "guarded.py").write_text(WORKERS.format(unguarded=""))
    (tmp_path / "unguarded.py").write_text(WORKERS.format(unguarded="distributed.init()"))
    settings = {"PYTHONPATH": str(tmp_path)}
    ended = run_ranks(2, "-m guarded", **settings)
    assert sorted(ended.out.splitlines()) == ["[[0, 1, 2, 3], [8]]", "[[4, 5, 6, 7], None]"]
    ended = run_ranks(2, "-m unguarded", code=None, **settings)
    assert ended.code != 0
    assert "init: a process that a rank starts, as of a DataLoader, is no rank: call it under if __name__" in ended.err
    assert "Segmentation fault" not in ended.err


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_parameter_without_dimensions_trains(accumulate):
    w = nn.Parameter(np.ones(()))
    model = nn.Module()
    model.w = w
    sgd = optim.SGD([w], lr=0.5)

    def loss(batch):
        return (tensor(batch) * w).mean() + w, len(batch)

    data = DataLoader(ArrayDataset(np.ones(4)), 2, seed=0)
    Trainer(model, sgd, data, loss, accumulate=accumulate, clip_norm=None).run(1)
    assert w.item() == 1 - 0.5 * 2 * (2 // accumulate)
    scaler = optim.GradScaler()
    for _ in range(2):
        scaler.scale(w * 1.0).backward()
    assert isinstance(w.grad, np.ndarray)
    sgd.zero_grad()
    scaler.scale(w * 1.0).backward()
    assert scaler.step(sgd)


def test_a_model_that_normalises_with_all_ranks_can_be_pickled():
    model = distributed.convert(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    read = pickle.loads(pickle.dumps(model))
    assert read[1].world is distributed.init()
    x = np.float32([[1, 2, 3], [3, 2, 2]])
    assert read(x).tolist() == model(x).tolist()
