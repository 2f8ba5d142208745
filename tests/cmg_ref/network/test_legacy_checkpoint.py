"""The earlier project's checkpoints, written here with torch.save exactly as that project does."""

from __future__ import annotations

import io
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cmg_ref.network.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from cmg_ref.network.legacy_checkpoint import import_legacy_checkpoint, load_torch_file
from cmg_ref.robots.robot import load_g1

HIDDEN = 32
NUM_EXPERTS = 4
NUM_LAYERS = 3


class LegacyGate(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.gating_network = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ELU(), nn.Linear(HIDDEN, NUM_EXPERTS))


class LegacyLayer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.expert_weights = nn.ParameterList(
            nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5) for _ in range(NUM_EXPERTS)
        )
        self.expert_biases = nn.ParameterList(nn.Parameter(torch.randn(outputs)) for _ in range(NUM_EXPERTS))


class LegacyCMG(nn.Module):
    """The earlier network, evaluated for one sample at a time from its formula."""

    def __init__(self, motion_dim: int) -> None:
        super().__init__()
        widths = [motion_dim + 3] + [HIDDEN] * (NUM_LAYERS - 1) + [motion_dim]
        self.gating = LegacyGate(motion_dim + 3)
        self.layers = nn.ModuleList(LegacyLayer(before, after) for before, after in zip(widths, widths[1:]))

    def forward(self, motion: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
        x = torch.cat((motion, command))
        blend = torch.softmax(self.gating.gating_network(x), dim=0)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, LegacyLayer)
            weight = sum(c * w for c, w in zip(blend, layer.expert_weights))
            bias = sum(c * b for c, b in zip(blend, layer.expert_biases))
            x = x @ weight + bias
            x = functional.elu(x) if number < NUM_LAYERS - 1 else x
        return x


@pytest.fixture
def legacy() -> LegacyCMG:
    torch.manual_seed(3)
    return LegacyCMG(2 * load_g1().num_joints)


@pytest.fixture
def stats() -> dict[str, Any]:
    random = np.random.default_rng(4)
    motion_dim = 2 * load_g1().num_joints
    return {
        "motion_mean": random.normal(size=motion_dim).astype(np.float32),
        "motion_std": random.uniform(0.1, 2.0, size=motion_dim).astype(np.float32),
        "command_min": np.array([-0.5, -0.4, -1.5], dtype=np.float32),
        "command_max": np.array([3.0, 0.5, 1.6], dtype=np.float32),
        "num_joints": motion_dim // 2,
        "motion_dim": motion_dim,
        "command_dim": 3,
    }


def write_yaml(stats: dict[str, Any], path: Path) -> Path:
    lines = []
    for key, value in stats.items():
        if isinstance(value, np.ndarray):
            lines += [f"{key}:"] + [f"- {number!r}" for number in value.tolist()]
        else:
            lines.append(f"{key}: {value}")
    path.write_text("\n".join(lines) + "\n")
    return path


def legacy_step(legacy: LegacyCMG, stats: dict[str, Any], state: torch.Tensor, command: torch.Tensor) -> torch.Tensor:
    names = ("motion_mean", "motion_std", "command_min", "command_max")
    mean, std, low, high = (torch.from_numpy(stats[name]) for name in names)
    scaled = (command - low) / (high - low) * 2 - 1
    return torch.stack([legacy((s - mean) / std, c) * std + mean for s, c in zip(state, scaled)])


@pytest.mark.parametrize("statistics_in", ["checkpoint", "data", "yaml", "yaml of flow lists"])
def test_one_step_equals_the_earlier_network(
    legacy: LegacyCMG, stats: dict[str, Any], tmp_path: Path, statistics_in: str
) -> None:
    content = {
        "epoch": 7,
        "model_state_dict": legacy.state_dict(),
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "loss": 0.1,
    }
    stats_path = None
    if statistics_in == "checkpoint":
        content["stats"] = stats
    elif statistics_in == "data":
        stats_path = tmp_path / "data.pt"
        samples = [{"motion": np.zeros((31, 58), np.float32), "command": np.zeros((30, 3), np.float32)}]
        torch.save({"samples": samples, "stats": stats}, stats_path)
    elif statistics_in == "yaml":
        stats_path = write_yaml(stats, tmp_path / "stats.yaml")
    else:
        stats_path = tmp_path / "stats.yml"
        stats_path.write_text(
            "".join(f"{k}: {v.tolist() if isinstance(v, np.ndarray) else v}\n" for k, v in stats.items())
        )
    torch.save(content, tmp_path / "cmg_ckpt_8.pt")

    imported = import_legacy_checkpoint(tmp_path / "cmg_ckpt_8.pt", stats_path)
    save_checkpoint(imported, tmp_path / "imported.safetensors")
    checkpoint = load_checkpoint(tmp_path / "imported.safetensors")

    state = torch.randn(16, checkpoint.layout.size)
    command = torch.rand(16, 3) * 2 - 1
    with torch.no_grad():
        ours = checkpoint.model(state, command)
        theirs = legacy_step(legacy, stats, state, command)
    assert checkpoint.fps == 30.0
    assert list(checkpoint.layout) == ["dof_pos", "dof_vel"]
    assert checkpoint.joint_names == load_g1().joint_names
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_bare_state_dictionary_and_other_rate_and_joints(
    legacy: LegacyCMG, stats: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(legacy.state_dict(), tmp_path / "cmg_best.pt")
    yaml = write_yaml(stats, tmp_path / "stats.yaml")
    names = [f"joint_{index}" for index in range(load_g1().num_joints)]
    checkpoint = import_legacy_checkpoint(tmp_path / "cmg_best.pt", yaml, fps=60.0, joint_names=names)
    assert checkpoint.fps == 60.0
    assert checkpoint.joint_names == tuple(names)


def test_initial_state_is_the_standing_pose_at_rest(legacy: LegacyCMG, stats: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"model_state_dict": legacy.state_dict(), "stats": stats}, tmp_path / "a.pt")
    checkpoint = import_legacy_checkpoint(tmp_path / "a.pt")
    robot = load_g1()
    state = checkpoint.layout.split(checkpoint.standing_state())
    torch.testing.assert_close(state["dof_pos"], robot.default_dof_pos.float())
    assert not state["dof_vel"].any()


