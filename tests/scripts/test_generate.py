from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.pickled_arrays import load_pickled_arrays
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT, load_checkpoint
from cmg_ref.robots.robot import load_g1
from envs.cli.generate import main

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "generate.py"


@pytest.fixture(scope="module", autouse=True)
def shipped_checkpoint() -> None:
    assert SHIPPED_CHECKPOINT.is_file(), "the package ships a checkpoint"


Generate = Callable[..., str]


@pytest.fixture()
def generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Generate:
    """Runs the script with these options in an empty folder and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
        main()
        return capsys.readouterr().out

    return run


def test_one_command_gives_motion_plot_and_video(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--vx", "0.6", "--duration", "2", "--renderer", "software"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    files = sorted(path.name for path in (tmp_path / "outputs" / "motion").iterdir())
    assert files[:1] == ["motion.mp4"] or files[:1] == ["motion.gif"]
    assert files[1:] == ["motion.npz", "motion.png"]
    for name in files:
        assert name in result.stdout
    assert "drawn by software" in result.stdout
    with np.load(tmp_path / "outputs" / "motion" / "motion.npz", allow_pickle=False) as motion:
        fields = ["command", "command_layout", "dof_pos", "dof_vel", "fps", "joint_names", "root_pos", "root_quat_xyzw"]
        assert sorted(motion) == fields
        robot = load_g1()
        assert motion["fps"] == 50.0
        assert set(motion["joint_names"]) == set(robot.joint_names)
        assert motion["dof_pos"].shape == motion["dof_vel"].shape == (100, robot.num_joints)
        assert motion["root_pos"].shape == (100, 3)
        assert motion["root_quat_xyzw"].shape == (100, 4)
        told = load_checkpoint().command_layout.complete(torch.tensor([0.6, 0.0, 0.0])).numpy()
        assert motion["command"] == pytest.approx(np.tile(told, (100, 1)))
        assert 0.5 < motion["root_pos"][:, 2].mean() < 0.9
        assert motion["root_quat_xyzw"][:, 3].min() > 0.8, "upright: w is the last number"


def test_schedule_as_twist_pickle_at_another_rate(tmp_path: Path, generate: Generate) -> None:
    schedule = tmp_path / "commands.csv"
    schedule.write_text("time,vx,vy,wz\n0,0.5,0,0\n1.0,0,0,0.5\n")
    output = tmp_path / "mission.pkl"
    generate("--schedule", str(schedule), "--fps", "30", "--output", str(output), "--no-video", "--no-plot")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["commands.csv", "mission.pkl"]
    assert load_pickled_arrays(output)["dof_pos"].shape[1] == 23, "TWIST's robot has no wrists"
    clip = read_clip(output)
    assert clip.fps == pytest.approx(30.0)
    assert clip.duration == pytest.approx(6.0, abs=0.1)
    clip.validate(load_g1())


def test_gmr_pickle_has_wrists(tmp_path: Path, generate: Generate) -> None:
    generate("--duration", "0.5", "--format", "gmr", "--output", str(tmp_path / "a.pkl"), "--no-video", "--no-plot")
    assert load_pickled_arrays(tmp_path / "a.pkl")["dof_pos"].shape[1] == 29


def test_same_seed_same_motion(tmp_path: Path, generate: Generate) -> None:
    motions = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        options = ["--initial-state", "random", "--seed", seed, "--duration", "0.5", "--no-video", "--no-plot"]
        generate("--vx", "0.5", *options, "--output", f"{name}.npz")
        motions.append(read_clip(tmp_path / f"{name}.npz").dof_pos)
    assert torch.equal(motions[0], motions[1])
    assert not torch.equal(motions[0], motions[2])


def test_commands_out_of_range_are_held_and_said(tmp_path: Path, generate: Generate) -> None:
    printed = generate("--vx", "50", "--duration", "0.5", "--no-video", "--no-plot", "--output", "fast.npz")
    assert "vx +50.00 is outside the trained range" in printed
    command = read_clip(tmp_path / "fast.npz").command
    assert command is not None
    assert command.max() < 10.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--vx", "nan"), "--vx: 'nan' is not a number from -100 to 100"),
        (("--wz", "inf"), "--wz: 'inf' is not a number from -100 to 100"),
        (("--duration", "-1"), "--duration: '-1' is not a number from 0.2 to 600"),
        (("--duration", "nan"), "--duration: 'nan' is not a number"),
        (("--fps", "0"), "--fps: '0' is not a number from 1 to 1000"),
        (("--ramp", "-1"), "--ramp: '-1' is not a number from 0 to 10"),
        (("--initial-state", "lying"), "--initial-state lying: must be standing"),
        (("--initial-state", "100000"), "--initial-state 100000: must be standing"),
        (("--initial-state", "9" * 5000), "--initial-state 99999999999"),
        (("--output", "motion.txt"), "--output motion.txt: must end in .npz or .pkl"),
        (("--output", "motion.npz", "--format", "twist"), "ends in .pkl"),
        (("--output", "blocked/motion.npz"), "--output blocked/motion.npz: cannot write there"),
        (("--seed", "-1"), "--seed: '-1' is not a whole number from 0 to"),
        (
            ("--schedule", "late.csv"),
            "late.csv: the last command begins at 5000 s and would end at 5005 s; what is made",
        ),
        (("--schedule", "endless.csv"), "endless.csv: row 2: time is 1e+09, more than 86400 seconds"),
        (("--schedule", "missing.csv"), "missing.csv: cannot be read"),
        (("--schedule", "bad.csv"), "bad.csv: row 2: vy is 'x', not a number"),
        (("--schedule", "bad.csv", "--vx", "1"), "--vx and --schedule cannot go together"),
        (("--checkpoint", "missing.safetensors"), "missing.safetensors: no such checkpoint file"),
        (("--checkpoint", "bad.csv"), "not a safetensors checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path,
    generate: Generate,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    (tmp_path / "bad.csv").write_text("time,vx,vy,wz\n0,0.5,0,0\n1,0.5,x,0\n")
    (tmp_path / "late.csv").write_text("time,vx,vy,wz\n0,0.5,0,0\n5e3,0.5,0,0\n")
    (tmp_path / "endless.csv").write_text("time,vx,vy,wz\n0,0.5,0,0\n1e9,0.5,0,0\n")
    with pytest.raises(SystemExit) as end:
        generate(*options)
    # A text as exit code goes to the error output, and the process ends with 1; options that make no sense give 2.
    said = end.value.code if isinstance(end.value.code, str) else capsys.readouterr().err.rstrip("\n")
    assert end.value.code == said or end.value.code == 2
    assert said.startswith("generate: ")
    assert message in said
    assert "\n" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "blocked", "endless.csv", "late.csv"]


def test_help_explains_every_option(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        generate("--help")
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--vx", "--vy", "--wz", "--duration", "--schedule", "--checkpoint", "--output", "--renderer"):
        assert option in printed
