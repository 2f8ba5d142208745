"""Training in mjlab that writes our own files of policies, and exports what robots run."""

from __future__ import annotations

from typing import Any

from mjlab.rl import MjlabOnPolicyRunner

from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT
from cmg_ref.rl.actions import ACTION_MEANING
from configs.base_config import class_to_dict
from configs.g1_cmg_config import G1CMGCfg
from envs.deployment.controller_export import export_controller
from envs.hosts.mjlab.residual_action import joint_gains
from envs.hosts.mjlab.terms import COMMAND, observed
from envs.learning.policy import Policy, PolicyDescription, file_hash, save_policy


def describe_policy(env: Any, task: str = "g1_cmg") -> PolicyDescription:
    """What the numbers of a policy of one of our mjlab environments mean; the counterpart of our own environment's."""
    manager, action = env.observation_manager, env.action_manager.get_term("joint_pos")
    robot, cfg = env.scene["robot"], class_to_dict(G1CMGCfg())
    # The manager itself keeps scales as tensors, which are not exactly what the configuration says.
    actor, sizes = env.cfg.observations["actor"].terms, manager.group_obs_term_dim["actor"]
    seen = ((observed(name), size[0], part.scale) for (name, part), size in zip(actor.items(), sizes, strict=True))
    stiffness, damping = joint_gains(env.sim.mj_model, robot)
    term, solver = env.command_manager.get_term(COMMAND), env.cfg.sim.mujoco
    cfg["sim"].update(
        dt=env.physics_dt,
        engine=f"MuJoCo Warp, {solver.integrator} integration",
        mujoco={name: getattr(solver, name) for name in ("solver", "iterations", "cone")},
    )
    cfg["control"].update(drive_mode="actuator", decimation=env.cfg.decimation)
    return PolicyDescription(
        task=task,
        joint_names=tuple(robot.joint_names),
        stiffness=tuple(stiffness.tolist()),
        damping=tuple(damping.tolist()),
        default_dof_pos=tuple(robot.data.default_joint_pos[0].tolist()),
        action_scale=tuple(action.scale[0].tolist()),
        action_limit=float(cfg["normalization"]["clip_actions"]),
        control_dt=env.step_dt,
        observations=tuple(seen),
        reference=file_hash(term.cfg.reference.checkpoint or SHIPPED_CHECKPOINT),
        action_meaning=ACTION_MEANING,
        config=cfg,
    )


class ReferenceFollowerRunner(MjlabOnPolicyRunner):
    """mjlab's runner, whose checkpoints have the policy beside them: as our file, and as ONNX with its reference."""

    def save(self, path: str, infos: Any = None) -> None:
        """Write a checkpoint; beside it the policy, and the controller with our metadata and mjlab's."""
        super().save(path, infos)
        folder, _, onnx_path = self._get_export_paths(path)
        policy = self.policy()
        save_policy(policy, folder / "policy.safetensors")
        checkpoint = self.env.unwrapped.command_manager.get_term(COMMAND).cfg.reference.checkpoint
        export_controller(policy, onnx_path, checkpoint, folder / "policy.safetensors")

    def policy(self) -> Policy:
        """The policy as it is now, on the CPU."""
        state = {name: value.cpu() for name, value in self.alg.get_policy().state_dict().items()}
        return Policy.from_actor_state(state, describe_policy(self.env.unwrapped), self.cfg["actor"]["activation"])
