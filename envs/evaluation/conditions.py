"""What a robot meets in a case of an evaluation: another robot, sensors, blows, arms that somebody else moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from envs.base.disturbances import MOTIONS
from envs.evaluation.cases import PUNCH_INTERVAL, EvaluationCase

ANG_VEL_BIAS, GRAVITY_BIAS = 0.05, 0.03  # [rad/s], [rad] of an inertial sensor
PAYLOAD_LINK = "torso_link"


class Conditions:
    """Gives environments the robots, sensors and disturbances of their cases.

    Args:
        env: An environment made with `free_config` of `policy_evaluation`.
        cases: What may be asked for; the numbers in `apply` are theirs.
        generator: Random numbers, on the device.
    """

    def __init__(self, env: Any, cases: Sequence[EvaluationCase], generator: torch.Generator) -> None:
        self.env, self.generator, device = env, generator, env.device
        nothing, drawn = math.nan, env.randomisation.drawn

        def column(values: list[float | None]) -> torch.Tensor:
            return torch.tensor([nothing if value is None else value for value in values], device=device)

        payload = torch.zeros(len(cases), env.num_bodies, device=device)
        payload[:, env.body_names.index(PAYLOAD_LINK)] = column([case.payload for case in cases])
        # All friction of a contact is the robot's, see `free_config`: the mean of that and none.
        friction = 2.0 * column([case.friction for case in cases])
        # What a robot has by nature, and what a case gives it in its place.
        self._values = {
            "friction": (drawn("friction").to(device), friction),
            "delay": (drawn("delay").to(device), column([case.delay for case in cases]).unsqueeze(1)),
            "strength": (drawn("strength").to(device), column([case.strength for case in cases]).unsqueeze(1)),
            "payload": (drawn("payload").to(device), payload),
        }
        self._bias = column([case.imu_bias for case in cases])
        self._noise = column([case.noise for case in cases]).unsqueeze(1)
        self._punch = column([case.punch for case in cases])
        self._motions = torch.tensor([MOTIONS.index(c.arms) if c.arms else -1 for c in cases], device=device)
        self._default_pose = torch.tensor([case.start == "default" for case in cases], device=device)
        env.observations.noise_scale = torch.zeros(env.num_envs, 1, device=device)

    def apply(self, env_ids: torch.Tensor, case: torch.Tensor) -> None:
        """Prepare environments (n,) that have just been reset for their cases (n,)."""
        env = self.env
        robots = {
            name: torch.where(given[case].isnan(), own[env_ids], given[case])
            for name, (own, given) in self._values.items()
        }
        for name, size in (("ang_vel_bias", ANG_VEL_BIAS), ("gravity_bias", GRAVITY_BIAS)):
            sign = torch.randint(2, (len(case), 3), generator=self.generator, device=case.device) * 2.0 - 1.0
            robots[name] = size * self._bias[case].unsqueeze(1) * sign
        env.observations.noise_scale[env_ids] = self._noise[case]
        env.driven_joints.choose(env_ids, self._motions[case])
        force = self._punch[case].unsqueeze(1) * torch.tensor([0.5, 1.0], device=case.device)
        env.punches.choose(env_ids, force, (PUNCH_INTERVAL, PUNCH_INTERVAL), 0.0)
        env.punches.reset(env_ids)
        env.change_robots(env_ids, **robots)
        starts = env_ids[self._default_pose[case]]
        if len(starts):
            env.start_in_default_pose(starts)
        env.driven_joints.reset(env_ids, env.dof_pos[env_ids])

    def withdraw(self) -> None:
        """Give all robots back what they have by nature."""
        env, env_ids = self.env, torch.arange(self.env.num_envs, device=self.env.device)
        env.driven_joints.choose(env_ids, torch.full_like(env_ids, -1))
        env.punches.choose(
            env_ids, torch.zeros(len(env_ids), 2, device=env.device), (PUNCH_INTERVAL, PUNCH_INTERVAL), 0.0
        )
        robots = {name: own for name, (own, _) in self._values.items()}
        robots["ang_vel_bias"] = robots["gravity_bias"] = torch.zeros(len(env_ids), 3, device=env.device)
        env.change_robots(env_ids, **robots)
