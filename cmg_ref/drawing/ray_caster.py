"""A renderer that needs neither OpenGL nor a screen: shaded capsules on a checkered floor, by ray casting in numpy.

Every part of the robot is a capsule (a sphere is one of no length), and where a ray meets a capsule has a closed form.
The camera moves but never turns, so that all rays, and where they meet the floor relative to the camera, are computed
once. Figures are cast at twice the resolution, but only inside their own bounding boxes: that is quick, and smooth.
Lengths are relative to the point that the camera follows, which keeps float32 exact enough anywhere in the world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence

import numpy as np

SUPERSAMPLING = 2
NEAREST = 0.1  # [m] nothing is drawn closer to the camera
SHADOW_TEXEL = 0.006  # [m]
SHADOW_BIAS = 0.02  # [m] a surface is lit as if it lay this much higher, or it would shadow itself
FLOOR_SHADOW = 0.55  # share of the light that the floor loses in full shadow
FLOOR_SQUARE = 0.5  # [m] side of the checkers
FOG_DISTANCE = 8.0  # [m] over which the floor fades into the horizon
SKY_TOP = np.array((0.50, 0.62, 0.76), dtype=np.float32)
HORIZON = np.array((0.90, 0.93, 0.96), dtype=np.float32)
FLOOR_DARK = np.array((0.66, 0.70, 0.75), dtype=np.float32)
FLOOR_LIGHT = np.array((0.78, 0.81, 0.85), dtype=np.float32)


class Figure(NamedTuple):
    """One robot in one pose, ready to be drawn.

    Attributes:
        start: One end of each capsule's axis, world [m], (num_shapes, 3).
        end: The other end, (num_shapes, 3).
        radius: Of each capsule [m], (num_shapes,).
        color: RGB from 0 to 1, (num_shapes, 3).
        opacity: 1 for a solid robot, less for a ghost, which casts no shadow.
    """

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    color: np.ndarray
    opacity: float = 1.0


@dataclass(frozen=True)
class Camera:
    """A camera that looks at a point from a fixed direction.

    Attributes:
        azimuth: Of the viewing direction, from the world's x axis [degrees]: 0 looks along x, 90 along y.
        elevation: Of the viewing direction above the horizon [degrees]; negative looks down.
        distance: From the point looked at [m].
        height: Of the point looked at above the floor [m].
        field_of_view: Vertical [degrees].
    """

    azimuth: float = 140.0
    elevation: float = -12.0
    distance: float = 3.0
    height: float = 0.70
    field_of_view: float = 34.0

    def axes(self) -> np.ndarray:
        """Right, down and forward of the picture as rows, world frame, (3, 3)."""
        azimuth, elevation = np.deg2rad(self.azimuth), np.deg2rad(self.elevation)
        right = np.array((np.sin(azimuth), -np.cos(azimuth), 0.0))
        level = np.array((np.cos(azimuth), np.sin(azimuth), 0.0))
        forward = np.cos(elevation) * level + np.array((0.0, 0.0, np.sin(elevation)))
        return np.stack((right, np.cross(forward, right), forward)).astype(np.float32)

    def offset(self) -> np.ndarray:
        """Camera position relative to the floor beneath the point looked at [m], (3,)."""
        return np.array((0.0, 0.0, self.height), dtype=np.float32) - self.distance * self.axes()[2]


def cast_rays(
    origin: np.ndarray, direction: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float
) -> np.ndarray:
    """Distance along each ray to a capsule, infinite where the ray misses it.

    A ray meets the capsule where it meets the cylinder between the two ends or, beyond them, the sphere at that end.
    Both are quadratic equations ``a t^2 + 2 b t + c = 0``, the cylinder's in what lies across the axis.

    Args:
        origin: Where the rays begin, outside the capsule, (..., 3), or (3,) if they share it.
        direction: Unit vectors, (..., 3), or (3,) if they are parallel; only one of the two may be shared.
        start: One end of the capsule's axis, (3,).
        end: The other end, (3,); the same point for a sphere.
        radius: Of the capsule.

    Returns:
        Distance, (...).
    """
    axis = end - start
    # From a point nearby: far away, float32 would lose the radius beside the squared distance.
    nearby = np.linalg.norm(origin - 0.5 * (start + end), axis=-1).min()
    offset = origin + nearby * direction - start
    axis_axis = axis @ axis
    axis_direction = direction @ axis
    axis_offset = offset @ axis
    direction_offset = _row_dot(np.broadcast_to(direction, offset.shape), offset)
    sphere_c = _row_dot(offset, offset) - radius * radius
    per_axis = 1.0 / axis_axis if axis_axis > 0.0 else axis_axis

    a = np.maximum(1.0 - axis_direction * axis_direction * per_axis, 1e-7)  # 0 for a ray along the axis
    b = direction_offset - axis_direction * (axis_offset * per_axis)
    root = b * b - a * (sphere_c - axis_offset * axis_offset * per_axis)
    hit = root > 0.0
    distance = (-b - np.sqrt(np.maximum(root, 0.0))) / a

    height = axis_offset + distance * axis_direction  # along the axis: 0 at the start, axis_axis at the end
    between = (height > 0.0) & (height < axis_axis)
    beyond = height >= axis_axis
    b = direction_offset - beyond * axis_direction
    root = b * b - sphere_c + beyond * (2.0 * axis_offset - axis_axis)
    distance = np.where(between, distance, -b - np.sqrt(np.maximum(root, 0.0)))
    distance += nearby
    hit &= (between | (root > 0.0)) & (distance > 0.0)
    return np.where(hit, distance, np.inf)


class SoftwareRenderer:
    """Draws figures as pictures of one size, seen by one camera.

    Args:
        width: Of the pictures [pixels].
        height: Of the pictures [pixels].
        camera: Where to look from.
    """

    def __init__(self, width: int = 640, height: int = 480, camera: Camera | None = None) -> None:
        self.width = width
        self.height = height
        self.camera = camera or Camera()
        self.axes = self.camera.axes()
        self.offset = self.camera.offset()
        self.focal = 0.5 * height / np.tan(0.5 * np.deg2rad(self.camera.field_of_view))  # [pixels]
        directions = self._directions(SUPERSAMPLING)
        self.directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)  # (2 height, 2 width, 3)
        # The light shines over the camera's left shoulder.
        towards_light = np.array((-0.55, 0.0, -0.6), dtype=np.float32) @ self.axes + np.array((0.0, 0.0, 0.75))
        self.light = (towards_light / np.linalg.norm(towards_light)).astype(np.float32)
        self._prepare_background()

    def draw(self, center: Sequence[float], figures: Sequence[Figure]) -> np.ndarray:
        """A picture of the figures.

        Args:
            center: x and y of the point that the camera follows, world [m].
            figures: Robots to draw.

        Returns:
            RGB picture, (height, width, 3), uint8.
        """
        floor_center = np.array((center[0], center[1], 0.0))
        figures = [
            figure._replace(
                start=(figure.start - floor_center).astype(np.float32),
                end=(figure.end - floor_center).astype(np.float32),
                radius=np.asarray(figure.radius, dtype=np.float32),
                color=np.asarray(figure.color, dtype=np.float32),
            )
            for figure in figures
        ]
        shadow = ShadowMap([figure for figure in figures if figure.opacity >= 1.0], self.light)
        picture = self._draw_background(floor_center[:2], shadow)
        self._draw_figures(picture, figures, shadow)
        return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

    def _directions(self, density: int) -> np.ndarray:
        """A ray of forward length 1 for each pixel, camera frame, (density * height, density * width, 3)."""
        rows, columns = density * self.height, density * self.width
        directions = np.ones((rows, columns, 3), dtype=np.float32)
        directions[..., 0] = (np.arange(columns) + 0.5 - 0.5 * columns) / (density * self.focal)
        directions[..., 1] = ((np.arange(rows) + 0.5 - 0.5 * rows) / (density * self.focal))[:, None]
        return directions

    def _prepare_background(self) -> None:
        """All of sky and floor that stays the same while the camera moves."""
        directions = self._directions(1) @ self.axes  # world frame, (height, width, 3)
        blend = np.clip(directions[..., 2:] / 0.3, 0.0, 1.0)
        self.sky = HORIZON + (SKY_TOP - HORIZON) * blend
        self.horizon = int((directions[:, 0, 2] > -1e-3).sum())  # first row of the floor
        directions = directions[self.horizon :]
        points = -self.offset[2] / directions[..., 2:] * directions[..., :2] + self.offset[:2]
        self.floor_points = points  # (rows, width, 2) [m]
        # How far x and y change from pixel to pixel: the checkers are averaged over that.
        changes = [np.abs(np.gradient(points, axis=axis)) for axis in (0, 1)] if points.shape[0] > 1 else [points]
        self.floor_blur = np.maximum(changes[0], changes[-1])
        distance = np.linalg.norm(points, axis=-1, keepdims=True)
        self.floor_fog = 1.0 - np.exp(-np.square(distance / FOG_DISTANCE))

    def _draw_background(self, center: np.ndarray, shadow: ShadowMap) -> np.ndarray:
        """Sky, checkers and shadows, (height, width, 3) float32."""
        picture = self.sky.copy()
        # The pattern repeats, which keeps the numbers small.
        points = self.floor_points + np.mod(center, 2.0 * FLOOR_SQUARE).astype(np.float32)
        waves = _square_wave(points / FLOOR_SQUARE, self.floor_blur / FLOOR_SQUARE)
        checker = 0.5 + 0.5 * waves[..., :1] * waves[..., 1:]
        floor = FLOOR_DARK + (FLOOR_LIGHT - FLOOR_DARK) * checker
        rows, columns = self._window(shadow.floor_corners())
        below = slice(max(rows.start - self.horizon, 0), max(rows.stop - self.horizon, 0))
        floor[below, columns] *= 1.0 - FLOOR_SHADOW * shadow.on_floor(self.floor_points[below, columns])[..., None]
        picture[self.horizon :] = floor + (HORIZON - floor) * self.floor_fog
        return picture

    def _window(self, points: np.ndarray, reach: np.ndarray | float = 0.0) -> tuple[slice, slice]:
        """Rows and columns of the picture that hold all points, with a margin of `reach` [m] around each.

        Args:
            points: Relative to the floor beneath the point looked at, (num_points, 3).
            reach: (num_points,) or one for all.
        """
        in_camera = (points - self.offset) @ self.axes.T
        depth = np.maximum(in_camera[:, 2], NEAREST)
        middle = np.array((0.5 * self.width, 0.5 * self.height))
        pixels = middle + self.focal * in_camera[:, :2] / depth[:, None]
        # Away from the middle of a picture a sphere looks longer than its radius: by less than 30 % up to 50 degrees.
        margin = (1.3 * self.focal * reach / np.maximum(depth - reach, NEAREST) + 1.0)[:, None]
        size = (self.width, self.height)
        if not len(points):
            return slice(0, 0), slice(0, 0)
        left, top = (int(v) for v in np.clip(np.floor((pixels - margin).min(axis=0)), 0, size))
        right, bottom = (int(v) for v in np.clip(np.ceil((pixels + margin).max(axis=0)), 0, size))
        return slice(top, bottom), slice(left, right)

    def _draw_figures(self, picture: np.ndarray, figures: Sequence[Figure], shadow: ShadowMap) -> None:
        """Draws all figures into `picture`."""
        if not figures:
            return
        ends = np.concatenate([np.concatenate((figure.start, figure.end)) for figure in figures])
        reach = np.concatenate([np.tile(figure.radius, 2) for figure in figures])
        rows, columns = self._window(ends, reach)
        part = picture[rows, columns]
        if part.size == 0:
            return
        shape = (SUPERSAMPLING * part.shape[0], SUPERSAMPLING * part.shape[1])
        color = np.zeros((*shape, 3), dtype=np.float32)  # times alpha
        alpha = np.zeros((*shape, 1), dtype=np.float32)
        nearest = np.full((*shape, 1), np.inf, dtype=np.float32)
        for figure in figures:
            depth, shaded = self._cast_figure(figure, shadow, rows, columns)
            own = np.where(np.isfinite(depth), np.float32(figure.opacity), np.float32(0.0))
            in_front = depth < nearest
            through = np.where(in_front, 1.0 - own, 1.0)  # how much of what was there before is still seen
            own *= np.where(in_front, 1.0, 1.0 - alpha)
            color = color * through + shaded * own
            alpha = alpha * through + own
            nearest = np.minimum(nearest, depth)
        picture[rows, columns] = _coarser(color) + (1.0 - _coarser(alpha)) * part

    def _cast_figure(
        self, figure: Figure, shadow: ShadowMap, rows: slice, columns: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth (..., 1) and colour (..., 3) of a figure for each fine pixel of a window of the picture."""
        directions = self.directions[_finer(rows), _finer(columns)]
        start, end = ((points - self.offset) @ self.axes.T for points in (figure.start, figure.end))  # camera frame
        origin = np.zeros(3, dtype=np.float32)
        depth = np.full(directions.shape[:2], np.inf, dtype=np.float32)
        shape_index = np.zeros(directions.shape[:2], dtype=np.intp)
        for shape, radius in enumerate(figure.radius):
            ends = np.stack((figure.start[shape], figure.end[shape]))
            box_rows, box_columns = self._window(ends, np.repeat(radius, 2))
            box = _finer(box_rows, rows.start), _finer(box_columns, columns.start)
            distance = cast_rays(origin, directions[box], start[shape], end[shape], radius)
            nearer = distance < depth[box]
            depth[box][nearer] = distance[nearer]
            shape_index[box][nearer] = shape
        shaded = np.zeros_like(directions)
        hit = np.isfinite(depth)
        shapes = shape_index[hit]
        points = depth[hit][:, None] * directions[hit]  # camera frame, (num_hits, 3)
        axis = (end - start)[shapes]
        from_start = points - start[shapes]
        along = np.clip(_row_dot(from_start, axis) / np.maximum(_row_dot(axis, axis), 1e-12), 0.0, 1.0)
        normals = (from_start - along[:, None] * axis) / figure.radius[shapes, None]
        raised = points + SHADOW_BIAS * normals
        lit = shadow.on_surface(raised @ self.axes + self.offset) if figure.opacity >= 1.0 else np.float32(1.0)
        shaded[hit] = self._shade(figure.color[shapes], normals, directions[hit], lit)
        return depth[..., None], shaded

    def _shade(
        self, color: np.ndarray, normals: np.ndarray, directions: np.ndarray, lit: np.ndarray | np.floating
    ) -> np.ndarray:
        """Light from the sky, from the lamp and its highlight (Blinn-Phong); vectors in the camera frame, (n, 3)."""
        light = self.axes @ self.light
        sky = 0.5 + 0.5 * normals @ self.axes[:, 2]  # 1 for a surface that faces up
        lamp = np.maximum(normals @ light, 0.0) * lit
        halfway = light - directions
        cosine = _row_dot(normals, halfway) / np.sqrt(_row_dot(halfway, halfway))
        highlight = np.maximum(cosine, 0.0) ** 40 * lit
        facing = np.maximum(-_row_dot(normals, directions), 0.0)
        edge = 0.72 + 0.28 * np.sqrt(facing)  # slightly darker outlines set the limbs apart
        return color * ((0.24 + 0.38 * sky + 0.55 * lamp) * edge)[:, None] + 0.22 * highlight[:, None]


