"""Every field that a configuration declares is read somewhere: one that nobody reads is a promise broken silently."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.base_config import BaseConfig, field_names
from configs.g1_cmg_config import G1CMGCfg, G1CMGCfgPPO
from configs.twist_cmg_config import G1CMGMimicCfg

ROOT = Path(__file__).resolve().parents[2]
TREES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("cmg_ref", "envs", "scripts")
    for path in (ROOT / folder).rglob("*.py")
}
COMMAND_LINES = {"args", "arguments", "options"}  # whose attributes are options, whatever they are called
# Read by mjlab or Isaac Lab themselves.
HOSTS_OWN = {"class_type", "resampling_time_range", "debug_vis", "actuator_names", "use_default_offset"}
TWISTS_OWN = {"control.residual_action", "policy.init_noise_std", "runner.teacher_proj_name"}


def names_read(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Attributes and keys that are read, and all words in quotation marks, which `getattr` may take."""
    read, quoted = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if not (isinstance(node.value, ast.Name) and node.value.id in COMMAND_LINES):
                read.add(node.attr)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            read.add(str(node.slice.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            quoted.add(node.value)
            read.update(re.findall(r"[Tt]he section `(\w+)` of the configuration", node.value))  # given as an argument
    return read, quoted


READ = [names_read(tree) for tree in TREES.values()]


def is_read(section: str, field: str) -> bool:
    """Whether a file that reads the section reads the field."""
    return any((not section or section in read) and field in read | quoted for read, quoted in READ)


def unread(config: BaseConfig, sections: tuple[str, ...] = ()) -> Iterator[str]:
    """Fields of a configuration that nobody reads, by their path."""
    for name in field_names(config):
        value, path = getattr(config, name), (*sections, name)
        if isinstance(value, BaseConfig):
            yield from unread(value, path)
        elif not handed_on(path) and not is_read("".join(sections[-1:]), name):
            yield ".".join(path)


def handed_on(path: tuple[str, ...]) -> bool:
    """Whether a field belongs to a section that is handed on as a whole, to something that knows it."""
    if path[0] == "sim":
        gymapi = pytest.importorskip("envs.simulator").gymapi
        target: Any = gymapi.SimParams()
        for name in path[1:]:
            assert hasattr(target, name), path
            target = getattr(target, name)
        return True
    if path[0] == "algorithm":
        learning = pytest.importorskip("envs.learning.mirrored_ppo")
        known = [set(inspect.signature(owner.__init__).parameters) for owner in learning.MirroredPPO.__mro__[:2]]
        return any(path[1] in names for names in known)
    if path[:2] == ("rewards", "scales"):
        return any(
            f"_reward_{path[2]}" in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            for tree in TREES.values()
        )
    return False


@pytest.mark.parametrize("config", [G1CMGCfg, G1CMGCfgPPO])
def test_every_field_of_a_task_is_read(config: type) -> None:
    assert list(unread(config())) == []


def test_every_field_that_is_added_to_twist_is_read() -> None:
    config = type("Cfg", (G1CMGMimicCfg, BaseConfig), {})()
    assert set(unread(config)) <= TWISTS_OWN


def test_every_field_of_the_library_is_read() -> None:
    """Outside the class that declares it; a check of its value is no use of it."""
    for tree in TREES.values():
        for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name.endswith("Cfg")):
            checks = [node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == "validate"]
            owner.body = [node for node in owner.body if node not in checks]
            fields = [node.target.id for node in owner.body if isinstance(node, ast.AnnAssign)]  # type: ignore[union-attr]
            unused = {f for f in fields if not any(f in names_read(other)[0] for other in TREES.values())}
            assert unused <= HOSTS_OWN
