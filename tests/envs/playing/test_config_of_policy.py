"""A policy is shown and measured with the settings that it was trained with, on the robots of the task."""

from __future__ import annotations

import copy
import dataclasses

from envs.learning.policy import load_policy
from envs.playing.playback import config_of_policy
from envs.tasks.task_registry import task_registry


def test_what_a_policy_needs_is_its_own_and_the_robots_are_the_tasks() -> None:
    usual, _ = task_registry.get_cfgs("g1_cmg")
    policy = load_policy()
    trained = copy.deepcopy(policy.description.config)
    trained["control"]["stiffness"]["knee"] = 123.0
    trained["commands"]["ramp_time"] = 0.7
    trained["terrain"].update(static_friction=0.3, dynamic_friction=0.3, max_roughness=0.123)
    trained["domain_rand"].update(payloads={"torso_link": [0.0, 6.0]}, delay_range=[0.0, 0.04])
    trained["driven_joints"]["share"] = 0.4
    policy.description = dataclasses.replace(policy.description, config=trained)
    cfg = config_of_policy("g1_cmg", policy)
    assert (cfg.control.stiffness["knee"], cfg.commands.ramp_time, cfg.terrain.max_roughness) == (123.0, 0.7, 0.123)
    assert cfg.terrain.static_friction == cfg.terrain.dynamic_friction == usual.terrain.static_friction == 1.0
    assert cfg.domain_rand.payloads == {} and cfg.domain_rand.delay_range == usual.domain_rand.delay_range
    assert cfg.driven_joints.share == 0.0