class ShadowMap:
    """What the light sees: how far it gets before it meets a figure, on a grid across its direction.

    Args:
        figures: Those that cast shadows, relative to the floor beneath the point looked at.
        towards_light: Unit vector, (3,).
    """

    def __init__(self, figures: Sequence[Figure], towards_light: np.ndarray) -> None:
        first = np.cross(towards_light, np.array((0.0, 1.0, 0.0)))
        first /= np.linalg.norm(first)
        self.axes = np.stack((first, np.cross(towards_light, first), -towards_light)).astype(np.float32)
        start = np.concatenate([np.zeros((0, 3), np.float32), *(figure.start for figure in figures)]) @ self.axes.T
        end = np.concatenate([np.zeros((0, 3), np.float32), *(figure.end for figure in figures)]) @ self.axes.T
        radius = np.concatenate([np.zeros(0, np.float32), *(figure.radius for figure in figures)])[:, None]
        low, high = np.minimum(start, end) - radius, np.maximum(start, end) + radius
        margin = np.float32(10 * SHADOW_TEXEL)  # room for the blur
        self.low = low.min(axis=0, initial=0.0) - margin
        self.high = high.max(axis=0, initial=0.0) + margin
        size = np.ceil((self.high - self.low)[:2] / SHADOW_TEXEL).astype(int)
        self.depth = np.full(size, np.inf, dtype=np.float32)
        grid = np.meshgrid(
            *(self.low[i] + SHADOW_TEXEL * np.arange(size[i], dtype=np.float32) for i in (0, 1)), indexing="ij"
        )
        origins = np.stack((*grid, np.full(size, self.low[2])), axis=-1).astype(np.float32)
        travel = np.array((0.0, 0.0, 1.0), dtype=np.float32)
        boxes = np.stack((np.floor(self._texels(low)), np.ceil(self._texels(high)) + 1)).astype(int)
        for index, (box_low, box_high) in enumerate(zip(*boxes)):
            box = slice(box_low[0], box_high[0]), slice(box_low[1], box_high[1])
            distance = cast_rays(origins[box], travel, start[index], end[index], radius[index, 0])
            self.depth[box] = np.minimum(self.depth[box], distance)
        occupied = np.isfinite(self.depth).astype(np.float32)
        for axis in (0, 1, 0, 1):
            occupied = _box_blur(occupied, axis, reach=2)
        self.soft = occupied

    def floor_corners(self) -> np.ndarray:
        """Corners of the map thrown on the floor, (4, 3); beyond them there is no shadow."""
        corners = np.array([(u, v) for u in (self.low[0], self.high[0]) for v in (self.low[1], self.high[1])])
        on_floor = np.linalg.solve(self.axes[:2, :2], corners.T).T
        return np.concatenate((on_floor, np.zeros((4, 1))), axis=-1).astype(np.float32)

    def on_floor(self, points: np.ndarray) -> np.ndarray:
        """Share of the light that points (..., 2) of the floor lose, (...)."""
        return self._look_up(self.soft, self._texels(points @ self.axes[:2, :2].T))

    def on_surface(self, points: np.ndarray) -> np.ndarray:
        """Share of the light that reaches points (n, 3) of a figure, (n,), from four neighbouring texels."""
        in_light = points @ self.axes.T
        texels = self._texels(in_light)
        travelled = in_light[:, 2] - self.low[2]
        lit = np.zeros(len(points), dtype=np.float32)
        for tap in ((-0.75, -0.75), (0.75, -0.75), (-0.75, 0.75), (0.75, 0.75)):
            lit += travelled < self._look_up(self.depth, texels + np.array(tap, dtype=np.float32))
        return lit / 4.0

    def _texels(self, points: np.ndarray) -> np.ndarray:
        """Grid coordinates of points given across the light, (..., 2)."""
        return (points[..., :2] - self.low[:2]) / np.float32(SHADOW_TEXEL)

    @staticmethod
    def _look_up(values: np.ndarray, texels: np.ndarray) -> np.ndarray:
        """The nearest texel; beyond the map the nearest of its edge, which is empty."""
        row = np.clip(texels[..., 0] + 0.5, 0, values.shape[0] - 1).astype(np.intp)
        column = np.clip(texels[..., 1] + 0.5, 0, values.shape[1] - 1).astype(np.intp)
        return values.ravel()[row * values.shape[1] + column]


