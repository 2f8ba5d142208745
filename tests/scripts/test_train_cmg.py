"""train_cmg.py resumed with other settings, too late, twice at once, and from damaged files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("tensorboard")

from cmg_ref.clips.dataset import build_dataset
from cmg_ref.files.folder_lock import sole_writer
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.network.model import CMGConfig
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.training.train_config import TrainConfig
from cmg_ref.training.trainer import Trainer
from cmg_ref.training.training_state import read_saved_config

pytestmark = pytest.mark.slow

SMALL = TrainConfig(
    iterations=3,
    batch_size=16,
    horizon_start=6,
    horizon_end=8,
    model=CMGConfig(hidden=16, gate_hidden=16),
    mixed_precision=False,
    matched_after=0.0,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a dataset of generated motion and a run of three iterations on it."""
    folder, checkpoint = tmp_path_factory.mktemp("trained"), load_checkpoint()
    commands = torch.tensor([[0.6, 0.0, 0.0], [0.4, 0.0, 0.5]]).unsqueeze(1).repeat(1, 250, 1)
    clips = generate_clips(checkpoint, commands, names=["a", "b"])
    dataset = build_dataset(clips, load_g1(), held_out=["b"])
    dataset.save(folder / "data.safetensors")
    trainer = Trainer(dataset, load_g1(), SMALL, folder / "run", torch.device("cpu"))
    for _ in range(3):
        trainer.train_step()
    trainer.save()
    (folder / "run" / "config.json").write_text("{}")
    return folder


@pytest.fixture()
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, to damage."""
    shutil.copytree(str(trained / "run"), str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture()
def resume(run_script: Any, trained: Path, run: Path) -> Any:
    def resume(*arguments: object) -> Any:
        options = ("--run-dir", run, "--device", "cpu", "--threads", 1, "--resume", *arguments)
        return run_script("train_cmg.py", trained / "data.safetensors", *options)

    return resume


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("iterations", [2, 3])
def test_a_run_that_has_got_there_says_so_and_stays(run: Path, resume: Any, iterations: int) -> None:
    before = contents(run)
    result = resume("--iterations", iterations)
    assert result.returncode == 0
    assert f"nothing to do: iteration 3 is reached, and {iterations} were asked for" in result.stdout
    assert contents(run) == before


@pytest.mark.parametrize("batch_size", [8, 40])
def test_another_batch_size_goes_on(run: Path, resume: Any, batch_size: int) -> None:
    assert resume("--iterations", 4, "--batch-size", batch_size).returncode == 0
    saved = read_saved_config(run)
    assert saved is not None and saved[1] == 4 and saved[0].batch_size == batch_size
    assert json.loads((run / "config.json").read_text())["batch_size"] == batch_size
    assert load_checkpoint(run / "best.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--hidden", 32), "trained with CMGConfig"), (("--batch-size", 2), "need 4 rows"), (("--save-every", 0), "save")],
)
def test_what_cannot_go_on_leaves_the_run_alone(
    run: Path, resume: Any, options: tuple[object, ...], message: str
) -> None:
    before = contents(run)
    result = resume("--iterations", 4, *options)
    assert result.returncode == 1 and message in result.stderr and result.stderr.count("\n") == 1
    assert contents(run) == before


def test_a_run_is_trained_by_one_process_at_a_time(run: Path, resume: Any) -> None:
    before = contents(run)
    with sole_writer(run):
        result = resume("--iterations", 4)
    assert result.returncode == 1 and "another process is training there" in result.stderr
    assert contents(run) == before


@pytest.mark.parametrize("name", ["config", "iteration", "history", "model", "average", "generators", "own_states"])
def test_a_training_state_without_a_part_says_which(run: Path, resume: Any, name: str) -> None:
    path = run / "training_state.pt"
    state = torch.load(str(path), weights_only=True)
    torch.save({key: value for key, value in state.items() if key != name}, str(path))
    (run / "best.safetensors").touch()
    before = contents(run)
    result = resume("--iterations", 4)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert str(path) in result.stderr and f"lacks {name}" in result.stderr and "--initial" in result.stderr
    assert contents(run) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config", "[]"),
        ("config", "not json"),
        ("config", 3),
        ("config", '{"model": {}, "weights": {}}'),
        ("iteration", "many"),
        ("best_score", None),
        ("history", 3),
        ("model", {}),
        ("average", {}),
        ("average", None),
        ("optimizer", {}),
        ("optimizer", []),
        ("generators", [torch.zeros(3, dtype=torch.uint8)]),
        ("generators", 3),
        ("own_states", []),
        ("wanted", [torch.zeros(2)]),
        ("own_states", [torch.zeros(4, 3)]),
    ],
)
def test_a_training_state_of_nonsense_is_one_line(run: Path, resume: Any, name: str, value: object) -> None:
    path = run / "training_state.pt"
    torch.save({**torch.load(str(path), weights_only=True), name: value}, str(path))
    before = contents(run)
    result = resume("--iterations", 4)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and str(path) in result.stderr
    assert contents(run) == before


@pytest.mark.parametrize("length", [0, 100, 5000, -10])
def test_a_truncated_training_state_is_one_line(run: Path, resume: Any, length: int) -> None:
    path = run / "training_state.pt"
    path.write_bytes(path.read_bytes()[:length])
    before = contents(run)
    result = resume("--iterations", 4)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and str(path) in result.stderr
    assert contents(run) == before
