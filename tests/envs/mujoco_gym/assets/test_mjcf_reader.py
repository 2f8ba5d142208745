"""An MJCF robot keeps its bodies, joints, masses and shapes, in Isaac Gym's order."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

import cmg_ref
from cmg_ref.robots.robot import load_g1
from envs.mujoco_gym.assets.asset import AssetError, load_asset
from envs.mujoco_gym.types.parameters import AssetOptions, DofDriveMode

ASSETS = Path(cmg_ref.__file__).parent / "assets"

BRANCHES = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <geom type="plane" size="1 1 1"/>
    <body name="trunk" pos="0 0 2">
      <freejoint/>
      <inertial mass="4" pos="0.1 0 0" diaginertia="0.1 0.2 0.15"/>
      <body name="a_link" pos="0 1 0">
        <inertial mass="1" pos="0 0 0" diaginertia="0.1 0.1 0.1"/>
        <joint name="z_joint" axis="0 1 0" pos="0 0 0.1"/>
        <geom type="sphere" size="0.1"/>
      </body>
      <body name="plate" pos="0.5 0 0" quat="0.7071067811865476 0 0 0.7071067811865476">
        <geom type="box" size="0.1 0.2 0.3" mass="2" pos="0 0 0.05"/>
        <body name="b_link" pos="0 0.25 0">
          <joint name="m_joint" axis="1 0 0" range="-1 2" actuatorfrcrange="-7 7" armature="0.02" damping="0.3"
            frictionloss="0.1"/>
          <geom type="capsule" size="0.05" fromto="0 0 0 0 0 -0.3" density="500"/>
        </body>
      </body>
      <body name="c_link" pos="0 -1 0">
        <joint name="a_joint" type="slide" axis="0 0 1"/>
        <geom type="ellipsoid" size="0.1 0.2 0.1" friction="0.4" condim="1"/>
        <geom type="sphere" size="0.3" contype="0" conaffinity="0"/>
      </body>
    </body>
  </worldbody>
  <contact><exclude body1="plate" body2="c_link"/></contact>
</mujoco>
"""


@pytest.fixture()
def branches(tmp_path: Path) -> Path:
    path = tmp_path / "branches.xml"
    path.write_text(BRANCHES)
    return path


def test_g1_keeps_order_masses_and_limits() -> None:
    asset = load_asset(str(ASSETS), "g1_29dof.xml")
    robot = load_g1()
    assert tuple(asset.body_names) == robot.body_names
    assert tuple(asset.dof_names) == robot.joint_names
    assert not asset.fixed_base
    model = asset.spec().compile()
    original = mujoco.MjModel.from_xml_path(str(ASSETS / "g1_29dof.xml"))
    assert [model.body(index).name for index in range(1, model.nbody)] == asset.body_names
    assert [model.joint(index).name for index in range(1, model.njnt)] == asset.dof_names
    np.testing.assert_allclose(model.body_mass, original.body_mass)
    np.testing.assert_allclose(model.body_ipos, original.body_ipos)
    # MuJoCo sorts neither; the mass matrix says whether moments and axes belong together.
    np.testing.assert_allclose(mass_matrix(model), mass_matrix(original), atol=1e-9)
    np.testing.assert_array_equal(model.exclude_signature, original.exclude_signature)
    properties = asset.dof_properties
    np.testing.assert_allclose(properties["lower"], robot.joint_lower, rtol=1e-6)
    np.testing.assert_allclose(properties["upper"], robot.joint_upper, rtol=1e-6)
    np.testing.assert_allclose(properties["effort"], robot.effort_limit, rtol=1e-6)
    np.testing.assert_allclose(properties["velocity"], robot.velocity_limit, rtol=1e-6)
    np.testing.assert_allclose(properties["armature"], robot.armature, rtol=1e-6)


def test_g1_shapes_are_its_colliding_geoms() -> None:
    asset = load_asset(str(ASSETS), "g1_29dof.xml")
    original = mujoco.MjModel.from_xml_path(str(ASSETS / "g1_29dof.xml"))
    colliding = (original.geom_contype | original.geom_conaffinity) != 0
    np.testing.assert_array_equal(asset.shape_body, original.geom_bodyid[colliding] - 1)
    model = asset.spec().compile()
    assert [model.geom(index).name for index in range(model.ngeom)] == [f"shape_{i}" for i in range(model.ngeom)]
    for field in ("geom_type", "geom_size", "geom_pos", "geom_condim"):
        np.testing.assert_allclose(getattr(model, field), getattr(original, field)[colliding], atol=1e-12)
    friction = [shape.friction for shape in asset.rigid_shape_properties]
    np.testing.assert_allclose(friction, original.geom_friction[colliding, 0])


