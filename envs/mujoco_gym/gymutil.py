"""The module `isaacgym.gymutil`: command lines, simulation settings, and shapes for a viewer that is not there."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from envs.mujoco_gym.types.parameters import SimParams, SimType, UpAxis, Vec3

__all__ = ["WireframeSphereGeometry", "draw_lines", "parse_arguments", "parse_device_str", "parse_sim_config"]


def parse_device_str(device_str: str) -> tuple[str, int]:
    """Type and number of a device: ("cpu", 0) of "cpu", ("cuda", 1) of "cuda:1".

    Raises:
        ValueError: If the text names no device.
    """
    kind, _, number = device_str.partition(":")
    if kind not in ("cpu", "cuda", "gpu") or not (number.isdigit() or not number) or (kind == "cpu" and number):
        raise ValueError(f"'{device_str}' is no device; write cpu, cuda or cuda:<number>")
    return "cpu" if kind == "cpu" else "cuda", int(number or 0)


def parse_sim_config(sim_cfg: Mapping[str, Any], sim_options: SimParams) -> None:
    """Set simulation parameters from a nested configuration.

    Args:
        sim_cfg: Values by the names of the attributes of `SimParams`; "physx" and "mujoco" hold mappings of their own.
            `up_axis` may be 0 for y and 1 for z.
        sim_options: Changed in place.

    Raises:
        ValueError: If a name is no parameter.
    """
    _set_fields(sim_cfg, sim_options, "sim")


def _set_fields(values: Mapping[str, Any], target: Any, place: str) -> None:
    known = [field.name for field in dataclasses.fields(target)]
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"{place}.{name} is no parameter{f'; did you mean {close[0]}?' if close else ''}")
        current = getattr(target, name)
        if dataclasses.is_dataclass(current):
            _set_fields(value, current, f"{place}.{name}")
        elif isinstance(current, Vec3):
            setattr(target, name, Vec3(*value))
        elif name == "up_axis":
            setattr(target, name, UpAxis(value))
        else:
            setattr(target, name, value)


def parse_arguments(
    description: str = "Isaac Gym Example",
    headless: bool = False,
    no_graphics: bool = False,
    custom_parameters: Sequence[Mapping[str, Any]] = (),
) -> argparse.Namespace:
    """Parse the command line of a script written for Isaac Gym.

    Args:
        description: What the script does.
        headless: Whether there is an option `--headless`.
        no_graphics: Whether there is an option `--nographics`.
        custom_parameters: Further options: their `name`, and the keywords of `argparse`'s `add_argument`.

    Returns:
        The options, and what follows from them: `sim_device_type`, `compute_device_id`, `use_gpu`,
        `use_gpu_pipeline`, `physics_engine`.

    Raises:
        ValueError: If a custom parameter has no name.
    """
    parser = argparse.ArgumentParser(description=description)
    if headless:
        parser.add_argument("--headless", action="store_true", help="run without a viewer")
    if no_graphics:
        parser.add_argument("--nographics", action="store_true", help="disable graphics, which includes the viewer")
    # Isaac Gym's defaults are cuda:0 and gpu; MuJoCo steps on the CPU.
    parser.add_argument("--sim_device", default="cpu", help="device of the physics, such as cpu or cuda:0")
    parser.add_argument("--pipeline", default="cpu", help="where the state tensors are, cpu or gpu")
    parser.add_argument("--graphics_device_id", type=int, default=0, help="number of the graphics device")
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--flex", action="store_true", help="use FleX, which is not supported here")
    engine.add_argument("--physx", action="store_true", help="use PhysX, for which MuJoCo stands in")
    parser.add_argument("--num_threads", type=int, default=0, help="number of physics threads, 0 for one per core")
    parser.add_argument("--subscenes", type=int, default=0, help="number of PhysX subscenes; has no effect here")
    parser.add_argument("--slices", type=int, help="number of client threads; has no effect here")
    for parameter in custom_parameters:
        keywords = dict(parameter)
        if "name" not in keywords:
            raise ValueError(f"the custom parameter {keywords} has no name")
        parser.add_argument(keywords.pop("name"), **keywords)
    args = parser.parse_args()

    args.sim_device_type, args.compute_device_id = parse_device_str(args.sim_device)
    args.use_gpu = args.sim_device_type == "cuda"
    args.use_gpu_pipeline = parse_device_str(args.pipeline.lower())[0] == "cuda"
    if args.use_gpu_pipeline and not args.use_gpu:
        warnings.warn("the GPU pipeline needs physics on the GPU; the pipeline is set to cpu", stacklevel=2)
        args.pipeline, args.use_gpu_pipeline = "cpu", False
    args.physics_engine = SimType.SIM_FLEX if args.flex else SimType.SIM_PHYSX
    if args.slices is None:
        args.slices = args.subscenes
    return args


class WireframeSphereGeometry:
    """A sphere for `draw_lines`; there is no viewer to draw it."""

    def __init__(
        self,
        radius: float = 1.0,
        num_lats: int = 8,
        num_lons: int = 8,
        pose: Any = None,
        color: Any = None,
        color2: Any = None,
    ) -> None:
        self.radius = radius
        self.num_lats, self.num_lons = num_lats, num_lons
        self.pose = pose
        self.color, self.color2 = color, color2


def draw_lines(geom: Any, gym: Any, viewer: Any, env: Any, pose: Any) -> None:
    """Draw nothing: there is no viewer."""
