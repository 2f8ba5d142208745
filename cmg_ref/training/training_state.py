"""The file from which a run that was cut off goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmg_ref.core.shorten import reason
from cmg_ref.files.json_text import parse_json
from cmg_ref.network.checkpoint import CheckpointError
from cmg_ref.network.legacy_checkpoint import load_torch_file
from cmg_ref.training.train_config import TrainConfig

TRAINING_STATE = "training_state.pt"
_KEYS = {"config", "iteration", "best_score", "typical_norm", "history", "model", "average", "optimizer"}
_KEYS |= {"generators", "own_states", "wanted"}


def read_saved_config(run_dir: Path) -> tuple[TrainConfig, int] | None:
    """Configuration and iteration of a run that was begun in ``run_dir``, or None.

    Raises:
        ValueError: its training state is broken or of another release.
    """
    path = Path(run_dir) / TRAINING_STATE
    if not path.is_file():
        return None
    state, config = read_state(path)
    return config, state["iteration"]


def read_state(path: Path) -> tuple[dict[str, Any], TrainConfig]:
    """A saved training state and its configuration."""
    try:
        state = load_torch_file(path)
        lacking = sorted(_KEYS - set(state))
        if lacking:
            raise CheckpointError(f"lacks {', '.join(lacking)}")
        state["iteration"] = int(state["iteration"])
        if not isinstance(state["generators"], list):
            raise CheckpointError("'generators' is no list")
        return state, TrainConfig.from_json(parse_json(state["config"]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> ValueError:
    """What to say of a training state that cannot be used, and what to do."""
    best = path.with_name("best.safetensors")
    advice = f"; a new run can begin with its weights: --initial {best}" if best.is_file() else ""
    return ValueError(f"{path}: not a training state of this release ({reason(error)}){advice}")