def _row_dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products of the rows of two arrays, (..., 3) -> (...)."""
    return np.einsum("...i,...i->...", a, b)


def _finer(part: slice, first: int = 0) -> slice:
    """A range of pixels as one of fine pixels, counted from the pixel `first`."""
    return slice(SUPERSAMPLING * (part.start - first), SUPERSAMPLING * (part.stop - first))


def _coarser(fine: np.ndarray) -> np.ndarray:
    """Mean over the fine pixels of each pixel."""
    parts = [fine[i::SUPERSAMPLING, j::SUPERSAMPLING] for i in range(SUPERSAMPLING) for j in range(SUPERSAMPLING)]
    return sum(parts[1:], parts[0]) / np.float32(len(parts))


def _square_wave(x: np.ndarray, width: np.ndarray) -> np.ndarray:
    """A wave of -1 and 1 with period 2, averaged over `width`: the difference of its integral, a triangle."""
    half = 0.5 * np.minimum(width, 1.0)

    def triangle(t: np.ndarray) -> np.ndarray:
        return np.abs(t - 2.0 * np.floor(0.5 * t) - 1.0)

    return (triangle(x - half) - triangle(x + half)) / (2.0 * half)


def _box_blur(values: np.ndarray, axis: int, reach: int) -> np.ndarray:
    """Mean over the `2 reach + 1` neighbours along an axis."""
    margins = [(0, 0), (0, 0)]
    margins[axis] = (reach + 1, reach)
    total = np.moveaxis(np.cumsum(np.pad(values, margins), axis=axis, dtype=np.float32), axis, 0)
    return np.moveaxis(total[2 * reach + 1 :] - total[: -(2 * reach + 1)], 0, axis) / (2 * reach + 1)
