"""What the page shows in three dimensions: robots and their reference as capsules, on a floor that goes on for ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cmg_ref.drawing.capsules import GHOST, CapsuleBody
from envs.driving.robots import DrivenRobots, Poses
from envs.driving.session import Shown
from envs.playing.mujoco_renderer import quat_wxyz_from_z_axis

CAMERA, LOOK_AT = (2.4, -2.6, 1.35), (0.0, 0.0, 0.72)  # [m] from the robots
GHOST_OPACITY = 0.35
_FOLLOWING = 0.12  # share of the way to the robots that the view goes in a picture
_CELL = 1.0  # [m] of the floor
_SECTORS, _RINGS = 16, 8  # of a sphere
_FLOOR, _LINES = (225, 230, 236), (190, 198, 208)


class Scene:
    """Robots on a page. The view follows them by moving the world, so that the mouse goes on turning the camera.

    Args:
        server: Of viser.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._center = np.zeros(2)
        server.scene.set_up_direction("+z")
        server.initial_camera.position, server.initial_camera.look_at = CAMERA, LOOK_AT
        server.initial_camera.fov = 0.7
        server.scene.configure_default_lights(cast_shadow=True)
        self._floor = server.scene.add_grid(
            "/floor",
            infinite_grid=True,
            cell_size=0.5 * _CELL,
            section_size=_CELL,
            cell_color=_LINES,
            section_color=_LINES,
            plane_color=_FLOOR,
            plane_opacity=1.0,
            fade_distance=25.0,
            shadow_opacity=0.25,
        )

    def take(self, robots: DrivenRobots, shown: Shown) -> None:
        """Show these robots, none any more of those before."""
        self._body = CapsuleBody(robots.robot)
        color = np.tile(self._body.color, (robots.num_robots, 1))
        self._robots = _Capsules(self._server, "/robots", self._body, color, 1.0)
        ghost = np.tile(GHOST, (len(color), 1))
        self._reference = _Capsules(self._server, "/reference", self._body, ghost, GHOST_OPACITY)
        self._center = shown.poses.root_pos[:, :2].mean(dim=0).numpy()

    def draw(self, shown: Shown, follow: bool, reference: bool) -> None:
        """Put everything where it is now."""
        center = shown.poses.root_pos[:, :2].mean(dim=0).numpy()
        if follow:
            # Whoever jumps, at a reset, is not flown to.
            near = np.linalg.norm(center - self._center) < 2.0
            self._center = self._center + (_FOLLOWING if near else 1.0) * (center - self._center)
        with self._server.atomic():
            self._floor.position = (*-np.mod(self._center, _CELL), 0.0)
            self._place(self._robots, shown.poses)
            self._reference.show(reference and shown.reference is not None)
            if reference and shown.reference is not None:
                self._place(self._reference, shown.reference)

    def _place(self, capsules: _Capsules, poses: Poses) -> None:
        away = torch.from_numpy(np.append(self._center, 0.0))
        ends = self._body.place(poses.dof_pos, poses.root_pos.double() - away, poses.root_quat)
        capsules.place(*(end.reshape(-1, 3) for end in ends))


class _Capsules:
    """Capsules in two messages a picture: one with all round ends, one with all the cylinders between them."""

    def __init__(self, server: Any, name: str, body: CapsuleBody, color: np.ndarray, opacity: float) -> None:
        copies = len(color) // len(body.radius)
        radius, length = np.tile(body.radius, copies), np.tile(body.length, copies)
        shades = np.round(255.0 * color).astype(np.uint8)
        solid = opacity == 1.0
        looks: dict[str, Any] = {"opacity": None if solid else opacity, "cast_shadow": solid, "receive_shadow": solid}

        def add(part: str, mesh: tuple[np.ndarray, np.ndarray], colors: np.ndarray, scales: np.ndarray) -> Any:
            turns = np.tile((1.0, 0.0, 0.0, 0.0), (len(colors), 1))
            return server.scene.add_batched_meshes_simple(
                f"{name}/{part}",
                *mesh,
                turns,
                np.zeros((len(colors), 3)),
                batched_scales=scales,
                batched_colors=colors,
                lod="off",
                **looks,
            )

        self._ends = add("ends", _sphere(), np.tile(shades, (2, 1)), np.tile(radius, 2))
        self._between = add("between", _cylinder(), shades, np.stack((radius, radius, length), axis=1))

    def show(self, visible: bool) -> None:
        if self._ends.visible != visible:
            self._ends.visible = self._between.visible = visible

    def place(self, start: np.ndarray, end: np.ndarray) -> None:
        """Put the axes between points in the world, (num_capsules, 3) each."""
        self._ends.batched_positions = np.concatenate((start, end)).astype(np.float32)
        self._between.batched_positions = (0.5 * (start + end)).astype(np.float32)
        self._between.batched_wxyzs = quat_wxyz_from_z_axis(end - start).astype(np.float32)


def _sphere() -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) and triangles (m, 3) of a sphere of radius 1."""
    polar = np.linspace(0.0, np.pi, _RINGS + 1)
    return _turned(np.sin(polar), np.cos(polar))


def _cylinder() -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of an open cylinder of radius 1 and length 1 along z."""
    return _turned(np.array((1.0, 1.0)), np.array((0.5, -0.5)))


def _turned(radius: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The surface that a profile, from above to below, makes around the z axis."""
    angle = 2.0 * np.pi * np.arange(_SECTORS) / _SECTORS
    x, y = np.outer(radius, np.cos(angle)), np.outer(radius, np.sin(angle))
    vertices = np.stack((x, y, np.broadcast_to(height[:, None], x.shape)), axis=-1).reshape(-1, 3)
    ring, sector = (grid.ravel() for grid in np.mgrid[: len(radius) - 1, :_SECTORS])
    here, beside = ring * _SECTORS + sector, ring * _SECTORS + (sector + 1) % _SECTORS
    triangles = np.concatenate(
        (np.stack((here, here + _SECTORS, beside), axis=1), np.stack((beside, here + _SECTORS, beside + _SECTORS), 1))
    )
    return vertices, triangles
