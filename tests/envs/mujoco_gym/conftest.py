from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import cmg_ref
from cmg_ref.robots.robot import load_g1

pytest.importorskip("mujoco.batch")

from envs.mujoco_gym import gymapi
from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.simulation import Env, Simulation

ASSETS = Path(cmg_ref.__file__).parent / "assets"
STANDING_HEIGHT = 0.793


@dataclass
class World:
    """A prepared simulation and what tests ask of it."""

    sim: Simulation
    asset: Asset
    envs: list[Env]

    @property
    def num_envs(self) -> int:
        return len(self.envs)

    @property
    def num_dof(self) -> int:
        return len(self.asset.dof_names)

    @property
    def root(self) -> Tensor:
        """(num_envs, 13)."""
        return self.sim.states.root

    @property
    def dof_pos(self) -> Tensor:
        """(num_envs, num_dof)."""
        return self.sim.states.dof.view(self.num_envs, -1, 2)[..., 0]

    @property
    def dof_vel(self) -> Tensor:
        """(num_envs, num_dof)."""
        return self.sim.states.dof.view(self.num_envs, -1, 2)[..., 1]

    @property
    def bodies(self) -> Tensor:
        """(num_envs, num_bodies, 13)."""
        return self.sim.states.bodies.view(self.num_envs, -1, 13)

    @property
    def contact_forces(self) -> Tensor:
        """(num_envs, num_bodies, 3)."""
        return self.sim.states.contact_forces.view(self.num_envs, -1, 3)

    def refresh(self) -> None:
        gym = gymapi.acquire_gym()
        gym.refresh_actor_root_state_tensor(self.sim)
        gym.refresh_dof_state_tensor(self.sim)
        gym.refresh_rigid_body_state_tensor(self.sim)
        gym.refresh_net_contact_force_tensor(self.sim)

    def stand(self) -> None:
        """Put the robots into their standing pose, and let their drives hold it."""
        gym = gymapi.acquire_gym()
        self.refresh()
        self.dof_pos[:] = load_g1().default_dof_pos
        self.dof_vel[:] = 0.0
        gym.set_dof_state_tensor(self.sim, self.sim.states.dof)
        gym.set_dof_position_target_tensor(self.sim, self.dof_pos.contiguous())


def gains(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Stiffness and damping that hold a G1 upright, with ankles stiffer than the pendulum that stands on them."""
    stiffness = np.full(len(names), 40.0)
    stiffness[[any(part in name for part in ("hip", "waist", "knee", "ankle")) for name in names]] = 300.0
    return stiffness, 0.04 * stiffness


Configure = Callable[[int, Env, Asset], None]


@pytest.fixture
def make_world() -> Callable[..., World]:
    """Builder of simulations: a G1 on a plane, unless another asset is named."""

    def make(
        num_envs: int = 3,
        drive_mode: int = gymapi.DOF_MODE_POS,
        dt: float = 0.02,
        substeps: int = 4,
        ground: bool = True,
        ground_friction: float = 1.0,
        height: float = STANDING_HEIGHT,
        self_collision: bool = True,
        spacing: float = 0.0,
        root: Path = ASSETS,
        file: str = "g1_29dof.xml",
        fix_base_link: bool = False,
        before_actor: Configure | None = None,
        after_actor: Configure | None = None,
        prepare: bool = True,
    ) -> World:
        gym = gymapi.acquire_gym()
        params = gymapi.SimParams()
        params.dt, params.substeps, params.up_axis = dt, substeps, gymapi.UP_AXIS_Z
        sim = gym.create_sim(0, -1, gymapi.SIM_PHYSX, params)
        if ground:
            plane = gymapi.PlaneParams()
            plane.static_friction = plane.dynamic_friction = ground_friction
            gym.add_ground(sim, plane)
        options = gymapi.AssetOptions()
        options.default_dof_drive_mode, options.fix_base_link = drive_mode, fix_base_link
        asset = gym.load_asset(sim, str(root), file, options)
        envs = []
        for index in range(num_envs):
            extent = gymapi.Vec3(spacing, spacing, 0.0)
            env = gym.create_env(sim, -extent, extent, 2)
            if before_actor is not None:
                before_actor(index, env, asset)
            pose = gymapi.Transform(p=gymapi.Vec3(0.0, 0.0, height))
            actor = gym.create_actor(env, asset, pose, "robot", index, int(not self_collision), 0)
            if drive_mode == gymapi.DOF_MODE_POS:
                properties = gym.get_actor_dof_properties(env, actor)
                properties["stiffness"], properties["damping"] = gains(asset.dof_names)
                gym.set_actor_dof_properties(env, actor, properties)
            if after_actor is not None:
                after_actor(index, env, asset)
            envs.append(env)
        if prepare:
            gym.prepare_sim(sim)
        return World(sim, asset, envs)

    return make


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
