"""What is installed on a user's machine: the wheel holds the library with its data, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installation would."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    # What building leaves behind goes elsewhere: the tree stays as it is.
    steps = ["egg_info", "-e", str(folder), "build", "-b", str(folder / "build")]
    command = [*steps, "bdist_wheel", "-b", str(folder / "bdist"), "-d", str(folder)]
    result = subprocess.run(
        [sys.executable, "setup.py", "-q", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_wheel_holds_every_module_and_asset_and_nothing_else(wheel: Path) -> None:
    packages = [name for name in ("cmg_ref", "envs", "configs") if (ROOT / name / "__init__.py").is_file()]
    expected = {path.relative_to(ROOT) for name in packages for path in (ROOT / name).rglob("*.py")}
    assets = [*ROOT.glob("cmg_ref/assets/*"), *ROOT.glob("envs/assets/*")]
    expected |= {path.relative_to(ROOT) for path in [*assets, ROOT / "cmg_ref" / "py.typed"]}
    found = {path.relative_to(wheel) for path in wheel.rglob("*") if path.is_file()}
    found = {path for path in found if not path.parts[0].endswith(".dist-info")}
    assert found == expected


def test_installed_package_finds_its_data(wheel: Path, tmp_path: Path) -> None:
    code = (
        "import cmg_ref; from cmg_ref import load_checkpoint, load_g1;"
        "assert set(load_checkpoint().joint_names) == set(load_g1().joint_names); print(cmg_ref.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(wheel)


def test_a_package_installed_over_ours_is_said(wheel: Path, tmp_path: Path) -> None:
    """As pip does with two wheels that hold a file of the same name."""
    shutil.copytree(wheel, tmp_path / "site")
    (tmp_path / "site" / "envs" / "__init__.py").write_text("raise RuntimeError('never imported')")
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "export_cmg.py"), "a.onnx"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == (
        f"export_cmg: another package has put its 'envs' over that of cmg_ref in {tmp_path / 'site' / 'envs'}: "
        "uninstall it, and install cmg_ref again\n"
    )


def test_the_lowest_versions_are_the_ones_that_are_tested(wheel: Path) -> None:
    """Every bound of setup.py is a line of constraints-lowest.txt, but for those that a higher one stands beside."""
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    lines = [
        line.split(": ")[1] for line in metadata.read_text(encoding="utf-8").splitlines() if "Requires-Dist" in line
    ]
    # `make test` has the lowest versions for exports, and `make test-mjlab` those of mjlab.
    others = ("extra == 'dev'", "extra == 'export'", "extra == 'mjlab'")
    bounds = [line.split(";")[0].strip() for line in lines if not any(o in line.replace('"', "'") for o in others)]
    assert all(">=" in bound for bound in bounds), "every package has a lowest version"
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    lowest: dict[str, set[tuple[int, ...]]] = {}
    for bound in bounds:
        name, version = bound.split(">=")
        lowest.setdefault(name, set()).add(tuple(map(int, version.split("."))))
    for name, versions in lowest.items():
        pin = tuple(map(int, pins[name].split(".")))
        assert pin >= max(versions), name
        if name != "torch":  # rsl-rl-lib needs a newer torch; `make test-py38` has the lowest
            assert pin[: len(max(versions))] == max(versions), name


def test_base_installation_asks_for_little(wheel: Path) -> None:
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    lines = metadata.read_text(encoding="utf-8").splitlines()
    needed = [line.split(": ")[1] for line in lines if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert sorted(needed) == ["numpy>=1.23", "safetensors>=0.4", "torch>=1.12", "tqdm>=4.42"]
    assert "Requires-Python: >=3.8" in lines


# Runs the function behind each console command with --help, and prints what they print as JSON.
EXPLAIN_ALL = """
import contextlib, importlib, io, json, sys

explained = {}
for program, module in json.loads(sys.argv[1]).items():
    sys.argv[:] = [program, "--help"]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            importlib.import_module(module).main()
    except SystemExit as stop:
        assert not stop.code, (program, stop.code)
    explained[program] = printed.getvalue()
print(json.dumps(explained))
"""


def test_installed_commands_explain_themselves(wheel: Path, tmp_path: Path) -> None:
    """Every console command starts from an installation alone, and each script of the checkout has one."""
    (listed,) = wheel.glob("*.dist-info/entry_points.txt")
    programs = dict(re.findall(r"^(cmg-[\w-]+) = (.+):main$", listed.read_text(encoding="utf-8"), re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py")]
    called = re.findall(r"^from (.+) import main$", "\n".join(texts), re.MULTILINE)
    assert len(called) == len(texts) and set(called) <= set(programs.values())
    result = subprocess.run(  # One process: importing torch for each would take a minute.
        [sys.executable, "-c", EXPLAIN_ALL, json.dumps(programs)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    explained = json.loads(result.stdout)
    for program in programs:
        assert explained[program].startswith(f"usage: {program} ")
    assert list(tmp_path.iterdir()) == []


def test_runs_and_outputs_go_where_one_is_after_an_installation(wheel: Path, tmp_path: Path) -> None:
    code = "from envs.learning.training_run import project_folder; print(project_folder().resolve())"
    for installed, expected in ((wheel, tmp_path), (ROOT, ROOT)):
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stdout.strip() == str(expected.resolve()), result.stderr
