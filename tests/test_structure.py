"""The plan of the house: folders import only folders below them, and none holds more than a reader can survey."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cmg_ref", "configs", "envs")
MOST_FILES = 14

# From the foundations up. A folder's files import one another and what stands before it here, nothing else of ours.
ORDER = (
    "cmg_ref/core",
    "cmg_ref/files",
    "cmg_ref/robots",
    "cmg_ref/commands",
    "cmg_ref/clips",
    "cmg_ref/clips/formats",
    "cmg_ref/drawing",
    "cmg_ref/frames",
    "cmg_ref/network",
    "cmg_ref/cuda_graph",
    "cmg_ref/rollout",
    "cmg_ref/trajectories",
    "cmg_ref/trajectories/supply",
    "cmg_ref/evaluation",
    "cmg_ref/rl",
    "cmg_ref",
    "cmg_ref/twist",
    "cmg_ref/training",
    "cmg_ref/benchmark",
    "configs",
    "cmg_ref/cli",
    "envs",
    "envs/mujoco_gym/types",
    "envs/mujoco_gym/assets",
    "envs/mujoco_gym/engine",
    "envs/mujoco_gym",
    "envs/terms",
    "envs/base",
    "envs/tasks",
    "envs/evaluation",
    "envs/learning",
    "envs/deployment",
    "envs/playing",
    "envs/serving",
    "envs/driving",
    "envs/hosts",
    "envs/hosts/mjlab",
    "envs/cli",
)


def modules() -> dict[str, Path]:
    """Files by the name they are imported under."""
    files = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            parts = file.relative_to(ROOT).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return files


MODULES = modules()


def folder(module: str) -> str:
    return MODULES[module].parent.relative_to(ROOT).as_posix()


def imported(module: str) -> set[str]:
    """Our modules that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in named}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES)


def test_every_folder_has_its_place_in_the_order() -> None:
    assert {folder(module) for module in MODULES} == set(ORDER)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_downward(module: str) -> None:
    # The doors of the library show what is inside.
    if module in ("cmg_ref", "cmg_ref.interface"):
        return
    upward = {name for name in imported(module) if ORDER.index(folder(name)) > ORDER.index(folder(module))}
    assert not upward, f"{module} must not import {sorted(upward)}: it stands below them, see ORDER"


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: imported(module) - {module} for module in MODULES}
    while graph:
        free = {module for module, needed in graph.items() if not needed & set(graph)}
        assert free, f"these modules import one another in a circle: {sorted(graph)}"
        graph = {module: needed for module, needed in graph.items() if module not in free}


def test_no_folder_is_crowded() -> None:
    counts = Counter(folder(module) for module in MODULES)
    counts["scripts"] = len(list((ROOT / "scripts").glob("*.py")))
    crowded = {name: count for name, count in counts.items() if count > MOST_FILES}
    assert not crowded, f"more than {MOST_FILES} files: {crowded}"


@pytest.mark.parametrize("name", [name for name in ORDER if name not in PACKAGES])
def test_every_folder_says_what_it_is_for(name: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text(encoding="utf-8")))
    assert text is not None and len(text) > 30, f"{name}/__init__.py needs a docstring: what is in here?"


def test_the_document_lists_the_folders_in_this_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = [
        line.split("`")[1] for line in text.splitlines() if line.startswith(("| `cmg_ref", "| `configs", "| `envs"))
    ]
    assert [name for name in listed if name in ORDER] == list(ORDER)
