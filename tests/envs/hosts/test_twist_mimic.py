"""The mixin on a bare stand-in for TWIST's environment: what it does to TWIST's buffers, without any simulator.

It also runs where no simulator does, under Python 3.8; `test_twist.py` runs it in TWIST's own code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cmg_ref.core import rotations
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1
from cmg_ref.robots.urdf import read_urdf
from configs.twist_cmg_config import G1CMGMimicCfg
from envs.hosts.twist_mimic import CMGMimic, motion_lib_cfg

ROBOT = load_g1()
BODIES = ("left_knee_link", "torso_link", "left_ankle_roll_link")


class BareTwist:
    """The attributes and hooks of TWIST's environment that the mixin builds on."""

    def __init__(self, cfg: Any, num_envs: int = 4) -> None:
        self.cfg, self.num_envs, self.dt, self.device = cfg, num_envs, 0.02, "cpu"
        self.dof_names, self.body_names = list(reversed(ROBOT.joint_names)), ["base", *ROBOT.body_names]
        self.feet_indices = torch.tensor([self.body_names.index(name) for name in ROBOT.foot_bodies])
        self.commands = torch.zeros(num_envs, 3)
        self.root_states = torch.zeros(num_envs, 13)
        self.episode_length_buf = torch.zeros(num_envs, dtype=torch.long)
        self.episode_init_origin = torch.arange(3.0 * num_envs).view(num_envs, 3)
        self.time_out_buf = torch.zeros(num_envs, dtype=torch.bool)
        self.default_dof_pos_all = torch.full((num_envs, 29), 0.1)
        self.p_gains, self.d_gains = torch.full((29,), 100.0), torch.full((29,), 2.0)
        self._rand_reset = True
        self.viewer: Any = None
        self._motion_ids = torch.zeros(num_envs, dtype=torch.long)
        self._motion_time_offsets = torch.zeros(num_envs)
        self._ref_root_pos, self._ref_root_rot = torch.zeros(num_envs, 3), torch.zeros(num_envs, 4)
        self._ref_root_vel, self._ref_root_ang_vel = torch.zeros(num_envs, 3), torch.zeros(num_envs, 3)
        self._ref_dof_pos, self._ref_dof_vel = torch.zeros(num_envs, 29), torch.zeros(num_envs, 29)
        self._ref_body_pos = torch.full((num_envs, len(self.body_names), 3), -7.0)
        self._load_motions()  # type: ignore[attr-defined]
        self.motion_difficulty = torch.full((self._motion_lib.num_motions(),), 9.0)  # type: ignore[attr-defined]
        self.reset_idx(torch.arange(num_envs))

    def _get_motion_times(self, env_ids: Tensor | None = None) -> Tensor:
        times = self.episode_length_buf * self.dt + self._motion_time_offsets
        return times if env_ids is None else times[env_ids]

    def _post_physics_step_callback(self) -> None:
        self._update_ref_motion()  # type: ignore[attr-defined]

    def reset_idx(self, env_ids: Tensor, motion_ids: Tensor | None = None) -> None:
        self._reset_ref_motion(env_ids, motion_ids)  # type: ignore[attr-defined]
        self.episode_length_buf[env_ids] = 0

    def step(self, actions: Tensor) -> Tensor:
        self.episode_length_buf += 1
        self._post_physics_step_callback()
        return self._compute_torques(actions)

    def _compute_torques(self, actions: Tensor) -> Tensor:
        return actions

    def render(self, sync_frame_time: bool = True) -> None:
        if self.viewer:  # a key is pressed
            self.commands[1, 0] += 0.1


class Mimic(CMGMimic, BareTwist):
    pass


def write_urdf(path: Path) -> Path:
    """The tree of the shipped G1 as a URDF."""
    lines = ['<robot name="g1">', *(f'<link name="{name}"/>' for name in ROBOT.body_names)]
    for body in range(1, ROBOT.num_bodies):
        joint = ROBOT.joint_bodies.index(body) if body in ROBOT.joint_bodies else None
        x, y, z, w = ROBOT.body_quat[body].tolist()
        roll = torch.atan2(torch.tensor(2 * (w * x + y * z)), torch.tensor(1 - 2 * (x * x + y * y)))
        pitch = torch.asin(torch.tensor(2 * (w * y - z * x)))
        yaw = torch.atan2(torch.tensor(2 * (w * z + x * y)), torch.tensor(1 - 2 * (y * y + z * z)))
        name = f"weld_{body}" if joint is None else ROBOT.joint_names[joint]
        lines.append(f'<joint name="{name}" type="{"fixed" if joint is None else "revolute"}">')
        lines.append(f'<parent link="{ROBOT.body_names[ROBOT.body_parents[body]]}"/>')
        lines.append(f'<child link="{ROBOT.body_names[body]}"/>')
        place = " ".join(repr(value) for value in ROBOT.body_pos[body].tolist())
        lines.append(f'<origin xyz="{place}" rpy="{float(roll)!r} {float(pitch)!r} {float(yaw)!r}"/>')
        if joint is not None:
            lines.append(f'<axis xyz="{" ".join(repr(value) for value in ROBOT.joint_axes[joint].tolist())}"/>')
        lines.append("</joint>")
    path.write_text("\n".join([*lines, "</robot>"]))
    return path


