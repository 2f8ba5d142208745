"""Import of the earlier CMG code's checkpoints: torch files of weights, and statistics in one of three places.

| file | holds |
|---|---|
| `cmg_ckpt_<epoch>.pt`, `cmg_final.pt` | `model_state_dict` and, in most, `stats` |
| `cmg_best.pt` | the bare state dictionary |
| `cmg_training_data.pt` (322 MB) | `samples` and `stats` |
| `cmg_stats.yaml` | the entries of `stats` |

The statistics are numpy arrays, which `torch.load(weights_only=True)` refuses, and torch 1.12 has no such argument. So
the torch file, a zip archive of one pickle and the raw bytes of each tensor, is read here by a restricted unpickler: it
builds tensors, numpy arrays and plain containers, and refuses every other name. No code from a file is executed.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any, Mapping, Sequence, Union

import numpy as np
import torch

from cmg_ref.clips.formats.pickled_arrays import ARRAY_STAND_INS
from cmg_ref.core.command_layout import NUM_VELOCITIES
from cmg_ref.core.shorten import reason, shortened
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.files.archive import Archive
from cmg_ref.files.input_file import MEBIBYTE, check_input_file
from cmg_ref.files.plain_arrays import kind_of
from cmg_ref.files.plain_pickle import NamedStandIn, PickleError, PlainUnpickler, RefusedNameError, StandIn
from cmg_ref.network.checkpoint import Checkpoint, CheckpointError
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.robots.robot import load_g1

PathLike = Union[str, Path]

LEGACY_FPS = 30.0
"""The earlier code never read a rate; the clips it was trained on run at this one."""
STATISTICS = ("motion_mean", "motion_std", "command_min", "command_max")

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def import_legacy_checkpoint(
    path: PathLike,
    stats_path: PathLike | None = None,
    fps: float = LEGACY_FPS,
    joint_names: Sequence[str] | None = None,
) -> Checkpoint:
    """Reads a checkpoint of the earlier CMG code.

    The state is `dof_pos | dof_vel` without root channels. The files hold no initial states and no frame rate: the
    import starts from the robot's standing pose at rest, and runs at `fps`.

    Args:
        path: Torch file with the weights.
        stats_path: Torch or YAML file with the statistics; only needed where the checkpoint holds none.
        fps: Frame rate of the clips that the checkpoint was trained on.
        joint_names: Names of the joint columns; the G1's in Unitree's order if not given.

    Returns:
        A checkpoint that can be used at once, or saved by `save_checkpoint`. Its state has no guard range.

    Raises:
        CheckpointError: A file is missing, damaged, of another kind, or wants to load something that is not data; the
            message names the file and what is wrong.
    """
    path = Path(path)
    content = load_torch_file(path)
    weights = content.get("model_state_dict", content)
    if not isinstance(weights, dict) or "gating.gating_network.0.weight" not in weights:
        raise CheckpointError(f"{path}: has no weights of the earlier CMG ('gating.gating_network.0.weight')")
    if stats_path is not None:
        stats_path = Path(stats_path)
        statistics = _read_statistics(stats_path)
    elif isinstance(content.get("stats"), dict):
        stats_path, statistics = path, content["stats"]
    else:
        raise CheckpointError(f"{path}: holds no statistics; name the file that does (training data .pt, or .yaml)")

    state_dim, config, parameters = _convert_weights(path, weights)
    motion_dims = {"motion_mean": state_dim, "motion_std": state_dim}
    for name in STATISTICS:
        parameters[name] = _statistic(stats_path, statistics, name, motion_dims.get(name, NUM_VELOCITIES))

    robot = load_g1()  # the only one that the earlier code knew
    names = tuple(robot.joint_names if joint_names is None else joint_names)
    if 2 * len(names) != state_dim:
        raise CheckpointError(f"{path}: state of {state_dim} numbers, but {len(names)} joints have {2 * len(names)}")
    model = CMG(config, StateLayout.joints_only(len(names)), fps)
    model.load_state_dict({**model.state_dict(), **parameters})

    initial_state = torch.zeros(1, state_dim)
    standing = dict(zip(robot.joint_names, robot.default_dof_pos.tolist()))
    initial_state[0, : len(names)] = torch.tensor([standing.get(name, 0.0) for name in names])
    checkpoint = Checkpoint(
        model=model.eval().requires_grad_(False),
        joint_names=names,
        initial_states=initial_state,
        initial_commands=torch.zeros(1, NUM_VELOCITIES),
        metadata={
            "imported_from": path.name,
            "statistics_from": stats_path.name,
            "note": "From the earlier CMG code, whose files tell neither frame rate nor training data nor licence.",
        },
    )
    try:
        checkpoint.validate()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return checkpoint


def load_torch_file(path: PathLike) -> dict[str, Any]:
    """Loads the dictionary in a torch file (the zip format of torch >= 1.6) without ever running code from it.

    Args:
        path: The file.

    Returns:
        The dictionary, with tensors on the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, in another format, or names something that is not data.
    """
    path = Path(path)
    with Archive(path, CheckpointError, "a file of torch.save of torch >= 1.6") as archive:
        pickled = [name for name in archive.names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise CheckpointError(f"{path}: a zip archive, but not one that torch.save wrote (no data.pkl)")
        try:
            content = _TorchUnpickler(archive, pickled[0]).load()
        except RefusedNameError as error:
            raise CheckpointError(f"{path}: refused to load '{error}': only tensors and plain data are") from error
        except PickleError as error:
            raise CheckpointError(f"{path}: truncated or damaged ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {kind_of(content)}, needs a dictionary of weights or statistics")
    return content


class _TorchUnpickler(PlainUnpickler):
    """Rebuilds tensors from the archive's raw bytes, beside arrays and plain containers."""

    def __init__(self, archive: Archive, name: str) -> None:
        stand_ins: dict[tuple[str, str], StandIn] = {
            **ARRAY_STAND_INS,
            **{("torch", storage): None for storage in _STORAGE_DTYPES},
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        super().__init__(bytes(archive.read(name)), stand_ins)
        self.archive = archive
        self.folder = name[: -len("data.pkl")]
        self.storages: dict[str, torch.Tensor] = {}
        self.num_bytes = 0

    def persistent(self, reference: Any) -> Any:
        """The storage ("storage", type, key, device, number of elements) as a flat tensor."""
        if not isinstance(reference, tuple) or len(reference) < 3 or reference[0] != "storage":
            return super().persistent(reference)
        kind, key = reference[1:3]
        dtype = _STORAGE_DTYPES.get(kind.kind[len("torch.") :]) if isinstance(kind, NamedStandIn) else None
        if dtype is None or not isinstance(key, str):
            return super().persistent(reference)
        if key not in self.storages:
            data = self.archive.read(f"{self.folder}data/{key}")
            if len(data) % torch.empty(0, dtype=dtype).element_size():
                raise PickleError(f"{len(data)} bytes are no numbers of {dtype}")
            self.storages[key] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[key]

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *unused: Any) -> torch.Tensor:
        """In place of `torch._utils._rebuild_tensor_v2`: a view of a storage, of no more than the file may hold."""
        lengths = (*size, *stride, offset)
        if not isinstance(storage, torch.Tensor) or len(size) != len(stride) or len(size) > 32:
            raise ValueError(f"a tensor cannot be made of {kind_of(storage)}")
        if not all(type(length) is int and 0 <= length < 1 << 40 for length in lengths):
            raise ValueError(f"a tensor cannot have the shape {shortened(size)} and the strides {shortened(stride)}")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride))
        num_elements = math.prod(size)
        if num_elements and last >= storage.numel():
            raise ValueError(f"a tensor of the shape {shortened(size)} in a storage of {storage.numel()} numbers")
        # A stride of zero makes any number of elements of one.
        self.num_bytes += num_elements * max(storage.element_size(), 4)
        if self.num_bytes > self.archive.max_bytes:
            raise ValueError("tensors are larger than a file of this size should hold")
        return torch.as_strided(storage, size, stride, offset) if num_elements else storage.new_empty(size)


