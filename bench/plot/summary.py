#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Says how many figures met their targets and which did not. `./dev bench` runs it after the benchmarks.

Usage: summary.py FILE.jsonl...
"""

import json
import pathlib
import re
import sys
from typing import Any

TARGET = re.compile(r"([<>]=) (\S+) ?(.*)")


def best_peer(row: dict[str, Any]) -> tuple[str, float]:
    peers = row.get("peers") or {}
    name = min(peers, key=lambda p: peers[p]["value"], default="")
    return name, peers[name]["ratio"] if name else 0


def what_missed(row: dict[str, Any], target: str) -> str:
    """What was measured against one target, in words; nothing when it was met or is none."""
    match = TARGET.fullmatch(target.strip())
    if not match:
        return ""
    relation, limit, of = match[1], float(match[2]), match[3]
    if of == "peer":
        name, measured = best_peer(row)
        words = f"{measured:.2f} x {name}"
    elif of in ("floor", "R"):
        measured = row["ratio" if of == "floor" else "ratio_R"]
        words = f"{measured:.2f} x {of}"
    else:
        measured = row["value"]
        words = f"{measured:.4g} {of}"
    met = measured <= limit if relation == "<=" else measured >= limit
    return "" if met else f"{words} ({target.strip()})"


def main(paths: list[str]) -> None:
    rows = []
    for path in paths:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
        rows += [row for row in map(json.loads, lines) if row.get("ok") is not None]
    missed = [row for row in rows if not row["ok"]]
    print(f"targets  {len(rows) - len(missed)} of {len(rows)} met{'; missed:' if missed else ''}")
    for row in missed:
        words = "; ".join(filter(None, (what_missed(row, target) for target in row["target"].split(","))))
        print(f"  {row['bench']:<12} {row['name']:<28} {row['params']:<34} {words}")


if __name__ == "__main__":
    main(sys.argv[1:])
