"""Turn the JSON of pytest-benchmark into tables: ``python bench/report.py RESULT.json results/MACHINE.md``.

Beside the tables, with the ending .json, goes what they were made of.

The JSON comes from ``cd bench && python -m pytest --benchmark-json=RESULT.json``, with ``-k cpu-`` or ``-k gpu-`` for
one device alone; where files are named, name bench_ceilings.py among them. bench/peer.py says what is timed.
For each job there is

- *achieved*: the bytes that must move, or the operations that must be done, over gpunn's time;
- *of ceiling*: the least time that the ceilings leave (bytes over copy bandwidth, or operations over the rate of matrix
  products of the same precision, whichever is more) over gpunn's time. The ceilings are bench_ceilings.py's, in the
  same run, the better of both libraries;
- *ratio*: gpunn's time over the peer's: below 1 gpunn is faster;
- *target*: what targets.csv asks. ``of ceiling`` and ``rate`` (in TFLOP/s) are at least that, ``ratio`` is at most
  that, for each job and shape that match, or (``mean``) for their geometric mean.

Jobs called "own" compare gpunn with itself, as bench_trainer.py and bench_loader.py say: they have a table of their
own, and no part in the mean of the ratios.

What was not measured says so.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gpunn.errors import FileError

NOT_MEASURED = "not measured"
DEVICES = {"cpu": "CPU", "gpu": "GPU"}
CEILING = "ceiling: "
OWN = "own: "
TRAINING = "training: "


@dataclass
class Row:
    """One job on one device: the seconds of each side, and what was counted for it."""

    device: str
    job: str
    shape: str
    peer: str
    bytes: int
    operations: int
    unit: str
    seconds: dict[str, float] = field(default_factory=dict)
    quartiles: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def name(self) -> tuple[str, str, str]:
        return self.device, self.job, self.shape

    @property
    def family(self) -> str:
        """That of a training job; of others an empty string."""
        return self.job.removeprefix(TRAINING) if self.job.startswith(TRAINING) else ""

    @property
    def ratio(self) -> float | None:
        ours, theirs = self.seconds.get("gpunn"), self.seconds.get("peer")
        return ours / theirs if ours and theirs else None

    @property
    def rate(self) -> float | None:
        """TFLOP/s."""
        ours = self.seconds.get("gpunn")
        return self.operations / ours / 1e12 if ours and self.operations else None

    def of_ceiling(self, ceilings: dict[str, float]) -> float | None:
        ours, floor = self.seconds.get("gpunn"), max(self.floors(ceilings).values(), default=0.0)
        return floor / ours if ours and floor else None

    def floors(self, ceilings: dict[str, float]) -> dict[str, float]:
        """The least seconds for the bytes and for the operations, where they and the ceiling are known."""
        counted = {"copy": self.bytes, self.unit: self.operations}
        return {name: count / ceilings[name] for name, count in counted.items() if count and name in ceilings}

    def achieved(self, ceilings: dict[str, float]) -> str:
        """In the unit of the higher floor."""
        ours, floors = self.seconds.get("gpunn"), self.floors(ceilings)
        if not ours or not (self.bytes or self.operations):
            return ""
        if self.operations and floors.get(self.unit, 0.0) >= floors.get("copy", 0.0):
            return f"{self.operations / ours / 1e9:,.1f} GFLOP/s"
        return f"{self.bytes / ours / 1e9:,.1f} GB/s"


@dataclass(frozen=True)
class Target:
    """A line of targets.csv."""

    device: str
    job: str
    shape: str
    of_ceiling: float | None
    rate: float | None
    ratio: float | None
    mean: bool

    def matches(self, row: Row) -> bool:
        return row.device == self.device and fnmatchcase(row.job, self.job) and fnmatchcase(row.shape, self.shape)

    def asks(self) -> str:
        wanted = []
        if self.of_ceiling is not None:
            wanted.append(f"{self.of_ceiling:.0%} of ceiling")
        if self.rate is not None:
            wanted.append(f"{self.rate:g} TFLOP/s")
        if self.ratio is not None:
            wanted.append(f"ratio {self.ratio:.2f}")
        return ", ".join(wanted)

    def verdict(self, rows: list[Row], ceilings: dict[str, float]) -> tuple[bool | None, str]:
        """Whether ``rows`` meet it (None if that was not measured), and the worst of them in each respect."""
        values = []
        for wanted, found, sign, text in (
            (self.of_ceiling, [row.of_ceiling(ceilings) for row in rows], 1, "{:.0%} of ceiling"),
            (self.rate, [row.rate for row in rows], 1, "{:.3g} TFLOP/s"),
            (self.ratio, [row.ratio for row in rows], -1, "ratio {:.2f}"),
        ):
            known = [value for value in found if value is not None]
            if wanted is None:
                continue
            if not rows or len(known) < len(rows):
                return None, NOT_MEASURED
            worst = statistics.geometric_mean(known) if self.mean else min(known, key=lambda v: sign * v)
            values.append((sign * worst >= sign * wanted, text.format(worst)))
        return all(met for met, _ in values), ", ".join(text for _, text in values)


def mean_ratios(rows: Sequence[Row]) -> dict[str, tuple[int, float]]:
    """How many ratios there are and their geometric mean, for each family of training jobs, and for ``"all"``."""
    families: dict[str, list[float]] = {}
    for row in rows:
        if row.family and row.ratio is not None:
            families.setdefault(row.family, []).append(row.ratio)
    families["all"] = [ratio for ratios in families.values() for ratio in ratios]
    return {name: (len(ratios), statistics.geometric_mean(ratios)) for name, ratios in families.items() if ratios}


HEAD = ("job", "shape", "gpunn, ms", "peer, ms", "ratio", "of ceiling")


def summary(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The cells of a short table, under ``HEAD``: the jobs, and behind them the means of the families."""
    lines = []
    for row in rows:
        share = row.of_ceiling(read_ceilings(rows, row.device))
        times = [spread(row, side) for side in ("gpunn", "peer")]
        job = row.job.removeprefix(TRAINING)
        lines.append(
            (job, row.shape, *times, NOT_MEASURED if row.ratio is None else f"{row.ratio:.2f}", percent(share))
        )
    for family, (count, mean) in mean_ratios(rows).items():
        lines.append((family, f"geometric mean of {count}", "", "", f"{mean:.2f}", ""))
    return lines


