"""TWIST2's low level without a window: its policy on its model, told what to do by Redis. A process of its own.

As TWIST2's it begins with zeros for a measurement, fails where a key is missing, and steps at 1 kHz, in real time at
most.
At its end, or when it is terminated, it writes what happened as JSON.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import redis

from cmg_ref.robots.robot import load_g1
from envs.deployment.plain_simulation import Conditions, PlainSimulation
from envs.deployment.twist2_controller import Twist2Policy, roll_and_pitch

ROBOT = "unitree_g1_with_hands"
ACTIONS = [f"action_{part}_{ROBOT}" for part in ("body", "hand_left", "hand_right", "neck")]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("policy", type=Path)
    parser.add_argument("mjcf", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--slowness", type=float, default=1.0, help="seconds that pass in one of the simulation")
    given = parser.parse_args()
    client: Any = redis.Redis(port=given.port)
    policy = Twist2Policy(given.policy, load_g1().joint_names)
    simulation = PlainSimulation(given.mjcf, policy, Conditions(physics_dt=0.001))
    client.set(f"state_body_{ROBOT}", json.dumps([0.0] * 127))
    rows = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for _ in range(round(given.seconds / policy.control_dt)):
            due = time.monotonic() + policy.control_dt * given.slowness
            ang_vel, gravity, joint_pos, joint_vel = simulation.measure()
            state = [*ang_vel, *roll_and_pitch(gravity), *joint_pos]
            client.mset({f"state_body_{ROBOT}": json.dumps(state), "t_state": int(time.time() * 1000)})
            body, *others = (json.loads(value) for value in client.mget(ACTIONS))
            assert [len(other) for other in others] == [7, 7, 2]
            status = json.loads(client.get("cmg_serve_status") or "{}")
            simulation.step(policy.follow(np.array(body), ang_vel, gravity, joint_pos, joint_vel))
            rows.append([status.get("phase"), status.get("command"), simulation.velocity().tolist(), body])
            if simulation.fallen:
                break
            time.sleep(max(0.0, due - time.monotonic()))
    finally:
        fallen = bool(simulation.fallen)
        given.output.write_text(json.dumps({"fallen": fallen, "rows": rows, "seconds": len(rows) * policy.control_dt}))


if __name__ == "__main__":
    main()