def test_missing_statistics_are_asked_for(legacy: LegacyCMG, tmp_path: Path) -> None:
    torch.save({"model_state_dict": legacy.state_dict()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt: holds no statistics"):
        import_legacy_checkpoint(tmp_path / "a.pt")


class RunsCode:
    """A pickle of this runs a command when it is loaded carelessly."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.victim}",)


def test_a_file_with_code_runs_nothing(legacy: LegacyCMG, stats: dict[str, Any], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    torch.save({"stats": stats, "model_state_dict": legacy.state_dict(), "x": RunsCode(victim)}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: refused.*system"):
        import_legacy_checkpoint(tmp_path / "evil.pt")
    assert not victim.exists()


def test_a_view_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.arange(100.0)[10:20]}, tmp_path / "good.pt")
    assert load_torch_file(tmp_path / "good.pt")["weight"].tolist() == list(range(10, 20))
    # The element count of the view, 10, is a one-byte integer between the offset, 10, and the stride, 1.
    good = (tmp_path / "good.pt").read_bytes()
    assert good.count(b"K\nK\n\x85") == 1
    (tmp_path / "bad.pt").write_bytes(_with_fixed_checksums(tmp_path / "good.pt", b"K\nK\n\x85", b"K\nK\xff\x85"))
    with pytest.raises(CheckpointError, match=r"bad\.pt"):
        load_torch_file(tmp_path / "bad.pt")


def _with_fixed_checksums(path: Path, old: bytes, new: bytes) -> bytes:
    """A torch file with a change in its pickle, zipped anew so that only the change can be at fault."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(old, new))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("layers.1.expert_biases.2"), "'layers.1.expert_biases.2' is missing"),
        (lambda weights: weights.update({"layers.3.odd": torch.zeros(1)}), "unknown weight 'layers.3.odd'"),
        (
            lambda weights: weights.update({"layers.0.expert_weights.1": torch.zeros(2, 2)}),
            r"'layers.0.expert_weights.1' has shape \(2, 2\)",
        ),
        (lambda weights: weights["layers.2.expert_biases.0"].fill_(float("nan")), "NaN"),
        (lambda weights: weights.pop("gating.gating_network.0.weight"), "no weights of the earlier CMG"),
    ],
)
def test_wrong_weights_are_named(
    legacy: LegacyCMG,
    stats: dict[str, Any],
    tmp_path: Path,
    change: Callable[[dict[str, torch.Tensor]], object],
    message: str,
) -> None:
    weights = OrderedDict((name, value.clone()) for name, value in legacy.state_dict().items())
    change(weights)
    torch.save({"model_state_dict": weights, "stats": stats}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        import_legacy_checkpoint(tmp_path / "a.pt")
    assert "a.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("motion_mean:\n- 1.0\n- one\n", "line 3"),
        ("motion_mean: [1.0, 2.0]\n", r"'motion_mean' has shape \(2,\)"),
        ("other: 1\n", "'motion_mean' is missing"),
        ("motion_mean:\n  nested: 1\n", "line 2"),
    ],
)
def test_wrong_yaml_is_named(legacy: LegacyCMG, tmp_path: Path, text: str, message: str) -> None:
    torch.save(legacy.state_dict(), tmp_path / "a.pt")
    (tmp_path / "stats.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=rf"stats\.yaml: .*{message}"):
        import_legacy_checkpoint(tmp_path / "a.pt", tmp_path / "stats.yaml")


@pytest.mark.parametrize("damage", ["truncated", "no zip", "missing"])
def test_damaged_files_give_one_line(legacy: LegacyCMG, stats: dict[str, Any], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model_state_dict": legacy.state_dict(), "stats": stats}, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "no zip":
        path.write_text("hello")
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=r"a\.pt: ") as caught:
        import_legacy_checkpoint(path)
    assert "\n" not in str(caught.value)
