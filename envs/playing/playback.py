"""One robot under a schedule of commands: what was asked for, what the reference did, and what the robot did."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

import torch

from cmg_ref.clips.command_measures import measured_commands
from cmg_ref.clips.dataset import average_command
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.commands.sampler import ranges_of
from cmg_ref.commands.schedule import CommandSchedule
from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY_CHANNELS, CommandLayout
from cmg_ref.core.rotations import quat_from_yaw, quat_multiply, yaw_from_quat
from cmg_ref.files.atomic_file import atomic_file
from configs.base_config import update_from_dict
from envs.evaluation.policy_evaluation import evaluation_config
from envs.learning.policy import Policy, PolicyError, describe_policy
from envs.tasks.task_registry import task_registry

_OF_ROBOTS = ("domain_rand", "driven_joints", "noise")
SETTLING_TIME = 2.0  # [s] after a change of command, left out of the means of the table
COMMANDED, REFERENCE, MEASURED = "#d1495b", "#4d9078", "#1f5fa8"


@dataclass(frozen=True)
class Playback:
    """What happened, frame by frame.

    Attributes:
        robot: The robot's motion, with the commands that were given.
        reference: The reference's motion; None for a task without one.
        fell_at: When the robot fell [s]; None if it did not.
    """

    robot: MotionClip
    reference: MotionClip | None
    fell_at: float | None

    def ghost(self) -> MotionClip | None:
        """The reference where the robot is, to be drawn with it.

        The policy follows commands, not places, so the two drift apart in time. The ghost has the robot's place and
        heading, and the reference's height, tilt and joints.
        """
        if self.reference is None:
            return None
        clip = self.reference
        pose = beside(self.robot.root_pos, self.robot.root_quat, clip.root_pos, clip.root_quat)
        return MotionClip("reference", clip.fps, clip.joint_names, clip.dof_pos, *pose)


def beside(
    robot_pos: torch.Tensor, robot_quat: torch.Tensor, root_pos: torch.Tensor, root_quat: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Root of a reference, its height and tilt kept, where a robot is and facing as it does, (n, 3) and xyzw (n, 4)."""
    turn = quat_from_yaw(yaw_from_quat(robot_quat) - yaw_from_quat(root_quat))
    return torch.cat((robot_pos[:, :2], root_pos[:, 2:]), dim=1), quat_multiply(turn, root_quat)


def config_of_policy(task: str, policy: Policy) -> Any:
    """The configuration of a task with what a policy was trained with, but for how robots differed and were disturbed.

    Those are the task's, so that policies are measured and shown on the same robots whatever they were trained on.
    """
    cfg, _ = task_registry.get_cfgs(task)
    config = {name: values for name, values in policy.description.config.items() if name not in _OF_ROBOTS}
    terrain = config.get("terrain", {})
    config["terrain"] = {name: value for name, value in terrain.items() if not name.endswith("friction")}
    update_from_dict(cfg, config)
    return cfg


def playback_config(env_cfg: Any, duration: float) -> Any:
    """The configuration of one undisturbed robot that begins standing and keeps commands for a duration [s]."""
    cfg = evaluation_config(env_cfg, duration)
    cfg.env.num_envs = 1
    cfg.env.episode_length_s = duration + 1.0
    for name in vars(cfg.domain_rand):
        if name.startswith("randomize_"):
            setattr(cfg.domain_rand, name, False)
    return cfg


def make_env(task: str, env_cfg: Any, policy: Policy | None, sim_device: str | None = None) -> Any:
    """An environment that a policy fits.

    Raises:
        PolicyError: It does not fit the task.
    """
    env, _ = task_registry.make_env(task, env_cfg=env_cfg, sim_device=sim_device)
    if policy is not None:
        here = describe_policy(env, task)
        reason = policy.description.mismatch(here)
        if reason:
            raise PolicyError(f"the policy cannot be used here: {reason}")
        if policy.description.reference != here.reference:
            print("note: the policy was trained with another reference checkpoint than the one in use")
        policy.to(env.device)
    return env


