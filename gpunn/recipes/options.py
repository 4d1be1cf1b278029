"""Options of recipes: fields of a frozen dataclass that carry their help and bounds.

The command line makes its options from them, a TOML file gives them, and the dataclass checks them, so that all three
say the same.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import reprlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

from gpunn.backend import half_dtype
from gpunn.errors import ArgumentError, FileError, GpunnError, check, fail
from gpunn.train.trainer import PRECISIONS


def option(
    default: Any,
    text: str,
    least: int | None = None,
    positive: bool = False,
    choices: tuple[str, ...] = (),
    shown: str | None = None,
    path: bool = False,
) -> Any:
    """A field with a default, a line of help, and what values it takes.

    ``least`` bounds a number from below, ``positive`` asks for a finite number above 0, ``choices`` lists words;
    ``shown`` says in words what the default of None stands for. ``path`` says that it is a file or a folder, of which
    a run keeps the full path.
    """
    rules = {"text": text, "least": least, "positive": positive, "choices": choices, "shown": shown, "path": path}
    return field(default=default, metadata=rules)


@dataclass(frozen=True)
class Options:
    """The options of every recipe; a recipe's own come on top.

    Numbers become Python's, so that equal options are written alike.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Mine(Options):
    ...     epochs: int = option(3, "Passes over the data.", least=1)
    >>> Mine(epochs=0)
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: options: epochs must be at least 1, got epochs=0
    """

    command: ClassVar[str] = "options"  # the name that errors begin with
    seed: int = option(0, "Draws every random number of the run.", least=0)
    device: str | None = option(None, "cpu, gpu or gpu:N.", shown="the environment variable GPUNN_DEVICE, or cpu")
    emulate: bool = option(False, "Run the CUDA kernels on the CPU (slow; needs g++ or clang++).")

    def __post_init__(self) -> None:
        types = types_of(type(self))
        for each in fields(self):
            value = _checked(ArgumentError, self.command, each, types[each.name], getattr(self, each.name))
            object.__setattr__(self, each.name, value)


@dataclass(frozen=True)
class TrainingOptions(Options):
    """The options of every recipe that trains with :class:`gpunn.train.Trainer`.

    Raises PackageError too, for a precision that needs a package which is not installed.
    """

    precision: str = option("fp32", "Compute in float32, or products in bfloat16 or float16.", choices=PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision != "fp32":
            half_dtype(self.command, self.precision)


def own_first(kind: type[Options]) -> list[Field[Any]]:
    """The options of a recipe, those that others have too at the end.

    >>> [each.name for each in own_first(Options)]
    ['seed', 'device', 'emulate']
    """
    common = {each.name for each in fields(kind.__mro__[1])} if kind is not Options else set()
    return sorted(fields(kind), key=lambda each: each.name in common)


def as_config(options: Options) -> dict[str, Any]:
    """The options as a run keeps them; files and folders with their full path: a run is opened from other folders, too.

    >>> as_config(Options(seed=3))
    {'seed': 3, 'device': None, 'emulate': False}
    """
    given = asdict(options)
    for name in paths_of(type(options)):
        given[name] = given[name] and str(Path(given[name]).absolute())
    return given


def paths_of(kind: type[Options]) -> list[str]:
    """The options that name a file or a folder."""
    return [each.name for each in fields(kind) if each.metadata["path"]]


def moved(options: Options, data: str | os.PathLike[str]) -> Options:
    """The options of a run whose file or folder is now at ``data``; ArgumentError where the run was given none.

    >>> moved(Options(), "text.txt")
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: options: such a run was given no file or folder of data that could be elsewhere, got \
data='text.txt'
    """
    names = [name for name in paths_of(type(options)) if getattr(options, name) is not None]
    rule = "such a run was given no file or folder of data that could be elsewhere"
    check(len(names) == 1, ArgumentError, options.command, rule, data=os.fspath(data))
    there: dict[str, Any] = {names[0]: os.fspath(data)}
    return replace(options, **there)


def types_of(kind: type[Options]) -> dict[str, Any]:
    """The type of each option, as ``int`` or ``str | None``."""
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


# ---- the rules -----------------------------------------------------------------------------------------------------

_TYPES = {bool: (bool, "true or false"), int: (Integral, "an integer"), float: (Real, "a number"), str: (str, "text")}
_BITS = 63  # of integers, as arrays hold them


def _checked(error: type[GpunnError], where: str, field: Field[Any], kind: Any, value: Any) -> Any:
    """``value`` as Python's own number, word or flag; ``error`` if it breaks a rule of ``field``."""
    name, rules = field.name, field.metadata

    def must(holds: bool, rule: str) -> None:
        if not holds:
            fail(error, where, f"{name} must be {rule}, got {name}={_shown(value)}")

    kinds = [each for each in get_args(kind) or (kind,) if each is not type(None)]
    if value is None and len(kinds) < len(get_args(kind)):
        return None
    (plain,) = kinds
    accepted, words = _TYPES[plain]
    must(isinstance(value, accepted) and (plain is bool or not isinstance(value, bool)), words)
    if plain is str:
        must("\0" not in value, "text without a null character")
    elif isinstance(value, int):
        must(value.bit_length() <= _BITS, f"of at most {_BITS} bits")
    value = plain(value)
    if rules["least"] is not None:
        must(value >= rules["least"], f"at least {rules['least']}")
    if rules["positive"]:
        must(0 < value < math.inf, "above 0 and finite")
    if rules["choices"]:
        must(value in rules["choices"], f"one of {', '.join(rules['choices'])}")
    return value


