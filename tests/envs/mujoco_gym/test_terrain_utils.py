"""Pieces of rough ground have the shapes that their names and arguments say."""

from __future__ import annotations

import numpy as np
import pytest

from envs.mujoco_gym import terrain_utils
from envs.mujoco_gym.terrain_utils import SubTerrain


@pytest.fixture()
def terrain() -> SubTerrain:
    np.random.seed(3)
    return SubTerrain("piece", width=81, length=61, vertical_scale=0.005, horizontal_scale=0.1)


def metres(terrain: SubTerrain) -> np.ndarray:
    assert terrain.height_field_raw.dtype == np.int16 and terrain.height_field_raw.shape == (81, 61)
    return terrain.height_field_raw * terrain.vertical_scale


def test_random_heights_are_uniform_steps(terrain: SubTerrain) -> None:
    terrain_utils.random_uniform_terrain(terrain, -0.05, 0.1, step=0.05)
    values, counts = np.unique(terrain.height_field_raw, return_counts=True)
    assert values.tolist() == [-10, 0, 10, 20]
    assert counts.min() > 0.2 * counts.sum()


def test_random_heights_are_interpolated_between_coarse_points(terrain: SubTerrain) -> None:
    terrain_utils.random_uniform_terrain(terrain, -0.2, 0.2, step=0.005, downsampled_scale=0.5)
    heights = metres(terrain)
    assert -0.2 <= heights.min() < -0.12 and 0.12 < heights.max() <= 0.2
    # 0.5 m and at most 0.4 m between random points: neighbours differ by a fifth of it, and rounding.
    assert np.abs(np.diff(heights, axis=0)).max() < 0.4 / 5 + 0.015
    assert np.abs(np.diff(heights, n=2, axis=0)).mean() < 0.5 * np.abs(np.diff(heights, axis=0)).mean()


def test_same_seed_same_terrain(terrain: SubTerrain) -> None:
    terrain_utils.random_uniform_terrain(terrain, -0.1, 0.1, step=0.005)
    other = SubTerrain("other", 81, 61, 0.005, 0.1)
    np.random.seed(3)
    terrain_utils.random_uniform_terrain(other, -0.1, 0.1, step=0.005)
    np.testing.assert_array_equal(terrain.height_field_raw, other.height_field_raw)


def test_slope_rises_along_x(terrain: SubTerrain) -> None:
    heights = metres(terrain_utils.sloped_terrain(terrain, slope=0.3))
    np.testing.assert_allclose(heights, np.broadcast_to(0.03 * np.arange(81)[:, None], (81, 61)), atol=0.006)


@pytest.mark.parametrize("slope", [0.4, -0.4])
def test_pyramid_has_sides_of_the_slope_and_a_platform(terrain: SubTerrain, slope: float) -> None:
    heights = metres(terrain_utils.pyramid_sloped_terrain(terrain, slope, platform_size=2.0))
    np.testing.assert_allclose(heights[:20, 30], slope * 0.1 * np.arange(20), atol=0.006)
    platform = heights[31:50, 21:40]
    assert np.ptp(platform) == 0.0 and platform[0, 0] == pytest.approx(slope * 2.0, abs=0.05)
    assert np.abs(heights).max() == abs(platform[0, 0])
    assert not heights[0].any() and not heights[:, -1].any()


def test_obstacles_have_four_heights_and_leave_the_platform_free(terrain: SubTerrain) -> None:
    heights = metres(terrain_utils.discrete_obstacles_terrain(terrain, 0.2, 0.5, 1.5, 60, platform_size=2.0))
    assert np.unique(np.round(heights, 3)).tolist() == [-0.2, -0.1, 0.0, 0.1, 0.2]
    assert not heights[31:50, 21:40].any()


def test_waves_repeat(terrain: SubTerrain) -> None:
    heights = metres(terrain_utils.wave_terrain(terrain, num_waves=3, amplitude=0.3))
    assert heights.max() == pytest.approx(0.3, abs=0.01) and heights.min() == pytest.approx(-0.3, abs=0.01)
    np.testing.assert_allclose(heights[:27], heights[27:54], atol=0.006)


def test_stairs_rise_along_x(terrain: SubTerrain) -> None:
    heights = metres(terrain_utils.stairs_terrain(terrain, step_width=0.3, step_height=0.15))
    np.testing.assert_allclose(heights, np.broadcast_to(0.15 * (np.arange(81) // 3 + 1)[:, None], (81, 61)))


@pytest.mark.parametrize("step_height", [0.1, -0.1])
def test_pyramid_stairs_end_at_the_platform(terrain: SubTerrain, step_height: float) -> None:
    heights = metres(terrain_utils.pyramid_stairs_terrain(terrain, 0.4, step_height, platform_size=2.0))
    np.testing.assert_allclose(heights[:20, 30], step_height * (np.arange(20) // 4))
    # Six metres hold five steps of 0.4 m on each side and a platform of two.
    top = np.abs(heights).max()
    assert top == pytest.approx(0.5)
    assert (np.abs(heights) == top).sum(axis=1).max() >= 20


def test_stepping_stones_have_gaps_of_the_given_width(terrain: SubTerrain) -> None:
    terrain_utils.stepping_stones_terrain(terrain, 0.5, 0.2, max_height=0.05, platform_size=1.0, depth=-3.0)
    heights = metres(terrain)
    hole = heights < -1.0
    np.testing.assert_allclose(heights[hole], -3.0)
    assert np.abs(heights[~hole]).max() <= 0.05
    assert not heights[36:45, 26:35].any()
    # Rows of stones 5 cells wide along x with 2 cells between them.
    assert hole[:, 5:7].all() and not hole[:, 0:5].all(axis=0).any()
    ends = np.flatnonzero(np.diff(hole[:, 0].astype(int)))
    assert set(np.diff(ends).tolist()) == {5, 2}


def test_triangles_carry_the_heights() -> None:
    raw = np.array([[0, 2, 4], [6, 8, 10]], dtype=np.int16)
    vertices, triangles = terrain_utils.convert_heightfield_to_trimesh(raw, 0.5, 0.1)
    assert vertices.dtype == np.float32 and triangles.dtype == np.uint32
    np.testing.assert_allclose(vertices[4], [0.5, 0.5, 0.8])
    assert vertices.shape == (6, 3) and triangles.shape == (4, 3)
    corners = vertices[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] > 0.0).all()
    assert 0.5 * normals[:, 2].sum() == pytest.approx(0.5, rel=1e-6), "the triangles cover the rectangle once"


def test_steep_faces_become_vertical() -> None:
    raw = np.zeros((6, 4), dtype=np.int16)
    raw[3:] = 10
    vertices, _ = terrain_utils.convert_heightfield_to_trimesh(raw, 0.1, 0.01, slope_threshold=0.5)
    x = vertices[:, 0].reshape(6, 4)
    np.testing.assert_allclose(x[:, 1], [0.0, 0.1, 0.3, 0.3, 0.4, 0.5], atol=1e-7)
    down, _ = terrain_utils.convert_heightfield_to_trimesh(raw[::-1], 0.1, 0.01, slope_threshold=0.5)
    np.testing.assert_allclose(down[:, 0].reshape(6, 4)[:, 1], [0.0, 0.1, 0.2, 0.2, 0.4, 0.5], atol=1e-7)
    gentle, _ = terrain_utils.convert_heightfield_to_trimesh(raw, 0.1, 0.01, slope_threshold=1.5)
    np.testing.assert_allclose(gentle[:, 0].reshape(6, 4)[:, 1], 0.1 * np.arange(6), atol=1e-7)
