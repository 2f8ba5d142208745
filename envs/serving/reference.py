"""The generator, one robot and one control step at a time: from a velocity command to a motion frame."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np
import torch

from cmg_ref.core.command_layout import VELOCITY as VELOCITY_COMMAND
from cmg_ref.core.rotations import quat_rotate_inverse
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint
from envs.deployment.twist2_controller import roll_and_pitch
from envs.serving.calibration import Calibration
from envs.serving.motion_frame import HEIGHT, JOINT_NAMES, JOINTS, PITCH, ROLL, SIZE, VELOCITY, YAW, YAW_RATE

CONTROL_DT = 0.02  # [s]
ACCELERATION = (1.0, 1.0, 2.0)  # [m/s^2, m/s^2, rad/s^2]
LOWEST, HIGHEST = (-0.5, -0.4, -1.0), (1.5, 0.4, 1.0)  # [m/s, m/s, rad/s] that low levels follow
_AT_REST = 0.05  # [rad/s] of every joint


class Reference:
    """A motion that obeys commands, and begins standing.

    Args:
        checkpoint: The generator; the shipped one by default.
        acceleration: Largest change of the command in force, (3,) [m/s^2, m/s^2, rad/s^2].
        lowest, highest: What commands are held within, (3,) [m/s, m/s, rad/s]; the range of training by default.
        calibration: What to tell the generator so that the robot does what it is commanded.

    Attributes:
        lowest, highest: What commands are held within, (3,).
        command: The command in force, (3,).
    """

    def __init__(
        self,
        checkpoint: str | Path | Checkpoint | None = None,
        acceleration: Sequence[float] = ACCELERATION,
        lowest: Sequence[float] | None = None,
        highest: Sequence[float] | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self._generator = CMGMotionGenerator(
            checkpoint,
            num_envs=1,
            mode="realtime",
            buffer_size=8,
            control_dt=CONTROL_DT,
            interpolation_steps=0,  # the ramp is ours: one that begins anew with each change would hardly move
            joint_names=JOINT_NAMES,
        )
        loaded = self._generator.checkpoint
        self.lowest, self.highest = (
            limit[VELOCITY_COMMAND].double().numpy() for limit in (loaded.command_min, loaded.command_max)
        )
        if lowest is not None:
            self.lowest = np.maximum(self.lowest, lowest)
        if highest is not None:
            self.highest = np.minimum(self.highest, highest)
        self._step, self._calibration = np.asarray(acceleration) * CONTROL_DT, calibration
        self._standing = loaded.standing_state().unsqueeze(0)
        self.restart()

    def restart(self, yaw: float = 0.0) -> None:
        """Stand, no command in force, facing a yaw [rad]."""
        self.command = np.zeros(3)
        pose = torch.tensor([[0.0, 0.0, yaw]])
        self._generator.reset(init_motion=self._standing, commands=torch.zeros(1, 3), root_pose=pose)

    def step(self, command: np.ndarray) -> np.ndarray:
        """Let a control step pass.

        Args:
            command: vx, vy [m/s], yaw rate [rad/s] asked for, (3,).

        Returns:
            The frame after the step, (SIZE,), hands and neck at zero.
        """
        wanted = np.clip(command, self.lowest, self.highest)
        self.command = self.command + np.clip(wanted - self.command, -self._step, self._step)
        told = self.command if self._calibration is None else self._calibration.told(self.command)
        self._generator.update_commands(torch.from_numpy(told[None]).float())
        self._generator.advance()
        return self.frame()

    @property
    def at_rest(self) -> bool:
        """Whether no command is in force and the motion has come to rest."""
        return not self.command.any() and float(self._generator.get_motion()[1].abs().max()) < _AT_REST

    def frame(self) -> np.ndarray:
        """The present frame, (SIZE,), hands and neck at zero."""
        motion = self._generator.get_frames()
        quat = motion.root_quat_w
        down = torch.tensor([[0.0, 0.0, -1.0]])
        velocity, rate, gravity = (
            quat_rotate_inverse(quat, vector)[0].double().numpy()
            for vector in (motion.root_lin_vel_w, motion.root_ang_vel_w, down)
        )
        x, y, z, w = quat[0].double().tolist()
        frame = np.zeros(SIZE)
        frame[VELOCITY], frame[HEIGHT], frame[YAW_RATE] = velocity, float(motion.root_pos_w[0, 2]), rate[2]
        frame[ROLL], frame[PITCH] = roll_and_pitch(gravity)
        frame[YAW] = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
        frame[JOINTS] = motion.dof_pos[0].double().numpy()
        return frame
