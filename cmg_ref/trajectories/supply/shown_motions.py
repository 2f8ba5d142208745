"""The motions on show: where they begin, what changes their course, and the memory of the mode they are made in."""

from __future__ import annotations

from dataclasses import replace

import torch

from cmg_ref.frames.store import NUM_POSE
from cmg_ref.network.checkpoint import Checkpoint
from cmg_ref.robots.robot import Robot
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.trajectories.clock import FrameClock
from cmg_ref.trajectories.environment_changes import EnvironmentChanges
from cmg_ref.trajectories.pool import FollowsCommands, SamplesCommands
from cmg_ref.trajectories.reader import MotionReader
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg
from cmg_ref.trajectories.start_states import EnvironmentDraws, InitialStates
from cmg_ref.trajectories.supply.factory import make_supply


class ShownMotions:
    """One motion on show for every environment. What callers hand over has been checked.

    Args:
        settings: Sizes, mode and seed.
        checkpoint: The CMG.
        rollout: Advances its states.
        robot: Robot description.
        sampler: Draws the commands of a pool's trajectories.
        joint_columns: Column of each joint in the order that is read, (num_joints,); None for the checkpoint's order.
        follows_commands: Tells which trajectories of a pool do what they are told.

    Attributes:
        settings: What was asked for, with the present mode.
        clock: Which frame every environment is shown.
        reader: Reads it.
        buffer: The stored motions.
        supply: Sees to it that there are frames to show.
        changes: Resets, new commands and steps in one launch each, where kernels do them.
        initial_states: Where motions begin.
        command_excess: By how much the commands last given exceed the trained range, (num_envs, command_dim).
    """

    def __init__(
        self,
        settings: CMGMotionGeneratorCfg,
        checkpoint: Checkpoint,
        rollout: Rollout,
        robot: Robot,
        sampler: SamplesCommands,
        joint_columns: torch.Tensor | None,
        follows_commands: FollowsCommands,
    ) -> None:
        self.settings, self._checkpoint, self._rollout, self._robot = settings, checkpoint, rollout, robot
        self._sampler, self._joint_columns, self._follows_commands = sampler, joint_columns, follows_commands
        num_envs, self._device = settings.num_envs, rollout.device
        self.clock = FrameClock(num_envs, checkpoint.fps * settings.control_dt, self._device)
        self.reader = MotionReader(self.clock, joint_columns, hold=settings.at_end == "hold")
        self.command_excess = torch.zeros(num_envs, checkpoint.command_layout.size, device=self._device)
        self.initial_states = InitialStates(checkpoint, rollout, robot, settings.stand)
        self.draws = EnvironmentDraws(num_envs, settings.first_env, settings.seed, self._device)
        self._random = torch.Generator(device=self._device).manual_seed(settings.seed + settings.first_env)
        self._seconds_before = 0.0
        self._allocate()

    @property
    def seconds(self) -> float:
        """Time spent generating [s]; of the host alone, which does not wait for a GPU."""
        return self._seconds_before + self.buffer.seconds

    @property
    def commands(self) -> torch.Tensor:
        """Smoothed commands in force, (num_envs, command_dim)."""
        return self.buffer.commands.value(self.clock.shown, self.supply.motions)

    @property
    def target_commands(self) -> torch.Tensor:
        """Commands that the ones in force ramp to, (num_envs, command_dim)."""
        return self.buffer.commands.target(self.clock.shown, self.supply.motions)

    def told_by_kernels(self, num: int) -> bool:
        """Whether kernels give so many commands without looking which change: each costs the frames kept ready."""
        most = max(1, self.settings.num_envs // 8) if self.supply.demand > 0 else self.settings.num_envs
        return self.changes is not None and num <= most

    def advance(self) -> None:
        """Let a control step pass."""
        self.reader.forget()
        if self.changes is not None:
            self.supply.catch_up()
            self.changes.advance()
            self._rollout.frame_count += self.settings.num_envs
        else:
            self.clock.advance()
            self.supply.advance()
            self.reader.locate()

    def begin(
        self,
        rows: torch.Tensor,
        commands: torch.Tensor | None,
        root_pose: torch.Tensor | None,
        start_frames: torch.Tensor | str | None = None,
        init_motion: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        """Begin new motions of environments (n,), n > 0; see :meth:`cmg_ref.generator.CMGMotionGenerator.reset`."""
        self.reader.forget()
        if self.changes is not None and init_motion is None:
            self.changes.begin(rows, commands, root_pose)
            self.supply.refresh(rows)
            return
        targets = None if commands is None else self._clamped(commands, rows)
        if root_pose is None:
            root_pose = torch.zeros(len(rows), NUM_POSE, device=self._device)
        entered = self.supply.hand_out(rows, targets, start_frames) if init_motion is None else None
        if entered is not None:
            self.clock.set(rows, entered)
            self.reader.anchor(rows, root_pose)
            return
        if targets is None:
            targets = self.target_commands[rows]
        states, own_commands, following = self._initial(rows, targets, init_motion)
        self.clock.set(rows, 0)
        # The ramp begins at what the initial state was doing, so that a start from standing is a start from zero.
        self._restart(rows, states, following, root_pose, torch.zeros_like(rows), own_commands, targets)
        self.reader.place_in_world(rows)
        if self.changes is not None:
            self.changes.locate()

    def tell(self, rows: torch.Tensor, commands: torch.Tensor) -> None:
        """Give environments (n,) commands (n, command_dim); what is planned beyond the frame on show is replaced."""
        if self.told_by_kernels(len(rows)):
            if self.changes is not None and len(rows) > 0:
                self.reader.forget()
                self.changes.tell(rows, commands)
                self.supply.refresh(rows)
            return
        targets = self._clamped(commands, rows)
        changed = (targets != self.target_commands[rows]).any(dim=1).nonzero().squeeze(1)
        if len(changed) == 0:
            return
        if len(changed) < len(rows):
            rows, targets = rows[changed], targets[changed]
        self.reader.stop_at_ends()
        self.supply.need(self.clock.reach())
        base = self.clock.latest(rows)  # Between two frames the later one is already on show.
        self.reader.forget()
        motions = self.supply.take_over(rows, base)
        self.buffer.commands.set_target(motions, base, targets)
        self.buffer.truncate(motions, base)
        self.supply.refresh(rows)

    def switch_mode(self, mode: str) -> None:
        """Go on in another mode; what is shown now and the ramps of the commands carry over."""
        self.reader.stop_at_ends()
        self.supply.need(1)
        shown = self.clock.shown
        frames = torch.stack((shown, shown + 1), dim=1)
        states, seen, poses = self.buffer.store.read_states(frames, self.supply.motions)
        first_frames, starts, targets = self.buffer.commands.segment(shown, self.supply.motions)
        rows = torch.arange(len(shown), device=self._device)
        first, _ = self.buffer.states_at(shown, self.supply.motions_of(rows))
        beside = self.buffer.beside_at(frames, self.supply.motions)
        memory = self.buffer.memory_at(self.clock.latest(rows), self.supply.motions)
        first_frames = first_frames - shown
        self._seconds_before += self.buffer.seconds
        self.settings = replace(self.settings, mode=mode)
        self._allocate()
        self._restart(rows, first, first, poses[:, 0], first_frames, starts, targets)
        motions = self.supply.motions_of(rows)
        for frame in (0, 1):
            at = torch.full_like(rows, frame)
            self.buffer.store.write(at, states[:, frame], seen[:, frame], poses[:, frame], motions)
            self.buffer.keep_beside(at, motions, beside[:, frame])
        # Between two frames the later one is on show too, so generation goes on from it.
        self.buffer.truncate(motions, self.clock.latest(rows))
        self.buffer.motions.memory[motions] = memory

    # Inside -----------------------------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        """Make the buffer and the supply of the mode; every clock counts anew."""
        self.clock.count_anew()
        self.buffer, self.supply = make_supply(
            self.settings,
            self._checkpoint,
            self._rollout,
            self.clock,
            self.initial_states,
            self._random,
            self._sampler,
            self._robot,
            self._follows_commands,
        )
        kernels = self._rollout.kernels is not None
        self.reader.attach(self.buffer.store, self.supply, kernels)
        self.changes: EnvironmentChanges | None = None
        if kernels and self.supply.in_step:
            self.changes = self.buffer.captured_changes(
                self.reader, self.initial_states, self.draws, self.command_excess
            )
            if self.changes is not None:
                self.reader.follow(self.changes.located, self.changes.joints)

    def _restart(
        self,
        rows: torch.Tensor,
        states: torch.Tensor,
        following: torch.Tensor,
        poses: torch.Tensor,
        first_frames: torch.Tensor,
        starts: torch.Tensor,
        targets: torch.Tensor,
    ) -> None:
        """Begin motions of their own at states (n, state_dim), whose commands ramp from frames ``first_frames`` on."""
        motions = self.supply.take_over(rows)
        self.buffer.commands.begin(motions, first_frames, starts, targets)
        self.buffer.restart(motions, states, following, poses)
        self.supply.refresh(rows)

    def _initial(
        self,
        rows: torch.Tensor,
        commands: torch.Tensor,
        init_motion: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States (n, state_dim) to start from, commands they were doing, states (n, state_dim) a frame later."""
        states, own_commands, following = self.initial_states.choose(commands, self.draws(rows))
        if init_motion is None:
            return states, own_commands, following
        if isinstance(init_motion, torch.Tensor):
            states = init_motion
        else:
            columns = self._joint_columns
            if columns is None:
                columns = torch.arange(self._checkpoint.layout.num_joints, device=self._device)
            for values, channel in zip(init_motion, ("dof_pos", "dof_vel")):
                states[:, self._checkpoint.layout[channel].start + columns] = values
        states = self._rollout.model.guard(states)
        return states, commands, self._rollout.advance(states, commands)

    def _clamped(self, commands: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Commands held inside the trained range; remembers by how much they exceeded it."""
        clamped = self._rollout.model.clamp_command(commands)
        self.command_excess[rows] = (commands - clamped).abs()
        return clamped
