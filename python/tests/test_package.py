# SPDX-License-Identifier: BSD-3-Clause
# Copyright The Transom Authors
"""The wheel: what is in it, and that it works alone, on every CPython from 3.11 on that is found here."""

from __future__ import annotations

import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import transom

ROOT = pathlib.Path(__file__).parents[2]
WHEEL = pathlib.Path(os.environ.get("TRANSOM_WHEEL", "none given"))
pytestmark = [
    pytest.mark.not_asan("a wheel is not built with it"),
    pytest.mark.skipif(not WHEEL.is_file(), reason="no TRANSOM_WHEEL; ./dev test python gives it"),
]

# A small job that needs nothing but the package: functions of Python on memoryviews, and a kernel in C.
JOB = """\
import importlib.util
import sys

import transom as ts


def double(task, x):
    assert isinstance(x, memoryview), type(x)
    for i in range(len(x)):
        x[i] *= 2


def orchestrate(orch, args, config):
    x, y, total = args
    for chip, buffer in enumerate((x, y)):
        orch.submit(DOUBLE, ts.inout(buffer), chip=chip)
    orch.submit(ADD, x, y, ts.out(y), chip=1)
    orch.submit(SUM, y, ts.out(total), chip=0)


if __name__ == "__main__":
    assert importlib.util.find_spec("numpy") is None
    with ts.Worker(chips=2) as worker:
        DOUBLE = worker.register(double)
        ADD, SUM = (worker.register(f"{sys.argv[1]}:{symbol}") for symbol in ("add", "sum"))
        x, y, total = worker.buffer(64), worker.buffer(64), worker.buffer(1)
        for i in range(64):
            memoryview(x)[i], memoryview(y)[i] = i, 1
        worker.run(orchestrate, (x, y, total))
        assert memoryview(y).tolist() == [2 * i + 2 for i in range(64)]
        print(ts.__version__, memoryview(total)[0])
"""


def interpreters() -> list[str]:
    """Each CPython from 3.11 on, by what runs: those on PATH and those of pyenv."""
    candidates = [sys.executable]
    candidates += [path for minor in range(11, 16) if (path := shutil.which(f"python3.{minor}"))]
    candidates += [str(path) for path in pathlib.Path.home().glob(".pyenv/versions/3.*/bin/python3")]
    found: dict[tuple[int, ...], str] = {}
    ask = "import sys, sysconfig; print(*sys.version_info[:2], sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"
    for path in candidates:
        run = subprocess.run([path, "-c", ask], capture_output=True, text=True)
        if run.returncode == 0:
            *version, free_threaded = map(int, run.stdout.split())
            if version >= [3, 11] and not free_threaded:  # those have no stable ABI that a wheel could be for
                found.setdefault(tuple(version), path)
    return [found[version] for version in sorted(found)]


@pytest.fixture(scope="module", params=interpreters())
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has nothing but the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    python = str(folder / "bin/python")
    subprocess.run([request.param, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", python]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", WHEEL], check=True)
    return python


def run(*command: str | pathlib.Path) -> str:
    """What it prints, in a folder without a transom of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_small_job_runs_with_the_wheel_alone(installed: str, kernels: str, tmp_path: pathlib.Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB)
    total = sum(2 * i + 2 for i in range(64))
    assert run(installed, job, kernels) == f"{transom.__version__} {float(total)}\n"


def test_demo_needs_numpy_and_says_so(installed: str) -> None:
    demo = subprocess.run([installed, "-m", "transom.demo", "--steps", "3"], cwd="/", capture_output=True, text=True)
    assert (demo.returncode, demo.stderr) == (1, "transom.demo needs NumPy: pip install numpy\n")


def test_demo_runs_with_numpy() -> None:
    run(sys.executable, "-m", "transom.demo", "--steps", "3")


def test_command_line_tool_comes_with_the_wheel(installed: str) -> None:
    tool = pathlib.Path(installed).with_name("transom")
    assert run(tool, "version").startswith(f"transom {transom.__version__}\n")


def test_wheel_has_the_package_the_library_the_headers_and_nothing_else() -> None:
    modules = ROOT / "python/transom"
    expected = {f"transom/{file.relative_to(modules)}" for file in modules.rglob("*") if file.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    expected |= {f"transom/include/transom/{file.name}" for file in (ROOT / "include/transom").glob("*.h")}
    expected |= {
        "transom/_core.abi3.so",
        "transom/_vendor/__init__.py",
        "transom/_vendor/cloudpickle/LICENSE",
        "transom/_vendor/cloudpickle/__init__.py",
        "transom/_vendor/cloudpickle/cloudpickle.py",
        "transom/_vendor/cloudpickle/cloudpickle_fast.py",
        "transom/demo/digits.csv",
        "transom/lib/libtransom.so.0",
        "transom/py.typed",
    }
    version = transom.__version__
    expected |= {f"transom-{version}.data/scripts/transom"}
    expected |= {f"transom-{version}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")}
    with zipfile.ZipFile(WHEEL) as wheel:
        assert set(wheel.namelist()) == expected


def test_wheel_is_for_every_version_from_3_11_on() -> None:
    assert re.fullmatch(r"transom-[\d.]+-cp311-abi3-\w+\.whl", WHEEL.name)


def test_metadata_say_what_the_library_says() -> None:
    with zipfile.ZipFile(WHEEL) as wheel:
        name = f"transom-{transom.__version__}.dist-info/METADATA"
        metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Name"] == "transom"
    assert metadata["Version"] == transom.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.11"
    required = metadata.get_all("Requires-Dist") or []
    assert all("extra ==" in requirement for requirement in required), required


def test_binaries_find_the_library_beside_them_and_need_only_libc() -> None:
    folder = pathlib.Path(transom.__file__).parent
    libc = {"libc.so.6", "libm.so.6"}
    for file, needed in (("_core.abi3.so", {"libtransom.so.0"}), ("lib/libtransom.so.0", set[str]())):
        listing = run("readelf", "-d", folder / file)
        found = set(re.findall(r"NEEDED.*\[(.*)\]", listing))
        assert needed <= found <= needed | libc | {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    assert re.search(r"R(UN)?PATH.*\[\$ORIGIN/lib\]", run("readelf", "-d", folder / "_core.abi3.so"))
