"""Plant faults in what works with a GPU, one at a time, and see that the tests catch them on the emulated device.

    python tests/mutants_gpu.py [word ...]

The faults are deleted waits, copies that go elsewhere, devices that are not switched, broken rules of dtypes, swapped
arguments: `MUTANTS`, of which those are run that have one of the words in their file or mistake. Each runs the tests of
its file marked `gpu` in a process of its own, on a copy of the package: first on two devices that run all work at once,
then, if nothing failed, on two whose streams run as late as CUDA allows. `LATE` are ten deleted waits that only the
second can show. What is not caught is listed: the tests have a gap there, or the mutant computes the same and says why
in `EQUIVALENT`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODES = {"eager": "devices=2", "late": "devices=2 late"}
MUST_CATCH = 0.9
LIMIT = 120  # seconds in which a mutant's tests have long ended

# ---- the mistakes ---------------------------------------------------------------------------------------------------

TESTS = {
    "gpunn/data/staging.py": "tests/test_staging_gpu.py",
    "gpunn/cuda/capture.py": "tests/cuda/test_capture_gpu.py",
    "gpunn/backend.py": "tests/test_backend_gpu.py",
}
ELSEWHERE = "tests/cuda/test_launch_gpu.py"  # of launch.py, and of the ways that launch


@dataclass(frozen=True)
class Mutant:
    """``before``, which ``file`` holds once, replaced by ``after``: ``mistake`` says in words what is wrong then."""

    file: str
    mistake: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}: {self.mistake}"

    @property
    def tests(self) -> str:
        """The file of tests that runs."""
        return TESTS.get(self.file, ELSEWHERE)

    def plant(self, text: str) -> str:
        """The text of the file with the mistake; raises ValueError, naming it, if the file has not the text once."""
        if (count := text.count(self.before)) != 1:
            raise ValueError(f"{self}: the file holds {self.before!r} {count} times, not once: mend the mutant")
        return text.replace(self.before, self.after)


def _of(file: str, *mistakes: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(file, *mistake) for mistake in mistakes]


MUTANTS = [
    *_of(
        "gpunn/data/staging.py",
        (
            "a copy does not wait for the work before it",
            "copies.wait_event(cupy.cuda.get_current_stream().record())",
            "pass",
        ),
        ("a copy waits for its own stream", "cupy.cuda.get_current_stream().record()", "copies.record()"),
        (
            "the event is recorded before the copies",
            "return map_arrays(copy, batch), copies.record(), pinned",
            "done = copies.record()\n    return map_arrays(copy, batch), done, pinned",
        ),
        ("the event is of another stream", "copies.record(), pinned", "cupy.cuda.Stream.null.record(), pinned"),
        ("a pinned buffer goes before its copy has ended", "copied.synchronize()", "pass"),
        ("a pinned buffer is not kept", "pinned.append(buffer)", "pass"),
        ("pinned buffers are kept longer", "pinned.clear()", "pass"),
        ("a loop left early leaves a copy under way", "copies.synchronize()", "pass"),
        ("a copy runs in the current stream", "y.set(buffer, stream=copies)", "y.set(buffer)"),
        ("the stream waits for the legacy one", "cupy.cuda.Stream(non_blocking=True)", "cupy.cuda.Stream()"),
        (
            "the stream is of the first device",
            "with use_device(device):\n        cupy =",
            'with use_device("gpu"):\n        cupy =',
        ),
        (
            "copies are begun on the first device",
            "with use_device(device):\n                following",
            'with use_device("gpu"):\n                following',
        ),
        ("what needs no buffer goes to the first device", "return to_gpu(x, device)", "return to_gpu(x)"),
        ("buffers are of float32", "cupyx.empty_pinned(x.shape, x.dtype)", "cupyx.empty_pinned(x.shape, np.float32)"),
        ("arrays are of float32", "cupy.empty(x.shape, x.dtype)", "cupy.empty(x.shape, np.float32)"),
        ("the buffer is not filled", "buffer[...] = x", "pass"),
        ("arrays on the GPU are copied through the host", "not isinstance(x, np.ndarray) or", ""),
        ("the last batch is lost", "if ahead is not None:", "if ready is None:"),
        ("batches change places", "ready, ahead = ahead, following", "ready = following"),
        ("the source is not closed", "to be freed\n        batches.close()", "to be freed"),
        ("batches for the CPU stay where they are", "yield map_arrays(to_cpu, batch)", "yield batch"),
    ),
    *_of(
        "gpunn/cuda/capture.py",
        ("the arena does not wait for the work before it", "self._stream.wait_event(outer.record())", "pass"),
        ("nobody waits for the arena", "outer.wait_event(self._stream.record())", "pass"),
        (
            "the arena waits for itself",
            "self._stream.wait_event(outer.record())",
            "self._stream.wait_event(self._stream.record())",
        ),
        (
            "who leaves the arena waits for himself",
            "outer.wait_event(self._stream.record())",
            "outer.wait_event(outer.record())",
        ),
        (
            "live values are written while they are read",
            "                self._copied.synchronize()",
            "                pass",
        ),
        (
            "no event is recorded behind the values",
            "self._copied = self._arena.xp.cuda.get_current_stream().record()",
            "pass",
        ),
        (
            "the event is recorded before the values are copied",
            "                self._values[: self._used].set(self._host[: self._used])\n"
            "                self._copied = self._arena.xp.cuda.get_current_stream().record()",
            "                self._copied = self._arena.xp.cuda.get_current_stream().record()\n"
            "                self._values[: self._used].set(self._host[: self._used])",
        ),
        (
            "values of a dropped graph are given away while they are read",
            "            copied.synchronize()",
            "            pass",
        ),
        (
            "values are copied in another stream",
            ".set(self._host[: self._used])",
            ".set(self._host[: self._used], stream=self._arena.xp.cuda.Stream(non_blocking=True))",
        ),
        (
            "values are read from memory that is not pinned",
            "cupyx.zeros_pinned(self._ROOM, np.uint8)",
            "np.zeros(self._ROOM, np.uint8)",
        ),
        (
            "half of the values are copied",
            ".set(self._host[: self._used])",
            ".set(self._host[: self._used // 32 * 16])",
        ),
        (
            "a graph is launched in another stream",
            "self._graph.launch()",
            "self._graph.launch(self._arena.xp.cuda.Stream.null)",
        ),
        (
            "a graph's memory is everybody's",
            "with self._stream, self.xp.cuda.using_allocator(self._pool.malloc):",
            "with self._stream:",
        ),
        ("a capture is not of the arena's stream", "with self._stream, self.xp.cuda", "with self.xp.cuda"),
        ("the arena works on the first device", "with use_device(self.device):", 'with use_device("gpu"):'),
        (
            "the arena's stream is of the first device",
            "with use_device(device):\n            import cupy\n",
            'with use_device("gpu"):\n            import cupy\n',
        ),
        ("the host repeats on another device", "with use_device(self._arena.device), _phase", "with _phase"),
        ("the arena's pool has a limit", "            pool.set_limit(size=0)", "            pass"),
        ("unused memory is not given back", "cupy.get_default_memory_pool().free_all_blocks()", "pass"),
        ("work that failed keeps its memory", "                self._take_new_pool()", "                pass"),
        (
            "an error is not explained",
            "if isinstance(error, RuntimeError) and not",
            "if isinstance(error, TypeError) and not",
        ),
        ("a capture is left open", "                    self._stream.end_capture()\n", "                    pass\n"),
        ("a rehearsal is not in the arena", "with self.entered(), rehearsing():", "with rehearsing():"),
        ("a rehearsal is none", "with self.entered(), rehearsing():", "with self.entered():"),
        ("a capture takes itself for a rehearsal", '_phase("capture", captured)', '_phase("rehearsal", captured)'),
        ("the first replay renews the values", "if not first:", "if True:"),
        (
            "values are not renewed",
            "if again is not None:\n                    self._write",
            "if again is None:\n                    self._write",
        ),
        (
            "the host's turn has the values of others",
            "enumerate(self._slots) if again is None]",
            "enumerate(self._slots)]",
        ),
        ("values that are left over are passed over", "check(not left, ", "check(True, "),
        ("values are not aligned", "_ALIGNMENT = 16", "_ALIGNMENT = 1"),
        ("too many values are taken", "check(end <= self._ROOM", "check(True"),
        ("a value lies at the beginning", "self._values[start:end].view", "self._values[: end - start].view"),
        (
            "a value of another dtype is taken",
            "fits = (values.dtype, values.nbytes) == (dtype, place.stop - place.start)",
            "fits = values.nbytes == place.stop - place.start",
        ),
        (
            "a value of another size is taken",
            "fits = (values.dtype, values.nbytes) == (dtype, place.stop - place.start)",
            "fits = values.dtype == dtype",
        ),
        ("values are transposed", "= values.ravel()", '= values.ravel("F")'),
        (
            "an alarm is read in a capture",
            "    if work is not None:\n",
            '    if work is not None and work.phase == "rehearsal":\n',
        ),
        (
            "whether values are drawn again is not looked at",
            "return all(np.array_equal(old, new) for",
            "return all(True for",
        ),
        ("a rehearsal does what a capture refuses", "    if capturing():\n", "    if in_capture():\n"),
        ("a repetition is taken for a capture", 'work.phase == "capture"', 'work.phase != "rehearsal"'),
        ("a capture is taken for a repetition", 'work.phase == "repetition"', 'work.phase != "rehearsal"'),
    ),
    *_of(
        "gpunn/cuda/launch.py",
        ("addresses are not looked at", "check(_aligned(a), ", "check(True, "),
        ("every address must be one of 16 bytes", "x.data.ptr % x.itemsize", "x.data.ptr % 16"),
        ("arrays of another device are taken", "check(not elsewhere, ", "check(True, "),
        ("the current device is taken for the first", '- {f"gpu:{current.id}"}', '- {"gpu:0"}'),
        ("a module is of the first device", "current.id, shared_bytes)", "0, shared_bytes)"),
        ("16-bit elements are passed as they are", "a.view(np.uint16) if is_array(a)", "a if is_array(a)"),
        ("grid and block are swapped", "function(grid, block, tuple(args))", "function(block, grid, tuple(args))"),
        (
            "two arguments are swapped",
            "function(grid, block, tuple(args))",
            "function(grid, block, (*args[1::-1], *args[2:]))",
        ),
        (
            "observers are told file and kernel swapped",
            "around_launch(file, kernel, args",
            "around_launch(kernel, file, args",
        ),
        ("half types go to every kernel", "in C_TYPES or (half and", "in C_TYPES or ("),
        ("half types go to no kernel", "in C_TYPES or (half and", "in C_TYPES or (not half and"),
        ("float64 is compiled as float", '"float64": "double"', '"float64": "float"'),
        ("float16 is compiled as bfloat16", '"float16": "float16_bits"', '"float16": "bfloat16_bits"'),
    ),
    Mutant("gpunn/cuda/launch.py", "the host's repetition launches", "if capture.repeating():", "if False:"),
    *_of(
        "gpunn/ops/norm/lrn_kernel.py",
        ("a view is read as if it were contiguous", "[xp.ascontiguousarray(x), y]", "[x, y]"),
    ),
    *_of(
        "gpunn/ops/dropout/kernel.py",
        ("a view is read as if it were contiguous", "x, y = xp.ascontiguousarray(x), xp.empty", "x, y = x, xp.empty"),
        ("source and result are swapped", "[x, y, size, key", "[y, x, size, key"),
    ),
    *_of(
        "gpunn/ops/pool/kernel.py",
        (
            "a view is read as if it were contiguous",
            "tuple(map(get_array_module(written).ascontiguousarray, arrays))",
            "tuple(arrays)",
        ),
        ("the padding of another side", "return bottom, right, int", "return right + 1, bottom, int"),
    ),
    *_of(
        "gpunn/ops/optimizer/kernel.py",
        ("parameters and gradients are swapped", '_launch("sgd", [p, g, ', '_launch("sgd", [g, p, '),
        ("rate and momentum are swapped", "(lr, momentum, weight_decay), np", "(momentum, lr, weight_decay), np"),
    ),
    *_of(
        "gpunn/backend.py",
        (
            "an array comes back in another stream",
            'sys.modules["cupy"].asnumpy(x) if',
            '(cupy := sys.modules["cupy"]).asnumpy(x, stream=cupy.cuda.Stream(non_blocking=True)) if',
        ),
        (
            "nobody waits for an array that comes back",
            '["cupy"].asnumpy(x) if',
            '["cupy"].asnumpy(x, blocking=False) if',
        ),
        ("a transfer does not wait for the array", "stream.wait_event(home.record())", "pass"),
        ("nobody waits for a transfer", "home.wait_event(stream.record())", "pass"),
        (
            "a transfer is waited for on its own device",
            "home.wait_event(stream.record())",
            "stream.wait_event(stream.record())",
        ),
        (
            "a transfer is in turn with the streams of one device",
            "    with x.device:\n        if not (x.flags",
            "    with cupy.cuda.Device():\n        if not (x.flags",
        ),
        ("views are sent as they are", "x = x.copy()  # CuPy copies", "pass  # CuPy copies"),
        (
            "a transfer is left to CuPy",
            "return _from_other_gpu(cupy, x) if _is_cupy(x) and x.device.id != index else ",
            "return ",
        ),
        (
            "arrays go to the current device",
            'with cupy.cuda.Device(index), _on_cupy("to_gpu"',
            'with _on_cupy("to_gpu"',
        ),
        ("an array that is there is copied", "index else cupy.asarray(x)", "index else cupy.array(x)"),
        ("a dtype changes on the current device", 'with x.device, _on_cupy("cast"', 'with _on_cupy("cast"'),
        (
            "the first device is used",
            'sys.modules["cupy"].cuda.Device(index)\n\n\n_HERE',
            'sys.modules["cupy"].cuda.Device(0)\n\n\n_HERE',
        ),
        (
            "the device of an array is not made the current one",
            "return _HERE if type(x) is np.ndarray or not _is_cupy(x) else x.device",
            "return _HERE",
        ),
        ("every array is on the first device", 'f"gpu:{x.device.id}" if _is_cupy', '"gpu:0" if _is_cupy'),
        ("new arrays go to the first device", "else to_gpu(x, device)", "else to_gpu(x)"),
        ("the default device is the CPU", 'os.environ.get("GPUNN_DEVICE") or "cpu"', '"cpu"'),
        ("a device beyond the last one is one", "check(index < count", "check(index <= count"),
        ("the device without a number is the second", "int(match[1] or 0)", "int(match[1] or 1)"),
        ("lists become float64", "if bare and dtype is None and x.dtype == np.float64:", "if False:"),
        ("a byte order is kept", 'dtype_of("asarray", dtype).newbyteorder("=")', 'dtype_of("asarray", dtype)'),
        (
            "bytes are read in the wrong order",
            'x.astype(x.dtype.newbyteorder("="))',
            'x.view(x.dtype.newbyteorder("="))',
        ),
        ("sums are of float64", "np.promote_types(dtype, np.float32)", "np.promote_types(dtype, np.float64)"),
        (
            "two dtypes are one",
            "if len({a.dtype for a in arrays.values()}) > 1:",
            "if len({a.dtype for a in arrays.values()}) > 2:",
        ),
        ("two modules are one", "check(len(set(modules.values())) < 2", "check(len(set(modules.values())) < 3"),
        ("integers are floats", "if not is_floating(a.dtype):", "if False:"),
        ("arrays of both modules are taken", "elif kind is not None and kind is not found:", "elif False:"),
        ("CuPy's arrays are NumPy's", "return np if kind is np.ndarray else", "return np if kind else"),
    ),
]

LATE = {
    ("gpunn/data/staging.py", "a copy does not wait for the work before it"),
    ("gpunn/data/staging.py", "the event is recorded before the copies"),
    ("gpunn/data/staging.py", "a pinned buffer goes before its copy has ended"),
    ("gpunn/data/staging.py", "a loop left early leaves a copy under way"),
    ("gpunn/cuda/capture.py", "the arena does not wait for the work before it"),
    ("gpunn/cuda/capture.py", "nobody waits for the arena"),
    ("gpunn/cuda/capture.py", "live values are written while they are read"),
    ("gpunn/cuda/capture.py", "no event is recorded behind the values"),
    ("gpunn/backend.py", "an array comes back in another stream"),
    ("gpunn/backend.py", "a transfer does not wait for the array"),
}
"""Deleted waits, each by its file and mistake, of which nine of ten must be caught by the late mode."""

EQUIVALENT = {
    ("gpunn/data/staging.py", "pinned buffers are kept longer"): "they go with the batch, a little later",
    ("gpunn/data/staging.py", "the stream waits for the legacy one"): "only slower: it waits for more than it must",
    ("gpunn/cuda/capture.py", "values are read from memory that is not pinned"): "only slower: CUDA reads it at once",
    ("gpunn/cuda/launch.py", "a module is of the first device"): "CuPy loads it on each device that launches it",
    ("gpunn/backend.py", "nobody waits for an array that comes back"): "CUDA waits where the memory is not pinned",
}
"""Mutants that compute the same, each by its file and mistake, and why."""

TESTS_OF = {("gpunn/cuda/launch.py", "the host's repetition launches"): "tests/cuda/test_capture_gpu.py"}


# ---- running --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """``caught`` is the mode and the test that failed first, empty if none did."""

    mode: str = ""
    test: str = ""

    def __str__(self) -> str:
        return f"{self.mode}: {self.test}" if self.mode else "NOT CAUGHT"


class Runner:
    """Runs mutants in copies of the package under ``work``; a copy is used by one process at a time."""

    def __init__(self, work: Path, copies: int) -> None:
        self._copies: queue.Queue[Path] = queue.Queue()
        for number in range(copies):
            self._copies.put(work / str(number))

    def run(self, mutant: Mutant | None, tests: list[str]) -> Outcome:
        """What fails of ``tests`` with the mutant; without one with the package as it is."""
        folder = self._copies.get()
        try:
            self._copy(folder, mutant)
            for mode, device in MODES.items():
                if failed := self._failed(folder, device, tests):
                    return Outcome(mode, failed)
            return Outcome()
        finally:
            self._copies.put(folder)

    def _copy(self, folder: Path, mutant: Mutant | None) -> None:
        shutil.rmtree(folder / "gpunn", ignore_errors=True)
        shutil.copytree(ROOT / "gpunn", folder / "gpunn", ignore=shutil.ignore_patterns("__pycache__"))
        if not (folder / "kernels").exists():
            (folder / "kernels").symlink_to(ROOT / "kernels")
        if mutant is not None:
            place = folder / mutant.file
            place.write_text(mutant.plant(place.read_text(encoding="utf-8")), encoding="utf-8")

    def _failed(self, folder: Path, device: str, tests: list[str]) -> str:
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-m", "pytest", "-p", "gpunn.cuda.device.pytest", "--device", device, "-m", "gpu"]
        command += ["-x", "-q", "-p", "no:cacheprovider", "--tb=no", *(str(ROOT / file) for file in tests)]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, env=environment, cwd=folder, timeout=LIMIT * len(tests)
            )
        except subprocess.TimeoutExpired:
            return "hangs"
        if ended.returncode == 0:
            return ""
        if ended.returncode < 0:
            return "crashes"
        failed = re.search(r"^(?:FAILED|ERROR) \S+?(?:::(.+?))?(?: - .*)?$", ended.stdout, re.MULTILINE)
        if failed is None:
            raise RuntimeError(f"the tests did not run:\n{ended.stdout}\n{ended.stderr}")
        return failed[1] or "the tests cannot be imported"


def check_texts() -> None:
    """Raises ValueError for a mutant whose text is gone, and for a name in the lists that no mutant has."""
    for mutant in MUTANTS:
        mutant.plant((ROOT / mutant.file).read_text(encoding="utf-8"))
    names = {(mutant.file, mutant.mistake) for mutant in MUTANTS}
    if len(names) != len(MUTANTS):
        raise ValueError("MUTANTS: two of one file have the same mistake")
    for name in (*LATE, *EQUIVALENT, *TESTS_OF):
        if name not in names:
            raise ValueError(f"no mutant has this name any more: {name}")


def _told(mutants: list[Mutant], runner: Runner, workers: int) -> Iterator[tuple[Mutant, Outcome]]:
    """Runs mutants, and tells each one's outcome as it comes."""

    def run(mutant: Mutant) -> Outcome:
        return runner.run(mutant, [TESTS_OF.get((mutant.file, mutant.mistake), mutant.tests)])

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for mutant, outcome in zip(mutants, pool.map(run, mutants), strict=True):
            print(f"{outcome!s:<100} {mutant}", file=sys.stderr, flush=True)
            yield mutant, outcome


