from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from envs.mujoco_gym import gymapi
from envs.mujoco_gym.assets.asset import Asset
from envs.mujoco_gym.engine.simulation import Env, GymError

gym = gymapi.acquire_gym()

# A block whose centre of mass is the origin of its frame, which is where MuJoCo takes short cuts.
BLOCK = """
<mujoco>
  <worldbody>
    <body name="block" pos="0 0 1">
      <freejoint/>
      <geom name="bottom" type="box" size="0.1 0.1 0.02" mass="2"/>
      <body name="flap" pos="0.1 0 0">
        <joint name="hinge" axis="0 1 0"/>
        <inertial pos="0 0 0" mass="0.1" diaginertia="1e-3 1e-3 1e-3"/>
      </body>
    </body>
  </worldbody>
</mujoco>"""


@pytest.fixture
def block(tmp_path: Path) -> dict:
    (tmp_path / "block.xml").write_text(BLOCK)
    return {"root": tmp_path, "file": "block.xml", "drive_mode": gymapi.DOF_MODE_NONE}


def test_friction_of_each_environment_is_the_mean_with_the_ground(make_world: Callable, block: dict) -> None:
    frictions = [0.1, 0.5, 0.9]

    def grease(index: int, env: Env, asset: Asset) -> None:
        # As legged_gym does it: the asset is edited just before each actor is made.
        shapes = gym.get_asset_rigid_shape_properties(asset)
        for shape in shapes:
            shape.friction = torch.tensor([frictions[index]])
        gym.set_asset_rigid_shape_properties(asset, shapes)

    world = make_world(before_actor=grease, ground_friction=0.3, height=0.02, dt=0.005, substeps=1, **block)
    mass = world.sim.model.body_mass.sum()
    forces = torch.zeros(3, 2, 3)
    forces[:, 0, 0] = 0.5 * mass * 9.81
    for _ in range(40):
        gym.apply_rigid_body_force_tensors(world.sim, forces, None, gymapi.GLOBAL_SPACE)
        gym.simulate(world.sim)
    world.refresh()
    # Means of 0.2, 0.4 and 0.6 under a pull of half the weight: two blocks slide, the third stays.
    np.testing.assert_allclose(world.root[:, 7], np.array([0.3, 0.1, 0.0]) * 9.81 * 0.2, atol=0.05)


def test_friction_can_be_changed_while_it_runs(make_world: Callable, block: dict) -> None:
    world = make_world(height=0.02, ground_friction=1.0, **block)
    gym.simulate(world.sim)
    shapes = gym.get_actor_rigid_shape_properties(world.envs[1], 0)
    shapes[0].friction = 0.2
    gym.set_actor_rigid_shape_properties(world.envs[1], 0, shapes)
    gym.simulate(world.sim)
    frictions = [world.sim.batch.get_model(index).geom("shape_0").friction[0] for index in range(3)]
    np.testing.assert_allclose(frictions, [1.0, 0.6, 1.0])


@pytest.mark.parametrize("late", [False, True], ids=["at creation", "while it runs"])
def test_masses_of_each_environment(make_world: Callable, late: bool) -> None:
    def load(index: int, env: Env, asset: Asset) -> None:
        bodies = gym.get_actor_rigid_body_properties(env, 0)
        bodies[0].mass += np.array([2.0 * index])  # an array of one element, as legged_gym has it
        gym.set_actor_rigid_body_properties(env, 0, bodies, recomputeInertia=True)

    world = make_world(after_actor=None if late else load)
    if late:
        gym.simulate(world.sim)
        for index, env in enumerate(world.envs):
            load(index, env, world.asset)
    world.stand()
    total = torch.zeros(3)
    for step in range(100):
        gym.simulate(world.sim)
        if step >= 50:
            gym.refresh_net_contact_force_tensor(world.sim)
            total += world.contact_forces[..., 2].sum(dim=1) / 50
    weight = 9.81 * (world.sim.model.body_mass.sum() + np.array([0.0, 2.0, 4.0]))
    np.testing.assert_allclose(total, weight, rtol=0.01)
    inertia = [world.sim.batch.get_model(index).body("pelvis").inertia for index in range(3)]
    mass = [world.sim.batch.get_model(index).body("pelvis").mass for index in range(3)]
    np.testing.assert_allclose(inertia[2] / inertia[0], (mass[2] / mass[0]) * np.ones(3))
    # MuJoCo's constants follow the masses.
    assert world.sim.batch.get_model(2).body_subtreemass[1] == pytest.approx(weight[2] / 9.81)


