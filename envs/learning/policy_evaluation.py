"""How well a policy obeys: roll-outs of a grid of commands from standing, all in parallel, and what must be reached."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, CommandLayout
from cmg_ref.core.progress import ProgressBar
from cmg_ref.core.rotations import in_heading
from configs.legged_robot_config import CurriculumStage
from envs.simulator import CAPABILITIES
from envs.tasks.task_registry import task_registry

SETTLING_TIME = 3.0  # [s] from standing to the command, left out of the velocity errors
WINDOW = 0.8  # [s] velocities are averaged over: about a stride, within which every gait sways
PUSH_INTERVAL = 5.0  # [s]
STEPPING_AFTER = 2.0  # [s] a robot told to stand may take steps until then
LIFT_TIME, LIFT_FORCE = 0.1, 1.0  # [s], [N] a foot that carries less than this for so long has been lifted


@dataclass(frozen=True)
class EvaluationCase:
    """A command, how it is tried, and what must come of it.

    Attributes:
        name: Short name.
        command: vx, vy [m/s] and yaw rate [rad/s].
        duration: Length of a roll-out [s].
        push: Change of velocity in a random horizontal direction every `PUSH_INTERVAL` [m/s].
        required: Limit of each measure: survival must reach it, all others must stay below it.
    """

    name: str
    command: tuple[float, float, float]
    duration: float = 20.0
    push: float = 0.0
    required: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseResult:
    """Figures of a case over its roll-outs; NaN where there is nothing to measure.

    Attributes:
        case: The case.
        rollouts: Number of roll-outs.
        survival: Share that did not fall.
        lin_vel_error: Mean distance of the averaged heading-frame velocity from the command [m/s].
        yaw_rate_error: Mean distance of the averaged yaw rate from the command [rad/s].
        joint_error: Root mean square of joint minus reference [rad].
        drift: Mean distance from start to end [m]; only for the command to stand.
        steps: Mean number of times that a foot was lifted later than `STEPPING_AFTER`; only for that command.
        velocity: Mean vx, vy, yaw rate reached.
    """

    case: EvaluationCase
    rollouts: int
    survival: float
    lin_vel_error: float
    yaw_rate_error: float
    joint_error: float
    drift: float
    steps: float
    velocity: tuple[float, ...]

    @property
    def missed(self) -> list[str]:
        """Measures that are not as required; one that could not be measured is missed."""
        return [
            name
            for name, limit in self.case.required.items()
            if not (getattr(self, name) >= limit if name == "survival" else getattr(self, name) <= limit)
        ]

    @property
    def quality(self) -> float:
        """One number from 0 to 1: survival, less for velocity errors that come near 0.5 m/s or 0.75 rad/s."""
        quality = self.survival
        for error, worst in ((self.lin_vel_error, 0.5), (self.yaw_rate_error, 0.75)):
            quality *= 0.0 if math.isnan(error) else max(0.0, 1.0 - error / worst)
        return quality

    def to_json(self) -> dict[str, Any]:
        """All figures under their names, None for NaN."""
        case = self.case
        figures = {
            name: getattr(self, name)
            for name in ("survival", "lin_vel_error", "yaw_rate_error", "joint_error", "drift", "steps")
        }
        return {
            "name": case.name,
            "command": list(case.command),
            "duration": case.duration,
            "push": case.push,
            "rollouts": self.rollouts,
            **{name: None if math.isnan(value) else round(value, 5) for name, value in figures.items()},
            "velocity": [None if math.isnan(value) else round(value, 4) for value in self.velocity],
            "required": case.required,
            "passed": not self.missed,
        }


@dataclass(frozen=True)
class Evaluation:
    """Results of all cases."""

    results: list[CaseResult]

    @property
    def score(self) -> float:
        """What checkpoints are chosen by: the mean of the mean quality and the worst one, from 0 to 1.

        With the worst one in it, a policy that forgets one command while it gets better at the others loses.
        """
        qualities = [result.quality for result in self.results]
        return 0.5 * (sum(qualities) / len(qualities) + min(qualities))

    @property
    def survival(self) -> float:
        """Mean survival of the cases."""
        return sum(result.survival for result in self.results) / len(self.results)

    def summary(self) -> str:
        """One line: how many requirements are met, where there are any, and the means."""
        required = [result for result in self.results if result.case.required]
        worst = min(self.results, key=lambda result: result.quality)
        text = f"score {self.score:.3f}, survival {self.survival:.1%}, worst at {worst.case.name} ({worst.quality:.2f})"
        if required:
            passed = sum(not result.missed for result in required)
            text = f"{passed} of {len(required)} cases as required, {text}"
        return text

    def to_json(self) -> list[dict[str, Any]]:
        """A row for each case."""
        return [result.to_json() for result in self.results]


def _case(command: tuple[float, float, float], **required: float) -> EvaluationCase:
    return EvaluationCase(command_name(command), command, required=required)


def command_name(command: Sequence[float]) -> str:
    """Such as "vx 0.5" or "vx 0.6 wz -0.4"; "stand" for the zero command."""
    return CommandLayout().described(command)


_OBEYS = {"survival": 0.98, "lin_vel_error": 0.12, "yaw_rate_error": 0.15}
_RUNS = {"survival": 0.90, "lin_vel_error": 0.3}


def _pushed(vx: float, push: float, survival: float) -> EvaluationCase:
    command = (vx, 0.0, 0.0)
    return EvaluationCase(
        f"{command_name(command)}, push {push:g}", command, push=push, required={"survival": survival}
    )


# What the policy must show.
GRID: tuple[EvaluationCase, ...] = (
    _case((0.0, 0.0, 0.0), **_OBEYS),
    *(_case((vx, 0.0, 0.0), **_OBEYS, joint_error=0.15) for vx in (-0.5, 0.5, 1.0, 1.5)),
    *(_case((0.0, vy, 0.0), **_OBEYS) for vy in (-0.3, 0.3)),
    *(_case((0.0, 0.0, wz), **{**_OBEYS, "yaw_rate_error": 0.2}) for wz in (-0.8, 0.8)),
    *(_case(mixed, **_OBEYS) for mixed in ((0.6, 0.2, 0.4), (0.6, -0.2, -0.4), (1.0, 0.0, 0.6), (1.0, 0.0, -0.6))),
    *(_case((vx, 0.0, 0.0), **_RUNS) for vx in (2.0, 2.5)),
    EvaluationCase("stand 60 s", (0.0, 0.0, 0.0), 60.0, required={"survival": 0.98, "drift": 0.10, "steps": 0.0}),
    *(_pushed(vx, push, must) for push, must in ((0.5, 0.95), (1.0, 0.70)) for vx in (0.0, 1.0)),
)


def shortened(cases: Sequence[EvaluationCase], duration: float) -> list[EvaluationCase]:
    """Unpushed cases of at most 20 s, cut to a duration, for a quick look during training."""
    return [
        EvaluationCase(case.name, case.command, duration, required=case.required)
        for case in cases
        if case.push == 0.0 and case.duration <= 20.0
    ]


def evaluation_config(env_cfg: Any, longest: float) -> Any:
    """The configuration of an environment to evaluate in: from standing, nothing but the robots differs at random.

    Friction, masses, gains and whatever else is randomised stay so; sensor noise and random pushes are off, and the
    commands are those of the evaluation.

    Args:
        env_cfg: Configuration of the task; it is left as it is.
        longest: Duration of the longest roll-out [s].
    """
    cfg = copy.deepcopy(env_cfg)
    cfg.env.episode_length_s = longest
    cfg.noise.add_noise = False
    cfg.domain_rand.push_robots = False
    cfg.commands.strata = {"stand": 1.0}
    cfg.commands.resampling_time = (2.0 * longest, 2.0 * longest)
    cfg.curriculum.stages = (CurriculumStage(commands=1.0, pushes=0.0, randomisation=1.0),)
    if hasattr(cfg, "reference"):
        cfg.reference.start = "standing"
        # Whoever strays from the reference and comes back has not fallen.
        cfg.termination.reference_tilt = None
    return cfg


def make_evaluator(
    task: str, env_cfg: Any, rollouts: int, duration: float
) -> Callable[[Callable[[torch.Tensor], torch.Tensor]], Evaluation] | None:
    """What measures a policy during training, in environments of its own.

    Args:
        task: Name of the task.
        env_cfg: Its configuration.
        rollouts: Roll-outs of each command of the grid.
        duration: Their length [s].

    Returns:
        A function from a policy to its evaluation; None where a process has only one simulation.
    """
    if not CAPABILITIES.many_simulations:
        return None
    cases = shortened(GRID, duration)
    cfg = evaluation_config(env_cfg, duration)
    env, _ = task_registry.make_env(task, env_cfg=cfg, num_envs=len(cases) * rollouts)
    return lambda policy: evaluate(env, policy, cases, rollouts)


@torch.no_grad()
def evaluate(
    env: Any,
    policy: Callable[[torch.Tensor], torch.Tensor],
    cases: Sequence[EvaluationCase] = GRID,
    rollouts: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Roll a policy out for every case, in as many environments at once as there are.

    An environment whose roll-out has ended takes the next one that waits, the long ones first, so that none is idle
    before the end.

    Args:
        env: An environment made with :func:`evaluation_config`.
        policy: Observations (num_envs, num_obs) to actions (num_envs, num_actions).
        cases: What to try.
        rollouts: Roll-outs of each case.
        seed: Of the directions of pushes.
        progress: Whether to show a progress bar.
    """
    order = sorted(range(len(cases)), key=lambda index: -cases[index].duration)
    case_of_job = torch.tensor(order, device=env.device).repeat_interleave(rollouts)
    meter = _Meter(env, cases, case_of_job, seed)
    bar = ProgressBar(total=len(case_of_job), unit="roll-out", disable=not progress, desc="evaluation")
    env.reset()
    meter.begin(torch.arange(env.num_envs, device=env.device))
    while meter.unfinished:
        env.step(policy(env.get_observations()))
        bar.update(meter.step())
        meter.push()
    bar.close()
    return Evaluation([meter.result(index, rollouts) for index in range(len(cases))])


