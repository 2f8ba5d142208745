"""Resets, new commands and the passing of time as captured kernels over all environments, none of which waits."""

from __future__ import annotations

from typing import Callable

import torch

from cmg_ref.core.command_layout import NUM_VELOCITIES
from cmg_ref.cuda_graph.captured_frames import CapturedFrame
from cmg_ref.cuda_graph.triton_frame import Motions, power_of_two
from cmg_ref.frames.store import NUM_POSE
from cmg_ref.network.model import CMG
from cmg_ref.trajectories.reader import MotionReader
from cmg_ref.trajectories.start_states import NUM_NEAREST, EnvironmentDraws, InitialStates

ASKED = 128  # environments of a program that writes what is asked for
SHOWN = 8  # environments of a program that reads what is on show


class EnvironmentChanges:
    """What happens to environments whose motions are extended by a frame at every step.

    What is asked for is written beside the number of each environment; a kernel over all of them then begins motions
    anew and changes commands where something is written. Which environments those are, the host never learns.

    Args:
        model: The CMG.
        motions: One motion for each environment, with a command of one segment.
        reader: The environments' clock and place; it is told the rows that are on show.
        initial_states: Where motions begin.
        draws: Which of them.
        excess: By how much commands exceed the trained range, (num_envs, command_dim); written.
        frame: Makes the next frame of motions (n,).
        kept: What a frame changes of them, see :class:`cmg_ref.cuda_graph.captured_frames.CapturedFrames`.
        workspace: See there.
        columns: Columns of the joint angles and velocities that are shown, (2 * num_joints,).

    Attributes:
        located: The rows on show, (num_envs,).
        joints: Joint angles and velocities in them, (num_envs, 2 * num_joints).
    """

    def __init__(
        self,
        model: CMG,
        motions: Motions,
        reader: MotionReader,
        initial_states: InitialStates,
        draws: EnvironmentDraws,
        excess: torch.Tensor,
        frame: Callable[[torch.Tensor], None],
        kept: tuple[torch.Tensor, ...],
        workspace: Callable[[], object],
        columns: torch.Tensor,
    ) -> None:
        from cmg_ref.cuda_graph import change_kernels  # Triton is not everywhere.

        self._kernels, self._motions, self._reader = change_kernels, motions, reader
        self._initial_states, self._draws, self._excess, self._frame = initial_states, draws, excess, frame
        num, device, layout = len(reader.clock.shown), reader.clock.shown.device, motions.store.layout
        command_dim = model.command_layout.size
        self._command_sizes = {"COMMANDS": command_dim, "COMMAND_ROOM": power_of_two(command_dim)}
        self._command_sizes["VELOCITIES"] = NUM_VELOCITIES
        self._fps = motions.store.fps
        self._begun, self._told = (torch.zeros(num, dtype=torch.uint8, device=device) for _ in range(2))
        self._begun_commands, self._begun_poses, self._told_commands = (
            torch.zeros(num, width, device=device) for width in (command_dim, NUM_POSE, command_dim)
        )
        self._command_range = torch.stack((model.command_min, model.command_max)).to(device)
        self._columns = columns
        self.located = torch.zeros_like(reader.clock.shown)
        self.joints = torch.zeros(num, len(columns), device=device)
        names = {"HEIGHT": "root_height", "GRAVITY": "projected_gravity", "VELOCITY": "root_lin_vel_h"}
        names["YAW_RATE"] = "root_yaw_rate"
        self._channels = {name: layout[channel].start for name, channel in names.items()}
        everyone = torch.arange(num, device=device)
        clocks = (reader.clock.shown, self.located)
        begun = (self._begun, self._told, self._begun_commands, self._begun_poses, self._told_commands)
        places = (reader.origin, draws.drawn, excess)
        planned = (motions.commands.first_frames, motions.commands.starts, motions.commands.targets)
        with torch.inference_mode(False):  # What is made in that mode cannot be worked in outside of it.
            self._change = CapturedFrame(
                self._changed, (*clocks, *begun, *places, *planned, *kept), workspace, everyone
            )
            self._advance = CapturedFrame(self._advanced, (*clocks, *kept), workspace, everyone)
            self._locate = CapturedFrame(self._located, clocks, workspace, everyone)
        # Tried out on nobody, so that where it cannot be built that is known before anything is asked for.
        self._write(everyone[:0], self._told, 1, None, self._told_commands, None, None)
        self.locate()

    def locate(self) -> None:
        """Find what is on show, after the clock was changed elsewhere."""
        self._locate.run(None, 1)

    def begin(self, env_ids: torch.Tensor, commands: torch.Tensor | None, poses: torch.Tensor | None) -> None:
        """Begin motions of environments (n,) anew.

        Args:
            env_ids: Environments concerned.
            commands: What they shall do, (n, command_dim); what they are told now by default. What is not finite counts
                as 0.
            poses: x, y and heading to begin at, (n, 3); the origin by default. What is not finite counts as 0.
        """
        kind = 2 if commands is None else 1
        self._write(env_ids, self._begun, kind, commands, self._begun_commands, poses, self._begun_poses)
        self._change.run(None, 1)

    def tell(self, env_ids: torch.Tensor, commands: torch.Tensor) -> None:
        """Give environments (n,) commands (n, command_dim); those that change go on from the frame on show.

        What is not finite counts as 0.
        """
        self._write(env_ids, self._told, 1, commands, self._told_commands, None, None)
        self._change.run(None, 1)

    def advance(self) -> None:
        """Let a control step pass and make its frame."""
        self._advance.run(None, 1)

    def _write(
        self,
        env_ids: torch.Tensor,
        asked: torch.Tensor,
        kind: int,
        commands: torch.Tensor | None,
        asked_commands: torch.Tensor,
        poses: torch.Tensor | None,
        asked_poses: torch.Tensor | None,
    ) -> None:
        """Write beside environments (n,) what is asked for."""
        with torch.cuda.device_of(asked):
            self._kernels.ask[(-(-len(env_ids) // ASKED),)](
                env_ids.contiguous(),
                asked_commands if commands is None else commands.contiguous(),
                asked_commands if poses is None else poses.contiguous(),
                asked,
                asked_commands,
                asked_commands if asked_poses is None else asked_poses,
                len(env_ids),
                KIND=kind,
                COMMANDS=0 if commands is None else commands.shape[1],
                PLACES=asked_poses is not None,
                POSES=poses is not None,
                BLOCK=ASKED,
            )

    # What is captured -------------------------------------------------------------------------------------------------

    def _changed(self, everyone: torch.Tensor) -> None:
        motions, store, commands = self._motions, self._motions.store, self._motions.commands
        known, reader = self._initial_states, self._reader
        num_known = len(known.states)
        self._kernels.change[(len(everyone),)](
            self._begun,
            self._begun_commands,
            self._begun_poses,
            self._told,
            self._told_commands,
            self._excess,
            reader.clock.shown,
            self.located,
            self.joints,
            self._columns,
            reader.origin,
            self._draws.drawn,
            self._draws.first,
            self._draws.mixed_seed,
            known.states,
            known.commands,
            known.following,
            known.scaled_commands,
            known.at_rest,
            known.scale,
            self._command_range,
            motions.state,
            motions.pose,
            motions.memory,
            motions.written,
            motions.guarded,
            commands.first_frames,
            commands.starts,
            commands.targets,
            commands.largest,
            store.table,
            store.bits,
            motions.beside,
            store.first_rows,
            store.capacities,
            self._fps,
            BESIDE=motions.beside.shape[1],
            MEMORY=motions.memory.shape[1],
            MEMORY_ROOM=power_of_two(motions.memory.shape[1]),
            KNOWN=num_known,
            RESTING=len(known.at_rest),
            NEAREST=min(NUM_NEAREST, num_known),
            RAMP=commands.interpolation_frames,
            SIZE=motions.state.shape[1],
            JOINTS=2 * store.layout.num_joints,
            WIDTH=store.table.shape[1],
            HALF=store.dtype == torch.float16,
            READ=len(self._columns),
            COLUMNS=power_of_two(motions.state.shape[1]),
            KNOWN_ROOM=power_of_two(num_known),
            **self._channels,
            **self._command_sizes,
        )

    def _advanced(self, everyone: torch.Tensor) -> None:
        self._frame(everyone)
        self._show(1)

    def _located(self, everyone: torch.Tensor) -> None:
        self._show(0)

    def _show(self, passed: int) -> None:
        num, store, read = len(self.located), self._motions.store, len(self._columns)
        self._kernels.show[(-(-num // SHOWN),)](
            self._reader.clock.shown,
            self.located,
            store.first_rows,
            store.capacities,
            store.table,
            self._columns,
            self.joints,
            passed,
            num,
            READ=read,
            WIDTH=store.table.shape[1],
            BLOCK=SHOWN,
            COLUMNS=power_of_two(read),
        )
