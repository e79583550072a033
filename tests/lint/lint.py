#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""What a program can check of how the project is written. `./dev lint` runs it.

Each check is a function that yields findings (file, line, message); the table CHECKS at the end lists
them. A finding is printed as file:line: message.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 900
FUNCTION_LINES_MAX = 70

# Which folders of src/ a folder may include; each may include itself and the public headers.
CORE = ["base", "shm"]
ROOMS = CORE + ["backend", "chip", "keeper", "engine", "node"]
MAY_INCLUDE = {
    "base": [],
    "shm": ["base"],
    "backend": CORE,
    "chip": CORE + ["backend"],
    "keeper": CORE + ["backend", "chip"],
    "engine": CORE + ["backend", "keeper"],
    "node": CORE + ["backend"],
    "trace": ROOMS,
}

# What C99 offers and C++ knows under the same name.
STANDARD_HEADERS = {
    "assert.h", "ctype.h", "errno.h", "float.h", "inttypes.h", "limits.h", "locale.h", "math.h",
    "setjmp.h", "signal.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h",
    "string.h", "time.h", "wchar.h",
}

INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


# ---- the files -------------------------------------------------------------------------------------

def list_files():
    """Tracked files and new ones that git does not ignore; without git, all but build output."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    git = shutil.which("git") and subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if git and git.returncode == 0:
        names = [name for name in git.stdout.split("\0") if name]
    else:
        names = []
        for folder, subfolders, files in os.walk(ROOT):
            subfolders[:] = [s for s in subfolders if s not in ("build", ".venv", ".git", "__pycache__")]
            names += [os.path.relpath(os.path.join(folder, f), ROOT) for f in files]
    return sorted({name for name in names if (ROOT / name).is_file()})


class Tree:
    """The files with their text, read once. Files that are not UTF-8 text are left out."""

    def __init__(self):
        self.text = {}
        for name in list_files():
            try:
                self.text[name] = (ROOT / name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                pass

    def named(self, *suffixes):
        return [name for name in self.text if name.endswith(suffixes)]

    def lines(self, name):
        return enumerate(self.text[name].splitlines(), 1)

    def is_script(self, name):
        return self.text[name].startswith("#!")

    def shell_scripts(self):
        return [n for n, t in self.text.items() if re.match(r"#!.*\b(ba|da)?sh\b", t)]


def without_comments(text):
    """C text with comments and string contents blanked, lines kept."""
    def blank(match):
        token = match.group()
        if token[0] == "/":
            return re.sub(r"[^\n]", " ", token)
        return token[0] + " " * (len(token) - 2) + token[0]
    tokens = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(tokens, blank, text, flags=re.S)


# ---- checks ----------------------------------------------------------------------------------------

def check_format(tree):
    """C files are as clang-format 14 writes them (`./dev format`)."""
    files = tree.named(".c", ".h")
    if not files:
        return
    run = subprocess.run(
        [need("clang-format-14"), "--dry-run", "--ferror-limit=1", *files],
        cwd=ROOT, capture_output=True, text=True,
    )
    for match in re.finditer(r"^(.+?):(\d+):\d+: (?:warning|error): (.*)$", run.stderr, flags=re.M):
        message = match.group(3)
        if "clang-format-violations" in message:
            message = "not as clang-format writes it; run ./dev format"
        yield match.group(1), int(match.group(2)), message
    if run.returncode != 0 and not run.stderr.strip():
        yield ".clang-format", 1, f"clang-format-14 ended with status {run.returncode}"


def check_licence(tree):
    """Each source file begins with the licence and the copyright line."""
    wanted = ["SPDX-License-Identifier: BSD-3-Clause", "Copyright The Transom Authors"]
    for name in tree.text:
        if name.endswith((".c", ".h")):
            expected = [f"/* {line} */" for line in wanted]
        elif name.endswith((".py", ".pyi", ".cmake", ".sh", ".toml", "CMakeLists.txt")) or tree.is_script(name):
            expected = [f"# {line}" for line in wanted]
        else:
            continue
        lines = tree.text[name].splitlines()
        start = 1 if lines and lines[0].startswith("#!") else 0
        for offset, line in enumerate(expected):
            if lines[start + offset:start + offset + 1] != [line]:
                yield name, start + offset + 1, f"expected here: {line}"
                break


def check_includes(tree):
    """Includes between the folders of src/ go one way."""
    for name in tree.named(".c", ".h"):
        parts = name.split("/")
        if parts[0] != "src" or len(parts) < 3:
            continue
        room = parts[1]
        if room not in MAY_INCLUDE:
            yield name, 1, f"src/{room} has no place in the order of includes (tests/lint/lint.py)"
            continue
        allowed = [room] + MAY_INCLUDE[room]
        for number, line in tree.lines(name):
            match = INCLUDE.match(line)
            if not match:
                continue
            bracket, target = match.groups()
            top = target.split("/")[0]
            if bracket == '"' and ("/" not in target or top in (".", "..")):
                yield name, number, f'"{target}": name the folder, as in "base/error.h"'
            elif top in ("cli", "tests", "bench"):
                yield name, number, f"src may not include {top}"
            elif top in MAY_INCLUDE and top not in allowed:
                yield name, number, f"{room} may not include {top} (only {', '.join(allowed)})"


def check_python_includes(tree):
    """The extension module of Python sees of Transom what every user sees: the public headers."""
    own = {name.removeprefix("python/src/") for name in tree.named(".h") if name.startswith("python/src/")}
    for name in tree.named(".c", ".h"):
        if not name.startswith("python/src/"):
            continue
        for number, line in tree.lines(name):
            match = INCLUDE.match(line)
            if not match:
                continue
            bracket, target = match.groups()
            if bracket == '"' and target not in own:
                yield name, number, f'"{target}" is no header of python/src'
            elif target.startswith("transom/") and f"include/{target}" not in tree.text:
                yield name, number, f"{target} is no public header"


def check_public_headers(tree):
    """Public headers include only each other and headers of standard C."""
    for name in tree.named(".h"):
        if not name.startswith("include/"):
            continue
        for number, line in tree.lines(name):
            match = INCLUDE.match(line)
            if match and match.group(2) not in STANDARD_HEADERS:
                if "include/" + match.group(2) not in tree.text:
                    yield name, number, f"a public header may not include {match.group(2)}"


def check_file_length(tree):
    """No source file is longer than 900 lines."""
    for name in tree.text:
        if name.endswith((".c", ".h", ".py", ".pyi", ".cmake", ".sh")) or tree.is_script(name):
            count = len(tree.text[name].splitlines())
            if count > FILE_LINES_MAX:
                yield name, FILE_LINES_MAX + 1, f"{count} lines, at most {FILE_LINES_MAX}"


def check_function_length(tree):
    """No C function is longer than 70 lines, its first line and its braces included."""
    for name in tree.named(".c", ".h"):
        lines = without_comments(tree.text[name]).splitlines()
        start = opened = None
        for number, line in enumerate(lines, 1):
            if opened is None:
                if line == "{":
                    opened = number
                elif not line.strip() or line.rstrip().endswith((";", "}")) or line[0] == "#":
                    start = None
                elif start is None:
                    start = number
            elif line.startswith("}"):
                first = start or opened
                length = number - first + 1
                if length > FUNCTION_LINES_MAX:
                    yield name, first, f"function of {length} lines, at most {FUNCTION_LINES_MAX}"
                start = opened = None


def check_open_ends(tree):
    """An open end names its issue, as in TODO(#12)."""
    for name in tree.text:
        if name.startswith("tests/lint/"):
            continue
        for number, line in tree.lines(name):
            match = re.search(r"\b(TODO|FIXME|XXX|HACK)\b(?!\s*\(?#\d+)", line)
            if match:
                yield name, number, f"{match.group(1)} without an issue number"


def check_sleeps(tree):
    """Tests make no order by sleeping."""
    for name in tree.named(".c", ".h"):
        if not name.startswith("tests/"):
            continue
        for number, line in enumerate(without_comments(tree.text[name]).splitlines(), 1):
            match = re.search(r"\b(usleep|(?:clock_)?nanosleep|(?:thrd_)?sleep)\s*\(", line)
            if match:
                yield name, number, f"{match.group(1)} in a test: use a fault point or wait for a state"


def check_machine_paths(tree):
    """No path of one developer's machine."""
    for name in tree.text:
        if name.startswith("tests/lint/"):
            continue
        for number, line in tree.lines(name):
            match = re.search(r"(?<![\w.})\]/*-])/(?:home|root|Users|work|farm)/[\w.]+", line)
            if match:
                yield name, number, f"{match.group()} is a path of one machine"


def check_links(tree):
    """Every relative link in a page leads to a file."""
    for name in tree.named(".md"):
        fenced = False
        for number, line in tree.lines(name):
            if re.match(r"\s*(```|~~~)", line):
                fenced = not fenced
            if fenced:
                continue
            for target in re.findall(r"\]\(<?([^)\s>]+)", re.sub(r"`[^`]*`", "", line)):
                path = target.split("#")[0]
                if not path or re.match(r"[a-z][a-z0-9+.-]*:", path):
                    continue
                base = ROOT if path.startswith("/") else (ROOT / name).parent
                if not (base / path.lstrip("/")).exists():
                    yield name, number, f"the link {target} leads nowhere"


def check_shell(tree):
    """shellcheck has nothing to say about the shell scripts."""
    scripts = tree.shell_scripts()
    if not scripts:
        return
    run = subprocess.run(
        [need("shellcheck"), "--format=gcc", "--external-sources", *scripts],
        cwd=ROOT, capture_output=True, text=True,
    )
    for match in re.finditer(r"^(.+?):(\d+):\d+: (.*)$", run.stdout, flags=re.M):
        yield match.group(1), int(match.group(2)), match.group(3)
    if run.returncode > 1:
        yield scripts[0], 1, f"shellcheck: {run.stderr.strip()}"


def check_man_pages(tree):
    """mandoc has nothing to say about the man pages."""
    pages = [name for name in tree.text if re.match(r"docs/man/.*\.[137]$", name)]
    if not pages:
        return
    run = subprocess.run(
        [need("mandoc"), "-T", "lint", "-W", "warning", *pages],
        cwd=ROOT, capture_output=True, text=True,
    )
    for match in re.finditer(r"^mandoc: (.+?):(\d+):\d+: (.*)$", run.stdout + run.stderr, flags=re.M):
        yield match.group(1), int(match.group(2)), match.group(3)


def check_python(tree):
    """ruff has nothing to say (pyproject.toml); the package, examples and new benchmarks are as it formats them."""
    files = tree.named(".py", ".pyi")
    if not files:
        return
    command = [need("ruff"), "check", "--quiet", "--output-format=concise", *files]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    for match in re.finditer(r"^(.+?):(\d+):\d+: (.*)$", run.stdout, flags=re.M):
        yield match.group(1), int(match.group(2)), match.group(3)
    if run.returncode > 1:
        yield "pyproject.toml", 1, f"ruff check: {run.stderr.strip()}"

    formatted = [name for name in files if name.startswith(("python/", "examples/", "bench/"))]
    command = [need("ruff"), "format", "--check", "--output-format=concise", *formatted]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = re.findall(r"^(.+?):(\d+):\d+: unformatted", run.stdout, flags=re.M)
    for name, number in found:
        yield name, int(number), "not as ruff formats it; run ./dev format"
    if run.returncode != 0 and not found:
        yield "pyproject.toml", 1, f"ruff format: {run.stdout.strip()} {run.stderr.strip()}"


def check_version(tree):
    """The public header states the version that CMakeLists.txt states."""
    cmake = re.search(r"project\([^)]*\bVERSION\s+([\d.]+)", tree.text["CMakeLists.txt"])
    version, header = cmake.group(1), "include/transom/transom.h"
    if header not in tree.text:
        return
    stated = re.search(r'^#define TSM_VERSION_STRING\s+"([^"]*)"', tree.text[header], flags=re.M)
    if not stated:
        yield header, 1, f'expected: #define TSM_VERSION_STRING "{version}"'
    parts = dict(zip(("MAJOR", "MINOR", "PATCH"), version.split(".")), STRING=f'"{version}"')
    for number, line in tree.lines(header):
        match = re.match(r"#define TSM_VERSION_(MAJOR|MINOR|PATCH|STRING)\s+(\S+)", line)
        if match and match.group(2) != parts[match.group(1)]:
            yield header, number, f"version {match.group(2)}, but CMakeLists.txt says {version}"


CHECKS = [
    check_format,
    check_licence,
    check_includes,
    check_python_includes,
    check_public_headers,
    check_file_length,
    check_function_length,
    check_open_ends,
    check_sleeps,
    check_machine_paths,
    check_links,
    check_shell,
    check_man_pages,
    check_python,
    check_version,
]


def need(tool):
    """The tool's path: beside this interpreter (build/venv) or on PATH."""
    here = os.path.dirname(sys.executable)
    path = shutil.which(tool, path=here) or shutil.which(tool)
    if not path:
        sys.exit(f"lint: {tool} is missing; ./dev lint installs it")
    return path


def main():
    tree = Tree()
    findings = sorted({finding for check in CHECKS for finding in check(tree)})
    for name, line, message in findings:
        print(f"{name}:{line}: {message}")
    if findings:
        print(f"lint: {len(findings)} to mend")
        sys.exit(1)
    print(f"lint: clean ({len(CHECKS)} checks, {len(tree.text)} files)")


if __name__ == "__main__":
    main()
