"""Data parallel training: ranks train as one process, end together, and other numbers of them go on."""

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from ranks import interrupted, needs_mpirun, run_ranks

from gpunn import distributed, nn, optim, tensor
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError
from gpunn.train import Trainer

HERE = str(Path(__file__).parent)
DEVICE = (sys.executable, "-m", "gpunn.cuda.device", "--devices", "2", "--late", "--", sys.executable)
several = [pytest.mark.distributed, needs_mpirun]


def run_case(count, *names, limit=100, **settings):
    program = f"import sys; sys.path.insert(0, {HERE!r}); from parallel_case import run; run(*{names!r})"
    ended = run_ranks(count, program, limit=limit, **settings)
    assert "done" in ended.out.split()
    return ended.out


def said_in(ended):
    return [line for line in ended.err.splitlines() if line.startswith("gpunn: ")]


# ---- without ranks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("samples", "batch"), [(29, 12), (25, 12), (24, 12)])
def test_ranks_share_the_batches_of_one_process(samples, batch, workers):
    def loader(**settings):
        return DataLoader(ArrayDataset(np.arange(samples)), batch, shuffle=True, seed=3, workers=workers, **settings)

    whole = loader()
    epochs = [[part.tolist() for part in whole] for _ in range(2)]
    for ranks in (1, 2, 3, 4, 6, 12):
        shared = [loader() for _ in range(ranks)]
        for rank, each in enumerate(shared):
            each.share(rank, ranks)
        for epoch in epochs:
            taken = [[[] if part is None else part.tolist() for part in each] for each in shared]
            for number, expected in enumerate(epoch):
                shares = [of_rank[number] for of_rank in taken]
                assert list(chain(*shares)) == expected
                assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_another_number_of_ranks_goes_on_in_mid_epoch():
    def loaders(ranks):
        made = [DataLoader(ArrayDataset(np.arange(50)), 12, shuffle=True, seed=3) for _ in range(ranks)]
        for rank, each in enumerate(made):
            each.share(rank, ranks)
        return made

    whole = [part.tolist() for part in DataLoader(ArrayDataset(np.arange(50)), 12, shuffle=True, seed=3)]
    before = loaders(2)
    for each in before:
        loop = iter(each)
        next(loop), next(loop)
    states = [each.state_dict() for each in before]
    assert states[0] == states[1]
    after = loaders(3)
    for each in after:
        each.load_state_dict(states[0])
    rest = [[n for part in parts if part is not None for n in part.tolist()] for parts in zip(*after, strict=True)]
    assert rest == whole[2:]


def test_each_rank_draws_its_own_numbers():
    def drawn(rank, ranks, workers=0, kind="thread"):
        loader = DataLoader(ArrayDataset(np.zeros(8)), 4, seed=1, augment=add_noise, workers=workers, worker_kind=kind)
        loader.share(rank, ranks)
        return np.concatenate(list(loader))

    first, second = drawn(0, 2), drawn(1, 2)
    assert not set(first) & set(second)
    assert np.array_equal(drawn(1, 2, 2, "process"), second)


def add_noise(batch, generator):
    return batch + generator.normal(size=batch.shape)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ((0, 5), "the ranks must divide batch_size, got batch_size=4, ranks=5"),
        ((0, 16), "each rank must have a sample, got samples=10, ranks=16"),
        ((2, 2), "rank must be below the number of ranks, got rank=2, ranks=2"),
    ],
)
def test_bad_shares(share, message):
    with pytest.raises(ArgumentError, match=message):
        DataLoader(ArrayDataset(np.arange(10)), 4).share(*share)


def test_a_leaf_is_whole_behind_its_last_use():
    x, w, last = (tensor([value], requires_grad=True) for value in (3.0, 2.0, 5.0))
    told = []
    h = x * w
    y = (h * w * last + x).sum()
    y.backward(whole=lambda leaf: told.append((leaf, leaf.grad.item(), w.grad is None)))
    assert [(leaf is x, leaf is w, leaf is last, g, early) for leaf, g, early in told[:1]] == [
        (False, False, True, 12.0, True)
    ]
    assert {(id(leaf), g) for leaf, g, _ in told} == {(id(x), 21.0), (id(w), 60.0), (id(last), 12.0)}


