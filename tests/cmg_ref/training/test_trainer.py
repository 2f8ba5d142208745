"""Training on real clips: the loss falls, a seed decides everything, and a kill at any point costs little."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cmg_ref.clips.dataset import MotionDataset, build_dataset
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.core.rotations import matrix_from_quat, projected_gravity, quat_from_euler_xyz
from cmg_ref.evaluation.foot_contact import FootContact, tilt_matrix
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.network.model import CMGConfig
from cmg_ref.robots.robot import load_g1
from cmg_ref.training import objective
from cmg_ref.training.train_config import TrainConfig
from cmg_ref.training.trainer import Trainer
from cmg_ref.training.training_state import read_saved_config
from cmg_ref.training.window_sampler import WindowSampler
from tests.narrowed import narrowed

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[3] / "scripts" / "train_cmg.py"
SMALL = TrainConfig(
    iterations=40,
    batch_size=32,
    horizon_start=6,
    horizon_end=16,
    model=CMGConfig(hidden=32, gate_hidden=16),
    mixed_precision=False,
    warm_up=5,
    matched_after=0.3,
    learning_rate=3e-3,
)


@pytest.fixture(scope="module")
def dataset(motion_folder: Path) -> MotionDataset:
    clips = [read_clip(path) for path in sorted((motion_folder / "twist2_g1").glob("*walk_00[1235].pkl"))]
    return build_dataset(clips, load_g1(), held_out=[clips[-1].name])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make(dataset: MotionDataset, folder: Path, config: TrainConfig = SMALL) -> Trainer:
    return Trainer(dataset, load_g1(), config, folder, torch.device("cpu"))


def test_a_batch_can_be_learnt(dataset: MotionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(
        SMALL,
        # The losses of this batch alone: what all motion must be like stands in the way of learning it by heart.
        weights={"state": 1.0, "key_bodies": 4.0},
        batch_size=8,
        horizon_start=6,
        horizon_end=6,
        matched_share=0.0,
        learning_rate=1e-2,
        iterations=150,
        model=CMGConfig(hidden=64, gate_hidden=16),
    )
    trainer = make(dataset, tmp_path, config)
    batch = trainer._batch(6)
    monkeypatch.setattr(trainer, "_batch", lambda horizon: batch)
    states = [trainer.train_step()["state"] for _ in range(150)]
    assert states[-1] < 0.5 * states[0]


def test_resumed_run_is_the_uninterrupted_one(dataset: MotionDataset, tmp_path: Path) -> None:
    whole = make(dataset, tmp_path)
    for _ in range(30):
        last = whole.train_step()
    first = make(dataset, tmp_path)
    for _ in range(18):
        first.train_step()
    first.save()
    resumed = make(dataset, tmp_path)
    assert resumed.iteration == 18
    assert read_saved_config(tmp_path) == (SMALL, 18)
    for _ in range(12):
        report = resumed.train_step()
    assert report == last
    for name, value in whole.average.items():
        assert torch.equal(value, resumed.average[name]), name


@pytest.mark.parametrize("pays", [True, False])
def test_products_are_in_bfloat16_where_that_pays(
    pays: bool, dataset: MotionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "bfloat16_pays", lambda device: pays)
    reports = []
    for mixed in (False, True):
        config = dataclasses.replace(SMALL, batch_size=8, mixed_precision=mixed)
        reports.append(make(dataset, tmp_path / str(mixed), config).train_step())
    assert reports[0]["loss"] == pytest.approx(reports[1]["loss"], rel=0.05)
    assert (reports[0] == reports[1]) is not pays


def test_a_lost_row_does_not_stop_training(dataset: MotionDataset, tmp_path: Path) -> None:
    trainer = make(dataset, tmp_path, TrainConfig(**{**SMALL.__dict__, "matched_after": 0.0}))
    trainer.matched.states[0] = float("nan")
    before = [value.clone() for value in trainer.model.parameters()]
    assert trainer.train_step()["skipped"] == 0.0
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters()))


def test_damaged_training_state_is_named(dataset: MotionDataset, tmp_path: Path) -> None:
    make(dataset, tmp_path).save()
    path = tmp_path / "training_state.pt"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"training_state\.pt"):
        read_saved_config(tmp_path)


def test_run_of_another_model_is_refused(dataset: MotionDataset, tmp_path: Path) -> None:
    make(dataset, tmp_path).save()
    other = TrainConfig(**{**SMALL.__dict__, "model": CMGConfig(hidden=16, gate_hidden=16)})
    with pytest.raises(ValueError, match="hidden=32"):
        make(dataset, tmp_path, other)


def test_shipped_weights_can_be_the_start(dataset: MotionDataset, tmp_path: Path) -> None:
    checkpoint = narrowed(load_checkpoint(), dataset.layout, dataset.command_layout)
    config = TrainConfig(**{**SMALL.__dict__, "model": checkpoint.model.config})
    trainer = Trainer(dataset, load_g1(), config, tmp_path, torch.device("cpu"), initial=checkpoint)
    name = "layers.1.weight"
    assert torch.equal(trainer.model.state_dict()[name], checkpoint.model.state_dict()[name])
    with pytest.raises(ValueError, match="hidden=512"):
        Trainer(dataset, load_g1(), SMALL, tmp_path, torch.device("cpu"), initial=checkpoint)


@pytest.mark.parametrize(("field", "value"), [("batch_size", 0), ("horizon_end", 2), ("matched_share", 0.99)])
def test_impossible_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        TrainConfig(**{**SMALL.__dict__, field: value}).validate()


def test_killed_script_goes_on_and_ships_a_checkpoint(dataset: MotionDataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    data, run = tmp_path / "dataset.safetensors", tmp_path / "run"
    dataset.save(data)
    command = [sys.executable, str(SCRIPT), str(data), "--run-dir", str(run), "--device", "cpu", "--threads", "1"]
    options = ["--iterations", "24", "--batch-size", "8", "--horizon-end", "12", "--save-every", "4", "--hidden", "16"]
    process = subprocess.Popen(command + options, stderr=subprocess.DEVNULL)
    for _ in range(2400):
        if (run / "training_state.pt").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    refused = subprocess.run(command + options, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "--resume" in refused.stderr
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(run / "best.safetensors").metadata["training"]["iteration"] == 24
    assert list(run.glob("events.out.tfevents*"))
    assert not list(run.glob(".*"))


def test_two_processes_train_one_model(dataset: MotionDataset, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    data, run = tmp_path / "dataset.safetensors", tmp_path / "run"
    dataset.save(data)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = ["--run-dir", str(run), "--device", "cpu", "--threads", "1", "--hidden", "16", "--batch-size", "16"]
    command = [*launcher, str(SCRIPT), str(data), *options]
    done = subprocess.run([*command, "--iterations", "8", "--horizon-end", "14"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    state = torch.load(str(run / "training_state.pt"), weights_only=True)
    assert state["iteration"] == 8
    first, second = state["generators"]
    assert not torch.equal(first, second), "each process must draw its own windows"
    resumed = subprocess.run(
        [sys.executable, str(SCRIPT), str(data), *options, "--resume", "--iterations", "9"],
        capture_output=True,
        text=True,
    )
    assert resumed.returncode != 0
    assert "saved by 2 processes, resumed by 1" in resumed.stderr


def test_missing_dataset_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "none")], capture_output=True, text=True)
    assert done.returncode != 0
    assert "none" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_losses_are_chosen_by_their_weights(dataset: MotionDataset, tmp_path: Path) -> None:
    trainer = make(dataset, tmp_path, TrainConfig(**{**SMALL.__dict__, "weights": {"state": 1.0, "slip": 0.0}}))
    report = trainer.train_step()
    assert "slip" not in report
    assert report["loss"] == pytest.approx(report["state"])
    with pytest.raises(ValueError, match="no loss 'elegance'"):
        TrainConfig(weights={"elegance": 1.0}).validate()


def test_what_commands_have_missed_adds_up_until_there_is_a_new_one(
    dataset: MotionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmg_ref.training.matched_rows.RESTART_SHARE", 0.0)
    monkeypatch.setattr("cmg_ref.training.matched_rows.STANDING_SHARE", 0.0)
    monkeypatch.setattr("cmg_ref.training.matched_rows.CHANGE_SHARE", 0.0)
    monkeypatch.setattr("cmg_ref.training.matched_rows.LOST_DISTANCE", float("inf"))
    trainer = make(dataset, tmp_path, TrainConfig(**{**SMALL.__dict__, "matched_after": 0.0}))
    trainer.matched.wanted[0] = torch.tensor([1.0, 0.0, 0.0])
    commands = trainer.matched.wanted.unsqueeze(1).expand(-1, 10, -1)
    standing = torch.zeros(len(trainer.matched), 10, trainer.dataset.layout.size)
    for _ in range(2):
        trainer.matched.follow(standing, commands)
    time = 20 / dataset.fps
    assert trainer.matched.drift[0].allclose(torch.tensor([-time, 0.0, 0.0]))
    assert trainer.matched.waiting[:2].tolist() == [0.0, pytest.approx(time)]
    trainer.matched.draw()
    assert float(trainer.matched.drift[0, 0]) == pytest.approx(-time)
    monkeypatch.setattr("cmg_ref.training.matched_rows.CHANGE_SHARE", 1.0)
    trainer.matched.draw()
    assert float(trainer.matched.drift.abs().max()) == 0.0
    assert float(trainer.matched.waiting.max()) == 0.0


def test_slow_commands_go_both_ways(dataset: MotionDataset, tmp_path: Path) -> None:
    commands = make(dataset, tmp_path).matched.slow_commands(3000)
    assert int((commands != 0.0).sum(dim=1).max()) == 1
    for axis, largest in enumerate((0.8, 0.6, 1.3)):
        along = commands[commands[:, axis] != 0.0, axis]
        assert len(along) > 900
        assert abs(float((along > 0.0).float().mean()) - 0.5) < 0.1
        assert 0.9 * largest < float(along.abs().max()) <= largest


def test_windows_are_balanced_and_mirrored(dataset: MotionDataset) -> None:
    sampler = WindowSampler(dataset, load_g1(), 20, (-0.8, -0.6, -1.3), (3.2, 0.6, 1.3), balance=0.5)
    states, commands = sampler.sample(4000, torch.Generator().manual_seed(0))
    assert states.shape == (4000, 20, dataset.layout.size)
    assert abs(float(commands[..., 1:].mean())) < 0.03, "left and right must weigh the same"
    follows = WindowSampler(dataset, load_g1(), 20, (-0.8, -0.6, -1.3), (3.2, 0.6, 1.3), balance=1.0)
    plain = follows.sample(4000, torch.Generator().manual_seed(0))[1]
    assert commands[:, 10].std(dim=0).min() > plain[:, 10].std(dim=0).min()


def test_recorded_feet_hardly_slip_and_skating_shows(dataset: MotionDataset) -> None:
    contact = FootContact(load_g1(), dataset.layout, dataset.fps)
    windows = dataset.windows(50)[::50].unsqueeze(1) + torch.arange(50)
    states = dataset.states[windows]
    slip = float(contact(states).slip().mean())
    assert slip < 0.6
    skating = states.clone()
    skating[..., dataset.layout["root_lin_vel_h"]] += torch.tensor([1.0, 0.0, 0.0])
    assert float(contact(skating).slip().mean()) > slip + 0.5


def test_tilt_matrix_is_the_orientation_without_heading() -> None:
    roll, pitch = torch.rand(100) - 0.5, torch.rand(100) - 0.5
    quat = quat_from_euler_xyz(roll, pitch, torch.zeros(100))
    torch.testing.assert_close(tilt_matrix(projected_gravity(quat)), matrix_from_quat(quat), atol=1e-5, rtol=0.0)