class _Meter:
    """Sums of every roll-out ("job"), and which environment does which."""

    def __init__(self, env: Any, cases: Sequence[EvaluationCase], case_of_job: torch.Tensor, seed: int) -> None:
        self.env, self.cases = env, cases
        device, num_envs = env.device, env.num_envs
        self.num_jobs = len(case_of_job)
        # The last row is for environments that have nothing left to do.
        self.case_of_job = torch.cat((case_of_job, case_of_job[:1]))
        self.job = torch.full((num_envs,), self.num_jobs, device=device)
        self.unfinished, self._next_job = self.num_jobs, 0
        self.elapsed = torch.zeros(num_envs, dtype=torch.long, device=device)
        self.start = torch.zeros(num_envs, 2, device=device)
        self.window = torch.zeros(num_envs, NUM_VELOCITIES, device=device)
        self.airborne = torch.zeros(num_envs, 2, dtype=torch.long, device=device)
        self.commands = env.command_layout.complete(torch.tensor([case.command for case in cases], device=device))
        self.pushes = torch.tensor([case.push for case in cases], device=device)
        self.durations = torch.tensor([round(case.duration / env.dt) for case in cases], device=device)
        self.window_steps = round(WINDOW / env.dt)
        self.push_steps = round(PUSH_INTERVAL / env.dt)
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self.fell = torch.zeros(self.num_jobs + 1, dtype=torch.bool, device=device)
        self.sums = {
            name: torch.zeros(self.num_jobs + 1, device=device)
            for name in ("windows", "lin", "yaw", *CommandLayout().labels, "joint", "samples", "drift", "lifts")
        }
        self.reference = env.reference

    def begin(self, env_ids: torch.Tensor) -> None:
        """Give environments that have just been reset the next jobs and their commands."""
        count = min(len(env_ids), self.num_jobs - self._next_job)
        self.job[env_ids] = self.num_jobs
        self.job[env_ids[:count]] = torch.arange(self._next_job, self._next_job + count, device=env_ids.device)
        self._next_job += count
        case = self.case_of_job[self.job[env_ids]]
        # The environment itself ends the episode when the roll-out is over.
        self.env.episode_length_buf[env_ids] = int(self.env.max_episode_length) - self.durations[case]
        self.elapsed[env_ids] = 0
        self.window[env_ids] = 0.0
        self.airborne[env_ids] = 0
        self.start[env_ids] = self.env.root_states[env_ids, :2]
        self.env.set_commands(self.commands[case], env_ids)

    def step(self) -> int:
        """Measure after a control step, and go on to the next jobs; returns how many have ended."""
        env, job, dt = self.env, self.job, self.env.dt
        case = self.case_of_job[job]
        self.elapsed += 1
        # An environment whose episode has ended is already in the next one: its state is no longer that of the job.
        ended = env.reset_buf.bool()
        valid = (~ended).float()
        root = env.root_states
        self.window += torch.cat((in_heading(root[:, 3:7], root[:, 7:10])[:, :2], root[:, 12:]), dim=1)
        complete = self.elapsed % self.window_steps == 0
        settled = self.elapsed > round(SETTLING_TIME / dt) + self.window_steps - 1
        counted = valid * (complete & settled)
        mean = self.window / self.window_steps
        error = mean - self.commands[case][:, VELOCITY]
        self.sums["windows"][job] += counted
        self.sums["lin"][job] += counted * error[:, :2].norm(dim=1)
        self.sums["yaw"][job] += counted * error[:, 2].abs()
        for column, name in enumerate(CommandLayout().labels):
            self.sums[name][job] += counted * mean[:, column]
        self.window *= (~complete).float().unsqueeze(1)

        if self.reference is not None:
            self.sums["samples"][job] += valid
            self.sums["joint"][job] += valid * (env.dof_pos - self.reference.dof_pos).square().mean(dim=1)
        distance = (root[:, :2] - self.start).norm(dim=1)
        self.sums["drift"][job] = torch.where(ended, self.sums["drift"][job], distance)
        in_air = env.contact_forces[:, env.feet_indices, 2] < LIFT_FORCE  # (num_envs, 2)
        self.airborne = (self.airborne + 1) * in_air
        lifted = (self.airborne == round(LIFT_TIME / dt)).sum(dim=1)
        self.sums["lifts"][job] += valid * lifted * (self.elapsed * dt > STEPPING_AFTER)

        self.fell[job] |= ended & ~env.time_out_buf
        env_ids = ended.nonzero().squeeze(-1)
        if not len(env_ids):
            return 0
        count = int((job[env_ids] < self.num_jobs).sum())
        self.unfinished -= count
        self.begin(env_ids)
        return count

    def push(self) -> None:
        """Push the environments whose turn it is."""
        speed = self.pushes[self.case_of_job[self.job]]
        due = (speed > 0.0) & (self.elapsed > 0) & (self.elapsed % self.push_steps == 0)
        env_ids = due.nonzero().squeeze(-1)
        if len(env_ids):
            angle = 2.0 * math.pi * torch.rand(len(env_ids), generator=self.generator, device=speed.device)
            direction = torch.stack((torch.cos(angle), torch.sin(angle)), dim=1)
            self.env.push(env_ids, speed[env_ids].unsqueeze(1) * direction)

    def result(self, index: int, rollouts: int) -> CaseResult:
        """Figures of a case."""
        jobs = (self.case_of_job[:-1] == index).nonzero().squeeze(-1)
        sums = {name: value[jobs] for name, value in self.sums.items()}
        still = not any(self.cases[index].command)

        def mean(name: str, count: str) -> float:
            measured = sums[count] > 0
            return float((sums[name][measured] / sums[count][measured]).mean())

        return CaseResult(
            case=self.cases[index],
            rollouts=rollouts,
            survival=1.0 - float(self.fell[jobs].float().mean()),
            lin_vel_error=mean("lin", "windows"),
            yaw_rate_error=mean("yaw", "windows"),
            joint_error=math.sqrt(mean("joint", "samples")) if self.reference is not None else math.nan,
            drift=float(sums["drift"].mean()) if still else math.nan,
            steps=float(sums["lifts"].mean()) if still else math.nan,
            velocity=tuple(mean(name, "windows") for name in CommandLayout().labels),
        )
