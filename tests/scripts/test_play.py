"""The script that shows and measures a policy, run as a user runs it, with a policy that has not learnt anything."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco.batch")

import cmg_ref
from envs.cli import play
from envs.cli.sim import with_height
from envs.deployment.exported_controller import ArtefactError, ExportedController
from envs.deployment.plain_runner import run as run_plainly
from envs.deployment.plain_simulation import Conditions, PlainSimulation
from envs.evaluation import calibration
from envs.evaluation.cases import FREE, GRID, shortened
from envs.learning.policy import Policy, describe_policy, load_policy, save_policy
from envs.tasks.task_registry import task_registry

pytestmark = pytest.mark.slow


Runner = Callable[..., Any]


@pytest.fixture
def run(run_script: Runner) -> Runner:
    return lambda *arguments: run_script("play.py", *arguments)


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    env_cfg, _ = task_registry.get_cfgs("g1_cmg")
    env_cfg.reference.mode = "realtime"
    env, _ = task_registry.make_env("g1_cmg", env_cfg=env_cfg, num_envs=1)
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    save_policy(Policy(describe_policy(env, "g1_cmg"), (8,)).requires_grad_(False), path)
    return path


def test_a_rollout_leaves_table_plot_and_video(policy_file: Path, tmp_path: Path, run: Runner) -> None:
    arguments = ("--policy", policy_file, "--command", 0.5, 0, 0.2, "--duration", 0.6, "--renderer", "software")
    result = run(*arguments, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "+0.50 +0.00 +0.20" in result.stdout and str(policy_file) in result.stdout
    assert (tmp_path / "velocity.png").stat().st_size > 10_000
    (video,) = tmp_path.glob("video.*")
    assert video.stat().st_size > 10_000


def test_a_fall_is_said(policy_file: Path, tmp_path: Path, run: Runner) -> None:
    result = run("--policy", policy_file, "--duration", 8, "--no_video", "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "The robot fell after" in result.stdout


def test_an_evaluation_is_a_list_of_commands(
    policy_file: Path, tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play, "grid_of", lambda env_cfg: shortened(GRID[:3], 1.0))
    arguments = ("--policy", policy_file, "--evaluate", "--rollouts", 2, "--output", tmp_path)
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["name"] for row in rows] == ["stand", "vx -0.5", "vx 0.5"]
    assert all(row["rollouts"] == 2 and row["passed"] is False for row in rows)
    assert str(policy_file) in (tmp_path / "evaluation.md").read_text()
    assert "roll-out" in result.stderr  # the progress bar
    strict = run(*arguments, "--strict", "--zero_residual")
    assert strict.returncode == 0 if "missed" not in strict.stderr else strict.returncode == 1


def test_free_use_is_evaluated_beside_the_grid(
    policy_file: Path, tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [
        dataclasses.replace(case, duration=0.4) for case in FREE if case.name.endswith(("40 ms", "ground", "noslip"))
    ]
    monkeypatch.setattr(play, "grid_of", lambda env_cfg: shortened(GRID[:1], 0.4))
    monkeypatch.setattr(play, "FREE", short)
    result = run("--policy", policy_file, "--evaluate", "--free", "--rollouts", 2, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["name"] for row in rows] == [
        "stand",
        "free, delay 40 ms",
        "free, rough ground",
        "stand 120 s without noslip",
    ]
    assert [row["conditions"] for row in rows[1:]] == [
        {"schedule": [1.0, 4.0], "delay": 0.04},
        {"schedule": [1.0, 4.0], "roughness": 0.02},
        {"noslip": False},
    ]
    assert "touch-downs" in (tmp_path / "evaluation.md").read_text()
    alone = run("--policy", policy_file, "--free")
    assert alone.returncode != 0 and "--free: says what is evaluated, and needs --evaluate" in alone.stderr


def test_a_schedule_is_played(policy_file: Path, tmp_path: Path, run: Runner) -> None:
    (tmp_path / "commands.csv").write_text("time,vx,vy,wz\n0,0,0,0\n0.2,0.3,0,0\n")
    arguments = ("--zero_residual", "--schedule", tmp_path / "commands.csv", "--duration", 0.5, "--no_video")
    result = run(*arguments, "--output", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "0.0 to 0.2" in result.stdout and "0.2 to 0.5" in result.stdout
    assert "every action is zero" in result.stdout


def test_a_command_out_of_range_is_held_and_said(tmp_path: Path, run: Runner) -> None:
    """The policy's range of vx is narrower than its reference's, whose range of the yaw rate is told here."""
    options = ("--zero_residual", "--duration", 0.6, "--no_video", "--headless", "--output", tmp_path)
    result = run("--command", 99, 0.1, -99, "commands.ranges.ang_vel_yaw=(-9,9)", *options)
    assert result.returncode == 0, result.stderr
    assert "vx +99.00 is outside the trained range -0.60 to +2.50: held at +2.50 (100% of the frames)" in result.stdout
    assert "wz -99.00 is outside the trained range -1.30 to +1.30: held at -1.30" in result.stdout
    assert "+2.50 +0.10 -1.30" in result.stdout and "99.00 +" not in result.stdout


def test_a_policy_is_exported(policy_file: Path, tmp_path: Path, run: Runner) -> None:
    pytest.importorskip("onnxruntime")
    result = run("--policy", policy_file, "--export", tmp_path / "policy.onnx")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "policy.onnx").is_file() and "onnxruntime differs" in result.stdout
    assert "policy and reference" in result.stdout
    assert ExportedController(tmp_path / "policy.onnx").control_dt == 0.02
    result = run("--policy", policy_file, "--export", tmp_path / "policy.onnx", "--export_alone")
    assert result.returncode == 0 and "the policy alone" in result.stdout, result.stderr
    with pytest.raises(ArtefactError, match="holds no controller"):
        ExportedController(tmp_path / "policy.onnx")


def test_a_policy_is_exported_with_the_channels_that_are_asked_for(tmp_path: Path, run: Runner) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "policy.onnx"
    result = run("--shipped", "--export", path, 'commands.ranges.further={"base_height":(0.6,0.77)}')
    assert result.returncode == 0, result.stderr
    controller = ExportedController(path)
    still = {"ang_vel": np.zeros(3), "gravity": np.array([0.0, 0.0, -1.0]), "joint_vel": np.zeros(29)}
    for _ in range(100):  # the height is held within the range, and offset by what the policy stands too high
        controller.step(command=np.array([0.0, 0.0, 0.0, 0.3]), joint_pos=controller.reference[:29], **still)
    deepest = 0.6 + load_policy().description.calibration["base_height"]["offsets"][0][0]
    assert controller.reference_part("root_height", controller.reference)[0] == pytest.approx(deepest, abs=0.006)
    contract = json.loads(path.with_suffix(".contract.yaml").read_text())
    terms = contract["policy_io"]["observation_groups"]["policy"]["terms"]
    assert [(term["id"], term["dim"]) for term in terms[2:4]] == [("velocity_commands", 3), ("constant", 1)]
    assert terms[3]["params"] == {"value": [0.75]}
    assert list(contract["policy_io"]["commands"]["base_velocity"]["limit"]) == ["vx", "vy", "wz"]
    # Another simulator and robot stand as high as they are told.
    controller.reset()
    simulation = PlainSimulation(Path(cmg_ref.__file__).parent / "assets" / "g1_29dof.xml", controller, Conditions())
    commands = with_height(np.zeros((250, 3)), 0.65)
    assert commands.shape == (250, 4) and run_plainly(simulation, controller, commands).fell_at is None
    assert simulation.data.qpos[2] == pytest.approx(0.65, abs=0.025)


def test_a_policy_is_calibrated(
    policy_file: Path, tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 27 commands, one round: how well it is done is tested with the calibration itself.
    monkeypatch.setattr(calibration, "NODES", ((0.0,), (0.0,), (0.0,)))
    monkeypatch.setattr(calibration, "ROUNDS", (0.5,))
    monkeypatch.setattr(calibration, "DURATION", 5.0)
    monkeypatch.setattr(play, "DURATION", 5.0)
    monkeypatch.setattr(calibration, "HEIGHTS", (0.65,))
    monkeypatch.setattr(calibration, "HEIGHT_ROUNDS", 2)
    ranges = [f"commands.ranges.{name}=(-0.3,0.3)" for name in ("lin_vel_x", "lin_vel_y", "ang_vel_yaw")]
    heights = 'commands.ranges.further={"base_height":(0.55,0.77)}'
    path = tmp_path / "calibrated.safetensors"
    result = run("--shipped", "--calibrate", path, "--num_envs", 81, *ranges, heights)
    assert result.returncode == 0, result.stderr
    assert "round 1 of 1: " in result.stdout and f"wrote {path}" in result.stdout
    policy, shipped = load_policy(path), load_policy()
    assert policy.description.calibration["lin_vel_x"] == [-0.3, 0.0, 0.3]
    assert any(any(offset) for offset in policy.description.calibration["offsets"])
    assert "heights, round 2 of 2: " in result.stdout
    low, natural = policy.description.calibration["base_height"]["offsets"]
    assert natural == [0.0, 0.0, 0.0] and all(-0.1 <= offset < 0.0 for offset in low)  # it stands too high by itself
    assert all(torch.equal(value, shipped.state_dict()[name]) for name, value in policy.state_dict().items())
    fallen = run("--policy", policy_file, "--calibrate", tmp_path / "never.safetensors", "--num_envs", 81, *ranges)
    assert fallen.returncode == 1 and "robots fall at every command" in fallen.stderr
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--calibrate", "policy.onnx"), "--calibrate policy.onnx: a policy's name must end in .safetensors"),
        (("--zero_residual", "--calibrate", "some.safetensors"), "has no policy to calibrate"),
        (("--policy", "absent.safetensors"), "absent.safetensors: no such policy file"),
        (("--command", 1, 0, 0, "--keyboard"), "exclude each other"),
        (("--duration", -1), "--duration: '-1' is not a number from 0.5 to 3600"),
        (("--command", "nan", 0, 0), "--command: 'nan' is not a number from -100 to 100"),
        (("--num_envs", 0), "--num_envs: '0' is not a whole number from 1 to"),
        (("--rollouts", -3), "--rollouts: '-3' is not a whole number from 1 to"),
        (("--seed", "1e400"), "--seed: '1e400' is not a whole number from 0 to"),
        (
            ("--policy", "POLICY", "--export", "policy.pt"),
            "--export policy.pt: a policy is written as ONNX, the name must",
        ),
        (("--sim_device", "cuda:77"), "--sim_device 'cuda:77': "),
        (("--schedule", "LATE"), "late.csv: the last command begins at 80000 s and would end at 80004 s"),
        (("control.decimation=0",), "control.decimation: must be from 1 to 1000, got 0"),
        (("sim.dt={[]:1}",), "sim.dt is a float (0.005), not '{[]:1}'"),
        (("terrain.mesh_type=" + 5000 * "x",), "has 5,000 characters"),
        (("--schedule", "absent.csv"), "absent.csv"),
        (("--log_dir", "/nowhere"), "/nowhere: holds no run"),
        (("--task", "g1", "--policy", "POLICY"), "is a policy of the task g1_cmg, not of g1"),
        (("--policy", "POLICY", "sim.dt=0.01"), "acts every 0.02 s, the task every 0.04 s"),
        (("--policy", "POLICY", "--output", "/proc/none"), "cannot write there"),
        (("--zero_residual", "--keyboard"), "needs a terminal"),
    ],
)
def test_bad_input_is_one_line(
    policy_file: Path, tmp_path: Path, run: Runner, arguments: tuple[object, ...], message: str
) -> None:
    late = tmp_path / "late.csv"
    late.write_text("time,vx,vy,wz\n0,0,0,0\n8e4,0.3,0,0\n")
    files = {"POLICY": policy_file, "LATE": late}
    given = [files.get(str(argument), argument) for argument in arguments]
    result = run(*given, *(() if "--output" in given else ("--output", tmp_path)))
    assert result.returncode in (1, 2)
    assert result.stderr.startswith("play: ") and message in result.stderr
    assert result.stderr.count("\n") == 1 and len(result.stderr) < 600
    assert list(tmp_path.iterdir()) == [late]