def test_a_moved_centre_of_mass_moves_neither_body_nor_shape(make_world: Callable, block: dict) -> None:
    def shift(index: int, env: Env, asset: Asset) -> None:
        bodies = gym.get_actor_rigid_body_properties(env, 0)
        bodies[0].com += gymapi.Vec3(0.05 * index, 0.0, 0.0)
        gym.set_actor_rigid_body_properties(env, 0, bodies, recomputeInertia=True)

    world = make_world(after_actor=shift, ground=False, height=1.0, dt=0.01, substeps=1, **block)
    params = gym.get_sim_params(world.sim)
    params.gravity = gymapi.Vec3(0.0, 0.0, 0.0)
    gym.set_sim_params(world.sim, params)
    for index in range(3):
        model, data = world.sim.batch.get_model(index), world.sim.batch.get_data(index)
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(data.xpos[1], [0.0, 0.0, 1.0])
        np.testing.assert_allclose(data.xipos[1], [0.05 * index, 0.0, 1.0], atol=1e-12)
        np.testing.assert_allclose(data.geom_xpos[0], [0.0, 0.0, 1.0])
    # A force through the old centre turns the block the more, the further the new one is away.
    forces = torch.zeros(3, 2, 3)
    torques = torch.zeros(3, 2, 3)
    forces[..., 0, 2] = 1.0
    torques[:, 0, 1] = torch.tensor([0.0, 0.05, 0.1])  # forces act at the centre of mass: carry this one back
    gym.apply_rigid_body_force_tensors(world.sim, forces, torques, gymapi.GLOBAL_SPACE)
    gym.simulate(world.sim)
    world.refresh()
    turned = world.root[:, 11].numpy()
    assert turned[1] > 1e-4 and turned[2] > 1.5 * turned[1] and abs(turned[0]) < 0.1 * turned[1]


def test_gains_of_each_environment(make_world: Callable) -> None:
    def stiffen(index: int, env: Env, asset: Asset) -> None:
        properties = gym.get_actor_dof_properties(env, 0)
        properties["stiffness"] *= 1.0 + index
        properties["damping"] *= 1.0 + 2.0 * index
        properties["effort"] = 1.0e6
        gym.set_actor_dof_properties(env, 0, properties)

    world = make_world(after_actor=stiffen, ground=False, dt=0.001, substeps=1)
    stiffness = gym.get_actor_dof_properties(world.envs[0], 0)["stiffness"]
    gym.set_dof_position_target_tensor(world.sim, torch.full((3, 29), 0.1))
    force = world.sim.batch.bind("actuator_force")
    gym.simulate(world.sim)
    for index in range(3):
        np.testing.assert_allclose(force[index], 0.1 * stiffness * (1 + index), rtol=1e-6)
        damping = world.sim.batch.get_model(index).dof_damping[6:]
        np.testing.assert_allclose(damping, 0.04 * stiffness * (1 + 2 * index), rtol=1e-6)
    properties = gym.get_actor_dof_properties(world.envs[1], 0)
    properties["stiffness"] = 7.0
    gym.set_actor_dof_properties(world.envs[1], 0, properties)
    gym.simulate(world.sim)
    kp = [world.sim.batch.get_model(index).actuator_gainprm[0, 0] for index in range(3)]
    np.testing.assert_allclose(kp, [stiffness[0], 7.0, 3.0 * stiffness[0]])


