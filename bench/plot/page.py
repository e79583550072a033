# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""The page of all figures: a table for each benchmark, with the command that makes it. `./dev bench` writes it."""

import json
import pathlib
from typing import Any

from .rows import fields_of

ORDER = [
    ("roundtrip", "One task there and back"),
    ("independent", "Independent tasks"),
    ("chain", "Chains"),
    ("graph", "A random layered graph"),
    ("metg", "The smallest task worth its while"),
    ("submit", "Inferring dependencies"),
    ("allocate", "Allocating domains"),
    ("windows", "Windows over a subset, against MPI and OpenSHMEM"),
    ("zero", "Zeroing"),
    ("putget", "Put and get"),
    ("putsignal", "Signals"),
    ("barrier", "Barrier"),
    ("collectives", "Collectives"),
    ("start", "Start and close"),
    ("idle", "Idle"),
    ("memory", "Memory"),
    ("death", "Death"),
    ("growth", "Growth"),
    ("python", "Python"),
    ("python_start", "Start from Python"),
]

HEAD = """# All figures

What `./dev bench` last measured on the machine named here, row by row. [Performance](performance.md) says what
the rows mean and how they come about. A value is the median of the batches [p10 – p90], *floor* the median of the
barest program that does the same job, *peer* that of the best of the peers that were there; × is the median of the
ratios within the batches. R is the round trip of a cache line between two cores around the batches, in ns.
**Bold**: the target was missed.

"""


def number(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - len(str(int(abs(value))).lstrip("0")) + (1 if abs(value) < 1 else 0))
    return f"{value:.{min(digits + (abs(value) < 0.1), 3)}f}" if abs(value) < 100 else f"{value:.0f}"


def ratio(value: float | None) -> str:
    return f"{value:.2f}" if value else ""


def cells_of(row: dict[str, Any]) -> list[str]:
    peers = row.get("peers") or {}
    best = min(peers, key=lambda name: peers[name]["value"], default=None)
    value = f"{number(row['value'])} [{number(row['p10'])} – {number(row['p90'])}] {row['unit']}"
    target = row.get("target") or ""
    return [
        row["name"],
        row["params"],
        f"**{value}**" if row.get("ok") is False else value,
        number(row["floor"]) if row.get("floor") else "",
        ratio(row.get("ratio")),
        f"{row['R']:.0f}" if row.get("R") else "",
        ratio(row.get("ratio_R")),
        f"{best} {number(peers[best]['value'])}" if best else "",
        ratio(peers[best]["ratio"]) if best else "",
        target,
    ]


def describe(results: pathlib.Path) -> str:
    machine = json.loads((results / "machine.json").read_text(encoding="utf-8"))
    missing = ", ".join(machine.get("missing", [])) or "none"
    return (
        f"{machine['machine']}, {machine['cores']} cores{' (virtual)' if machine.get('virtual') else ''}, "
        f"{machine['memory_gib']} GiB, Linux {machine['kernel']}; {machine['date']}, commit {machine['commit']}; "
        f"others used {machine['others_percent']} % of the cores before; peers that were missing: {missing}.\n\n"
    )


def write_page(results: pathlib.Path, target: pathlib.Path) -> None:
    """Leaves an older page as it is while some benchmark has not run."""
    paths = {bench: results / f"{bench}.jsonl" for bench, _ in ORDER}
    missing = [bench for bench, path in paths.items() if not path.exists()]
    if missing:
        print(f"kept     {target}: no figures yet of {' '.join(missing)}")
        return
    text = HEAD + describe(results)
    for bench, title in ORDER:
        rows = list(fields_of(paths[bench]))
        text += f"## {title}\n\n`./dev bench {bench}`, {rows[0].get('date', '')}\n\n"
        text += "| figure | with | measured | floor | × | R | × | best peer | × | target |\n"
        text += "| --- " * 10 + "|\n"
        text += "".join(f"| {' | '.join(cells_of(row))} |\n" for row in rows) + "\n"
    target.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    print(f"written  {target}")
