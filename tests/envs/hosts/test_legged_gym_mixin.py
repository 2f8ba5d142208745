"""legged_gym on the stand-in: its own robots, and a humanoid of ours with the reference mixin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[[str, str], Any]

BEGIN = """
import json, sys
from envs.simulator import BACKEND, register_as_isaacgym
if BACKEND == "mujoco":
    register_as_isaacgym()
sys.argv = ["test", "--task", TASK, "--headless", "--sim_device", "cpu", "--rl_device", "cpu"]
from legged_gym.envs import LeggedRobot
from legged_gym.utils import get_args, task_registry
import torch
torch.set_num_threads(1)
"""


@pytest.fixture()
def run(run_code: Callable[..., Any], legged_gym_root: Path) -> Run:
    """Runs code for a task after legged_gym has been imported."""
    for package in ("mujoco.batch", "matplotlib", "scipy"):  # the last two are what legged_gym imports itself
        pytest.importorskip(package)
    return lambda task, code: run_code(BEGIN.replace("TASK", repr(task)) + code, legged_gym_root)


STEP = """
cfg, _ = task_registry.get_cfgs(TASK)
cfg.env.num_envs, cfg.terrain.mesh_type, cfg.terrain.num_rows, cfg.terrain.num_cols = 8, MESH, 2, 5
cfg.terrain.curriculum, cfg.terrain.measure_heights = MESH == "trimesh", MESH == "trimesh"
cfg.terrain.max_init_terrain_level = 1
cfg.env.num_observations = 235 if MESH == "trimesh" else 48
cfg.domain_rand.push_robots = False
env, _ = task_registry.make_env(TASK, args=get_args(), env_cfg=cfg)
env.reset()
falls = 0
for _ in range(100):
    obs, _, reward, dones, _ = env.step(torch.zeros(8, env.num_actions))
    assert torch.isfinite(obs).all() and torch.isfinite(reward).all()
    falls += int((dones.bool() & ~env.time_out_buf).sum())
ground = env.measured_heights.mean(dim=1) if MESH == "trimesh" else torch.zeros(8)
print(json.dumps({
    "height": (env.root_states[:, 2] - ground).tolist(),
    "falls": falls,
    "gravity": env.projected_gravity[:, 2].tolist(),
    "load": env.contact_forces[:, :, 2].sum(dim=1).mean().item(),
    "feet": len(env.feet_indices),
}))
"""


@pytest.mark.parametrize("mesh", ["plane", "trimesh"], ids=["flat", "rough"])
@pytest.mark.parametrize(
    ("task", "height", "mass"), [("a1", 0.30, 12.45), ("anymal_b", 0.52, 30.6), ("anymal_c_flat", 0.53, 52.1)]
)
def test_legged_gyms_robots_stand(run: Run, task: str, height: float, mass: float, mesh: str) -> None:
    answer = run(task, f"TASK, MESH = {task!r}, {mesh!r}\n" + STEP)
    assert answer["feet"] == 4
    standing = [tilt < -0.8 for tilt in answer["gravity"]]
    assert sum(standing) >= 6 and answer["falls"] <= 2
    assert sum(answer["height"]) / 8 == pytest.approx(height, abs=0.08 if mesh == "plane" else 0.2)
    if mesh == "plane":
        assert answer["load"] == pytest.approx(9.81 * mass, rel=0.15)


HUMANOID = """
import cmg_ref
from pathlib import Path
from cmg_ref.reference_motion_term import ReferenceMotionTermCfg
from cmg_ref.robots.robot import load_g1
from envs.hosts.legged_gym_mixin import ReferenceMotionMixin
from legged_gym.envs.base.legged_robot_config import LeggedRobotCfg, LeggedRobotCfgPPO

robot = load_g1()

