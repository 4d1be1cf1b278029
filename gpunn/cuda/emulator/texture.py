"""Textures and surfaces: NumPy arrays that a kernel reaches through a handle."""

from __future__ import annotations

import ctypes
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, check

# In the order of `enum class TextureShape` in include/gpunn_emulator/interface.h.
SHAPES = ("linear", "1d", "2d", "3d", "1d-layered", "2d-layered", "cube", "cube-layered")

# The axes of an array of each kind before that of its channels.
_AXES = {
    "linear": "x", "1d": "x", "2d": "yx", "3d": "zyx", "1d-layered": "lx", "2d-layered": "lyx", "cube": "fyx",
    "cube-layered": "lfyx",
}  # fmt: skip
_BY_AXES = {1: "1d", 2: "2d", 3: "3d"}
_FACES = 6

# Numbers of CUDA's enums.
_ADDRESS_MODES = {"wrap": 0, "clamp": 1, "mirror": 2, "border": 3}
_FILTER_MODES = {"point": 0, "linear": 1}
_READ_MODES = {"element_type": 0, "normalized_float": 1}
_CHANNEL_KINDS = {"i": 0, "u": 1, "f": 2}

_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32")
_CHANNELS = (1, 2, 4)

# The largest sizes of compute capability 9.0: in elements, and layers or slices.
_LARGEST_TEXTURE = {
    "linear": {"x": 2**28},
    "1d": {"x": 131072},
    "2d": {"x": 131072, "y": 65536},
    "3d": {"x": 16384, "y": 16384, "z": 16384},
    "1d-layered": {"x": 32768, "l": 2048},
    "2d-layered": {"x": 32768, "y": 32768, "l": 2048},
    "cube": {"x": 32768, "y": 32768, "f": _FACES},
    "cube-layered": {"x": 32768, "y": 32768, "f": _FACES, "l": 2046 // _FACES},
}
_LARGEST_SURFACE = {**_LARGEST_TEXTURE, "1d": {"x": 32768}}


class _Texture(ctypes.Structure):
    """`struct Texture` of runtime/launch.h."""

    _fields_ = (
        ("handle", ctypes.c_uint64),
        ("memory", ctypes.c_void_p),
        ("row_pitch", ctypes.c_size_t),
        ("slice_pitch", ctypes.c_size_t),
        ("shape", ctypes.c_int),
        ("width", ctypes.c_uint),
        ("height", ctypes.c_uint),
        ("depth", ctypes.c_uint),
        ("channels", ctypes.c_int),
        ("bits", ctypes.c_int),
        ("kind", ctypes.c_int),
        ("address_modes", ctypes.c_int * 3),
        ("linear_filter", ctypes.c_int),
        ("normalized_float", ctypes.c_int),
        ("normalized_coordinates", ctypes.c_int),
        ("border", ctypes.c_uint * 4),
        ("is_surface", ctypes.c_int),
        ("may_gather", ctypes.c_int),
    )


# --- handles ----------------------------------------------------------------------------------------------------------

_SLOTS = 1 << 20  # `texture_slots` of runtime/launch.h
_table = np.zeros(_SLOTS, np.uint64)  # the addresses of the descriptions, by their slots
_serial = itertools.count(1)
_fresh = iter(range(_SLOTS))
_free: deque[int] = deque()

TABLE: int = _table.ctypes.data
"""Where a launch finds the descriptions."""


def _take_slot() -> int:
    try:
        return _free.popleft()
    except IndexError:
        slot = next(_fresh, -1)
    check(slot >= 0, ArgumentError, "texture", f"at most {_SLOTS} textures and surfaces may live at once")
    return slot


class _Entry:
    """A description in the table, as long as this lives."""

    def __init__(self, description: _Texture) -> None:
        self._slot = _take_slot()
        self._description = description
        self.handle: int = next(_serial) * _SLOTS + self._slot
        description.handle = self.handle
        _table[self._slot] = ctypes.addressof(description)

    def __del__(self, table: np.ndarray[Any, Any] = _table, free: deque[int] = _free) -> None:
        table[self._slot] = 0
        free.append(self._slot)

    def __reduce__(self) -> str:
        raise TypeError("a texture or surface has no copy with memory of its own, and cannot be pickled")


class Bound:
    """An array that a kernel reaches through a handle; it lives as long as the handle does.

    Attributes:
        array: the array. Who writes to it changes what the next launch sees.
        ptr: the handle, a number that belongs to no other object of this process.
    """

    def __init__(self, array: np.ndarray[Any, Any], description: _Texture) -> None:
        self.array = array
        self._entry = _Entry(description)

    @property
    def ptr(self) -> int:
        return self._entry.handle


# --- what a user makes ------------------------------------------------------------------------------------------------


class TextureObject(Bound):
    """A texture: pass it to a kernel for a ``cudaTextureObject_t``, which ``tex2D`` and its like fetch from.

    Args:
        array: C-contiguous, of int8 to int32, uint8 to uint32, float16 (fetched as float) or float32, which the texture
            does not copy. Its shape is that of the kind, with an axis of 2 or 4 (or 1) channels after it if wanted.
        kind: ``"linear"`` (width,) for ``tex1Dfetch``; ``"1d"`` (width,); ``"2d"`` (height, width); ``"3d"`` (depth,
            height, width); ``"1d-layered"`` (layers, width); ``"2d-layered"`` (layers, height, width); ``"cube"``
            (6, n, n), the faces +x, -x, +y, -y, +z, -z; ``"cube-layered"`` (layers, 6, n, n). If not given, ``"1d"``,
            ``"2d"`` or ``"3d"``, as the array has axes.
        address_mode: what lies beyond the edge: ``"clamp"``, ``"border"``, and with normalized coordinates ``"wrap"``
            and ``"mirror"``; one for all axes, or a sequence for x, y, z. Each face of a cube is clamped.
        filter_mode: ``"point"``, the texel that the coordinate lies in, or ``"linear"``: with i = floor(x - 0.5) and
            a = x - 0.5 - i, rounded to a multiple of 1/256, it is (1 - a) T[i] + a T[i + 1], and so for each axis.
        read_mode: ``"element_type"``, or ``"normalized_float"``: integers of n = 8 or 16 bits are fetched as float,
            v / (2ⁿ - 1), and if they are signed max(v / (2ⁿ⁻¹ - 1), -1).
        normalized_coords: coordinates count from 0 to 1, and not to the number of texels.
        border_color: the channels that ``"border"`` shows; zeros if not given.

    >>> from gpunn.cuda.emulator import RawKernel
    >>> code = '''extern "C" __global__ void at(cudaTextureObject_t image, float x, float y, float* out) {
    ...     *out = tex2D<float>(image, x, y);
    ... }'''
    >>> image = TextureObject(np.array([[0, 1], [4, 5]], np.float32), filter_mode="linear")
    >>> out = np.zeros(1, np.float32)
    >>> RawKernel(code, "at")((1,), (1,), (image, np.float32(0.75), np.float32(1.5), out))
    >>> out
    array([4.25], dtype=float32)

    Raises ArgumentError for what CUDA does not know.
    """

    def __init__(
        self,
        array: np.ndarray[Any, Any],
        kind: str | None = None,
        *,
        address_mode: str | Sequence[str] = "clamp",
        filter_mode: str = "point",
        read_mode: str = "element_type",
        normalized_coords: bool = False,
        border_color: Sequence[float] | None = None,
    ) -> None:
        name = "TextureObject"
        description = _described(name, array, kind, _LARGEST_TEXTURE)
        linear_filter = _number(name, "filter_mode", filter_mode, _FILTER_MODES)
        normalized_float = _number(name, "read_mode", read_mode, _READ_MODES)
        modes = [address_mode] * 3 if isinstance(address_mode, str) else list(address_mode)
        addresses = [_number(name, "address_mode", mode, _ADDRESS_MODES) for mode in modes]
        check(1 <= len(addresses) <= 3, ArgumentError, name, "address_mode must have 1 to 3 modes", got=address_mode)
        is_float, shape = description.kind == _CHANNEL_KINDS["f"], SHAPES[description.shape]
        small = not is_float and description.bits <= 16
        check(
            small or normalized_float == 0,
            ArgumentError,
            name,
            'read_mode "normalized_float" takes integers of 8 or 16 bits',
            dtype=array.dtype,
        )
        check(
            is_float or normalized_float == 1 or linear_filter == 0,
            ArgumentError,
            name,
            'filter_mode "linear" needs floating-point numbers, or read_mode "normalized_float"',
            dtype=array.dtype,
        )
        check(
            normalized_coords or not {"wrap", "mirror"}.intersection(modes),
            ArgumentError,
            name,
            'address_mode "wrap" and "mirror" need normalized_coords=True',
            got=address_mode,
        )
        check(
            not shape.startswith("cube") or set(modes) == {"clamp"},
            ArgumentError,
            name,
            'the address_mode of a cube must be "clamp"',
            got=address_mode,
        )
        check(
            shape != "linear" or not (linear_filter or normalized_coords or set(modes) != {"clamp"}),
            ArgumentError,
            name,
            'a texture of kind "linear" has neither filter nor address modes, nor normalized coordinates; see "1d"',
        )
        description.address_modes[: len(addresses)] = addresses
        description.address_modes[len(addresses) :] = [_ADDRESS_MODES["clamp"]] * (3 - len(addresses))
        description.linear_filter, description.normalized_float = linear_filter, normalized_float
        description.normalized_coordinates, description.may_gather = normalized_coords, 1
        border = [0] * description.channels if border_color is None else list(border_color)
        check(
            len(border) == description.channels,
            ArgumentError,
            name,
            "border_color must have a number for each channel",
            got=border_color,
            channels=description.channels,
        )
        returned = np.float32 if is_float or normalized_float else np.dtype("iu"[description.kind] + "4")
        description.border[: len(border)] = np.array(border, returned).view(np.uint32).tolist()
        super().__init__(array, description)


class SurfaceObject(Bound):
    """A surface: pass it to a kernel for a ``cudaSurfaceObject_t``, which ``surf2Dwrite`` and its like write to.

    ``array`` and ``kind`` are as of :class:`TextureObject`; the array must be writeable, and there is no kind
    ``"linear"``. A kernel counts x in bytes, and may move elements of another type than the array's.

    >>> from gpunn.cuda.emulator import RawKernel
    >>> code = '''extern "C" __global__ void fill(cudaSurfaceObject_t image) {
    ...     surf2Dwrite(10.0f * threadIdx.y + threadIdx.x, image, threadIdx.x * sizeof(float), threadIdx.y);
    ... }'''
    >>> x = np.zeros((2, 3), np.float32)
    >>> RawKernel(code, "fill")((1,), (3, 2), (SurfaceObject(x),))
    >>> x
    array([[ 0.,  1.,  2.],
           [10., 11., 12.]], dtype=float32)

    Raises ArgumentError for what CUDA does not know.
    """

    def __init__(self, array: np.ndarray[Any, Any], kind: str | None = None) -> None:
        name = "SurfaceObject"
        description = _described(name, array, kind, _LARGEST_SURFACE)
        check(SHAPES[description.shape] != "linear", ArgumentError, name, 'there is no kind "linear"; use "1d"')
        check(bool(array.flags.writeable), ArgumentError, name, "the array must be writeable")
        description.is_surface = 1
        super().__init__(array, description)


def _described(
    name: str, array: np.ndarray[Any, Any], kind: str | None, largest: dict[str, dict[str, int]]
) -> _Texture:
    """What the array itself says of a texture."""
    check(isinstance(array, np.ndarray), ArgumentError, name, "array must be a NumPy array", got=type(array).__name__)
    check(
        array.dtype.name in _DTYPES and array.dtype.isnative,
        ArgumentError,
        name,
        f"the array must be of one of {', '.join(_DTYPES)}",
        got=array.dtype.str,
    )
    check(bool(array.flags.c_contiguous), ArgumentError, name, "the array must be C-contiguous", got=array.strides)
    kind = _BY_AXES.get(array.ndim, f"of {array.ndim} axes") if kind is None else kind
    check(kind in SHAPES, ArgumentError, name, f"kind must be one of {', '.join(SHAPES)}", got=kind)
    axes = _AXES[kind]
    sizes = dict(zip(axes, array.shape, strict=False))
    channels = array.shape[-1] if array.ndim == len(axes) + 1 else 1
    check(
        array.ndim in (len(axes), len(axes) + 1) and channels in _CHANNELS,
        ArgumentError,
        name,
        f'kind "{kind}" takes {len(axes)} axes, and one of 1, 2 or 4 channels after them if wanted',
        shape=array.shape,
    )
    fits = all(1 <= size <= largest[kind][axis] for axis, size in sizes.items())
    check(fits, ArgumentError, name, f"sizes must be from 1 to {[*largest[kind].values()]}", shape=array.shape)
    square = "f" not in sizes or (sizes["f"] == _FACES and sizes["x"] == sizes["y"])
    check(square, ArgumentError, name, "a cube has 6 faces, as high as they are wide", shape=array.shape)
    width, height = sizes["x"], sizes.get("y", 1)
    element = channels * array.dtype.itemsize
    return _Texture(
        memory=array.ctypes.data,
        row_pitch=width * element,
        slice_pitch=height * width * element,
        shape=SHAPES.index(kind),
        width=width,
        height=height,
        depth=sizes.get("z", 1) * sizes.get("l", 1) * sizes.get("f", 1),
        channels=channels,
        bits=8 * array.dtype.itemsize,
        kind=_CHANNEL_KINDS[array.dtype.kind],
    )


def _number(name: str, what: str, given: str, numbers: dict[str, int]) -> int:
    check(given in numbers, ArgumentError, name, f"{what} must be one of {', '.join(numbers)}", got=given)
    return numbers[given]
