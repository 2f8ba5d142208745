from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from configs.base_config import ConfigError
from configs.legged_robot_config import LeggedRobotCfg
from envs.base.terrain import Terrain

SMALL = (
    "terrain.num_rows=2",
    "terrain.num_cols=5",
    "terrain.terrain_length=4.0",
    "terrain.terrain_width=4.0",
    "terrain.border_size=2.0",
)


def terrain_cfg(**fields: Any) -> Any:
    cfg = LeggedRobotCfg().terrain
    for name, value in fields.items():
        setattr(cfg, name, value)
    return cfg


def test_rows_are_of_rising_difficulty() -> None:
    terrain = Terrain(terrain_cfg(num_rows=4, num_cols=10), 8, 1, "cpu")
    tile, border = 80, 100
    spread = [
        float(terrain.samples[border + row * tile : border + (row + 1) * tile, border:-border].std())
        for row in range(4)
    ]
    assert spread == sorted(spread) and spread[0] > 0.0
    assert (terrain.samples[:border] == 0).all() and (terrain.samples[:, -border:] == 0).all()


def test_heights_are_those_of_the_samples_and_linear_between() -> None:
    terrain = Terrain(terrain_cfg(), 4, 2, "cpu")
    index = torch.tensor([[150, 180], [220, 310], [400, 500]])
    xy = index * 0.1 - 10.0
    expected = torch.tensor([float(terrain.samples[i, j]) * 0.005 for i, j in index.tolist()])
    torch.testing.assert_close(terrain.height(xy), expected, atol=1e-3, rtol=0.0)
    beside = torch.tensor([float(terrain.samples[i + 1, j]) * 0.005 for i, j in index.tolist()])
    half = terrain.height(xy + torch.tensor([0.05, 0.0]))
    torch.testing.assert_close(half, 0.5 * (expected + beside), atol=1e-3, rtol=0.0)
    assert torch.isfinite(terrain.height(torch.tensor([[1e4, -1e4]]))).all()


def test_robots_stand_in_the_middle_of_their_tiles() -> None:
    terrain = Terrain(terrain_cfg(), 20, 3, "cpu")
    assert (terrain.env_origins[:, 2] - terrain.height(terrain.env_origins[:, :2])).abs().max() < 0.1
    assert terrain.levels.max() <= 2


def test_robots_that_walk_far_move_to_harder_ground_and_others_back() -> None:
    terrain = Terrain(terrain_cfg(), 4, 4, "cpu")
    terrain.levels[:] = torch.tensor([1, 1, 1, 5])
    ids = torch.arange(4)
    terrain.env_origins = terrain._centres[terrain.levels, terrain._columns]
    places = terrain.env_origins.clone()
    places[:, 0] += torch.tensor([5.0, 1.0, 1.0, 6.0])
    terrain.update_levels(ids, places, asked_distance=torch.tensor([10.0, 10.0, 1.5, 10.0]))
    assert terrain.levels[:3].tolist() == [2, 0, 1]
    assert 0 <= terrain.levels[3] <= 5
    torch.testing.assert_close(terrain.env_origins, terrain._centres[terrain.levels, terrain._columns])


def test_without_curriculum_levels_stay() -> None:
    terrain = Terrain(terrain_cfg(curriculum=False), 4, 4, "cpu")
    levels = terrain.levels.clone()
    terrain.update_levels(torch.arange(4), terrain.env_origins + 5.0, torch.zeros(4))
    assert terrain.levels.tolist() == levels.tolist()


def test_an_unknown_ground_is_refused() -> None:
    with pytest.raises(ConfigError, match="no ground 'stairs'; did you mean 'stairs_up'"):
        Terrain(terrain_cfg(proportions={"stairs": 1.0}), 1, 1, "cpu")
    with pytest.raises(ConfigError, match="at least one share must be positive"):
        Terrain(terrain_cfg(proportions={"discrete": 0.0}), 1, 1, "cpu")


@pytest.mark.parametrize("mesh_type", ["heightfield", "trimesh"])
def test_robots_stand_on_rough_ground(make: Callable[..., Any], mesh_type: str) -> None:
    env = make("g1", 6, f"terrain.mesh_type={mesh_type}", *SMALL)
    assert env.env_origins[:, 2].abs().max() > 0.02
    for _ in range(10):
        _, _, _, resets, _ = env.step(torch.zeros(6, 29))
    ground = env.ground_height(env.root_states[:, :2])
    torch.testing.assert_close(env.base_height, env.root_states[:, 2] - ground)
    assert not resets.any()
    assert (env.base_height - 0.78).abs().max() < 0.15
    assert env.feet.contact.any(dim=1).all()


def test_falls_are_told_by_the_height_above_the_ground(make: Callable[..., Any]) -> None:
    env = make("g1", 6, "terrain.mesh_type=heightfield", "terrain.proportions={'stairs_up': 1.0}", *SMALL)
    env.reset()
    env.root_states[:, 2] = env.ground_height(env.root_states[:, :2]) + 0.40
    env._update_base_state(None)
    env.check_termination()
    assert env.termination_causes["base_height"].all()


def test_the_reference_stands_on_the_ground(make: Callable[..., Any]) -> None:
    env = make("g1_cmg", 4, "terrain.mesh_type=heightfield", *SMALL)
    torch.testing.assert_close(env.base_height, env.term.root_pos_w[:, 2], atol=0.03, rtol=0.0)
    for _ in range(5):
        env.step(torch.zeros(4, 29))
    assert torch.isfinite(env.obs_buf).all()
