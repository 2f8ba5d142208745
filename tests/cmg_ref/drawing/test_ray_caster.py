from __future__ import annotations

import numpy as np
import pytest
import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.drawing.capsules import figures
from cmg_ref.drawing.ray_caster import Camera, Figure, ShadowMap, SoftwareRenderer, cast_rays
from cmg_ref.robots.kinematics import FootKinematics
from cmg_ref.robots.robot import load_g1

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


def figure(
    *capsules: tuple[tuple[float, ...], tuple[float, ...], float], color: tuple[float, ...], opacity: float = 1.0
) -> Figure:
    start, end, radius = zip(*capsules)
    return Figure(np.array(start), np.array(end), np.array(radius), np.array([color] * len(capsules)), opacity)


def standing_clip(num_frames: int = 2) -> MotionClip:
    robot = load_g1()
    dof_pos = robot.default_dof_pos.expand(num_frames, -1)
    upright = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).expand(num_frames, 4)
    feet = FootKinematics(robot, dtype=torch.float64)
    height = feet.radius - float(feet(dof_pos)[..., 2].min())
    root_pos = torch.tensor([[0.0, 0.0, height]], dtype=torch.float64).expand(num_frames, 3)
    return MotionClip("standing", 50.0, robot.joint_names, dof_pos, root_pos, upright)


def distance_to_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    axis = end - start
    along = np.clip((points - start) @ axis / max(float(axis @ axis), 1e-12), 0.0, 1.0)
    return np.linalg.norm(points - start - along[..., None] * axis, axis=-1)


@pytest.mark.parametrize("seed", range(6))
def test_rays_end_on_the_surface_and_misses_pass_by(seed: int) -> None:
    generator = np.random.default_rng(seed)
    start, end = generator.uniform(-0.5, 0.5, (2, 3))
    if seed == 0:
        end = start  # a sphere
    radius = generator.uniform(0.02, 0.4)
    origin = np.array((3.0, -1.0, 0.5))
    aim = generator.uniform(-1.0, 1.0, (4000, 3))
    direction = (aim - origin) / np.linalg.norm(aim - origin, axis=-1, keepdims=True)
    distance = cast_rays(origin, direction, start, end, radius)
    hit = np.isfinite(distance)
    assert 0.005 < hit.mean() < 0.995
    points = origin + distance[hit, None] * direction[hit]
    assert distance_to_segment(points, start, end) == pytest.approx(radius, abs=1e-6)
    # Along each ray, finely: never inside before the hit, and a miss never comes nearer than the radius.
    steps = np.linspace(0.0, 6.0, 3001)
    walked = origin + steps[:, None, None] * direction[None, ::20]
    clearance = distance_to_segment(walked, start, end) - radius
    before = steps[:, None] < np.where(hit, distance, np.inf)[::20] - 1e-6
    assert clearance[before].min() > -1e-9


def test_parallel_rays_agree_with_rays_from_one_point() -> None:
    start, end = np.array((0.1, 0.2, 0.0)), np.array((-0.2, 0.1, 0.5))
    origins = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 3)) + np.array((0.0, 0.0, 3.0))
    down = np.array((0.0, 0.0, -1.0))
    parallel = cast_rays(origins, down, start, end, 0.15)
    single = [cast_rays(origin, down[None], start, end, 0.15)[0] for origin in origins]
    assert np.isfinite(parallel).any()
    assert np.isinf(parallel).any()
    assert np.array_equal(np.isfinite(parallel), np.isfinite(single))
    assert parallel[np.isfinite(parallel)] == pytest.approx(np.array(single)[np.isfinite(single)])
    # Straight along the axis, where the cylinder's equation has no solution.
    assert cast_rays(
        np.array((0.0, 0.0, 3.0)), down[None], np.zeros(3), np.array((0.0, 0.0, 1.0)), 0.2
    ) == pytest.approx(1.8)


def test_thin_capsules_far_away_keep_their_shape_in_float32() -> None:
    start, end, radius = np.array((14.0, 0.3, -0.2)), np.array((14.1, -0.2, 0.3)), 0.013
    aim = np.random.default_rng(0).uniform(-0.04, 0.04, (4000, 3)) + np.array((1.0, 0.0, 0.0))
    direction = aim / np.linalg.norm(aim, axis=-1, keepdims=True)
    exact = cast_rays(np.zeros(3), direction, start, end, radius)
    origin, direction, start, end = (
        np.asarray(values, dtype=np.float32) for values in (np.zeros(3), direction, start, end)
    )
    rough = cast_rays(origin, direction, start, end, radius)
    both = np.isfinite(exact) & np.isfinite(rough)
    assert both.sum() > 20
    assert (np.isfinite(exact) != np.isfinite(rough)).sum() <= 1
    assert np.abs(exact[both] - rough[both]).max() < 0.002


def color_mask(picture: np.ndarray, channel: int) -> np.ndarray:
    channels = picture.astype(int)
    others = [index for index in range(3) if index != channel]
    return channels[..., channel] > 60 + channels[..., others].max(axis=-1)


def test_things_appear_where_the_camera_sees_them() -> None:
    camera = Camera(azimuth=30.0, elevation=-10.0, distance=4.0, height=0.7, field_of_view=40.0)
    renderer = SoftwareRenderer(320, 240, camera)
    axes, position = camera.axes(), camera.offset()
    for place in ((0.0, 0.0, 0.7), (0.3, 0.5, 0.2), (-0.6, 0.1, 1.2)):
        at = (place[0] + 5.0, place[1] - 2.0, place[2])
        picture = renderer.draw((5.0, -2.0), [figure((at, at, 0.05), color=RED)])
        rows, columns = np.nonzero(color_mask(picture, 0))
        right, down, forward = axes @ (np.array(place) - position)
        focal = 120.0 / np.tan(np.deg2rad(20.0))
        assert columns.mean() + 0.5 == pytest.approx(160.0 + focal * right / forward, abs=0.6)
        assert rows.mean() + 0.5 == pytest.approx(120.0 + focal * down / forward, abs=0.6)
        assert len(rows) == pytest.approx(np.pi * (focal * 0.05 / forward) ** 2, rel=0.2)