def test_buckets_of_one_rank_leave_gradients_as_they_are():
    layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2))
    x = tensor(np.ones((5, 3), np.float32))
    layers[1](layers[0](x)).sum().backward()
    expected = [p.grad for p in layers.parameters()]
    for p in layers.parameters():
        p.grad = None
    buckets = distributed.Buckets(distributed.init(), layers.parameters(), bucket_bytes=32)
    buckets.begin()
    layers[1](layers[0](x)).sum().backward(whole=buckets.add)
    buckets.finish(2.0)
    for p, g in zip(layers.parameters(), expected, strict=True):
        assert p.grad is None if g is None else np.array_equal(p.grad, g / 2)


def test_one_rank_trains_as_without():
    def trained(**settings):
        layer = nn.Linear(3, 2)
        nn.init.constant_(layer.weight, 0.5)
        nn.init.constant_(layer.bias, 0.0)
        data = DataLoader(ArrayDataset(np.eye(3, dtype=np.float32)), 2, seed=0)
        sgd = optim.SGD(layer.parameters(), lr=0.1)
        Trainer(layer, sgd, data, lambda batch: ((layer(tensor(batch)) ** 2).mean(), len(batch)), **settings).run(3)
        return layer.weight.data.tobytes()

    assert trained() == trained(distributed=True) == trained(distributed=distributed.init())


# ---- the command line -----------------------------------------------------------------------------------------------


def gpunn(*arguments, **settings):
    return subprocess.run(
        [sys.executable, "-m", "gpunn", *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, **settings},
    )  # fmt: skip


def test_started_without_mpirun(tmp_path):
    ended = gpunn("train", "digits", "--distributed", "--out", tmp_path / "run")
    said = "error: train digits: ranks are started by mpirun: mpirun -n 4 gpunn train digits --distributed\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)
    assert not (tmp_path / "run").exists()


