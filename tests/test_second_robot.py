"""A robot that the package does not know, from its MJCF to a policy's environment, without a line of ours changed."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.drawing.capsules import LEFT, RIGHT, figures
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.registry import register_robot
from cmg_ref.robots.robot import Robot, load_g1, load_robot
from cmg_ref.robots.spec import RobotError, RobotSpec
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from configs.base_config import ConfigError
from configs.legged_robot_config import LeggedRobotCfgPPO
from configs.reference_follower_config import ReferenceFollowerCfg

ROOT = Path(__file__).parents[1]
LEG = """
<body name="{side}_thigh" pos="0 {y} 0">
  <inertial pos="0 0 -0.1" mass="0.8" diaginertia="0.004 0.004 0.001"/>
  <joint name="{side}_hip" axis="0 1 0" range="-1.5 1.5" armature="0.01" actuatorfrcrange="-40 40"/>
  <body name="{side}_shank" pos="0 0 -0.25">
    <inertial pos="0 0 -0.1" mass="0.5" diaginertia="0.003 0.003 0.001"/>
    <joint name="{side}_knee" axis="0 1 0" range="0 2.5" armature="0.01" actuatorfrcrange="-40 40"/>
    <body name="{side}_foot" pos="0 0 -0.25">
      <inertial pos="0.02 0 -0.02" mass="0.3" diaginertia="0.001 0.001 0.001"/>
      <joint name="{side}_ankle" axis="0 1 0" range="-1 1" armature="0.01" actuatorfrcrange="-40 40"/>
      <geom type="box" size="0.08 0.04 0.01" pos="0.02 0 -0.03"/>
    </body>
  </body>
</body>"""
MJCF = f"""
<mujoco model="little biped">
  <compiler angle="radian" autolimits="true"/>
  <worldbody>
    <body name="trunk" pos="0 0 0.53">
      <freejoint/>
      <inertial pos="0 0 0.08" mass="3" diaginertia="0.02 0.02 0.01"/>
      {LEG.format(side="L", y=0.07)}
      {LEG.format(side="R", y=-0.07)}
    </body>
  </worldbody>
  <keyframe>
    <key name="stand" qpos="0 0 0.53 1 0 0 0  -0.2 0.4 -0.2  -0.2 0.4 -0.2"/>
  </keyframe>
</mujoco>"""
# As JSON has it; the clips name no joints and have those of each kind side by side, unlike the MJCF.
DESCRIPTION: dict[str, Any] = {
    "name": "biped",
    "asset": "biped.xml",
    "foot_bodies": ["L_foot", "R_foot"],
    "walking_height": [0.42, 0.58],
    "mirror_names": [["L_", "R_"]],
    "stiffness": {"hip": 60.0, "knee": 60.0, "ankle": 30.0},
    "damping": {"": 1.5},
    "action_scale": {"": 0.25},
    "clip_joint_names": ["L_hip", "R_hip", "L_knee", "R_knee", "L_ankle", "R_ankle"],
    "clip_fps": 25.0,
    "capsules": [
        ["trunk", [0.0, 0.0, 0.0], [0.0, 0.0, 0.2], 0.06, "shell"],
        ["L_thigh", [0.0, 0.01, 0.0], [0.0, 0.01, -0.25], 0.03, "side"],
        ["L_shank", [0.0, 0.0, 0.0], [0.0, 0.0, -0.25], 0.02, "metal"],
    ],
}


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that describes the robot, beside its MJCF."""
    folder = tmp_path_factory.mktemp("biped")
    (folder / "biped.xml").write_text(MJCF)
    (folder / "biped.json").write_text(json.dumps(DESCRIPTION))
    return folder / "biped.json"


@pytest.fixture(scope="module")
def robot(description: Path) -> Robot:
    """The robot, known by its name from now on."""
    register_robot(RobotSpec.from_json(description))
    return load_robot("biped")


