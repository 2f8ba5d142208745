from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

import cmg_ref
from cmg_ref.core.rotations import quat_rotate
from cmg_ref.robots.robot import load_g1
from envs.mujoco_gym import gymapi, gymtorch
from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.simulation import Env, GymError

gym = gymapi.acquire_gym()
ASSET_FILE = Path(cmg_ref.__file__).parent / "assets" / "g1_29dof.xml"


def random_state(world: Any, generator: torch.Generator) -> None:
    """Write a random state to all environments, angular velocity in world axes."""
    world.root[:] = torch.randn(world.root.shape, generator=generator)
    world.root[:, 3:7] = torch.nn.functional.normalize(world.root[:, 3:7], dim=1)
    world.dof_pos[:] = 0.3 * torch.randn(world.dof_pos.shape, generator=generator)
    world.dof_vel[:] = torch.randn(world.dof_vel.shape, generator=generator)
    gym.set_actor_root_state_tensor(world.sim, gymtorch.unwrap_tensor(world.root))
    gym.set_dof_state_tensor(world.sim, gymtorch.unwrap_tensor(world.sim.states.dof))


def forwarded(world: Any, index: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """One environment as MuJoCo sees it, everything computed at its present state."""
    model, data = world.sim.batch.get_model(index), world.sim.batch.get_data(index)
    mujoco.mj_forward(model, data)
    return model, data


def velocity_w(model: mujoco.MjModel, data: mujoco.MjData, body: str) -> np.ndarray:
    """Linear velocity of a body's origin, then angular velocity, both in world axes, (6,)."""
    velocity = np.zeros(6)
    mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, model.body(body).id, velocity, 0)
    return np.roll(velocity, 3)


def test_order_is_that_of_the_robot(make_world: Callable) -> None:
    world, robot = make_world(), load_g1()
    assert gym.get_asset_rigid_body_names(world.asset) == list(robot.body_names)
    assert gym.get_asset_dof_names(world.asset) == list(robot.joint_names)


def test_dof_tensor_moves_the_joint_of_that_name(make_world: Callable) -> None:
    world = make_world(num_envs=29, ground=False)
    world.refresh()
    world.dof_pos[:] = 0.1 * torch.eye(29)
    world.dof_vel[:] = torch.eye(29)
    gym.set_dof_state_tensor(world.sim, world.sim.states.dof)
    for index, name in enumerate(world.asset.dof_names):
        _, data = forwarded(world, index)
        assert data.joint(name).qpos[0] == pytest.approx(0.1)
        assert data.joint(name).qvel[0] == 1.0


def test_body_tensor_is_the_state_of_the_body_of_that_name(make_world: Callable, generator: torch.Generator) -> None:
    # Against the file itself, read by MuJoCo alone: the order and the frames are those of the names.
    world = make_world(ground=False)
    random_state(world, generator)
    world.refresh()
    model = mujoco.MjModel.from_xml_path(str(ASSET_FILE))
    for index in range(world.num_envs):
        data = mujoco.MjData(model)
        root = world.root[index].double()
        data.qpos[:3], data.qpos[3:7] = root[:3], root[3:7].roll(1)
        data.qpos[7:], data.qvel[6:] = world.dof_pos[index], world.dof_vel[index]
        data.qvel[:3] = root[7:10]
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, data.qpos[3:7])
        data.qvel[3:6] = rotation.reshape(3, 3).T @ root[10:13].numpy()
        mujoco.mj_forward(model, data)
        for body, name in enumerate(world.asset.body_names):
            state = world.bodies[index, body]
            np.testing.assert_allclose(state[:3], data.body(name).xpos, atol=1e-5)
            same_rotation = abs(state[3:7].roll(1).double().numpy() @ data.body(name).xquat)
            assert same_rotation == pytest.approx(1.0, abs=1e-5)
            np.testing.assert_allclose(state[7:13], velocity_w(model, data, name), atol=1e-4)