def test_camera_sees_up_above_and_left_on_the_left() -> None:
    right, down, forward = Camera(azimuth=0.0, elevation=0.0).axes()
    assert forward == pytest.approx((1.0, 0.0, 0.0), abs=1e-6)
    assert right == pytest.approx((0.0, -1.0, 0.0), abs=1e-6)
    assert down == pytest.approx((0.0, 0.0, -1.0), abs=1e-6)


def test_the_nearer_capsule_hides_the_other_in_any_order() -> None:
    camera = Camera(azimuth=0.0, elevation=0.0, distance=3.0, height=0.7)
    near = figure(((-0.5, 0.0, 0.7), (-0.5, 0.0, 0.7), 0.1), color=RED)
    far = figure(((0.5, 0.0, 0.7), (0.5, 0.0, 0.7), 0.1), color=BLUE)
    renderer = SoftwareRenderer(200, 150, camera)
    one, other = renderer.draw((0.0, 0.0), [near, far]), renderer.draw((0.0, 0.0), [far, near])
    assert np.array_equal(one, other)
    assert color_mask(one, 0)[75, 100]
    assert not color_mask(one, 2).any()
    for first, second in ((near, far), (far, near)):  # as parts of one robot
        start, end, radius, color = (np.concatenate(pair) for pair in zip(first[:4], second[:4]))
        assert np.array_equal(renderer.draw((0.0, 0.0), [Figure(start, end, radius, color)]), one)


def test_ghost_lets_the_background_through_but_stays_behind_the_solid() -> None:
    camera = Camera(azimuth=0.0, elevation=0.0, distance=3.0, height=0.7)
    renderer = SoftwareRenderer(200, 150, camera)
    at = ((0.0, 0.3, 0.7), (0.0, 0.3, 0.7), 0.15)
    empty = renderer.draw((0.0, 0.0), [])
    solid = renderer.draw((0.0, 0.0), [figure(at, color=RED)])
    ghost = renderer.draw((0.0, 0.0), [figure(at, color=RED, opacity=0.5)])
    inside = color_mask(solid, 0)
    assert inside.any()
    assert (ghost[inside][:, 2].astype(int) > solid[inside][:, 2]).all()
    assert (np.abs(ghost[inside].astype(int) - empty[inside]).sum(axis=-1) > 20).all()
    behind = figure(((1.0, 0.0, 0.7), (1.0, 0.0, 0.7), 0.1), color=RED, opacity=0.5)
    front = figure(((0.0, 0.0, 0.7), (0.0, 0.0, 0.7), 0.2), color=BLUE)
    assert np.array_equal(renderer.draw((0.0, 0.0), [front, behind]), renderer.draw((0.0, 0.0), [front]))


def test_shadow_falls_away_from_the_light() -> None:
    towards_light = np.array((0.48, 0.36, 0.8))
    center = np.array((0.1, -0.2, 0.8))
    shadow = ShadowMap([figure((tuple(center), tuple(center), 0.1), color=RED)], towards_light)
    middle = (center - towards_light * center[2] / towards_light[2])[:2]
    # On the way of the light over the floor the shadow reaches 1 / 0.8 times as far as across it.
    ahead, across = np.array((0.8, 0.6)), np.array((-0.6, 0.8))
    inside = [middle, middle + 0.085 * across, middle + 0.105 * ahead, middle - 0.105 * ahead]
    outside = [center[:2], middle + 0.125 * across, middle + 0.145 * ahead, middle - 0.145 * ahead, center[:2] + 50.0]
    assert (shadow.on_floor(np.array(inside, dtype=np.float32)) > 0.7).all()
    assert (shadow.on_floor(np.array(outside, dtype=np.float32)) < 0.3).all()
    behind, before = center - 0.3 * towards_light, center + 0.12 * towards_light
    assert shadow.on_surface(behind[None]) == pytest.approx(0.0)
    assert shadow.on_surface(before[None]) == pytest.approx(1.0)


def test_picture_moves_with_the_robot() -> None:
    """Two whole checkers further the same scene looks the same."""
    renderer = SoftwareRenderer(160, 120)
    clip = standing_clip()
    here = renderer.draw((0.0, 0.0), [figures(clip, load_g1())[0]])
    clip.root_pos = clip.root_pos + torch.tensor([100.0, -7.0, 0.0])
    there = renderer.draw((100.0, -7.0), [figures(clip, load_g1())[0]])
    # Some edge pixels may fall on the other side by rounding.
    assert (np.abs(here.astype(int) - there) > 8).mean() < 0.002


def test_robot_has_left_and_right_and_stands_on_the_floor() -> None:
    frame = figures(standing_clip(), load_g1())[0]
    lowest = np.minimum(frame.start[:, 2], frame.end[:, 2]) - frame.radius
    assert lowest.min() == pytest.approx(0.0, abs=0.003)
    assert 1.2 < (np.maximum(frame.start[:, 2], frame.end[:, 2]) + frame.radius).max() < 1.4
    blue = frame.color[:, 2] > frame.color[:, 0] + 0.3
    orange = frame.color[:, 0] > frame.color[:, 2] + 0.3
    assert blue.sum() == orange.sum() > 5
    assert (frame.start[blue, 1] > 0.0).all()
    assert (frame.start[orange, 1] < 0.0).all()
