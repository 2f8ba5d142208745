"""The shell for Isaac Lab against a stand-in of what it derives from: Isaac Lab itself cannot be installed here."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1

NUM_ENVS, STEP = 3, 0.02
# Isaac Lab numbers joints breadth first.
NAMES = tuple(sorted(load_g1().joint_names, key=lambda name: (name.split("_")[1], name)))


class CommandTerm:
    """Calls what a term implements when and as Isaac Lab's base class does."""

    _set_debug_vis_impl: Any
    _update_metrics: Any
    _resample_command: Any
    _update_command: Any

    def __init__(self, cfg: Any, env: Any) -> None:
        self.cfg, self._env = cfg, env
        self.num_envs, self.device = env.num_envs, env.device
        self.metrics: dict[str, torch.Tensor] = {}
        self.time_left = torch.zeros(self.num_envs)
        self.command_counter = torch.zeros(self.num_envs, dtype=torch.long)
        self._set_debug_vis_impl(cfg.debug_vis)

    def reset(self, env_ids: Any = None) -> dict[str, float]:
        env_ids = slice(None) if env_ids is None else env_ids
        extras = {name: value[env_ids].mean().item() for name, value in self.metrics.items()}
        for value in self.metrics.values():
            value[env_ids] = 0.0
        self.command_counter[env_ids] = 0
        self._resample(env_ids)
        return extras

    def compute(self, dt: float) -> None:
        self._update_metrics()
        self.time_left -= dt
        rows = (self.time_left <= 0.0).nonzero().flatten()
        if len(rows) > 0:
            self._resample(rows)
        self._update_command()

    def _resample(self, env_ids: Any) -> None:
        self.time_left[env_ids] = self.time_left[env_ids].uniform_(*self.cfg.resampling_time_range)
        self._resample_command(env_ids)
        self.command_counter[env_ids] += 1


class Robot:
    """Remembers what was written, as link states in the world."""

    joint_names = NAMES
    is_initialized = True

    def __init__(self) -> None:
        bodies = len(load_g1().body_names)
        upright = torch.tensor([1.0, 0.0, 0.0, 0.0])
        self.data = SimpleNamespace(
            joint_pos=torch.zeros(NUM_ENVS, len(NAMES)),
            joint_vel=torch.zeros(NUM_ENVS, len(NAMES)),
            root_link_quat_w=upright.repeat(NUM_ENVS, 1),
            root_link_lin_vel_w=torch.zeros(NUM_ENVS, 3),
            root_link_ang_vel_w=torch.zeros(NUM_ENVS, 3),
            body_link_pos_w=torch.zeros(NUM_ENVS, bodies, 3),
            body_link_quat_w=upright.repeat(NUM_ENVS, bodies, 1),
        )
        self.pose = torch.zeros(NUM_ENVS, 7)

    def find_bodies(self, names: Any, preserve_order: bool = False) -> tuple[list[int], list[str]]:
        return [load_g1().body_names.index(name) for name in names], list(names)

    def write_joint_state_to_sim(
        self, position: Any, velocity: Any, joint_ids: Any = None, env_ids: Any = None
    ) -> None:
        self.data.joint_pos[env_ids], self.data.joint_vel[env_ids] = position, velocity

    def write_root_link_pose_to_sim(self, pose: Any, env_ids: Any = None) -> None:
        self.pose[env_ids] = pose
        self.data.root_link_quat_w[env_ids] = pose[:, 3:]

    def write_root_link_velocity_to_sim(self, velocity: Any, env_ids: Any = None) -> None:
        self.data.root_link_lin_vel_w[env_ids], self.data.root_link_ang_vel_w[env_ids] = velocity.split(3, dim=1)

    def reset(self, env_ids: Any = None) -> None:
        pass


class Scene(dict):
    env_origins = torch.tensor([[0.0, 0.0, 0.0], [4.0, 0.0, 0.5], [8.0, 1.0, 0.0]])


