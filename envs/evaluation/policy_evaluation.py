"""How well a policy obeys: roll-outs of a grid of commands from standing, all in parallel, and what must be reached."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from cmg_ref.commands.sampler import CommandSmoother
from cmg_ref.core.command_layout import HEIGHT, NUM_VELOCITIES, VELOCITY, CommandLayout
from cmg_ref.core.progress import ProgressBar
from cmg_ref.core.rotations import in_heading, yaw_from_quat
from configs.legged_robot_config import CurriculumStage, LeggedRobotCfg
from envs.evaluation.cases import (
    GRID,
    HEIGHTS,
    SCHEDULED,
    EvaluationCase,
    free_shortened,
    shortened,
)
from envs.evaluation.conditions import Conditions
from envs.evaluation.report import FALLING_TIME, CaseResult, Evaluation
from envs.simulator import CAPABILITIES
from envs.tasks.task_registry import task_registry
from envs.terms.commands import configured_layout

SETTLING_TIME = 3.0  # [s] from standing to the command, left out of the velocity errors
WINDOW = 0.8  # [s] velocities are averaged over: about a stride, within which every gait sways
GAIT = ("touch_downs", "double_support", "flight")
STEPPING_AFTER = 2.0  # [s] a robot told to stand may take steps until then
LIFT_TIME, LIFT_FORCE = 0.1, 1.0  # [s], [N] a foot that carries less than this for so long has been lifted
SWING_TIME = 0.06  # [s] a foot that was off the ground for at least so long touches down
ROUGH_GROUND = 60.0  # [m] of its sides; every robot begins in the middle


def evaluation_config(env_cfg: Any, longest: float) -> Any:
    """The configuration of an environment to evaluate in: from standing, nothing but the robots differs at random.

    Friction, masses, gains and whatever else is randomised stay so; sensor noise and random pushes are off, the
    commands are those of the evaluation, and robots fall where they do by default.

    Args:
        env_cfg: Configuration of the task; it is left as it is.
        longest: Duration of the longest roll-out [s].
    """
    cfg = copy.deepcopy(env_cfg)
    cfg.env.episode_length_s = longest
    cfg.noise.add_noise = False
    cfg.domain_rand.push_robots = cfg.domain_rand.punch_robots = False
    cfg.driven_joints.share = cfg.init_state.default_pose_share = 0.0
    cfg.commands.strata = {"stand": 1.0}
    cfg.commands.resampling_time = (2.0 * longest, 2.0 * longest)
    cfg.curriculum.stages = (CurriculumStage(commands=1.0, pushes=0.0, randomisation=1.0),)
    # A task may let robots lean further while they learn.
    usual = LeggedRobotCfg().termination
    cfg.termination.base_height, cfg.termination.tilt = usual.base_height, usual.tilt
    if hasattr(cfg, "reference"):
        cfg.reference.start = "standing"
        # Whoever strays from the reference and comes back has not fallen.
        cfg.termination.reference_tilt = None
    return cfg


def grid_of(env_cfg: Any) -> tuple[EvaluationCase, ...]:
    """The commands that a policy of this configuration must obey: with heights if it is told one."""
    return (*GRID, *HEIGHTS) if HEIGHT in configured_layout(env_cfg.commands).names else GRID


def free_config(env_cfg: Any, longest: float, noslip: bool = True, roughness: float = 0.0) -> Any:
    """The configuration of an environment for cases of free use, the same for policies of every task.

    Robots differ by what they do by default and touch themselves; each case adds to it.

    Args:
        env_cfg: Configuration of the task; it is left as it is.
        longest: Duration of the longest roll-out [s].
        noslip: Whether MuJoCo keeps standing feet from creeping; where not, with its default solver, which converges.
        roughness: Of the ground [m], see `EvaluationCase`.

    Raises:
        ValueError: The simulator cannot change robots while it runs.
    """
    if not CAPABILITIES.changes_robots:
        raise ValueError("cases of free use change robots while the simulation runs, which needs MuJoCo")
    cfg, usual = evaluation_config(env_cfg, longest), LeggedRobotCfg()
    usual.domain_rand.push_robots = False
    cfg.domain_rand, cfg.driven_joints, cfg.noise = usual.domain_rand, usual.driven_joints, usual.noise
    cfg.asset.self_collisions = 0
    cfg.curriculum.stages = ((1.0, 1.0, 1.0, 1.0),)
    # A contact has the mean of the friction of robot and ground: here all of it is the robot's.
    ground, (low, high) = usual.terrain.static_friction, usual.domain_rand.friction_range
    cfg.terrain.static_friction = cfg.terrain.dynamic_friction = 0.0
    cfg.domain_rand.friction_range = (low + ground, high + ground)
    if not noslip:
        # As MuJoCo itself has it by default: where ten iterations of PGS end, contacts chatter, which turns robots.
        cfg.sim.mujoco.solver, cfg.sim.mujoco.iterations, cfg.sim.mujoco.noslip_iterations = "Newton", 100, 0
    if roughness:
        ground = cfg.terrain
        ground.mesh_type, ground.proportions, ground.curriculum = "heightfield", {"rough_slope": 1.0}, False
        ground.num_rows = ground.num_cols = 1
        ground.terrain_length = ground.terrain_width = ROUGH_GROUND
        ground.max_slope, ground.max_roughness = 0.0, roughness
    return cfg


def make_evaluator(
    task: str, env_cfg: Any, rollouts: int, duration: float, free: bool = False
) -> Callable[[Callable[[torch.Tensor], torch.Tensor]], Evaluation] | None:
    """What measures a policy during training, in environments of its own.

    Args:
        task: Name of the task.
        env_cfg: Its configuration.
        rollouts: Roll-outs of each command of the grid.
        duration: Their length [s].
        free: Whether cases of free use are tried too.

    Returns:
        A function from a policy to its evaluation; None where a process has only one simulation.
    """
    if not CAPABILITIES.many_simulations:
        return None
    cases = shortened(grid_of(env_cfg), duration) + (free_shortened(duration) if free else [])
    cfg = free_config(env_cfg, duration) if free else evaluation_config(env_cfg, duration)
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
    calibration: Callable[[torch.Tensor], torch.Tensor] | None = None,
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
        calibration: From commands (n, command_dim) to what the environment is told for them; the same by default.
    """
    order = sorted(range(len(cases)), key=lambda index: -cases[index].duration)
    case_of_job = torch.tensor(order, device=env.device).repeat_interleave(rollouts)
    meter = _Meter(env, cases, case_of_job, seed, calibration)
    bar = ProgressBar(total=len(case_of_job), unit="roll-out", disable=not progress, desc="evaluation")
    env.reset()
    meter.begin(torch.arange(env.num_envs, device=env.device))
    while meter.unfinished:
        env.step(policy(env.get_observations()))
        bar.update(meter.step())
        meter.push()
        meter.change_commands()
    bar.close()
    if meter.conditions is not None:
        meter.conditions.withdraw()
    return Evaluation([meter.result(index, rollouts) for index in range(len(cases))])