class G1Cfg(LeggedRobotCfg):
    class env(LeggedRobotCfg.env):
        num_envs, num_actions = 8, 29
        num_observations = 12 + 3 * 29 + 2 * (29 + 3) + 3
        episode_length_s = 5
    class terrain(LeggedRobotCfg.terrain):
        mesh_type, measure_heights, curriculum = "plane", False, False
    class commands(LeggedRobotCfg.commands):
        heading_command = False
    class init_state(LeggedRobotCfg.init_state):
        default_joint_angles = dict(zip(robot.joint_names, robot.default_dof_pos.tolist()))
    class control(LeggedRobotCfg.control):
        stiffness = {"hip": 100.0, "knee": 150.0, "ankle": 40.0, "waist": 100.0, "shoulder": 40.0, "elbow": 40.0}
        damping = {"hip": 3.0, "knee": 4.0, "ankle": 2.0, "waist": 3.0, "shoulder": 1.5, "elbow": 1.5, "wrist": 1.0}
        stiffness["wrist"] = 20.0
        action_scale = 0.25
    class asset(LeggedRobotCfg.asset):
        file = str(Path(cmg_ref.__file__).parent / "assets" / "g1_29dof.xml")
        foot_name, terminate_after_contacts_on, penalize_contacts_on = "ankle_roll", ["torso_link", "pelvis"], []
    class domain_rand(LeggedRobotCfg.domain_rand):
        push_robots = False
    class noise(LeggedRobotCfg.noise):
        add_noise = False
    class rewards(LeggedRobotCfg.rewards):
        class scales(LeggedRobotCfg.rewards.scales):
            tracking_joint_pos, tracking_joint_vel, tracking_root_height, tracking_orientation = 1.0, 0.2, 0.5, 0.5

class G1(ReferenceMotionMixin, LeggedRobot):
    reference_cfg = ReferenceMotionTermCfg(mode="realtime", future_steps=(1, 10))

    def compute_observations(self):
        super().compute_observations()
        self.obs_buf = torch.cat((self.obs_buf, self.reference_observations()), dim=1)

task_registry.register("g1", G1, G1Cfg(), LeggedRobotCfgPPO())
env, _ = task_registry.make_env("g1", args=get_args())
env.reset()
"""

EXAMPLE = """
off = (env.dof_pos - env.reference.dof_pos).abs().max().item()
start = env.episode_length_buf.tolist()
errors, rewards, same, falls, lengths = [], [], [], 0, []
for _ in range(150):
    obs, _, reward, dones, _ = env.step(torch.zeros(8, 29))
    assert torch.isfinite(obs).all() and torch.isfinite(reward).all()
    same.append((env.commands[:, :3] - env.reference.commands).abs().max().item())
    errors.append((env.dof_pos - env.reference.dof_pos).abs().mean().item())
    falls += int((dones.bool() & ~env.time_out_buf).sum())
print(json.dumps({
    "observations": obs.shape[1], "off": off, "same": max(same), "error": sum(errors) / len(errors), "falls": falls,
    "commands": env.commands[:, :3].abs().max().item(),
    "rewards": {name: total.abs().sum().item() for name, total in env.episode_sums.items()},
    "coming": env.reference_observations().shape[1],
}))
"""


def test_a_humanoid_with_the_mixin_follows_its_reference(run: Run) -> None:
    answer = run("g1", HUMANOID + EXAMPLE)
    assert answer["observations"] == 12 + 3 * 29 + 2 * (29 + 3) + 3 and answer["coming"] == 2 * (29 + 3) + 3
    assert answer["off"] < 0.3  # a step after the reset, robots are where the reference is
    assert answer["same"] == 0.0 and answer["commands"] > 0.1
    # Without a policy robots fall, but they are reset onto the reference and their joints follow it.
    assert answer["error"] < 0.2
    tracking = {name: total for name, total in answer["rewards"].items() if name.startswith("tracking_")}
    assert {"tracking_joint_pos", "tracking_joint_vel", "tracking_root_height", "tracking_orientation"} <= set(tracking)
    assert all(total > 0.0 for total in tracking.values())


WRITE = """
still = torch.zeros(8, 29)
env.step(still)
before = env.reference.target_commands.clone()
targets, shown = [], []
for step in range(30):
    if step in (0, 3):  # the second time amid the ramp
        env.commands[2, 0] = 0.7
    env.step(still)
    targets.append((env.reference.target_commands[2] - before[2]).tolist())
    shown.append(env.commands[2, 0].item())
    if env.episode_length_buf[2] == 0:
        break
print(json.dumps({"before": before[2].tolist(), "targets": targets, "shown": shown}))
"""


def test_what_is_written_into_commands_is_approached(run: Run) -> None:
    answer = run("g1", HUMANOID + WRITE)
    targets, shown = answer["targets"][:-1], answer["shown"][:-1]  # the last may be of another episode
    assert len(targets) > 10, "the robot must stay up longer than the ramp takes to show itself"
    for change in targets:
        assert answer["before"][0] + change[0] == pytest.approx(0.7, abs=1e-5)
        assert change[1:] == pytest.approx([0.0, 0.0], abs=1e-6)
    gaps = [abs(value - 0.7) for value in shown]
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] < gaps[0]
