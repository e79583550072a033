# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""The plot of the README: a few figures as multiples of the floor and of the best peer."""

import re
from dataclasses import dataclass
from math import log

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .rows import Results, Row
from .style import FLOOR, KIB, TIMES, TRANSOM, label_of, log_axis, look_of, new_figure, time_label, times_label

PEER_COLOUR = look_of(TRANSOM).colour
BAR = 0.36
ROOM = 0.25  # of the axis, beyond the longest bar, for what stands at its end


@dataclass(frozen=True)
class Headline:
    text: str
    bench: str
    name: str  # patterns, as for Results.select
    params: str = ""
    chips: int | None = None
    x: float | None = None

    def row(self, results: Results) -> Row | None:
        """The first that has anything to be held against."""
        rows = results.select(self.bench, self.name, self.params, self.chips)
        fits = [row for row in rows if self.x in (None, row.x) and (row.ratio or row.peers)]
        return fits[0] if fits else None


HEADLINES = [
    Headline("an empty task there and back", "roundtrip", "task.*", "a core each"),
    Headline("independent tasks, 1 chip", "independent", "independent tasks", chips=1),
    Headline("chain over 2 chips, a task", "chain", "chain.*", chips=2),
    Headline("random graph, 1 chip, edges by id", "graph", "random graph.*", "by id", chips=1),
    Headline("random graph, 1 chip, edges inferred", "graph", "random graph.*", "inferred", chips=1),
    Headline("smallest task that pays, 2 chips", "metg", "geometric mean", chips=2),
    Headline("window of 1 MiB again, 8 members", "windows", "alloc.*again, p50", chips=8, x=KIB * KIB),
    Headline("put of 8 B with a signal, answered", "putsignal", "put.*", x=8),
    Headline("barrier, 8 chips", "barrier", "barrier", chips=8),
    Headline("all_reduce of 64 KiB, 8 chips", "collectives", "all_reduce", chips=8, x=64 * KIB),
    Headline("start of 8 chips", "start", "start until ready", chips=8),
]


def on_cores(row: Row) -> str:
    """Where chips share cores: how many there are."""
    match = re.search(r" on \d+ cores", row.params)
    return match[0] if match else ""


def draw_bar(ax: Axes, y: float, multiple: float, colour: str, against: str) -> None:
    """From 1, which is as quick, to the multiple; a number with a name at its end."""
    ax.barh(y, multiple - 1, BAR, left=1, color=colour)
    slower = multiple >= 1
    ax.annotate(
        f"{multiple:.{2 if multiple < 100 else 3}g} {TIMES} {against}",
        (multiple, y),
        (4 if slower else -4, 0),
        textcoords="offset points",
        ha="left" if slower else "right",
        va="center",
        fontsize=8.5,
    )


def draw_overview(results: Results) -> Figure | None:
    found = [(headline, row) for headline in HEADLINES if (row := headline.row(results))]
    if not found:
        return None
    title = "Transom's time as a multiple of the floor's and of the best peer's"
    figure, axes = new_figure(1, 1, 0.7 + 0.44 * len(found), title, legend_rows=0)
    ax = axes[0][0]
    for place, (_, row) in enumerate(found):
        if row.ratio:
            draw_bar(ax, place - BAR / 2, row.ratio, look_of(FLOOR).colour, "floor")
        if peer := row.best_peer:
            draw_bar(ax, place + BAR / 2, row.peer_ratios[peer], PEER_COLOUR, label_of(peer))
    log_axis(ax.xaxis, times_label)
    ax.set_yticks(
        range(len(found)), [f"{headline.text}{on_cores(row)}: {time_label(row.value)}" for headline, row in found]
    )
    ax.tick_params(axis="y", length=0)
    ax.axvline(1, color="#333333", linewidth=1)
    ax.grid(visible=False, axis="y")
    ax.set_ylim(len(found) - 0.4, -0.6)
    low, high = ax.dataLim.intervalx
    left, right = ROOM if low < 1 else 0.03, ROOM if high > 1 else 0.03
    whole = (high / low) ** (1 / (1 - left - right))
    low, high = low / whole**left, high * whole**right
    ax.set_xlim(low, high)
    ax.set_xlabel("← Transom is quicker | multiple (log scale) | Transom is slower →", x=log(1 / low) / log(high / low))
    return figure
