# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""The plot of growth: what one more chip, task or domain costs when there are many."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .rows import Results, Row
from .style import TRANSOM, count_label, log_axis, look_of, new_figure, time_label

DARK, LIGHT = look_of(TRANSOM).colour, look_of(TRANSOM + ",").colour
LINES = [(DARK, "-"), (LIGHT, "-"), (DARK, "--"), (LIGHT, "--")]


@dataclass(frozen=True)
class Curve:
    name: str  # of the figure
    params: str  # what its params contain
    text: str  # in the legend


@dataclass(frozen=True)
class Column:
    what: str  # there are many of
    times: list[Curve]
    memories: list[Curve]
    memory_text: str  # its axis


COLUMNS = [
    Column(
        "chips",
        [
            Curve("start, per chip", "chip", "start of a chip"),
            Curve("close, per chip", "chip", "its close"),
            Curve("task, independent", "chip", "an independent task"),
        ],
        [Curve("memory, per chip", "chip", "")],
        "KiB per chip",
    ),
    Column(
        "tasks",
        [
            Curve("task, inferred edges", "tasks in one run", "a task, all in one run"),
            Curve("task, inferred edges", "tasks over runs", "a task, in many runs"),
        ],
        [
            Curve("memory left behind", "tasks in one run", "by all, in one run"),
            Curve("memory left behind", "tasks over runs", "by all, in many runs"),
        ],
        "KiB left behind",
    ),
    Column(
        "live domains",
        [
            Curve("allocate, first time", "live domain", "allocate, first time"),
            Curve("allocate, seen", "live domain", "allocate, again"),
            Curve("release", "live domain", "release"),
            Curve("allocate + release, one more", "live domain", "both, one more"),
        ],
        [Curve("memory of a domain", "live domain", "")],
        "bytes per domain",
    ),
]


def draw_curves(ax: Axes, rows: Sequence[Row], curves: list[Curve]) -> None:
    for curve, (colour, dashes) in zip(curves, LINES):
        found = sorted((row.x, row.value) for row in rows if row.name == curve.name and curve.params in row.params)
        if found:
            xs, ys = zip(*found)
            style = {"color": colour, "linestyle": dashes, "linewidth": 2, "marker": "o", "markersize": 3.5}
            ax.plot(xs, ys, label=curve.text, **style)
    log_axis(ax.xaxis, count_label)
    if ax.lines and curves[0].text:
        ax.legend(fontsize=8.5, loc="best", handlelength=2.6)


def draw_growth(results: Results) -> Figure | None:
    rows = [row for row in results.select("growth") if row.x]
    if not rows:
        return None
    title = "Time and memory of one, over how many there are (flat is good)"
    figure, axes = new_figure(2, len(COLUMNS), 5.4, title, legend_rows=0, sharex="col")
    for column, (time, memory) in zip(COLUMNS, zip(*axes)):
        draw_curves(time, rows, column.times)
        log_axis(time.yaxis, time_label)
        low, high = time.get_ylim()
        time.set_ylim(low / 2, high * 4)  # for the legend
        draw_curves(memory, rows, column.memories)
        low, high = memory.get_ylim()
        memory.set_ylim(min(low, 0), 1.3 * high)
        memory.set_ylabel(column.memory_text)
        memory.set_xlabel(column.what)
    axes[0][0].set_ylabel("time")
    return figure
