"""Batches: their order, their randomness, resuming, errors of workers, and how workers end."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_case import Deadly, Draws, Faulty, Numbers, Pids, failing_augment, noise, scaled, unsendable

import gpunn
from gpunn.backend import (
    chosen_matmul_precision,
    device_of,
    gpu_count,
    manual_seed,
    matmul_precision,
    random_generator,
    to_cpu,
)
from gpunn.data import (
    ArrayDataset,
    DataLoader,
    MapDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
)
from gpunn.data.sampler import batch_generator, order_generator
from gpunn.data.staging import staged
from gpunn.errors import ArgumentError, DataError

WAYS = [(0, "thread"), (1, "thread"), (3, "thread"), (2, "process")]


def data_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("gpunn-data")]


# ---- order ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(1, 1), (7, 3), (6, 3), (5, 9), (13, 1), (0, 2)])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_in_order(n: int, size: int, drop_last: bool, workers: int) -> None:
    loader = DataLoader(ArrayDataset(np.arange(n)), size, drop_last=drop_last, workers=workers)
    expected = [list(range(i, min(i + size, n))) for i in range(0, n, size)]
    if drop_last and n % size:
        expected.pop()
    assert [b.tolist() for b in loader] == expected
    assert len(loader) == len(expected)


def test_every_epoch_has_all_samples_in_another_order_that_the_seed_decides() -> None:
    def epochs(seed: int) -> list[list[int]]:
        loader = DataLoader(ArrayDataset(np.arange(50)), 8, shuffle=True, seed=seed)
        return [np.concatenate(list(loader)).tolist() for _ in range(3)]

    first, again, other = epochs(3), epochs(3), epochs(4)
    assert first == again
    assert first != other
    assert len({tuple(e) for e in first}) == 3
    assert all(sorted(e) == list(range(50)) for e in first)


def test_without_a_seed_the_default_generator_decides() -> None:
    def order() -> list[int]:
        return np.concatenate(list(DataLoader(ArrayDataset(np.arange(30)), 4, shuffle=True))).tolist()

    manual_seed(1)
    first, second = order(), order()
    manual_seed(1)
    assert order() == first != second


@pytest.mark.parametrize("n", [37])
def test_batches_do_not_depend_on_the_workers(n: int) -> None:
    def run(workers: int, kind: str, prefetch: int) -> list[np.ndarray]:
        loader = DataLoader(
            Numbers(n, seconds=0.0005),
            4,
            shuffle=True,
            transform=noise,
            augment=scaled,
            seed=5,
            workers=workers,
            worker_kind=kind,
            prefetch=prefetch,
        )
        return [b for _ in range(2) for b in loader]

    expected = run(0, "thread", 1)
    for workers, kind in WAYS[1:]:
        for prefetch in (1, 3):
            for a, b in zip(run(workers, kind, prefetch), expected, strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{workers} {kind} {prefetch}")


def test_transform_and_augment_draw_from_the_stream_of_the_batch() -> None:
    loader = DataLoader(Numbers(6), 2, transform=noise, augment=scaled, seed=9)
    for epoch in range(2):
        for number, batch in enumerate(loader):
            g = batch_generator(9, epoch, number)
            rows = [np.full(3, 2 * number + i, np.float32) + g.random(3, np.float32) for i in range(2)]
            np.testing.assert_array_equal(batch, np.stack(rows) * g.random(dtype=np.float32))


def test_streams_differ() -> None:
    streams = [order_generator(0, 0), order_generator(0, 1), order_generator(1, 0)]
    streams += [batch_generator(s, e, b) for s in range(2) for e in range(3) for b in range(3)]
    draws = [g.integers(1 << 62) for g in streams]
    assert len(set(draws)) == len(draws)


def test_samplers_decide_the_order() -> None:
    data = ArrayDataset(np.arange(10))
    weighted = WeightedRandomSampler([0] * 5 + [1] * 5, 40)
    drawn = np.concatenate(list(DataLoader(data, 7, sampler=weighted, seed=0)))
    assert len(drawn) == 40
    assert set(drawn.tolist()) == {5, 6, 7, 8, 9}

    class ByLength:
        """Batches of two sizes."""

        def __len__(self) -> int:
            return 2

        def batches(self, generator: np.random.Generator) -> list[np.ndarray]:
            return [np.array([9, 1, 4]), np.array([0])]

    loader = DataLoader(data, batch_sampler=ByLength())
    assert len(loader) == 2
    assert [b.tolist() for b in loader] == [[9, 1, 4], [0]]


@pytest.mark.parametrize("data", [Subset(ArrayDataset(np.arange(20)), range(5, 15)), Numbers(10)])
def test_the_batch_method_gives_what_the_samples_give(data) -> None:
    plain = [data[i] for i in range(10)]
    for got, expected in zip(DataLoader(data, 4), [plain[:4], plain[4:8], plain[8:]], strict=True):
        np.testing.assert_array_equal(got, np.stack(expected))


def test_collate_of_the_caller() -> None:
    loader = DataLoader(ArrayDataset(np.arange(5)), 2, collate=lambda samples: [int(s) for s in samples])
    assert list(loader) == [[0, 1], [2, 3], [4]]


def test_device() -> None:
    batch = next(iter(DataLoader(ArrayDataset(np.eye(3), np.arange(3)), 2, device="cpu", workers=1)))
    assert isinstance(batch[0], np.ndarray)
    assert batch[1].tolist() == [0, 1]


@pytest.mark.gpu
def test_on_a_gpu_batches_arrive_whole() -> None:
    import cupy

    x = random_generator(0).random((600, 1000), np.float32)
    loader = DataLoader(ArrayDataset(x, np.arange(600)), 7, shuffle=True, seed=0, workers=2, device="gpu")
    plain = DataLoader(ArrayDataset(x, np.arange(600)), 7, shuffle=True, seed=0)
    for (a, i), (b, j) in zip(loader, plain, strict=True):
        assert isinstance(a, cupy.ndarray)
        product = a @ a.T  # work on the stream that the next copy must not overtake
        del a
        np.testing.assert_allclose(product.get(), b @ b.T, rtol=1e-4)
        np.testing.assert_array_equal(i.get(), j)
    for _ in loader:
        break


@pytest.mark.gpu
def test_on_a_gpu_what_is_nested_arrives_whole() -> None:
    """Beside a slow stream of the caller's: the copy of a batch must not overtake what still reads its memory."""
    import cupy

    def samples() -> Iterator[dict[str, Any]]:
        for number in range(12):
            x = np.full((64, 64), number, np.float32)
            yield {"x": x, "more": [x[:0], (x[::2, ::3], "name")], "of one": np.array(number), "scalar": np.float32(2)}

    sums, stream = [], cupy.cuda.Stream(non_blocking=True)
    with stream:
        for batch in staged(samples(), "gpu:0"):
            x = batch["x"]
            for _ in range(4):
                x = x * 1
            sums.append((x.sum(), batch["more"][1][0].sum(), batch["of one"] * 1))
            assert batch["more"][0].shape == (0, 64)
            assert batch["more"][1][1] == "name"
            assert float(batch["scalar"]) == 2
            del batch, x
    stream.synchronize()
    assert [[float(each) for each in one] for one in sums] == [[4096 * n, 32 * 22 * n, n] for n in range(12)]