def test_limits_and_armature_come_from_the_properties(make_world: Callable) -> None:
    def narrow(index: int, env: Env, asset: Asset) -> None:
        properties = gym.get_actor_dof_properties(env, 0)
        properties["lower"][:], properties["upper"][:] = -0.1 * (1 + index), 0.1
        properties["armature"][:] = 0.01 * (1 + index)
        properties["friction"][:] = 0.2
        gym.set_actor_dof_properties(env, 0, properties)

    world = make_world(after_actor=narrow)
    for index in range(3):
        model = world.sim.batch.get_model(index)
        np.testing.assert_allclose(model.jnt_range[1:], 29 * [[-0.1 * (1 + index), 0.1]], rtol=1e-6)
        np.testing.assert_allclose(model.dof_armature, 6 * [0.0] + 29 * [0.01 * (1 + index)], rtol=1e-6)
        np.testing.assert_allclose(model.dof_frictionloss, 6 * [0.0] + 29 * [0.2], rtol=1e-6)
    gym.set_dof_position_target_tensor(world.sim, torch.full((3, 29), -1.0))
    for _ in range(50):
        gym.simulate(world.sim)
    world.refresh()
    elbow = world.asset.dof_names.index("left_elbow_joint")
    np.testing.assert_allclose(world.dof_pos[:, elbow], [-0.1, -0.2, -0.3], atol=0.05)


def test_armature_may_be_edited_in_the_asset_s_properties(make_world: Callable) -> None:
    # legged_gym gets the properties once, edits them for the first environment and passes them for all.
    shared: dict = {}

    def set_shared(index: int, env: Env, asset: Asset) -> None:
        properties = shared.setdefault("dof", gym.get_asset_dof_properties(asset))
        if index == 0:
            for dof in range(len(properties)):
                properties["armature"][dof] = 0.05
        gym.set_actor_dof_properties(env, 0, properties)

    world = make_world(after_actor=set_shared, drive_mode=gymapi.DOF_MODE_EFFORT)
    np.testing.assert_allclose(world.sim.batch.get_model(2).dof_armature[6:], 0.05, rtol=1e-6)
    assert world.sim.batch.expanded("dof_armature") is None  # nothing differs, so nothing is stored for each


def test_self_collision_is_the_filter_of_the_actor(make_world: Callable) -> None:
    # Shins pressed through each other.
    forces = []
    for self_collision in (True, False):
        world = make_world(self_collision=self_collision, ground=False)
        world.refresh()
        for side, sign in (("left", -1.0), ("right", 1.0)):
            world.dof_pos[:, world.asset.dof_names.index(f"{side}_hip_roll_joint")] = 0.4 * sign
        gym.set_dof_state_tensor(world.sim, world.sim.states.dof)
        gym.simulate(world.sim)
        gym.refresh_net_contact_force_tensor(world.sim)
        forces.append(world.contact_forces.abs().max().item())
    assert forces[0] > 1.0 and forces[1] == 0.0


def test_wrong_properties_are_refused(make_world: Callable) -> None:
    world = make_world(prepare=False)
    env = world.envs[0]
    with pytest.raises(ValueError, match="28 DoF properties for 29"):
        gym.set_actor_dof_properties(env, 0, gym.get_actor_dof_properties(env, 0)[:28])
    with pytest.raises(ValueError, match="rigid body properties"):
        gym.set_actor_rigid_body_properties(env, 0, gym.get_actor_rigid_body_properties(env, 0)[1:])
    with pytest.raises(ValueError, match="shape properties"):
        gym.set_actor_rigid_shape_properties(env, 0, [])
    bodies = gym.get_actor_rigid_body_properties(env, 0)
    bodies[3].mass = -1.0
    with pytest.raises(ValueError, match="left_hip_yaw_link"):
        gym.set_actor_rigid_body_properties(env, 0, bodies)
    properties = gym.get_actor_dof_properties(env, 0)
    properties["driveMode"][2] = gymapi.DOF_MODE_VEL
    with pytest.raises(ValueError, match=r"left_hip_yaw_joint.*DOF_MODE_VEL"):
        gym.set_actor_dof_properties(env, 0, properties)


def test_position_targets_need_a_position_drive(make_world: Callable) -> None:
    world = make_world(drive_mode=gymapi.DOF_MODE_EFFORT)
    with pytest.raises(GymError, match="DOF_MODE_POS"):
        gym.set_dof_position_target_tensor(world.sim, torch.zeros(3, 29))
    properties = gym.get_actor_dof_properties(world.envs[0], 0)
    properties["driveMode"][:] = gymapi.DOF_MODE_POS
    with pytest.raises(GymError, match="before prepare_sim"):
        gym.set_actor_dof_properties(world.envs[0], 0, properties)
