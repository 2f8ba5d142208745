"""How motions step, frame by frame, and what that comes to over any choice of frames: a roll-out's, or a clip's.

The same reduction serves generated and recorded motion, so that their figures can stand side by side:

* A foot swings from where its lowest sole point rises above LIFTED to where it sinks below LANDED, both over the lowest
  sole point within STANCE_TIME. Where a swing begins is a **lift-off**; **cadence** is lift-offs of both feet a second.
* **Clearance** is the greatest height of a foot's lowest sole point in a swing, the median over the swings.
* **Slip** is the speed of the stance foot (`Gait.slip`), its mean and its 90th percentile over intervals with a stance.
* **Self-contact** is by the capsules of the robot's description, `SelfContact`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Sequence

import torch
from torch import Tensor

from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait import STANCE_HEIGHT, Gait, height_over_floor
from cmg_ref.robots.robot import Robot
from cmg_ref.robots.self_contact import SelfContact

LIFTED = STANCE_HEIGHT
LANDED = 0.6 * STANCE_HEIGHT
SHORTEST_SWING = 0.08
"""A foot that is up for less than this [s] has not stepped."""
CONTACT_DEPTH = 0.005
"""Limbs that are this deep inside one another [m] touch."""
SWAY_TIME = 1.5
"""A stride at slow speed [s]: what a root moves to the side beyond its mean over it is sway."""
FEWEST_SWINGS = 4
"""Fewer swings than this tell nothing of clearance and symmetry."""


@dataclass(frozen=True)
class GaitFigures:
    """What a choice of frames comes to; NaN where there is nothing to measure it on.

    Attributes:
        seconds: Duration of the frames.
        slip: Mean speed of the stance foot over the floor [m/s].
        slip_p90: Its 90th percentile.
        stance_share: Share of the time with a stance foot.
        cadence: Lift-offs a second [Hz].
        clearance: Median over swings of the greatest height of the foot's lowest sole point [m].
        contact_share: Share of frames in which limbs are more than CONTACT_DEPTH inside one another.
        contact_depth: 99th percentile over frames of that depth [m], 0 without contact.
        pose_asymmetry: Mean posture against its mirror image, root mean square over joints [rad].
        swing_asymmetry: Difference of the mean swing times of left and right foot, over their mean.
        sway: Root mean square of the root's velocity to the side about its mean over SWAY_TIME [m/s].
    """

    seconds: float
    slip: float
    slip_p90: float
    stance_share: float
    cadence: float
    clearance: float
    contact_share: float
    contact_depth: float
    pose_asymmetry: float
    swing_asymmetry: float
    sway: float

    def known(self) -> dict[str, float]:
        """The figures that could be measured, JSON-ready."""
        return {name: value for name, value in asdict(self).items() if value == value}


@dataclass(frozen=True)
class GaitTrack:
    """Motions frame by frame, one after another.

    Attributes:
        fps: Frames a second.
        robot: Whose joints they have.
        dof_pos: Joint positions [rad], (num_frames, num_joints).
        last: The last frame of each motion, (num_frames,) bool.
        slip: Speed of the stance foot between a frame and the next [m/s], (num_frames,).
        stance: Whether there is a stance foot between a frame and the next, (num_frames,) bool.
        depth: Self-contact [m], (num_frames,).
        sway: Velocity of the root to the side beyond its mean over SWAY_TIME [m/s], (num_frames,).
        lift_offs: Frames at which a foot leaves the floor, (num_swings,).
        landings: Frames at which it is down again, (num_swings,).
        feet: Which foot that is, 0 left, 1 right, (num_swings,).
        peaks: Greatest height of its lowest sole point in between [m], (num_swings,).
    """

    fps: float
    robot: Robot
    dof_pos: Tensor
    last: Tensor
    slip: Tensor
    stance: Tensor
    depth: Tensor
    sway: Tensor
    lift_offs: Tensor
    landings: Tensor
    feet: Tensor
    peaks: Tensor

    @classmethod
    def of(cls, states: Tensor, robot: Robot, fps: float) -> GaitTrack:
        """The track of motions of one length.

        Args:
            states: Motion states in the order of `StateLayout.with_root` and the robot's joints,
                (num_motions, num_frames, state_dim) with at least 2 frames.
            robot: The robot.
            fps: Frames a second.
        """
        gait = Gait(states, robot, fps)
        speed, stance = gait.slip()
        layout = StateLayout.with_root(robot.num_joints)
        dof_pos, aside = states[..., layout["dof_pos"]], states[..., layout["root_lin_vel_h"]][..., 1]
        last = torch.zeros(states.shape[:2], dtype=torch.bool, device=states.device)
        last[:, -1] = True
        height = height_over_floor(gait.feet, fps)
        return cls(
            fps,
            robot,
            dof_pos.flatten(0, 1),
            last.flatten(),
            torch.nn.functional.pad(speed, (0, 1)).flatten(),
            torch.nn.functional.pad(stance, (0, 1)).flatten(),
            SelfContact(robot, states.device).depth(dof_pos).flatten(),
            (aside - _mean_around(aside, round(SWAY_TIME * fps))).flatten(),
            *swings(height, round(SHORTEST_SWING * fps)),
        )

    @classmethod
    def join(cls, tracks: Sequence[GaitTrack]) -> GaitTrack:
        """Tracks of the same robot and frame rate, one after another."""
        starts = torch.tensor([0, *(len(track.last) for track in tracks)]).cumsum(0).tolist()
        shifted = [(track.lift_offs + start, track.landings + start) for track, start in zip(tracks, starts)]
        joined = {
            name: torch.cat([getattr(track, name) for track in tracks])
            for name in ("dof_pos", "last", "slip", "stance", "depth", "sway", "feet", "peaks")
        }
        lift_offs, landings = (torch.cat(frames) for frames in zip(*shifted))
        return cls(tracks[0].fps, tracks[0].robot, lift_offs=lift_offs, landings=landings, **joined)

    def figures(self, chosen: Tensor | None = None) -> GaitFigures:
        """What some frames, (num_frames,) bool, come to; all by default."""
        chosen = torch.ones_like(self.last) if chosen is None else chosen
        pairs = chosen & chosen.roll(-1) & ~self.last
        slip = self.slip[pairs & self.stance]
        seconds = float(chosen.sum()) / self.fps
        depth = self.depth[chosen]
        inside = chosen[self.lift_offs]
        swings = chosen[(self.lift_offs + self.landings) // 2]
        durations = [(self.landings - self.lift_offs)[swings & (self.feet == foot)].float() for foot in (0, 1)]
        left, right = (float(own.mean()) for own in durations)
        enough = min(map(len, durations)) * 2 >= FEWEST_SWINGS
        pose = self.dof_pos[chosen].mean(dim=0)
        nan = float("nan")
        return GaitFigures(
            seconds=seconds,
            slip=float(slip.mean()),
            slip_p90=_quantile(slip, 0.9),
            stance_share=float(len(slip)) / float(pairs.sum()) if pairs.any() else nan,
            cadence=float(inside.sum()) / seconds if seconds > 0.0 else nan,
            clearance=float(self.peaks[swings].median()) if int(swings.sum()) >= FEWEST_SWINGS else nan,
            contact_share=float((depth > CONTACT_DEPTH).float().mean()),
            contact_depth=max(0.0, _quantile(depth, 0.99)) if len(depth) > 0 else nan,
            pose_asymmetry=float((pose - self.robot.mirrored(pose)).square().mean().sqrt()),
            swing_asymmetry=abs(left - right) / (0.5 * (left + right)) if enough else nan,
            sway=float(self.sway[chosen].square().mean().sqrt()),
        )


def lifted(height: Tensor) -> Tensor:
    """Whether feet are off the floor, bool, from heights over it (num_motions, num_frames, 2) [m]."""
    mark = (height > LIFTED).long() - (height < LANDED).long()  # 1 up, -1 down, 0 as before
    frame = torch.arange(height.shape[1], device=height.device)[None, :, None]
    decided = torch.where(mark != 0, frame, torch.zeros_like(frame)).cummax(dim=1).values
    return mark.gather(1, decided) > 0


def swings(height: Tensor, shortest: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lift-offs, landings, feet and peaks of the swings in heights (num_motions, num_frames, 2) over the floor [m].

    Frames are numbered through all motions. Swings that the end of a motion cuts off are left out, and those that take
    less than ``shortest`` frames.
    """
    num_frames = height.shape[1]
    up = lifted(height)
    turns = up[:, 1:].long() - up[:, :-1].long()  # (num_motions, num_frames - 1, 2)
    found = []
    for motion, foot in ((motion, foot) for motion in range(len(height)) for foot in (0, 1)):
        lift_offs = (turns[motion, :, foot] == 1).nonzero().squeeze(1) + 1
        landings = (turns[motion, :, foot] == -1).nonzero().squeeze(1) + 1
        if up[motion, 0, foot]:
            landings = landings[1:]
        for start, end in zip(lift_offs.tolist(), landings.tolist()):
            if end - start >= shortest:
                peak = float(height[motion, start:end, foot].max())
                found.append((motion * num_frames + start, motion * num_frames + end, foot, peak))
    table = torch.tensor(found, dtype=torch.float64).reshape(-1, 4)
    return table[:, 0].long(), table[:, 1].long(), table[:, 2].long(), table[:, 3].float()


def _mean_around(values: Tensor, window: int) -> Tensor:
    """Mean over so many frames around each, fewer at the ends, of (num_motions, num_frames)."""
    reach = window // 2
    pooled = torch.nn.functional.avg_pool1d(values.unsqueeze(1), 2 * reach + 1, 1, reach, count_include_pad=False)
    return pooled.squeeze(1)


def _quantile(values: Tensor, share: float) -> float:
    """Quantile of any number of values, without `torch.quantile`'s limit of 16 million; NaN without any."""
    if len(values) == 0:
        return float("nan")
    return float(values.sort().values[min(len(values) - 1, int(share * len(values)))])