def test_siblings_are_sorted_by_joint(branches: Path) -> None:
    asset = load_asset(str(branches.parent), branches.name)
    assert asset.body_names == ["trunk", "c_link", "plate", "b_link", "a_link"]
    assert asset.dof_names == ["a_joint", "m_joint", "z_joint"]
    model = asset.spec().compile()
    assert [model.joint(index).name for index in range(1, model.njnt)] == asset.dof_names


@pytest.mark.parametrize("collapse", [False, True])
def test_rebuilt_robot_moves_like_the_original(branches: Path, collapse: bool) -> None:
    options = AssetOptions(collapse_fixed_joints=collapse)
    asset = load_asset(str(branches.parent), branches.name, options)
    assert ("plate" in asset.body_names) is not collapse
    model, original = asset.spec().compile(), mujoco.MjModel.from_xml_path(str(branches))
    rng = np.random.default_rng(0)
    qpos, qvel = rng.normal(size=10), rng.normal(size=9)
    acceleration = []
    for m in (model, original):
        m.dof_damping[:], m.dof_frictionloss[:] = 0.0, 0.0
        m.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        data = mujoco.MjData(m)
        data.qpos[:7], data.qvel[:6] = qpos[:7], qvel[:6]
        for index, name in enumerate(asset.dof_names):
            data.joint(name).qpos[0], data.joint(name).qvel[0] = 0.3 * qpos[7 + index], qvel[6 + index]
        mujoco.mj_forward(m, data)
        acceleration.append([*data.qacc[:6], *(data.joint(name).qacc[0] for name in asset.dof_names)])
    np.testing.assert_allclose(acceleration[0], acceleration[1], rtol=1e-8, atol=1e-8)


def test_collapsed_body_hands_on_its_exclusions(branches: Path) -> None:
    model = load_asset(str(branches.parent), branches.name, AssetOptions(collapse_fixed_joints=True)).spec().compile()
    first, second = (model.body(name).id for name in ("trunk", "c_link"))
    assert model.exclude_signature.tolist() == [(first << 16) + second]


def test_dof_properties_have_limits_and_drives(branches: Path) -> None:
    options = AssetOptions(default_dof_drive_mode=DofDriveMode.DOF_MODE_EFFORT, armature=0.5)
    asset = load_asset(str(branches.parent), branches.name, options)
    slide, hinge, _ = asset.dof_properties
    assert hinge["hasLimits"] and (hinge["lower"], hinge["upper"], hinge["effort"]) == (-1.0, 2.0, 7.0)
    assert not slide["hasLimits"] and slide["upper"] == np.finfo(np.float32).max
    assert hinge["damping"] == np.float32(0.3) and hinge["friction"] == np.float32(0.1)
    assert hinge["armature"] == np.float32(0.02), "the file's armature goes before the option's"
    assert slide["armature"] == 0.5
    assert (asset.dof_properties["driveMode"] == 3).all()
    model = asset.spec().compile()
    np.testing.assert_allclose(model.dof_armature[6:], asset.dof_properties["armature"], rtol=1e-6)
    assert not model.dof_damping.any(), "damping belongs to the drive"


def test_base_can_be_fixed_and_gravity_switched_off(branches: Path) -> None:
    asset = load_asset(str(branches.parent), branches.name, AssetOptions(fix_base_link=True, disable_gravity=True))
    model = asset.spec().compile()
    assert asset.fixed_base and model.nv == 3
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.qacc, 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name="a_link" pos', "pos", "inside 'trunk' has no name"),
        ('type="slide"', 'type="ball"', "a_joint.*neither a hinge nor a slide"),
        ("<freejoint/>", '<joint name="top"/>', "'trunk' has joints"),
        ("</worldbody>", '<body name="other"><freejoint/><geom size="1"/></body></worldbody>', "found trunk, other"),
        ('mass="4"', 'mass="heavy"', "MuJoCo cannot load it"),
    ],
)
def test_unusable_file_is_refused(branches: Path, old: str, new: str, message: str) -> None:
    assert old in BRANCHES
    branches.write_text(BRANCHES.replace(old, new))
    with pytest.raises(AssetError, match=message):
        load_asset(str(branches.parent), branches.name)


def test_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no such file"):
        load_asset(str(tmp_path), "robot.urdf")
    (tmp_path / "robot.usd").touch()
    with pytest.raises(AssetError, match="neither a URDF"):
        load_asset(str(tmp_path), "robot.usd")


def mass_matrix(model: mujoco.MjModel) -> np.ndarray:
    data = mujoco.MjData(model)
    data.qpos[7:] = np.linspace(-0.4, 0.4, model.nq - 7)
    mujoco.mj_forward(model, data)
    columns = []
    for unit in np.eye(model.nv):
        column = np.zeros(model.nv)
        mujoco.mj_mulM(model, data, column, unit)
        columns.append(column)
    return np.stack(columns)
