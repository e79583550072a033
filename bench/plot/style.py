# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""How all plots look: who has which colour and mark, axes, and the file that comes out, which is the same for the same
figures."""

import pathlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "transom",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.labelsize": 9.5,
        "axes.edgecolor": "#999999",
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.7,
        "xtick.color": "#333333",
        "ytick.color": "#333333",
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
    }
)

WIDTH = 10.4  # inches: the column of a page on GitHub
LEFT = 0.008  # of the width: where title, legend and caption begin
TITLE, LEGEND_ROW, CAPTION = 0.38, 0.24, 0.26  # inches
MARKER_SIZE = 4.2
TRANSOM, FLOOR = "Transom", "floor"
TIMES = "\N{MULTIPLICATION SIGN}"
KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Look:
    colour: str
    marker: str = "o"
    dashes: str = "-"
    width: float = 1.5


# Colours of Okabe and Ito and of Paul Tol, which the colour-blind can tell apart. A party is looked up by the longest
# of these that its name begins with.
LOOKS = {
    TRANSOM: Look("#0072b2", width=2.6),
    TRANSOM + ",": Look("#56b4e9", width=2.2),  # the same, another way
    FLOOR: Look("#555555", "", "--", 1.4),
    "Open MPI": Look("#e69f00", "s"),
    "Open MPI+UCX": Look("#d55e00", "D"),
    "OpenSHMEM": Look("#009e73", "^"),
    "MPICH": Look("#cc79a7", "v"),
    "StarPU": Look("#882255", "s"),
    "oneTBB": Look("#999933", "^"),
    "OpenMP": Look("#44aa99", "D"),
    "multiprocessing": Look("#ddcc77", "v"),
    "ProcessPoolExecutor": Look("#cc6677", "<"),
    "Ray": Look("#332288", ">"),
    "": Look("#bbbbbb", "x"),
}
ORDER = list(LOOKS)
THREADS = ("StarPU", "oneTBB", "OpenMP")  # their workers are threads of one process; those of all others are processes
DASHES: list[Any] = ["-", (0, (4, 1.5)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5))]


def beginning_of(party: str) -> str:
    return max((beginning for beginning in LOOKS if party.startswith(beginning)), key=len)


def look_of(party: str) -> Look:
    return LOOKS[beginning_of(party)]


def label_of(party: str) -> str:
    return f"{party} (threads)" if party.startswith(THREADS) else party


def in_order(parties: Iterable[str]) -> list[str]:
    """Transom, the floor, the others as they stand above; those of one colour as they come."""
    return sorted(dict.fromkeys(parties), key=lambda party: ORDER.index(beginning_of(party)))


class Legend:
    """The parties that a figure shows. What has the same colour gets other dashes."""

    def __init__(self) -> None:
        self.parties: list[str] = []

    def style(self, party: str) -> dict[str, Any]:
        """Of the party's line."""
        if party not in self.parties:
            self.parties.append(party)
        look = look_of(party)
        place = [other for other in self.parties if look_of(other) == look].index(party)
        dashes = DASHES[place % len(DASHES)] if place else look.dashes
        return {
            "color": look.colour,
            "linestyle": dashes,
            "linewidth": look.width,
            "marker": look.marker or None,
            "markersize": MARKER_SIZE,
        }

    def line(self, ax: Axes, points: Iterable[tuple[float, float]], party: str) -> None:
        """Through the points whose value is there."""
        there = sorted(point for point in points if point[1] > 0)
        if there:
            xs, ys = zip(*there)
            ax.plot(xs, ys, zorder=2.9 if party.startswith(TRANSOM) else 2.1, **self.style(party))

    def dot(self, ax: Axes, points: Iterable[tuple[float, float]], party: str) -> None:
        """The same without a line."""
        there = [point for point in points if point[0] > 0]
        if there:
            xs, ys = zip(*there)
            style = self.style(party) | {"linestyle": "", "markersize": MARKER_SIZE + 2}
            ax.plot(xs, ys, zorder=2.9 if party.startswith(TRANSOM) else 2.1, **style)

    def draw(self, figure: Figure, only: str = "line", rows: int = 1) -> None:
        """Below the title. only: "line", "dot" or "bar"; rows: as many as the figure was made for."""
        handles = []
        for party in in_order(self.parties):
            style = self.style(party)
            if only == "dot":
                style |= {"linestyle": "", "markersize": MARKER_SIZE + 2}
            elif only == "bar":
                style |= {"linestyle": "", "marker": "s", "markersize": 8}
            handles.append(Line2D([], [], label=label_of(party), **style))
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(LEFT, 1 - TITLE / figure.get_figheight()),
            ncols=-(-len(handles) // rows),
            borderaxespad=0,
            borderpad=0,
            handlelength=2.6 if only == "line" else 1,
            handletextpad=0.6 if only == "line" else 0.3,
            columnspacing=1.4,
        )


def new_figure(
    rows: int, columns: int, height: float, title: str, legend_rows: int = 1, **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """height: of the axes with their labels, in inches; title, legend and caption come on top of it."""
    total = height + TITLE + legend_rows * LEGEND_ROW + CAPTION
    box = (0, CAPTION / total, 1, height / total)
    layout = ConstrainedLayoutEngine(rect=box, w_pad=0.06, h_pad=0.05, wspace=0.02, hspace=0.03)
    figure = Figure(figsize=(WIDTH, total), layout=layout)
    figure.text(LEFT, 1 - 0.09 / total, title, ha="left", va="top", fontsize=12.5, fontweight="bold")
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False, **options)]


def short(value: float) -> str:
    """Three digits, without an exponent."""
    if value >= 1e5:
        return f"{value / 1e6:.2g}M"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def bytes_label(value: float, _: object = None) -> str:
    for unit, size in (("GiB", KIB * MIB), ("MiB", MIB), ("KiB", KIB)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} B"


def time_label(ns: float, _: object = None) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("\N{MICRO SIGN}s", 1e3)):
        if ns >= size:
            return f"{short(ns / size)} {unit}"
    return f"{short(ns)} ns"


def count_label(value: float, _: object = None) -> str:
    """10, 100, then powers."""
    if value < 1000:
        return f"{value:g}"
    exponent = len(f"{value:.0f}") - 1
    power = "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(exponent))
    factor = value / 10**exponent
    return power if factor == 1 else f"{factor:g}{TIMES}{power}"


def times_label(value: float, _: object = None) -> str:
    return f"{value:g}{TIMES}"


def log_axis(axis: Axis, label: Callable[..., str], places: Iterable[float] | None = None) -> None:
    """A log axis that is marked at these places only, else at powers of ten; to be called when all is drawn."""
    ax = axis.axes
    (ax.set_xscale if axis is ax.xaxis else ax.set_yscale)("log")
    low, high = axis.get_data_interval()
    subs = (1, 2, 5) if high < 30 * low else (1,)
    axis.set_major_locator(FixedLocator(sorted(places)) if places is not None else LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, target: pathlib.Path, caption: str) -> None:
    bottom = 0.08 / figure.get_figheight()
    figure.text(LEFT, bottom, caption, ha="left", va="bottom", fontsize=7.5, color="#666666")
    figure.savefig(target, facecolor="white", metadata={"Date": None, "Creator": None})
