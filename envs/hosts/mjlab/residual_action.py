"""Actions that correct the reference: a joint target is the reference's, led by its velocity, plus a scaled action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import torch
from mjlab.envs.mdp.actions import JointPositionAction, JointPositionActionCfg
from torch import Tensor

from cmg_ref.rl.actions import reference_targets, velocity_lead


@dataclass(kw_only=True)
class ResidualActionCfg(JointPositionActionCfg):
    """Corrections to the reference of a command term; `clip` bounds them before the reference is added.

    Attributes:
        command_name: The command term, a `CMGReferenceCommand`.
    """

    actuator_names: tuple[str, ...] | list[str] = (".*",)
    entity_name: str = "robot"
    use_default_offset: bool = False
    command_name: str = "motion"

    def build(self, env: Any) -> ResidualAction:
        """The term of an environment."""
        return ResidualAction(self, env)


class ResidualAction(JointPositionAction):
    """Drives joints towards the reference of the coming control step; zero follows it."""

    def __init__(self, cfg: ResidualActionCfg, env: Any) -> None:
        super().__init__(cfg, env)
        self._command = env.command_manager.get_term(cfg.command_name)
        stiffness, damping = joint_gains(env.sim.mj_model, self._entity)
        self._lead = velocity_lead(stiffness, damping).to(self.device)[self._target_ids]

    def process_actions(self, actions: Tensor) -> None:
        """Take over actions (num_envs, num_joints)."""
        super().process_actions(actions)
        joint_pos, joint_vel = (
            joint[:, self._target_ids] for joint in (self._command.joint_pos, self._command.joint_vel)
        )
        self._processed_actions += reference_targets(joint_pos, joint_vel, self._lead)


def joint_gains(model: Any, robot: Any) -> tuple[Tensor, Tensor]:
    """Stiffness and damping of the drives of a robot's joints, (num_joints,) each, in the order of its joints.

    Raises:
        ValueError: A joint has no position actuator, whose gains could be read.
    """
    driven = {}
    for actuator in range(model.nu):
        if model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_AFFINE:
            driven[int(model.actuator_trnid[actuator, 0])] = actuator
    joints = robot.indexing.joint_ids.tolist()
    for joint, name in zip(joints, robot.joint_names, strict=True):
        if joint not in driven:
            raise ValueError(
                f"ResidualAction: joint '{name}' has no position actuator (mjlab's BuiltinPositionActuator)"
            )
    columns = [driven[joint] for joint in joints]
    gains = model.actuator_gainprm[columns, 0], -model.actuator_biasprm[columns, 2]
    return torch.tensor(gains[0], dtype=torch.float32), torch.tensor(gains[1], dtype=torch.float32)
