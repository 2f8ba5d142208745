"""The runner without torch: what it measures, what conditions do, and that the robot walks on models of all kinds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("onnxruntime")

from envs.cli.sim import main
from envs.deployment.exported_controller import ArtefactError, ExportedController
from envs.deployment.plain_runner import COMMANDS, PUSH_INTERVAL, SETTLING_TIME, WINDOW, Run, run, summarise, table
from envs.deployment.plain_simulation import Conditions, PlainSimulation
from envs.deployment.twist2_controller import Twist2Controller

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def test_it_needs_neither_torch_nor_the_environments() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import envs.cli.sim; "
        "print([name for name in sys.modules if name.split('.')[0] in ('torch', 'configs', 'numba') "
        "or name.startswith('cmg_ref.') and not name.startswith('cmg_ref.core') "
        "or name.startswith('envs.') and not name.startswith(('envs.cli', 'envs.deployment'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_commands_and_times_are_those_of_the_evaluation() -> None:
    pytest.importorskip("mujoco.batch")
    from envs.learning import policy_evaluation

    unpushed = {case.command for case in policy_evaluation.GRID if case.push == 0.0}
    assert set(COMMANDS) == unpushed and len(COMMANDS) == len(unpushed)
    times = (policy_evaluation.SETTLING_TIME, policy_evaluation.WINDOW, policy_evaluation.PUSH_INTERVAL)
    assert times == (SETTLING_TIME, WINDOW, PUSH_INTERVAL)


def test_figures_are_those_of_known_velocities() -> None:
    time = np.arange(400) * 0.02
    sway = 0.3 * np.sin(2.0 * np.pi * time / WINDOW)  # averages out over a window
    command = np.array([0.8, 0.0, 0.5])
    velocity = [
        command + np.array([0.0, 0.05 + s, -0.1]) * (t >= SETTLING_TIME) for t, s in zip(time, sway, strict=True)
    ]
    walked = Run(0.02, [command] * 400, velocity)
    fallen = Run(0.02, [command] * 100, velocity[:100], fell_at=2.0)
    row = summarise((0.8, 0.0, 0.5), [walked, fallen])
    assert row.survival == 0.5 and row.runs == 2
    assert row.lin_vel_error == pytest.approx(0.05, abs=1e-6)
    assert row.yaw_rate_error == pytest.approx(0.1, abs=1e-6)
    assert row.velocity == pytest.approx((0.8, 0.05, 0.4), abs=1e-6)
    assert "| +0.80 +0.00 +0.50 | 50% | 0.050 | 0.100 | +0.80 +0.05 +0.40 |" in table([row])
    assert "1 of 2 roll-outs without a fall" in table([row])
    assert np.isnan(summarise((0.8, 0.0, 0.5), [fallen]).lin_vel_error)


@pytest.mark.parametrize("physics_dt", [0.002, 0.005])
def test_it_walks_on_the_model_of_the_package(exported: Path, g1_mjcf: Path, physics_dt: float) -> None:
    controller = ExportedController(exported)
    simulation = PlainSimulation(g1_mjcf, controller, Conditions(physics_dt=physics_dt))
    row = summarise((1.0, 0.0, 0.0), [run(simulation, controller, [np.array([1.0, 0.0, 0.0])] * 400)])
    assert row.survival == 1.0 and row.lin_vel_error < 0.12 and row.yaw_rate_error < 0.15


def test_it_walks_on_a_scene_of_the_maker(exported: Path, unitree_mjcf: Path) -> None:
    controller = ExportedController(exported)
    simulation = PlainSimulation(unitree_mjcf, controller, Conditions(physics_dt=0.005))
    assert [geom for geom in range(simulation.model.ngeom) if simulation.model.geom_type[geom] == 0] != []
    row = summarise((0.5, 0.0, 0.0), [run(simulation, controller, [np.array([0.5, 0.0, 0.0])] * 300)])
    assert row.survival == 1.0 and row.lin_vel_error < 0.12


def test_a_foreign_policy_follows_the_reference(exported: Path, twist2_folder: Path) -> None:
    policy = next(twist2_folder.glob("*.onnx"))
    controller = Twist2Controller(policy, ExportedController(exported))
    model = twist2_folder / "g1_sim2sim_29dof.xml"
    simulation = PlainSimulation(model, controller, Conditions(physics_dt=0.001))
    rows = []
    for command in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 0.8)):
        rows.append(summarise(command, [run(simulation, controller, [np.array(command)] * 300)]))
        assert rows[-1].survival == 1.0
        assert rows[-1].lin_vel_error < 0.2 and rows[-1].yaw_rate_error < 0.2
    with pytest.raises(ArtefactError, match="not a policy of TWIST2"):
        Twist2Controller(exported, ExportedController(exported))


def test_the_robot_begins_on_the_floor_and_at_rest(exported: Path, g1_mjcf: Path) -> None:
    controller = ExportedController(exported)
    simulation = PlainSimulation(g1_mjcf, controller, Conditions())
    np.testing.assert_allclose(simulation.measure()[1], controller.start_gravity, atol=1e-6)
    np.testing.assert_allclose(simulation.measure()[2], controller.start_joint_pos)
    start = simulation.data.qpos[:3].copy()
    result = run(simulation, controller, [np.zeros(3)] * 100)
    assert result.fell_at is None
    assert np.linalg.norm(simulation.data.qpos[:3] - start) < 0.05


def simulated(exported: Path, mjcf: Path, **conditions: Any) -> PlainSimulation:
    return PlainSimulation(mjcf, ExportedController(exported), Conditions(**conditions))


def test_conditions_change_what_they_say(exported: Path, g1_mjcf: Path) -> None:
    plain = simulated(exported, g1_mjcf)
    heavy = simulated(exported, g1_mjcf, payload=3.0, friction=0.4)
    assert heavy.model.body_mass.sum() - plain.model.body_mass.sum() == pytest.approx(3.0)
    assert set(heavy.model.geom_friction[:, 0]) == {0.4}
    np.testing.assert_allclose(plain.model.dof_armature[6:], plain.controller.armature)

    noisy = simulated(exported, g1_mjcf, noise=1.0)
    difference = np.abs(noisy.measure()[2] - plain.measure()[2])
    assert 0.005 < difference.max() <= 0.01

    pushed = simulated(exported, g1_mjcf, push=0.7)
    pushed.push()
    assert np.linalg.norm(pushed.data.qvel[:2]) == pytest.approx(0.7)


def test_targets_arrive_after_the_delay(exported: Path, g1_mjcf: Path) -> None:
    elbow, steps = [], 0
    for delay in (0.0, 0.02):
        simulation = simulated(exported, g1_mjcf, delay=delay)
        targets = simulation.controller.start_joint_pos.copy()
        joint = simulation.controller.joint_names.index("left_elbow_joint")
        targets[joint] += 0.5
        steps = round(delay / 0.02)
        for _ in range(steps):
            simulation.step(targets)
        elbow.append(simulation.data.qpos[simulation._q[joint]])
        simulation.step(targets)
        elbow.append(simulation.data.qpos[simulation._q[joint]])
    assert abs(elbow[2] - elbow[0]) < 0.02  # nothing has arrived yet
    assert elbow[3] - elbow[2] == pytest.approx(elbow[1] - elbow[0], abs=0.02) and elbow[1] - elbow[0] > 0.04


def test_falls_are_seen(exported: Path, g1_mjcf: Path) -> None:
    controller = ExportedController(exported)
    simulation = PlainSimulation(g1_mjcf, controller, Conditions())
    controller.stiffness = 0.0 * controller.stiffness
    result = run(simulation, controller, [np.zeros(3)] * 200)
    assert result.fell_at is not None and 0.2 < result.fell_at < 2.0


def test_the_command_line_evaluates(exported: Path, g1_mjcf: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "sim.py"), "--mjcf", str(g1_mjcf), "--policy", str(exported)]
    command += ["--evaluate", "--duration", "0.2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"{len(COMMANDS)} of {len(COMMANDS)} roll-outs without a fall" in result.stdout
    assert "| +0.60 -0.20 -0.40 | 100% |" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "absent.onnx"), "absent.onnx: no such file"),
        (("--mjcf", "absent.xml"), "absent.xml: no such file"),
        (("--mjcf", "BROKEN"), "MuJoCo cannot load it"),
        (("--mjcf", "WHEEL"), "has no joint 'left_hip_pitch_joint', which the controller drives"),
        (("--physics_dt", "0.007"), "a control step of 0.02 s is no multiple of 0.007 s"),
        (("--physics_dt", "0"), "a control step of 0.02 s is no multiple of 0 s"),
        (("--schedule", "SHORT"), "needs the columns time,vx,vy,wz"),
        (("--schedule", "LATE"), "times rising from 0"),
        (("--schedule", "absent.csv"), "absent.csv"),
    ],
)
def test_bad_input_is_one_line(
    exported: Path,
    g1_mjcf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, str],
    message: str,
) -> None:
    wheel = "<mujoco><worldbody><body name='wheel'><freejoint/><geom size='0.1'/></body></worldbody></mujoco>"
    texts = {"BROKEN": "<mujoco>", "WHEEL": wheel, "SHORT": "time,vx,vy,wz\n0,1\n", "LATE": "time,vx,vy,wz\n1,0,0,0\n"}
    option, value = arguments
    if value in texts:
        value = str(tmp_path / f"{value.lower()}.xml")
        Path(value).write_text(texts[arguments[1]])
    options = {"--mjcf": str(g1_mjcf), "--policy": str(exported), option: value}
    monkeypatch.setattr(sys, "argv", ["sim.py", *(part for pair in options.items() for part in pair)])
    with pytest.raises(SystemExit) as stop:
        main()
    said = str(stop.value)
    assert said.startswith("sim: ") and message in said and "\n" not in said