def _parameter(data: Any, *unused: Any) -> Any:
    """In place of `torch._utils._rebuild_parameter`; the import only wants the numbers."""
    return data


def _convert_weights(path: Path, weights: Mapping[str, Any]) -> tuple[int, CMGConfig, dict[str, torch.Tensor]]:
    """State dimension, architecture and our parameter names of an earlier state dictionary."""
    remaining = dict(weights)

    def take(name: str, *shape: int | None) -> torch.Tensor:
        value = remaining.pop(name, None)
        if value is None:
            raise CheckpointError(f"{path}: weight '{name}' is missing")
        if not isinstance(value, torch.Tensor) or not value.numel():
            raise CheckpointError(f"{path}: weight '{name}' is {kind_of(value)}, needs a tensor of numbers")
        expected = tuple(have if want is None else want for have, want in zip(value.shape, shape))
        if value.ndim != len(shape) or tuple(value.shape) != expected:
            wanted = " x ".join("any" if size is None else str(size) for size in shape)
            raise CheckpointError(f"{path}: weight '{name}' has shape {tuple(value.shape)}, expected {wanted}")
        return value.to(torch.float32)

    gate = take("gating.gating_network.0.weight", None, None)
    gate_hidden, inputs = gate.shape
    gate_out = take("gating.gating_network.2.weight", None, gate_hidden)
    num_experts = gate_out.shape[0]
    parameters = {
        "gate.0.weight": gate,
        "gate.0.bias": take("gating.gating_network.0.bias", gate_hidden),
        "gate.2.weight": gate_out,
        "gate.2.bias": take("gating.gating_network.2.bias", num_experts),
    }
    num_layers = 0
    widths: list[int] = [inputs]
    while f"layers.{num_layers}.expert_weights.0" in remaining:
        prefix = f"layers.{num_layers}.expert_"
        matrices = [take(f"{prefix}weights.0", widths[-1], None)]
        width = matrices[0].shape[1]
        matrices += [take(f"{prefix}weights.{expert}", widths[-1], width) for expert in range(1, num_experts)]
        biases = [take(f"{prefix}biases.{expert}", width) for expert in range(num_experts)]
        parameters[f"layers.{num_layers}.weight"] = torch.stack(matrices)  # (num_experts, in, out), as ours
        parameters[f"layers.{num_layers}.bias"] = torch.stack(biases)
        widths.append(width)
        num_layers += 1
    if remaining:
        raise CheckpointError(f"{path}: unknown weight {shortened(next(iter(remaining)))}")
    if num_layers < 2 or len(set(widths[1:-1])) != 1 or widths[-1] != inputs - NUM_VELOCITIES:
        raise CheckpointError(
            f"{path}: layers of {' -> '.join(map(str, widths[:20]))} numbers; needs at least two layers, equal hidden "
            f"widths and {inputs - NUM_VELOCITIES} outputs"
        )
    config = CMGConfig(num_experts, widths[1], num_layers, gate_hidden, prediction="next_state")
    return widths[-1], config, parameters


