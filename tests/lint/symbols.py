#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""symbols.py BUILD_DIR: holds src/transom.map against the library and against the public headers.

The functions that the public headers declare, the list under TRANSOM_0 in the version script and the
symbols that libtransom.so exports in that version are one set. Says what is missing where.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAP = "src/transom.map"


def read_map():
    """The version script as {node: {symbol: line number}}."""
    nodes, node, scope = {}, None, None
    text = (ROOT / MAP).read_text()
    text = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if match := re.match(r"(\w+)\s*\{", line):
            node = nodes.setdefault(match.group(1), {})
        elif match := re.match(r"(global|local):", line):
            scope = match.group(1)
        elif match := re.match(r"([\w*]+);", line):
            if scope == "global":
                node[match.group(1)] = number
    return nodes


def read_headers():
    """The functions that public headers declare but do not define, as {name: "file:line"}."""
    headers = sorted((ROOT / "include/transom").glob("*.h"))
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch, "all.c")
        source.write_text("".join(f"#include <transom/{h.name}>\n" for h in headers))
        listing = pathlib.Path(scratch, "all.txt")
        subprocess.run(
            ["gcc", "-std=c17", f"-I{ROOT / 'include'}", "-fsyntax-only", "-aux-info", listing, source],
            check=True,
        )
        declared = {}
        for line in listing.read_text().splitlines():
            match = re.match(r"/\* (.*):(\d+):NC \*/ .*?(\w+) \((?!\*)", line)
            if match and match.group(1).startswith(str(ROOT)):
                where = pathlib.Path(match.group(1)).relative_to(ROOT)
                declared[match.group(3)] = f"{where}:{match.group(2)}"
        return declared


def read_library(build):
    """What libtransom.so exports, as {version node: {symbol}}."""
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", "--with-symbol-versions", build / "lib/libtransom.so"],
        check=True, capture_output=True, text=True,
    ).stdout
    exported = {}
    for line in listing.splitlines():
        _, kind, name = line.split(maxsplit=2)
        if kind != "A":
            symbol, _, version = name.partition("@")
            exported.setdefault(version.lstrip("@") or "no version", set()).add(symbol)
    return exported


def compare(nodes, declared, exported):
    """Findings as lines of text."""
    public = nodes.get("TRANSOM_0", {})
    for name in sorted(declared.keys() - public.keys()):
        yield f"{declared[name]}: {name} is declared here; add '{name};' to TRANSOM_0 in {MAP}"
    for name in sorted(public.keys() - declared.keys()):
        yield f"{MAP}:{public[name]}: {name} is listed, but no public header declares it"
    for node, symbols in nodes.items():
        for name in sorted(symbols.keys() - exported.get(node, set())):
            yield f"{MAP}:{symbols[name]}: {name} is listed, but the library does not define it"
    for node, symbols in exported.items():
        for name in sorted(symbols - nodes.get(node, {}).keys()):
            yield f"{MAP}:1: the library exports {name} ({node}), but it is not listed"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: symbols.py BUILD_DIR")
    nodes, declared = read_map(), read_headers()
    findings = list(compare(nodes, declared, read_library(pathlib.Path(sys.argv[1]))))
    for finding in findings:
        print(finding)
    # Each function is one test: it is declared, listed and exported, or it is not.
    total = max(len(declared.keys() | set().union(*nodes.values())), len(findings))
    print(f"{total - len(findings)} passed, {len(findings)} failed")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