def _shown(value: object) -> str:
    """A short form of ``value``, whatever a file may hold."""
    if isinstance(value, (dict, list)):  # to any depth
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and value.bit_length() > _BITS:  # Python refuses to write very long ones
        return f"an integer of {value.bit_length()} bits"
    return reprlib.repr(value) if isinstance(value, str) else repr(value)


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of an error about a ``word`` that is none of ``words``: the nearest of them, or all.

    >>> nearest("epoch", ["epochs", "seed"])
    "did you mean 'epochs'?"
    >>> nearest("cats", ["epochs", "seed"])
    'there are epochs, seed'
    """
    every = list(words)
    near = difflib.get_close_matches(word[:100], every, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(every)}"


# ---- options in files ----------------------------------------------------------------------------------------------

LARGEST = 1 << 13
"""The bytes that a file of options may have: tomllib needs time and memory with the square of a key."""


def read_options(path: str | os.PathLike[str], kind: type[Options]) -> dict[str, Any]:
    """The options that the TOML file ``path`` gives for ``kind``; those it does not name are left out.

    Keys stand at the top and are the names of options, as in Python or on the command line: ``batch_size`` or
    ``batch-size``. Raises FileError, with the place and the cause, for a file that cannot be read, is no TOML, has more
    than :data:`LARGEST` bytes, or names an option or a value that there is not.

    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "run.toml")
    >>> _ = path.write_text("seed = 3")
    >>> Options(**read_options(path, Options)).seed
    3
    """
    types = types_of(kind)
    by_name = {each.name: each for each in own_first(kind)}
    found: dict[str, Any] = {}
    for key, value in _read_toml(path).items():
        name = key.replace("-", "_")
        if name not in by_name:
            fail(FileError, str(path), f"{kind.command} has no option {reprlib.repr(key)}; {nearest(name, by_name)}")
        check(name not in found, FileError, str(path), f"{name} is given twice, also as {key}")
        found[name] = _checked(FileError, str(path), by_name[name], types[name], value)
    return found


def _read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise FileError(f"{path}: the options cannot be read: {getattr(error, 'strerror', None) or error}") from error
    check(len(content) <= LARGEST, FileError, str(path), f"a file of options has at most {LARGEST} bytes")
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not text in UTF-8: {error.reason} at byte {error.start}") from error
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise FileError(f"{path}: not options in TOML: nested too deeply") from None
    except ValueError as error:
        raise FileError(f"{path}{_place(text, str(error))}") from error


def _place(text: str, message: str) -> str:
    """Place and cause of an error of tomllib, which ends in ``(at line 3, column 5)`` or ``(at end of document)``."""
    cause, _, place = message.partition(" (at ")
    if numbers := re.match(r"line (\d+), column (\d+)", place):
        line, column = numbers.groups()
    elif place:
        line, column = str(text.count("\n") + 1), str(len(text) - (text.rfind("\n") + 1) + 1)
    else:  # of a value that is no number or date, which has no place
        return f": not TOML: {cause}"
    return f", line {line}, column {column}: not TOML: {cause}"


def as_toml(options: Options) -> str:
    """``options`` as a TOML file, each with its help; an option of None stands in a comment.

    >>> print(as_toml(Options(seed=3)), end="")
    # Draws every random number of the run. At least 0.
    seed = 3
    <BLANKLINE>
    # cpu, gpu or gpu:N. Default: the environment variable GPUNN_DEVICE, or cpu.
    # device = "..."
    <BLANKLINE>
    # Run the CUDA kernels on the CPU (slow; needs g++ or clang++).
    emulate = false
    """
    import tomlkit  # not needed to read a file of options, nor by runs

    blocks, types = [], types_of(type(options))
    for each in own_first(type(options)):
        value = getattr(options, each.name)
        blank = '"..."' if str in get_args(types[each.name]) else "..."
        line = f"# {each.name} = {blank}" if value is None else f"{each.name} = {tomlkit.item(value).as_string()}"
        blocks.append(f"# {each.metadata['text']}{_bounds(each.metadata)}\n{line}\n")
    return "\n".join(blocks)


def _bounds(rules: Mapping[str, Any]) -> str:
    least = f" At least {rules['least']}." if rules["least"] is not None else ""
    choices = f" One of {', '.join(rules['choices'])}." if rules["choices"] else ""
    return least + choices + (f" Default: {rules['shown']}." if rules["shown"] else "")
