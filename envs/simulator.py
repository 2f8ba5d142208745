"""The simulator behind Isaac Gym's API: the real `isaacgym` where it can be imported, else the stand-in on MuJoCo.

    from envs.simulator import gymapi, gymtorch

Environments import it from here and run on either. Isaac Gym has to be imported before torch, so a program that may
meet it imports this module first.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from types import ModuleType

from cmg_ref.core.installation import InstallationError

__all__ = [
    "BACKEND",
    "CAPABILITIES",
    "gymapi",
    "gymtorch",
    "gymutil",
    "register_as_isaacgym",
    "terrain_utils",
    "torch_utils",
]

_NO_SIMULATOR = (
    "no simulator: neither isaacgym nor mujoco 4.0 or newer is installed; "
    "install the latter with: pip install 'cmg_ref[mujoco]'"
)
_MODULES = ("gymapi", "gymtorch", "gymutil", "torch_utils", "terrain_utils")
_STAND_IN = "envs.mujoco_gym"


def _is_importable(name: str) -> bool:
    """Whether a top-level module is there, our own registered stand-in not counted."""
    if name in sys.modules:
        return sys.modules[name] is not sys.modules.get(_STAND_IN)
    return importlib.util.find_spec(name) is not None


BACKEND: str = "isaacgym" if _is_importable("isaacgym") else "mujoco"
"""Which simulator runs: "isaacgym" or "mujoco"."""


@dataclass(frozen=True)
class Capabilities:
    """What a simulator can do beyond what its API says; who needs to know asks this, not for its name.

    Attributes:
        on_gpu: Whether it simulates on a GPU too.
        changes_robots: Whether masses, gains and surfaces of robots may change while it runs.
        many_simulations: Whether a process may hold more than one simulation.
        has_viewer: Whether it shows a window.
        large_ground: Whether a ground of many triangles costs little.
    """

    on_gpu: bool
    changes_robots: bool
    many_simulations: bool
    has_viewer: bool
    large_ground: bool

    @property
    def default_device(self) -> str:
        """Where it runs unless told otherwise: the GPU of this process among those of torchrun, or the CPU."""
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if self.on_gpu else "cpu"


_CAPABILITIES = {
    # On a GPU, PhysX takes the properties of robots before the simulation is prepared only.
    "isaacgym": Capabilities(
        on_gpu=True, changes_robots=False, many_simulations=False, has_viewer=True, large_ground=True
    ),
    "mujoco": Capabilities(
        on_gpu=False, changes_robots=True, many_simulations=True, has_viewer=False, large_ground=False
    ),
}
CAPABILITIES = _CAPABILITIES[BACKEND]
"""What the simulator that runs can do."""


def _load(name: str) -> ModuleType:
    package = "isaacgym" if BACKEND == "isaacgym" else _STAND_IN
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        if BACKEND == "mujoco" and error.name is not None and error.name.split(".")[0] == "mujoco":
            raise InstallationError(_NO_SIMULATOR) from error
        raise


def _is_too_old() -> bool:
    """Whether MuJoCo's Batch is that of 3.17, which cannot tell which fields differ between worlds."""
    if not (_is_importable("mujoco") and _is_importable("mujoco.batch")):
        return False
    return not hasattr(importlib.import_module("mujoco.batch").Batch, "expanded")


if BACKEND == "mujoco" and _is_too_old():
    raise InstallationError(_NO_SIMULATOR)

gymapi, gymtorch, gymutil, torch_utils, terrain_utils = (_load(name) for name in _MODULES)


def register_as_isaacgym() -> None:
    """Let `import isaacgym` find the stand-in, for code written for Isaac Gym such as TWIST's.

    Call it before that code is imported. Nothing happens if it is registered already.

    Raises:
        RuntimeError: If the real Isaac Gym can be imported: it is what such code should get.
    """
    if BACKEND == "isaacgym":
        raise RuntimeError("the real isaacgym is importable, so the stand-in must not take its name")
    sys.modules["isaacgym"] = importlib.import_module(_STAND_IN)
    for name in _MODULES:
        sys.modules[f"isaacgym.{name}"] = importlib.import_module(f"{_STAND_IN}.{name}")
