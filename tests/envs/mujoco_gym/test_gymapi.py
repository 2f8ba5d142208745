from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from envs.mujoco_gym import gymapi
from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.simulation import Env, GymError

gym = gymapi.acquire_gym()


def make_params() -> gymapi.SimParams:
    params = gymapi.SimParams()
    params.up_axis = gymapi.UP_AXIS_Z
    return params


@pytest.mark.parametrize("name", ["acquire_jacobian_tensor", "create_viewer", "create_camera_sensor", "no_such_call"])
def test_an_unsupported_call_is_named(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"gym\.{name} is not supported"):
        getattr(gym, name)
    assert not hasattr(gym, name)


def test_drawing_is_told_to_run_headless() -> None:
    with pytest.raises(AttributeError, match="headless"):
        gym.create_viewer(None, None)


def test_there_is_one_gym() -> None:
    assert gymapi.acquire_gym() is gym


def test_constants_have_isaac_gym_s_values() -> None:
    modes = gymapi.DOF_MODE_NONE, gymapi.DOF_MODE_POS, gymapi.DOF_MODE_VEL, gymapi.DOF_MODE_EFFORT
    assert modes == (0, 1, 2, 3)
    assert (gymapi.UP_AXIS_Y, gymapi.UP_AXIS_Z) == (0, 1)
    assert (gymapi.ENV_SPACE, gymapi.LOCAL_SPACE, gymapi.GLOBAL_SPACE) == (0, 1, 2)


@pytest.mark.parametrize("cls", [gymapi.SimParams, gymapi.AssetOptions, gymapi.PlaneParams, gymapi.MujocoParams])
def test_unknown_attributes_are_refused(cls: type) -> None:
    with pytest.raises(AttributeError, match="frictoin"):
        cls().frictoin = 1.0


def test_vectors_take_numbers_of_any_kind() -> None:
    vector = gymapi.Vec3(torch.tensor(1.0), np.array([2.0]), 3)
    vector += gymapi.Vec3(1.0, 1.0, 1.0)
    vector.x = torch.tensor([7.0])
    assert list(vector) == [7.0, 3.0, 4.0]
    assert (vector - gymapi.Vec3(7.0, 3.0, 0.0)).length() == 4.0


def test_rotations() -> None:
    yaw = gymapi.Quat.from_euler_zyx(0.0, 0.0, np.pi / 2)
    assert list(yaw.rotate(gymapi.Vec3(1.0, 0.0, 0.0))) == pytest.approx([0.0, 1.0, 0.0])
    # Roll first, then pitch, then yaw, about the fixed axes.
    quat = gymapi.Quat.from_euler_zyx(np.pi / 2, np.pi / 2, 0.0)
    assert list(quat.rotate(gymapi.Vec3(0.0, 1.0, 0.0))) == pytest.approx([1.0, 0.0, 0.0])
    pose = gymapi.Transform(gymapi.Vec3(1.0, 2.0, 3.0), quat)
    there_and_back = pose.inverse() * pose
    assert list(there_and_back.p) == pytest.approx([0.0, 0.0, 0.0])
    assert abs(there_and_back.r.w) == pytest.approx(1.0)


def test_indices_of_names(make_world: Callable) -> None:
    world = make_world(num_envs=1, prepare=False)
    env = world.envs[0]
    index = world.asset.body_names.index("torso_link")
    assert gym.find_asset_rigid_body_index(world.asset, "torso_link") == index
    assert gym.find_actor_rigid_body_handle(env, 0, "torso_link") == index
    assert gym.find_actor_rigid_body_handle(env, 0, "tail") == -1
    assert gym.find_actor_dof_handle(env, 0, "waist_yaw_joint") == world.asset.dof_names.index("waist_yaw_joint")
    counts = gym.get_asset_rigid_body_count(world.asset), gym.get_asset_dof_count(world.asset)
    assert counts == (30, 29)
    with pytest.raises(GymError, match="no actor 1"):
        gym.get_actor_dof_properties(env, 1)


def test_simulations_that_cannot_be_are_refused() -> None:
    with pytest.raises(GymError, match="UP_AXIS_Z"):
        gym.create_sim(0, -1, gymapi.SIM_PHYSX, gymapi.SimParams())
    with pytest.raises(GymError, match="SIM_PHYSX"):
        gym.create_sim(0, -1, gymapi.SIM_FLEX, make_params())
    params = make_params()
    params.substeps = 0
    with pytest.raises(GymError, match="substeps=0"):
        gym.create_sim(0, -1, gymapi.SIM_PHYSX, params)


