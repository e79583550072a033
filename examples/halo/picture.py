#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""picture.py BEFORE.pgm AFTER.pgm OUT.png: both images side by side as a PNG file.

Needs nothing but Python's standard library.
"""

import re
import struct
import sys
import zlib

GAP = 8
PAPER = b"\xff"


def read_pgm(path):
    """Width and rows of a binary PGM file with 8 bits a pixel."""
    with open(path, "rb") as file:
        data = file.read()
    match = re.match(rb"P5\s+(\d+)\s+(\d+)\s+255\s", data)
    if not match:
        sys.exit(f"{path}: not a PGM file of 8 bits a pixel")
    width, height = int(match.group(1)), int(match.group(2))
    pixels = data[match.end() :]
    if len(pixels) < width * height:
        sys.exit(f"{path}: ends too early")
    return width, [pixels[y * width : (y + 1) * width] for y in range(height)]


def filtered(row, above):
    """The row as PNG stores it, by the filter that makes the smallest numbers: none, sub, up or average."""
    left = b"\0" + row[:-1]
    ways = [
        row,
        bytes((x - a) & 255 for x, a in zip(row, left)),
        bytes((x - b) & 255 for x, b in zip(row, above)),
        bytes((x - (a + b) // 2) & 255 for x, a, b in zip(row, left, above)),
    ]
    sizes = [sum(min(x, 256 - x) for x in way) for way in ways]
    best = sizes.index(min(sizes))
    return bytes([best]) + ways[best]


def write_png(path, width, rows):
    """Rows of `width` grey pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    aboves = [bytes(width)] + rows[:-1]
    packed = zlib.compress(b"".join(map(filtered, rows, aboves)), 9)
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 0, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__.strip())
    width, before = read_pgm(sys.argv[1])
    other, after = read_pgm(sys.argv[2])
    if other != width or len(after) != len(before):
        sys.exit("the two images differ in size")
    rows = [a + GAP * PAPER + b for a, b in zip(before, after)]
    write_png(sys.argv[3], 2 * width + GAP, rows)


if __name__ == "__main__":
    main()
