from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from envs.mujoco_gym import gymapi, gymtorch
from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.simulation import NUM_THREADS_VARIABLE, Env, GymError

gym = gymapi.acquire_gym()


def plain_worlds(world: Any) -> list[tuple[mujoco.MjModel, mujoco.MjData]]:
    """Model and data of each environment, as an ordinary MuJoCo program would have them."""
    batch = world.sim.batch
    return [(batch.get_model(index), batch.get_data(index)) for index in range(batch.nsim)]


def vary(index: int, env: Env, asset: Asset) -> None:
    """Give each environment its own gains, masses and friction."""
    properties = gym.get_actor_dof_properties(env, 0)
    properties["stiffness"] *= 1.0 + 0.1 * index
    properties["damping"] *= 1.0 - 0.1 * index
    properties["armature"] *= 1.0 + 0.2 * index
    gym.set_actor_dof_properties(env, 0, properties)
    bodies = gym.get_actor_rigid_body_properties(env, 0)
    bodies[0].mass += np.array([0.5 * index])
    bodies[0].com += gymapi.Vec3(0.01 * index, 0.0, 0.0)
    gym.set_actor_rigid_body_properties(env, 0, bodies, recomputeInertia=True)
    shapes = gym.get_actor_rigid_shape_properties(env, 0)
    for shape in shapes:
        shape.friction = torch.tensor([[0.5 + 0.2 * index]])
    gym.set_actor_rigid_shape_properties(env, 0, shapes)


def test_position_drives_equal_a_plain_loop_bit_by_bit(make_world: Callable, generator: torch.Generator) -> None:
    world = make_world(after_actor=vary)
    world.stand()
    standing = world.dof_pos.clone()
    plain, num_contacts = plain_worlds(world), np.zeros(3)
    for _ in range(40):
        targets = standing + 0.2 * torch.randn(standing.shape, generator=generator)
        gym.set_dof_position_target_tensor(world.sim, gymtorch.unwrap_tensor(targets))
        gym.simulate(world.sim)
        for (model, data), target in zip(plain, targets, strict=True):
            data.ctrl[:] = target.double().numpy()
            mujoco.mj_step(model, data, nstep=4)
        num_contacts += [data.ncon for _, data in plain]
    for index, (_, data) in enumerate(plain):
        np.testing.assert_array_equal(world.sim.batch.qpos[index], data.qpos)
        np.testing.assert_array_equal(world.sim.batch.qvel[index], data.qvel)
    # The environments differ, and something happened: otherwise equality would mean little.
    assert len({data.qpos[2] for _, data in plain}) == 3
    assert (num_contacts > 20).all()


def test_forces_equal_a_plain_loop_bit_by_bit(make_world: Callable, generator: torch.Generator) -> None:
    world = make_world(drive_mode=gymapi.DOF_MODE_EFFORT, dt=0.002, substeps=1, after_actor=vary)
    plain = plain_worlds(world)
    for _ in range(100):
        torques = 5.0 * torch.randn(3, 29, generator=generator)
        gym.set_dof_actuation_force_tensor(world.sim, gymtorch.unwrap_tensor(torques))
        gym.simulate(world.sim)
        for (model, data), torque in zip(plain, torques, strict=True):
            data.qfrc_applied[6:] = torque.double().numpy()
            mujoco.mj_step(model, data)
    for index, (_, data) in enumerate(plain):
        np.testing.assert_array_equal(world.sim.batch.qpos[index], data.qpos)
        np.testing.assert_array_equal(world.sim.batch.qvel[index], data.qvel)
    assert len({data.qpos[2] for _, data in plain}) == 3


