# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Plots of what a task costs: through rings, chains and graphs, the smallest that pays (METG), and submitting one."""

import re
from collections.abc import Callable, Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .rows import Results, Row, peers_of
from .style import (
    FLOOR,
    TRANSOM,
    Legend,
    beginning_of,
    count_label,
    in_order,
    log_axis,
    look_of,
    new_figure,
    short,
    time_label,
)

BY_ID = "Transom, edges by id"
PANELS = [("independent", "independent"), ("chain", "chain over the chips"), ("graph", "random layered graph")]
BAR = 0.14  # the distance between groups is 1


def party_of(row: Row) -> str:
    """Which Transom: its edges are given by id, or inferred from tensors (or there are none)."""
    return BY_ID if re.search(r"\bid\b|explicit", f"{row.name} {row.params}") else TRANSOM


def costs(rows: Iterable[Row]) -> dict[str, float]:
    """{party: ns}; of each peer its best: of its settings, and of the ways in which its edges can be given."""
    found: dict[str, float] = {}
    for row in rows:
        found[party_of(row)] = row.value
        for party, value in ({FLOOR: row.floor} | row.peers).items():
            if value > 0:
                name = beginning_of(party) or party
                found[name] = min(value, found.get(name, value))
    return found


def chips_text(chips: int) -> str:
    return f"{chips} chip{'s' if chips > 1 else ''}"


def draw_bars(ax: Axes, groups: dict[int, dict[str, float]], legend: Legend) -> None:
    """A group for each number of chips; a bar with its number for each party in it."""
    for place, found in enumerate(groups.values()):
        parties = in_order(found)
        for i, party in enumerate(parties):
            x = place + (i - (len(parties) - 1) / 2) * BAR
            legend.style(party)
            ax.bar(x, found[party], BAR * 0.86, color=look_of(party).colour)
            ax.annotate(
                short(found[party]),
                (x, found[party]),
                (0, 3),
                textcoords="offset points",
                rotation=90,
                ha="center",
                va="bottom",
                fontsize=8,
            )
    ax.set_xticks(range(len(groups)), [chips_text(chips) for chips in groups])
    ax.tick_params(axis="x", length=0)
    ax.grid(visible=False, axis="x")


def draw_tasks(results: Results) -> Figure | None:
    panels = {}
    for bench, title in PANELS:
        rows = [row for row in results.select(bench) if row.unit == "ns" and row.chips]
        groups = {chips: costs(row for row in rows if row.chips == chips) for chips in sorted({r.chips for r in rows})}
        if groups:
            panels[title] = groups
    if not panels:
        return None
    title = "Time of an empty task, submitted and run, in ns (lower is better)"
    widths = {"width_ratios": [0.4 + sum(len(group) for group in groups.values()) for groups in panels.values()]}
    figure, axes = new_figure(1, len(panels), 3.5, title, sharey=True, gridspec_kw=widths)
    legend = Legend()
    for ax, (name, groups) in zip(axes[0], panels.items()):
        ax.set_title(name)
        draw_bars(ax, groups, legend)
        log_axis(ax.yaxis, count_label)
    low, high = axes[0][0].get_ylim()
    axes[0][0].set_ylim(low, high * (high / low) ** 0.2)  # for the numbers
    axes[0][0].set_ylabel("ns per task")
    legend.draw(figure, "bar")
    return figure


def draw_metg(results: Results) -> Figure | None:
    rows = sorted(results.select("metg"), key=lambda row: row.x)
    patterns = list(dict.fromkeys(row.name for row in rows))
    chips = sorted({row.chips for row in rows})
    if not rows:
        return None
    title = "Smallest task that still gives 50 % efficiency, by pattern of dependence (lower is better)"
    figure, axes = new_figure(1, len(chips), 0.9 + 0.26 * len(patterns), title, sharex=True, sharey=True)
    legend = Legend()
    for ax, n in zip(axes[0], chips):
        found = {pattern: costs(r for r in rows if r.name == pattern and r.chips == n) for pattern in patterns}
        for party in in_order(party for group in found.values() for party in group):
            legend.dot(ax, [(group.get(party, 0), y) for y, group in enumerate(found.values())], party)
        ax.set_title(chips_text(n))
        ax.set_xlabel("task, log scale")
        log_axis(ax.xaxis, time_label)
    axes[0][0].set_yticks(range(len(patterns)), patterns)
    axes[0][0].invert_yaxis()
    legend.draw(figure, "dot")
    return figure


def first_values(rows: Iterable[Row], value: Callable[[Row], float]) -> list[tuple[float, float]]:
    """For each x the value of the first row that has one."""
    found: dict[float, float] = {}
    for row in rows:
        if value(row) > 0:
            found.setdefault(row.x, value(row))
    return list(found.items())


def draw_submit(results: Results) -> Figure | None:
    rows = [row for row in results.select("submit") if row.unit == "ns" and row.x]
    if not rows:
        return None
    title = "Submitting a task whose dependences are inferred, over the ranges that are alive (lower is better)"
    figure, axes = new_figure(1, 1, 3.3, title)
    ax, legend = axes[0][0], Legend()
    overlapping = [row for row in rows if "overlap" in f"{row.name} {row.params}"]
    exact = [row for row in rows if row not in overlapping]
    legend.line(ax, first_values(exact, lambda row: row.value), TRANSOM)
    legend.line(ax, first_values(overlapping, lambda row: row.value), f"{TRANSOM}, overlapping")
    legend.line(ax, first_values(exact, lambda row: row.floor), FLOOR)
    for peer in peers_of(exact):
        legend.line(ax, first_values(exact, lambda row, peer=peer: row.peers.get(peer, 0)), peer)
    log_axis(ax.xaxis, count_label)
    log_axis(ax.yaxis, time_label)
    ax.set_xlabel("live ranges")
    ax.set_ylabel("time of one submit")
    legend.draw(figure)
    return figure