@pytest.fixture()
def make(tmp_path: Path) -> Any:
    """Makes an environment; fields of the section `cmg` and the residual action can be set."""

    def build(residual_action: bool = False, **fields: Any) -> Mimic:
        cmg = type("cmg", (G1CMGMimicCfg.cmg,), {"drop_joints": [], "num_motions": 6, "motion_length": 1.0})
        for name, value in fields.items():
            setattr(cmg, name, value)
        cfg = SimpleNamespace(
            cmg=cmg,
            commands=G1CMGMimicCfg.commands,
            control=SimpleNamespace(residual_action=residual_action, action_scale=0.5),
            env=SimpleNamespace(tar_obs_steps=[1, 5, 30]),
            motion=SimpleNamespace(key_bodies=list(BODIES), height_offset=0.03),
            asset=SimpleNamespace(file=str(write_urdf(tmp_path / "g1.urdf"))),
            rewards=SimpleNamespace(tracking_sigma=0.2, tracking_sigma_ang=0.125),
        )
        return Mimic(cfg)

    return build


def test_buffers_hold_the_motion_in_the_world(make: Any) -> None:
    env = make()
    assert env._ref_root_pos[:, :2].norm(dim=1).max() < 4.0, "at a reset, relative to where the environment starts"
    for _ in range(10):
        env.step(torch.zeros(4, 29))
    frames = env._motion_lib.calc_motion_frame(env._motion_ids, env._get_motion_times())
    assert torch.allclose(env._ref_root_pos[:, :2], frames[0][:, :2] + env.episode_init_origin[:, :2])
    assert torch.allclose(env._ref_root_pos[:, 2], frames[0][:, 2] + 0.03)
    for buffer, frame in zip((env._ref_root_rot, env._ref_root_vel, env._ref_root_ang_vel), frames[1:4]):
        assert torch.equal(buffer, frame)
    assert torch.equal(env._ref_dof_pos, frames[4]) and torch.equal(env._ref_dof_vel, frames[5])
    names = (*BODIES, "right_ankle_roll_link")
    columns = [env.dof_names.index(name) for name in ROBOT.joint_names]
    expected = ForwardKinematics(ROBOT, names).positions(frames[4][:, columns], env._ref_root_pos, env._ref_root_rot)
    indices = [env.body_names.index(name) for name in names]
    assert (env._ref_body_pos[:, indices] - expected).abs().max() < 1e-4
    others = [index for index in range(len(env.body_names)) if index not in indices]
    assert torch.all(env._ref_body_pos[:, others] == -7.0)


def test_commands_are_those_of_the_motion(make: Any) -> None:
    env = make()
    for _ in range(30):
        env.step(torch.zeros(4, 29))
        expected = env._motion_lib.calc_commands(env._motion_ids, env._get_motion_times())
        assert torch.equal(env.commands, expected)
    with pytest.raises(ValueError, match="mode='live'"):
        env.set_commands(torch.zeros(4, 3))


def test_only_the_reset_environments_begin_anew(make: Any) -> None:
    env = make()
    for _ in range(5):
        env.step(torch.zeros(4, 29))
    before = env._ref_dof_pos.clone()
    env.reset_idx(torch.tensor([1, 3]), torch.tensor([2, 4]))
    assert env._motion_ids[[1, 3]].tolist() == [2, 4]
    assert torch.equal(env._ref_dof_pos[[0, 2]], before[[0, 2]])
    assert not torch.equal(env._ref_dof_pos[[1, 3]], before[[1, 3]])


def test_failures_reach_the_draw_of_commands(make: Any) -> None:
    env = make()
    for _ in range(5):
        env.step(torch.zeros(4, 29))
    strata = env._motion_lib._sampler.strata
    before = strata.reports.sum().item()
    env.time_out_buf[0] = True
    env.reset_idx(torch.tensor([0, 1]))
    assert strata.reports.sum().item() == pytest.approx(before + 2, abs=0.1)
    env.reset_idx(torch.tensor([0, 1]))  # nothing happened in these episodes
    assert strata.reports.sum().item() == pytest.approx(before + 2, abs=0.1)


def test_residual_actions_lead_to_the_coming_reference(make: Any) -> None:
    env = make(residual_action=True)
    coming = env._motion_lib.calc_motion_frame(env._motion_ids, env._get_motion_times() + env.dt)
    torques = env.step(torch.full((4, 29), 0.2))
    target = 0.1 + 0.5 * (torques - 0.2)  # as TWIST turns actions into joint targets
    assert torch.allclose(target, coming[4] + 0.02 * coming[5], atol=1e-5)
    assert torch.allclose(env._ref_dof_pos, coming[4], atol=1e-6)


