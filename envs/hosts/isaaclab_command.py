"""`CMGReferenceCommand` for Isaac Lab 2: the same reference as a command term there.

**Never run**: Isaac Lab needs a GPU of its own; a test holds this shell to a stand-in of the base class. What it does
lies in `envs.hosts.reference_command`, which runs in mjlab. In a task whose terms look for a motion command::

    @configclass
    class CommandsCfg:
        motion = CMGReferenceCommandCfg()

Quaternions of Isaac Lab are taken to be wxyz; those of versions that have them the other way round do not fit.
"""

from __future__ import annotations

from typing import Any

from isaaclab.managers import CommandTerm, CommandTermCfg
from isaaclab.markers import VisualizationMarkers
from isaaclab.markers.config import FRAME_MARKER_CFG
from isaaclab.utils import configclass

from envs.hosts.reference_command import NEVER, ReferenceCommand, ReferenceCommandCfg


class CMGReferenceCommand(ReferenceCommand, CommandTerm):
    """A reference motion for every environment, with frames where its bodies shall be."""

    def compute(self, dt: float) -> None:
        """Let a control step pass."""
        self.advance()
        super().compute(dt)

    def _set_debug_vis_impl(self, debug_vis: bool) -> None:
        if debug_vis and not hasattr(self, "_markers"):
            self._markers = VisualizationMarkers(FRAME_MARKER_CFG.replace(prim_path="/Visuals/Command/reference"))
        if hasattr(self, "_markers"):
            self._markers.set_visibility(debug_vis)

    def _debug_vis_callback(self, event: Any) -> None:
        # The base class may draw from its constructor on, before there is a reference.
        if self.robot.is_initialized and hasattr(self, "reference"):
            self._markers.visualize(self.body_pos_relative_w.flatten(0, 1), self.body_quat_relative_w.flatten(0, 1))


@configclass
class CMGReferenceCommandCfg(ReferenceCommandCfg, CommandTermCfg):
    """What a :class:`CMGReferenceCommand` shows; all fields have defaults."""

    class_type: type = CMGReferenceCommand
    resampling_time_range: tuple[float, float] = NEVER
    debug_vis: bool = False
