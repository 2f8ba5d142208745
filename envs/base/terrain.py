"""Rough ground: tiles of rising difficulty, and the curriculum that moves robots between them."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor

from configs.base_config import ConfigError, suggestion
from envs.simulator import gymapi, terrain_utils


class Terrain:
    """A height field of `num_rows` by `num_cols` tiles in a flat border; rows are levels, columns kinds of ground.

    Args:
        cfg: The section `terrain` of the configuration.
        num_envs: Number of environments, dealt evenly to the columns.
        seed: Seed of the ground.
        device: Device of the tensors.

    Attributes:
        samples: Heights in units of `vertical_scale`, first index along x, (num_x, num_y) int16.
        levels: Row of each environment, (num_envs,).
        env_origins: Middle of each environment's tile in metres, (num_envs, 3).

    Raises:
        ConfigError: If `terrain.proportions` names a kind of ground that there is not, or is not made of shares.
    """

    def __init__(self, cfg: Any, num_envs: int, seed: int, device: str | torch.device) -> None:
        self.cfg = cfg
        self._random = np.random.default_rng(seed)
        kinds = self._kinds_of_columns()
        self._border = round(cfg.border_size / cfg.horizontal_scale)
        length, width = (round(size / cfg.horizontal_scale) for size in (cfg.terrain_length, cfg.terrain_width))
        shape = (cfg.num_rows * length + 2 * self._border, cfg.num_cols * width + 2 * self._border)
        heights = np.zeros(shape)
        centres = np.zeros((cfg.num_rows, cfg.num_cols, 3))
        for row in range(cfg.num_rows):
            for column, kind in enumerate(kinds):
                tile = _TILES[kind](self._random, (length, width), (row + 1) / cfg.num_rows, cfg)
                x, y = self._border + row * length, self._border + column * width
                heights[x : x + length, y : y + width] = tile
                middle = tile[length // 2 - 5 : length // 2 + 5, width // 2 - 5 : width // 2 + 5]
                place = (row + 0.5) * cfg.terrain_length, (column + 0.5) * cfg.terrain_width
                centres[row, column] = *place, middle.max()
        self.samples = np.round(heights / cfg.vertical_scale).astype(np.int16)
        self._heights = torch.tensor(self.samples * cfg.vertical_scale, dtype=torch.float32, device=device)
        self._centres = torch.tensor(centres, dtype=torch.float32, device=device)
        highest = cfg.max_init_terrain_level if cfg.curriculum else cfg.num_rows - 1
        levels = self._random.integers(0, min(highest, cfg.num_rows - 1) + 1, num_envs)
        self.levels = torch.tensor(levels, device=device)
        self._columns = torch.arange(num_envs, device=device) * cfg.num_cols // num_envs
        self.env_origins = self._centres[self.levels, self._columns]

    def add_to(self, gym: Any, sim: Any) -> None:
        """Add the ground to a simulation as a height field or as triangles, as `mesh_type` says."""
        cfg = self.cfg
        heightfield = cfg.mesh_type == "heightfield"
        params = gymapi.HeightFieldParams() if heightfield else gymapi.TriangleMeshParams()
        params.transform.p = gymapi.Vec3(-cfg.border_size, -cfg.border_size, 0.0)
        params.static_friction, params.dynamic_friction = cfg.static_friction, cfg.dynamic_friction
        params.restitution = cfg.restitution
        if heightfield:
            params.row_scale = params.column_scale = cfg.horizontal_scale
            params.vertical_scale = cfg.vertical_scale
            params.nbRows, params.nbColumns = self.samples.shape[1], self.samples.shape[0]
            gym.add_heightfield(sim, self.samples.flatten(), params)
            return
        vertices, triangles = terrain_utils.convert_heightfield_to_trimesh(
            self.samples, cfg.horizontal_scale, cfg.vertical_scale, cfg.slope_threshold
        )
        params.nb_vertices, params.nb_triangles = len(vertices), len(triangles)
        gym.add_triangle_mesh(sim, vertices.flatten(), triangles.flatten(), params)

    def height(self, xy: Tensor) -> Tensor:
        """Height of the ground under points (..., 2) in metres, bilinear between samples, (...)."""
        place = (xy + self.cfg.border_size) / self.cfg.horizontal_scale
        limit = torch.tensor(self._heights.shape, device=xy.device) - 2
        corner = torch.minimum(place.floor().long().clamp(min=0), limit)
        share = (place - corner).clamp(0.0, 1.0)
        i, j = corner[..., 0], corner[..., 1]
        near = torch.lerp(self._heights[i, j], self._heights[i + 1, j], share[..., 0])
        far = torch.lerp(self._heights[i, j + 1], self._heights[i + 1, j + 1], share[..., 0])
        return torch.lerp(near, far, share[..., 1])

    def update_levels(self, env_ids: Tensor, root_pos: Tensor, asked_distance: Tensor) -> None:
        """Move robots that end an episode to a harder or an easier row.

        Robots that left their tile move up, those that came less than half as far as asked move down; who masters the
        hardest row goes on in a random one.

        Args:
            env_ids: Environments, (n,).
            root_pos: Where their robots are, (n, 3).
            asked_distance: How far their commands went in metres, (n,).
        """
        if not self.cfg.curriculum:
            return
        distance = torch.linalg.vector_norm(root_pos[:, :2] - self.env_origins[env_ids, :2], dim=1)
        up = distance > 0.5 * self.cfg.terrain_length
        down = (distance < 0.5 * asked_distance) & ~up
        levels = self.levels[env_ids] + up.long() - down.long()
        anywhere = torch.from_numpy(self._random.integers(0, self.cfg.num_rows, len(env_ids))).to(levels.device)
        levels = torch.where(levels >= self.cfg.num_rows, anywhere, levels.clamp(min=0))
        self.levels[env_ids] = levels
        self.env_origins[env_ids] = self._centres[levels, self._columns[env_ids]]

    def state_dict(self) -> dict[str, Any]:
        """What resuming a training needs."""
        return {"levels": self.levels, "random": self._random.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; more robots than there were repeat the levels."""
        self.levels.copy_(state["levels"][torch.arange(len(self.levels)) % len(state["levels"])])
        self._random.bit_generator.state = state["random"]
        self.env_origins.copy_(self._centres[self.levels, self._columns])

    def _kinds_of_columns(self) -> list[str]:
        """Kind of ground of each column, in the shares asked for."""
        shares = self.cfg.proportions
        for kind, share in shares.items():
            if kind not in _TILES:
                raise ConfigError(f"terrain.proportions: no ground '{kind}'{suggestion(kind, _TILES)}")
            if share < 0.0:
                raise ConfigError(f"terrain.proportions: the share of '{kind}' must not be negative, got {share}")
        if not sum(shares.values()) > 0.0:
            raise ConfigError("terrain.proportions: at least one share must be positive")
        edges = np.cumsum(list(shares.values())) / sum(shares.values())
        middles = (np.arange(self.cfg.num_cols) + 0.5) / self.cfg.num_cols
        return [list(shares)[int(index)] for index in np.searchsorted(edges, middles)]


