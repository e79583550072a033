# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What the benchmarks of the package share: samples and how they become figures, R, cores. What bench/common.c is in C.

Table and JSON lines are those of the benchmarks in C: the best peer is the one with the lowest median, and a ratio is
the median of the ratios within each batch.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

R_NEAR_NS = 150.0  # below this a round trip is called near, else far
CLASS_MIN = 3  # a class with fewer batches is left out
RETRIES = 4
OUTPUT = pathlib.Path(os.environ.get("TRANSOM_BENCH_OUTPUT", tempfile.gettempdir()))
UNIT_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6}

LAYERS, WIDTH, FAN_IN, SEED = 100, 100, 3, 12345  # of the random graph: the shape of bench/graph.c


@dataclass
class Sample:
    """One batch: what was measured, the floor of the same round, R around it in ns, the peers. 0: none."""

    value: float
    floor: float = 0
    r: float = 0
    peers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """What the median may be at most: at_most in its unit, of_peer times the best peer."""

    name: str
    params: str
    unit: str = "us"
    at_most: float | None = None
    of_peer: float | None = None
    chips: int = 0
    x: float = 0


def quantile(values: Iterable[float], p: float) -> float:
    """The p-quantile of the values that are there; 0 when none is."""
    found = sorted(v for v in values if v)
    if not found:
        return 0
    at = p * (len(found) - 1)
    low = int(at)
    high = min(low + 1, len(found) - 1)
    return found[low] + (at - low) * (found[high] - found[low])


def _over(value: float, of: float) -> float:
    return value / of if of > 0 else 0


def _number(v: float) -> str:
    """Four digits, without an exponent."""
    a = abs(v)
    return f"{v:.{0 if a >= 1000 or a == 0 else 1 if a >= 100 else 2 if a >= 10 else 3}f}"


def _some(v: float) -> str:
    return _number(v) if v > 0 else "-"


def _digits(v: float, digits: int = 6) -> float:
    return float(f"{v:.{digits}g}")


def _others_busy() -> float:
    """Percent of all cores that others use now."""
    looks = []
    for pause in (0.3, 0.0):
        with open("/proc/stat", encoding="ascii") as f:
            times = [int(v) for v in f.readline().split()[1:9]]
        looks.append((sum(times) - times[3] - times[4], sum(times)))
        time.sleep(pause)
    busy, everything = (looks[1][i] - looks[0][i] for i in range(2))
    return 100 * busy / everything if everything > 0 else 0


class Report:
    """The table and the JSON lines of one benchmark."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self.long = "--long" in arguments
        self.table = "--json" not in arguments
        self.date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.busy = _others_busy()
        self.out = (OUTPUT / f"{name}.jsonl").open("w", encoding="utf-8") if self.table else sys.stdout
        if self.table and "--row" not in arguments:
            self._row(
                (
                    "figure",
                    "with",
                    "median",
                    "p10",
                    "p90",
                    "unit",
                    "floor",
                    "x",
                    "R",
                    "x",
                    "peer",
                    "x",
                    "best peer",
                    "target",
                )
            )

    def _row(self, cells: Sequence[str], verdict: str = "") -> None:
        name, params, median, p10, p90, unit, floor, to_floor, r, to_r, peer, to_peer, best, target = cells
        print(
            f"{name:<26} {params:<32} {median:>9} {p10:>9} {p90:>9} {unit:<7} {floor:>9} {to_floor:>6} {r:>6} "
            f"{to_r:>6} {peer:>9} {to_peer:>6} {best:<14} {target:<20} {verdict}",
            flush=True,
        )

    def _line(self, row: dict[str, object]) -> None:
        print(json.dumps({"bench": self.name, **row}), file=self.out, flush=True)

    def note(self, text: str) -> None:
        if self.table:
            print(f"  ({self.name}: {text})", flush=True)
        self._line({"note": text})

    def figure(self, f: Figure, samples: Sequence[Sample]) -> None:
        if not samples:
            return
        values = [s.value for s in samples]
        median, p10, p90 = (quantile(values, p) for p in (0.5, 0.1, 0.9))
        floor, floor10, floor90 = (quantile((s.floor for s in samples), p) for p in (0.5, 0.1, 0.9))
        to_floor = quantile((_over(s.value, s.floor) for s in samples), 0.5)
        r = quantile((s.r for s in samples), 0.5)
        to_r = quantile((_over(s.value, s.r) for s in samples), 0.5) * UNIT_NS.get(f.unit, 0)
        peers = self._peers(samples)
        best = min(peers, key=lambda name: peers[name]["value"]) if peers else ""
        peer, to_peer = (peers[best]["value"], peers[best]["ratio"]) if best else (0.0, 0.0)
        targets, ok = [], None
        if f.at_most is not None:
            targets.append(f"<= {f.at_most:g} {f.unit}")
            ok = median <= f.at_most
        if f.of_peer is not None:
            targets.append(f"<= {f.of_peer:g} peer")
            ok = ok is not False and to_peer <= f.of_peer
        target = ", ".join(targets)
        if self.table:
            cells = [f.name, f.params, _number(median), _number(p10), _number(p90), f.unit]
            cells += [_some(v) for v in (floor, to_floor, r, to_r, peer, to_peer)]
            self._row([*cells, best, target], "" if ok is None else "ok" if ok else "MISSED")
        row: dict[str, object] = {"name": f.name, "params": f.params, "chips": f.chips, "x": f.x}
        row |= {"value": _digits(median), "p10": _digits(p10), "p90": _digits(p90), "unit": f.unit}
        row |= {"floor": _digits(floor), "floor_p10": _digits(floor10), "floor_p90": _digits(floor90)}
        row |= {"ratio": _digits(to_floor, 4), "R": _digits(r, 4), "ratio_R": _digits(to_r, 4), "peers": peers}
        row |= {"target": target, "ok": ok, "batches": len(samples), "date": self.date}
        self._line(row | {"others_percent": round(self.busy, 1)})

    def _peers(self, samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
        peers = {}
        for name in dict.fromkeys(name for s in samples for name in s.peers):
            values = [s.peers.get(name, 0) for s in samples]
            if any(values):
                median, p10, p90 = (_digits(quantile(values, p)) for p in (0.5, 0.1, 0.9))
                ratio = quantile((_over(s.value, v) for s, v in zip(samples, values)), 0.5)
                peers[name] = {"value": median, "p10": p10, "p90": p90, "ratio": _digits(ratio, 4)}
        return peers

    def figure_cores(self, f: Figure, samples: Sequence[Sample]) -> None:
        """In two figures, for near and far cores, where R was probed."""
        if not any(s.r for s in samples):
            self.figure(f, samples)
            return
        for name, far in (("near", False), ("far", True)):
            part = [s for s in samples if (s.r >= R_NEAR_NS) == far]
            if len(part) >= CLASS_MIN:
                params = f"{f.params}, {name}"
                self.figure(Figure(f.name, params, f.unit, f.at_most, f.of_peer, f.chips, f.x), part)

    def end(self) -> int:
        if self.table:
            self.out.close()
        return 0


def end_tidily() -> None:
    """What ends the program ends its peers in order, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