def test_live_commands_ramp_and_written_ones_are_taken(make: Any) -> None:
    env = make(mode="live", motion_length=100.0)
    env.set_commands(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([2]))
    env.step(torch.zeros(4, 29))
    assert 0.0 < env.commands[2, 0] < 0.1 and env.commands[[0, 1, 3]].abs().max() == 0.0
    for _ in range(30):
        env.step(torch.zeros(4, 29))
    assert env.commands[2].tolist() == pytest.approx([1.0, 0.0, 0.0])
    env.commands[0, 2] -= 0.3
    env.step(torch.zeros(4, 29))
    assert env._motion_lib.target_commands[0].tolist() == pytest.approx([0.0, 0.0, -0.3])
    assert env._motion_lib.target_commands[2].tolist() == pytest.approx([1.0, 0.0, 0.0])
    for _ in range(5):  # in the middle of the ramp, and again and again, as a joystick's reader does
        env.commands[0, :2] = torch.tensor([0.6, 0.1])
        env.step(torch.zeros(4, 29))
        assert env._motion_lib.target_commands[0].tolist() == pytest.approx([0.6, 0.1, -0.3])
    env.episode_length_buf[:] = 40  # a runner may set this at will; live motions keep their own time
    assert torch.allclose(env._get_motion_times(), torch.full((4,), 37 * 0.02))


def test_keys_of_the_viewer_add_up(make: Any) -> None:
    env = make(mode="live", motion_length=100.0)
    env.render()
    assert env.commands.abs().max() == 0.0
    env.viewer = "a viewer"
    for presses in range(1, 5):  # faster than the command follows
        env.render()
        env.step(torch.zeros(4, 29))
        assert env._motion_lib.target_commands[1].tolist() == pytest.approx([0.1 * presses, 0.0, 0.0])
        assert 0.0 < env.commands[1, 0] < 0.1 * presses and env.commands[[0, 2, 3]].abs().max() == 0.0


def test_renewed_motions_are_as_difficult_as_the_hardest(make: Any) -> None:
    env = make(motion_length=0.2, num_blocks=2)
    given = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    env.motion_difficulty[:] = given
    for _ in range(200):
        env.step(torch.zeros(4, 29))
        env.reset_idx(torch.arange(4))
        if not torch.equal(env.motion_difficulty, given):
            break
    renewed = env.motion_difficulty != given
    assert 1 <= int(renewed.sum()) <= 3 and (env.motion_difficulty[renewed] == 6.0).all()


def test_rewards_on_the_command(make: Any) -> None:
    env = make()
    yaw = torch.tensor([0.0, 0.5, -2.0, 3.0])
    env.root_states[:, 3:7] = rotations.quat_from_yaw(yaw)
    env.commands[:] = torch.tensor([0.8, 0.1, -0.4])
    turned = rotations.quat_rotate(rotations.quat_from_yaw(yaw), torch.tensor([[0.8, 0.1, 0.3]]))
    env.root_states[:, 7:10], env.root_states[:, 12] = turned, -0.4
    assert torch.allclose(env._reward_tracking_lin_vel(), torch.ones(4))
    assert torch.allclose(env._reward_tracking_ang_vel(), torch.ones(4))
    env.root_states[:, 7:10] = 0.0
    expected = torch.exp(torch.tensor(-(0.8**2 + 0.1**2) / 0.2))
    assert torch.allclose(env._reward_tracking_lin_vel(), expected)


def test_the_configuration_says_what_the_library_is_made_of(make: Any) -> None:
    env = make(strata={"stand": 1.0}, resampling_time=[1.0, 2.0], ramp_time=0.3, held_joints={})
    cfg = motion_lib_cfg(env.cfg, 0.02, env.dof_names)
    assert cfg.lookahead == pytest.approx(0.62) and cfg.ramp_time == 0.3 and cfg.checkpoint is None
    assert cfg.commands is not None and cfg.commands.strata == {"stand": 1.0}
    assert cfg.commands.lin_vel_x == (-0.6, 2.5) and cfg.commands.resampling_time == (1.0, 2.0)
    assert float(env.commands.abs().max()) == 0.0
    assert read_urdf(env.cfg.asset.file).body_names[0] == "pelvis"


@pytest.mark.parametrize("script", ["train", "play"])
def test_scripts_reach_the_plug_in_where_isaac_gym_is(tmp_path: Path, script: str) -> None:
    """All that the scripts import is valid on this Python, with modules of Isaac Gym's names in its place."""
    (tmp_path / "isaacgym").mkdir()
    for module in ("__init__", "gymapi", "gymtorch", "gymutil", "torch_utils", "terrain_utils"):
        (tmp_path / "isaacgym" / f"{module}.py").write_text("")
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, str(root / "scripts" / f"{script}.py"), "--task", "g1_cmg_priv_mimic", "--exptid", "x"]
    result = subprocess.run(
        [*command, "--twist_root", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(tmp_path)])},
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == (
        f"{script}: {tmp_path} is no checkout of TWIST: it has no legged_gym/legged_gym/envs/g1"
    )