def command_range(env: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest command, (command_dim,) each, that both the policy and its reference have been trained on."""
    ranges = ranges_of(env.cfg.commands.ranges)
    lowest, highest = torch.tensor([ranges.get(one.name, (one.rest, one.rest)) for one in env.command_layout]).T
    if env.reference is None:
        return lowest, highest
    checkpoint, num = env.reference.generator.checkpoint, env.command_layout.size
    return torch.maximum(lowest, checkpoint.command_min[:num]), torch.minimum(highest, checkpoint.command_max[:num])


@torch.no_grad()
def play(
    env: Any,
    policy: Callable[[torch.Tensor], torch.Tensor],
    commands: Iterator[torch.Tensor],
    name: str = "playback",
    calibration: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Playback:
    """Roll one robot out until the commands end or it falls.

    Args:
        env: An environment made with :func:`playback_config`.
        policy: Observations (1, num_obs) to actions (1, num_actions).
        commands: The command (command_dim,) of each control step.
        name: Of the clips.
        calibration: From commands (n, command_dim) to what the environment is told for them; the same by default.
    """
    env.reset()
    term = env.reference
    rows: list[torch.Tensor] = []
    reference_rows: list[torch.Tensor] = []
    given: list[torch.Tensor] = []
    fell_at, last = None, None
    for command in commands:
        if last is None or not torch.equal(command, last):
            told = command.to(env.device).unsqueeze(0)
            env.set_commands(told if calibration is None else calibration(told))
            last = command
        env.step(policy(env.get_observations()))
        if bool(env.reset_buf[0]):
            fell_at = len(rows) * env.dt
            break
        rows.append(torch.cat((env.root_states[0, :7], env.dof_pos[0])).cpu())
        given.append(command)
        if term is not None:
            reference_rows.append(torch.cat((term.root_pos_w[0], term.root_quat_w[0], term.dof_pos[0])).cpu())

    def clip(frames: list[torch.Tensor]) -> MotionClip:
        table = torch.stack(frames).double()
        quat = table[:, 3:7] / table[:, 3:7].norm(dim=1, keepdim=True)
        return MotionClip(
            name,
            1.0 / env.dt,
            tuple(env.dof_names),
            table[:, 7:],
            table[:, :3],
            quat,
            command=torch.stack(given).double().cpu(),
            command_layout=env.command_layout,
        )

    if len(rows) < 2:
        raise RuntimeError("the robot fell at once: there is nothing to show")
    return Playback(clip(rows), clip(reference_rows) if reference_rows else None, fell_at)


def playback_table(playback: Playback, schedule: CommandSchedule) -> str:
    """A row for each command: means of reference and robot once they had settled, and the joint error."""
    robot, reference = playback.robot, playback.reference
    measured = _velocity(robot)
    wanted = None if reference is None else _velocity(reference)
    told = f"command {', '.join(robot.command_layout.labels)}"
    lines = [
        f"{'time [s]':>13}   {told:22}   {'reference':22}   {'robot':22}   joints [rad]",
    ]
    starts = [round(time * robot.fps) for time in schedule.times.tolist()]
    for start, end in zip(starts, [*starts[1:], robot.num_frames]):
        end = min(end, robot.num_frames)
        if start >= end:
            continue
        settled = slice(start + round(SETTLING_TIME * robot.fps), end)
        times = f"{start / robot.fps:.1f} to {end / robot.fps:.1f}"
        assert robot.command is not None
        cells = [_in_columns(robot.command[end - 1])]
        if settled.start + round(0.5 * robot.fps) > end:
            lines.append(f"{times:>13}   {cells[0]:22}   (shorter than the {SETTLING_TIME:g} s it takes)")
            continue
        cells.append("" if wanted is None else _in_columns(wanted[settled].mean(dim=0)))
        cells.append(_in_columns(measured[settled].mean(dim=0)))
        error = "" if reference is None else f"{_rms(robot.dof_pos[settled] - reference.dof_pos[settled]):.3f}"
        lines.append(f"{times:>13}   " + "   ".join(f"{cell:22}" for cell in cells) + f"   {error}")
    if playback.fell_at is not None:
        lines.append(f"The robot fell after {playback.fell_at:.1f} s.")
    return "\n".join(line.rstrip() for line in lines)


def save_playback_plot(playback: Playback, path: str | Path) -> None:
    """Draw commanded, reference and measured velocity over time; raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    robot = playback.robot
    assert robot.command is not None
    time = (torch.arange(robot.num_frames) / robot.fps).numpy()
    figure = Figure(figsize=(11.0, 8.0), layout="constrained")
    measured = _velocity(robot)
    sway = measured_commands(robot, CommandLayout())
    wanted = None if playback.reference is None else _velocity(playback.reference)
    panels = figure.subplots(NUM_VELOCITIES, 1, sharex=True)
    for column, (axes, channel) in enumerate(zip(panels, VELOCITY_CHANNELS)):
        axes.plot(time, sway[:, column], color=MEASURED, alpha=0.25, linewidth=0.7)
        axes.plot(time, robot.command[:, column], color=COMMANDED, linestyle="--", linewidth=1.4, label="command")
        if wanted is not None:
            axes.plot(time, wanted[:, column], color=REFERENCE, linewidth=1.4, label="reference, stride average")
        axes.plot(time, measured[:, column], color=MEASURED, linewidth=1.8, label="robot, stride average")
        shown = torch.stack((measured[:, column], robot.command[:, column]))
        middle = 0.5 * float(shown.min() + shown.max())
        half = max(0.65 * float(shown.max() - shown.min()), 0.6)
        axes.set_ylim(middle - half, middle + half)
        axes.set_title(channel.title, fontsize=10, loc="left")
        axes.grid(True, color="#e4e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[0].legend(fontsize=8, ncols=3, loc="lower right", framealpha=0.8)
    panels[-1].set_xlabel("time [s]")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _velocity(clip: MotionClip) -> torch.Tensor:
    """vx, vy, yaw rate in the heading frame, averaged over a stride, (num_frames, NUM_VELOCITIES)."""
    return average_command(clip, torch.ones(clip.num_frames, dtype=torch.bool))


def _in_columns(values: torch.Tensor) -> str:
    return " ".join(f"{value:+.2f}" for value in values.tolist())


def _rms(values: torch.Tensor) -> float:
    return math.sqrt(float(values.square().mean()))