# ---- cores, R, batches ----

_allowed = sorted(os.sched_getaffinity(0))


def two_cores() -> bool:
    return len(_allowed) >= 2


def pin(core: int) -> None:
    """This thread; also what a task calls."""
    os.sched_setaffinity(0, {_allowed[core % len(_allowed)]})


def unpin() -> None:
    os.sched_setaffinity(0, _allowed)


class Probe:
    """R: the round trip of a cache line between the first two cores, from bench/probe.c, which runs while we wait."""

    def __init__(self, wanted: bool = True) -> None:
        program = OUTPUT / "probe"
        self.process = None
        if wanted and two_cores() and program.exists():
            self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def r(self) -> float:
        """In ns; 0 where it cannot be had."""
        if self.process is None or self.process.stdin is None or self.process.stdout is None:
            return 0
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()


def batches(
    rounds: int,
    probe: Probe,
    run: Callable[[], Sample],
    ask: Callable[[], dict[str, float]] | None = None,
    every: int = 1,
) -> list[Sample]:
    """Repeats run() until `rounds` batches have had the same R before and after (a quarter of difference is allowed),
    at most four times as many; after every `every`-th of them, and the first, ask() for the peers."""
    run()  # what happens the first time only
    kept: list[Sample] = []
    for _ in range(RETRIES * rounds):
        if len(kept) == rounds:
            break
        before = probe.r()
        one = run()
        after = probe.r()
        if max(before, after) > 1.25 * min(before, after):
            continue
        one.r = (before + after) / 2
        if ask and len(kept) % every == 0:
            one.peers = ask()
        kept.append(one)
    return kept


def timed(function: Callable[[], object], count: int = 1) -> float:
    """Microseconds of one of `count` that the function does."""
    begin = time.perf_counter()
    function()
    return 1e6 * (time.perf_counter() - begin) / count


# ---- /proc ----


def tree_of(root: int) -> list[int]:
    """A process and all that descend from it now."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [root]
    for pid in found:  # which grows meanwhile
        found += children.get(pid, [])
    return found


def command_of(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def tree_kib(root: int) -> float:
    """Memory of all of them, shared pages counted once (PSS)."""
    total = 0.0
    for pid in tree_of(root):
        try:
            lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        total += sum(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


# ---- the random graph ----


def graph() -> list[tuple[int, ...]]:
    """For each task those it follows: FAN_IN different ones of the layer before."""
    numbers = random.Random(SEED)
    edges: list[tuple[int, ...]] = [()] * WIDTH
    for layer in range(LAYERS - 1):
        edges += [tuple(layer * WIDTH + i for i in numbers.sample(range(WIDTH), FAN_IN)) for _ in range(WIDTH)]
    return edges
