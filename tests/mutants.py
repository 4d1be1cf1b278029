"""Plant faults in the kernel sources, one at a time, and see that the tests catch them.

    python tests/mutants.py [stem ...]

Rules plant common mistakes in every line of every file in kernels/ that they match (`RULES`), so a new kernel needs
nothing here; what no rule can reach is planted by hand (`BY_HAND`). Of each file's mutants a sample is run. It is
drawn by a digest of the lines themselves: a change elsewhere in the file does not redraw it.

A mutant is caught if, on the emulator, the cases of its kernel file (tests/kernel_cases/) give other numbers than the
xp path, or other bits in another thread order, or a report in check mode; or if a test in tests/ops/ fails; or if
something crashes or hangs. One that does not compile is not planted. Each runs in a process of its own, from a copy of
kernels/, with a cache of its own. What is not caught is listed: the tests have a gap there, or the mutant computes the
same and says why in `EQUIVALENT`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import hashlib
import importlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
KERNELS = ROOT / "kernels"
PER_FILE = 8  # planted by rules in one file: with the first run of each file about three seconds each on two cores
MUST_CATCH = 0.95


@dataclass(frozen=True)
class Mutant:
    """A file of kernels/ with line ``number`` (from 1) replaced."""

    file: str
    number: int
    kind: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number}: {self.kind}: {self.before.strip()}  =>  {self.after.strip()}"

    def plant(self, text: str) -> str:
        lines = text.split("\n")
        assert lines[self.number - 1] == self.before, self
        lines[self.number - 1] = self.after
        return "\n".join(lines)


# ---- the mistakes --------------------------------------------------------------------------------------------------

# Names that stand for the two sides of an image; each is also found as the end of a name (OH, OW; sh, sw).
_SIDES = [("h", "w"), ("H", "W"), ("top", "left"), ("bottom", "right"), ("row", "column"), ("rows", "columns")]
_NAME = re.compile(r"\b[A-Za-z_]\w*\b")


def other_side(name: str) -> str | None:
    """The name of the same thing on the other side of the image.

    >>> other_side("OW"), other_side("padded_h"), other_side("place")
    ('OH', 'padded_w', None)
    """
    for pair in (*_SIDES, *((b, a) for a, b in _SIDES)):
        stem = name.removesuffix(pair[0])
        if stem != name and (len(stem) <= 1 or stem.endswith("_")):
            return stem + pair[1]
    return None


_TERM = r"(?:[\w.]+(?:\([^()]*\)|\[[^\[\]]*\])?)"  # a name, number, call or element

# Kind of mistake, what it is made of, what it makes of that.
RULES: list[tuple[str, str, str]] = [
    ("dropped barrier", r"__sync(?:threads|warp)\([^()]*\);", ";"),
    ("dropped barrier", r"\bcp_async_(?:wait|commit)\w*(?:<[^<>]*>)?\([^()]*\);", ";"),
    ("skipped check", r"\bif \((?:[^()]|\([^()]*\))*\) (?:return\b[^;]*|continue|break);", ";"),
    ("skipped check", r"[\w.]+ [<>]=? [\w.]+ \|\| ", ""),
    ("skipped check", r" \|\| [\w.]+ [<>]=? [\w.]+(?=[)&| ])", ""),
    ("skipped check", r"[\w.]+ [<>]=? [\w.]+ && ", ""),
    ("skipped check", r" && [\w.]+ [<>]=? [\w.]+(?=[)&| ])", ""),
    ("< for <=", r" <= ", " < "),
    ("<= for <", r" < ", " <= "),
    ("> for >=", r" >= ", " > "),
    (">= for >", r" > ", " >= "),
    ("and for or", r" \|\| ", " && "),
    ("or for and", r" && ", " || "),
    ("inverted flag", r"\bif \((!?)(\w+)\) ", r"if (!\1\2) "),
    ("inverted flag", r"(?<=[=,:] )(\w+) \? ", r"!\1 ? "),
    ("wrong sign", r" \+ ", " - "),
    ("wrong sign", r" - ", " + "),
    ("wrong sign", r" \+= ", " -= "),
    ("not summed", r" \+= (?!.*\) *\{?$)", " = "),
    ("swapped operands", rf"({_TERM}) - ({_TERM})", r"\2 - \1"),
    ("swapped operands", rf"({_TERM}) / ({_TERM})", r"\2 / \1"),
    ("/ for %", r" % ", " / "),
    ("% for /", rf" / (?={_TERM})", " % "),
    ("+ for *", r" \* (?=[\w(])", " + "),
    ("wrong shift", r" >> ", " << "),
    ("wrong shift", r"( >> | << )(\d+)", r"\1(\2 + 1)"),
    ("| for &", r" & ", " | "),
    ("& for |", r" \| ", " & "),
    ("| for ^", r" \^ ", " | "),
    ("wrong number", r"(?<= [*/%] )(\d+)\b(?![.])", r"(\1 + 1)"),
    ("min for max", r"\b(f?)max\(", r"\1min("),
    ("max for min", r"\b(f?)min\(", r"\1max("),
    ("loop begins late", r"(for \((?:int|INDEX|long long) \w+ = [^;]+);", r"\1 + 1;"),
    ("loop ends early", r"(for \([^;]*; \w+ < )([^;]+);", r"\1\2 - 1;"),
    ("wrong index", r"(?<![\w.])((?!return\b)\w+)\[([^\[\]]+)\]", r"\1[\2 + 1]"),
    ("wrong lane", r"\bthreadIdx\.x\b", "(threadIdx.x + 1)"),
    ("wrong lane", r"(__shfl\w*\([^,]+, [^,]+, )", r"\g<1>1 + "),
    ("wrong block", r"\bblockIdx\.([xyz])\b", r"(blockIdx.\1 + 1)"),
    ("wrong tile", r"\b(TILE_\w+|THREADS|REG|WARPS?)\b", r"(\1 / 2)"),
    ("unwritten tail", r"(?<=[ )])(\w+\[[^=;]*\] = [^;]*;)", r"if (blockIdx.x + 1 != gridDim.x) \1"),
    ("wrong fill", r"\breturn 0;", "return 1;"),
    ("wrong fill", r" : 0\b(?![.x])", " : 1"),
]

# Not statements that run: directives, comments, declarations, lists of parameters, PTX.
_NO_STATEMENT = re.compile(
    r"\s*(#|//|typedef\b|static_assert|template\b|struct\b|using\b|extern\b|asm\b|\*)|.*\b(int|T) \w+, (int|T)\b"
)
# `T a[REG]` and the like: a larger array computes the same.
_DECLARED_ARRAY = re.compile(r"^\s*(?:__shared__ |const |static |__align__\(\d+\) )*(?!return\b)\w[\w ]* \w+\[")


# What no rule can reach: file, text (which must occur exactly once), the text that replaces it, the mistake.
BY_HAND: list[tuple[str, str, str, str]] = [
    ("conv.cu", "if (has_bias) sum += bias[k0 + m];", "", "the bias is left out"),
    ("conv.cu", "if (has_bias) sum += bias[k0 + m];", "sum += bias[k0 + m];", "an absent bias is added"),
    ("conv.cu", "return relu && sum < 0 ? 0 : sum;", "return sum;", "the ReLU is left out"),
    ("conv.cu", "for (int split = 1; split < splits;", "for (int split = 1; split < 2;", "two splits alone are summed"),
    ("gemm_tile.cuh", "__shared__ T b_tile", "T b_tile", "a tile of each thread's own"),
    ("pool.cu", "lowest = -(A)__int_as_float(0x7f800000);", "lowest = 0;", "the maximum begins at 0"),
    ("pool.cu", " || value != value) {", ") {", "NaN does not win"),
    ("pool.cu", "if (value > best[u].v[v]", "if (value >= best[u].v[v]", "the last maximum wins a tie"),
    ("pool.cu", "first_place(top + u * sh, left + v * sw, H, W, dh, dw)", "0", "a window of -inf has place 0"),
    ("lrn.cu", "2 * a * beta", "a * beta", "half of the gradient"),
    ("lrn_window.cuh", "for (int i = 1; i < LENGTH; i++) v[i - 1] = v[i];", "", "the window does not move"),
    ("philox.cuh", "0xBB67AE8584CAA73Bull", "0xBB67AE8584CAA73Dull", "another constant"),
    ("skeleton.cu", "if (removed) atomicOr(changed, 1);", "", "thinning ends too early"),
]

# Mutants of the rules that compute the same: file and line as planted, and why. Each must still be one of them.
EQUIVALENT: dict[tuple[str, str], str] = {
    ("conv.cu", "return relu && sum <= 0 ? 0 : sum;  // NaN stays NaN"): "0 becomes 0",
    (
        "conv.cu",
        "const int group = (blockIdx.z + 1) % groups, split = blockIdx.z / groups, "
        "group_c = C / groups, group_k = K / groups;",
    ): "each group still has its blocks, only others",
    (
        "conv_mma.cu",
        "const int group = (blockIdx.z + 1) % groups, split = blockIdx.z / groups;",
    ): "each group still has its blocks, only others",
    ("conv_mma.cu", "if (TAPS >= 1 && any)"): "a single part is within the row of taps",
    ("conv_mma.cu", "if (any)"): "a single part is within the row of taps",
    ("conv_mma.cu", "const int bits = 32 - __clz(width + 1);"): "a pixel has more lanes, which are idle",
    (
        "conv_mma.cu",
        "__device__ __forceinline__ int first_part() { return (threadIdx.x + 1) / 8 % TAPS; }",
    ): "parts are copied in another order",
    (
        "conv_mma.cu",
        "__device__ __forceinline__ int first_part() { return threadIdx.x / (8 + 1) % TAPS; }",
    ): "parts are copied in another order",
    (
        "conv_mma.cu",
        "__device__ __forceinline__ int first_part() { return threadIdx.x % 8 % TAPS; }",
    ): "parts are copied in another order",
    ("conv_mma.cu", "if (relu && total <= 0) total = 0;"): "0 becomes 0",
    (
        "gemm_tile.cuh",
        "const int steps = (int)((last + first + TILE_K - 1) / TILE_K);",
    ): "terms from last on count as 0, there are only more of them",
    ("optimizer.cu", "if (variance <= 0) variance = 0;  // by rounding; a NaN stays one"): "0 becomes 0",
    ("pool.cu", "for (int j = 0; j < (ROWS + 1) * sh + KH; j++) {"): "a row that is in no window is passed over",
    (
        "pool.cu",
        "constexpr int NEEDED = (VECTOR + 1) * SW + KW, SPAN = NEEDED > PW + VECTOR * SW ? NEEDED : PW + VECTOR * SW;",
    ): "a wider span is loaded, and its end not used",
    (
        "global_pool.cu",
        "const bool later = other_place >= place;",
    ): "of one place there is one value, whichever is taken",
    (
        "pool.cu",
        "constexpr int NEEDED = (VECTOR - 1) * SW + KW, SPAN = NEEDED >= PW + VECTOR * SW ? NEEDED : PW + VECTOR * SW;",
    ): "the larger of two equal numbers is either of them",
}


def statements(text: str) -> Iterator[tuple[int, str, str]]:
    """The lines that run: number, code without its comment, comment."""
    continued = False
    for number, line in enumerate(text.split("\n"), 1):
        code, mark, comment = line.partition("//")
        if not continued and not _NO_STATEMENT.match(line) and code.strip(" {}();"):
            yield number, code, mark + comment
        continued = line.endswith("\\")  # the rest of a #define


def by_rules(file: str, text: str) -> list[Mutant]:
    """Every mutant that the rules make of a file, without repetition."""
    names = set(_NAME.findall("\n".join(code for _, code, _ in statements(text))))
    found: dict[tuple[int, str], Mutant] = {}

    def add(number: int, kind: str, before: str, code: str, comment: str) -> None:
        after = (code + comment).rstrip()
        if after != before:
            found.setdefault((number, after), Mutant(file, number, kind, before, after))

    for number, code, comment in statements(text):
        line = code + comment
        for kind, pattern, replacement in RULES:
            if kind == "wrong index" and _DECLARED_ARRAY.match(code):
                continue
            for match in re.finditer(pattern, code):
                add(
                    number, kind, line, code[: match.start()] + match.expand(replacement) + code[match.end() :], comment
                )
        for match in _NAME.finditer(code):
            other = other_side(match[0])
            if other in names:
                add(number, "swapped sides", line, code[: match.start()] + other + code[match.end() :], comment)
    return list(found.values())


def by_hand(texts: dict[str, str], files: Container[str]) -> list[Mutant]:
    """The mutants in `BY_HAND` of ``files``; raises ValueError, naming it, if the file no longer has its text once."""
    planted = []
    for file, before, after, kind in BY_HAND:
        if file in texts and file not in files:
            continue
        count = texts.get(file, "").count(before)
        if count != 1:
            raise ValueError(f"BY_HAND: {file} holds {before!r} {count} times, not once ({kind}): mend the mutant")
        start = texts[file].index(before)
        number = texts[file].count("\n", 0, start) + 1
        line = texts[file].split("\n")[number - 1]
        planted.append(Mutant(file, number, kind, line, line.replace(before, after)))
    return planted


def check_equivalents(texts: dict[str, str], files: Container[str]) -> None:
    """Raises ValueError for a declared mutant of ``files`` that the rules no longer make."""
    made = {(m.file, m.after.strip()) for file, text in texts.items() for m in by_rules(file, text)}
    for file, after in EQUIVALENT:
        if (file in files or file not in texts) and (file, after) not in made:
            raise ValueError(f"EQUIVALENT: no rule makes this of {file} any more, mend or remove it: {after}")


def sampled(mutants: Iterable[Mutant]) -> list[Mutant]:
    """The mutants in a fixed random order in which every kind has its turn."""
    kinds = defaultdict(list)
    for mutant in sorted(mutants, key=lambda m: _digest(m.kind, m.before, m.after, m.number)):
        kinds[mutant.kind].append(mutant)
    turns = itertools.zip_longest(*sorted(kinds.values(), key=lambda group: _digest(group[0].kind)))
    return [mutant for turn in turns for mutant in turn if mutant is not None]


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


# ---- one mutant: what its process does -------------------------------------------------------------------------------

# Orders after the first, whose numbers are compared with the xp path.
ORDERS = ("reverse", 1, 2)


class DoesNotCompile(Exception):
    pass


def run_stem(folder: str, stem: str, limits: dict[str, float]) -> str:
    """What catches the kernels in ``folder``, "" if nothing does; a stage that takes too long ends the process."""
    from gpunn.cuda import source
    from gpunn.errors import CompileError

    source.kernels_folder = lambda: Path(folder)
    for stage, function in STAGES.items():
        # Of the processor's time: another process that keeps it busy makes no mutant hang. The other is for deadlocks.
        signal.setitimer(signal.ITIMER_PROF, limits.get(stage, 0))
        signal.setitimer(signal.ITIMER_REAL, 60 + 10 * limits.get(stage, 0) if limits else 0)
        begin = time.process_time()
        try:
            found = function(stem)
        except CompileError as error:
            raise DoesNotCompile(str(error)) from error
        except Exception as error:  # whatever it is, a test would have failed by it
            found = f"{stage}: {type(error).__name__}"
        _seconds[stage] = time.process_time() - begin
        if found:
            return found
    return ""


_seconds: dict[str, float] = {}


def _cases(stem: str, **emulation: object) -> list:
    from gpunn import cuda

    run = importlib.import_module(f"kernel_cases.{stem}").run
    with cuda.emulate(**emulation) if emulation else contextlib.nullcontext():
        return list(run())


def _fast(stem: str) -> str:
    wanted, actual = _cases(stem), _cases(stem, order="forward")
    if not _near(actual, wanted):
        return "other numbers"
    if any(_bits(_cases(stem, order=order)) != _bits(actual) for order in ORDERS):
        return "other bits in another order"
    return ""


def _check(stem: str) -> str:
    return "" if _near(_cases(stem, check=True), _cases(stem)) else "other numbers in check mode"


def _tests(stem: str) -> str:
    import pytest

    from gpunn.errors import CompileError

    class Watch:
        def pytest_exception_interact(self, call):
            if call.excinfo.errisinstance(CompileError):
                raise DoesNotCompile(str(call.excinfo.value))

    file = next(TESTS.glob(f"ops/*/test_{stem}.py"), None)
    if file is None:
        return ""
    # Cases on NumPy alone see no kernel, and PyTorch is no part of the tests that must pass everywhere.
    chosen = ["-k", "not numpy", "-m", "not gpu and not peer"]
    with contextlib.redirect_stdout(io.StringIO()):
        status = pytest.main([str(file), "-x", "-q", "-p", "no:cacheprovider", *chosen], plugins=[Watch()])
    return "" if status in (0, 5) else "a test in tests/ops"  # 5: no test is left to run


STAGES: dict[str, Callable[[str], str]] = {"cases": _fast, "check mode": _check, "tests": _tests}


def _near(actual: list, wanted: list) -> bool:
    import numpy as np

    try:
        for a, w in zip(actual, wanted, strict=True):
            scale = np.abs(w[np.isfinite(w)]).max(initial=1)  # sums of large numbers may be near 0
            np.testing.assert_allclose(a, w, rtol=1e-5, atol=1e-5 * scale)
    except AssertionError:
        return False
    return True


def _bits(arrays: list) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def child(folder: str, stems: list[str], limits: dict[str, dict[str, float]]) -> None:
    """The life of a mutant's process: prints what became of it as JSON."""
    result: dict[str, object] = {"caught": ""}
    try:
        for stem in stems:
            result["caught"] = run_stem(folder, stem, limits.get(stem, {}))
            if result["caught"]:
                break
    except DoesNotCompile as error:
        result["broken"] = str(error)
    sys.stdout.flush()
    print("\n" + json.dumps({**result, "seconds": _seconds}), flush=True)
    os._exit(0)  # faults may have spoilt memory: run nothing that cleans up