@pytest.mark.gpu
def test_batches_go_to_the_second_gpu() -> None:
    if gpu_count() < 2:
        pytest.skip("needs two GPUs")
    x = random_generator(0).random((20, 3), np.float32)
    found = list(DataLoader(ArrayDataset(x), 8, device="gpu:1"))
    assert {device_of(batch) for batch in found} == {"gpu:1"}
    np.testing.assert_array_equal(np.concatenate([to_cpu(batch) for batch in found]), x)


# ---- resuming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "kind", "stop"), [(0, "thread", 1), *((2, "thread", i) for i in (0, 1, 4, 5)), (2, "process", 4)]
)
def test_resumed_loaders_give_exactly_the_rest(workers: int, kind: str, stop: int) -> None:
    def loader(seed: int | None) -> DataLoader:
        settings = {"transform": noise, "augment": scaled, "workers": workers, "worker_kind": kind}
        return DataLoader(Numbers(17), 4, shuffle=True, seed=seed, **settings)

    whole = loader(seed=11)
    epochs = [list(whole) for _ in range(3)]
    first = loader(seed=11)
    assert len(list(first)) == 5
    iterator = iter(first)
    before = list(islice(iterator, stop))
    state = json.loads(json.dumps(first.state_dict()))  # it can be kept as JSON
    assert (state["epoch"], state["batches"]) == (1, stop)
    iterator.close()
    resumed = loader(seed=None)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    after = list(resumed)
    for a, b in zip(before + after, epochs[1], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(resumed, epochs[2], strict=True):
        np.testing.assert_array_equal(a, b)


# ---- global generators ---------------------------------------------------------------------------------------------


def global_draws(workers: int, seed: int, epochs: int = 2, stop: int = 0) -> np.ndarray:
    """What a data set draws in worker processes, (epochs, 9 samples, 3 generators), left after ``stop`` batches."""

    def loader() -> DataLoader:
        return DataLoader(Draws(9), 2, workers=workers, worker_kind="process", prefetch=1, seed=seed)

    first, before = loader(), []
    if stop:
        before = list(islice(iter(first), stop))
        state = first.state_dict()
        first = loader()
        first.load_state_dict(state)
    batches = before + [batch for _ in range(epochs) for batch in first]
    return np.concatenate(batches).reshape(epochs, 9, 3)


@pytest.mark.slow
def test_processes_draw_from_global_generators_by_seed_epoch_and_batch() -> None:
    draws = global_draws(workers=2, seed=5)
    assert len(np.unique(draws)) == draws.size  # over samples, workers, epochs and generators
    np.testing.assert_array_equal(global_draws(workers=3, seed=5), draws)
    np.testing.assert_array_equal(global_draws(workers=2, seed=5, stop=3), draws)
    assert not np.isin(global_draws(workers=2, seed=6, epochs=1), draws).any()


@pytest.mark.slow
@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_a_script_that_seeds_at_its_top_does_not_repeat_numbers(start: str, tmp_path: Path) -> None:
    """A process that is spawned runs the top of the script again."""
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {start} here")
    script = tmp_path / "run.py"
    script.write_text(
        "import multiprocessing, random, numpy as np, gpunn\n"
        "from data_case import Draws\n"
        "from gpunn.data import DataLoader\n"
        "random.seed(0); np.random.seed(0); gpunn.manual_seed(0)\n"
        f"multiprocessing.get_all_start_methods = lambda: ['{start}']\n"
        "if __name__ == '__main__':\n"
        "    own = Draws(1)[0]\n"
        "    loaders = [DataLoader(Draws(6), 2, workers=2, worker_kind='process', seed=s) for s in (0, 1)]\n"
        "    draws = np.concatenate([own[np.newaxis], *loaders[0], *loaders[0], *loaders[1]])\n"
        "    print(draws.size, len(np.unique(draws)))\n"
    )
    folders = [str(Path(__file__).parent), str(Path(gpunn.__file__).parent.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120)
    assert (run.stdout, run.stderr) == ("57 57\n", "")


def test_threads_and_the_caller_share_the_global_generators() -> None:
    for workers in (0, 3):
        draws = np.concatenate([*DataLoader(Draws(40), 2, workers=workers), *DataLoader(Draws(40), 2)])
        assert len(np.unique(draws)) == draws.size


def test_a_loop_that_was_left_is_followed_by_the_next_epoch() -> None:
    loader, twin = (DataLoader(ArrayDataset(np.arange(9)), 2, shuffle=True, seed=1) for _ in range(2))
    epochs = [[b.tolist() for b in twin] for _ in range(2)]
    for batch in loader:
        assert batch.tolist() == epochs[0][0]
        break
    assert [b.tolist() for b in loader] == epochs[1]
    assert loader.state_dict()["epoch"] == 2


def test_the_state_is_that_of_the_last_loop() -> None:
    loader = DataLoader(ArrayDataset(np.arange(4)), 1, seed=0)
    old, new = iter(loader), iter(loader)
    next(old)
    for _ in range(3):
        next(new)
    next(old)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, 3)
    assert len(list(old)) == 2  # an older loop ends as it began
    assert loader.state_dict()["epoch"] == 1
    state = DataLoader(loader.dataset, 1, seed=7).state_dict()
    loader.load_state_dict(state)
    next(new)
    assert loader.state_dict() == state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 9}, "with other samples, got state=9, loader=8"),
        (
            {"batches_per_epoch": 3},
            r"with other batches_per_epoch \(another batch size, or drop_last\), got state=3, loader=4",
        ),
        ({"batches": 5}, "batches must be at most batches_per_epoch, got batches=5, of=4"),
        ({"epoch": -1}, "integers of at least 0"),
        ({"epoch": 1.5}, "integers of at least 0"),
        ({"seed": 1 << 64}, "seed must be below"),
        ({"more": 1}, "the state must have seed, epoch, batches"),
    ],
)
def test_states_that_do_not_fit_change_nothing(change: dict, message: str) -> None:
    loader = DataLoader(ArrayDataset(np.arange(8)), 2, seed=3)
    next(iter(loader))
    state = loader.state_dict()
    with pytest.raises(ArgumentError, match=message):
        loader.load_state_dict({**state, **change})
    assert loader.state_dict() == state


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "kind"), WAYS)
def test_an_error_names_the_sample(workers: int, kind: str) -> None:
    loader = DataLoader(Faulty(20), 4, workers=workers, worker_kind=kind)
    got = []
    with pytest.raises(DataError, match=r"sample 7 \(batch 1 of epoch 0\) .*ValueError: seven is bad") as caught:
        got.extend(b[:, 0].tolist() for b in loader)
    assert got == [[0, 1, 2, 3]]  # what comes before is given
    assert caught.value.sample == 7
    assert caught.value.__cause__ is not None
    assert not data_threads()


