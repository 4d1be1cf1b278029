"""Kill a rank of a training without warning, look at what is left, resume on another number of ranks, and compare.

``python tests/distributed/kill_ranks.py 10`` tries 10 random moments. Two ranks train and save every few steps, one of
them is killed (kill -9), and one, two or three ranks go on, from checkpoints that must all be whole. Each rank writes
down which samples it took in which step: together they must be those of one process, in its order, and the weights
its weights.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from ranks import command, environment, run_ranks

from gpunn import distributed, nn, optim, tensor
from gpunn import functional as F
from gpunn.backend import random_generator
from gpunn.checkpoint import load_checkpoint
from gpunn.data import ArrayDataset, DataLoader
from gpunn.train import Callback, Checkpoint, Trainer

EPOCHS, BATCH, SAMPLES = 3, 24, 601


class Slow(Callback):
    """Steps of some milliseconds."""

    def on_step(self, trainer: Trainer, loss: float) -> None:
        time.sleep(0.01)


def train(folder: Path, slow: bool = True) -> dict[str, Any]:
    """Train to the end from the newest checkpoint in ``folder``; a line of samples for each step and rank."""
    world = distributed.init()
    numbers = np.arange(SAMPLES)
    x = random_generator(1).normal(size=(SAMPLES, 8))
    y = (x.sum(axis=1) > 0).astype(np.int64)
    generator = random_generator(0)
    model = nn.Sequential(nn.Linear(8, 16, generator=generator), nn.Tanh(), nn.Linear(16, 2, generator=generator))
    model.to(np.float64)
    data = DataLoader(ArrayDataset(x, y, numbers), BATCH, shuffle=True, seed=5)
    log = (folder / f"samples-{world.size}-{world.rank}-{os.getpid()}.jsonl").open("a")

    def loss(batch: Any) -> Any:
        log.write(json.dumps([trainer.step, world.rank, time.time(), batch[2].tolist()]) + "\n")
        log.flush()
        return F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1])

    saving = Checkpoint(folder / "checkpoints", every_steps=3)
    trainer = Trainer(
        model, optim.Adam(model.parameters(), lr=0.01), data, loss, callbacks=[Slow(), saving] if slow else [saving],
        distributed=world,
    )  # fmt: skip
    saving.resume(trainer)
    trainer.run(EPOCHS)
    log.close()
    if world.rank == 0:
        np.savez(folder / "weights.npz", **model.state_dict())
    return model.state_dict()


def order(folder: Path) -> list[list[int]]:
    """The samples of each step, of the last time that it was taken."""
    steps: dict[int, dict[int, dict[int, tuple[float, list[int]]]]] = {}
    for path in folder.glob("samples-*.jsonl"):
        ranks = int(path.name.split("-")[1])
        for line in path.read_text().splitlines():
            step, rank, at, samples = json.loads(line)
            steps.setdefault(step, {}).setdefault(ranks, {})
            taken = steps[step][ranks]
            if rank not in taken or taken[rank][0] < at:
                taken[rank] = at, samples
    found = []
    for step in sorted(steps):
        last = max(steps[step].values(), key=lambda taken: max(at for at, _ in taken.values()))
        found.append([sample for rank in sorted(last) for sample in last[rank][1]])
    return found


def ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the ranks that ``mpirun`` started: those that run this file."""
    found, left = [], [process.pid]
    while left:
        pid = left.pop()
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if Path(__file__).name in Path(f"/proc/{pid}/cmdline").read_text() and not children:
                found.append(pid)
        except OSError:
            continue
        left += map(int, children)
    return found


def try_once(moment: random.Random, whole: list[list[int]], weights: dict[str, Any], resumed: int) -> str:
    """Kill a rank and resume on ``resumed`` ranks; say at which step it was killed."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        program = (sys.executable, __file__, "train", folder)
        process = subprocess.Popen(
            command(2, *program), env=environment(), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        while not list(folder.glob("samples-2-0-*")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        time.sleep(moment.uniform(0, 1.0))
        ranks = ranks_of(process)
        killed = moment.choice(ranks) if ranks else None
        if killed is not None:
            os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        said = process.communicate(timeout=40)[0]
        assert killed is None or process.returncode != 0, said
        ended = time.monotonic() - began
        there = (folder / "checkpoints").glob("step-*.safetensors")
        steps = [load_checkpoint(path)["trainer"]["step"] for path in there]  # each is whole
        reached = len(order(folder))
        again = (
            f"import runpy, sys; sys.argv[1:] = 'train', {made!r}; runpy.run_path({__file__!r}, run_name='__main__')"
        )
        run_ranks(resumed, again, limit=120)
        assert order(folder) == whole
        found = np.load(folder / "weights.npz")
        for name, w in weights.items():
            np.testing.assert_allclose(found[name], w, rtol=1e-9, atol=1e-12)
    at = f"killed in step {reached}, left after {ended:.1f} s, checkpoints {sorted(steps)}"
    return f"{at}, resumed on {resumed} ranks: equal"


def main(tries: int, seed: int = 0) -> None:
    moment = random.Random(seed)
    with tempfile.TemporaryDirectory() as made:
        weights = train(Path(made), slow=False)
        whole = order(Path(made))
    taken = np.concatenate([np.array(batch) for batch in whole]).reshape(EPOCHS, SAMPLES)
    assert (np.sort(taken) == np.arange(SAMPLES)).all()
    for number in range(tries):
        print(f"{number + 1}/{tries}: {try_once(moment, whole, weights, 1 + number % 3)}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