def main(arguments: list[str] | None = None) -> int:
    """Run the mutants that the command line names, and return 0 if enough were caught."""
    parser = argparse.ArgumentParser(description="Plant faults in what works with a GPU; tests must catch them.")
    parser.add_argument("word", nargs="*", help="of a file or a mistake; all mutants, if none is given")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at a time (%(default)s)")
    options = parser.parse_args(arguments)
    check_texts()
    mutants = [m for m in MUTANTS if not options.word or any(word in str(m) for word in options.word)]
    if not mutants:
        parser.error(f"no mutant has such a word: {', '.join(options.word)}")

    begin = time.perf_counter()
    work = Path(tempfile.mkdtemp(prefix="gpunn-mutants-"))
    try:
        runner = Runner(work, options.workers)
        # As it is, once for all: it builds the device and compiles the kernels.
        if (wrong := runner.run(None, sorted({*TESTS.values(), ELSEWHERE}))).mode:
            raise SystemExit(f"fails without a mutant: {wrong}")
        outcomes = dict(_told(mutants, runner, options.workers))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _report(outcomes, time.perf_counter() - begin)


def _report(outcomes: dict[Mutant, Outcome], seconds: float) -> int:
    equivalent = {m: EQUIVALENT[m.file, m.mistake] for m in outcomes if (m.file, m.mistake) in EQUIVALENT}
    wrongly = [mutant for mutant in equivalent if outcomes[mutant].mode]
    meant = {mutant: outcome for mutant, outcome in outcomes.items() if mutant not in equivalent}
    for file in sorted({mutant.file for mutant in meant}):
        modes = Counter(outcome.mode for mutant, outcome in meant.items() if mutant.file == file)
        told = ", ".join(f"{mode} {modes[mode]}" for mode in MODES)
        print(f"{file:<34} {modes.total()} planted, {modes.total() - modes['']} caught: {told}")
    gaps = [mutant for mutant, outcome in meant.items() if not outcome.mode]
    for mutant in gaps:
        print(f"not caught: {mutant}\n    A GAP IN THE TESTS")
    for mutant, reason in equivalent.items():
        print(f"equivalent: {mutant}\n    {reason}")
    for mutant in wrongly:
        print(f"declared equivalent, but caught by {outcomes[mutant]}: {mutant}")
    waits = [outcome.mode for mutant, outcome in meant.items() if (mutant.file, mutant.mistake) in LATE]
    late = waits.count("late")
    print(f"{seconds:.0f} s")
    print(f"deleted waits: {len(waits)} planted, {late} caught by the late mode, {waits.count('eager')} by the other")
    print(f"{len(meant)} planted, {len(meant) - len(gaps)} caught; {len(equivalent)} more are equivalent")
    enough = len(meant) - len(gaps) >= MUST_CATCH * len(meant) and late >= MUST_CATCH * len(waits)
    return int(not enough or wrongly != [])


if __name__ == "__main__":
    sys.exit(main())
