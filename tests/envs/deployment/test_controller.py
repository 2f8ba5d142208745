"""The exported controller against the environment it was made in, and what it does with commands of all kinds."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco.batch")

from cmg_ref.commands.calibration import CommandCalibration
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.start_states import InitialStates
from configs.base_config import update_from_dict
from envs.deployment.controller import Controller
from envs.deployment.controller_export import export_controller
from envs.deployment.exported_controller import METADATA_KEY, ArtefactError, ExportedController
from envs.deployment.gaitkeeper_contract import contract_path
from envs.deployment.policy_export import DEPLOYMENT_KEY, export_policy
from envs.learning.policy import SHIPPED_POLICY, Policy, PolicyError, file_hash, load_policy
from envs.playing.playback import play, playback_config
from envs.tasks.task_registry import task_registry

pytestmark = pytest.mark.slow

STEPS = 500
STANDING = {"ang_vel": np.zeros(3), "gravity": np.array([0.0, 0.0, -1.0]), "joint_vel": np.zeros(29)}


def walking_commands(seed: int) -> Iterator[torch.Tensor]:
    """Commands that change every 0.5 to 2 s, a quarter of them to stand."""
    random = np.random.default_rng(seed)
    command, change = torch.zeros(3), 25
    for step in range(STEPS):
        if step == change:
            low, high = np.array([-0.6, -0.4, -1.0]), np.array([2.0, 0.4, 1.0])
            command = torch.tensor(random.uniform(low, high), dtype=torch.float32) * float(random.random() > 0.25)
            change += int(random.integers(25, 100))
        yield command


def seeing_more_of_the_past(policy: Policy) -> Policy:
    """A policy that sees twice as many past observations, and minds them a little."""
    config = copy.deepcopy(policy.description.config)
    config["env"]["history_length"] = 2 * policy.description.history_length
    longer = policy.widened(policy.description.observations * 2)
    longer.description = dataclasses.replace(longer.description, config=config)
    first = longer.mlp.state_dict()["0.weight"]
    torch.manual_seed(0)
    first += 0.01 * torch.randn_like(first)
    return longer


@pytest.mark.parametrize("sees_more", [False, True])
def test_targets_are_those_of_play(sees_more: bool, exported: Path, tmp_path: Path) -> None:
    policy = load_policy()
    if sees_more:
        policy, exported = seeing_more_of_the_past(policy), tmp_path / "longer.onnx"
        assert export_controller(policy, exported) <= 1e-4
    env_cfg, _ = task_registry.get_cfgs("g1_cmg")
    update_from_dict(env_cfg, policy.description.config)
    env: Any = task_registry.make_env("g1_cmg", env_cfg=playback_config(env_cfg, STEPS * 0.02))[0]
    controller = ExportedController(exported)
    differences: list[float] = []
    # Left alone, the reference comes of itself, frame by frame: in corners of the range rounding errors of 1e-7 become
    # 0.04 rad in 8 s. So after a while the file is told twice a second at which frame the environment is.
    alone = 3 * STEPS // 10
    given = torch.zeros(3)

    def commands() -> Iterator[torch.Tensor]:
        for command in walking_commands(0):
            given.copy_(command)
            yield command

    def act(observations: torch.Tensor) -> torch.Tensor:
        if not differences:  # The environment begins in one of several stances, the file in one of them.
            stances = env.term.generator.standing_states
            stance = stances[int((stances[:, :29] - env.term.dof_pos).abs().sum(dim=1).argmin())]
            controller._state[0, : len(stance)] = stance.numpy() - controller._standing
        elif len(differences) >= alone and len(differences) % 25 == 0:
            shown = env.term.generator._shown
            present = shown.buffer.states_at(shown.clock.shown, shown.supply.motions_of(torch.arange(1)))[0][0]
            controller._state[0, : len(present)] = present.numpy() - controller._standing
        actions = policy(observations)
        targets = controller.step(
            *(value[0].numpy() for value in (env.base_ang_vel, env.projected_gravity, given.unsqueeze(0))),
            *(value[0].numpy() for value in (env.dof_pos, env.dof_vel)),
        )
        limit = policy.description.action_limit
        wanted = env._joint_targets(actions.clamp(-limit, limit))[0].numpy()
        differences.append(float(np.abs(targets - wanted).max()))
        return actions

    playback = play(env, act, commands(), calibration=policy.description.command_calibration())
    assert playback.fell_at is None and len(differences) == STEPS
    assert max(differences) <= 1e-3 and max(differences[:alone]) <= 1e-4
    # It went somewhere: standing still would prove little.
    assert float(playback.robot.root_pos[-1, :2].norm()) > 1.0


def test_a_measurement_that_is_not_a_number_does_not_stay_in_the_history() -> None:
    controller = Controller(seeing_more_of_the_past(load_policy()), load_checkpoint()).eval().requires_grad_(False)
    good = torch.zeros(2, controller.observation_size)
    good[:, 5] = -1.0
    for lost_at in (0, 3):
        state = torch.zeros(2, controller.state_size)
        for step in range(10):
            observation = good.clone()
            observation[0, 20] = float("nan") if step == lost_at else 0.0
            targets, state, _ = controller(observation, state)
            assert bool(torch.isfinite(targets).all()) and bool(torch.isfinite(state).all())
        assert float((targets[0] - targets[1]).abs().max()) < 0.05


def calibrated(fields: dict[str, Any], acceleration: Any = None) -> Controller:
    """The shipped policy's controller with another calibration, and other limits to changes of a command."""
    policy = load_policy()
    config = copy.deepcopy(policy.description.config)
    config["commands"]["acceleration"] = acceleration
    policy.description = dataclasses.replace(policy.description, calibration=fields, config=config)
    return Controller(policy, load_checkpoint()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def controller() -> Controller:
    return calibrated({})


def told(controller: Controller, commands: torch.Tensor) -> torch.Tensor:
    """Commands in force (num_steps, n, 3) while told commands (num_steps, n, 3)."""
    names = [part.name for part in controller.state_parts]
    column = sum(part.size for part in controller.state_parts[: names.index("command")])
    state = torch.zeros(commands.shape[1], controller.state_size)
    in_force = []
    for command in commands:
        observation = torch.zeros(len(command), controller.observation_size)
        observation[:, 5], observation[:, 6:9] = -1.0, command
        _, state, _ = controller(observation, state)
        in_force.append(state[:, column : column + 3])
    return torch.stack(in_force)


def test_the_zero_state_stands(controller: Controller) -> None:
    state = torch.zeros(1, controller.state_size)
    standing = InitialStates(load_checkpoint(), Rollout(controller.generator.model), load_g1()).standing
    assert any(torch.equal(controller.standing, one) for one in standing)
    observation = torch.zeros(1, controller.observation_size)
    observation[:, 5] = -1.0
    for _ in range(100):
        _, state, _ = controller(observation, state)
    reference = state[:, : len(controller.standing)]
    assert float(reference.abs().max()) < 1e-5


def test_a_command_that_stays_is_in_force_after_the_ramp_time(controller: Controller) -> None:
    goal = torch.tensor([1.0, -0.2, 0.5])
    in_force = told(controller, goal.expand(40, 1, 3))[:, 0]
    ramp = torch.arange(1, 26).unsqueeze(1) / 25.0
    torch.testing.assert_close(in_force[:25], ramp * goal, atol=1e-6, rtol=0.0)
    assert torch.equal(in_force[25:], goal.expand(15, 3))


def test_a_command_that_changes_at_every_step_is_followed_with_limited_acceleration(controller: Controller) -> None:
    steps = 150
    wobble = 0.01 * torch.sin(torch.arange(steps)).unsqueeze(1)
    sweep = torch.linspace(0.0, 2.0, steps).unsqueeze(1)  # 0.67 m/s^2
    commands = torch.stack((torch.cat((1.0 + wobble, 0.0 * wobble, 0.0 * wobble), 1), sweep * torch.eye(3)[0]), 1)
    in_force = told(controller, commands)
    step = (in_force[1:] - in_force[:-1]).abs().amax(dim=(0, 1))
    assert bool((step <= controller.acceleration * controller.control_dt + 1e-6).all())
    # Neither lags: a ramp that began anew each time would be half a second behind, 0.33 m/s in the sweep.
    assert float((in_force[40:, 0, 0] - 1.0).abs().max()) < 0.02
    assert float((in_force[40:, 1, 0] - sweep[40:, 0]).abs().max()) < 0.02


def test_commands_are_held_within_the_range_of_the_policy(controller: Controller) -> None:
    beyond = torch.tensor([[9.0, -9.0, 9.0], [float("inf"), float("nan"), float("-inf")]])
    in_force = told(controller, beyond.expand(80, 2, 3))[-1]
    torch.testing.assert_close(in_force, torch.tensor([[2.5, -0.4, 1.0], [2.5, 0.0, -1.0]]))


def test_a_command_changes_within_the_limits_of_the_policy() -> None:
    slow = calibrated({}, [0.5, 0.25, 1.0])
    commands = torch.tensor([[1.0, 0.0, 0.0], [0.0, -0.25, 0.0], [0.0, 0.0, 0.5]])
    in_force = told(slow, commands.expand(110, 3, 3))
    for row, steps in enumerate((100, 50, 25)):
        ramp = (torch.arange(1.0, 111.0) / steps).clamp(max=1.0).unsqueeze(1)
        torch.testing.assert_close(in_force[:, row], ramp * commands[row], atol=1e-5, rtol=0.0)
    for bad in ([0.5, 0.25], [1.0, -1.0, 1.0], "fast", 3):
        with pytest.raises(PolicyError, match="configuration cannot be used"):
            calibrated({}, bad)


def test_what_is_in_force_is_what_the_calibration_makes_of_a_command() -> None:
    offsets = torch.zeros(3, 3, 2, 3)
    offsets[2, :, :, 0], offsets[1, 2, :, 1], offsets[2, 2, :, 1] = 0.2, 0.1, 0.1
    it = CommandCalibration(((-0.5, 0.0, 1.0), (-0.4, 0.0, 0.4), (0.0, 1.0)), offsets)
    commands = torch.tensor([[0.5, 0.2, 0.0], [9.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    in_force = told(calibrated(it.to_json()), commands.expand(80, 3, 3))[-1]
    # Held within the range first: what the calibration adds may go beyond it.
    torch.testing.assert_close(in_force, torch.tensor([[0.6, 0.25, 0.0], [2.7, 0.5, 0.0], [0.0, 0.0, 0.0]]))


def test_a_measurement_that_is_no_number_does_not_stay(controller: Controller) -> None:
    state = torch.zeros(1, controller.state_size)
    good = torch.zeros(1, controller.observation_size)
    good[:, 5], good[:, 6] = -1.0, 0.5
    _, state, _ = controller(good, state)
    bad = good.clone()
    bad[:, 12] = float("nan")
    _, state, targets = controller(bad, state)
    assert bool(torch.isfinite(state).all()) and bool(torch.isfinite(targets).all())


def test_rows_do_not_know_of_each_other(exported: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    observation = random.normal(size=(5, 67)).astype(np.float32)
    state = (0.1 * random.normal(size=(5, session.get_inputs()[1].shape[1]))).astype(np.float32)
    together = session.run(None, {"observation": observation, "state": state})
    for row in range(5):
        alone = session.run(None, {"observation": observation[row : row + 1], "state": state[row : row + 1]})
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], all_of_them[row], atol=2e-5)
    # States follow the observation and the first output in the same order, as readers of recurrent files expect.
    assert [item.name for item in session.get_inputs()] == ["observation", "state"]
    assert [item.name for item in session.get_outputs()] == ["actions", "next_state", "joint_targets"]


def test_the_file_says_what_a_runner_needs(exported: Path) -> None:
    import onnxruntime

    entries = onnxruntime.InferenceSession(str(exported)).get_modelmeta().custom_metadata_map
    description, policy = json.loads(entries[METADATA_KEY]), load_policy().description
    assert description["joint_names"] == list(policy.joint_names) == entries["joint_names"].split(",")
    assert description["stiffness"] == list(policy.stiffness)
    assert [float(value) for value in entries["joint_stiffness"].split(",")] == list(policy.stiffness)
    assert [float(value) for value in entries["joint_damping"].split(",")] == list(policy.damping)
    robot = load_g1()
    np.testing.assert_allclose(description["armature"], robot.armature, atol=1e-6)
    np.testing.assert_allclose(description["torque_limit"], robot.effort_limit)
    assert description["command"]["range"] == {"vx": [-0.6, 2.5], "vy": [-0.4, 0.4], "yaw_rate": [-1.0, 1.0]}
    assert description["control_dt"] == 0.02 and description["training"]["physics_dt"] == 0.005
    assert description["training"]["self_collision"] is True
    assert description["training"]["drive"].startswith("implicit")
    assert sum(term["size"] for term in description["inputs"]["observation"]) == 67
    assert entries["observation_names"] == "base_ang_vel,projected_gravity,command,joint_pos,joint_vel"
    assert description["made_from"][SHIPPED_POLICY.name] == file_hash(SHIPPED_POLICY)
    assert description["reference_of_training"] in description["made_from"].values()
    assert "non-commercial" in description["licence"]
    contract = json.loads(contract_path(exported).read_text())
    assert contract["timing"]["policy_dt"] == 0.02 and contract["control"]["actuators"]["kind"] == "implicit_pd"


def test_arms_begin_where_they_are(exported: Path) -> None:
    controller = ExportedController(exported)
    measured = controller.start_joint_pos + np.linspace(-0.4, 0.4, 29)
    controller.reset(measured)
    targets = controller.step(command=np.zeros(3), joint_pos=measured, **STANDING)
    reference = controller.reference[:29]
    # Told to stand, they are drawn to the stance with 0.6 rad/s at most.
    np.testing.assert_allclose(reference[15:], measured[15:], atol=0.0121)
    np.testing.assert_allclose(reference[:15], controller.start_joint_pos[:15], atol=1e-5)
    assert np.abs(targets[15:] - measured[15:]).max() < 0.2
    for _ in range(150):
        controller.step(command=np.zeros(3), joint_pos=controller.reference[:29], **STANDING)
    np.testing.assert_allclose(controller.reference[:29], controller.start_joint_pos, atol=1e-3)


def test_what_cannot_be_exported_is_named(exported: Path, tmp_path: Path) -> None:
    policy, checkpoint = load_policy(), load_checkpoint()
    own = policy.description.observations[: len(policy.description.observations) // policy.description.history_length]

    def changed(**fields: Any) -> Policy:
        other = copy.copy(policy)
        other.description = dataclasses.replace(policy.description, **fields)
        return other

    with pytest.raises(PolicyError, match="has no reference: export its policy alone"):
        Controller(changed(reference=""), checkpoint)
    with pytest.raises(PolicyError, match=r"acts every 0\.04 s"):
        Controller(changed(control_dt=0.04), checkpoint)
    with pytest.raises(PolicyError, match="observes 'base_lin_vel'"):
        Controller(changed(observations=(("base_lin_vel", 3, 1.0),)), checkpoint)
    with pytest.raises(PolicyError, match="observations are not 2 times the same"):
        Controller(changed(observations=(*own, *own[:1])), checkpoint)
    with pytest.raises(ArtefactError, match="no such file"):
        ExportedController(tmp_path / "absent.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ArtefactError, match="not a readable ONNX file"):
        ExportedController(tmp_path / "bad.onnx")


def test_the_policy_alone_says_how_its_observations_are_meant(exported: Path, tmp_path: Path) -> None:
    import onnxruntime

    export_policy(load_policy(), tmp_path / "policy.onnx")
    entries = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx")).get_modelmeta().custom_metadata_map
    told_of = {term["name"]: term for term in json.loads(entries[DEPLOYMENT_KEY])["observations"]}
    assert "one control step after its present frame" in told_of["reference_dof_pos"]["meaning"]
    assert "6 control steps after its present frame minus those 1" in told_of["reference_dof_change"]["meaning"]
    description = load_policy().description
    assert sum(term["size"] for term in told_of.values()) * description.history_length == description.num_observations
    with pytest.raises(ArtefactError, match=r"holds no controller of cmg_ref; write one with play\.py --export"):
        ExportedController(tmp_path / "policy.onnx")


def test_a_second_runtime_agrees(exported: Path) -> None:
    onnx_reference = pytest.importorskip("onnx.reference")
    controller, random = ExportedController(exported), np.random.default_rng(0)
    other = onnx_reference.ReferenceEvaluator(str(exported))
    state = np.zeros_like(controller._state)
    for step in range(20):
        command = np.array([0.8, 0.0, 0.3]) * (step > 3)
        ang_vel, joint_vel = 0.1 * random.normal(size=3), 0.1 * random.normal(size=29)
        joint_pos = controller.start_joint_pos + 0.05 * random.normal(size=29)
        targets = controller.step(ang_vel, STANDING["gravity"], command, joint_pos, joint_vel)
        observation = np.concatenate(
            (ang_vel, STANDING["gravity"], command, joint_pos - controller._default, joint_vel)
        )[None].astype(np.float32)
        _, state, other_targets = other.run(None, {"observation": observation, "state": state})
        np.testing.assert_allclose(other_targets[0], targets, atol=1e-5)