def marching(robot: Robot, height: float, name: str) -> MotionClip:
    """Twelve seconds of marching on the spot whose feet rise by a height [rad of the hip], soles level."""
    time = torch.arange(300, dtype=torch.float64) / 25.0
    dof_pos = torch.zeros(300, robot.num_joints, dtype=torch.float64)
    for side, phase in (("L", 0.0), ("R", np.pi)):
        lift = 0.2 + height * torch.sin(2.0 * np.pi * time + phase).clamp(min=0.0)
        for joint, share in (("hip", -1.0), ("knee", 2.0), ("ankle", -1.0)):
            dof_pos[:, robot.joint_names.index(f"{side}_{joint}")] = share * lift
    feet = FootKinematics(robot, dtype=torch.float64)
    root_pos = torch.zeros(300, 3, dtype=torch.float64)
    root_pos[:, 2] = feet.radius - feet(dof_pos)[..., 2].amin(dim=(1, 2))
    upright = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64).repeat(300, 1)
    return MotionClip(name, 25.0, robot.joint_names, dof_pos, root_pos, upright)


def csv_text(clip: MotionClip) -> str:
    """The clip as a CSV without names, in the order that the description says."""
    columns = [clip.joint_names.index(name) for name in DESCRIPTION["clip_joint_names"]]
    rows = torch.cat((clip.root_pos, clip.root_quat, clip.dof_pos[:, columns]), dim=1)
    return "\n".join(",".join(f"{number:.9f}" for number in row) for row in rows.tolist())


@pytest.fixture(scope="module")
def run(description: Path) -> Callable[..., None]:
    """Runs a script of the repository on this robot."""

    def run(script: str, *arguments: object) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script, *map(str, arguments), "--robot", str(description)])
            runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")

    return run


@pytest.fixture(scope="module")
def trained(robot: Robot, description: Path, run: Callable[..., None]) -> Path:
    """A checkpoint of the robot, trained for a moment on its clips."""
    pytest.importorskip("tensorboard")
    folder = description.parent
    for name, height in (("stand", 0.0), ("march", 0.25), ("other", 0.2)):
        (folder / f"{name}.csv").write_text(csv_text(marching(robot, height, name)))
    clips, data = [folder / f"{name}.csv" for name in ("stand", "march", "other")], folder / "data.safetensors"
    run("prepare_data.py", *clips, "--output", data, "--csv-fps", 25, "--held-out", "other")
    options = "--iterations 3 --batch-size 16 --horizon-start 6 --horizon-end 8 --hidden 16 --gate-hidden 16"
    run("train_cmg.py", data, "--run-dir", folder / "run", "--device", "cpu", *options.split(), "--no-mixed-precision")
    return folder / "run" / "best.safetensors"


@pytest.fixture(scope="module")
def checkpoint(trained: Path) -> Checkpoint:
    return load_checkpoint(trained)


def test_the_description_is_read_from_its_file(robot: Robot, description: Path) -> None:
    assert load_robot(description).joint_names == robot.joint_names
    assert robot.joint_names == ("L_hip", "L_knee", "L_ankle", "R_hip", "R_knee", "R_ankle")
    assert robot.mirror_index.tolist() == [3, 4, 5, 0, 1, 2]
    assert robot.foot_bodies == robot.key_bodies == ("L_foot", "R_foot")
    torch.testing.assert_close(robot.default_dof_pos, torch.tensor([-0.2, 0.4, -0.2] * 2, dtype=torch.float64))
    assert robot.foot_points[:, :, 2].unique().tolist() == pytest.approx([-0.04])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feet": []}, "unknown field 'feet'"),
        ({"foot_bodies": ["L_foot"]}, "field 'foot_bodies': cannot be"),
        ({"clip_fps": "fast"}, "field 'clip_fps': cannot be 'fast'"),
        ({"capsules": [["trunk", [0, 0, 0], [0, 0, 1], 0.1, "pink"]]}, "field 'capsules'"),
        ({"asset": "none.xml"}, "none.xml"),
        ({"foot_bodies": ["L_foot", "tail"]}, "<body name='tail'>, a foot, is missing"),
        ({"mirror_names": [["L_", "X_"]]}, "has no twin 'X_hip'"),
        ({"standing_pose": {"tail": 0.0}}, "no joint 'tail'"),
    ],
)
def test_what_is_wrong_with_a_description_is_said(
    description: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    (tmp_path / "biped.xml").write_text(MJCF)
    (tmp_path / "biped.json").write_text(json.dumps({**DESCRIPTION, **change}))
    with pytest.raises(RobotError, match=message):
        load_robot(tmp_path / "biped.json")


def test_a_robot_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RobotError, match=r"no robot 'h1'; known are .*g1"):
        load_robot("h1")


