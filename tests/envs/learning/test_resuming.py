"""What a training writes, and what it leaves alone: resumed with other settings, from damaged files, twice."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("rsl_rl")
pytest.importorskip("mujoco.batch")

from cmg_ref.files.folder_lock import sole_writer
from envs.learning.policy import PolicyError, policy_of_checkpoint
from envs.learning.training_run import RunError, checkpoints, find_run, new_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = (
    *("--headless", "train.runner.num_steps_per_env=8", "train.runner.save_interval=1", "reference.mode=realtime"),
    *("train.runner.evaluation_interval=0", "train.policy.normalizer_warmup_steps=64"),
    *("train.policy.actor_hidden_dims=(32,16)", "train.policy.critic_hidden_dims=(32,16)"),
)


@dataclass
class Result:
    """How a script ended: exit code, or a message as the code, or an exception; and what it printed."""

    code: object
    output: str


def run_script(name: str, *arguments: object) -> Result:
    """Runs a script in this process, which saves importing torch."""
    output, previous, code = io.StringIO(), sys.argv, 0
    path = str(ROOT / "scripts" / name)
    sys.argv = [path, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(path, run_name="__main__")
    except SystemExit as stop:
        return Result(stop.code, output.getvalue())
    finally:
        sys.argv = previous
    return Result(code, output.getvalue())


def train(log_dir: Path, *arguments: object, task: str = "g1_cmg") -> Result:
    return run_script("train.py", "--task", task, "--log_dir", log_dir, *arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(result: Result, start: str = "train: ") -> str:
    message = result.code
    assert isinstance(message, str) and message.startswith(start) and "\n" not in message and len(message) < 700
    return message


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs that holds one, of three iterations with eight robots."""
    log_dir = tmp_path_factory.mktemp("logs")
    assert train(log_dir, "--num_envs", 8, "--max_iterations", 3, "--run_name", "mine", *SETTINGS).code == 0
    return log_dir


@pytest.fixture()
def log_dir(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    shutil.copytree(trained, tmp_path / "logs")
    return tmp_path / "logs"


def test_a_run_goes_on_with_another_number_of_robots(log_dir: Path) -> None:
    for num_envs, last in ((12, 4), (5, 5)):
        result = train(log_dir, "--resume", "--num_envs", num_envs, "--max_iterations", last)
        assert result.code == 0 and f"iteration {last - 1}" in result.output
        run = find_run(log_dir)
        assert max(checkpoints(run)) == last
        assert json.loads((run / "config.json").read_text())["environment"]["env"]["num_envs"] == num_envs
    assert torch.load(str(run / "model_5.pt"), weights_only=True)["total_steps"] == 8 * (3 * 8 + 12 + 5)


def test_a_run_of_an_earlier_release_goes_on(log_dir: Path) -> None:
    """Its config.json holds fields that there are no more."""
    file = find_run(log_dir) / "config.json"
    config = json.loads(file.read_text())
    config["environment"]["viewer"]["ref_env"] = 0
    config["training"]["runner_class_name"] = "OnPolicyRunner"
    config["training"]["runner"].update(resume=False, load_run=-1, checkpoint=-1)
    file.write_text(json.dumps(config))
    assert train(log_dir, "--resume", "--max_iterations", 4).code == 0
    assert "runner_class_name" not in json.loads(file.read_text())["training"]


def test_the_configuration_names_runs_and_says_how_they_are_evaluated(tmp_path: Path) -> None:
    fields = ("train.runner.run_name=named", "train.evaluation.rollouts=1", "train.evaluation.duration=4")
    settings = (*SETTINGS, "train.runner.evaluation_interval=1")
    result = train(tmp_path, "--num_envs", 4, "--max_iterations", 1, *settings, *fields)
    assert result.code == 0, result
    (run,) = tmp_path.glob("*_named")
    rows = json.loads((run / "evaluations.json").read_text())[0]["rows"]
    assert {(row["rollouts"], row["duration"]) for row in rows} == {(1, 4.0)}


def test_levels_of_rough_ground_go_on_with_more_robots(trained: Path, tmp_path: Path) -> None:
    ground = ("terrain.mesh_type=heightfield", "terrain.num_rows=3", "terrain.num_cols=3")
    result = train(tmp_path, "--num_envs", 4, "--max_iterations", 1, *SETTINGS, *ground)
    assert result.code == 0, result
    assert train(tmp_path, "--resume", "--num_envs", 6, "--max_iterations", 2).code == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.policy.actor_hidden_dims=(16,16)", "networks are others: "),
        ("train.policy.critic_hidden_dims=(32,16,8)", "networks are others"),
        ("train.policy.activation=relu", "its activation is elu, here it is relu"),
        ("train.policy.obs_normalization=False", ""),
        ("sim.dt=0.01", "it acts every"),
        ("train.algorithm.gama=1", "did you mean 'gamma'"),
        ("env.history_length=2", "observations"),
    ],
)
def test_what_cannot_go_on_is_refused_and_the_run_left_alone(log_dir: Path, override: str, message: str) -> None:
    before = contents(log_dir)
    assert message in one_line(train(log_dir, "--resume", "--max_iterations", 4, override))
    assert contents(log_dir) == before
    assert train(log_dir, "--resume", "--max_iterations", 4).code == 0