def _read_statistics(path: Path) -> Mapping[str, Any]:
    """Statistics from a training data file, another checkpoint or YAML."""
    if path.suffix.lower() in (".yaml", ".yml"):
        return _read_flat_yaml(path)
    content = load_torch_file(path)
    statistics = content.get("stats", content)
    if not isinstance(statistics, dict):
        raise CheckpointError(f"{path}: 'stats' is {kind_of(statistics)}, needs a dictionary")
    return statistics


def _statistic(path: Path, statistics: Mapping[str, Any], name: str, size: int) -> torch.Tensor:
    """One entry of the statistics as a checked tensor (size,)."""
    if name not in statistics:
        raise CheckpointError(f"{path}: statistic '{name}' is missing")
    value = statistics[name]
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, (list, tuple)) and all(isinstance(number, (int, float)) for number in value):
        with contextlib.suppress(OverflowError):  # An integer of hundreds of digits.
            value = np.array(value, dtype=np.float64)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise CheckpointError(f"{path}: statistic '{name}' is {kind_of(value)}, needs a list of numbers")
    values = torch.as_tensor(value.astype(np.float32))
    if values.shape != (size,):
        raise CheckpointError(f"{path}: statistic '{name}' has shape {tuple(values.shape)}, expected ({size},)")
    return values


def _read_flat_yaml(path: Path) -> dict[str, list[float]]:
    """Numbers and lists of numbers at the top level of a YAML file, which is all that the statistics need.

    Both ways of writing a list are read: `key: [1, 2]` and one `- number` a line.
    """
    check_input_file(path, CheckpointError, 16 * MEBIBYTE)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read as text ({reason(error)})") from error
    entries: dict[str, list[float]] = {}
    key = ""
    for row, line in enumerate(lines, start=1):
        text = line.split("#")[0].strip()
        if not text or text in ("---", "..."):
            continue
        try:
            if text.startswith("- ") and key:
                entries[key].append(float(text[2:]))
                continue
            key, separator, rest = text.partition(":")
            if not separator or line[0].isspace():
                raise ValueError("neither 'name: numbers' nor '- number'")
            entries[key] = [float(word) for word in rest.strip().strip("[]").split(",") if word.strip()]
        except ValueError as error:
            raise CheckpointError(f"{path}: line {row}: {reason(error)}") from error
    return entries