# ---- all of them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    caught: str
    broken: str
    seconds: dict[str, float]


class Runner:
    """Runs mutants of the kernels in ``texts``, in a cache of its own under ``work``."""

    def __init__(self, work: Path, texts: dict[str, str]) -> None:
        self.work, self.texts = work, texts
        self.limits: dict[str, dict[str, float]] = {}
        self._lines: dict[str, set[int]] = {}
        self._lock = threading.Lock()
        self.environment = {**os.environ, "GPUNN_CACHE_DIR": str(work / "cache")}
        self.environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(TESTS)])

    def measure(self, stem: str) -> str:
        """Run the kernels as they are, and return what fails; how long they take says when a mutant hangs."""
        outcome = self._run({}, [stem])
        self.limits[stem] = {stage: 10 + 10 * seconds for stage, seconds in outcome.seconds.items()}
        wrong = outcome.caught or outcome.broken
        return f"{stem}: fails without a mutant: {wrong}" if wrong else ""

    def run(self, mutant: Mutant) -> Outcome:
        if mutant.number not in self._compiled_lines(mutant.file):
            return Outcome("", "the emulator does not compile this line", {})
        changed = {mutant.file: mutant.plant(self.texts[mutant.file])}
        outcome = self._run(changed, self.stems(mutant.file))
        if not outcome.caught and not outcome.broken and self._compiles_to_the_same(mutant, changed):
            return Outcome("", "the emulator does not compile this line", outcome.seconds)
        return outcome

    def stems(self, file: str) -> list[str]:
        """The kernel files that hold ``file`` or include it."""
        users, seen = {file}, set()
        while users != seen:
            seen = set(users)
            users |= {name for name, text in self.texts.items() if any(f'#include "{used}"' in text for used in seen)}
        return sorted(name.removesuffix(".cu") for name in users if name.endswith(".cu"))

    def _run(self, changed: dict[str, str], stems: list[str]) -> Outcome:
        with self._folder(changed) as folder:
            arguments = (folder, stems, {stem: self.limits[stem] for stem in stems if stem in self.limits})
            command = [sys.executable, "-c", f"import mutants; mutants.child(*{arguments!r})"]
            ended = subprocess.run(command, capture_output=True, text=True, env=self.environment, cwd=folder)
        if ended.returncode in (-signal.SIGALRM, -signal.SIGPROF):
            return Outcome("hangs", "", {})
        if ended.returncode < 0:
            return Outcome("crashes", "", {})
        if ended.returncode:
            raise RuntimeError(f"{stems}: the process of a mutant failed:\n{ended.stderr}")
        told = json.loads(ended.stdout.splitlines()[-1])
        return Outcome(told["caught"], told.get("broken", ""), told["seconds"])

    @contextlib.contextmanager
    def _folder(self, changed: dict[str, str]) -> Iterator[str]:
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            for name, text in {**self.texts, **changed}.items():
                (Path(folder) / name).write_text(text, encoding="utf-8")
            yield folder

    def _compiled_lines(self, file: str) -> set[int]:
        """The lines of ``file`` that some specialisation has here; the others are for the GPU alone."""
        with self._lock:
            if file not in self._lines:
                with self._folder({}) as folder:
                    texts = [preprocessed(folder, f"{stem}.cu", self.environment) for stem in self.stems(file)]
                self._lines[file] = set().union(*(lines_of(file, text) for text in texts))
            return self._lines[file]

    def _compiles_to_the_same(self, mutant: Mutant, changed: dict[str, str]) -> bool:
        """True if the line is for the GPU alone: no specialisation of its files sees it here."""
        with self._folder(changed) as mutated, self._folder({}) as original:
            return all(
                preprocessed(mutated, f"{stem}.cu", self.environment)
                == preprocessed(original, f"{stem}.cu", self.environment)
                for stem in self.stems(mutant.file)
            )