def test_an_error_of_a_batch_method_names_the_sample() -> None:
    class Half(ArrayDataset):
        def __getitem__(self, index: int):
            assert index != 3, "not this one"
            return super().__getitem__(index)

        def batch(self, indices: np.ndarray):
            raise OSError("no batches")

    with pytest.raises(DataError, match="sample 3 .*AssertionError: not this one"):
        list(DataLoader(Half(np.arange(5)), 5))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_collate_or_augment_names_the_batch(workers: int) -> None:
    ragged = MapDataset(ArrayDataset(np.arange(1, 6)), lambda i: np.zeros(int(i)))
    with pytest.raises(DataError, match=r"batch 0 of epoch 0, samples 0, 1, 2, .*ShapeError: default_collate: arrays"):
        list(DataLoader(ragged, 3, workers=workers))
    with pytest.raises(DataError, match=r"samples 0, 1, 2, 3, 4, 5, 6, 7, \.\.\., .*KeyError"):
        list(DataLoader(Numbers(9), 9, augment=failing_augment, workers=workers))


def test_a_process_that_dies_is_an_error() -> None:
    with pytest.raises(DataError, match="a worker process ended"):
        list(DataLoader(Deadly(20), 4, workers=2, worker_kind="process"))


def test_what_cannot_be_pickled_is_refused_in_words() -> None:
    loader = DataLoader(Numbers(4), 2, augment=lambda b, g: b, workers=1, worker_kind="process")
    with pytest.raises(ArgumentError, match="can be pickled .*functions and classes of a module"):
        next(iter(loader))


