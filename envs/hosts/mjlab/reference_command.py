"""`CMGReferenceCommand`: a generated reference motion as a command term of mjlab.

Under the name "motion" it takes the place of mjlab's `MotionCommand`, with no file of motion::

    cfg.commands["motion"] = CMGReferenceCommandCfg()
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import yaml
from mjlab.managers import CommandTerm, CommandTermCfg
from mjlab.viewer.debug_visualizer import DebugVisualizer
from torch import Tensor

from cmg_ref.commands.sampler import PRESETS
from cmg_ref.core.command_layout import CommandLayout
from envs.hosts.reference_command import NEVER, ReferenceCommand, ReferenceCommandCfg

GHOST_COLOUR = (0.5, 0.7, 0.5, 0.5)

# A training writes its configuration as YAML, which has no form of its own for a type of tensors.
yaml.add_representer(torch.dtype, lambda dumper, dtype: dumper.represent_str(str(dtype)))


@dataclass(kw_only=True)
class CMGReferenceCommandCfg(ReferenceCommandCfg, CommandTermCfg):
    """What a :class:`CMGReferenceCommand` shows; all fields have defaults."""

    resampling_time_range: tuple[float, float] = NEVER
    debug_vis: bool = True

    def build(self, env: Any) -> CMGReferenceCommand:
        """The term of an environment."""
        return CMGReferenceCommand(self, env)


class CMGReferenceCommand(ReferenceCommand, CommandTerm):
    """A reference motion for every environment, with its ghost and its controls in the viewer."""

    def __init__(self, cfg: CMGReferenceCommandCfg, env: Any) -> None:
        super().__init__(cfg, env)
        self._ghost: Any = None
        self._steered: Any = None  # the check box and what it enables, once there is a viewer
        self._sliders: list[Any] = []
        self._viewed: Callable[[], int] = lambda: 0

    def compute(self, dt: float | Tensor, env_ids: Tensor | None = None) -> None:
        """Let a control step pass, or make the environments (n,) that have just been reset ready."""
        if env_ids is None:
            self.advance()
        self._steer()
        super().compute(dt, env_ids)

    # The viewer -------------------------------------------------------------------------------------------------------

    def create_gui(
        self,
        name: str,
        server: Any,
        get_env_idx: Callable[[], int],
        on_change: Callable[[], None] | None = None,
        request_action: Callable[[str, Any], None] | None = None,
    ) -> None:
        """Sliders for each channel of the command, and buttons that set them, for the environment that is viewed."""
        drawn = self.cfg.reference.command_sampler
        ranges = {**dict(zip(CommandLayout().names, drawn.ranges, strict=True)), **drawn.further}
        with server.gui.add_folder(name.capitalize()):
            steered = server.gui.add_checkbox("Steer", initial_value=False)
            self._sliders = [
                server.gui.add_slider(channel.title, *ranges.get(channel.name, channel.range), 0.05, channel.rest)
                for channel in self.reference.command_layout
            ]
            presets = server.gui.add_button_group("Go", options=list(PRESETS))
            anew = server.gui.add_button("Begin anew")

        @presets.on_click
        def go(event: Any) -> None:
            for slider, value in zip(self._sliders, PRESETS[event.target.value], strict=False):
                slider.value = value
            steered.value = True

        @anew.on_click
        def begin_anew(_event: Any) -> None:
            if request_action is not None:
                request_action("CUSTOM", {"type": "gui_reset", "all_envs": False})

        self._steered, self._viewed = steered, get_env_idx

    def _steer(self) -> None:
        """Give the viewed environment the command of the sliders, if they differ from what it is told."""
        if self._steered is None or not self._steered.value:
            return
        row = torch.tensor([self._viewed()], device=self.device)
        checkpoint = self.reference.generator.checkpoint
        wanted = checkpoint.command_layout.complete(torch.tensor([slider.value for slider in self._sliders]))
        wanted = wanted.clamp(checkpoint.command_min, checkpoint.command_max).to(self.device).unsqueeze(0)
        if not torch.allclose(self.reference.generator.target_commands[row], wanted, atol=1e-6):
            self.set_commands(wanted, row)

    def _debug_vis_impl(self, visualizer: DebugVisualizer) -> None:
        """Draw the reference as a ghost, over the robot and heading as it does."""
        if self._ghost is None:
            self._ghost = _ghost_of(self._env.sim.mj_model)
        indexing = self.robot.indexing
        free, joints = indexing.free_joint_q_adr.tolist(), indexing.joint_q_adr.tolist()
        root = torch.cat((self.body_pos_relative_w[:, 0], self.body_quat_relative_w[:, 0]), dim=1)
        for index in visualizer.get_env_indices(self.num_envs):
            qpos = np.zeros(self._ghost.nq)
            qpos[free], qpos[joints] = root[index].cpu().numpy(), self.joint_pos[index].cpu().numpy()
            visualizer.add_ghost_mesh(qpos, model=self._ghost, label=f"reference_{index}")


def _ghost_of(model: Any) -> Any:
    """A copy of a MuJoCo model of which only what is drawn is seen, in the ghost's colour."""
    ghost = copy.deepcopy(model)
    collides = (ghost.geom_contype != 0) | (ghost.geom_conaffinity != 0)
    ghost.geom_rgba[~collides] = GHOST_COLOUR
    ghost.geom_rgba[collides, 3] = 0.0
    return ghost
