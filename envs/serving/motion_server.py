"""What is sent in each control step: who waits, who eases in, who obeys, who eases out, and why."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Callable, Mapping

import numpy as np

from envs.serving.command_sources import REMARK_EVERY, CommandSource
from envs.serving.motion_frame import JOINT_NAMES, JOINTS, PITCH, ROLL, YAW, eased
from envs.serving.outside_joints import KEY as JOINTS_KEY
from envs.serving.outside_joints import JointsError, OutsideJoints
from envs.serving.protocol import EXIT_KEY, START_KEY, Protocol
from envs.serving.reference import CONTROL_DT, Reference

EASE_TIME = 2.0  # [s] in from the measured pose, and out to the default pose
LONGEST_STOP = 6.0  # [s] from the moment that a stop is wanted until the robot is eased out, come to rest or not
FALLEN = 0.8  # [rad] from upright


class Phase(enum.Enum):
    """What the server is doing."""

    WAITING = "waiting"
    EASING_IN = "easing in"
    OBEYING = "obeying"
    EASING_OUT = "easing out"
    DONE = "done"


@dataclass(frozen=True)
class Patience:
    """Times after which something counts as lost [s].

    Attributes:
        low_level: Since the low level's last measurement.
        joints: Since joints were last given from outside.
    """

    low_level: float = 1.0
    joints: float = 0.5


class MotionServer:
    """From commands and measurements to motion frames, one control step at a time; it does not know of time or Redis.

    It waits in the default pose until there is a low level (and its start signal, where there is one), eases in from
    the measured pose, and obeys. Whatever ends it, the reference comes to rest first where there is time for it; then
    the robot is eased out to the default pose, which is the last frame.

    Args:
        reference: The motion.
        protocol: Keys, layouts and default pose of the low level.
        source: Commands.
        say: Told in a line whatever the user should know.
        patience: When something counts as lost.

    Attributes:
        phase: What it is doing.
        frame: The frame last made, (SIZE,).
        failed: Whether it ended for a reason that nobody wanted.
    """

    def __init__(
        self,
        reference: Reference,
        protocol: Protocol,
        source: CommandSource,
        say: Callable[[str], None],
        patience: Patience = Patience(),
    ) -> None:
        self._reference, self._protocol, self._source, self._say = reference, protocol, source, say
        self._patience, self._joints = patience, OutsideJoints(patience.joints, CONTROL_DT)
        self.phase, self.frame, self.failed = Phase.WAITING, protocol.default.copy(), False
        self._steps = 0  # since the phase began
        self._start = self.frame  # where an easing begins
        self._again = False  # whether to wait again after easing out
        self._leaving: str | None = None
        self._stopping_steps = 0
        self._lost: str | None = None
        self._waits_for = ""
        self._signature: tuple[bytes | None, ...] | None = None
        self._alive_at: float | None = None
        self._exit_signal: bytes | None = b"1"  # one that was there before us is an old one
        self._remarked_at = -np.inf

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of Redis to read in every control step."""
        clock = (self._protocol.clock_key,) if self._protocol.clock_key else ()
        return (self._protocol.state_key, *clock, START_KEY, EXIT_KEY)

    @property
    def taken_keys(self) -> tuple[str, ...]:
        """Keys of Redis to read and delete in every control step."""
        return (JOINTS_KEY,) if self._source.key is None else (JOINTS_KEY, self._source.key)

    def status(self) -> str:
        """Phase and command in force [m/s, m/s, rad/s], as JSON."""
        return json.dumps({"phase": self.phase.value, "command": self._reference.command.round(3).tolist()})

    @property
    def leaving(self) -> bool:
        """Whether it is about to end."""
        return self._leaving is not None

    def leave(self, why: str, at_once: bool = False, failed: bool = False) -> None:
        """Come to rest, ease out and end.

        Args:
            why: Told to the user.
            at_once: Ease out from wherever the motion is.
            failed: Whether nobody wanted this.
        """
        if self.phase is Phase.DONE or (self._leaving is not None and not at_once):
            return
        self.failed |= failed
        if self._leaving is None or self.phase is not Phase.EASING_OUT:
            self._say(f"{why}: {'easing out' if at_once else 'stopping, then easing out'} to the default pose")
        self._leaving, self._again = why, False
        if self.phase is Phase.WAITING:
            self._begin(Phase.DONE)
        elif self.phase is Phase.EASING_IN or (at_once and self.phase is Phase.OBEYING):
            self._ease_out()

    def interrupted(self, frame: np.ndarray) -> None:
        """Frames could not be sent for a while, the last that could be is given: ease out from there, then wait."""
        self._alive_at = None
        if self.phase in (Phase.EASING_IN, Phase.OBEYING, Phase.EASING_OUT):
            self.frame, self._again = frame, self._leaving is None
            self._ease_out()

    def step(self, now: float, heard: Mapping[str, bytes | None]) -> np.ndarray:
        """Let a control step pass.

        Args:
            now: Present time [s] of a clock that never goes back.
            heard: What was under `keys` and `taken_keys`.

        Returns:
            The frame to send, (SIZE,).
        """
        pose = self._listen(now, heard)
        if self.phase is Phase.WAITING:
            self._wait(pose, heard)
        command = self._command(now, heard)
        if self.phase in (Phase.EASING_IN, Phase.OBEYING):
            try:
                moving = self._joints.put_into(self._reference.step(command), now)
                if not np.isfinite(moving).all():
                    raise ValueError("the motion has become infinite")
            except Exception as error:  # whatever it is, the robot has to be brought to rest
                self.leave(f"the reference failed ({error})", at_once=True, failed=True)
        self._steps += 1
        share = self._steps * CONTROL_DT / EASE_TIME
        if self.phase is Phase.EASING_IN:
            self.frame = eased(self._start, moving, share)
            if share >= 1.0:
                self._begin(Phase.OBEYING)
                self._say("obeying commands")
        elif self.phase is Phase.OBEYING:
            self.frame = moving
            self._come_to_rest()
        elif self.phase is Phase.EASING_OUT:
            end = self._protocol.default.copy()
            end[YAW] = self._start[YAW]
            self.frame = eased(self._start, end, share)
            if share >= 1.0:
                self._begin(Phase.WAITING if self._again else Phase.DONE)
                self._say("in the default pose")
        return self.frame

    # Inside -----------------------------------------------------------------------------------------------------------

    def _begin(self, phase: Phase) -> None:
        self.phase, self._steps, self._stopping_steps, self._waits_for = phase, 0, 0, ""

    def _ease_out(self) -> None:
        self._start = self.frame.copy()
        self._begin(Phase.EASING_OUT)

    def _listen(self, now: float, heard: Mapping[str, bytes | None]) -> np.ndarray | None:
        """The pose that a living low level has measured; looks after it, its signals, and joints from outside."""
        pose = self._protocol.measured(heard.get(self._protocol.state_key))
        clock = self._protocol.clock_key
        signature = (heard.get(self._protocol.state_key), heard.get(clock) if clock else None)
        if self._signature is not None and signature != self._signature and pose is not None:
            self._alive_at = now
        self._signature = signature
        alive = self._alive_at is not None and now - self._alive_at <= self._patience.low_level
        if not alive and self.phase in (Phase.EASING_IN, Phase.OBEYING):
            self._say(
                f"the low level has stood still for {self._patience.low_level:g} s: easing out, then waiting for it"
            )
            self._again = self._leaving is None
            self._ease_out()
        exit_signal = heard.get(EXIT_KEY)
        if exit_signal == b"1" and self._exit_signal != b"1":
            self.leave(f"{EXIT_KEY} is 1")
        self._exit_signal = exit_signal
        if alive and _fallen(pose) and self.phase in (Phase.EASING_IN, Phase.OBEYING):
            self.leave("the robot has fallen", at_once=True, failed=True)
        given = heard.get(JOINTS_KEY)
        if given:
            try:
                self._joints.take(given, now)
            except JointsError as error:
                if now - self._remarked_at > REMARK_EVERY:
                    self._remarked_at = now
                    self._say(f"{error}: not obeyed")
        return pose if alive else None

    def _wait(self, pose: np.ndarray | None, heard: Mapping[str, bytes | None]) -> None:
        """Begin if everything is there, else say what is not."""
        waits_for = ""
        if pose is None:
            waits_for = f"the low level ({self._protocol.state_key} does not change): default pose"
        elif _fallen(pose):
            waits_for = "the robot to be upright: default pose"
        elif heard.get(START_KEY) not in (None, b"1"):
            waits_for = f"{START_KEY} to be 1 (B on the remote; without a remote: redis-cli del {START_KEY})"
        if waits_for:
            if waits_for != self._waits_for:
                self._say(f"waiting for {waits_for}")
            self._waits_for = waits_for
            return
        assert pose is not None
        self._reference.restart(self.frame[YAW])
        self._start = self.frame.copy()
        self._start[ROLL], self._start[PITCH], self._start[JOINTS] = pose[ROLL], pose[PITCH], pose[JOINTS]
        self._begin(Phase.EASING_IN)
        far = int(np.abs(pose[JOINTS] - self.frame[JOINTS]).argmax())
        away = abs(pose[JOINTS][far] - self.frame[JOINTS][far])
        self._say(f"easing in from the measured pose, {away:.2f} rad from the default at most ({JOINT_NAMES[far]})")

    def _command(self, now: float, heard: Mapping[str, bytes | None]) -> np.ndarray:
        """The command to obey, (3,): zero where there is none."""
        obeying = self.phase is Phase.OBEYING
        text = None if self._source.key is None else heard.get(self._source.key)
        steering = self._source.poll(now, self._steps * CONTROL_DT if obeying else 0.0, text)
        if steering.remark:
            self._say(steering.remark)
        if steering.ended:
            self.leave(steering.ended, failed=steering.lost is not None)
        elif steering.lost != self._lost and self._leaving is None:
            self._say(f"{steering.lost}: stopping" if steering.lost else "commands are back")
        self._lost = steering.lost
        if not obeying or self._leaving is not None or steering.lost or steering.ended:
            return np.zeros(3)
        self._stopping_steps = 0
        return steering.command

    def _come_to_rest(self) -> None:
        """Ease out once the motion rests, if it is to end."""
        if self._leaving is None and self._lost is None:
            return
        self._stopping_steps += 1
        if self._reference.at_rest or self._stopping_steps * CONTROL_DT >= LONGEST_STOP:
            if self._leaving is None:
                self._leaving = self._lost
                self.failed = True
                self._say(f"{self._lost}: easing out to the default pose")
            self._ease_out()


def _fallen(pose: np.ndarray | None) -> bool:
    """Whether a measured pose is far from upright."""
    return pose is not None and max(abs(pose[ROLL]), abs(pose[PITCH])) > FALLEN