def lines_of(file: str, text: str) -> set[int]:
    """The numbers of the lines of ``file`` that are left in preprocessed ``text``.

    >>> sorted(lines_of("b.cuh", '# 7 "a.cu"\\nint a;\\n# 3 "b.cuh" 1\\nint b;\\n\\nint c;\\n'))
    [3, 5]
    """
    found, current, number = set(), "", 0
    for line in text.splitlines():
        if marker := re.match(r'#\s*(?:line\s+)?(\d+)\s+"([^"]*)"', line):
            number, current = int(marker[1]), Path(marker[2]).name
            continue
        if current == file and line.strip():
            found.add(number)
        number += 1
    return found


def preprocessed(folder: str, file: str, environment: dict[str, str]) -> str:
    """The text that the host compiler gets of every specialisation."""
    code = (
        "import sys; from pathlib import Path; from gpunn.cuda import source; from gpunn.cuda.emulator import build\n"
        "folder, file = sys.argv[1:]; source.kernels_folder = lambda: Path(folder); text = source.flatten(file)\n"
        "for macros in source.example_macros(text):\n"
        "    flags = ['-std=c++17', '-D__CUDA_ARCH__=900', *source.options(macros)]\n"
        "    print(build._preprocess(build.host_compiler(), text, flags, file))\n"
    )
    command = [sys.executable, "-c", code, folder, file]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