def test_an_environment_that_cannot_be_made_leaves_the_run_alone(log_dir: Path) -> None:
    before = contents(log_dir)
    with contextlib.suppress(ArithmeticError, RuntimeError, ValueError):
        assert train(log_dir, "--resume", "--max_iterations", 4, "sim.dt=0").code != 0
    with contextlib.suppress(ArithmeticError, RuntimeError, ValueError):
        assert train(log_dir, "--num_envs", 4, "sim.dt=0").code != 0
    assert contents(log_dir) == before and len(list(log_dir.iterdir())) == 1


@pytest.mark.parametrize("wanted", [2, 3])
def test_a_run_that_has_got_there_says_so_and_stays(log_dir: Path, wanted: int) -> None:
    before = contents(log_dir)
    result = train(log_dir, "--resume", "--max_iterations", wanted)
    assert result.code == 0
    assert f"nothing to do: iteration 3 is reached, and {wanted} were asked for" in result.output
    assert contents(log_dir) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"task": "g1_cmg"}', "lacks 'environment' and 'training'"),
        ('{"task": "g1_cmg", "environment": {}, "training": 3}', "lacks 'training'"),
        ("[]", "holds no configuration"),
        ("not json", "cannot be read"),
        ("\udcff", "cannot be read"),
        (None, "No such file"),
        ('{"task": "g1", "environment": {}, "training": {}}', "of the task 'g1'"),
        ('{"task": "g1_cmg", "environment": {"sim": {"dd": 1}}, "training": {}}', "has no field 'dd'"),
        ('{"task": "g1_cmg", "environment": {"sim": 3}, "training": {}}', "is a section"),
    ],
)
def test_a_damaged_configuration_is_one_line(log_dir: Path, content: str | None, message: str) -> None:
    path = find_run(log_dir) / "config.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    before = contents(log_dir)
    line = one_line(train(log_dir, "--resume", "--max_iterations", 4))
    assert message in line and str(path) in line
    assert ("--initial" in line) == ("task 'g1'" not in line and "field" not in line and "section" not in line)
    assert contents(log_dir) == before


