"""The ground: an infinite plane, or a height field made from samples or from triangles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.mujoco_gym.types.parameters import HeightFieldParams, PlaneParams, Transform, TriangleMeshParams

__all__ = ["Ground", "rasterise_triangles"]

# Ground whose heights differ by less is a plane, which is faster to collide with [m].
_FLATNESS = 1.0e-4
# Grid of a mesh that does not lie on one itself [m]; legged_gym's terrains have this one.
_DEFAULT_CELL = 0.1
# Thickness of the height field below its lowest point [m].
_BASE = 1.0
# A height field is made of prisms, and what has sunk into one is pushed out by its nearest side, often into the next
# one: small feet vanish in it as in quicksand. So it lies so much lower, and pushes from so far away [m].
SKIN = 0.02
_MOST_POINTS = 100_000_000
# Grid points this far outside of a triangle still belong to it [cells]: vertices are float32.
_MARGIN = 1.0e-3
# Points that are worked on at a time when triangles are drawn into the grid.
_CHUNK = 2_000_000


@dataclass
class Ground:
    """What robots stand on.

    Attributes:
        friction: Coefficient of friction of the ground alone.
        normal: Direction that points out of a plane, (3,).
        point: A point of a plane; the corner with the smallest x and y of a height field, with z = 0, (3,) in metres.
        heights: Heights above `point`, first along x, then along y, (num_x, num_y) in metres; None for a plane.
        cell: Distance of the samples along x and y in metres.
    """

    friction: float
    normal: np.ndarray
    point: np.ndarray
    heights: np.ndarray | None = None
    cell: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def from_plane(cls, params: PlaneParams) -> Ground:
        """A plane at `normal . x = -distance`.

        Raises:
            ValueError: If the normal is zero.
        """
        normal = np.array(list(params.normal))
        length = np.linalg.norm(normal)
        if length == 0.0:
            raise ValueError("PlaneParams.normal is 0 0 0; it has to point out of the ground")
        normal = normal / length
        return cls(params.static_friction, normal, -params.distance * normal)

    @classmethod
    def from_height_field(cls, samples: np.ndarray, params: HeightFieldParams) -> Ground:
        """A grid of heights.

        Args:
            samples: int16 heights in units of `vertical_scale`, (nbColumns, nbRows) or flattened: the first index runs
                along x in steps of `column_scale`, the second along y in steps of `row_scale`.
            params: Sizes, scales, friction, and the place of the first sample.

        Raises:
            ValueError: If the number of samples is not nbRows x nbColumns, or a scale is not positive.
        """
        shape = (params.nbColumns, params.nbRows)
        if np.size(samples) != shape[0] * shape[1] or min(shape) < 2:
            raise ValueError(
                f"add_heightfield got {np.size(samples)} samples for nbColumns x nbRows = {shape[0]} x {shape[1]}, "
                "which have to agree and be at least 2 x 2"
            )
        if min(params.column_scale, params.row_scale, params.vertical_scale) <= 0.0:
            raise ValueError("column_scale, row_scale and vertical_scale of HeightFieldParams have to be positive")
        heights = np.reshape(samples, shape).astype(np.float64) * params.vertical_scale
        cell = (params.column_scale, params.row_scale)
        return cls._from_heights(heights, cell, _place(params.transform), params.static_friction)

    @classmethod
    def from_triangle_mesh(cls, vertices: np.ndarray, triangles: np.ndarray, params: TriangleMeshParams) -> Ground:
        """Triangles seen from above: a plane if they are flat, otherwise a height field.

        MuJoCo has no static meshes that are not convex. Overhangs are filled, and vertical faces become ramps one cell
        wide. A mesh whose vertices lie on a regular grid keeps its grid; for another one the cells are 0.1 m wide.

        Args:
            vertices: Points in metres, (num_vertices, 3) or flattened.
            triangles: Indices of the corners, (num_triangles, 3) or flattened.
            params: Place and friction.

        Raises:
            ValueError: If the arrays do not have these shapes, an index is out of range, or the mesh has no extent.
        """
        if np.size(vertices) == 0 or np.size(vertices) % 3 or np.size(triangles) == 0 or np.size(triangles) % 3:
            raise ValueError(
                "add_triangle_mesh needs three numbers for each vertex and three indices for each triangle"
            )
        vertices = np.reshape(vertices, (-1, 3)).astype(np.float64)
        triangles = np.reshape(triangles, (-1, 3)).astype(np.int64)
        if triangles.min() < 0 or triangles.max() >= len(vertices) or not np.isfinite(vertices).all():
            raise ValueError("add_triangle_mesh got a vertex that is not finite, or an index of no vertex")
        point = _place(params.transform)
        if np.ptp(vertices[:, 2]) < _FLATNESS:
            point[2] += vertices[0, 2]
            return cls(params.static_friction, np.array([0.0, 0.0, 1.0]), point)
        first, extent = vertices[:, :2].min(axis=0), np.ptp(vertices[:, :2], axis=0)
        if extent.min() <= 0.0:
            raise ValueError("add_triangle_mesh got a mesh without extent along x or y")
        counts = [max(round(extent[axis] / _grid_cell(vertices[:, axis])), 1) + 1 for axis in (0, 1)]
        if counts[0] * counts[1] > _MOST_POINTS:
            raise ValueError(f"the mesh of {extent[0]:.0f} x {extent[1]:.0f} m is too large: make the terrain smaller")
        cell = extent / (np.array(counts) - 1)
        on_grid = np.column_stack(((vertices[:, :2] - first) / cell, vertices[:, 2]))
        heights = rasterise_triangles(on_grid, triangles, (counts[0], counts[1]))
        point[:2] += first
        return cls._from_heights(heights, (float(cell[0]), float(cell[1])), point, params.static_friction)

    @classmethod
    def _from_heights(
        cls, heights: np.ndarray, cell: tuple[float, float], point: np.ndarray, friction: float
    ) -> Ground:
        normal = np.array([0.0, 0.0, 1.0])
        if np.ptp(heights) < _FLATNESS:
            return cls(friction, normal, point + heights[0, 0] * normal)
        return cls(friction, normal, point, heights, cell)

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add the geom "ground" to the world of a MuJoCo description."""
        geom = spec.worldbody.add_geom(name="ground")
        geom.friction[0] = self.friction
        if self.heights is None:
            geom.type = mujoco.mjtGeom.mjGEOM_PLANE
            geom.size = [0.0, 0.0, 1.0]
            geom.pos = self.point
            mujoco.mju_quatZ2Vec(geom.quat, self.normal)
            return
        num_x, num_y = self.heights.shape
        lowest, relief = float(self.heights.min()), float(np.ptp(self.heights))
        radii = [0.5 * (num_x - 1) * self.cell[0], 0.5 * (num_y - 1) * self.cell[1]]
        # MuJoCo's rows run along y and its columns along x, and it scales the data to [0, 1].
        spec.add_hfield(
            name="ground",
            nrow=num_y,
            ncol=num_x,
            size=[*radii, relief, _BASE],
            userdata=((self.heights.T - lowest) / relief).ravel(),
        )
        geom.type = mujoco.mjtGeom.mjGEOM_HFIELD
        geom.hfieldname = "ground"
        geom.pos = self.point + np.array([*radii, lowest - SKIN])
        geom.margin = SKIN