def test_root_tensor_is_in_world_axes(make_world: Callable) -> None:
    # Lying on its left side and turning about the world's z axis, which is an axis of its own that is not z.
    world = make_world(ground=False)
    gym.refresh_actor_root_state_tensor(world.sim)
    world.root[:, 3:7] = torch.tensor([np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
    world.root[:, 7:13] = torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 4.0])
    gym.set_actor_root_state_tensor(world.sim, world.root)
    model, data = forwarded(world, 0)
    np.testing.assert_allclose(velocity_w(model, data, "pelvis"), [1.0, 2.0, 3.0, 0.0, 0.0, 4.0], atol=1e-6)
    np.testing.assert_allclose(data.qvel[3:6], [0.0, 4.0, 0.0], atol=1e-6)
    expected = world.root.clone()
    world.root.zero_()
    world.refresh()
    torch.testing.assert_close(world.root, expected)
    torch.testing.assert_close(world.bodies[:, 0], expected)


def test_bodies_are_current_after_simulate(make_world: Callable, generator: torch.Generator) -> None:
    world = make_world()
    for _ in range(5):
        gym.set_dof_position_target_tensor(world.sim, 0.3 * torch.randn(3, 29, generator=generator))
        gym.simulate(world.sim)
    world.refresh()
    for index in range(3):
        model, data = forwarded(world, index)
        np.testing.assert_allclose(world.bodies[index, :, :3], data.xpos[1:], atol=1e-5)
        for body, name in enumerate(world.asset.body_names):
            np.testing.assert_allclose(world.bodies[index, body, 7:], velocity_w(model, data, name), atol=1e-4)


def test_bodies_are_right_where_masses_differ(make_world: Callable, generator: torch.Generator) -> None:
    def load(index: int, env: Env, asset: Asset) -> None:
        bodies = gym.get_actor_rigid_body_properties(env, 0)
        bodies[15].mass += 3.0 * index
        bodies[15].com += gymapi.Vec3(0.1 * index, 0.0, 0.0)
        gym.set_actor_rigid_body_properties(env, 0, bodies, True)

    world = make_world(ground=False, after_actor=load)
    random_state(world, generator)
    world.refresh()
    model, data = forwarded(world, 2)
    for body, name in enumerate(world.asset.body_names):
        np.testing.assert_allclose(world.bodies[2, body, 7:], velocity_w(model, data, name), atol=1e-4)


def test_tensors_keep_their_memory(make_world: Callable) -> None:
    world = make_world()
    tensors = {
        "root": gymtorch.wrap_tensor(gym.acquire_actor_root_state_tensor(world.sim)),
        "dof": gymtorch.wrap_tensor(gym.acquire_dof_state_tensor(world.sim)),
        "bodies": gymtorch.wrap_tensor(gym.acquire_rigid_body_state_tensor(world.sim)),
        "forces": gymtorch.wrap_tensor(gym.acquire_net_contact_force_tensor(world.sim)),
    }
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "root": (3, 13),
        "dof": (3 * 29, 2),
        "bodies": (3 * 30, 13),
        "forces": (3 * 30, 3),
    }
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    dof_pos = tensors["dof"].view(3, 29, 2)[..., 0]
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in tensors.items()}
    for _ in range(10):
        gym.simulate(world.sim)
    assert all(torch.equal(tensor, before[name][1]) for name, tensor in tensors.items())
    world.refresh()
    for name, tensor in tensors.items():
        assert tensor.data_ptr() == before[name][0]
        assert not torch.equal(tensor, before[name][1]), name
    np.testing.assert_allclose(dof_pos, world.sim.batch.qpos[:, 7:], atol=1e-6)


