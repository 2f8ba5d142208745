"""Environments shared out over processes are shown what one process would show them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cmg_ref.core.sharding import Shard
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint
from cmg_ref.trajectories.start_states import EnvironmentDraws

pytestmark = pytest.mark.slow

NUM_ENVS = 11  # divides by no number of processes
# What both sides of the comparison run. Resets fall on one process, on the other, on both.
SCENE = """
import torch
from cmg_ref import CMGMotionGenerator, Shard

def play(shard, mode):
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(3)
    commands = torch.rand(shard.total, 3, generator=draw) - 0.3
    generator = CMGMotionGenerator(
        num_envs=shard.num_envs, first_env=shard.first, device=shard.device, mode=mode, preload_duration=40,
        buffer_size=16, seed=5,
    )
    generator.reset(commands=commands[shard.rows])
    shown = []
    for step in range(24):
        env_ids = torch.randperm(shard.total, generator=draw)[: 1 + step % 3].sort().values
        new = torch.rand(shard.total, 3, generator=draw) - 0.3
        own = shard.local(env_ids)
        if step % 4 == 1:
            generator.reset(own, commands=new[shard.rows][own])
        if step % 4 == 3:
            generator.update_commands(new[shard.rows][own], own)
        frames = generator.get_frames()
        shown.append(torch.cat((frames.dof_pos, frames.dof_vel, frames.root_pos_w, frames.root_quat_w), dim=1))
        generator.future(3)
        generator.advance()
    return shard.gather(torch.stack(shown, dim=1))
"""


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint()


def test_every_environment_is_in_one_shard() -> None:
    for world_size in (1, 2, 3, 11):
        shards = [Shard(NUM_ENVS, rank, world_size) for rank in range(world_size)]
        everyone = torch.arange(NUM_ENVS)
        assert torch.equal(torch.cat([everyone[shard.rows] for shard in shards]), everyone)
        assert max(shard.num_envs for shard in shards) - min(shard.num_envs for shard in shards) <= 1
        chosen = torch.tensor([0, 4, 5, 10])
        found = [shard.local(chosen) + shard.first for shard in shards]
        assert torch.equal(torch.cat(found), chosen)


def test_impossible_shards_are_refused() -> None:
    with pytest.raises(ValueError, match="rank"):
        Shard(8, 2, 2)
    with pytest.raises(ValueError, match="too few"):
        Shard(2, 0, 3)


def test_alone_a_process_owns_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    shard = Shard.of_process(7, device="cpu")
    values = torch.rand(7, 2)
    assert (shard.first, shard.num_envs, shard.world_size) == (0, 7, 1)
    assert shard.gather(values) is values


def test_two_processes_show_what_one_shows(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        SCENE + f"shard = Shard.of_process({NUM_ENVS}, device='cpu')\n"
        "assert shard.world_size == 2\n"
        f"torch.save([play(shard, mode) for mode in ('realtime', 'pregenerated')], "
        f"{str(tmp_path)!r} + f'/rank{{shard.rank}}.pt')\n",
        encoding="utf-8",
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, str(worker)], capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(str(tmp_path / f"rank{rank}.pt")) for rank in range(2))
    scope: dict[str, object] = {}
    exec(SCENE, scope)
    play = scope["play"]
    assert callable(play)
    for index, mode in enumerate(("realtime", "pregenerated")):
        alone = play(Shard(NUM_ENVS), mode)
        assert alone.shape[:2] == (NUM_ENVS, 24)
        assert torch.equal(first[index], second[index])
        # Products of other numbers of rows differ in the last digit; velocities are several rad/s.
        torch.testing.assert_close(first[index], alone, atol=5e-5, rtol=0.0)


def test_the_number_of_an_environment_decides_what_it_draws(checkpoint: Checkpoint) -> None:
    """Without `first_env` the second process would repeat what the first one draws."""
    commands = torch.zeros(24, 3)
    commands[:, 0] = 1.0

    def begun(num_envs: int, first_env: int) -> torch.Tensor:
        generator = CMGMotionGenerator(checkpoint, num_envs, mode="realtime", buffer_size=8, first_env=first_env)
        generator.reset(commands=commands[:num_envs])
        return generator.get_motion()[0].clone()

    everyone, here, there = begun(24, 0), begun(12, 0), begun(12, 12)
    assert torch.equal(everyone, torch.cat((here, there)))
    assert not torch.equal(here, there)


def test_draws_are_even_and_unlike_each_other() -> None:
    draws = EnvironmentDraws(4096, 0, seed=1, device=torch.device("cpu"))
    env_ids = torch.arange(4096)
    first, second = draws(env_ids) % 8, draws(env_ids) % 8
    other = EnvironmentDraws(4096, 0, seed=2, device=torch.device("cpu"))(env_ids) % 8
    later = EnvironmentDraws(4096, 1, seed=1, device=torch.device("cpu"))(env_ids) % 8
    assert torch.equal(later[:-1], first[1:])
    for values in (first, second, other):
        assert int(torch.bincount(values, minlength=8).min()) > 430
    for pair in ((first, second), (first, other), (first[1:], first[:-1]), (second[1:], first[:-1])):
        assert abs(float((pair[0] == pair[1]).float().mean()) - 1 / 8) < 0.02
