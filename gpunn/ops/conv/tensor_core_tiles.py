"""How a convolution is laid out and tiled for tensor cores, ``kernels/conv_mma.cu``: pure functions of shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gpunn.ops.conv.tiles import MAX_BLOCKS_YZ

CHUNK_BYTES = 16
PIECE_BYTES = 64
TILE_N = 128
THREADS = 256
PACK_TILE = 32
CONSTANTS = {
    "THREADS": THREADS,
    "TILE_N": TILE_N,
    "PACK_TILE": PACK_TILE,
    "CHUNK_BYTES": CHUNK_BYTES,
    "PIECE_BYTES": PIECE_BYTES,
}
"""The macros of ``kernels/conv_mma.cu`` that are the same in every launch."""

TILES = (32, 64, 128)
"""The rows that a tile may have."""
_MOST_TAPS = 4


@dataclass(frozen=True)
class Tiling:
    """Tiles of ``rows`` x ``TILE_N``, the pixels of a weight gradient summed in ``splits`` runs."""

    rows: int
    splits: int = 1


@dataclass(frozen=True)
class Layout:
    """The elements of a pixel's ``channels`` in chunks of ``chunk`` elements, of which the kernel takes whole ones.

    Where channels are so few that those of 2 or 4 taps fit into a chunk, neighbouring taps share one.

    >>> Layout(3, 8).taps, Layout(3, 8).padded, Layout(3, 8).chunks(11 * 11)
    (2, 4, 61)
    >>> Layout(20, 8).taps, Layout(20, 8).padded, Layout(20, 8).chunks(3 * 3)
    (1, 24, 27)
    """

    channels: int
    chunk: int

    @property
    def taps(self) -> int:
        """The taps that share a chunk: 1, 2 or 4."""
        taps = 1
        while taps < _MOST_TAPS and 2 * taps * self.channels <= self.chunk:
            taps *= 2
        return taps

    @property
    def padded(self) -> int:
        """The elements that a pixel takes."""
        part = self.chunk // self.taps
        return -(-self.channels // part) * part

    @property
    def parts(self) -> int:
        """The parts of a pixel: its chunks, or 1 where taps share them."""
        return self.padded * self.taps // self.chunk

    def chunks(self, taps: int) -> int:
        """The chunks that a window of so many taps takes."""
        return -(-taps * self.padded // self.chunk)


def tile_rows(rows: int) -> int:
    """Tall tiles read the pixels less often; low ones waste less of a layer with few channels."""
    return next((tile for tile in TILES if rows <= tile), TILES[-1])


def tiles(rows: int, columns: int, tile: int) -> tuple[int, int]:
    """The tiles of a product: across and down."""
    return -(-columns // TILE_N), -(-rows // tile)


# Enough blocks to fill a large GPU twice over. A fixed number: the same sums, to the bit, on every device.
_SPLIT_BLOCKS = 512
_LEAST_PIECES = 8  # of a split: fewer would not fill the ring


class Work(NamedTuple):
    """A product of ``rows`` x ``columns``, ``batch`` of them; ``chunk`` elements of x or gy make 16 bytes.

    ``pixels`` are the terms of a weight gradient, 0 in the other passes: their terms are never split.
    """

    rows: int
    columns: int
    batch: int
    chunk: int
    pixels: int = 0


def choose(work: Work) -> Tiling:
    """The tiling of a product.

    >>> choose(Work(96, 488, 1, 8, pixels=128 * 55 * 55))
    Tiling(rows=128, splits=128)
    """
    return _tiling(work, tile_rows(work.rows), 1.0)


def tilings(work: Work) -> list[Tiling]:
    """What may be chosen instead: each tile, and for weight gradients also fewer and more splits of the usual one.

    >>> tilings(Work(96, 128 * 55 * 55, 1, 8))
    [Tiling(rows=32, splits=1), Tiling(rows=64, splits=1), Tiling(rows=128, splits=1)]
    """
    wanted = [(tile, 1.0) for tile in TILES]
    wanted += [(tile_rows(work.rows), factor) for factor in (0.25, 0.5, 2.0, 4.0)]
    return list(dict.fromkeys(_tiling(work, tile, factor) for tile, factor in wanted))


def _tiling(work: Work, tile: int, factor: float) -> Tiling:
    across, down = tiles(work.rows, work.columns, tile)
    wanted = int(factor * (_SPLIT_BLOCKS // (across * down * work.batch)))
    wanted = max(1, min(wanted, _pieces(work) // _LEAST_PIECES, MAX_BLOCKS_YZ // work.batch))
    return Tiling(tile, max(1, -(-work.pixels // split_pixels(work, wanted))))


def split_pixels(work: Work, splits: int) -> int:
    """The pixels of each of about so many splits: whole pieces."""
    return max(1, -(-_pieces(work) // splits)) * _depth(work)


def _depth(work: Work) -> int:
    """The pixels of a piece."""
    return PIECE_BYTES * work.chunk // CHUNK_BYTES


def _pieces(work: Work) -> int:
    return -(-work.pixels // _depth(work))