def test_indexed_setters_write_their_rows_only(make_world: Callable, generator: torch.Generator) -> None:
    world = make_world(num_envs=5, ground=False)
    for _ in range(3):
        gym.simulate(world.sim)
    world.refresh()
    qpos, qvel = world.sim.batch.qpos.copy(), world.sim.batch.qvel.copy()
    warmstart = world.sim.batch.qacc_warmstart.copy()
    assert (warmstart != 0.0).any(axis=1).all()
    # All rows of the tensors are edited; the ones of environments 3 and 1 count, the third index lies beyond the count.
    world.root.copy_(torch.randn(5, 13, generator=generator))
    world.sim.states.dof.copy_(torch.randn(5 * 29, 2, generator=generator))
    env_ids = torch.tensor([3, 1, 0], dtype=torch.int32)
    gym.set_actor_root_state_tensor_indexed(world.sim, gymtorch.unwrap_tensor(world.root), env_ids, 2)
    gym.set_dof_state_tensor_indexed(world.sim, gymtorch.unwrap_tensor(world.sim.states.dof), env_ids, 2)
    written, others = [1, 3], [0, 2, 4]
    np.testing.assert_array_equal(world.sim.batch.qpos[others], qpos[others])
    np.testing.assert_array_equal(world.sim.batch.qvel[others], qvel[others])
    np.testing.assert_array_equal(world.sim.batch.qacc_warmstart[others], warmstart[others])
    np.testing.assert_array_equal(world.sim.batch.qacc_warmstart[written], 0.0)
    np.testing.assert_array_equal(world.sim.batch.qpos[written, 7:], world.dof_pos[written].double())
    np.testing.assert_array_equal(world.sim.batch.qvel[written, 6:], world.dof_vel[written].double())
    np.testing.assert_array_equal(world.sim.batch.qpos[written, :3], world.root[written, :3].double())
    np.testing.assert_allclose(np.linalg.norm(world.sim.batch.qpos[written, 3:7], axis=1), 1.0)


def test_setting_what_was_read_changes_nothing(make_world: Callable, generator: torch.Generator) -> None:
    world = make_world(ground=False)
    random_state(world, generator)
    world.refresh()
    root, bodies = world.root.clone(), world.bodies.clone()
    gym.set_actor_root_state_tensor(world.sim, world.root)
    gym.set_dof_state_tensor(world.sim, world.sim.states.dof)
    world.refresh()
    torch.testing.assert_close(world.root, root)
    torch.testing.assert_close(world.bodies, bodies, atol=1e-5, rtol=1e-5)


def test_contact_forces_of_a_standing_robot_sum_to_its_weight(make_world: Callable) -> None:
    world = make_world()
    world.stand()
    total = torch.zeros(3, 3)
    for step in range(100):
        gym.simulate(world.sim)
        if step >= 50:
            world.refresh()
            total += world.contact_forces.sum(dim=1) / 50
    weight = 9.81 * world.sim.model.body_mass.sum()
    assert 300.0 < weight < 400.0
    np.testing.assert_allclose(total[:, 2], weight, rtol=0.02)
    assert total[:, :2].abs().max() < 0.03 * weight
    feet = [world.asset.body_names.index(name) for name in load_g1().foot_bodies]
    assert (world.contact_forces[:, feet, 2] > 0.2 * weight).all()
    world.contact_forces[:, feet] = 0.0
    assert (world.contact_forces == 0.0).all()


def test_contact_forces_are_those_of_every_body(make_world: Callable, generator: torch.Generator) -> None:
    # A limp robot that has fallen into a heap: bodies touch the ground and each other.
    world = make_world(drive_mode=gymapi.DOF_MODE_EFFORT, dt=0.005, substeps=1)
    world.refresh()
    world.root[:, 3:6] = 0.3 * torch.randn(3, 3, generator=generator)
    gym.set_actor_root_state_tensor(world.sim, world.root)
    num_touching, num_self_contacts = 0, 0
    for step in range(300):
        plain = [(world.sim.batch.get_model(index), world.sim.batch.get_data(index)) for index in range(3)]
        gym.simulate(world.sim)
        if step % 20:
            continue
        gym.refresh_net_contact_force_tensor(world.sim)
        for index, (model, data) in enumerate(plain):
            mujoco.mj_step(model, data)
            expected = np.zeros((model.nbody, 3))
            for number in range(data.ncon):
                contact, wrench = data.contact[number], np.zeros(6)
                mujoco.mj_contactForce(model, data, number, wrench)
                force = contact.frame.reshape(3, 3).T @ wrench[:3]  # on the second geom, in world axes
                expected[model.geom_bodyid[contact.geom[1]]] += force
                expected[model.geom_bodyid[contact.geom[0]]] -= force
                num_self_contacts += int(model.geom_bodyid[contact.geom].min() > 0)
            np.testing.assert_allclose(world.contact_forces[index], expected[1:], atol=0.02, rtol=1e-4)
            num_touching += int((np.abs(expected[1:]).max(axis=1) > 1.0).sum())
    assert num_touching > 50 and num_self_contacts > 5