def damaged(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Writes a checkpoint anew, changed."""
    state = torch.load(str(path), weights_only=True)
    torch.save(change(state) or state, str(path))


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def with_value(name: str, value: object) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {**state, name: value}


@pytest.mark.parametrize(
    "name",
    ["iter", "description", "policy", "warm_up_left", "torch_rng", "evaluations", "total_steps", "environment"],
)
def test_a_checkpoint_without_a_part_says_which(log_dir: Path, name: str) -> None:
    path = find_run(log_dir) / "model_3.pt"
    damaged(path, without(name))
    before = contents(log_dir)
    line = one_line(train(log_dir, "--resume", "--max_iterations", 4))
    assert f"{path}: " in line and f"lacks {name}" in line and "choose another: model_1.pt, model_2.pt" in line
    with pytest.raises(PolicyError, match=f"lacks {name}"):
        policy_of_checkpoint(path)
    assert contents(log_dir) == before
    assert train(log_dir, "--resume", "--checkpoint", 2, "--max_iterations", 4).code == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("description", {}),
        ("description", 3),
        ("policy", {}),
        ("policy", None),
        ("environment", {}),
        ("environment", []),
        ("iter", "three"),
        ("torch_rng", torch.zeros(3)),
        ("actor_state_dict", {}),
        ("critic_state_dict", None),
        ("optimizer_state_dict", {}),
        ("evaluations", 0),
        ("best_score", None),
        ("activation", "gelu"),
    ],
)
def test_a_checkpoint_of_nonsense_is_one_line(log_dir: Path, name: str, value: object) -> None:
    path = find_run(log_dir) / "model_3.pt"
    damaged(path, with_value(name, value))
    before = contents(log_dir)
    if name != "policy":  # That is what others read.
        assert str(path) in one_line(train(log_dir, "--resume", "--max_iterations", 4))
    assert contents(log_dir) == before
    if name in ("description", "policy", "activation"):
        with pytest.raises(PolicyError, match=r"model_3\.pt"):
            policy_of_checkpoint(path)


@pytest.mark.parametrize("length", [0, 1, 1000, 50_000, -10])
def test_a_truncated_checkpoint_is_one_line(log_dir: Path, length: int, tmp_path: Path) -> None:
    run = find_run(log_dir)
    path = run / "model_3.pt"
    path.write_bytes(path.read_bytes()[:length])
    before = contents(log_dir)
    for result, script in (
        (train(log_dir, "--resume", "--max_iterations", 4), "train"),
        (train(log_dir, "--initial", path), "train"),
        (run_script("play.py", "--log_dir", log_dir, "--checkpoint", 3, "--output", tmp_path / "play"), "play"),
        (run_script("average_checkpoints.py", path, "--output", tmp_path / "mean.safetensors"), "average_checkpoints"),
    ):
        line = one_line(result, f"{script}: ")
        assert str(path) in line and "choose another: model_1.pt, model_2.pt" in line
    assert contents(log_dir) == before and sorted(os.listdir(tmp_path)) == ["logs"]


def test_a_run_without_a_checkpoint_is_one_line(log_dir: Path, tmp_path: Path) -> None:
    run = find_run(log_dir)
    for path in checkpoints(run).values():
        path.unlink()
    assert "holds no run with a checkpoint" in one_line(train(log_dir, "--resume"))
    named = ("--log_dir", log_dir, "--load_run", run.name)
    assert "holds no checkpoint" in one_line(run_script("train.py", "--resume", *named))
    assert "holds no checkpoint" in one_line(run_script("play.py", *named), "play: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "was not evaluated yet"),
        ("[]", "holds no evaluation yet"),
        ("{}", "holds no evaluation yet"),
        ("nonsense", "cannot be read"),
        ('[{"steps": 3}]', "not the evaluations that a training writes"),
        ('[{"steps": 3, "time": 1, "rows": []}]', "not the evaluations that a training writes"),
        ('{"steps": 3}', "not the evaluations that a training writes"),
        ("3", "not the evaluations that a training writes"),
    ],
)
def test_damaged_evaluations_are_one_line(log_dir: Path, content: str | None, message: str, tmp_path: Path) -> None:
    path = find_run(log_dir) / "evaluations.json"
    if content is not None:
        path.write_text(content)
    line = one_line(run_script("compare_runs.py", path.parent, "--output", tmp_path / "compared"), "compare_runs: ")
    assert message in line and str(path) in line and not (tmp_path / "compared").exists()


def test_trainings_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from envs.learning import training_run\n"
        "training_run.time.strftime = lambda _: '2026-01-01_00-00-00'\n"
        "for _ in range(20): print(training_run.new_run(pathlib.Path(sys.argv[1]), 'mine').name)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert len(names) == len(set(names)) == 60
    assert set(names) == {path.name for path in tmp_path.iterdir()}
    assert {"2026-01-01_00-00-00_mine", "2026-01-01_00-00-00-2_mine"} <= set(names)


def test_a_run_is_trained_by_one_process_at_a_time(log_dir: Path) -> None:
    run = find_run(log_dir)
    before = contents(log_dir)
    with sole_writer(run):
        line = one_line(train(log_dir, "--resume", "--max_iterations", 4))
    assert "another process is training there" in line and contents(log_dir) == before
    assert train(log_dir, "--resume", "--max_iterations", 4).code == 0


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "fill").open("wb") as file:
        file.write(bytes(2_000_000))


def test_a_full_disk_ends_training_in_one_line_and_keeps_what_was_saved(small_disk: Path) -> None:
    networks = ("train.policy.actor_hidden_dims=(256,128)", "train.runner.save_interval=1")
    line = one_line(train(small_disk, "--num_envs", 4, "--max_iterations", 20, *SETTINGS, *networks))
    run = find_run(small_disk)
    assert line.startswith(f"train: No space left on device: {run}/")
    assert not [name for name in contents(small_disk) if "unfinished" in name]
    assert policy_of_checkpoint(list(checkpoints(run).values())[-1])


def test_a_disk_that_is_full_at_once_gets_no_run(small_disk: Path) -> None:
    fill(small_disk)
    line = one_line(train(small_disk / "logs", "--num_envs", 4, "--max_iterations", 1, *SETTINGS))
    assert "No space left on device" in line or "cannot write there" in line
    assert not list(small_disk.glob("logs/*"))


def test_average_on_a_full_disk_is_one_line(trained: Path, small_disk: Path) -> None:
    fill(small_disk)
    output = small_disk / "mean.safetensors"
    files = checkpoints(find_run(trained)).values()
    assert one_line(run_script("average_checkpoints.py", *files, "--output", output), "average_checkpoints: ") == (
        f"average_checkpoints: No space left on device: {output}"
    )
    assert os.listdir(small_disk) == ["fill"]


def test_a_folder_that_is_no_folder_cannot_hold_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write there"):
        new_run(tmp_path / "file", "mine")
    assert "cannot write there" in one_line(train(tmp_path / "file"))