def facts(row: Row) -> dict[str, Any]:
    """A job for programs."""
    return asdict(row) | {"ratio": row.ratio}


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def spread(row: Row, side: str) -> str:
    """The median in milliseconds, and how far the quartiles lie from it."""
    if side not in row.seconds:
        return NOT_MEASURED
    low, high = row.quartiles[side]
    return f"{milliseconds(row, side)} ±{(high - low) / 2 / row.seconds[side]:3.0%}"


def headline(result: dict[str, Any]) -> str:
    """On what the result was measured, and how."""
    machine = result["machine_info"]
    cpu = machine["cpu"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    count = machine["threads"]
    return (
        f"{cpu.get('brand_raw', 'unknown processor')}, {cpu['count']} cores; {count} "
        f"{'thread' if count == 1 else 'threads'} ({', '.join(machine['libraries'])}), by {machine['clock']}; "
        f"Python {machine['python_version']}, {packages}"
    )


# ---- several results ------------------------------------------------------------------------------------------------


def merged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result of several, each of which has other sides of the jobs."""
    benchmarks = [one for result in results for one in result["benchmarks"]]
    libraries = {name: None for result in results for name in result["machine_info"]["libraries"]}
    machine = results[-1]["machine_info"] | {"libraries": [*libraries]}
    return results[0] | {"machine_info": machine, "benchmarks": benchmarks}


LEAST_SPREAD = 0.05
"""Of a time, to either side: from process to process it differs by so much, if its quartiles lie closer together."""


def slower(now: Sequence[Row], before: Sequence[Row]) -> list[tuple[Row, float, float]]:
    """The jobs that became slower beyond the spread, with what was before and what is now.

    What is compared is gpunn's time over the peer's, so that a machine that is slower today plays no part; where one of
    the two results lacks the peer, it is the time in seconds.
    """
    old = {row.name: row for row in before}
    found = []
    for row in now:
        then = old.get(row.name)
        if then is None or "gpunn" not in row.seconds or "gpunn" not in then.seconds:
            continue
        over_peer = row.ratio is not None and then.ratio is not None
        least, middle, _ = span(row, over_peer)
        _, was, most = span(then, over_peer)
        if least > most:
            found.append((row, was, middle))
    return found


def compared(
    now: Sequence[Row], before: Sequence[Row], worse: Sequence[tuple[Row, float, float]], path: Path
) -> Iterator[str]:
    """In words: what of ``now`` is :func:`slower`, and what there is nothing to compare with.

    Raises FileError if ``before``, which is of ``path``, has none of the jobs.
    """
    names = {row.name for row in before}
    new = [row for row in now if row.name not in names]
    if len(new) == len(now):
        raise FileError(f"{path}: it must have a job of those that were measured")
    for row, was, is_now in worse:
        unit = "times the peer's" if row.ratio is not None and is_now == row.ratio else "s"
        yield f"slower than in {path}: {row.job} {row.shape}, {is_now:.3g} {unit}, before {was:.3g}"
    if not worse:
        yield f"nothing is slower than in {path} beyond the spread"
    if new:
        yield f"not in {path}: {', '.join(f'{row.job} {row.shape}' for row in new)}"


def span(row: Row, over_peer: bool) -> tuple[float, float, float]:
    """The least, the median and the most of a job's time, or of its ratio, by the spread of the times."""

    def of(side: str) -> tuple[float, float, float]:
        middle, (low, high) = row.seconds[side], row.quartiles[side]
        return min(low, middle * (1 - LEAST_SPREAD)), middle, max(high, middle * (1 + LEAST_SPREAD))

    least, middle, most = of("gpunn")
    if not over_peer:
        return least, middle, most
    fast, peer, slow = of("peer")
    return least / slow, middle / peer, most / fast


# ---- pictures and pages ---------------------------------------------------------------------------------------------


def draw(rows: Sequence[Row], path: Path) -> None:
    """A bar for each ratio, as a PNG file: to the left of the line gpunn is faster."""
    from gpunn.plot.figure import COLOURS, figure, save

    shown = [row for row in rows if row.ratio is not None and not row.job.startswith((CEILING, OWN))]
    kinds = [*dict.fromkeys(row.family or row.job for row in shown)]
    page = figure(9, 1.2 + 0.2 * len(shown))
    axes = page.add_subplot()
    for place, row in enumerate(shown):
        colour = COLOURS[kinds.index(row.family or row.job) % len(COLOURS)]
        end, beyond = math.log2(row.ratio), "right" if row.ratio < 1 else "left"
        axes.barh(place, end, color=colour)
        axes.text(end, place, f" {row.ratio:.2f} ", ha=beyond, va="center", fontsize=7)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{row.family or row.job}: {row.shape}" for row in shown], fontsize=7)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    powers = range(math.floor(axes.get_xlim()[0]) - 1, math.ceil(axes.get_xlim()[1]) + 1)
    axes.set_xticks(powers, [f"{2.0**power:g}" for power in powers])
    axes.set_xlabel("time of gpunn over that of the peer")
    save(page, path)


def readme_table(result: dict[str, Any]) -> str:
    """The short table: the families of training jobs, and the whole steps one by one."""
    rows = [row for row in read_rows(result) if row.family and row.ratio is not None]
    lines = []
    for family, (count, mean) in mean_ratios(rows).items():
        ratios = [row.ratio for row in rows if family in (row.family, "all")]
        lines.append([family, str(count), f"{mean:.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"])
    lines += [[f"step: {row.shape}", "1", f"{row.ratio:.2f}", ""] for row in rows if row.family == "steps"]
    head = ["forward + backward", "jobs", "gpunn's time over PyTorch's, mean", "from, to"]
    return "\n".join([*table(head, lines), "", f"{result['datetime'][:10]}: {headline(result)}."])


BEGIN, END = "<!-- speed: gpunn bench --readme writes what follows -->", "<!-- end of speed -->"


def between_marks(text: str, new: str) -> str | None:
    """``text`` with ``new`` between the two marks; None if it has not got them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{new}\n{end}{after}" if begin and end else None


# ---- the whole report -----------------------------------------------------------------------------------------------


def read_targets(path: Path) -> list[Target]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Target(
                one["device"],
                one["job"],
                one["shape"],
                float(one["of ceiling"].rstrip("%")) / 100 if one["of ceiling"] else None,
                float(one["rate"]) if one["rate"] else None,
                quotient(one["ratio"]) if one["ratio"] else None,
                one["over"] == "mean",
            )
            for one in csv.DictReader(file)
        ]


def quotient(text: str) -> float:
    """The number that ``text`` is, such as ``"0.4"`` or ``"1/6"``."""
    over, _, under = text.partition("/")
    return float(over) / float(under or 1)


def read_rows(result: dict[str, Any]) -> list[Row]:
    """The jobs of a result, those of one name together."""
    rows: dict[tuple[str, str, str], Row] = {}
    for one in result["benchmarks"]:
        about = one["extra_info"]
        key = about["device"], about["job"], about["shape"]
        counts = about["bytes"], about["operations"], about["unit"]
        row = rows.setdefault(key, Row(*key, about["peer"], *counts))
        low, high = about["quartiles"]
        row.seconds[about["side"]], row.quartiles[about["side"]] = float(about["seconds"]), (float(low), float(high))
    order = [*dict.fromkeys(row.job for row in rows.values())]
    return sorted(rows.values(), key=lambda row: order.index(row.job))


def read_ceilings(rows: list[Row], device: str) -> dict[str, float]:
    """Bytes or operations a second of one device, by the better library: ``copy``, ``fp32``, and so on."""
    found = {}
    for row in rows:
        if row.device == device and row.job.startswith(CEILING) and (row.bytes or row.operations):
            name = "copy" if row.bytes else row.unit
            found[name] = (row.bytes or row.operations) / min(row.seconds.values())
    return found


def report(result: dict[str, Any], targets: list[Target]) -> str:
    rows = read_rows(result)
    commit = result["commit_info"]
    gpus = {about["machine"] for one in result["benchmarks"] if "machine" in (about := one["extra_info"])}
    lines = [
        f"{result['datetime'][:10]}, commit {commit['id'][:12]}{' with changes' if commit['dirty'] else ''}, "
        f"{headline(result)}, GPU: {', '.join(gpus) or NOT_MEASURED}.",
        "",
        "Medians in milliseconds, and how far the quartiles lie from them. The ratio is gpunn's time over the peer's,",
        "so below 1 gpunn is faster; bench/report.py tells the other columns. On a CPU small arrays stay in its",
        "caches, and pass the ceiling of large copies; on a GPU the inputs go round, and do not stay in its cache.",
        "",
    ]
    for device, title in DEVICES.items():
        here = [row for row in rows if row.device == device]
        lines += ["", f"## {title}", ""]
        lines += (
            device_tables(here, read_ceilings(rows, device), targets) if here else [f"{title}: {NOT_MEASURED}.", ""]
        )
    lines += ["", "## Targets", "", *target_table(rows, targets), ""]
    return "\n".join(lines)


def kept(result: dict[str, Any]) -> dict[str, Any]:
    """What the tables are made of: of all that pytest-benchmark tells, what plays a part."""
    machine = {name: result["machine_info"][name] for name in ("python_version", "packages", *MEASURED_BY)}
    machine["cpu"] = {name: result["machine_info"]["cpu"].get(name) for name in ("brand_raw", "count")}
    return {
        "datetime": result["datetime"],
        "commit_info": {name: result["commit_info"].get(name) for name in ("id", "dirty")},
        "machine_info": machine,
        "benchmarks": [{"extra_info": one["extra_info"]} for one in result["benchmarks"]],
    }


MEASURED_BY = ("threads", "libraries", "clock")
"""What conftest.py adds to the facts of the machine."""


def device_tables(rows: list[Row], ceilings: dict[str, float], targets: list[Target]) -> Iterator[str]:
    jobs = [row for row in rows if not row.job.startswith((CEILING, OWN))]
    yield from table(
        ["ceiling", "of", "NumPy or CuPy, ms", "PyTorch, ms", "rate of the better"],
        [
            [
                row.job.removeprefix(CEILING),
                row.shape,
                *(milliseconds(row, side) for side in ("gpunn", "peer")),
                best(row),
            ]
            for row in rows
            if row.job.startswith(CEILING)
        ],
    )
    yield ""
    lines = []
    for row in jobs:
        share, ratio = row.of_ceiling(ceilings), row.ratio
        lines.append(
            [
                row.job,
                row.shape,
                spread(row, "gpunn"),
                row.peer,
                spread(row, "peer"),
                NOT_MEASURED if ratio is None else f"{ratio:.2f}",
                row.achieved(ceilings),
                percent(share),
                mark(row, ceilings, targets),
            ]
        )
    yield from table(
        ["job", "shape", "gpunn, ms", "peer", "peer, ms", "ratio", "achieved", "of ceiling", "target"], lines
    )
    passes = [row.ratio for row in jobs if row.ratio is not None and not row.family]
    means = {f"training, {family}": mean for family, mean in mean_ratios(jobs).items()}
    if passes:
        means["single passes"] = len(passes), statistics.geometric_mean(passes)
    yield ""
    yield from table(
        ["geometric mean of the ratios", "jobs", "ratio"],
        [[name, str(count), f"{mean:.2f}"] for name, (count, mean) in means.items()],
    )
    own = [row for row in rows if row.job.startswith(OWN)]
    if own:
        yield ""
        yield from table(
            ["gpunn with itself", "of", "ms", "compared with", "ms", "ratio", "target"],
            [
                [
                    row.job.removeprefix(OWN),
                    row.shape,
                    milliseconds(row, "gpunn"),
                    row.peer,
                    milliseconds(row, "peer"),
                    NOT_MEASURED if row.ratio is None else f"{row.ratio:.3f}",
                    mark(row, ceilings, targets),
                ]
                for row in own
            ],
        )


def mark(row: Row, ceilings: dict[str, float], targets: list[Target]) -> str:
    """Met or missed, for the targets that ask each row."""
    told = []
    for target in targets:
        if target.matches(row) and not target.mean:
            met, _ = target.verdict([row], ceilings)
            told.append(f"{VERDICTS[met]}: {target.asks()}")
    return "; ".join(told)


VERDICTS = {True: "met", False: "MISSED", None: NOT_MEASURED}


def target_table(rows: list[Row], targets: list[Target]) -> Iterator[str]:
    lines = []
    for target in targets:
        matching = [row for row in rows if target.matches(row)]
        met, values = target.verdict(matching, read_ceilings(rows, target.device))
        over = "mean" if target.mean else "worst"
        counted = f"{over} of {len(matching)}" if matching else ""
        shown = "" if met is None else values
        lines.append(
            [
                DEVICES[target.device],
                f"`{target.job}`",
                f"`{target.shape}`",
                target.asks(),
                counted,
                shown,
                VERDICTS[met],
            ]
        )
    yield from table(["device", "job", "shape", "at least (ratio: at most)", "over", "measured", "verdict"], lines)


def milliseconds(row: Row, side: str) -> str:
    return f"{row.seconds[side] * 1e3:.3f}" if side in row.seconds else NOT_MEASURED


def best(row: Row) -> str:
    seconds = min(row.seconds.values())
    if row.bytes:
        return f"{row.bytes / seconds / 1e9:,.0f} GB/s"
    return f"{row.operations / seconds / 1e9:,.0f} GFLOP/s" if row.operations else ""


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    content = kept(json.loads(source.read_text(encoding="utf-8")))
    target.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    target.write_text(report(content, read_targets(Path(__file__).with_name("targets.csv"))), encoding="utf-8")