def _distance_from_middle(shape: tuple[int, int], cfg: Any) -> np.ndarray:
    """Distance of samples from the middle of a tile by the longer axis, less the flat metre there, in metres."""
    x, y = (np.abs(np.arange(size) - 0.5 * size) for size in shape)
    return np.maximum(np.maximum(x[:, None], y[None, :]) * cfg.horizontal_scale - 1.0, 0.0)


def _smooth_slope(random: np.random.Generator, shape: tuple[int, int], difficulty: float, cfg: Any) -> np.ndarray:
    """A pyramid or a pit with a flat middle."""
    side = random.choice((-1.0, 1.0))
    return side * difficulty * cfg.max_slope * _flat_at_edge(_distance_from_middle(shape, cfg), cfg)


def _rough_slope(random: np.random.Generator, shape: tuple[int, int], difficulty: float, cfg: Any) -> np.ndarray:
    """A gentler slope with bumps a few decimetres apart."""
    coarse = random.uniform(-1.0, 1.0, (shape[0] // 3 + 2, shape[1] // 3 + 2))
    bumps = np.kron(coarse, np.ones((3, 3)))[: shape[0], : shape[1]]
    return 0.5 * _smooth_slope(random, shape, difficulty, cfg) + difficulty * cfg.max_roughness * bumps


def _stairs_down(random: np.random.Generator, shape: tuple[int, int], difficulty: float, cfg: Any) -> np.ndarray:
    """Stairs that go down from the middle, 0.4 m a step."""
    steps = np.ceil(_flat_at_edge(_distance_from_middle(shape, cfg), cfg) / 0.4)
    return -difficulty * cfg.max_step_height * steps


def _stairs_up(random: np.random.Generator, shape: tuple[int, int], difficulty: float, cfg: Any) -> np.ndarray:
    """Stairs that go up from the middle."""
    return -_stairs_down(random, shape, difficulty, cfg)


def _discrete(random: np.random.Generator, shape: tuple[int, int], difficulty: float, cfg: Any) -> np.ndarray:
    """Boxes and holes of half to one and a half metres."""
    tile = np.zeros(shape)
    for _ in range(20):
        size = random.integers(round(0.5 / cfg.horizontal_scale), round(1.5 / cfg.horizontal_scale), 2)
        x, y = (int(random.integers(0, max(1, extent - edge))) for extent, edge in zip(shape, size))
        tile[x : x + size[0], y : y + size[1]] = random.uniform(-1.0, 1.0) * difficulty * cfg.max_step_height
    tile[_distance_from_middle(shape, cfg) == 0.0] = 0.0
    return tile


def _flat_at_edge(distance: np.ndarray, cfg: Any) -> np.ndarray:
    """Distances that stop growing half a metre before the edge of the tile."""
    return np.minimum(distance, 0.5 * min(cfg.terrain_length, cfg.terrain_width) - 1.5)


_TILES: dict[str, Callable[[np.random.Generator, tuple[int, int], float, Any], np.ndarray]] = {
    "smooth_slope": _smooth_slope,
    "rough_slope": _rough_slope,
    "stairs_up": _stairs_up,
    "stairs_down": _stairs_down,
    "discrete": _discrete,
}
