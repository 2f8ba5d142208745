"""A URDF robot becomes what Isaac Gym makes of it: order, merged links, capsules, limits, masses."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import mujoco
import numpy as np
import pytest

from envs.mujoco_gym.assets.asset import Asset, AssetError, load_asset
from envs.mujoco_gym.types.parameters import AssetOptions

ROBOT = """
<robot name="walker">
  <link name="base"/>
  <joint name="base_to_trunk" type="fixed">
    <parent link="base"/><child link="trunk"/><origin xyz="0 0 0.1" rpy="0 0 0.3"/>
  </joint>
  <link name="trunk">
    <inertial>
      <origin xyz="0.02 -0.01 0.03" rpy="0.4 -0.2 0.7"/><mass value="5"/>
      <inertia ixx="0.05" ixy="0.004" ixz="-0.003" iyy="0.06" iyz="0.002" izz="0.04"/>
    </inertial>
    <visual><geometry><mesh filename="nowhere.dae"/></geometry></visual>
    <collision><geometry><box size="0.4 0.2 0.1"/></geometry></collision>
  </link>
  <joint name="right_hip" type="revolute">
    <parent link="trunk"/><child link="alpha_thigh"/><origin xyz="0.1 -0.2 0" rpy="0.1 0.2 -0.3"/>
    <axis xyz="0 2 0"/><limit lower="-1" upper="0.5" effort="30" velocity="12"/>
    <dynamics damping="0.2" friction="0.1"/>
  </joint>
  <link name="alpha_thigh">
    <inertial><mass value="1.5"/><inertia ixx="0.01" ixy="0" ixz="0" iyy="0.02" iyz="0" izz="0.015"/></inertial>
    <collision><origin xyz="0 0 -0.1"/><geometry><cylinder radius="0.03" length="0.2"/></geometry></collision>
  </link>
  <joint name="right_foot_fixed" type="fixed" dont_collapse="true">
    <parent link="alpha_thigh"/><child link="right_foot"/><origin xyz="0 0 -0.25"/>
  </joint>
  <link name="right_foot">
    <inertial><mass value="0.1"/><inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/></inertial>
    <collision><geometry><sphere radius="0.04"/></geometry></collision>
  </link>
  <joint name="left_hip" type="continuous">
    <parent link="trunk"/><child link="zeta_thigh"/><origin xyz="0.1 0.2 0"/><axis xyz="1 0 0"/>
    <limit lower="-1" upper="1" effort="20" velocity="10"/>
  </joint>
  <link name="zeta_thigh">
    <collision><origin rpy="0.5 0 0"/><geometry><box size="0.1 0.1 0.3"/></geometry></collision>
  </link>
  <joint name="left_slide" type="prismatic">
    <parent link="zeta_thigh"/><child link="slider"/><origin rpy="0 0.6 0"/>
    <limit lower="0" upper="0" effort="1" velocity="1"/>
    <mimic joint="left_hip"/>
  </joint>
  <link name="slider">
    <inertial><mass value="0.2"/><inertia ixx="1e-3" ixy="0" ixz="0" iyy="1e-3" iyz="0" izz="1e-3"/></inertial>
  </link>
  <joint name="camera_joint" type="fixed">
    <parent link="slider"/><child link="camera"/><origin xyz="0.05 0 0.02" rpy="1 0 0"/>
  </joint>
  <link name="camera">
    <inertial>
      <origin xyz="0 0.01 0"/><mass value="0.3"/><inertia ixx="1e-3" ixy="0" ixz="0" iyy="2e-3" iyz="0" izz="2e-3"/>
    </inertial>
  </link>
  <transmission name="none"/>