def read_kernels() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(KERNELS.glob("*.cu*"))}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plant faults in the kernels and see that the tests catch them.")
    parser.add_argument("stem", nargs="*", help="files of kernels/ without their ending; all, if none is named")
    parser.add_argument("--per-file", type=int, default=PER_FILE, help="planted by rules in each file (%(default)s)")
    options = parser.parse_args(arguments)

    begin = time.perf_counter()
    texts = read_kernels()
    files = [name for name in texts if not options.stem or Path(name).stem in options.stem]
    if not files:
        parser.error(f"no such file in kernels/: {', '.join(options.stem)}")
    hand = by_hand(texts, files)
    check_equivalents(texts, files)
    work = Path(tempfile.mkdtemp(prefix="gpunn-mutants-"))
    try:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            runner = Runner(work, texts)
            stems = sorted({stem for file in files for stem in runner.stems(file)})
            # The first alone: it builds the emulator's runtime for all.
            wrong = [runner.measure(stems[0]), *pool.map(runner.measure, stems[1:])]
            if any(wrong):
                raise SystemExit("\n".join(filter(None, wrong)))
            outcomes = _run_all(runner, pool, files, hand, options.per_file)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _report(outcomes, time.perf_counter() - begin)


def _run_all(
    runner: Runner, pool: concurrent.futures.Executor, files: list[str], hand: list[Mutant], per_file: int
) -> dict[Mutant, Outcome]:
    """Every mutant by hand, and of each file as many by rules that compile as ``per_file`` says."""
    outcomes = {}
    for mutant, outcome in _told(hand, runner, pool):
        if outcome.broken:
            raise SystemExit(f"BY_HAND: {mutant} is no mutant: {outcome.broken}")
        outcomes[mutant] = outcome

    waiting = {file: sampled(by_rules(file, runner.texts[file])) for file in files}
    missing = dict.fromkeys(files, per_file)
    while batch := [mutant for file in files for mutant in waiting[file][: missing[file]]]:
        for file in files:
            del waiting[file][: missing[file]]
        for mutant, outcome in _told(batch, runner, pool):
            if not outcome.broken:
                outcomes[mutant] = outcome
                missing[mutant.file] -= 1
    return outcomes


