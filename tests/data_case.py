"""What the tests of data share: data sets and functions that worker processes can be sent, files, damage to files."""

from __future__ import annotations

import os
import random
import struct
import time

import numpy as np

from gpunn.backend import default_generator


class Numbers:
    """Sample i is the number i as an array, after a while that differs from sample to sample."""

    def __init__(self, length: int, seconds: float = 0.0) -> None:
        self.length, self.seconds = length, seconds

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(self.seconds * (1 + index % 3))
        return np.full(3, index, np.float32)


class Faulty(Numbers):
    """One sample cannot be made."""

    def __getitem__(self, index: int) -> np.ndarray:
        if index == 7:
            raise ValueError("seven is bad")
        return super().__getitem__(index)


class Deadly(Numbers):
    """One sample ends the process that makes it."""

    bad = 7

    def __getitem__(self, index: int) -> np.ndarray:
        if index == self.bad:
            os._exit(3)
        return super().__getitem__(index)


class Pids(Numbers):
    """Each sample is the number of the process that makes it."""

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(os.getpid())


class Draws(Numbers):
    """Each sample is one draw of each global generator: of ``random``, of NumPy and of gpunn."""

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array([random.random(), np.random.random(), default_generator().random()])  # noqa: NPY002


def noise(sample: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return sample + generator.random(sample.shape, np.float32)


def scaled(batch: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return batch * generator.random(dtype=np.float32)


def unsendable(samples: list[np.ndarray]) -> object:
    return lambda: samples


def failing_augment(batch: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    raise KeyError("no such colour")


IDX_CODES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_bytes(a: np.ndarray, code: int = 0x08) -> bytes:
    sizes = b"".join(struct.pack(">I", n) for n in a.shape)
    return bytes([0, 0, code, a.ndim]) + sizes + a.astype(IDX_CODES[code]).tobytes()


def damaged(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    """The content cut, lengthened, with flipped bits, huge sizes, or with bytes taken out or put in."""
    kind = rng.integers(8)
    changed = bytearray(content)
    place = int(rng.integers(header if rng.random() < 0.7 else len(content)))
    if kind == 0:
        return bytes(changed[: int(rng.integers(len(content)))])
    if kind == 1:
        return bytes(changed) + rng.bytes(int(rng.integers(1, 20)))
    if kind in (2, 3):
        for _ in range(int(rng.integers(1, 4))):
            i = int(rng.integers(header if rng.random() < 0.7 else len(content)))
            changed[i] ^= 1 << int(rng.integers(8))
    elif kind == 4:
        width = int(rng.integers(1, 9))
        changed[place : place + width] = (b"\xff", b"\x7f", b"9")[rng.integers(3)] * width
    elif kind == 5:
        del changed[place : place + int(rng.integers(1, 9))]
    elif kind == 6:
        changed[place:place] = rng.bytes(int(rng.integers(1, 9)))
    else:
        other = int(rng.integers(len(content)))
        changed[place : place + 8] = content[other : other + 8]
    return bytes(changed)