def test_the_number_of_threads_changes_nothing(make_world: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for num_threads in ("1", "2"):
        monkeypatch.setenv(NUM_THREADS_VARIABLE, num_threads)
        world = make_world(num_envs=8, after_actor=vary)
        for _ in range(20):
            gym.simulate(world.sim)
        world.refresh()
        results.append((world.sim.batch.nthread, world.root.clone(), world.contact_forces.clone()))
    assert results[0][0] == 1
    assert torch.equal(results[0][1], results[1][1]) and torch.equal(results[0][2], results[1][2])


def test_threads_that_are_no_number_are_refused(make_world: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NUM_THREADS_VARIABLE, "many")
    with pytest.raises(GymError, match=NUM_THREADS_VARIABLE):
        make_world()


def test_dt_is_divided_into_substeps(make_world: Callable) -> None:
    world = make_world(dt=0.02, substeps=5)
    assert world.sim.model.opt.timestep == pytest.approx(0.004)
    gym.simulate(world.sim)
    np.testing.assert_allclose(world.sim.batch.bind("time"), 0.02)


def test_a_position_drive_is_a_spring_with_limited_force_and_a_damper(make_world: Callable) -> None:
    # One joint alone in the air: nothing but its drive acts on it.
    world = make_world(drive_mode=gymapi.DOF_MODE_POS, ground=False, height=5.0, dt=0.0001, substeps=1)
    properties = gym.get_actor_dof_properties(world.envs[0], 0)
    joint = world.asset.dof_names.index("left_elbow_joint")
    targets = torch.zeros(3, 29)
    targets[0, joint], targets[1, joint] = 0.1, 10.0
    gym.set_dof_position_target_tensor(world.sim, targets)
    force = world.sim.batch.bind("actuator_force")
    gym.simulate(world.sim)
    assert force[0, joint] == pytest.approx(0.1 * properties["stiffness"][joint], rel=1e-6)
    assert force[1, joint] == pytest.approx(properties["effort"][joint], rel=1e-6)
    assert force[2, joint] == 0.0
    np.testing.assert_allclose(world.sim.model.dof_damping[6:], properties["damping"])


def test_targets_can_be_set_for_some_environments(make_world: Callable) -> None:
    world = make_world()
    first, second = torch.full((3, 29), 0.1), torch.full((3, 29), 0.2)
    gym.set_dof_position_target_tensor(world.sim, first)
    gym.set_dof_position_target_tensor_indexed(world.sim, second, torch.tensor([2, 1], dtype=torch.int32), 1)
    np.testing.assert_allclose(world.sim.batch.ctrl[:, 0], [0.1, 0.1, 0.2], rtol=1e-6)
    gym.set_dof_actuation_force_tensor_indexed(world.sim, second, torch.tensor([1], dtype=torch.int32), 1)
    np.testing.assert_allclose(world.sim.batch.qfrc_applied[:, 6], [0.0, 0.2, 0.0], rtol=1e-6)


def test_actuation_forces_act_until_set_anew(make_world: Callable) -> None:
    world = make_world(num_envs=2, drive_mode=gymapi.DOF_MODE_EFFORT, ground=False, dt=0.002, substeps=1)
    torques = torch.zeros(2, 29)
    torques[1, 3] = 1.0
    gym.set_dof_actuation_force_tensor(world.sim, torques)
    speeds = []
    for _ in range(2):
        gym.simulate(world.sim)
        world.refresh()
        speeds.append(world.dof_vel[1, 3].item() - world.dof_vel[0, 3].item())
    assert speeds[1] == pytest.approx(2.0 * speeds[0], rel=0.05) and speeds[0] > 0.0


def test_body_forces_act_once(make_world: Callable) -> None:
    world = make_world(num_envs=2, drive_mode=gymapi.DOF_MODE_EFFORT, ground=False, height=5.0, dt=0.002, substeps=1)
    mass = world.sim.model.body_mass.sum()
    momenta = []
    forces = torch.zeros(2, len(world.asset.body_names), 3)
    foot = gym.find_actor_rigid_body_handle(world.envs[0], 0, "left_ankle_roll_link")
    forces[1, foot, 0] = 50.0
    gym.apply_rigid_body_force_tensors(world.sim, gymtorch.unwrap_tensor(forces), None, gymapi.GLOBAL_SPACE)
    for _ in range(2):
        gym.simulate(world.sim)
        data = world.sim.batch.get_data(1)
        mujoco.mj_forward(world.sim.model, data)
        mujoco.mj_subtreeVel(world.sim.model, data)
        momenta.append(mass * data.subtree_linvel[1, 0])
    np.testing.assert_allclose(momenta, 50.0 * 0.002, rtol=1e-3)
    data = world.sim.batch.get_data(0)
    assert abs(data.qvel[0]) < 1e-9


def test_body_forces_in_local_axes_are_refused(make_world: Callable) -> None:
    world = make_world()
    with pytest.raises(GymError, match="LOCAL_SPACE"):
        gym.apply_rigid_body_force_tensors(world.sim, torch.zeros(3, 30, 3), None, gymapi.LOCAL_SPACE)


def test_gravity_can_be_changed(make_world: Callable) -> None:
    world = make_world(ground=False, dt=0.01, substeps=1, drive_mode=gymapi.DOF_MODE_EFFORT)
    params = gym.get_sim_params(world.sim)
    params.gravity = gymapi.Vec3(1.0, 0.0, -2.0)
    gym.set_sim_params(world.sim, params)
    gym.simulate(world.sim)
    world.refresh()
    np.testing.assert_allclose(world.root[:, 7:10], 3 * [[0.01, 0.0, -0.02]], atol=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("cause", ["target", "force", "root", "speed"])
def test_a_diverged_environment_reads_nan_until_it_is_set(make_world: Callable, cause: str) -> None:
    world = make_world()
    world.stand()
    healthy_root, healthy_dof = world.root.clone(), world.sim.states.dof.clone()
    if cause == "target":
        targets = world.dof_pos.clone()
        targets[1, 4] = torch.nan
        gym.set_dof_position_target_tensor(world.sim, targets)
    elif cause == "force":
        forces = torch.zeros(3, 29)
        forces[1, 4] = torch.inf
        gym.set_dof_actuation_force_tensor(world.sim, forces)
    else:
        root = world.root.clone()
        root[1, 2 if cause == "root" else 8] = torch.nan if cause == "root" else 1.0e12
        gym.set_actor_root_state_tensor(world.sim, root)
    gym.simulate(world.sim)
    world.refresh()
    assert torch.isfinite(world.root).all(dim=1).tolist() == [True, False, True]
    assert torch.isfinite(world.dof_pos).all(dim=1).tolist() == [True, False, True]
    # A robot that is set again, with sound targets and forces, goes on as if nothing had been.
    gym.set_dof_position_target_tensor(world.sim, healthy_dof[:, 0].contiguous())
    gym.set_dof_actuation_force_tensor(world.sim, torch.zeros(3, 29))
    gym.simulate(world.sim)
    world.refresh()
    assert not torch.isfinite(world.root[1]).any()
    env_ids = torch.tensor([1], dtype=torch.int32)
    gym.set_actor_root_state_tensor_indexed(world.sim, healthy_root, env_ids, 1)
    gym.set_dof_state_tensor_indexed(world.sim, healthy_dof, env_ids, 1)
    for _ in range(5):
        gym.simulate(world.sim)
    world.refresh()
    assert torch.isfinite(world.root).all()
    assert world.root[1, 2] == pytest.approx(world.root[0, 2].item(), abs=0.02)


def test_divergence_is_reported_with_its_environment(make_world: Callable) -> None:
    world = make_world()
    root = world.root.clone()
    gym.refresh_actor_root_state_tensor(world.sim)
    root[:] = world.root
    root[2, 0] = torch.nan
    gym.set_actor_root_state_tensor(world.sim, root)
    with pytest.warns(RuntimeWarning, match="environment 2: .*QPOS"):
        gym.simulate(world.sim)