class _Meter:
    """Sums of every roll-out ("job"), and which environment does which."""

    def __init__(
        self,
        env: Any,
        cases: Sequence[EvaluationCase],
        case_of_job: torch.Tensor,
        seed: int,
        calibration: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> None:
        self.env, self.cases, self._calibration = env, cases, calibration
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
        self.heights = torch.tensor([math.nan if c.height is None else c.height for c in cases], device=device)
        told = ~self.heights.isnan()
        self.heights_told = bool(told.any())
        if self.heights_told:
            self.commands[told, env.command_layout.column(HEIGHT)] = self.heights[told]
        self.pushes = torch.tensor([case.push for case in cases], device=device)
        self.durations = torch.tensor([round(case.duration / env.dt) for case in cases], device=device)
        self.window_steps = round(WINDOW / env.dt)
        self.push_steps = torch.tensor([round(case.push_interval / env.dt) for case in cases], device=device)
        self.scheduled = torch.tensor([case.schedule is not None for case in cases], device=device)
        self.intervals = torch.tensor([case.schedule or (0.0, 0.0) for case in cases], device=device) / env.dt
        self.limits = torch.tensor(SCHEDULED, device=device)
        self.next_change = torch.zeros(num_envs, device=device)
        steps, limits = round(env.cfg.commands.ramp_time / env.dt), env.cfg.commands.acceleration
        self.ramp = CommandSmoother(num_envs, steps, device, env.command_layout, env.dt, limits)
        self.asked = torch.zeros(num_envs, NUM_VELOCITIES, device=device)
        self.heading = torch.zeros(num_envs, device=device)
        self.reference_airborne = torch.zeros_like(self.airborne)
        self.generator = torch.Generator(device=device).manual_seed(seed)
        self.fell = torch.zeros(self.num_jobs + 1, dtype=torch.bool, device=device)
        self.sums = {
            name: torch.zeros(self.num_jobs + 1, device=device)
            for name in (
                *("windows", "lin", "yaw", *CommandLayout().labels, "joint", "samples", "drift", "lifts", "heading"),
                *("settled", *GAIT, *(f"reference_{name}" for name in GAIT), "slip", "sliding", "height"),
            )
        }
        self.reference = env.reference
        self.conditions = Conditions(env, cases, self.generator) if any(case.conditions for case in cases) else None
        self.links = list(env.body_names) if any(case.punch for case in cases) else []
        # Last punch of each environment, and how many there were and robots fell of, by case and body.
        self.struck = torch.full((num_envs,), -1, device=device)
        self.acts = torch.zeros(num_envs, dtype=torch.bool, device=device)
        self.since_struck = torch.zeros(num_envs, dtype=torch.long, device=device)
        self.punches = torch.zeros(2, len(cases), len(self.links), dtype=torch.long, device=device)

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
        self.struck[env_ids] = -1
        self.reference_airborne[env_ids] = 0
        self.asked[env_ids] = 0.0
        if self.conditions is not None:
            self.conditions.apply(env_ids, case)
        self.start[env_ids] = self.env.root_states[env_ids, :2]
        self.heading[env_ids] = yaw_from_quat(self.env.root_states[env_ids, 3:7])
        commands, scheduled = self.commands[case], self.scheduled[case].unsqueeze(1)
        if bool(scheduled.any()):
            commands = torch.where(scheduled, self._random_commands(env_ids), commands)
        self.ramp.reset(self.env.command_layout.rest(len(env_ids), device=env_ids.device), env_ids)
        self._tell(commands, env_ids)

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
        self.asked += self.ramp.step()[:, VELOCITY]
        complete = self.elapsed % self.window_steps == 0
        settled = self.elapsed > round(SETTLING_TIME / dt) + self.window_steps - 1
        counted = valid * (complete & settled)
        mean = self.window / self.window_steps
        wanted = self.commands[case][:, VELOCITY]
        error = mean - torch.where(self.scheduled[case].unsqueeze(1), self.asked / self.window_steps, wanted)
        self.sums["windows"][job] += counted
        self.sums["lin"][job] += counted * error[:, :2].norm(dim=1)
        self.sums["yaw"][job] += counted * error[:, 2].abs()
        for column, name in enumerate(CommandLayout().labels):
            self.sums[name][job] += counted * mean[:, column]
        self.window *= (~complete).float().unsqueeze(1)
        self.asked *= (~complete).float().unsqueeze(1)

        if self.reference is not None:
            self.sums["samples"][job] += valid
            self.sums["joint"][job] += valid * (env.dof_pos - self.reference.dof_pos).square().mean(dim=1)
        distance = (root[:, :2] - self.start).norm(dim=1)
        self.sums["drift"][job] = torch.where(ended, self.sums["drift"][job], distance)
        turned = yaw_from_quat(root[:, 3:7]) - self.heading
        turned = torch.atan2(torch.sin(turned), torch.cos(turned)).abs()
        self.sums["heading"][job] = torch.where(ended, self.sums["heading"][job], turned)
        in_air = env.contact_forces[:, env.feet_indices, 2] < LIFT_FORCE  # (num_envs, 2)
        self._measure_gait(in_air, valid * (self.elapsed * dt > SETTLING_TIME))
        self.airborne = (self.airborne + 1) * in_air
        lifted = (self.airborne == round(LIFT_TIME / dt)).sum(dim=1)
        self.sums["lifts"][job] += valid * lifted * (self.elapsed * dt > STEPPING_AFTER)

        self.fell[job] |= ended & ~env.time_out_buf
        if self.links:
            self._count_punches(ended & ~env.time_out_buf)
        env_ids = ended.nonzero().squeeze(-1)
        if not len(env_ids):
            return 0
        count = int((job[env_ids] < self.num_jobs).sum())
        self.unfinished -= count
        self.begin(env_ids)
        return count

    def _count_punches(self, fell: torch.Tensor) -> None:
        """Count those that begin, and those that robots fall of in this step (num_envs,)."""
        struck, at_work = self.env.punches.struck, self.job < self.num_jobs
        self.since_struck += 1
        felled = fell & at_work & (self.struck >= 0) & (self.since_struck * self.env.dt < FALLING_TIME)
        begins = at_work & (struck >= 0) & ~self.acts
        self.acts = struck >= 0
        self.struck = torch.where(begins, struck, self.struck)
        self.since_struck[begins] = 0
        for count, which in zip(self.punches, (begins, felled)):
            places = self.case_of_job[self.job[which]], self.struck[which]
            count.index_put_(places, torch.ones_like(places[0]), accumulate=True)

    def push(self) -> None:
        """Push the environments whose turn it is."""
        speed = self.pushes[self.case_of_job[self.job]]
        push_steps = self.push_steps[self.case_of_job[self.job]]
        due = (speed > 0.0) & (self.elapsed > 0) & (self.elapsed % push_steps == 0)
        env_ids = due.nonzero().squeeze(-1)
        if len(env_ids):
            angle = 2.0 * math.pi * torch.rand(len(env_ids), generator=self.generator, device=speed.device)
            direction = torch.stack((torch.cos(angle), torch.sin(angle)), dim=1)
            self.env.push(env_ids, speed[env_ids].unsqueeze(1) * direction)

    def change_commands(self) -> None:
        """Give the environments whose turn it is a new random command."""
        due = self.scheduled[self.case_of_job[self.job]] & (self.elapsed >= self.next_change)
        if len(env_ids := due.nonzero().squeeze(-1)):
            self._tell(self._random_commands(env_ids), env_ids)

    def _tell(self, commands: torch.Tensor, env_ids: torch.Tensor) -> None:
        """Let environments (n,) obey commands (n, command_dim) from now on."""
        self.ramp.set_target(commands, env_ids)
        self.env.set_commands(commands if self._calibration is None else self._calibration(commands), env_ids)

    def _random_commands(self, env_ids: torch.Tensor) -> torch.Tensor:
        """Commands (n, command_dim) for environments (n,), whose next change is drawn too."""
        shares = torch.rand(len(env_ids), NUM_VELOCITIES + 1, generator=self.generator, device=env_ids.device)
        low, high = self.intervals[self.case_of_job[self.job[env_ids]]].unbind(dim=1)
        self.next_change[env_ids] = self.elapsed[env_ids] + low + (high - low) * shares[:, -1]
        low, high = self.limits.unbind(dim=1)
        return self.env.command_layout.complete(low + (high - low) * shares[:, :-1])

    def _measure_gait(self, in_air: torch.Tensor, counted: torch.Tensor) -> None:
        """Add what the feet of robot and reference do, off the ground (num_envs, 2), where it counts (num_envs,)."""
        job, env = self.job, self.env
        self.sums["settled"][job] += counted
        if self.heights_told:
            self.sums["height"][job] += counted * env.base_height
        for prefix, lifted, airborne in (("", in_air, self.airborne), *self._reference_feet()):
            landed = ~lifted & (airborne >= round(SWING_TIME / env.dt))
            gait = (landed.sum(dim=1) / env.dt, ~lifted.any(dim=1), lifted.all(dim=1))
            for name, value in zip(GAIT, gait):
                self.sums[prefix + name][job] += counted * value
        if env.feet.with_kinematics:
            sliding = env.feet.sliding_contact * counted.unsqueeze(1)
            self.sums["slip"][job] += (sliding * env.feet.speed).sum(dim=1)
            self.sums["sliding"][job] += sliding.sum(dim=1)

    def _reference_feet(self) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
        """The reference's feet, as `_measure_gait` goes over them; none without a reference."""
        if self.reference is None:
            return []
        before, lifted = self.reference_airborne, ~self.env.reference_contacts()
        self.reference_airborne = (before + 1) * lifted
        return [("reference_", lifted, before)]

    def result(self, index: int, rollouts: int) -> CaseResult:
        """Figures of a case."""
        jobs = (self.case_of_job[:-1] == index).nonzero().squeeze(-1)
        sums = {name: value[jobs] for name, value in self.sums.items()}
        constant = self.cases[index].schedule is None
        still = constant and not any(self.cases[index].command)
        reached = torch.stack([sums[name] for name in CommandLayout().labels], dim=1) / sums["windows"].unsqueeze(1)
        height = sums["height"] / sums["settled"]
        astray = (reached - self.commands[index, VELOCITY])[:, :2].norm(dim=1)

        def mean(name: str, count: str) -> float:
            measured = sums[count] > 0
            return float((sums[name][measured] / sums[count][measured]).mean())

        return CaseResult(
            case=self.cases[index],
            rollouts=rollouts,
            survival=_share_up(self.fell[jobs]),
            lin_vel_error=mean("lin", "windows"),
            mean_velocity_error=float(astray.nanmean()) if constant else math.nan,
            yaw_rate_error=mean("yaw", "windows"),
            joint_error=math.sqrt(mean("joint", "samples")) if self.reference is not None else math.nan,
            drift=float(sums["drift"].mean()) if still else math.nan,
            steps=float(sums["lifts"].mean()) if still else math.nan,
            velocity=tuple(mean(name, "windows") for name in CommandLayout().labels),
            heading=float(sums["heading"].mean()) if still else math.nan,
            slip=mean("slip", "sliding"),
            base_height=math.nan if self.cases[index].height is None else float(height.nanmean()),
            height_error=float((height - self.heights[index]).abs().nanmean()),
            punches={
                name: (begun, felled)
                for name, begun, felled in zip(self.links, *self.punches[:, index].tolist())
                if begun
            },
            **{name: mean(name, "settled") for name in GAIT},
            **{
                f"reference_{name}": mean(f"reference_{name}", "settled") for name in GAIT if self.reference is not None
            },
        )


def _share_up(fell: torch.Tensor) -> float:
    """Share of roll-outs (n,) that did not fall, exactly: who is up in 190 of 200 meets a bound of 0.95."""
    return int((~fell).sum()) / len(fell)
