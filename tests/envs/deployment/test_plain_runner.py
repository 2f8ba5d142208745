"""The runner without torch: what it measures, what conditions do, and that the robot walks on models of all kinds."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("onnxruntime")

from envs.cli.sim import main
from envs.deployment import free_use, plain_simulation
from envs.deployment.exported_controller import ArtefactError, ExportedController
from envs.deployment.plain_runner import COMMANDS, SETTLING_TIME, WINDOW, Run, run, summarise, table
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
    from envs.evaluation import cases, policy_evaluation

    unpushed = {case.command for case in cases.GRID if case.push == 0.0}
    assert set(COMMANDS) == unpushed and len(COMMANDS) == len(unpushed)
    times = (policy_evaluation.SETTLING_TIME, policy_evaluation.WINDOW, cases.PUSH_INTERVAL)
    assert times == (SETTLING_TIME, WINDOW, Conditions().push_interval)


def test_free_use_is_that_of_the_evaluation() -> None:
    pytest.importorskip("mujoco.batch")
    from configs.legged_robot_config import LeggedRobotCfg
    from envs.evaluation import cases, conditions
    from envs.mujoco_gym.engine import ground

    ours = {case.name: case for case in cases.FREE if case.start == "reference"}
    assert list(ours) == [case.name for case in free_use.FREE]
    for case in free_use.FREE:
        known = {name: value for name, value in ours[case.name].conditions.items() if name != "noslip"}
        schedule = known.pop("schedule", None)
        if ours[case.name].push:
            known["push"] = ours[case.name].push
        assert (case.seconds, dict(case.conditions)) == (ours[case.name].duration, known)
        assert schedule == (free_use.SCHEDULE if case.scheduled else None)
    assert free_use.SCHEDULED == cases.SCHEDULED
    assert free_use.PUNCH_INTERVAL == cases.PUNCH_INTERVAL
    assert plain_simulation.SKIN == ground.SKIN
    biases = (conditions.ANG_VEL_BIAS, conditions.GRAVITY_BIAS)
    assert biases == (free_use.ANG_VEL_BIAS, free_use.GRAVITY_BIAS)
    cfg = LeggedRobotCfg()
    assert cfg.domain_rand.punch_time == free_use.PUNCH_TIME
    arms = (cfg.driven_joints.change_time, cfg.driven_joints.step, cfg.driven_joints.reach)
    assert arms == (free_use.ARM_TIME, free_use.ARM_STEP, free_use.ARM_REACH)


def test_random_commands_change_within_their_times() -> None:
    commands = free_use.FreeCase("some", 60.0).commands(0.02, 3)
    assert commands.shape == (3000, 3)
    changes = np.flatnonzero((np.diff(commands, axis=0) != 0.0).any(axis=1)) + 1
    lasting = np.diff([0, *changes]) * 0.02
    assert lasting.min() >= 0.99 and 3.0 < lasting.max() <= 4.01
    low, high = np.array(free_use.SCHEDULED).T
    assert (commands >= low).all() and (commands <= high).all()
    assert not np.array_equal(commands, free_use.FreeCase("some", 60.0).commands(0.02, 4))
    assert not free_use.FreeCase("still", 2.0, scheduled=False).commands(0.02, 3).any()


def test_figures_are_those_of_known_velocities() -> None:
    time = np.arange(400) * 0.02
    sway = 0.3 * np.sin(2.0 * np.pi * time / WINDOW)  # averages out over a window
    command = np.array([0.8, 0.0, 0.5])
    velocity = [
        command + np.array([0.0, 0.05 + s, -0.1]) * (t >= SETTLING_TIME) for t, s in zip(time, sway, strict=True)
    ]
    walked = Run(0.02, [command] * 400, velocity)
    fallen = Run(0.02, [command] * 100, velocity[:100], fell_at=2.0)
    row = summarise("curve", [walked, fallen])
    assert row.survival == 0.5 and row.runs == 2
    assert row.lin_vel_error == pytest.approx(0.05, abs=1e-6)
    assert row.yaw_rate_error == pytest.approx(0.1, abs=1e-6)
    assert row.velocity == pytest.approx((0.8, 0.05, 0.4), abs=1e-6)
    assert "| curve | 50% | 0.050 | 0.100 | +0.80 +0.05 +0.40 |  |  |" in table([row])
    walked.moved = np.array([0.3, 0.4, -0.1])
    standing = summarise("stand", [walked], still=True)
    assert "| 0.500 | 0.100 |" in table([standing]) and standing.to_json()["drift"] == pytest.approx(0.5)
    assert row.to_json()["drift"] is None
    assert "1 of 2 roll-outs without a fall" in table([row])
    assert np.isnan(summarise("curve", [fallen]).lin_vel_error)


def other_starts(controller: ExportedController) -> dict[str, np.ndarray]:
    """Twelve poses that are not the one to begin in."""
    start, random = controller.start_joint_pos, np.random.default_rng(0)
    bent, stretched = start.copy(), start.copy()
    for side in ("left", "right"):
        joints = [controller.joint_names.index(f"{side}_{name}_joint") for name in ("hip_pitch", "knee", "ankle_pitch")]
        bent[joints] += (-0.2, 0.4, -0.2)
        stretched[joints] = (-0.05, 0.1, -0.05)
    poses = {"default": np.array(controller.description["default_joint_pos"]), "bent": bent, "stretched": stretched}
    for reach in (0.1, 0.2, 0.3):
        poses |= {f"{reach} off, {n}": start + random.uniform(-reach, reach, len(start)) for n in range(3)}
    return poses


def test_it_stands_and_walks_whatever_pose_it_is_let_go_in(exported: Path, g1_mjcf: Path) -> None:
    controller = ExportedController(exported)
    simulation = PlainSimulation(g1_mjcf, controller, Conditions(physics_dt=0.005))
    for name, pose in other_starts(controller).items():
        controller.reset()
        simulation.reset(pose)
        for step in range(350):
            command = np.zeros(3) if step < 100 else np.array([0.5, 0.0, 0.0])
            ang_vel, gravity, joint_pos, joint_vel = simulation.measure()
            simulation.step(controller.step(ang_vel, gravity, command, joint_pos, joint_vel))
        assert not simulation.fallen, name
        assert np.linalg.norm(simulation.pose()[:2]) > 1.0, name


@pytest.mark.parametrize("physics_dt", [0.002, 0.005])
def test_it_walks_on_the_model_of_the_package(exported: Path, g1_mjcf: Path, physics_dt: float) -> None:
    controller = ExportedController(exported)
    simulation = PlainSimulation(g1_mjcf, controller, Conditions(physics_dt=physics_dt))
    row = summarise("vx 1", [run(simulation, controller, [np.array([1.0, 0.0, 0.0])] * 400)])
    assert row.survival == 1.0 and row.lin_vel_error < 0.12 and row.yaw_rate_error < 0.15


def test_it_walks_on_a_scene_of_the_maker(exported: Path, unitree_mjcf: Path) -> None:
    controller = ExportedController(exported)
    simulation = PlainSimulation(unitree_mjcf, controller, Conditions(physics_dt=0.005))
    assert [geom for geom in range(simulation.model.ngeom) if simulation.model.geom_type[geom] == 0] != []
    row = summarise("vx 0.5", [run(simulation, controller, [np.array([0.5, 0.0, 0.0])] * 300)])
    assert row.survival == 1.0 and row.lin_vel_error < 0.12


def test_rough_ground_lies_on_the_floor(exported: Path, g1_mjcf: Path) -> None:
    flat, rough = simulated(exported, g1_mjcf), simulated(exported, g1_mjcf, roughness=0.02)
    heights = rough.model.hfield_data * rough.model.hfield_size[0, 2]
    assert 0.0 <= heights.min() < 0.002 and 0.038 < heights.max() <= 0.04
    assert rough.model.nhfield == 1 and flat.model.nhfield == 0
    # It stands on a bump, not in it.
    assert 0.0 < rough.root[2] - flat.root[2] <= 0.04
    controller = ExportedController(exported)
    assert run(rough, controller, [np.zeros(3)] * 50).fell_at is None
    assert (simulated(exported, g1_mjcf, roughness=0.02).model.hfield_data == rough.model.hfield_data).all()


def test_a_foreign_policy_follows_the_reference(exported: Path, twist2_folder: Path, tmp_path: Path) -> None:
    # With the offsets of our policy the reference does what *that* one has to be told.
    from envs.deployment.controller_export import export_controller
    from envs.learning.policy import load_policy

    ours = load_policy()
    ours.description = dataclasses.replace(ours.description, calibration={})
    export_controller(ours, tmp_path / "without.onnx")
    policy = next(twist2_folder.glob("*.onnx"))
    controller = Twist2Controller(policy, ExportedController(tmp_path / "without.onnx"))
    model = twist2_folder / "g1_sim2sim_29dof.xml"
    simulation = PlainSimulation(model, controller, Conditions(physics_dt=0.001))
    rows = []
    for command in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 0.8)):
        rows.append(summarise(str(command), [run(simulation, controller, [np.array(command)] * 300)]))
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

    off = simulated(exported, g1_mjcf, imu_bias=1.0)
    for value, true, size in zip(off.measure(), plain.measure(), (0.05, 0.03), strict=False):
        np.testing.assert_allclose(np.abs(value - true), size)

    weak, driven = simulated(exported, g1_mjcf, strength=0.5), simulated(exported, g1_mjcf, arms="walk")
    elbow = plain.controller.joint_names.index("left_elbow_joint")
    targets = plain.controller.start_joint_pos + 0.02
    for simulation in (plain, weak, driven):
        simulation.step(targets)
    torque = [simulation.data.qfrc_applied[simulation._q - 1] for simulation in (plain, weak)]
    assert 0.4 < np.median(torque[1] / torque[0]) < 0.7
    assert driven.data.qpos[driven._q[elbow]] == pytest.approx(driven.controller.start_joint_pos[elbow], abs=3e-3)
    for _ in range(60):
        driven.step(targets)
    assert driven._arms is not None
    arms = [name for name in plain.controller.joint_names if any(part in name for part in free_use.ARMS)]
    moved = dict(zip(arms, driven._arms._to - driven.controller.start_joint_pos[driven._arms.columns], strict=True))
    assert max(map(abs, moved.values())) > 0.05
    assert moved["left_elbow_joint"] == pytest.approx(moved["right_elbow_joint"])
    assert moved["left_shoulder_roll_joint"] == pytest.approx(-moved["right_shoulder_roll_joint"])

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


def test_blows_come_every_five_seconds_and_pass(exported: Path, g1_mjcf: Path) -> None:
    simulation = simulated(exported, g1_mjcf, punch=200.0)
    targets, hit = simulation.controller.start_joint_pos, []
    for step in range(260):
        simulation.step(targets)
        force = np.linalg.norm(simulation.data.xfrc_applied[:, :3], axis=1)
        if force.any():
            hit.append(step)
            assert (force > 0.0).sum() == 1 and 100.0 <= force.max() <= 200.0
    assert hit == [250, 251, 252, 253]


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


def test_the_command_line_tries_free_use(exported: Path, g1_mjcf: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "sim.py"), "--mjcf", str(g1_mjcf), "--policy", str(exported)]
    command += ["--free", "--duration", "0.2", "--json", str(tmp_path / "free.json")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "free.json").read_text())
    assert [row["name"] for row in rows] == [case.name for case in free_use.FREE]
    assert all(row["survival"] == 1.0 for row in rows) and rows[-1]["drift"] < 0.05 and rows[0]["drift"] is None
    assert f"{len(rows)} of {len(rows)} roll-outs without a fall" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "absent.onnx"), "absent.onnx: no such file"),
        (("--mjcf", "absent.xml"), "absent.xml: no such file"),
        (("--mjcf", "BROKEN"), "MuJoCo cannot load it"),
        (("--mjcf", "WHEEL"), "has no joint 'left_hip_pitch_joint', which the controller drives"),
        (("--physics_dt", "0.007"), "a control step of 0.02 s is no multiple of 0.007 s"),
        (("--physics_dt", "0"), "a control step of 0.02 s is no multiple of 0 s"),
        (("--roughness", "-0.01"), "the roughness of the ground must not be negative, got -0.01 m"),
        (("--roughness", "nan"), "the roughness of the ground must not be negative, got nan m"),
        (("--height", "0.65"), "takes vx, vy, wz, no height: cmg-play --export FILE"),
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
