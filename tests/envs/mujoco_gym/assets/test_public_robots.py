"""Robots of legged_gym and TWIST come out as their own code counts on, given checkouts of the two."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.mujoco_gym.assets.asset import load_asset
from envs.mujoco_gym.types.parameters import AssetOptions

A1_LEGS, ANYMAL_LEGS = ("FL", "FR", "RL", "RR"), ("LF", "LH", "RF", "RH")


@pytest.mark.parametrize(
    ("robot", "legs", "links", "joints", "mass"),
    [
        ("a1", A1_LEGS, ("hip", "thigh", "calf", "foot"), ("hip_joint", "thigh_joint", "calf_joint"), 12.454),
        ("anymal_b", ANYMAL_LEGS, ("HIP", "THIGH", "SHANK", "FOOT"), ("HAA", "HFE", "KFE"), 30.621),
        ("anymal_c", ANYMAL_LEGS, ("HIP", "THIGH", "SHANK", "FOOT"), ("HAA", "HFE", "KFE"), 52.135),
    ],
)
def test_legged_gym_quadrupeds(
    legged_gym_root: Path,
    robot: str,
    legs: tuple[str, ...],
    links: tuple[str, ...],
    joints: tuple[str, ...],
    mass: float,
) -> None:
    options = AssetOptions(collapse_fixed_joints=True, replace_cylinder_with_capsule=True)
    asset = load_asset(str(legged_gym_root / "resources" / "robots" / robot / "urdf"), f"{robot}.urdf", options)
    assert asset.body_names == ["base", *(f"{leg}_{link}" for leg in legs for link in links)]
    assert asset.dof_names == [f"{leg}_{joint}" for leg in legs for joint in joints]
    assert [index for index, name in enumerate(asset.body_names) if name.lower().endswith("foot")] == [4, 8, 12, 16]
    model = asset.spec().compile()
    assert model.body_mass.sum() == pytest.approx(mass, abs=1e-3)


def test_twist_g1(twist_root: Path) -> None:
    options = AssetOptions(replace_cylinder_with_capsule=True)
    asset = load_asset(str(twist_root / "assets" / "g1"), "g1_custom_collision_with_fixed_hand.urdf", options)
    assert (len(asset.body_names), len(asset.dof_names), len(asset.shape_body)) == (52, 23, 15)
    sides = ("left", "right")
    key_bodies = [
        f"{side}_{link}" for link in ("rubber_hand", "ankle_roll_link", "knee_link", "elbow_link") for side in sides
    ]
    indices = [asset.body_names.index(name) for name in [*key_bodies, "head_mocap"]]
    assert indices == [29, 44, 6, 14, 4, 12, 25, 40, 20]
    assert asset.body_names[8] == "pelvis_contour_link"
    asset.spec().compile()
