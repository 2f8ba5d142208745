from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

pytest.importorskip("mujoco.batch")

REPOSITORY = Path(__file__).parents[2]


def run(code: str, *path: Path) -> str:
    """Run a program in a process of its own, because it changes what can be imported."""
    program = f"import sys; sys.path[:0] = {[str(folder) for folder in (*path, REPOSITORY)]}\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def real_isaacgym(tmp_path: Path) -> Path:
    """A folder with a package of Isaac Gym's name, empty but for its modules."""
    package = tmp_path / "isaacgym"
    package.mkdir()
    for name in ("__init__", "gymapi", "gymtorch", "gymutil", "torch_utils", "terrain_utils"):
        (package / f"{name}.py").write_text("MADE_BY = 'NVIDIA'\n")
    return tmp_path


def test_the_stand_in_is_used_where_isaac_gym_is_not() -> None:
    assert run("from envs.simulator import BACKEND, gymapi; print(BACKEND, gymapi.__name__)") == (
        "mujoco envs.mujoco_gym.gymapi"
    )


def test_the_real_isaac_gym_is_preferred(real_isaacgym: Path) -> None:
    code = "from envs.simulator import BACKEND, gymapi; print(BACKEND, gymapi.MADE_BY)"
    assert run(code, real_isaacgym) == "isaacgym NVIDIA"


def test_nothing_is_called_isaacgym_unless_asked_for() -> None:
    code = """
        import envs.simulator
        try:
            import isaacgym
        except ModuleNotFoundError:
            print("absent")
    """
    assert run(code) == "absent"


def test_code_for_isaac_gym_imports_the_stand_in_once_it_is_registered() -> None:
    code = """
        from envs.simulator import gymapi as ours, register_as_isaacgym
        register_as_isaacgym()
        register_as_isaacgym()
        import isaacgym
        from isaacgym import gymapi, gymtorch, gymutil, terrain_utils
        from isaacgym.torch_utils import *
        print(gymapi is ours, gymapi.acquire_gym() is ours.acquire_gym(), isaacgym.gymtorch is gymtorch)
        import importlib, envs.simulator
        print(importlib.reload(envs.simulator).BACKEND)
    """
    assert run(code).split() == ["True", "True", "True", "mujoco"]


def test_the_stand_in_does_not_take_the_name_of_the_real_one(real_isaacgym: Path) -> None:
    code = """
        from envs.simulator import register_as_isaacgym
        try:
            register_as_isaacgym()
        except RuntimeError as error:
            print(error)
    """
    assert "real isaacgym" in run(code, real_isaacgym)


def test_a_missing_mujoco_is_named() -> None:
    code = """
        sys.modules["mujoco"] = None
        try:
            import envs.simulator
        except ModuleNotFoundError as error:
            print(error)
    """
    assert "neither isaacgym nor mujoco" in run(code)


def test_a_mujoco_that_is_too_old_is_said() -> None:
    """As 3.17, whose Batch has no `expanded`."""
    code = """
        import mujoco.batch
        del mujoco.batch.Batch.expanded
        try:
            import envs.simulator
        except ModuleNotFoundError as error:
            print(error)
    """
    assert "mujoco 4.0 or newer is installed" in run(code)


def test_a_simulator_says_what_it_can_do(real_isaacgym: Path) -> None:
    code = """
        import os
        os.environ["LOCAL_RANK"] = "1"
        from envs.simulator import CAPABILITIES as can
        print(can.default_device, can.on_gpu, can.changes_robots, can.many_simulations, can.has_viewer)
    """
    assert run(code) == "cpu False True True False"
    assert run(code, real_isaacgym) == "cuda:1 True False False True"


def test_environments_ask_what_a_simulator_can_do_and_not_for_its_name() -> None:
    naming = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "envs").rglob("*.py")
        if "BACKEND" in path.read_text(encoding="utf-8")
    }
    # The two hosts let code written for Isaac Gym find it; programs write down what they ran on.
    hosts = {"envs/hosts/twist.py", "envs/hosts/legged_gym_mixin.py", "envs/cli/twist_check.py"}
    assert naming == {"envs/simulator.py", *hosts, "envs/cli/play.py", "envs/cli/train_policy.py"}
