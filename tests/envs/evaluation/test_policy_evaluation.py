"""The evaluation's figures, on a puppet whose velocities, steps and falls are known, and on the real robot."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("mujoco.batch")

from cmg_ref.core.command_layout import HEIGHT, CommandLayout
from cmg_ref.core.rotations import quat_from_yaw
from configs.legged_robot_config import LeggedRobotCfg
from envs.evaluation import policy_evaluation
from envs.evaluation.calibration import DURATION, LARGEST, calibrate
from envs.evaluation.cases import FREE, GRID, HEIGHTS, EvaluationCase, free_shortened, shortened
from envs.evaluation.policy_evaluation import evaluate, evaluation_config, free_config, grid_of
from envs.evaluation.report import Evaluation, markdown_text, save_evaluation, screen_text
from envs.learning.policy import load_policy
from envs.playing.playback import config_of_policy
from envs.tasks.task_registry import task_registry

pytestmark = pytest.mark.slow

DT = 0.02
SPEED_ERROR, TURN_ERROR, JOINT_ERROR, HEIGHT_ERROR = 0.05, -0.1, 0.03, 0.01
FALL_TIME = 3.5  # [s] of puppets that are told to go backwards


class Puppet:
    """Goes where it is told, too fast by SPEED_ERROR to its left and TURN_ERROR in yaw, too high; it sways."""

    stride = 0.8  # [s] its sway averages out over a window

    def __init__(self, num_envs: int, longest: float, command_layout: CommandLayout | None = None) -> None:
        self.num_envs, self.dt, self.device, self.num_actions = num_envs, DT, "cpu", 2
        self.max_episode_length = round(longest / DT)
        self.feet_indices = torch.tensor([1, 2])
        self.feet = SimpleNamespace(with_kinematics=False)
        self.reference = self
        self.command_layout = command_layout or CommandLayout()
        ranges = SimpleNamespace(lin_vel_x=(-0.4, 1.0), lin_vel_y=(-0.2, 0.2), ang_vel_yaw=(-1.0, 1.0))
        self.cfg = SimpleNamespace(commands=SimpleNamespace(ramp_time=0.0, acceleration=None, ranges=ranges))
        self.pushed: list[torch.Tensor] = []
        self.episode_length_buf = torch.zeros(num_envs, dtype=torch.long)
        self.reset()

    def reset(self) -> None:
        self.root_states = torch.zeros(self.num_envs, 13)
        self.yaw = torch.linspace(-3.0, 3.0, self.num_envs)
        self.root_states[:, 3:7] = quat_from_yaw(self.yaw)
        self.age = torch.zeros(self.num_envs)
        self.commands = torch.zeros(self.num_envs, self.command_layout.size)
        self.contact_forces = torch.full((self.num_envs, 3, 3), 100.0)
        self.episode_length_buf[:] = 0

    def set_commands(self, commands: torch.Tensor, env_ids: torch.Tensor) -> None:
        self.commands[env_ids] = commands

    def get_observations(self) -> torch.Tensor:
        return self.commands

    @property
    def base_height(self) -> torch.Tensor:
        """As told, with an error, and swaying."""
        return self.commands[:, 3] + HEIGHT_ERROR + 0.05 * torch.sin(2.0 * math.pi * self.age)

    def push(self, env_ids: torch.Tensor, velocity: torch.Tensor) -> None:
        self.pushed.append(torch.cat((self.age[env_ids].unsqueeze(1), velocity), dim=1))

    def reference_contacts(self) -> torch.Tensor:
        """The reference lifts its right foot for 0.4 s in every second, and both for half of that."""
        phase = self.age % 1.0
        return torch.stack((phase >= 0.2, phase >= 0.4), dim=1)

    @property
    def dof_pos(self) -> Any:
        """Of robot and reference at once: their difference is JOINT_ERROR at every joint."""
        return _Offset()

    def step(self, actions: torch.Tensor) -> None:
        assert actions.shape == (self.num_envs, self.num_actions)
        self.age += DT
        self.episode_length_buf += 1
        asked = self.commands[:, :3]
        moves = (asked.abs().sum(dim=1) > 0).float()
        sway = 0.3 * torch.sin(2.0 * math.pi * self.age / self.stride)
        velocity = asked + moves.unsqueeze(1) * torch.tensor([0.0, SPEED_ERROR, TURN_ERROR])
        velocity[:, 1] += sway
        self.yaw = self.yaw + velocity[:, 2] * DT
        cos, sin = torch.cos(self.yaw), torch.sin(self.yaw)
        world = torch.stack(
            (cos * velocity[:, 0] - sin * velocity[:, 1], sin * velocity[:, 0] + cos * velocity[:, 1]), 1
        )
        self.root_states[:, :2] += world * DT
        self.root_states[:, 3:7] = quat_from_yaw(self.yaw)
        self.root_states[:, 7:9] = world
        self.root_states[:, 12] = velocity[:, 2]
        # The left foot is lifted for 0.2 s in every second.
        self.contact_forces[:, 1] = torch.where((self.age % 1.0 < 0.2)[:, None], 0.0, 100.0)
        fallen = (self.commands[:, 0] < 0.0) & (self.age > FALL_TIME)
        self.time_out_buf = (self.episode_length_buf >= self.max_episode_length) & ~fallen
        self.reset_buf = fallen | self.time_out_buf
        rows = self.reset_buf.nonzero().squeeze(1)
        self.root_states[rows] = 1e6  # of the next episode: must not be measured
        self.root_states[rows, :3] = 0.0
        self.root_states[rows, 3:7] = quat_from_yaw(self.yaw[rows])
        self.age[rows] = 0.0
        self.episode_length_buf[rows] = 0
        self.commands[rows] = 0.0


class _Offset:
    def __sub__(self, other: object) -> torch.Tensor:
        return torch.full((1, 2), JOINT_ERROR)


CASES = (
    EvaluationCase("forward", (0.8, 0.0, 0.0), 9.0, required={"survival": 0.9, "lin_vel_error": 0.06}),
    EvaluationCase("turn", (0.0, 0.0, 0.5), 6.0, push=0.7, required={"yaw_rate_error": 0.05}),
    EvaluationCase("back", (-0.4, 0.0, 0.0), 6.0, required={"survival": 0.5}),
    EvaluationCase("stand", (0.0, 0.0, 0.0), 6.0),
)


# Fewer environments than roll-outs, as many, and more.
@pytest.mark.parametrize("num_envs", [3, 20, 32])
def test_figures_are_those_of_the_puppet(num_envs: int) -> None:
    env = Puppet(num_envs, 9.0)
    evaluation = evaluate(env, lambda observations: torch.zeros(len(observations), 2), CASES, rollouts=5)
    forward, turn, back, stand = evaluation.results
    for result in (forward, turn):
        assert result.survival == 1.0 and result.rollouts == 5
        assert result.lin_vel_error == pytest.approx(SPEED_ERROR, abs=1e-3)
        assert result.yaw_rate_error == pytest.approx(-TURN_ERROR, abs=1e-4)
        assert result.joint_error == pytest.approx(JOINT_ERROR, abs=1e-5)
        assert math.isnan(result.drift) and math.isnan(result.steps)
    assert forward.velocity == pytest.approx((0.8, SPEED_ERROR, TURN_ERROR), abs=2e-3)
    assert forward.mean_velocity_error == pytest.approx(SPEED_ERROR, abs=1e-3) and math.isnan(back.mean_velocity_error)
    assert back.survival == 0.0
    assert stand.survival == 1.0 and stand.lin_vel_error < 2e-3
    assert stand.drift < 0.08
    # Lifted at 2.1, 3.1, 4.1 and 5.1 s: earlier steps are allowed.
    assert stand.steps == 4.0
    assert [result.missed for result in evaluation.results] == [[], ["yaw_rate_error"], ["survival"], []]
    # Of whole seconds from 3 s on; the reference has two landings in each, the puppet one.
    assert forward.touch_downs == pytest.approx(1.0, abs=0.02)
    assert forward.reference_touch_downs == pytest.approx(2.0, abs=0.04)
    assert forward.double_support == pytest.approx(0.8, abs=0.01) and forward.flight == 0.0
    assert forward.reference_double_support == pytest.approx(0.6, abs=0.01)
    assert forward.reference_flight == pytest.approx(0.2, abs=0.01)
    assert stand.heading < 1e-4 and math.isnan(forward.heading) and math.isnan(forward.slip)


def test_the_sway_of_strides_is_no_error_of_the_mean() -> None:
    env = Puppet(20, 9.0)
    env.stride = 1.2  # of which a window sees now more to one side, now more to the other
    swaying = evaluate(env, lambda observations: torch.zeros(len(observations), 2), CASES[:1], rollouts=5).results[0]
    assert swaying.lin_vel_error > SPEED_ERROR + 0.02
    assert swaying.mean_velocity_error == pytest.approx(SPEED_ERROR, abs=0.015)
    assert swaying.to_json()["mean_velocity_error"] == pytest.approx(swaying.mean_velocity_error, abs=1e-5)


def test_a_bound_is_met_by_who_just_meets_it() -> None:
    fell = torch.arange(200) < torch.tensor([[0], [4], [10], [30], [200]])
    assert [policy_evaluation._share_up(some) for some in fell] == [1.0, 0.98, 0.95, 0.85, 0.0]


def test_heights_are_told_and_measured() -> None:
    low = EvaluationCase("low", (0.5, 0.0, 0.0), 9.0, required={"height_error": 0.005}, height=0.6)
    env = Puppet(10, 9.0, CommandLayout.of_names((HEIGHT,)))
    act = lambda observations: torch.zeros(len(observations), 2)  # noqa: E731
    crouched, natural = evaluate(env, act, (low, CASES[3]), rollouts=5).results
    assert crouched.height_error == pytest.approx(HEIGHT_ERROR, abs=1e-3) and crouched.missed == ["height_error"]
    assert math.isnan(natural.height_error) and natural.survival == 1.0 and crouched.to_json()["height"] == 0.6
    # Only who is told a height must keep it.
    env_cfg, _ = task_registry.get_cfgs("g1_cmg")
    assert grid_of(env_cfg) == GRID
    env_cfg.commands.ranges.further = {HEIGHT: (0.6, 0.75)}
    assert grid_of(env_cfg) == (*GRID, *HEIGHTS)
    assert {(case.height, case.command) for case in HEIGHTS} >= {(0.6, (0.5, 0.0, 0.0)), (0.7, (0.0, 0.0, 0.5))}


def test_the_shipped_policy_stands_and_walks_as_high_as_it_is_told() -> None:
    policy = load_policy()
    env_cfg = config_of_policy("g1_cmg", policy)
    env_cfg.commands.ranges.further = {HEIGHT: (0.55, 0.77)}
    chosen = [dataclasses.replace(case, duration=9.0) for case in HEIGHTS]
    cfg = free_config(env_cfg, 9.0)
    env: Any = task_registry.make_env("g1_cmg", env_cfg=cfg, num_envs=2 * len(chosen))[0]
    results = evaluate(env, policy, chosen, 2, calibration=policy.description.command_calibration()).results
    missed = {result.case.name: result.height_error for result in results if result.missed}
    assert not missed, missed


def test_rough_ground_is_rough() -> None:
    env_cfg, _ = task_registry.get_cfgs("g1_cmg")
    rough = next(case for case in FREE if case.roughness)
    env: Any = task_registry.make_env("g1_cmg", env_cfg=free_config(env_cfg, 1.0, True, rough.roughness), num_envs=4)[0]
    places = torch.rand(20_000, 2) * 50.0 + 5.0  # within the ground, whose corner is the origin
    heights = env.ground_height(places)
    assert heights.abs().max() <= rough.roughness + 1e-6 and float(heights.std()) > 0.25 * rough.roughness
    assert torch.equal(env.env_origins[:, :2], torch.full((4, 2), 30.0))
    result = evaluate(env, load_policy(), [dataclasses.replace(rough, duration=1.0)], rollouts=4).results[0]
    assert result.survival == 1.0 and result.case.conditions["roughness"] == rough.roughness


def test_pushes_come_every_five_seconds_in_all_directions() -> None:
    env = Puppet(50, 9.0)
    evaluate(env, lambda observations: torch.zeros(len(observations), 2), CASES, rollouts=50)
    pushes = torch.cat(env.pushed)
    assert len(pushes) == 50
    torch.testing.assert_close(pushes[:, 0], torch.full((50,), 5.0), rtol=0.0, atol=1e-4)
    torch.testing.assert_close(pushes[:, 1:].norm(dim=1), torch.full((50,), 0.7))
    assert float(pushes[:, 1:].mean(dim=0).norm()) < 0.3


def test_the_score_falls_with_the_worst_command() -> None:
    env = Puppet(20, 9.0)
    act = lambda observations: torch.zeros(len(observations), 2)  # noqa: E731
    everything, without_falls = evaluate(env, act, CASES, 5), evaluate(Puppet(20, 9.0), act, CASES[:2], 5)
    assert 0.0 < everything.score < 0.5 < without_falls.score < 1.0


def test_the_grid_is_that_of_the_requirements() -> None:
    assert {case.command for case in GRID if case.push == 0.0} >= {
        *((vx, 0.0, 0.0) for vx in (-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5)),
        *((0.0, vy, 0.0) for vy in (-0.3, 0.3)),
        *((0.0, 0.0, wz) for wz in (-0.8, 0.8)),
    }
    assert {(case.command[0], case.push) for case in GRID if case.push} == {
        (vx, p) for vx in (0, 1) for p in (0.5, 1.0)
    }
    assert max(case.duration for case in GRID) == 60.0
    short = shortened(GRID, 5.0)
    assert len(short) == len({case.name for case in short}) == 15 and all(case.duration == 5.0 for case in short)


def test_reports_say_what_is_missed(tmp_path: Path) -> None:
    env = Puppet(20, 9.0)
    evaluation = evaluate(env, lambda observations: torch.zeros(len(observations), 2), CASES, rollouts=5)
    save_evaluation(evaluation, tmp_path, {"seed": 4})
    rows = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["command"] for row in rows] == [list(case.command) for case in CASES]
    for name in ("survival", "lin_vel_error", "yaw_rate_error", "joint_error", "drift", "required", "passed"):
        assert name in rows[0]
    assert [row["passed"] for row in rows] == [True, False, False, True]
    assert rows[0]["drift"] is None and rows[2]["lin_vel_error"] is None
    text = markdown_text(evaluation, {"seed": 4})
    assert "- seed: 4" in text and "0.0% (must be >= 0.5)" in text
    assert "1 of 3 cases as required" in text and "1 of 3 cases as required" in screen_text(evaluation)


def test_the_real_robot_begins_standing_with_its_command_ahead() -> None:
    env_cfg, _ = task_registry.get_cfgs("g1_cmg")
    cfg = evaluation_config(env_cfg, 3.0)
    assert env_cfg.noise.add_noise and not cfg.noise.add_noise
    env: Any = task_registry.make_env("g1_cmg", env_cfg=cfg, num_envs=4)[0]
    seen: list[torch.Tensor] = []

    def record(observations: torch.Tensor) -> torch.Tensor:
        seen.append(torch.cat((env.commands, env.term.target_commands, env.root_states[:, 7:9]), dim=1))
        return torch.zeros(4, env.num_actions)

    cases = (EvaluationCase("ahead", (1.0, 0.0, 0.0), 0.4), EvaluationCase("still", (0.0, 0.0, 0.0), 3.0))
    evaluation = evaluate(env, record, cases, rollouts=4)
    # All four stand first, for the long ones go first, then all four walk.
    first = seen[0]
    assert float(first[:, :3].abs().max()) == 0.0 and float(first[:, 6:].abs().max()) < 0.2
    frames = torch.stack(seen)  # (num_steps, 4, 8)
    for env_id in range(4):
        ahead = frames[frames[:, env_id, 3] == 1.0, env_id, 0]
        assert len(ahead) == round(0.4 / env.dt)
        assert float(ahead[0]) <= 0.1 and float(ahead[-1]) > 0.5
    short, long = evaluation.results
    # 0.4 s are too short to fall and to measure a velocity in; 3 s without any correction are too long to stay up.
    assert short.survival == 1.0 and math.isnan(short.lin_vel_error)
    assert long.survival < 1.0 and 0.0 < short.joint_error < 0.3


@pytest.mark.parametrize("task", task_registry.names())
def test_robots_of_every_task_fall_at_the_same_limits(task: str) -> None:
    env_cfg, _ = task_registry.get_cfgs(task)
    fallen, usual = evaluation_config(env_cfg, 3.0).termination, LeggedRobotCfg().termination
    assert (fallen.base_height, fallen.tilt) == (usual.base_height, usual.tilt)


def test_cases_of_free_use_are_what_they_say() -> None:
    assert len({case.name for case in (*GRID, *FREE)}) == len(GRID) + len(FREE)
    assert all(case.conditions for case in FREE) and not any(case.conditions for case in GRID)
    by_name = {case.name: case for case in FREE}
    assert by_name["free, delay 40 ms"].conditions == {"schedule": (1.0, 4.0), "delay": 0.04}
    assert [case.name for case in FREE if not case.noslip] == ["stand 120 s without noslip"]
    assert max(case.duration for case in free_shortened(8.0)) == 8.0


def test_every_environment_has_what_its_case_asks_for() -> None:
    """Cases follow one another in the same environments, so that a robot must get back what it has by nature."""
    env_cfg, _ = task_registry.get_cfgs("g1_cmg_free")
    cfg = free_config(env_cfg, 2.0)
    assert cfg.asset.self_collisions == 0 and cfg.domain_rand.payloads == {} and not cfg.domain_rand.punch_robots
    assert free_config(env_cfg, 2.0, noslip=False).sim.mujoco.noslip_iterations == 0
    names = (
        "delay 40 ms",
        "biased IMU, noise",
        "torso +6 kg",
        "friction 0.3",
        "motors 0.8",
        "default pose",
        "arms driven",
    )
    chosen = [case for case in free_shortened(2.0) if case.name[6:] in names]
    chosen += [EvaluationCase("hit", (0.0, 0.0, 0.0), 0.8, schedule=(0.2, 0.4), punch=300.0)]
    assert len(chosen) == 8
    policy, seen = load_policy(), []
    cfg.env.history_length = policy.description.history_length
    env: Any = task_registry.make_env("g1_cmg_free", env_cfg=cfg, num_envs=8)[0]
    num_seen = env.num_obs // cfg.env.history_length
    own = {name: env.randomisation.drawn(name) for name in ("friction", "delay", "payload", "strength", "gravity_bias")}
    friction = env.sim.model.geom("shape_0").id

    def record(observations: torch.Tensor) -> torch.Tensor:
        robots = [
            env.gym.get_actor_rigid_body_properties(*robot) for robot in zip(env.envs, env.actor_handles, strict=True)
        ]
        torso = env.body_names.index("torso_link")
        expanded = env.sim.batch.expand("geom_friction")
        seen.append(
            {
                "delay": env.delay_share.flatten() * env.dt,
                "bias": (env.obs_buf[:, -num_seen:] - env.privileged_obs_buf[:, :num_seen])[:, :6].abs().mean(dim=1),
                "torso": torch.tensor([bodies[torso].mass for bodies in robots]),
                "friction": torch.from_numpy(expanded[:, friction, 0].copy()),
                "strength": torch.ones(8) if env.strength is None else env.strength.flatten(),
                "default": (env.dof_pos - env.default_dof_pos).abs().amax(dim=1),
                "driven": env.driven_joints.driven.sum(dim=1),
                "command": env.reference.target_commands[:, 0].clone(),
            }
        )
        return policy(observations)

    evaluation = evaluate(env, record, chosen, rollouts=1)
    # The long ones begin in order; the short one is last.
    first, late = seen[0], seen[10]
    assert late["delay"][0] == pytest.approx(0.04) and (late["delay"][1:] <= 0.015).all()
    assert late["bias"][1] > 0.01 and late["bias"][[0, *range(2, 8)]].max() == 0.0
    assert late["torso"][2] - late["torso"].median() > 4.0
    assert late["friction"][3] == pytest.approx(0.3) and (late["friction"][[0, 1, 2, 4, 5, 6, 7]] >= 0.7 - 1e-6).all()
    assert late["strength"][4] == pytest.approx(0.8) and (late["strength"][[0, 1, 2, 3, 5, 6, 7]] == 1.0).all()
    assert first["default"][5] == 0.0 and (first["default"][[0, 1, 2, 3, 4, 6, 7]] > 0.0).all()
    assert late["driven"].tolist() == [0, 0, 0, 0, 0, 0, 14, 0]
    assert len({float(now["command"][7]) for now in seen[:40]}) >= 3
    assert len({float(now["command"][0]) for now in seen[:40]}) == 1
    # Afterwards every robot has again what it has by nature.
    assert not env.driven_joints.in_use and not env.punches.in_use and evaluation.results[-1].rollouts == 1
    env.step(torch.zeros(8, 29))
    back = torch.from_numpy(env.sim.batch.expand("geom_friction")[:, friction, 0].copy())
    torch.testing.assert_close(back, 0.5 * own["friction"].double(), rtol=1e-6, atol=0.0)
    for name, values in own.items():
        torch.testing.assert_close(env.randomisation.drawn(name), values, rtol=0.0, atol=0.0)


def test_falls_are_laid_to_the_link_that_was_punched(tmp_path: Path) -> None:
    """Of weak punches nobody falls; of those that no robot can stand, everybody, and later falls are not theirs."""
    policy = load_policy()
    cases = [
        EvaluationCase("weak", (0.0, 0.0, 0.0), 12.0, punch=20.0),
        EvaluationCase("strong", (0.5, 0.0, 0.0), 12.0, punch=4000.0),
        EvaluationCase("none", (0.5, 0.0, 0.0), 12.0, strength=0.8),
    ]
    cfg = free_config(config_of_policy("g1_cmg", policy), 12.0)
    env: Any = task_registry.make_env("g1_cmg", env_cfg=cfg, num_envs=18)[0]
    seen: list[tuple[list[int], list[int]]] = []

    def record(observations: torch.Tensor) -> torch.Tensor:
        seen.append((env.punches.struck.tolist(), env.reset_buf.tolist()))
        return policy(observations)

    evaluation = evaluate(env, record, cases, rollouts=6)
    weak, strong, none = (result.punches for result in evaluation.results)
    assert sum(hits for hits, _ in weak.values()) == 12 and sum(falls for _, falls in weak.values()) == 0
    assert none == {} and evaluation.results[1].survival == 0.0
    hits, falls = Counter[str](), Counter[str]()
    for robot in range(6, 12):  # those that are punched hard, in their order
        end = next(step for step, (_, ended) in enumerate(seen) if step > 0 and ended[robot])
        links = [struck[robot] for struck, _ in seen[:end]]
        begun = [link for before, link in pairwise(links) if before < 0 <= link]
        hits.update(env.body_names[link] for link in begun)
        falls[env.body_names[begun[-1]]] += 1
    assert strong == {name: (count, falls[name]) for name, count in hits.items()}
    assert sum(falls.values()) == 6
    save_evaluation(evaluation, tmp_path, {})
    rows = json.loads((tmp_path / "evaluation.json").read_text())
    assert rows[1]["punches"] == {name: list(counts) for name, counts in strong.items()}
    total = 12 + sum(hits.values())
    assert f"| all | {total} | 6 | {6 / total:.1%} |" in (tmp_path / "evaluation.md").read_text()
    assert not any(name.startswith(("left", "right")) for name in evaluation.punches)


def test_the_score_is_the_worse_of_free_use_and_constant_commands() -> None:
    act = lambda observations: torch.zeros(len(observations), 2)  # noqa: E731
    results = evaluate(Puppet(20, 9.0), act, CASES, 5).results
    constant = Evaluation(results[:2])
    freed = dataclasses.replace(results[2], case=dataclasses.replace(results[2].case, punch=1.0))
    assert Evaluation([*results[:2], freed]).score == Evaluation([freed]).score < constant.score


def test_a_calibration_makes_good_what_the_puppet_errs_by() -> None:
    env = Puppet(300, DURATION)
    lines: list[str] = []

    def act(observations: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(observations), 2)

    calibration = calibrate(env, act, report=lines.append)
    assert len(lines) == 5 and "0.112 m/s" not in lines[3]
    ahead = torch.tensor([[0.6, 0.1, 0.2], [0.3, 0.0, 0.6]])
    offset = torch.tensor([[0.0, -SPEED_ERROR, -TURN_ERROR]])
    torch.testing.assert_close(calibration(ahead) - ahead, offset.expand(2, 3), atol=0.01, rtol=0.0)
    # Nobody is told more than the range allows, and nobody is pressed on who falls.
    ends = torch.tensor([[1.0, 0.2, 1.0], [-0.4, 0.0, 0.0]])
    torch.testing.assert_close(
        calibration(ends), ends - torch.tensor([[0.0, SPEED_ERROR, 0.0], [0.0] * 3]), atol=0.01, rtol=0.0
    )
    assert bool((calibration.offsets.abs() <= torch.tensor(LARGEST)).all())
    obeys = evaluate(env, act, CASES[:1], 5, calibration=calibration).results
    assert max(result.lin_vel_error for result in obeys) < 0.015
    assert max(result.yaw_rate_error for result in obeys) < 0.015


def test_a_symmetric_policy_that_errs_to_one_side_is_told_so() -> None:
    env = Puppet(300, DURATION)  # errs to one side, as a reference does that is not symmetric
    calibration = calibrate(env, lambda observations: observations[:, 1:3], rollouts=1)
    told = torch.tensor([[0.5, 0.15, 0.4], [0.5, -0.15, -0.4], [0.6, 0.0, 0.0]])
    offset = torch.tensor([[0.0, -SPEED_ERROR, -TURN_ERROR]])
    torch.testing.assert_close(calibration(told) - told, offset.expand(3, 3), atol=0.01, rtol=0.0)


def test_random_commands_are_those_told_not_those_of_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Puppet(20, 9.0)
    no_conditions = SimpleNamespace(apply=lambda *_: None, withdraw=lambda: None)  # a puppet has no friction to change
    monkeypatch.setattr(policy_evaluation, "Conditions", lambda *_: no_conditions)
    cases = [EvaluationCase("free", (0.0, 0.0, 0.0), 9.0, schedule=(1.0, 2.0))]

    def act(observations: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(observations), 2)

    def exaggerates(commands: torch.Tensor) -> torch.Tensor:
        return commands + torch.tensor([0.0, 0.2, 0.0])

    plain = evaluate(env, act, cases, 20).results[0]
    exaggerated = evaluate(env, act, cases, 20, calibration=exaggerates).results[0]
    assert exaggerated.lin_vel_error == pytest.approx(plain.lin_vel_error + 0.2, abs=0.02)