class TestCommandLine:
    pytestmark = several

    def test_a_mistake_is_said_once(self, tmp_path):
        ended = run_ranks(2, "-m gpunn train digits --distributed --batch-size 33 --out run", folder=tmp_path, code=2)
        (line,) = said_in(ended)
        rule = "train digits: the ranks must divide the batch size, got batch_size=33, ranks=2"
        assert line == f"gpunn: all 2 ranks: ArgumentError: {rule}"
        assert not (tmp_path / "run").exists()

    @pytest.mark.slow
    def test_what_ends_the_ranks_is_json_where_that_is_asked_for(self, tmp_path):
        ended = run_ranks(2, "-m gpunn train digits --distributed --json --batch-size 33", folder=tmp_path, code=2)
        (line,) = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
        rule = "train digits: the ranks must divide the batch size, got batch_size=33, ranks=2"
        assert line == {"error": f"all 2 ranks: ArgumentError: {rule}"}
        fault = """
            from gpunn.recipes.digits import Digits
            Digits.check = lambda self: 1 / 0
            from gpunn.cli.command import main
            main()
        """
        for words in ([], ["--json"]):
            ended = run_ranks(2, fault, "train", "digits", "--distributed", *words, folder=tmp_path, code=1)
            assert ended.err.count("Traceback") == ended.err.count("rank 0 of 2") == 1
            assert ended.err.count('{"error"') == len(words)

    @pytest.mark.slow
    def test_a_fault_before_the_ranks_have_met_is_no_fault_of_gpunn(self, tmp_path):
        (tmp_path / "mpi4py.py").write_text("raise ImportError('none here')")
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        for program in ("train digits --distributed", "train digits --distributed --epochs 0"):
            ended = run_ranks(2, f"-m gpunn {program}", folder=tmp_path, code=2, PYTHONPATH=path)
            assert "error: " in ended.err
            assert "Traceback" not in ended.err

    @pytest.mark.slow
    def test_other_mistakes_are_said_once(self, tmp_path):
        for program, said in (
            ("train text --distributed", "train text: no such option: --distributed"),
            ("train digits --distributed --epohs 3", "no such option: --epohs. Did you mean --epochs?"),
            ("resume run --distributed", "run: holds no run that was begun"),
            ("train digits --distributed --epochs 0", "epochs"),
            ("train digits --distributed --device gpu:0 --out run", "gpu"),
        ):
            ended = run_ranks(2, f"-m gpunn {program}", folder=tmp_path, code=2)
            (line,) = said_in(ended)
            assert said in line
        assert not list(tmp_path.iterdir())

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("device", "epochs", "resumed", "before"),
        [("cpu", 4, 3, (sys.executable,)), ("gpu", 1, 2, DEVICE)],
        ids=["cpu", "emulated"],
    )
    def test_digits_interrupted_on_one_rank_and_resumed(self, tmp_path, device, epochs, resumed, before):
        options = f"--distributed --device {device} --epochs {epochs} --batch-size 24 --out run"
        begun = run_ranks(
            2, interrupted(20), "train", "digits", *options.split(), folder=tmp_path, code=130, before=before, limit=120
        )
        assert "interrupted, test accuracy" in begun.out
        assert "to go on: gpunn resume run" in begun.out
        assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000022.safetensors"]
        program = "-m gpunn resume run --distributed"
        ended = run_ranks(resumed, program, folder=tmp_path, before=before, limit=120)
        assert ended.out.count("test accuracy") == 1
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == epochs
        left = sorted(path.name for path in (tmp_path / "run").iterdir())
        assert left == [
            "checkpoints", "config.json", "confusion.png", "curves.png", "metrics.jsonl", "misclassified.png",
            "model.safetensors", "summary.json",
        ]  # fmt: skip


# ---- several ranks --------------------------------------------------------------------------------------------------


class TestRanks:
    pytestmark = several

    def test_two_ranks(self):
        run_case(2, "equals_one_process", "reduces_once_a_step", "leaves_together", "refuses")

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_more(self, count):
        names = ["repeats", "mixed_precision", "not_finite", "disagrees"][: 4 if count == 2 else 3]
        run_case(count, *names, *(["equals_one_process"] if count == 4 else []))

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_digits_equal_one_process(self, count):
        """On two ranks they repeat, to the bit, in another run."""
        runs = [run_case(count, "digits_equal_one_process") for _ in range(2 if count == 2 else 1)]
        assert len({"\n".join(sorted(run.splitlines())) for run in runs}) == 1

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [1, 3])
    def test_another_number_of_ranks_resumes_what_rank_0_sees(self, count, tmp_path):
        for ranks in (2, count):
            run_case(ranks, f"resumes {tmp_path}")

    @pytest.mark.slow
    def test_sums_are_hidden_behind_backward(self, tmp_path):
        out = run_case(2, f"overlaps {tmp_path}", GPUNN_LINK="200e6")
        line = next(line for line in out.splitlines() if line.startswith("hidden"))
        in_buckets, best, whole, best_whole = map(float, line.split()[1:])
        assert best > 0.6
        assert in_buckets > whole
        assert best_whole < 0.3

    @pytest.mark.slow
    def test_killed_and_resumed(self):
        ended = subprocess.run(
            [sys.executable, str(Path(HERE, "kill_ranks.py")), "3"], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("equal") == 3

    @pytest.mark.slow
    def test_emulated_devices_give_the_losses_of_the_cpu(self):
        out = run_case(2, "on_devices", limit=400, before=DEVICE, DEVICE_OF_RANKS="gpu")
        assert sorted(line for line in out.split() if line.startswith("gpu")) == ["gpu:0", "gpu:1"]
