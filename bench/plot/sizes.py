# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Plots over bytes: collectives, put and get, and windows that are allocated and freed."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .rows import Results, Row, peers_of
from .style import FLOOR, KIB, MIB, TRANSOM, Legend, bytes_label, log_axis, new_figure, time_label, times_label

SIZES = [8, KIB, 64 * KIB, MIB, 64 * MIB]
RATIOS = [0.0625, 0.25, 1, 4, 16, 64, 256, 1024]
MAIN_OPS = ["all_reduce", "broadcast", "reduce", "all_gather", "reduce_scatter", "all_to_all"]
# {what a row of panels shows: the figure}
WINDOWS = {
    "first time": "alloc + free, first, p50",
    "again": "alloc + free, again, p50",
    "again, touched": "touched, again, p50",
}


def draw_multiples(ax: Axes, rows: Sequence[Row], legend: Legend) -> None:
    """Everybody's time as a multiple of the floor's."""
    legend.line(ax, [(row.x, row.ratio) for row in rows], TRANSOM)
    legend.line(ax, [(row.x, 1) for row in rows], FLOOR)
    for peer in peers_of(rows):
        legend.line(ax, [(row.x, row.over_floor(row.peers.get(peer, 0))) for row in rows], peer)


def draw_times(ax: Axes, rows: Sequence[Row], legend: Legend) -> None:
    """Everybody's time."""
    legend.line(ax, [(row.x, row.value) for row in rows], TRANSOM)
    legend.line(ax, [(row.x, row.floor) for row in rows], FLOOR)
    for peer in peers_of(rows):
        legend.line(ax, [(row.x, row.peers.get(peer, 0)) for row in rows], peer)


def draw_collectives(results: Results) -> Figure | None:
    rows = [row for row in results.select("collectives", "|".join(MAIN_OPS)) if row.floor and row.x and row.chips]
    ops = [op for op in MAIN_OPS if any(row.name == op for row in rows)]
    chips = sorted({row.chips for row in rows})
    if not rows:
        return None
    title = "Time of a collective as a multiple of the floor's: barrier, bare work, barrier (lower is better)"
    figure, axes = new_figure(len(ops), len(chips), 0.5 + 1.5 * len(ops), title, sharex=True, sharey=True)
    legend = Legend()
    for op, line in zip(ops, axes):
        for n, ax in zip(chips, line):
            draw_multiples(ax, [row for row in rows if row.name == op and row.chips == n], legend)
            log_axis(ax.yaxis, times_label, RATIOS)
            log_axis(ax.xaxis, bytes_label, SIZES)
        line[0].set_ylabel(op, fontweight="bold")
    for n, ax in zip(chips, axes[0]):
        ax.set_title(f"{n} chips")
    for ax in axes[-1]:
        ax.set_xlabel("bytes of f32")
    legend.draw(figure)
    return figure


def draw_putget(results: Results) -> Figure | None:
    panels = {}
    for name in ("put", "get"):
        # Without those at odd places, and those whose lines another core has.
        rows = [row for row in results.select("putget", name) if row.x and row.floor and "," not in row.params]
        if rows:
            panels[name] = rows
    if not panels:
        return None
    title = "Time of a put and a get as a multiple of the better copy's (lower is better)"
    figure, axes = new_figure(1, len(panels), 3.3, title, sharey=True)
    legend = Legend()
    for ax, (name, rows) in zip(axes[0], panels.items()):
        draw_multiples(ax, rows, legend)
        ax.set_title(name)
        log_axis(ax.yaxis, times_label, RATIOS)
        log_axis(ax.xaxis, bytes_label, SIZES)
        ax.set_xlabel("bytes")
    axes[0][0].set_ylabel("multiple, log scale")
    legend.draw(figure)
    return figure


def draw_windows(results: Results) -> Figure | None:
    rows = [row for row in results.select("windows") if row.unit == "ns" and row.x and row.chips]
    kinds = {text: name for text, name in WINDOWS.items() if any(row.name == name for row in rows)}
    members = sorted({row.chips for row in rows})
    if not kinds:
        return None
    title = "Allocating and freeing a window of some of 8 ranks (lower is better)"
    figure, axes = new_figure(
        len(kinds), len(members), 0.6 + 1.9 * len(kinds), title, legend_rows=2, sharex=True, sharey=True
    )
    legend = Legend()
    for (text, name), line in zip(kinds.items(), axes):
        for n, ax in zip(members, line):
            here = [row for row in rows if row.name == name and row.chips == n]
            draw_times(ax, here, legend)
            log_axis(ax.xaxis, bytes_label, {row.x for row in rows})
            log_axis(ax.yaxis, time_label)
        line[0].set_ylabel(text, fontweight="bold")
    for n, ax in zip(members, axes[0]):
        ax.set_title(f"{n} members")
    for ax in axes[-1]:
        ax.set_xlabel("bytes of a member's window")
    legend.draw(figure, rows=2)
    return figure
