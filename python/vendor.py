#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""vendor.py FOLDER: makes FOLDER a package with a copy of cloudpickle, as this interpreter has it, and its licence.

The build runs it (python/CMakeLists.txt). Ends with status 3 when cloudpickle 3 or newer is not installed. What is
there and the same is not written again.
"""

import importlib.metadata
import pathlib
import sys

INIT = """\
# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
\"""Copies of what others wrote, made by the build: cloudpickle {version}, its licence beside it.\"""
"""


def write(path: pathlib.Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_bytes() != data:
        path.write_bytes(data)


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    try:
        found = importlib.metadata.distribution("cloudpickle")
    except importlib.metadata.PackageNotFoundError:
        return 3
    if int(found.version.split(".")[0]) < 3:
        return 3
    names: list[str] = []
    for file in found.files or []:
        source = pathlib.Path(str(file.locate()))
        if file.parts[0] == "cloudpickle" and file.suffix == ".py":
            names.append(str(file))
        elif file.name == "LICENSE" and file.parts[0].endswith(".dist-info"):
            names.append("cloudpickle/LICENSE")
        else:
            continue
        write(folder / names[-1], source.read_bytes())
    if "cloudpickle/__init__.py" not in names or "cloudpickle/LICENSE" not in names:
        print(f"vendor.py: no package or no licence among the files of cloudpickle {found.version}", file=sys.stderr)
        return 1
    write(folder / "__init__.py", INIT.format(version=found.version).encode())
    for old in folder.glob("cloudpickle/*.py"):
        if str(old.relative_to(folder)) not in names:
            old.unlink()
    print(found.version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
