"""What a policy is tried at, as data: commands, and what a robot meets in free use."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from cmg_ref.core.command_layout import CommandLayout

PUSH_INTERVAL = 5.0  # [s]
PUNCH_INTERVAL = 5.0  # [s]
# Random commands of free use: lowest and highest vx, vy [m/s] and yaw rate [rad/s].
SCHEDULED = ((-0.6, 2.0), (-0.4, 0.4), (-1.0, 1.0))


@dataclass(frozen=True)
class EvaluationCase:
    """A command, how it is tried, and what must come of it.

    Attributes:
        name: Short name.
        command: vx, vy [m/s] and yaw rate [rad/s]; with a schedule the first one does not matter.
        duration: Length of a roll-out [s].
        push: Change of velocity in a random horizontal direction every `push_interval` [m/s].
        required: Limit of each measure: survival must reach it, all others must stay below it.
        height: Of the base above the ground [m], for policies that are told one; None for the natural one.
        schedule: Shortest and longest time between random commands out of `SCHEDULED` [s]; None for a constant one.
        push_interval: Time between pushes [s].
        punch: Largest force on the link of a random joint every `PUNCH_INTERVAL`, the smallest is half of it [N].
        arms: How the arms are driven from outside, one of `MOTIONS` of `envs.base.disturbances`; empty for not at all.
        delay: Time from a joint target to the motors [s]; None for that of the configuration, and so below.
        friction: Coefficient of friction between robot and ground.
        strength: Factor on all torques.
        payload: Mass added to the torso [kg].
        imu_bias: Factor on the constant errors of the inertial sensors, 0.05 rad/s and 0.03 rad about every axis.
        noise: Factor on the noise of the sensors in training.
        start: "reference" to begin in the pose of the reference, "default" in the standing pose of the configuration.
        noslip: Whether MuJoCo keeps standing feet from creeping; where not, with its default solver, which converges.
        roughness: Of the ground: bumps of up to so much, up and down, 0.3 m wide [m].
    """

    name: str
    command: tuple[float, float, float]
    duration: float = 20.0
    push: float = 0.0
    required: dict[str, float] = field(default_factory=dict)
    height: float | None = None
    schedule: tuple[float, float] | None = None
    push_interval: float = PUSH_INTERVAL
    punch: float = 0.0
    arms: str = ""
    delay: float | None = None
    friction: float | None = None
    strength: float | None = None
    payload: float = 0.0
    imu_bias: float = 0.0
    noise: float = 0.0
    start: str = "reference"
    noslip: bool = True
    roughness: float = 0.0

    @property
    def conditions(self) -> dict[str, object]:
        """What is unlike a constant command and a push now and then, by name."""
        values = {item.name: (getattr(self, item.name), item.default) for item in dataclasses.fields(self)[6:]}
        return {name: value for name, (value, usual) in values.items() if value != usual}


def command_name(command: Sequence[float]) -> str:
    """Such as "vx 0.5" or "vx 0.6 wz -0.4"; "stand" for the zero command."""
    return CommandLayout().described(command)


_OBEYS = {"survival": 0.98, "lin_vel_error": 0.12, "yaw_rate_error": 0.15}
_RUNS = {"survival": 0.90, "lin_vel_error": 0.3}
_STAND = (0.0, 0.0, 0.0)


def _case(command: tuple[float, float, float], **required: float) -> EvaluationCase:
    return EvaluationCase(command_name(command), command, required=required)


def _pushed(vx: float, push: float, survival: float) -> EvaluationCase:
    command = (vx, 0.0, 0.0)
    return EvaluationCase(
        f"{command_name(command)}, push {push:g}", command, push=push, required={"survival": survival}
    )


# What the policy must show.
GRID: tuple[EvaluationCase, ...] = (
    _case(_STAND, **_OBEYS),
    *(_case((vx, 0.0, 0.0), **_OBEYS, joint_error=0.15) for vx in (-0.5, 0.5, 1.0, 1.5)),
    *(_case((0.0, vy, 0.0), **_OBEYS) for vy in (-0.3, 0.3)),
    *(_case((0.0, 0.0, wz), **{**_OBEYS, "yaw_rate_error": 0.2}) for wz in (-0.8, 0.8)),
    *(_case(mixed, **_OBEYS) for mixed in ((0.6, 0.2, 0.4), (0.6, -0.2, -0.4), (1.0, 0.0, 0.6), (1.0, 0.0, -0.6))),
    *(_case((vx, 0.0, 0.0), **_RUNS) for vx in (2.0, 2.5)),
    EvaluationCase("stand 60 s", _STAND, 60.0, required={"survival": 0.98, "drift": 0.10, "steps": 0.0}),
    *(_pushed(vx, push, must) for push, must in ((0.5, 0.95), (1.0, 0.70)) for vx in (0.0, 1.0)),
)


def _crouched(command: tuple[float, float, float], height: float) -> EvaluationCase:
    return EvaluationCase(
        f"{command_name(command)}, height {height:g}",
        command,
        required={"survival": 0.98, "height_error": 0.02},
        height=height,
    )


# What a policy that is told a height must show too.
HEIGHTS: tuple[EvaluationCase, ...] = tuple(
    _crouched(command, height)
    for height in (0.60, 0.65, 0.70)
    for command in (_STAND, (0.5, 0.0, 0.0), (0.0, 0.0, 0.5))
)


def _free(name: str, survival: float | None = None, duration: float = 20.0, **conditions: object) -> EvaluationCase:
    required = {} if survival is None else {"survival": survival}
    case = EvaluationCase(f"free, {name}", _STAND, duration, required=required, schedule=(1.0, 4.0))
    return dataclasses.replace(case, **conditions)  # type: ignore[arg-type]


# What it must bear in free use.
FREE: tuple[EvaluationCase, ...] = (
    _free("60 s", 0.98, 60.0),
    _free("60 s, push 0.5", 0.96, 60.0, push=0.5, push_interval=4.0),
    _free("60 s, push 1", 0.85, 60.0, push=1.0, push_interval=4.0),
    _free("delay 40 ms", 0.95, delay=0.04),
    _free("biased IMU, noise", 0.95, imu_bias=1.0, noise=2.0),
    _free("torso +6 kg", 0.95, payload=6.0),
    _free("friction 0.4", 0.95, friction=0.4),
    _free("friction 0.3", friction=0.3),
    _free("motors 0.8", 0.95, strength=0.8),
    _free("default pose", 0.98, start="default"),
    _free("punches 250 N", punch=250.0),
    _free("punches 500 N", punch=500.0),
    _free("arms driven", 0.98, arms="walk"),
    _free("arms driven, punches 500 N", arms="walk", punch=500.0),
    _free("rough ground", roughness=0.02),
    EvaluationCase(
        "stand 120 s without noslip",
        _STAND,
        120.0,
        required={"survival": 0.98, "drift": 0.05, "heading": 0.05, "steps": 0.0},
        noslip=False,
    ),
)


def shortened(cases: Sequence[EvaluationCase], duration: float) -> list[EvaluationCase]:
    """Unpushed constant commands of at most 20 s, cut to a duration, for a quick look during training."""
    return [
        dataclasses.replace(case, duration=duration)
        for case in cases
        if case.push == 0.0 and case.duration <= 20.0 and not case.conditions
    ]


def free_shortened(duration: float) -> list[EvaluationCase]:
    """Cases of free use in one simulation, cut to a duration."""
    plain = [case for case in FREE if case.noslip and not case.roughness]
    return [dataclasses.replace(case, duration=min(case.duration, duration)) for case in plain]
