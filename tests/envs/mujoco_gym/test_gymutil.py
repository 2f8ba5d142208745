"""`gymutil` reads devices, settings and command lines as scripts for Isaac Gym expect."""

from __future__ import annotations

import sys

import pytest

from envs.mujoco_gym import gymutil
from envs.mujoco_gym.types.parameters import SimParams, SimType, UpAxis, Vec3


def test_devices() -> None:
    assert gymutil.parse_device_str("cpu") == ("cpu", 0)
    assert gymutil.parse_device_str("cuda") == ("cuda", 0)
    assert gymutil.parse_device_str("cuda:3") == ("cuda", 3)
    for wrong in ("", "tpu", "cuda:x", "cpu:1"):
        with pytest.raises(ValueError, match="is no device"):
            gymutil.parse_device_str(wrong)


def test_settings_are_set_through_all_levels() -> None:
    params = SimParams()
    gymutil.parse_sim_config(
        {
            "dt": 0.005,
            "substeps": 4,
            "gravity": [0.0, 0.1, -9.0],
            "up_axis": 1,
            "physx": {"num_threads": 2, "solver_type": 1},
            "mujoco": {"iterations": 5},
        },
        params,
    )
    assert (params.dt, params.substeps, params.up_axis) == (0.005, 4, UpAxis.UP_AXIS_Z)
    assert params.gravity == Vec3(0.0, 0.1, -9.0)
    assert params.physx.num_threads == 2 and params.mujoco.iterations == 5


def test_unknown_setting_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"sim.physx.num_thread is no parameter; did you mean num_threads\?"):
        gymutil.parse_sim_config({"physx": {"num_thread": 2}}, SimParams())


def test_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["train.py", "--task", "a1", "--headless", "--sim_device", "cuda:1", "--pipeline", "GPU"]
    )
    args = gymutil.parse_arguments(
        description="RL",
        headless=True,
        custom_parameters=[
            {"name": "--task", "type": str, "default": "anymal", "help": "name of the task"},
            {"name": "--resume", "action": "store_true", "default": False},
        ],
    )
    assert (args.task, args.resume, args.headless) == ("a1", False, True)
    assert (args.sim_device_type, args.compute_device_id) == ("cuda", 1)
    assert args.use_gpu and args.use_gpu_pipeline and args.physics_engine == SimType.SIM_PHYSX


def test_command_line_defaults_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--subscenes", "3"])
    args = gymutil.parse_arguments()
    assert (args.sim_device_type, args.use_gpu, args.use_gpu_pipeline, args.slices) == ("cpu", False, False, 3)
    assert not hasattr(args, "headless")
    monkeypatch.setattr(sys, "argv", ["train.py", "--pipeline", "gpu"])
    with pytest.warns(UserWarning, match="pipeline is set to cpu"):
        assert not gymutil.parse_arguments().use_gpu_pipeline


def test_custom_parameter_without_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(ValueError, match="has no name"):
        gymutil.parse_arguments(custom_parameters=[{"type": int}])


def test_nothing_is_drawn_without_a_viewer() -> None:
    sphere = gymutil.WireframeSphereGeometry(0.02, 4, 4, None, color=(1, 1, 0))
    assert sphere.radius == 0.02
    assert gymutil.draw_lines(sphere, None, None, None, None) is None  # type: ignore[func-returns-value]
