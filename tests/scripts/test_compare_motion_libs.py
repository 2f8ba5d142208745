"""The comparison with TWIST's own motion library."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmg_ref.clips.formats.pickled_arrays import load_pickled_arrays, save_pickled_arrays
from cmg_ref.robots.robot import load_g1

Run = Callable[..., Any]


@pytest.fixture
def run(run_process: Run) -> Run:
    return lambda twist_root, *arguments: run_process("twist.py", "compare", "--twist_root", twist_root, *arguments)


def test_both_libraries_are_asked_for_the_same_frames(
    run: Run, twist_copy: Path, motion_folder: Path, tmp_path: Path
) -> None:
    """4096 environments x 21 times, TWIST's library with real clips of its robot of 23 joints."""
    kept = [joint for joint, name in enumerate(load_g1().joint_names) if "wrist" not in name]
    lines = [f"root_path: {tmp_path}", "motions:"]
    for path in sorted((motion_folder / "twist2_g1").glob("*.pkl")):
        clip = load_pickled_arrays(path)
        clip.update(fps=float(clip["fps"]), dof_pos=clip["dof_pos"][:, kept])
        save_pickled_arrays(tmp_path / path.name, clip)
        lines += [f"- file: {path.name}", "  weight: 1.0"]
    (tmp_path / "clips.yaml").write_text("\n".join(lines))
    result = run(twist_copy, "--motion_file", tmp_path / "clips.yaml", "--num_motions", 64)
    assert result.returncode == 0, result.stderr[-2000:]
    lines = result.stdout.splitlines()[-4:]
    assert lines[0] == "4096 environments x 21 times, cpu, 1 thread(s)"
    assert "23 joints, 38 bodies, 10 motions" in lines[1] and "23 joints, 9 bodies, 64 motions" in lines[2]
    assert re.fullmatch(r"ours / TWIST = \d+\.\d+", lines[3])


def test_without_clips_some_are_generated(run: Run, twist_copy: Path) -> None:
    result = run(twist_copy, "--num_motions", 4, "--num_envs", 16, "--repeats", 1, "--all_bodies")
    assert result.returncode == 0, result.stderr[-2000:]
    lines = result.stdout.splitlines()[-4:]
    assert "23 joints, 38 bodies, 6 motions of 72 s together" in lines[1] and "52 bodies, 4 motions" in lines[2]


@pytest.mark.parametrize("arguments", [(), ("--motion_file", "nowhere.yaml")])
def test_what_is_missing_is_said_in_one_line(
    run: Run, twist_copy: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = run(twist_copy if arguments else tmp_path, *arguments)
    assert result.returncode == 1
    reason = "nowhere.yaml does not exist" if arguments else "is no checkout of TWIST"
    assert result.stderr.splitlines()[-1].startswith("twist compare: ") and reason in result.stderr
