"""Turn the JSON of pytest-benchmark into a table: ``python bench/report.py RESULT.json RESULT.md``.

The JSON comes from ``python -m pytest bench --benchmark-json=RESULT.json``.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path


def table(result: dict) -> str:
    times: dict[tuple[str, str], dict[str, float]] = {}
    for one in result["benchmarks"]:
        about = one["extra_info"]
        times.setdefault((about["job"], about["shape"]), {})[about["side"]] = one["stats"]["median"] * 1e3
    commit, cpu = result["commit_info"], result["machine_info"]["cpu"]
    lines = [
        f"{result['datetime'][:10]}, commit {commit['id'][:12]}{' with changes' if commit['dirty'] else ''}, "
        f"{cpu['brand_raw']}, {cpu['count']} cores, Python {result['machine_info']['python_version']}.",
        "",
        "Medians in milliseconds; the ratio is gpunn's time over PyTorch's, so below 1 gpunn is faster.",
        "",
        "| job | shape | gpunn | PyTorch | ratio |",
        "|---|---|---|---|---|",
    ]
    ratios = []
    for (job, shape), sides in times.items():
        ratios.append(sides["gpunn"] / sides["pytorch"])
        row = (job, shape, f"{sides['gpunn']:.3f}", f"{sides['pytorch']:.3f}", f"{ratios[-1]:.2f}")
        lines.append(f"| {' | '.join(row)} |")
    mean = statistics.geometric_mean(ratios)
    return "\n".join([*lines, "", f"Geometric mean of the ratios: {mean:.2f}. GPU: not measured.", ""])


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(table(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")