def test_arguments() -> None:
    data = Numbers(4)
    with pytest.raises(ArgumentError, match="batch_size must be an integer of at least 1, got batch_size=0"):
        DataLoader(data, 0)
    with pytest.raises(ArgumentError, match="workers must be an integer of at least 0, got workers=-1"):
        DataLoader(data, workers=-1)
    with pytest.raises(ArgumentError, match="prefetch must be an integer of at least 1, got prefetch=0"):
        DataLoader(data, prefetch=0)
    with pytest.raises(ArgumentError, match="worker_kind must be .* got worker_kind='fibre'"):
        DataLoader(data, worker_kind="fibre")
    with pytest.raises(ArgumentError, match="a sampler decides the order"):
        DataLoader(data, shuffle=True, sampler=SequentialSampler(data))
    with pytest.raises(ArgumentError, match="a batch_sampler stands alone"):
        DataLoader(data, 2, batch_sampler=DataLoader(data).batch_sampler)
    with pytest.raises(ArgumentError, match=r"seed must be an integer from 0 to 2\^64 - 1, got seed=-1"):
        DataLoader(data, seed=-1)
    with pytest.raises(ArgumentError, match='a device is "cpu"'):
        DataLoader(data, device="tpu")


# ---- how workers end -----------------------------------------------------------------------------------------------


