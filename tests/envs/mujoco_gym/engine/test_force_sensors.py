from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.mujoco_gym import gymapi, gymtorch
from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.simulation import Env, GymError

gym = gymapi.acquire_gym()

BRICK = """
<mujoco>
  <worldbody>
    <body name="brick">
      <freejoint/>
      <inertial pos="0.1 0.2 0.3" mass="2" diaginertia="0.02 0.03 0.04" quat="0.8 0 0.6 0"/>
      <geom name="corner" type="sphere" size="0.01"/>
    </body>
  </worldbody>
</mujoco>"""


def test_a_free_body_feels_its_weight_and_what_pushes_it(make_world: Callable, tmp_path: Path) -> None:
    (tmp_path / "brick.xml").write_text(BRICK)
    quat = gymapi.Quat(0.1, -0.2, 0.3, 0.9).normalize()

    def attach(index: int, env: Env, asset: Asset) -> None:
        if index == 0:
            pose = gymapi.Transform(gymapi.Vec3(-0.1, 0.05, 0.2), quat)
            assert gym.create_asset_force_sensor(asset, 0, pose) == 0

    def load(index: int, env: Env, asset: Asset) -> None:
        bodies = gym.get_actor_rigid_body_properties(env, 0)
        bodies[0].mass *= 1.0 + index
        gym.set_actor_rigid_body_properties(env, 0, bodies, recomputeInertia=True)

    world = make_world(
        before_actor=attach,
        after_actor=load,
        root=tmp_path,
        file="brick.xml",
        drive_mode=gymapi.DOF_MODE_NONE,
        ground=False,
        dt=1.0e-5,
        substeps=1,
    )
    world.refresh()
    root_quat = torch.nn.functional.normalize(torch.tensor([0.3, 0.5, -0.1, 0.8]), dim=0)
    world.root[:, 3:7] = root_quat
    gym.set_actor_root_state_tensor(world.sim, world.root)
    reading = gymtorch.wrap_tensor(gym.acquire_force_sensor_tensor(world.sim)).view(3, 6)
    push, turn = torch.zeros(3, 1, 3), torch.zeros(3, 1, 3)
    push[1, 0], turn[2, 0] = torch.tensor([3.0, -4.0, 5.0]), torch.tensor([0.5, 0.6, -0.7])
    gym.apply_rigid_body_force_tensors(world.sim, push, turn, gymapi.GLOBAL_SPACE)
    gym.simulate(world.sim)
    gym.refresh_force_sensor_tensor(world.sim)
    # By hand: turn everything into the sensor's axes, and take the moments about its origin.
    body = gymapi.Quat(*root_quat.tolist())
    arm_w = body.rotate(gymapi.Vec3(0.1, 0.2, 0.3) - gymapi.Vec3(-0.1, 0.05, 0.2))
    to_sensor = (body * quat).inverse()
    for index in range(3):
        force_w = gymapi.Vec3(*push[index, 0]) + gymapi.Vec3(0.0, 0.0, -2.0 * (1 + index) * 9.81)
        torque_w = gymapi.Vec3(*turn[index, 0]) + arm_w.cross(force_w)
        expected = [*to_sensor.rotate(force_w), *to_sensor.rotate(torque_w)]
        np.testing.assert_allclose(reading[index], expected, rtol=2e-3, atol=2e-3)


def test_a_standing_robot_s_feet_read_nothing(make_world: Callable) -> None:
    def attach(index: int, env: Env, asset: Asset) -> None:
        if index == 0:
            for name in ("left_ankle_roll_link", "right_ankle_roll_link"):
                gym.create_asset_force_sensor(asset, asset.body_names.index(name), gymapi.Transform())

    world = make_world(before_actor=attach)
    world.stand()
    for _ in range(150):
        gym.simulate(world.sim)
    world.refresh()
    gym.refresh_force_sensor_tensor(world.sim)
    reading = gym.acquire_force_sensor_tensor(world.sim).view(3, 2, 6)
    assert reading.abs().max() < 0.05 * world.contact_forces[..., 2].max()
    # In the air they fall with the rest of the robot, and read their weight; what is set has not been reached by force.
    world.root[1:, 2] = 3.0
    gym.set_actor_root_state_tensor_indexed(world.sim, world.root, torch.tensor([1, 2], dtype=torch.int32), 2)
    gym.refresh_force_sensor_tensor(world.sim)
    assert (reading[1:] == 0.0).all() and (reading[0] != 0.0).any()
    gym.simulate(world.sim)
    gym.refresh_force_sensor_tensor(world.sim)
    weight = 9.81 * world.sim.model.body("left_ankle_roll_link").mass[0]
    np.testing.assert_allclose(reading[1:, :, :3].norm(dim=-1), weight, rtol=0.5)


def test_sensors_that_cannot_be_are_refused(make_world: Callable) -> None:
    world = make_world(prepare=False)
    with pytest.raises(GymError, match="no body 30"):
        gym.create_asset_force_sensor(world.asset, 30, gymapi.Transform())
    gym.prepare_sim(world.sim)
    with pytest.raises(GymError, match="no force sensors"):
        gym.acquire_force_sensor_tensor(world.sim)
