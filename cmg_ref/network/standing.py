"""What becomes of motions that are told to stand: they come to rest, in a neutral stance, as high as is asked."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmg_ref.core.command_layout import HEIGHT
from cmg_ref.network.model import CMG

# Told to stand, each frame comes nearer to the stance that is wanted by this share of the way: from any walk a motion
# stands so within two seconds, the steps it takes to get there being the network's. Joints that are far from it are not
# drawn there at once, which would show as a jump of their velocities in the frame that is told to stand first.
STANCE_SHARE = 0.1
STANCE_DOF_SPEED = 0.6  # [rad/s]
# A body that is further from a height that it is told is drawn to a stance so much nearer to it [m]: joints follow
# slowly, and its feet are to stay on the floor on the way.
STANCE_REACH = 0.006
# A motion whose joints are so near to a lowered stance rests there [rad], whatever velocities a network would like: it
# has seen nobody stand still so low.
STANCE_NEAR = 0.06
# Of the way from the last but one stance to the natural one: what lacks less is there.
ALL_BUT = 0.01
# A motion told the natural height stands higher than what the channel says. Over so much below it [m], the height of
# the stance goes over from the one to the other.
NEARLY_NATURAL = 0.02
# Told to stand, a motion slower than this is at rest. A network's "zero" is a few millimetres a second, which would
# carry a standing robot metres away within an episode.
REST_SPEED: dict[str, float] = {
    "dof_vel": 0.15,
    "root_lin_vel_h": 0.05,
    "root_yaw_rate": 0.1,
}  # [rad/s], [m/s], [rad/s]


class Standing(nn.Module):
    """Lets motions stand whose command has no velocity.

    One that is nearly at rest is kept as it is, without velocity. Where a stance is wanted, it is approached, and kept
    from near it; of several stances that one, interpolated, whose root is as high as the command asks. What else there
    is to a command must be at rest: with one stance the height too.

    Args:
        model: The CMG, for its channels and its range of commands.
        stances: Neutral stances from the lowest to the natural one, their roots at heights that are equally far apart,
            (num_stances, state_dim); none leaves motions in any pose that they find.
        rest: Whether states nearly at rest are kept.

    Attributes:
        table: Velocities below which a motion rests (below 0 never), 1 for channels that resting keeps and 0 for those
            that it stops, by what share of the way a stance is approached, at most how far in a frame, how near to a
            lowered one a motion rests, and the stances, a joint's velocity taking part in the way of its angle,
            (5 + num_stances, state_dim).
        heights: Of the root in the lowest stance, from one to the next, of the command from which on the stance becomes
            the natural one, from there to the natural command, and how far a body is drawn at once [m], (5,).
        nothing_asked: The command at rest, (command_dim,).
        height_axis: Column of a command that asks for the height of the stance; -1 for none.
        height_column: Column of a state that holds the height of the root.
    """

    table: Tensor
    heights: Tensor
    nothing_asked: Tensor

    def __init__(self, model: CMG, stances: Tensor | None = None, rest: bool = True) -> None:
        super().__init__()
        layout, commands = model.layout, model.command_layout
        self.layout, self._dt, self.wanted = layout, 1.0 / model.fps, stances is not None
        rest_speed, keep = torch.full((layout.size,), float("inf") if rest else -1.0), torch.ones(layout.size)
        for channel, speed in REST_SPEED.items():
            if channel in layout:
                rest_speed[layout[channel]] = speed if rest else -1.0
                keep[layout[channel]] = 0.0
        share, furthest = torch.zeros(layout.size), torch.zeros(layout.size)
        near, aims = torch.full((layout.size,), -1.0), torch.zeros(1, layout.size)
        if stances is not None:
            aims = stances.detach().float().cpu().reshape(-1, layout.size).clone()
            aims[:, layout["dof_vel"]] = aims[:, layout["dof_pos"]]
            share += STANCE_SHARE
            share[layout["dof_vel"]] *= model.fps
            furthest += float("inf")
            near += float("inf")
            near[layout["dof_pos"]] = STANCE_NEAR if rest else -1.0
            if layout.has_root:
                near[layout["root_height"]] = 0.5 * STANCE_REACH  # Less than where a body is still on its way.
            furthest[layout["dof_pos"]] = STANCE_DOF_SPEED / model.fps
            furthest[layout["dof_vel"]] = STANCE_DOF_SPEED
        self.num_stances = len(aims)
        several = self.num_stances > 1
        self.height_axis = commands.names.index(HEIGHT) if several else -1
        self.height_column = layout["root_height"].start if several else 0
        nothing_asked = commands.rest()
        of_root = aims[:, self.height_column]
        spacing = (of_root[-1] - of_root[0]) / max(1, self.num_stances - 1)
        nearly_natural = nothing_asked[self.height_axis] - NEARLY_NATURAL
        reach = nothing_asked.new_tensor((NEARLY_NATURAL, STANCE_REACH))
        self.register_buffer("table", torch.cat((torch.stack((rest_speed, keep, share, furthest, near)), aims)))
        self.register_buffer("heights", torch.cat((torch.stack((of_root[0], spacing, nearly_natural)), reach)))
        self.register_buffer("nothing_asked", nothing_asked)

    def forward(self, following: Tensor, state: Tensor, command: Tensor) -> Tensor:
        """Next states (n, state_dim) of motions, standing where they are told to.

        Args:
            following: Next states as the network has them, (n, state_dim).
            state: The states before, (n, state_dim).
            command: What each is told, (n, command_dim).
        """
        rest_speed, keep, share, furthest, near = self.table[:5].unbind(dim=0)
        asked = command != self.nothing_asked
        if self.height_axis >= 0:
            asked = torch.cat((asked[:, : self.height_axis], asked[:, self.height_axis + 1 :]), dim=1)
        standing = ~asked.any(dim=1)
        # A largest value is found many times faster than whether any or all are true.
        resting = (following.abs() - rest_speed).amax(dim=1) < 0.0
        if not self.wanted:
            return torch.where((resting & standing).unsqueeze(1), state * keep, following)
        stance, lowered = self._stance(state, command)
        resting = resting | ((((stance - state).abs() - near).amax(dim=1) < 0.0) & lowered)
        following = torch.where((resting & standing).unsqueeze(1), state * keep, following)
        # What a joint lacks is told from where its velocity takes it: from where it was, the way there would swing.
        angles = state[:, self.layout["dof_pos"]] + state[:, self.layout["dof_vel"]] * self._dt
        here = torch.cat((angles, angles, state[:, 2 * self.layout.num_joints :]), dim=1)
        nearer = torch.minimum(torch.maximum(share * (stance - here), -furthest), furthest)
        return torch.where(standing.unsqueeze(1), following + nearer, following)

    def _stance(self, state: Tensor, command: Tensor) -> tuple[Tensor, Tensor]:
        """What motions (n,) are drawn to, (n or 1, state_dim), and whether it is lower than the natural one, (n,)."""
        stances = self.table[5:]
        if self.height_axis < 0:
            return stances, torch.zeros_like(command[:, 0], dtype=torch.bool)
        lowest, spacing, nearly_natural, further, reach = self.heights.unbind(dim=0)
        asked, height = command[:, self.height_axis], state[:, self.height_column]
        share = ((asked - nearly_natural) / further).clamp(0.0, 1.0)
        wanted = asked + share * (lowest + spacing * (self.num_stances - 1) - asked)
        aim = height + torch.minimum(torch.maximum(wanted - height, -reach), reach)
        aim = torch.where(share < 1.0, aim, wanted)
        top = self.num_stances - 1.0
        place = ((aim - lowest) / spacing).clamp(0.0, top)
        place = torch.where(place > top - ALL_BUT, top, place)
        number = place.long().clamp(0, self.num_stances - 2)  # also of a height that is no number
        between = (place - number).unsqueeze(1)
        return torch.lerp(stances[number], stances[number + 1], between), place < top