def rasterise_triangles(vertices: np.ndarray, triangles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Height of the highest triangle over each point of a grid.

    Args:
        vertices: Points with x and y in cells of the grid, so that grid points have whole numbers, (num_vertices, 3).
        triangles: Indices of the corners, (num_triangles, 3).
        shape: Number of grid points along x and y.

    Returns:
        Heights, `shape`; those over no triangle get the lowest height of the mesh.
    """
    heights = np.full(shape[0] * shape[1], -np.inf)
    # Most meshes come from a grid: their vertices say it all where triangles reach over one cell only.
    nearest = np.rint(vertices[:, :2])
    on_grid = (np.abs(vertices[:, :2] - nearest) < _MARGIN).all(axis=1)
    used = np.zeros(len(vertices), dtype=bool)
    used[triangles] = True
    place = (nearest[:, 0] * shape[1] + nearest[:, 1]).astype(np.int64)
    np.maximum.at(heights, place[on_grid & used], vertices[on_grid & used, 2])
    done = np.logical_and.reduce([on_grid[corner] for corner in triangles.T])  # (num_triangles,)
    for begin, end in ((0, 1), (1, 2), (2, 0)):
        for coordinate in nearest.T:
            done &= np.abs(coordinate[triangles[:, begin]] - coordinate[triangles[:, end]]) <= 1.0
    corners = vertices[triangles[~done]]  # (num_triangles, 3, 3)
    edges = corners[:, 1:] - corners[:, :1]
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    # Triangles that stand on edge cover no point; their neighbours do.
    corners, edges, area = (values[np.abs(area) > 1e-9] for values in (corners, edges, area))
    # Slopes along x and y from the triangle's normal, (num_triangles,).
    slope_x = (edges[:, 0, 2] * edges[:, 1, 1] - edges[:, 1, 2] * edges[:, 0, 1]) / area
    slope_y = (edges[:, 1, 2] * edges[:, 0, 0] - edges[:, 0, 2] * edges[:, 1, 0]) / area
    first_row, last_row = _whole_numbers(corners[:, :, 0].min(axis=1), corners[:, :, 0].max(axis=1), shape[0])
    for triangle, row in _expand(first_row, last_row):
        # The stretch of each row that lies in the triangle: between its crossings with the edges.
        low, high = np.full(len(row), np.inf), np.full(len(row), -np.inf)
        for begin, end in ((0, 1), (1, 2), (2, 0)):
            start, stop = corners[triangle, begin], corners[triangle, end]
            run = stop[:, 0] - start[:, 0]
            along_row = np.abs(run) < 1e-9
            part = (row - start[:, 0]) / np.where(along_row, 1.0, run)
            crossing = start[:, 1] + np.clip(part, 0.0, 1.0) * (stop[:, 1] - start[:, 1])
            crosses = ~along_row & (np.abs(part - 0.5) * np.abs(run) < 0.5 * np.abs(run) + _MARGIN)
            low = np.minimum(low, np.where(crosses, crossing, np.inf))
            high = np.maximum(high, np.where(crosses, crossing, -np.inf))
        first_column, last_column = _whole_numbers(low, high, shape[1])
        for stretch, column in _expand(first_column, last_column):
            index, x = triangle[stretch], row[stretch]
            corner = corners[index, 0]
            height = corner[:, 2] + slope_x[index] * (x - corner[:, 0]) + slope_y[index] * (column - corner[:, 1])
            # Rounding at the rim of a steep triangle must not reach beyond it.
            height = np.clip(height, corners[index, :, 2].min(axis=1), corners[index, :, 2].max(axis=1))
            np.maximum.at(heights, x * shape[1] + column, height)
    heights[np.isinf(heights)] = vertices[:, 2].min()
    return heights.reshape(shape)


def _whole_numbers(low: np.ndarray, high: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last whole numbers in intervals and in [0, count); the last is below the first where there is none."""
    first = np.clip(np.ceil(low - _MARGIN), 0, count)
    last = np.clip(np.floor(high + _MARGIN), -1, count - 1)
    return first.astype(np.int64), last.astype(np.int64)


def _expand(first: np.ndarray, last: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All whole numbers of intervals, in pieces: index of the interval (n,) and number (n,)."""
    lengths = np.maximum(last - first + 1, 0)
    pieces = np.split(np.arange(len(first)), np.flatnonzero(np.diff(np.cumsum(lengths) // _CHUNK)) + 1)
    for piece in pieces:
        interval = np.repeat(piece, lengths[piece])
        begin = np.repeat(np.cumsum(lengths[piece]) - lengths[piece], lengths[piece])
        yield interval, first[interval] + np.arange(len(interval)) - begin


def _grid_cell(coordinates: np.ndarray) -> float:
    """Spacing of the regular grid on which coordinates lie, or the default where they lie on none [m]."""
    values = np.unique(np.round(coordinates - coordinates.min(), 3))
    spacing = float(np.diff(values).min())
    # The smallest difference is rounded; the whole extent says more.
    spacing = float(values[-1]) / round(float(values[-1]) / spacing)
    steps = values / spacing
    regular = spacing >= 0.2 * _DEFAULT_CELL and bool((np.abs(steps - np.round(steps)) < 0.05).all())
    return spacing if regular else _DEFAULT_CELL


def _place(transform: Transform) -> np.ndarray:
    """Position of the ground, (3,).

    Raises:
        ValueError: If it is turned, which a height field cannot be.
    """
    turn = transform.r
    if turn is not None and max(abs(turn.x), abs(turn.y), abs(turn.z)) > 1e-6:
        raise ValueError("the transform of the ground turns it, which is not supported: turn the samples instead")
    return np.array(list(transform.p))