</robot>
"""

ARM = """
<robot name="arm">
  <link name="world"/>
  <joint name="free" type="floating"><parent link="world"/><child link="hand"/><origin xyz="0 0 3"/></joint>
  <link name="hand">
    <inertial><mass value="2"/><inertia ixx="1e-3" ixy="0" ixz="0" iyy="1e-3" iyz="0" izz="1e-3"/></inertial>
  </link>
  <joint name="finger_joint" type="revolute">
    <parent link="hand"/><child link="finger"/><limit lower="-1" upper="1"/>
  </joint>
  <link name="finger">
    <inertial><mass value="1"/><inertia ixx="1e-3" ixy="0" ixz="0" iyy="1e-3" iyz="0" izz="1e-3"/></inertial>
    MESH
  </link>
</robot>
"""


def load(folder: Path, text: str = ROBOT, **options: object) -> Asset:
    (folder / "robot.urdf").write_text(text)
    return load_asset(str(folder), "robot.urdf", AssetOptions(**options))  # type: ignore[arg-type]


def test_bodies_and_joints_are_sorted_by_joint_name(tmp_path: Path) -> None:
    asset = load(tmp_path)
    assert asset.body_names == ["base", "trunk", "zeta_thigh", "slider", "camera", "alpha_thigh", "right_foot"]
    assert asset.dof_names == ["left_hip", "left_slide", "right_hip"]
    assert asset.shape_body.tolist() == [1, 2, 5, 6]
    model = asset.spec().compile()
    assert [model.body(index).name for index in range(1, model.nbody)] == asset.body_names
    assert [model.joint(index).name for index in range(1, model.njnt)] == asset.dof_names
    assert [model.geom(f"shape_{i}").bodyid[0] - 1 for i in range(4)] == asset.shape_body.tolist()


def test_fixed_joints_are_merged_unless_marked(tmp_path: Path) -> None:
    asset = load(tmp_path, collapse_fixed_joints=True)
    assert asset.body_names == ["base", "zeta_thigh", "slider", "alpha_thigh", "right_foot"]
    assert asset.shape_body.tolist() == [0, 1, 3, 4]
    model = asset.spec().compile()
    # Two bodies of 0.2 and 0.3 kg, the second 0.05 and 0.02 m off and turned by one radian about x.
    com = 0.6 * np.array([0.05, 0.01 * np.cos(1.0), 0.02 + 0.01 * np.sin(1.0)])
    np.testing.assert_allclose(model.body("slider").mass, 0.5)
    np.testing.assert_allclose(model.body("slider").ipos, com, atol=1e-12)


@pytest.mark.parametrize("collapse", [False, True])
def test_dynamics_equal_those_of_mujocos_own_reader(tmp_path: Path, collapse: bool) -> None:
    asset = load(tmp_path, collapse_fixed_joints=collapse, fix_base_link=True)
    assert asset.fixed_base
    # MuJoCo looks for the meshes of visuals, and makes a mimicking joint a constraint; Isaac Gym's joints are all free.
    text = re.sub(r"<visual>.*</visual>|<mimic .*/>", "", ROBOT)
    spec = mujoco.MjSpec.from_string(text)
    values = {"left_hip": (0.4, 1.0), "left_slide": (-0.1, 0.5), "right_hip": (-0.6, -2.0)}
    acceleration, mass_matrix = [], []
    for model in (asset.spec().compile(), spec.compile()):
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT | mujoco.mjtDisableBit.mjDSBL_LIMIT
        model.dof_damping[:], model.dof_frictionloss[:] = 0.0, 0.0
        data = mujoco.MjData(model)
        for name, (position, velocity) in values.items():
            data.joint(name).qpos[0], data.joint(name).qvel[0] = position, velocity
        mujoco.mj_forward(model, data)
        acceleration.append([data.joint(name).qacc[0] for name in values])
        column = np.zeros(3)
        unit = np.array([float(model.joint(index).name == "right_hip") for index in range(3)])
        mujoco.mj_mulM(model, data, column, unit)
        mass_matrix.append(column @ unit)
    np.testing.assert_allclose(acceleration[0], acceleration[1], rtol=1e-6)
    np.testing.assert_allclose(mass_matrix[0], mass_matrix[1], rtol=1e-6)


def test_merging_keeps_the_motion_of_a_floating_robot(tmp_path: Path) -> None:
    results = []
    for collapse in (False, True):
        model = load(tmp_path, collapse_fixed_joints=collapse).spec().compile()
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        model.dof_frictionloss[:] = 0.0
        data = mujoco.MjData(model)
        data.qvel[:] = np.linspace(-1.0, 1.0, model.nv)
        mujoco.mj_forward(model, data)
        results.append(data.qacc.copy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-9, atol=1e-9)


def test_cylinders_become_capsules_of_the_same_length(tmp_path: Path) -> None:
    for replace in (False, True):
        model = load(tmp_path, replace_cylinder_with_capsule=replace).spec().compile()
        geom = model.geom("shape_2")
        assert geom.type[0] == (mujoco.mjtGeom.mjGEOM_CAPSULE if replace else mujoco.mjtGeom.mjGEOM_CYLINDER)
        np.testing.assert_allclose(geom.size[:2], [0.03, 0.1])
        np.testing.assert_allclose(geom.pos, [0.0, 0.0, -0.1])


def test_limits_and_drives(tmp_path: Path) -> None:
    asset = load(tmp_path, armature=0.01)
    continuous, slide, hinge = asset.dof_properties
    assert not continuous["hasLimits"] and continuous["lower"] == -np.finfo(np.float32).max
    assert continuous["effort"] == 20.0 and continuous["velocity"] == 10.0
    assert not slide["hasLimits"], "lower = upper means no limit"
    assert hinge["hasLimits"] and (hinge["lower"], hinge["upper"]) == (-1.0, 0.5)
    assert (hinge["damping"], hinge["friction"]) == (np.float32(0.2), np.float32(0.1))
    model = asset.spec().compile()
    assert model.joint("right_hip").limited[0] and not model.joint("left_slide").limited[0]
    np.testing.assert_allclose(model.joint("right_hip").axis, [0.0, 1.0, 0.0])
    np.testing.assert_allclose(model.joint("left_slide").axis, [1.0, 0.0, 0.0])
    np.testing.assert_allclose(model.dof_armature[6:], 0.01)


def test_armature_can_go_into_the_links(tmp_path: Path) -> None:
    plain, heavier = (
        load(tmp_path, armature=value, use_physx_armature=False).spec().compile() for value in (0.0, 0.01)
    )
    assert not heavier.dof_armature.any()
    weighs = plain.body_mass > 0.0
    np.testing.assert_allclose(heavier.body_inertia[weighs], plain.body_inertia[weighs] + 0.01)


def test_link_without_inertia_gets_it_from_its_shapes(tmp_path: Path) -> None:
    link = load(tmp_path, density=200.0).spec().compile().body("zeta_thigh")
    np.testing.assert_allclose(link.mass, 0.1 * 0.1 * 0.3 * 200.0)
    side, length = 0.1, 0.3
    moments = link.mass * np.array([side**2 + length**2, side**2 + length**2, 2.0 * side**2]) / 12.0
    np.testing.assert_allclose(np.sort(link.inertia), np.sort(moments))


def test_floating_joint_frees_its_child_and_massless_links_move(tmp_path: Path) -> None:
    asset = load(tmp_path, ARM.replace("MESH", ""))
    assert asset.body_names == ["hand", "finger"] and asset.dof_names == ["finger_joint"]
    massless = ARM.replace("MESH", "").replace('<mass value="2"/>', '<mass value="0"/>')
    with pytest.warns(UserWarning, match="'hand' moves but has no mass"):
        asset = load(tmp_path, massless)
    model = asset.spec().compile()
    assert model.nv == 7
    np.testing.assert_allclose(model.body_mass[1:], [1e-3, 1.0])


def test_link_called_world_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="'world' has a name that MuJoCo keeps for itself"):
        load(tmp_path, ARM.replace("MESH", "").replace("floating", "fixed"))


@pytest.mark.parametrize("name", ["shapes/block.stl", "package://arm_description/shapes/block.stl"])
def test_mesh_collides_by_its_hull(tmp_path: Path, name: str) -> None:
    corners = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 2.0) for z in (0.0, 3.0)])
    write_stl(tmp_path / "shapes" / "block.stl", corners)
    mesh = f"""<collision><origin xyz="0 0 1" rpy="0 0 1.5707963267948966"/>
        <geometry><mesh filename="{name}" scale="0.1 0.1 0.1"/></geometry></collision>"""
    asset = load(tmp_path, ARM.replace("MESH", mesh))
    model = asset.spec().compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    geom = data.geom("shape_0")
    vertices = model.mesh_vert @ geom.xmat.reshape(3, 3).T + geom.xpos
    expected = 0.1 * corners @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + [0.0, 0.0, 1.0]
    assert len(vertices) == 8
    for corner in expected:
        assert np.abs(vertices - corner).sum(axis=1).min() < 1e-6


def test_missing_mesh_is_refused_or_left_out(tmp_path: Path) -> None:
    text = ARM.replace("MESH", '<collision><geometry><mesh filename="gone.stl"/></geometry></collision>')
    with pytest.raises(AssetError, match=r"'finger' needs the file 'gone.stl' for a collision shape, which is missing"):
        load(tmp_path, text)
    with pytest.warns(UserWarning, match=r"1 collision shape.*gone.stl"):
        asset = load(tmp_path, text, skip_missing_meshes=True)
    assert len(asset.shape_body) == 0


def test_foreign_mesh_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "block.dae").touch()
    text = ARM.replace("MESH", '<collision><geometry><mesh filename="block.dae"/></geometry></collision>')
    with pytest.raises(AssetError, match=r"block.dae'; MuJoCo reads .stl"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</robot>", "", "is not valid XML"),
        ('<link name="slider">', "<link>", "<link> has no name"),
        ('child link="slider"', 'child link="sledge"', "left_slide'> has the child 'sledge', which is no link"),
        ('child link="slider"', 'child link="trunk"', "gives link 'trunk' a second parent"),
        ('parent link="zeta_thigh"', 'parent link="camera"', "'slider' is part of a closed loop"),
        ('type="prismatic"', 'type="planar"', "left_slide'> is of type 'planar'"),
        ('type="prismatic"', 'type="floating"', "'slider' floats inside the robot"),
        ('xyz="0 2 0"', 'xyz="0 0 0"', "right_hip'> has the axis 0 0 0"),
        ('<mass value="1.5"/>', '<mass value="much"/>', "<mass> of 'alpha_thigh' has value='much'"),
        ('<mass value="1.5"/>', "", "<inertial> of 'alpha_thigh' has no <mass>"),
        ('<mass value="1.5"/>', '<mass value="-1"/>', "'alpha_thigh' has a negative mass"),
        ('rpy="0.4 -0.2 0.7"', 'rpy="0.4 1e400 0.7"', "<origin> of 'trunk' has rpy='0.4 1e400 0.7'"),
        ("<sphere", "<cone", "<cone> of 'right_foot' is no shape"),
        ('<sphere radius="0.04"/>', '<sphere radius="0"/>', "MuJoCo cannot simulate it: .*size 0 must be"),
        ('<link name="base"/>', '<link name="base"/><link name="moon"/>', "root links base, moon"),
        ('<joint name="right_hip"', '<joint name="left_hip"', "joint name 'left_hip' occurs twice"),
    ],
)
def test_unusable_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ROBOT
    with pytest.raises(AssetError, match=message):
        load(tmp_path, ROBOT.replace(old, new))


def write_stl(path: Path, corners: np.ndarray) -> None:
    """Write the box of eight corners (ordered by x, y, z) as a binary STL."""
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(bytes(80) + struct.pack("<I", len(triangles)))
        for face in triangles:
            file.write(struct.pack("<12fH", 0.0, 0.0, 0.0, *corners[list(face)].ravel(), 0))