def _told(mutants: list[Mutant], runner: Runner, pool: concurrent.futures.Executor) -> Iterator[tuple[Mutant, Outcome]]:
    """Runs mutants, and tells each one's outcome as it comes: a run takes minutes."""
    for mutant, outcome in zip(mutants, pool.map(runner.run, mutants), strict=True):
        told = "not planted" if outcome.broken else outcome.caught or "NOT CAUGHT"
        print(f"{told:<30} {mutant}", file=sys.stderr, flush=True)
        yield mutant, outcome


def _report(outcomes: dict[Mutant, Outcome], seconds: float) -> int:
    files = Counter(mutant.file for mutant in outcomes)
    for file, planted in sorted(files.items()):
        ways = Counter(outcome.caught for mutant, outcome in outcomes.items() if mutant.file == file and outcome.caught)
        told = ", ".join(f"{way} {count}" for way, count in ways.most_common())
        print(f"{file:<20} {planted} planted, {ways.total()} caught: {told}")
    alive = sorted((m for m, outcome in outcomes.items() if not outcome.caught), key=lambda m: (m.file, m.number))
    reasons = {mutant: EQUIVALENT.get((mutant.file, mutant.after.strip()), "") for mutant in alive}
    wrongly = [m for m, outcome in outcomes.items() if outcome.caught and (m.file, m.after.strip()) in EQUIVALENT]
    for mutant in alive:
        print(f"not caught: {mutant}\n    {reasons[mutant] or 'A GAP IN THE TESTS'}")
    for mutant in wrongly:
        print(f"declared equivalent, but caught by {outcomes[mutant].caught}: {mutant}")
    print(f"{seconds:.0f} s")
    caught = len(outcomes) - len(alive)
    print(f"{len(outcomes)} planted, {caught} caught")
    return int(wrongly != [] or not all(reasons.values()) or caught < MUST_CATCH * len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
