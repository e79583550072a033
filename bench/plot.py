#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""Draws what bench/collectives wrote: time over size as a multiple of the floor's, one panel for each collective and
number of chips. `./dev bench --plot` runs it.

Usage: plot.py COLLECTIVES.jsonl OUTPUT.svg
"""

import json
import math
import sys

OPS = ["all_reduce", "broadcast", "all_gather", "reduce_scatter", "all_to_all"]
CHIPS = [2, 4, 8]
TRANSOM, FLOOR = "Transom", "floor: barrier, work, barrier"
SERIES = {
    TRANSOM: ("#0b5cd6", 2.6),
    FLOOR: ("#555555", 1.4),
    "Open MPI": ("#e07b00", 1.4),
    "Open MPI+UCX": ("#c23b22", 1.4),
    "OpenSHMEM": ("#2a8f4c", 1.4),
    "MPICH": ("#8a4fbf", 1.4),
}
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 250, 130, 150, 92, 40, 34
SIZE_MIN, SIZE_MAX, RATIO_MIN, RATIO_MAX = 8, 16 << 20, 0.2, 32


def read(path):
    """{(op, chips): {series: {bytes: multiple of the floor}}}"""
    floor, value = {}, {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if "name" not in row or ", " not in row["name"]:
                continue
            op, series = row["name"].split(", ", 1)
            chips, size = row["params"].split(", ")
            number, unit = size.split()
            key = (op, int(chips.split()[0]), int(number) * UNITS[unit])
            if series == "to the floor":
                floor[key] = row["floor"]
                series = TRANSOM
            value[key + (series,)] = row["value"]
    panels = {}
    for (op, chips, size, series), time in value.items():
        if floor.get((op, chips, size)):
            panel = panels.setdefault((op, chips), {})
            panel.setdefault(series, {})[size] = time / floor[op, chips, size]
            panel.setdefault(FLOOR, {})[size] = 1
    return panels


def scale_x(size):
    return WIDTH * math.log(size / SIZE_MIN) / math.log(SIZE_MAX / SIZE_MIN)


def scale_y(ratio):
    ratio = min(max(ratio, RATIO_MIN), RATIO_MAX)
    return HEIGHT * (1 - math.log(ratio / RATIO_MIN) / math.log(RATIO_MAX / RATIO_MIN))


def text(x, y, words, anchor="middle", size=11, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
            f'font-weight="{weight}" fill="#222">{words}</text>')


def draw_axes(with_sizes, with_ratios):
    out = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fafafa" stroke="#bbb"/>']
    for ratio in (0.25, 1, 4, 16):
        y = scale_y(ratio)
        out.append(f'<line x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        if with_ratios:
            out.append(text(-6, y + 4, f"{ratio:g}\N{MULTIPLICATION SIGN}", "end", 10))
    for size, label in ((8, "8 B"), (1 << 10, "1 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB"),
                        (16 << 20, "16 MiB")):
        x = scale_x(size)
        out.append(f'<line y2="{HEIGHT}" x1="{x:.1f}" x2="{x:.1f}" stroke="#e6e6e6"/>')
        if with_sizes:
            out.append(text(x, HEIGHT + 14, label, size=9))
    return out


def draw_panel(curves, with_sizes, with_ratios):
    out = draw_axes(with_sizes, with_ratios)
    for series in reversed(SERIES):
        points = sorted(curves.get(series, {}).items())
        if not points:
            continue
        colour, width = SERIES[series]
        path = " ".join(f"{scale_x(s):.1f},{scale_y(r):.1f}" for s, r in points)
        dash = ' stroke-dasharray="5 3"' if series == FLOOR else ""
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                   f'stroke-width="{width}" stroke-linejoin="round"{dash}/>')
        if series == TRANSOM:
            out += [f'<circle cx="{scale_x(s):.1f}" cy="{scale_y(r):.1f}" r="2.6" fill="{colour}"/>'
                    for s, r in points]
    return out


def draw_legend(present, width):
    out, x = [], LEFT
    for series in present:
        colour, stroke = SERIES[series]
        dash = ' stroke-dasharray="5 3"' if series == FLOOR else ""
        out.append(f'<line x1="{x}" x2="{x + 26}" y1="54" y2="54" stroke="{colour}" '
                   f'stroke-width="{stroke}"{dash}/>')
        out.append(text(x + 32, 58, series, "start"))
        x += 56 + 6.8 * len(series)
    out.append(text(width / 2, 26, "Time of a collective as a multiple of the floor's "
                    "(f32, log scales, lower is better)", size=15, weight="bold"))
    return out


def draw(panels):
    width = LEFT + len(CHIPS) * (WIDTH + GAP_X)
    height = TOP + len(OPS) * (HEIGHT + GAP_Y) + 6
    present = [s for s in SERIES if any(s in curves for curves in panels.values())]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}" font-family="Helvetica, Arial, sans-serif">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    out += draw_legend(present, width)
    for row, op in enumerate(OPS):
        y = TOP + row * (HEIGHT + GAP_Y)
        out.append(text(LEFT - 44, y + HEIGHT / 2 + 4, op, "end", 12, "bold"))
        for column, chips in enumerate(CHIPS):
            x = LEFT + column * (WIDTH + GAP_X)
            if row == 0:
                out.append(text(x + WIDTH / 2, TOP - 10, f"{chips} chips", size=12, weight="bold"))
            out.append(f'<g transform="translate({x},{y})">')
            out += draw_panel(panels.get((op, chips), {}), True, column == 0)
            out.append("</g>")
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main(source, target):
    panels = read(source)
    if not panels:
        sys.exit(f"{source} has no figures of collectives")
    with open(target, "w", encoding="utf-8") as f:
        f.write(draw(panels))
    print(target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
