"""The module `isaacgym.terrain_utils`: pieces of rough ground as height fields, and their triangles.

Functions add a shape to a `SubTerrain` and return it. Lengths and heights are given in metres and rounded down to
whole cells and height steps. Random numbers come from numpy's global generator, as callers seed that one.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "SubTerrain",
    "convert_heightfield_to_trimesh",
    "discrete_obstacles_terrain",
    "pyramid_sloped_terrain",
    "pyramid_stairs_terrain",
    "random_uniform_terrain",
    "sloped_terrain",
    "stairs_terrain",
    "stepping_stones_terrain",
    "wave_terrain",
]


class SubTerrain:
    """A rectangle of ground.

    Attributes:
        terrain_name: Name of the piece.
        width: Number of samples along x.
        length: Number of samples along y.
        vertical_scale: Height of one step in metres.
        horizontal_scale: Distance of the samples in metres.
        height_field_raw: Heights in steps, int16, (width, length).
    """

    def __init__(
        self,
        terrain_name: str = "terrain",
        width: int = 256,
        length: int = 256,
        vertical_scale: float = 1.0,
        horizontal_scale: float = 1.0,
    ) -> None:
        self.terrain_name = terrain_name
        self.width = width
        self.length = length
        self.vertical_scale = vertical_scale
        self.horizontal_scale = horizontal_scale
        self.height_field_raw = np.zeros((width, length), dtype=np.int16)

    def cells(self, distance: float) -> int:
        """Number of cells in a distance in metres."""
        return _whole(distance / self.horizontal_scale)

    def steps(self, height: float) -> int:
        """Number of height steps in a height in metres."""
        return _whole(height / self.vertical_scale)

    def middle(self, size: float) -> tuple[slice, slice]:
        """Samples of the square platform in the middle, of a size in metres."""
        half = self.cells(size) / 2.0
        return tuple(
            slice(max(int(count / 2.0 - half), 0), int(count / 2.0 + half)) for count in (self.width, self.length)
        )  # type: ignore[return-value]

    def distance_to_rim(self) -> np.ndarray:
        """Distance of each sample to the nearest edge in cells, 0 on it, (width, length)."""
        x, y = (np.minimum(np.arange(count), np.arange(count)[::-1]) for count in (self.width, self.length))
        return np.minimum(x[:, None], y[None, :])


def random_uniform_terrain(
    terrain: SubTerrain, min_height: float, max_height: float, step: float = 1.0, downsampled_scale: float | None = None
) -> SubTerrain:
    """Uniformly random heights.

    Args:
        terrain: Changed in place.
        min_height: Lowest height in metres.
        max_height: Highest height in metres.
        step: Difference between neighbouring values of the height in metres.
        downsampled_scale: Distance of the random points in metres, between which heights are interpolated linearly;
            that of the samples if None.
    """
    scale = terrain.horizontal_scale if downsampled_scale is None else downsampled_scale
    step_size = max(terrain.steps(step), 1)
    values = np.arange(terrain.steps(min_height), terrain.steps(max_height) + 1, step_size)
    counts = [max(_whole(count * terrain.horizontal_scale / scale), 2) for count in (terrain.width, terrain.length)]
    heights = _stretch(np.random.choice(values, counts).astype(np.float64), terrain.width)
    heights = _stretch(heights.T, terrain.length).T
    terrain.height_field_raw += np.rint(heights).astype(np.int16)
    return terrain


def sloped_terrain(terrain: SubTerrain, slope: float = 1.0) -> SubTerrain:
    """A ramp that rises along x by `slope` metres for each metre."""
    rise = slope * np.arange(terrain.width) * terrain.horizontal_scale / terrain.vertical_scale
    terrain.height_field_raw += rise.astype(np.int16)[:, None]
    return terrain


def pyramid_sloped_terrain(terrain: SubTerrain, slope: float = 1.0, platform_size: float = 1.0) -> SubTerrain:
    """A pyramid whose sides rise by `slope` metres for each metre towards a flat platform in the middle.

    Args:
        terrain: Changed in place.
        slope: Rise of the sides; below zero it is a pit.
        platform_size: Side of the platform in metres.
    """
    rise = slope * terrain.distance_to_rim() * terrain.horizontal_scale / terrain.vertical_scale
    platform = rise[terrain.middle(platform_size)]
    if platform.size:
        # The platform is as high as the sides where they reach it.
        top = platform.flat[np.abs(platform).argmin()]
        rise = np.clip(rise, min(top, 0.0), max(top, 0.0))
    terrain.height_field_raw += rise.astype(np.int16)
    return terrain


def discrete_obstacles_terrain(
    terrain: SubTerrain, max_height: float, min_size: float, max_size: float, num_rects: int, platform_size: float = 1.0
) -> SubTerrain:
    """Random blocks and pits around a flat platform in the middle.

    Args:
        terrain: Changed in place.
        max_height: Greatest height in metres; heights are plus or minus this or half of it.
        min_size: Shortest side of a block in metres.
        max_size: Longest side of a block in metres.
        num_rects: Number of blocks; later ones replace what they cover.
        platform_size: Side of the platform in metres.
    """
    heights = terrain.height_field_raw
    highest = terrain.steps(max_height)
    choices = [-highest, -highest // 2, highest // 2, highest]
    sizes = (terrain.cells(min_size), max(terrain.cells(max_size), terrain.cells(min_size)) + 1)
    for _ in range(num_rects):
        size_x, size_y = np.random.randint(*sizes, 2)
        x = np.random.randint(0, max(terrain.width - size_x, 0) + 1)
        y = np.random.randint(0, max(terrain.length - size_y, 0) + 1)
        heights[x : x + size_x, y : y + size_y] = np.random.choice(choices)
    heights[terrain.middle(platform_size)] = 0
    return terrain


def wave_terrain(terrain: SubTerrain, num_waves: int = 1, amplitude: float = 1.0) -> SubTerrain:
    """Waves along x and along y, added up.

    Args:
        terrain: Changed in place.
        num_waves: Number of waves along each side.
        amplitude: Greatest height above and depth below the middle in metres.
    """
    if num_waves > 0:
        x, y = (2.0 * np.pi * num_waves * np.arange(count) / count for count in (terrain.width, terrain.length))
        wave = 0.5 * amplitude / terrain.vertical_scale * (np.sin(x)[:, None] + np.cos(y)[None, :])
        terrain.height_field_raw += np.rint(wave).astype(np.int16)
    return terrain


def stairs_terrain(terrain: SubTerrain, step_width: float, step_height: float) -> SubTerrain:
    """Stairs that rise along x: steps of `step_width` by `step_height` metres, the first one at the start."""
    number = np.arange(terrain.width) // max(terrain.cells(step_width), 1) + 1
    terrain.height_field_raw += (number * terrain.steps(step_height)).astype(np.int16)[:, None]
    return terrain


def pyramid_stairs_terrain(
    terrain: SubTerrain, step_width: float, step_height: float, platform_size: float = 1.0
) -> SubTerrain:
    """Stairs from all sides up to a flat platform in the middle.

    Args:
        terrain: Changed in place.
        step_width: Depth of a step in metres.
        step_height: Height of a step in metres; below zero the stairs lead down.
        platform_size: Least side of the platform in metres.
    """
    width = max(terrain.cells(step_width), 1)
    room = min(terrain.width, terrain.length) - terrain.cells(platform_size)
    num_steps = max(room // (2 * width), 0)
    number = np.minimum(terrain.distance_to_rim() // width, num_steps)
    terrain.height_field_raw[:] = number * terrain.steps(step_height)
    return terrain


def stepping_stones_terrain(
    terrain: SubTerrain,
    stone_size: float,
    stone_distance: float,
    max_height: float,
    platform_size: float = 1.0,
    depth: float = -10.0,
) -> SubTerrain:
    """Square stones in rows along x over a hole, around a flat platform in the middle.

    Args:
        terrain: Changed in place.
        stone_size: Side of a stone in metres.
        stone_distance: Width of the gaps in metres.
        max_height: Greatest height of a stone above or below zero in metres.
        platform_size: Side of the platform in metres.
        depth: Height of the bottom of the gaps in metres.
    """
    size = max(terrain.cells(stone_size), 1)
    pitch = size + max(terrain.cells(stone_distance), 1)
    highest = terrain.steps(max_height)
    heights = terrain.height_field_raw
    heights[:] = terrain.steps(depth)
    for y in range(0, terrain.length, pitch):
        # Each row begins somewhere else, so that gaps do not line up.
        for x in range(-np.random.randint(0, pitch), terrain.width, pitch):
            heights[max(x, 0) : max(x + size, 0), y : y + size] = np.random.randint(-highest, highest + 1)
    heights[terrain.middle(platform_size)] = 0
    return terrain


def convert_heightfield_to_trimesh(
    height_field_raw: np.ndarray, horizontal_scale: float, vertical_scale: float, slope_threshold: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of a height field.

    Args:
        height_field_raw: Heights in steps, (num_x, num_y).
        horizontal_scale: Distance of the samples in metres.
        vertical_scale: Height of one step in metres.
        slope_threshold: Slopes above this become vertical: their lower end is moved under the upper one.

    Returns:
        Vertices in metres, (num_x num_y, 3) float32, and triangles, counter-clockwise from above,
        (2 (num_x - 1) (num_y - 1), 3) uint32.
    """
    num_x, num_y = height_field_raw.shape
    heights = height_field_raw.astype(np.float64) * vertical_scale
    x, y = np.meshgrid(np.arange(num_x, dtype=np.float64), np.arange(num_y, dtype=np.float64), indexing="ij")
    if slope_threshold is not None:
        steep = slope_threshold * horizontal_scale
        move_x, move_y, move_both = (np.zeros((num_x, num_y)) for _ in range(3))
        for move, axis_x, axis_y in ((move_x, 1, 0), (move_y, 0, 1), (move_both, 1, 1)):
            near, far = (
                (slice(None, num_x - axis_x), slice(None, num_y - axis_y)),
                (slice(axis_x, None), slice(axis_y, None)),
            )
            rise = heights[far] - heights[near]
            move[near] += rise > steep
            move[far] -= rise < -steep
        x += move_x + np.where(move_x == 0.0, move_both, 0.0)
        y += move_y + np.where(move_y == 0.0, move_both, 0.0)
    vertices = np.stack((x * horizontal_scale, y * horizontal_scale, heights), axis=-1).reshape(-1, 3)
    first = (np.arange(num_x - 1)[:, None] * num_y + np.arange(num_y - 1)[None, :]).ravel()
    # Corners of a cell: first, first + num_y (next x), first + num_y + 1 (next x and y), first + 1 (next y).
    lower = np.stack((first, first + num_y, first + num_y + 1), axis=-1)
    upper = np.stack((first, first + num_y + 1, first + 1), axis=-1)
    triangles = np.stack((lower, upper), axis=1).reshape(-1, 3)
    return vertices.astype(np.float32), triangles.astype(np.uint32)


def _whole(number: float) -> int:
    """Number without its fraction; a little rounding error does not lose a whole one."""
    return int(number + np.copysign(1e-6, number))


def _stretch(values: np.ndarray, count: int) -> np.ndarray:
    """Linear interpolation along the first dimension to another number of points, (n, m) -> (count, m)."""
    place = np.linspace(0.0, len(values) - 1.0, count)
    before = np.minimum(place.astype(np.int64), len(values) - 2)
    part = (place - before)[:, None]
    return np.asarray((1.0 - part) * values[before] + part * values[before + 1])