def configclass(cls: type) -> type:
    return dataclasses.dataclass(kw_only=True)(cls)


@dataclasses.dataclass(kw_only=True)
class CommandTermCfg:
    resampling_time_range: tuple[float, float]
    debug_vis: bool = False


@pytest.fixture()
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    parts: dict[str, dict[str, Any]] = {
        "isaaclab": {},
        "isaaclab.managers": {"CommandTerm": CommandTerm, "CommandTermCfg": CommandTermCfg},
        "isaaclab.utils": {"configclass": configclass},
        "isaaclab.markers": {"VisualizationMarkers": object},
        "isaaclab.markers.config": {"FRAME_MARKER_CFG": None},
    }
    for name, contents in parts.items():
        module = ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    yield importlib.import_module("envs.hosts.isaaclab_command")
    del sys.modules["envs.hosts.isaaclab_command"]


def test_the_shell_shows_the_reference_under_the_hosts_calls(shell: ModuleType) -> None:
    reference_cfg = ReferenceMotionTermCfg(mode="realtime")
    env = SimpleNamespace(
        num_envs=NUM_ENVS,
        device="cpu",
        step_dt=STEP,
        cfg=SimpleNamespace(seed=3),
        scene=Scene(robot=Robot()),
        common_step_counter=0,
        episode_length_buf=torch.zeros(NUM_ENVS, dtype=torch.long),
        termination_manager=SimpleNamespace(terminated=torch.zeros(NUM_ENVS, dtype=torch.bool)),
    )
    cfg = shell.CMGReferenceCommandCfg(reference=reference_cfg, random_heading=False, reset_height=0.0)
    term = cfg.class_type(cfg, env)
    alone = ReferenceMotionTerm(reference_cfg, NUM_ENVS, STEP, NAMES, seed=3)
    places = torch.cat((Scene.env_origins[:, :2], torch.zeros(NUM_ENVS, 1)), dim=1)
    alone.reset()
    term.reset(slice(None))
    alone.reset(root_pose=places)
    term.compute(STEP)
    env.scene["robot"].data.joint_pos += 0.1  # an error to measure
    for step in range(12):
        env.common_step_counter += 1
        env.episode_length_buf += 1
        alone.step()
        if step == 5:  # An environment ends: it is reset before commands are computed.
            env.termination_manager.terminated[1] = True
            alone.report_failures([1])
            alone.reset([1], root_pose=places[1:2])
            assert term.reset(torch.tensor([1]))["error_joint_pos"] > 0.0
            env.episode_length_buf[1] = 0
            env.termination_manager.terminated[1] = False
            joint_pos, _, root = alone.initial_state([1])
            assert torch.equal(env.scene["robot"].data.joint_pos[1:2], joint_pos)
            assert torch.allclose(env.scene["robot"].pose[1, :3], root[0, :3] + torch.tensor([0.0, 0.0, 0.5]))
            assert torch.equal(env.scene["robot"].pose[1, 3:].roll(-1), root[0, 3:7])
        term.compute(STEP)
        assert torch.equal(term.reference.dof_pos, alone.dof_pos)
        assert torch.equal(term.command, torch.cat((alone.future((1,)).dof_pos, alone.future((1,)).dof_vel), 2)[:, 0])
    robot, coming = load_g1(), alone.future((1,))
    columns = [NAMES.index(name) for name in robot.joint_names]
    pos, quat = ForwardKinematics(robot, cfg.body_names)(
        coming.dof_pos[:, 0, columns], coming.root_pos_w[:, 0], coming.root_quat_w[:, 0]
    )
    assert torch.allclose(
        term.body_pos_w, pos + Scene.env_origins[:, None, 2:] * torch.tensor([0.0, 0.0, 1.0]), atol=1e-5
    )
    assert torch.allclose(
        (term.body_quat_w.roll(-1, -1) * quat).sum(dim=-1).abs(), torch.ones(pos.shape[:2]), atol=1e-5
    )