def test_its_clips_are_read_in_their_own_order(robot: Robot, trained: Path, description: Path) -> None:
    clip = marching(robot, 0.25, "march")
    with warnings.catch_warnings(record=True) as caught:
        read = read_clip(trained.parents[1] / "march.csv", 25.0, description)
    assert not caught
    torch.testing.assert_close(read.dof_pos, clip.dof_pos, atol=1e-6, rtol=0.0)
    assert read.joint_names == robot.joint_names


def test_its_checkpoint_names_it(checkpoint: Checkpoint, robot: Robot) -> None:
    assert checkpoint.metadata["robot"] == "biped"
    assert checkpoint.robot() is robot
    with pytest.raises(RobotError, match="the robot g1 has no joint 'L_hip' of the checkpoint"):
        CMGMotionGenerator(checkpoint, 2, robot=load_g1())
    nameless = replace(checkpoint, metadata={})  # As old as those of the G1 are.
    with pytest.raises(RobotError, match="the robot g1 has no joint 'L_hip'"):
        CMGMotionGenerator(nameless, 2)
    with pytest.raises(RobotError, match="there is no robot 'h1'"):
        generate_clips(replace(joints_only(checkpoint), metadata={"robot": "h1"}), torch.zeros(1, 10, 3))


def joints_only(checkpoint: Checkpoint) -> Checkpoint:
    """The same network without root channels, which then come from the robot's feet."""
    layout = StateLayout.joints_only(len(checkpoint.joint_names))
    model = CMG(CMGConfig(hidden=16, gate_hidden=16), layout, checkpoint.fps)
    for name in ("motion_mean", "motion_std", "state_min", "state_max"):
        setattr(model, name, getattr(checkpoint.model, name)[: layout.size].clone())
    model.command_min, model.command_max = checkpoint.command_min.clone(), checkpoint.command_max.clone()
    states = checkpoint.initial_states[:, : layout.size].contiguous()
    return replace(checkpoint, model=model.eval().requires_grad_(False), initial_states=states)


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("mode", ["realtime", "pool"])
def test_the_generator_and_the_term_move_it(checkpoint: Checkpoint, robot: Robot, mode: str, root: bool) -> None:
    cfg = ReferenceMotionTermCfg(checkpoint=checkpoint if root else joints_only(checkpoint), mode=mode)
    if mode == "pool":
        cfg = replace(cfg, pool=TrajectoryPoolCfg(num_trajectories=8, max_guard_share=1.0), preload_duration=100)
    term = ReferenceMotionTerm(cfg, 4, 0.02, robot.joint_names[::-1])
    term.reset()
    start = term.dof_pos.clone()
    for _ in range(30):
        term.step()
    assert term.key_bodies == ("L_foot", "R_foot")
    assert term.key_body_pos_b.shape == (4, 2, 3)
    assert bool(torch.isfinite(term.root_states).all())
    assert not torch.equal(start, term.dof_pos)


