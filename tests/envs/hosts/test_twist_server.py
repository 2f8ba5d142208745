"""TWIST's own motion server plays a clip written here; what it reaches outside of itself is stood in for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cmg_ref.clips.formats.writers import write_twist_pickle
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.clip_generation import generate_clips

# No Redis, no window, no GPU and no waiting; everything else is the server's own.
SERVE = """
import json, runpy, sys, time, types
import mujoco.viewer, torch
from envs.simulator import BACKEND, register_as_isaacgym
if BACKEND == "mujoco":
    register_as_isaacgym()
published = []

class Redis:
    def __init__(self, **options): pass
    def set(self, key, value): published.append((key, json.loads(value)))

class Viewer:
    cam = types.SimpleNamespace()
    def sync(self): pass

sys.modules["redis"] = types.ModuleType("redis")
sys.modules["redis"].Redis = Redis
mujoco.viewer.launch_passive = lambda **options: Viewer()
time.sleep = lambda seconds: None
device = torch.device
torch.device = lambda name: device("cpu")
sys.path[:0] = [ROOT + "/pose", ROOT + "/deploy_real"]
sys.argv = ["server", "--motion_file", CLIP]
try:
    runpy.run_path(ROOT + "/deploy_real/server_high_level_motion_lib.py", run_name="__main__")
except SystemExit:
    pass
print()
print(json.dumps([value for key, value in published if key == "action_mimic_g1"]))
"""


def test_twists_motion_server_plays_a_written_clip(
    run_code: Callable[..., Any], twist_root: Path, tmp_path: Path
) -> None:
    for package in ("mujoco", "rich", "yaml"):
        pytest.importorskip(package)
    if not (twist_root / "deploy_real" / "server_high_level_motion_lib.py").is_file():
        pytest.skip("this TWIST has no deploy_real/server_high_level_motion_lib.py")
    checkpoint = load_checkpoint()
    commands = torch.tensor([0.8, 0.0, 0.0]).repeat(1, round(4.0 * checkpoint.fps), 1)
    write_twist_pickle(generate_clips(checkpoint, commands)[0], tmp_path / "walk.pkl", load_g1(), wrists=False)
    observations = torch.tensor(run_code(f"ROOT, CLIP = {str(twist_root)!r}, {str(tmp_path / 'walk.pkl')!r}\n" + SERVE))
    # Height, roll, pitch, yaw, velocity, yaw rate and 25 joints: two wrists of the server's own among them. In the last
    # 2 s it goes back to standing.
    walk = observations[:190]
    assert observations.shape[1] == 33 and len(observations) > 290
    assert float(walk[:, 0].min()) > 0.7 and float(walk[:, 0].max()) < 0.85
    assert float(walk[100:, 4].mean()) == pytest.approx(0.8, abs=0.1)