def test_prefetch_is_bounded() -> None:
    made: list[int] = []
    loader = DataLoader(
        MapDataset(Numbers(100), lambda x: made.append(int(x[0])) or x), 1, workers=2, prefetch=3, sampler=None
    )
    iterator = iter(loader)
    next(iterator)
    time.sleep(0.2)
    assert len(made) == 1 + 2 * 3  # one handed out, and three ahead for each worker
    iterator.close()
    assert len(made) == 7


def test_workers_run_at_the_same_time() -> None:
    start = time.perf_counter()
    list(DataLoader(Numbers(40, seconds=0.005), 1, workers=8))
    assert time.perf_counter() - start < 0.8 * 40 * 0.01  # 0.4 s in one thread


@pytest.mark.slow
def test_a_loop_that_is_left_leaves_no_threads() -> None:
    loader = DataLoader(Numbers(1000, seconds=0.001), 2, workers=2)
    for _ in loader:
        break
    gc.collect()
    assert not data_threads()
    iterator = iter(loader)
    next(iterator)
    del iterator
    gc.collect()
    assert not data_threads()


def wait_for_no_processes() -> None:
    """Those of a loader that is gone end by themselves, soon."""
    gc.collect()
    end = time.monotonic() + 30
    while multiprocessing.active_children():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_processes_stay_from_epoch_to_epoch_and_end_with_the_loader() -> None:
    wait_for_no_processes()
    loader = DataLoader(Pids(8), 2, workers=2, worker_kind="process")
    for batch in loader:
        assert batch[0] != os.getpid()
        break
    used = {child.pid for child in multiprocessing.active_children()}
    assert {int(pid) for batch in loader for pid in batch} <= used
    assert {child.pid for child in multiprocessing.active_children()} == used
    del loader, batch
    wait_for_no_processes()


def test_processes_see_a_data_set_that_was_changed_between_epochs() -> None:
    values = np.arange(4.0)
    loader = DataLoader(ArrayDataset(values), 4, seed=0, transform=noise, workers=1, worker_kind="process")
    list(loader)
    values += 10
    (batch,) = loader
    assert batch.astype(int).tolist() == [10, 11, 12, 13]


def test_two_loops_over_one_loader_with_processes() -> None:
    loader = DataLoader(Numbers(9), 2, workers=2, worker_kind="process")
    pairs = list(zip(loader, loader, strict=True))
    assert [a[:, 0].tolist() for a, _ in pairs] == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("taken", [1, 2, 3, 4])
