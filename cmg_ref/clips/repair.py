"""Arms of recorded motion that reach into the body are moved out of it.

Retargeting gives a robot the angles of a person whose hips are narrower and whose hands are smaller. Such frames are
too many to be left out, and what is learnt from them is learnt with them.
"""

from __future__ import annotations

import dataclasses

import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.robots.robot import Robot
from cmg_ref.robots.self_contact import SelfContact

LEAST_GAP, GAP = 0.004, 0.008
"""Parts nearer to each other than the first are moved as far apart as the second [m]."""
SMOOTHING_TIME = 0.12
"""Standard deviation [s] of the Gaussian by which a correction fades in and out."""
ITERATIONS = 40
DAMPING = 0.01
"""Keeps corrections small where an arm hardly moves the gap [m^2 / rad^2]."""
LARGEST_STEP = 0.1
"""Of a joint in one iteration [rad]."""
BLOCK = 4096
"""Frames that are worked on at once."""


def keep_apart(clip: MotionClip, robot: Robot) -> MotionClip:
    """The clip with its arms moved out of what they must stay out of, see `RobotSpec.contact_pairs`.

    Frames are corrected one by one by damped least squares on the joints of the arms, the corrections are averaged over
    time, and both are repeated: what remains is smooth and leaves no two parts in each other. Frames far from any such
    are unchanged.

    Args:
        clip: The clip, in the robot's joint order.
        robot: Robot with the parts and the joint limits.
    """
    arms = [
        number for number, name in enumerate(clip.joint_names) if any(part in name for part in robot.spec.arm_joints)
    ]
    measure = SelfContact(robot, dtype=torch.float32, of=robot.spec.arm_joints)
    if not measure.pairs or not arms:
        return clip
    sigma = SMOOTHING_TIME * clip.fps
    reach = round(3.0 * sigma)
    kernel = torch.softmax(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2, dim=0)
    dof_pos = clip.dof_pos.clone()
    # What is beyond a limit in the recording may stay there.
    lower = torch.minimum(robot.joint_lower[arms], dof_pos[:, arms])
    upper = torch.maximum(robot.joint_upper[arms], dof_pos[:, arms])
    # A correction spreads over `reach` frames, so that more of them may have to be looked at in the next iteration.
    near = _too_near(measure, dof_pos, torch.arange(len(dof_pos)))
    for _ in range(ITERATIONS):
        if len(near) == 0:
            break
        step = torch.zeros(len(dof_pos), len(arms), dtype=torch.float64)
        for frames in near.split(BLOCK):
            step[frames] = _step_apart(measure, dof_pos[frames].float(), arms).double()
        padded = torch.nn.functional.pad(step.T.unsqueeze(1), (reach, reach), mode="replicate")
        step = torch.nn.functional.conv1d(padded, kernel[None, None]).squeeze(1).T
        dof_pos[:, arms] = torch.minimum(torch.maximum(dof_pos[:, arms] + step, lower), upper)
        moved = (step.abs().amax(dim=1) > 0.0).nonzero().squeeze(1)
        near = _too_near(measure, dof_pos, moved)
    return dataclasses.replace(clip, dof_pos=dof_pos, dof_vel=None)


def _too_near(measure: SelfContact, dof_pos: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Those of the frames in which something is nearer than LEAST_GAP to what it must stay out of."""
    gaps = [measure.gaps(dof_pos[block].float()).amin(dim=-1) for block in frames.split(BLOCK)]
    return frames[torch.cat(gaps) < LEAST_GAP] if gaps else frames


def _step_apart(measure: SelfContact, dof_pos: torch.Tensor, arms: list[int]) -> torch.Tensor:
    """Change of the arms' joints that would undo what is too near, to first order, (num_frames, num_arms) [rad]."""
    variable = dof_pos[:, arms].requires_grad_(True)
    missing = torch.relu(GAP - measure.gaps(dof_pos.index_copy(1, torch.tensor(arms), variable)))
    energy = 0.5 * missing.square().sum(dim=-1)
    (gradient,) = torch.autograd.grad(energy.sum(), variable)
    energy = energy.detach().unsqueeze(1)
    step = (
        -2.0
        * energy
        * gradient
        / (gradient.square().sum(dim=1, keepdim=True) + 2.0 * DAMPING * energy).clamp(min=1e-12)
    )
    return step.clamp(-LARGEST_STEP, LARGEST_STEP)
