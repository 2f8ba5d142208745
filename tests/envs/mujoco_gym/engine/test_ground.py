"""The ground is where Isaac Gym's calls put it: planes, height fields, and meshes drawn into height fields."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
import pytest

from envs.mujoco_gym.engine.ground import Ground, rasterise_triangles
from envs.mujoco_gym.terrain_utils import SubTerrain, convert_heightfield_to_trimesh, pyramid_stairs_terrain
from envs.mujoco_gym.types.parameters import HeightFieldParams, PlaneParams, Quat, Transform, TriangleMeshParams, Vec3


def height_of(ground: Ground) -> Callable[[float, float], float]:
    """Height at which things rest on the ground, by a ray from above; NaN where there is none."""
    spec = mujoco.MjSpec()
    ground.add_to(spec)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)

    def height(x: float, y: float) -> float:
        distance = mujoco.mj_ray(
            model, data, np.array([x, y, 50.0]), np.array([0.0, 0.0, -1.0]), None, 1, -1, np.zeros(1, np.int32)
        )
        return 50.0 - distance + float(model.geom_margin[0]) if distance >= 0.0 else float("nan")

    return height


def height_field_params(num_x: int, num_y: int, **changes: object) -> HeightFieldParams:
    params = HeightFieldParams(nbRows=num_y, nbColumns=num_x, row_scale=0.25, column_scale=0.25, vertical_scale=0.005)
    for name, value in changes.items():
        setattr(params, name, value)
    return params


def mesh_params(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> TriangleMeshParams:
    return TriangleMeshParams(transform=Transform(Vec3(x, y, z)), static_friction=0.7)


def test_plane_lies_at_its_distance() -> None:
    ground = Ground.from_plane(PlaneParams(distance=0.3, static_friction=0.6))
    height = height_of(ground)
    assert ground.friction == 0.6
    assert height(0.0, 0.0) == pytest.approx(-0.3)
    assert height(100.0, -70.0) == pytest.approx(-0.3)
    tilted = height_of(Ground.from_plane(PlaneParams(normal=Vec3(-1.0, 0.0, 1.0))))
    assert tilted(2.0, 5.0) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="normal is 0 0 0"):
        Ground.from_plane(PlaneParams(normal=Vec3(0.0, 0.0, 0.0)))


def test_first_index_of_a_height_field_runs_along_x() -> None:
    samples = np.zeros((9, 5), dtype=np.int16)
    samples[6, 1] = 100  # a spike of 0.5 m at x = 1.5, y = 0.25
    samples[2, 3] = -40
    params = height_field_params(9, 5, transform=Transform(Vec3(-3.0, 2.0, 0.1)))
    for given in (samples, samples.flatten()):
        height = height_of(Ground.from_height_field(given, params))
        assert height(-3.0 + 1.5, 2.0 + 0.25) == pytest.approx(0.6, abs=1e-4)
        assert height(-3.0 + 0.5, 2.0 + 0.75) == pytest.approx(-0.1, abs=1e-4)
        assert height(-3.0 + 1.0, 2.0 + 0.5) == pytest.approx(0.1, abs=1e-4)
        assert np.isnan(height(-3.1, 2.5)) and np.isnan(height(-0.9, 2.5)) and np.isnan(height(-2.0, 3.1))
        assert not np.isnan(height(-1.05, 2.95))


def test_height_field_may_have_different_scales() -> None:
    samples = np.arange(4, dtype=np.int16)[:, None] * np.full((1, 3), 10, dtype=np.int16)
    params = height_field_params(4, 3, column_scale=1.0, row_scale=2.0)
    height = height_of(Ground.from_height_field(samples, params))
    assert height(1.5, 3.9) == pytest.approx(1.5 * 0.05, abs=1e-4)


def test_flat_height_field_and_mesh_are_planes() -> None:
    field = Ground.from_height_field(np.full((4, 4), 20, dtype=np.int16), height_field_params(4, 4))
    vertices = np.array([[0.0, 0.0, 0.2], [1.0, 0.0, 0.2], [0.0, 1.0, 0.2]])
    mesh = Ground.from_triangle_mesh(vertices.flatten(), np.array([0, 1, 2], dtype=np.uint32), mesh_params(z=-0.1))
    assert field.heights is None and mesh.heights is None
    assert height_of(field)(50.0, 50.0) == pytest.approx(0.1)
    assert height_of(mesh)(50.0, 50.0) == pytest.approx(0.1)
    assert mesh.friction == 0.7


def test_mesh_of_a_height_field_gives_it_back() -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(-20, 20, size=(30, 18)).astype(np.int16)
    vertices, triangles = convert_heightfield_to_trimesh(samples, 0.25, 0.005)
    ground = Ground.from_triangle_mesh(vertices.flatten(), triangles.flatten(), mesh_params(-2.0, 1.0, 0.3))
    assert ground.heights is not None
    np.testing.assert_allclose(ground.heights, samples * 0.005, atol=1e-6)
    np.testing.assert_allclose(ground.cell, 0.25, rtol=1e-6)
    height = height_of(ground)
    for x, y in ((0, 0), (12, 3), (29, 17)):
        inside = np.clip([x, y], 0.01, [28.99, 16.99]) * 0.25
        assert height(inside[0] - 2.0, inside[1] + 1.0) == pytest.approx(0.3 + samples[x, y] * 0.005, abs=0.02)


def test_steep_faces_made_vertical_give_the_same_field() -> None:
    terrain = SubTerrain(width=60, length=44, vertical_scale=0.005, horizontal_scale=0.1)
    samples = pyramid_stairs_terrain(terrain, 0.3, 0.12, 1.0).height_field_raw
    vertices, triangles = convert_heightfield_to_trimesh(samples, 0.1, 0.005, slope_threshold=0.75)
    plain, _ = convert_heightfield_to_trimesh(samples, 0.1, 0.005)
    assert (vertices != plain).any(), "the faces of these stairs are to be vertical"
    ground = Ground.from_triangle_mesh(vertices, triangles, mesh_params())
    assert ground.heights is not None
    np.testing.assert_allclose(ground.heights, samples * 0.005, atol=1e-6)


def test_irregular_mesh_is_drawn_at_its_analytic_heights() -> None:
    """A square pyramid of slope 1/2 from a few large triangles that share no grid."""
    half, top = 3.07, 1.535
    vertices = np.array(
        [[-half, -half, 0.0], [half, -half, 0.0], [half, half, 0.0], [-half, half, 0.0], [0.013, -0.027, top]]
    )
    triangles = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    ground = Ground.from_triangle_mesh(vertices, triangles, mesh_params())
    assert ground.heights is not None
    x = ground.point[0] + ground.cell[0] * np.arange(ground.heights.shape[0])
    y = ground.point[1] + ground.cell[1] * np.arange(ground.heights.shape[1])
    planes = []
    for corners in vertices[triangles]:
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        slope = -normal[:2] / normal[2]
        planes.append(slope[0] * (x[:, None] - corners[0, 0]) + slope[1] * (y[None, :] - corners[0, 1]))
    # A pyramid is the lowest of the planes of its sides.
    np.testing.assert_allclose(ground.heights, np.min(planes, axis=0), atol=1e-4)


def test_upper_surface_counts_and_walls_and_holes_do_no_harm() -> None:
    table = [[2.0, 2.0, 1.0], [6.0, 2.0, 1.0], [6.0, 6.0, 1.0], [2.0, 6.0, 1.0]]
    floor = [[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [10.0, 8.0, 0.0]]  # half of the rectangle is a hole
    wall = [[2.0, 2.0, 0.0]]
    vertices = np.array(floor + table + wall)
    triangles = np.array([[0, 1, 2], [3, 4, 5], [5, 6, 3], [3, 4, 7]])
    heights = rasterise_triangles(vertices, triangles, (11, 9))
    expected = np.zeros((11, 9))
    expected[2:7, 2:7] = 1.0
    np.testing.assert_allclose(heights, expected, atol=1e-9)
    shifted = rasterise_triangles(vertices - np.array([0.0, 0.0, 3.0]), triangles, (11, 9))
    np.testing.assert_allclose(shifted, expected - 3.0, atol=1e-9)


def test_ball_rests_on_a_slope_of_the_field() -> None:
    samples = np.zeros((21, 21), dtype=np.int16)
    samples[10:] = 40  # a step of 0.2 m up in x
    spec = mujoco.MjSpec()
    Ground.from_height_field(samples, height_field_params(21, 21)).add_to(spec)
    for name, place in (("low", [1.0, 2.5, 0.3]), ("high", [4.0, 2.5, 0.5])):
        body = spec.worldbody.add_body(name=name, pos=place)
        body.add_freejoint()
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.1, 0.0, 0.0], condim=6, friction=[1.0, 0.1, 0.1])
    model = spec.compile()
    data = mujoco.MjData(model)
    for _ in range(1000):
        mujoco.mj_step(model, data)
    assert data.body("low").xpos[2] == pytest.approx(0.1, abs=2e-3)
    assert data.body("high").xpos[2] == pytest.approx(0.3, abs=2e-3)


def test_small_feet_do_not_sink_into_bumps() -> None:
    """Balls of 5 mm, as under the soles of Unitree's model, that land at 1 m/s; without a skin a fifth of them sink."""
    random = np.random.default_rng(0)
    samples = np.kron(random.integers(0, 8, (20, 20)), np.ones((3, 3))).astype(np.int16)
    ground = Ground.from_height_field(samples, height_field_params(60, 60, row_scale=0.1, column_scale=0.1))
    spec = mujoco.MjSpec()
    ground.add_to(spec)
    for x, y in random.uniform(0.5, 5.3, (100, 2)):
        body = spec.worldbody.add_body(pos=[x, y, 0.05], mass=17.0, inertia=[0.1, 0.1, 0.1], explicitinertial=True)
        for axis in np.eye(3):
            body.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.005, 0.0, 0.0], contype=2, conaffinity=1)
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qvel[2::3] = -1.0
    data.qfrc_applied[0::3] = 40.0
    for _ in range(500):
        mujoco.mj_step(model, data)
    height = height_of(ground)
    depths = [height(x, y) - (z - 0.005) for x, y, z in data.geom_xpos[1:]]
    assert max(depths) < 0.001


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="got 8 samples for nbColumns x nbRows = 3 x 3"):
        Ground.from_height_field(np.zeros(8, dtype=np.int16), height_field_params(3, 3))
    with pytest.raises(ValueError, match="have to be positive"):
        Ground.from_height_field(np.zeros((3, 3), dtype=np.int16), height_field_params(3, 3, row_scale=0.0))
    turned = Transform(Vec3(), Quat.from_euler_zyx(0.0, 0.0, 0.5))
    with pytest.raises(ValueError, match="turns it"):
        Ground.from_height_field(np.eye(3, dtype=np.int16), height_field_params(3, 3, transform=turned))
    corners = np.eye(3)
    with pytest.raises(ValueError, match="index of no vertex"):
        Ground.from_triangle_mesh(corners, np.array([0, 1, 3]), mesh_params())
    with pytest.raises(ValueError, match="three numbers"):
        Ground.from_triangle_mesh(np.zeros(4), np.array([0, 1, 2]), mesh_params())
    with pytest.raises(ValueError, match="without extent"):
        Ground.from_triangle_mesh(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1]]), np.array([0, 1, 2]), mesh_params())