def test_environment_origins_are_part_of_the_tensors(make_world: Callable) -> None:
    world = make_world(num_envs=3, spacing=2.0)
    world.refresh()
    np.testing.assert_allclose(world.root[:, :3], [[0, 0, 0.793], [4, 0, 0.793], [0, 4, 0.793]], atol=1e-6)
    np.testing.assert_allclose(world.bodies[:, 0, :3], world.root[:, :3], atol=1e-6)
    assert list(gym.get_env_origin(world.envs[1])) == [4.0, 0.0, 0.0]


def test_a_fixed_base_stays_where_it_was_put(make_world: Callable) -> None:
    world = make_world(spacing=1.0, fix_base_link=True, drive_mode=gymapi.DOF_MODE_EFFORT)
    world.refresh()
    np.testing.assert_allclose(world.root[:, :3], [[0, 0, 0.793], [2, 0, 0.793], [0, 2, 0.793]], atol=1e-6)
    for _ in range(20):
        gym.simulate(world.sim)
    start = world.root.clone()
    world.refresh()
    torch.testing.assert_close(world.root, start)
    assert world.dof_pos.abs().max() > 0.05
    with pytest.raises(ValueError, match="fixed base"):
        gym.set_actor_root_state_tensor(world.sim, world.root)


def test_velocities_push_the_robot_that_way(make_world: Callable) -> None:
    world = make_world(ground=False)
    world.refresh()
    start = world.root.clone()
    world.root[:, 3:7] = torch.nn.functional.normalize(torch.tensor([0.1, 0.2, 0.9, 0.3]), dim=0)
    world.root[:, 7:10] = torch.tensor([1.0, -0.5, 0.0])
    gym.set_actor_root_state_tensor(world.sim, world.root)
    gym.simulate(world.sim)
    world.refresh()
    np.testing.assert_allclose(world.root[:, :2] - start[:, :2], 3 * [[0.02, -0.01]], atol=2e-3)


def test_tensors_of_the_wrong_size_are_refused(make_world: Callable) -> None:
    world = make_world()
    with pytest.raises(ValueError, match="26 elements, expected 39"):
        gym.set_actor_root_state_tensor(world.sim, torch.zeros(2, 13))
    with pytest.raises(ValueError, match="DoF state"):
        gym.set_dof_state_tensor(world.sim, torch.zeros(3, 29))
    with pytest.raises(ValueError, match="position target"):
        gym.set_dof_position_target_tensor(world.sim, torch.zeros(29))
    with pytest.raises(ValueError, match="contiguous"):
        gymtorch.unwrap_tensor(world.dof_pos)


def test_a_rotated_root_turns_its_bodies(make_world: Callable) -> None:
    world = make_world(ground=False)
    world.refresh()
    before = world.bodies[:, :, :3] - world.root[:, None, :3]
    quat = torch.nn.functional.normalize(torch.tensor([0.5, -0.3, 0.2, 0.7]), dim=0)
    world.root[:, 3:7] = quat
    gym.set_actor_root_state_tensor(world.sim, world.root)
    world.refresh()
    after = world.bodies[:, :, :3] - world.root[:, None, :3]
    torch.testing.assert_close(after, quat_rotate(quat.expand(3, 30, 4), before), atol=1e-5, rtol=1e-5)


def test_tensors_need_a_prepared_simulation(make_world: Callable) -> None:
    world = make_world(prepare=False)
    with pytest.raises(GymError, match="prepare_sim"):
        gym.acquire_actor_root_state_tensor(world.sim)
    with pytest.raises(GymError, match="prepare_sim"):
        gym.simulate(world.sim)