def test_generate_writes_and_draws_it(trained: Path, robot: Robot, run: Callable[..., None], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    options = ("--duration", 0.4, "--renderer", "software", "--output", tmp_path / "motion.npz")
    run("generate.py", "--checkpoint", trained, *options)
    clip = read_clip(tmp_path / "motion.npz", robot=robot)
    assert clip.joint_names == robot.joint_names
    assert (tmp_path / "motion.png").is_file()
    assert len(list(tmp_path.iterdir())) == 3
    shown = figures(clip, robot)[0]
    assert len(shown.radius) == 5  # the trunk, and two parts on either side
    colors = [tuple(color) for color in shown.color.tolist()]
    assert colors.count(LEFT) == colors.count(RIGHT) == 1


def test_evaluate_measures_it(trained: Path, run: Callable[..., None], tmp_path: Path) -> None:
    run("evaluate_cmg.py", trained.parents[1] / "march.csv", "--fps", 25, "--output", tmp_path)
    assert list(tmp_path.iterdir())


def biped_cfg(checkpoint: str | None) -> ReferenceFollowerCfg:
    """All that a task needs to know of the robot."""
    cfg = ReferenceFollowerCfg()
    cfg.asset.robot = "biped"
    cfg.init_state.pos = (0.0, 0.0, 0.55)
    cfg.termination.base_height = 0.3
    for field in ("stiffness", "damping", "action_scale"):
        setattr(cfg.control, field, DESCRIPTION[field])
    cfg.reference.mode, cfg.reference.checkpoint = "realtime", checkpoint
    return cfg


def test_the_environment_steps_it(trained: Path, robot: Robot, description: Path) -> None:
    pytest.importorskip("mujoco.batch")
    from envs.tasks.reference_follower import ReferenceFollower
    from envs.tasks.task_registry import TaskRegistry

    tasks = TaskRegistry()
    tasks.register("biped_cmg", ReferenceFollower, biped_cfg(str(trained)), LeggedRobotCfgPPO())
    env, cfg = tasks.make_env("biped_cmg", num_envs=3)
    assert env.robot is robot
    assert env.dof_names == list(robot.joint_names)
    assert env.body_names[env.base_index] == "trunk"
    torch.testing.assert_close(env.nominal_p_gains, torch.tensor([60.0, 60.0, 30.0] * 2))
    rewards = torch.zeros(3)
    for _ in range(20):
        observations, _, reward, _, _ = env.step(torch.zeros(3, 6))
        rewards += reward
    assert bool(torch.isfinite(observations).all())
    assert bool(torch.isfinite(rewards).all())
    assert not torch.equal(env.dof_pos, env.default_dof_pos.expand(3, -1))

    cfg.asset.robot = str(description)
    assert tasks.make_env("biped_cmg", env_cfg=cfg)[0].robot.joint_names == robot.joint_names
    cfg.asset.robot = "h1"
    with pytest.raises(ConfigError, match=r"asset\.robot: there is no robot 'h1'"):
        tasks.make_env("biped_cmg", env_cfg=cfg)
    with pytest.raises(ValueError, match="left_hip_pitch_joint"):  # Of the checkpoint that ships.
        tasks.make_env("biped_cmg", env_cfg=biped_cfg(None))


def test_nothing_falls_back_on_the_g1() -> None:
    files = [file for package in ("cmg_ref", "configs", "envs") for file in (ROOT / package).rglob("*.py")]
    naming = {file.relative_to(ROOT).as_posix() for file in files if "load_g1" in file.read_text(encoding="utf-8")}
    # Where it is made, where users find it, the one format that knows no other robot, and the robot of both TWISTs.
    assert naming == {
        "cmg_ref/robots/robot.py",
        "cmg_ref/interface.py",
        "cmg_ref/network/legacy_checkpoint.py",
        "envs/cli/twist_check.py",
        "envs/driving/robots.py",
        "envs/serving/motion_frame.py",
        "envs/serving/outside_joints.py",
    }


def test_configurations_need_no_torch() -> None:
    code = "import sys, configs.g1_cmg_config; sys.exit('torch' in sys.modules)"  # Isaac Gym has to come before it.
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
