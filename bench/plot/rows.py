# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What the benchmarks wrote (bench/common.c, write_line): JSON lines as rows, and the machine they were taken on."""

import json
import pathlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

NANOSECONDS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


@dataclass(frozen=True)
class Row:
    """One figure. Times are in ns, all else in its own unit; 0 is none."""

    bench: str
    name: str
    params: str  # without the cores
    cores: str  # "near", "far" or ""
    chips: int
    x: float
    value: float
    floor: float
    ratio: float  # to the floor
    peers: dict[str, float]
    peer_ratios: dict[str, float]
    unit: str
    batches: int
    date: str
    others_percent: float

    @property
    def best_peer(self) -> str | None:
        return min(self.peers, key=lambda name: self.peers[name], default=None)

    def over_floor(self, value: float) -> float:
        return value / self.floor if self.floor else 0


def split_cores(params: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)(?:, )?\b(near|far)", params)
    return (match[1], match[2]) if match else (params, "")


def row_of(fields: dict[str, Any]) -> Row:
    unit = fields.get("unit", "")
    scale = NANOSECONDS.get(unit, 1.0)
    params, cores = split_cores(fields.get("params", ""))
    peers = fields.get("peers") or {}
    return Row(
        bench=fields["bench"],
        name=fields["name"],
        params=params,
        cores=cores,
        chips=int(fields.get("chips", 0)),
        x=float(fields.get("x", 0)),
        value=scale * fields["value"],
        floor=scale * fields.get("floor", 0),
        ratio=fields.get("ratio", 0),
        peers={name: scale * peer["value"] for name, peer in peers.items()},
        peer_ratios={name: peer["ratio"] for name, peer in peers.items()},
        unit="ns" if unit in NANOSECONDS else unit,
        batches=int(fields.get("batches", 0)),
        date=fields.get("date", ""),
        others_percent=fields.get("others_percent", 0),
    )


def fields_of(path: pathlib.Path) -> Iterable[dict[str, Any]]:
    """The figures of one file, without its notes, and without a line that was cut off when its program was killed."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "name" in fields:
            yield fields


def peers_of(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(peer for row in rows for peer in row.peers))


class Results:
    """All that lies in a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.by_bench = {path.stem: [row_of(f) for f in fields_of(path)] for path in sorted(folder.glob("*.jsonl"))}
        machine = folder / "machine.json"
        self.machine = json.loads(machine.read_text(encoding="utf-8")) if machine.exists() else {}

    def select(self, bench: str, name: str = ".*", params: str = "", chips: int | None = None) -> list[Row]:
        """name: a pattern for all of it; params: one for a part. Of two rows that differ in whether the cores were
        near or far, the one with more batches."""
        found: dict[tuple[str, str, int, float], Row] = {}
        for row in self.by_bench.get(bench, []):
            key = (row.name, row.params, row.chips, row.x)
            if (
                re.fullmatch(name, row.name)
                and re.search(params, row.params)
                and chips in (None, row.chips)
                and (key not in found or found[key].batches < row.batches)
            ):
                found[key] = row
        return list(found.values())

    def caption(self, benches: Iterable[str]) -> str:
        """Where and when the figures of these benchmarks were taken, and how busy it was."""
        rows = [row for bench in benches for row in self.by_bench.get(bench, [])]
        dates = sorted(row.date[:10] for row in rows if row.date)
        busy = [row.others_percent for row in rows]
        words = []
        if m := self.machine:
            virtual = " (virtual)" if m.get("virtual") else ""
            words.append(f"{m['machine']}, {m['cores']} cores{virtual}, {m['memory_gib']} GiB, Linux {m['kernel']}")
        if dates:
            words.append(dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}")
        # The commit is that of the last run: not of figures that are older than it.
        if self.machine and all(row.date >= self.machine["date"] for row in rows):
            words.append(f"commit {self.machine['commit']}")
        if busy:
            words.append(f"other programs: {max(busy):.0f} % of the CPU at most")
        return "; ".join(words)
