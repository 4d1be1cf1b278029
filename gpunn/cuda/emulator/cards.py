"""Cards whose published figures :mod:`gpunn.cuda.emulator.counting` works with."""

from __future__ import annotations

from dataclasses import dataclass

from gpunn.errors import ArgumentError


@dataclass(frozen=True)
class Card:
    """What NVIDIA has published of a card. Rates are those of dense work, without sparsity.

    Attributes:
        name: what :func:`card` takes.
        arch: what NVRTC compiles for.
        multiprocessors: how many SMs it has.
        clock: the boost clock, Hz.
        fp32, fp64: operations a second; a fused multiply-add is two.
        tensor: the same of the tensor cores with sums in float32, for "tf32" and for 16-bit types ("16 bit").
        bandwidth: of the DRAM, bytes a second.
        cache_bytes: of the L2 cache.
        registers, shared_bytes, warps, blocks: what a multiprocessor has room for at most.
    """

    name: str
    arch: str
    multiprocessors: int
    clock: float
    fp32: float
    fp64: float
    tensor: dict[str, float]
    bandwidth: float
    cache_bytes: int
    registers: int
    shared_bytes: int
    warps: int
    blocks: int

    def blocks_at_once(self, threads: int, shared_bytes: int) -> int:
        """How many blocks of so many threads and bytes of shared memory it has room for; registers are not looked at.

        >>> card("H200").blocks_at_once(1024, 0), card("H200").blocks_at_once(128, 100 << 10)
        (264, 264)
        """
        return self.multiprocessors * self.blocks_of_multiprocessor(threads, shared_bytes)

    def blocks_of_multiprocessor(self, threads: int, shared_bytes: int) -> int:
        """The same of one multiprocessor."""
        by_warps, by_shared = self.warps // -(-threads // _WARP), self.shared_bytes // (shared_bytes + _RESERVED_BYTES)
        return min(self.blocks, by_warps, by_shared)


_WARP = 32
_RESERVED_BYTES = 1 << 10
"""Of shared memory, for each block: CUDA C++ Programming Guide, from compute capability 8.0 on."""

CARDS = {
    card.name: card
    for card in (
        # Data sheet "NVIDIA H200 Tensor Core GPU", SXM, where the tensor rates are those of sparse matrices, twice what
        # stands here; white paper "NVIDIA H100 Tensor Core GPU Architecture" for the chip; the clock follows from
        # 67 TFLOPS of 132 x 128 lanes.
        Card("H200", "sm_90a", 132, 1.98e9, 67e12, 34e12, {"tf32": 494.5e12, "16 bit": 989.5e12}, 4.8e12, 50 << 20,
             65536, 228 << 10, 64, 32),
        # Data sheet "NVIDIA A100 Tensor Core GPU", SXM with 80 GB; white paper "NVIDIA A100 Tensor Core GPU
        # Architecture".
        Card("A100", "sm_80", 108, 1.41e9, 19.5e12, 9.7e12, {"tf32": 156e12, "16 bit": 312e12}, 2.039e12, 40 << 20,
             65536, 164 << 10, 64, 32),
        # NVIDIA's page of the GeForce RTX 3060, 12 GB; white paper "NVIDIA Ampere GA102 GPU Architecture" for what a
        # multiprocessor does in a cycle: with sums in float32 its tensor cores multiply and add 256 pairs of 16 bits,
        # or 128 of tf32; two float64.
        Card("RTX 3060", "sm_86", 28, 1.777e9, 12.74e12, 0.199e12, {"tf32": 12.74e12, "16 bit": 25.48e12}, 360e9,
             3 << 20, 65536, 100 << 10, 48, 16),
    )
}  # fmt: skip


def card(name: str) -> Card:
    """The card of that name; raises ArgumentError with those that are known.

    >>> card("A100").arch
    'sm_80'
    """
    if name not in CARDS:
        raise ArgumentError(f"count: card must be one of {', '.join(CARDS)}, got {name!r}")
    return CARDS[name]


def card_of(arch: int) -> Card:
    """The card whose ``__CUDA_ARCH__`` that is, and the H200 where there is none.

    >>> card_of(860).name, card_of(750).name
    ('RTX 3060', 'H200')
    """
    return next((each for each in CARDS.values() if each.arch == f"sm_{arch // 10}"), CARDS["H200"])