def test_processes_go_on_after_a_loop_that_was_left(taken: int) -> None:
    """Whatever was under way then is not taken for a batch of the next loop."""
    loader = DataLoader(Pids(40), 2, workers=2, worker_kind="process", prefetch=3)
    first = {int(pid) for batch in islice(loader, taken) for pid in batch}
    second = [batch.tolist() for batch in loader]
    assert len(second) == 20
    assert first <= {pid for batch in second for pid in batch}
    assert len({pid for batch in second for pid in batch}) == 2


def test_what_a_process_cannot_send() -> None:
    loader = DataLoader(Numbers(4), 2, collate=unsendable, workers=1, worker_kind="process")
    with pytest.raises(DataError, match="a batch cannot be sent from a worker process .*(pickle|local)"):
        list(loader)


def test_an_error_of_a_process_has_its_traceback() -> None:
    with pytest.raises(DataError, match="seven is bad") as caught:
        list(DataLoader(Faulty(20), 4, workers=2, worker_kind="process"))
    assert "in __getitem__" in str(caught.value.__cause__)


def test_processes_follow_the_seed_of_a_state() -> None:
    other = DataLoader(Numbers(4), 4, seed=7, transform=noise)
    loader = DataLoader(Numbers(4), 4, seed=0, transform=noise, workers=1, worker_kind="process")
    list(loader)
    loader.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(list(loader), list(other))


def test_a_loader_whose_process_died_starts_others() -> None:
    data = Deadly(20)
    loader = DataLoader(data, 4, workers=2, worker_kind="process")
    for _ in range(2):
        with pytest.raises(DataError, match="a worker process ended"):
            list(loader)
    data.bad = None
    assert len(list(loader)) == 5


def test_threads_work_in_the_context_of_the_caller() -> None:
    """What a transform computes with, here the precision of products, does not depend on workers."""

    def precision(sample: np.ndarray, generator: np.random.Generator) -> str:
        return chosen_matmul_precision()

    for workers in (0, 2):
        loader = DataLoader(Numbers(4), 2, transform=precision, workers=workers)
        with matmul_precision("bf16"):
            assert list(loader) == [["bf16", "bf16"]] * 2
        assert list(loader) == [["fp32", "fp32"]] * 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a group of processes")
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_ctrl_c_ends_the_run_and_its_workers(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import time\n"
        "from data_case import Numbers\n"
        "from gpunn.data import DataLoader\n"
        "if __name__ == '__main__':\n"
        f"    for batch in DataLoader(Numbers(10**6, seconds=0.001), 2, workers=2, worker_kind='{kind}'):\n"
        "        print('batch', flush=True)\n"
        "        time.sleep(0.5)\n"
    )
    folders = [str(Path(__file__).parent), str(Path(gpunn.__file__).parent.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    run = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    for _ in range(2):
        assert run.stdout.readline() == "batch\n"
    time.sleep(0.3)  # now the workers are done, and wait for more
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=20)  # the pipes end with the last worker
    assert run.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_random_sampler_in_a_loader() -> None:
    data = Numbers(10)
    loader = DataLoader(data, 3, sampler=RandomSampler(data, replacement=True, num_samples=8), seed=0)
    assert [len(b) for b in loader] == [3, 3, 2]


def test_a_loader_feeds_the_training_loop() -> None:
    from gpunn import functional as F
    from gpunn import nn, optim
    from gpunn.tensor import tensor
    from gpunn.train import Trainer

    def losses(workers: int) -> list[float]:
        g = random_generator(0)
        model = nn.Linear(3, 3, generator=g)
        sgd = optim.SGD(model.parameters(), lr=1.0)
        loader = DataLoader(ArrayDataset(np.eye(3, dtype=np.float32), np.arange(3)), 2, True, seed=0, workers=workers)
        loss = lambda batch: (F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1]))  # noqa: E731
        return [record["train_loss"] for record in Trainer(model, sgd, loader, loss).run(epochs=5)]

    assert losses(0) == losses(2)
    assert losses(0)[-1] < losses(0)[0]