def test_scenes_that_cannot_be_are_refused(make_world: Callable) -> None:
    sim = gym.create_sim(0, -1, gymapi.SIM_PHYSX, make_params())
    with pytest.raises(GymError, match="create_env and create_actor"):
        gym.prepare_sim(sim)
    env = gym.create_env(sim, gymapi.Vec3(), gymapi.Vec3(), 1)
    with pytest.raises(GymError, match="environment 0 has no actor"):
        gym.prepare_sim(sim)
    asset = make_world(num_envs=1, prepare=False).asset
    gym.create_actor(env, asset, gymapi.Transform(), "robot", 0, 0)
    with pytest.raises(GymError, match="has an actor already"):
        gym.create_actor(env, asset, gymapi.Transform(), "robot", 0, 0)
    other = gym.create_env(sim, gymapi.Vec3(), gymapi.Vec3(), 1)
    gym.create_actor(other, asset, gymapi.Transform(), "robot", 1, 1)
    with pytest.raises(GymError, match=r"environment 1: .*collision filter"):
        gym.prepare_sim(sim)
    gym.add_ground(sim, gymapi.PlaneParams())
    with pytest.raises(GymError, match="ground already"):
        gym.add_ground(sim, gymapi.PlaneParams())


def test_building_ends_with_prepare_sim(make_world: Callable) -> None:
    world = make_world()
    with pytest.raises(GymError, match="after prepare_sim"):
        gym.create_env(world.sim, gymapi.Vec3(), gymapi.Vec3(), 1)
    with pytest.raises(GymError, match="after prepare_sim"):
        gym.prepare_sim(world.sim)


@pytest.mark.parametrize(("name", "value"), [("solver", "TGS"), ("cone", "round")])
def test_unknown_mujoco_settings_are_refused(make_world: Callable, name: str, value: str) -> None:
    world = make_world(prepare=False)
    setattr(world.sim.params.mujoco, name, value)
    with pytest.raises(ValueError, match=f"mujoco.{name} is '{value}'"):
        gym.prepare_sim(world.sim)


def test_iterations_against_slip_are_mujocos(make_world: Callable) -> None:
    assert make_world().sim.model.opt.noslip_iterations == 0
    world = make_world(prepare=False)
    world.sim.params.mujoco.noslip_iterations = 3
    gym.prepare_sim(world.sim)
    assert world.sim.model.opt.noslip_iterations == 3


def test_default_settings_are_those_of_the_fast_path(make_world: Callable) -> None:
    option = make_world().sim.model.opt
    assert (option.solver, option.iterations, option.integrator) == (0, 10, 0)  # PGS, Euler


def make_height_field() -> tuple[np.ndarray, gymapi.HeightFieldParams]:
    """A step: 0 m where x < 0 and 0.5 m where x > 0.2, on 4 m x 6 m around the origin."""
    samples = np.zeros((21, 31), dtype=np.int16)
    samples[11:] = 100
    params = gymapi.HeightFieldParams()
    params.nbColumns, params.nbRows = samples.shape
    params.column_scale = params.row_scale = 0.2
    params.vertical_scale = 0.005
    params.transform.p.x, params.transform.p.y = -2.0, -3.0
    return samples, params


@pytest.mark.parametrize("kind", ["heightfield", "trimesh"])
def test_robots_stand_on_rough_ground(make_world: Callable, kind: str) -> None:
    def place(index: int, env: Env, asset: Asset) -> None:
        env.origin = gymapi.Vec3(-1.0, 2.0, 0.0) if index == 0 else gymapi.Vec3(1.0, -2.0, 0.5)

    world = make_world(num_envs=2, ground=False, before_actor=place, prepare=False)
    samples, params = make_height_field()
    if kind == "heightfield":
        gym.add_heightfield(world.sim, samples.flatten(), params)
    else:
        x, y = np.meshgrid(0.2 * np.arange(21), 0.2 * np.arange(31), indexing="ij")
        vertices = np.stack((x, y, samples * 0.005), axis=-1).reshape(-1, 3).astype(np.float32)
        corner = (np.arange(20)[:, None] * 31 + np.arange(30)).reshape(-1, 1)
        triangles = np.concatenate((corner + np.array([0, 31, 32]), corner + np.array([0, 32, 1]))).astype(np.uint32)
        mesh = gymapi.TriangleMeshParams()
        mesh.nb_vertices, mesh.nb_triangles = len(vertices), len(triangles)
        mesh.transform = params.transform
        gym.add_triangle_mesh(world.sim, vertices.flatten(), triangles.flatten(), mesh)
    gym.prepare_sim(world.sim)
    world.stand()
    for _ in range(75):
        gym.simulate(world.sim)
    world.refresh()
    np.testing.assert_allclose(world.root[1, 2] - world.root[0, 2], 0.5, atol=0.01)
    assert (world.root[:, 2] - torch.tensor([0.0, 0.5]) > 0.7).all()
    weight = 9.81 * world.sim.model.body_mass.sum()
    np.testing.assert_allclose(world.contact_forces[..., 2].sum(dim=1), weight, rtol=0.1)
