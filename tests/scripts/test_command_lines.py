"""What every script does with numbers that make no sense, devices that are not there, missing packages and Ctrl-C."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

PAGE = str(ROOT / "README.md")  # a file that is none of those that scripts read

pytest.importorskip("mujoco.batch")

# Lets Python find no module of some names, as where they are not installed; read by Python itself when it starts.
WITHOUT = """
import os, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in os.environ["WITHOUT"].split(",")
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


@pytest.fixture
def run(run_process: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Runs a script as a user would, where some packages are missing."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)

    def run(script: str, *arguments: object, without: str = "", path: tuple[Path, ...] = (ROOT,)) -> Any:
        return run_process(script, *arguments, folder=tmp_path, path=(tmp_path, *path), WITHOUT=without)

    return run


def one_line(script: str, text: str) -> bool:
    """Whether a text is one line that begins with the script's name; "twist" is followed by what it is to do."""
    return re.match(rf"{Path(script).stem}( \w+)?: ", text) is not None and text.count("\n") == 1 and len(text) < 600


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("train.py", ("--num_envs", "0"), "--num_envs: '0' is not a whole number from 1 to"),
        ("train.py", ("--num_envs", "1" + 400 * "0"), "0' is not a whole number from 1 to"),
        ("train.py", ("--max_iterations", "-5"), "--max_iterations: '-5' is not a whole number from 1 to"),
        ("train.py", ("--seed", "nan"), "--seed: 'nan' is not a whole number from 0 to"),
        ("train.py", ("control.decimation=0",), "control.decimation: must be from 1 to 1000, got 0"),
        ("train.py", ("sim.dt=0",), "sim.dt: must be from 1e-05 to 0.1, got 0.0"),
        ("train.py", ("env.episode_length_s=0",), "env.episode_length_s: must be from 0.1"),
        ("train.py", ("train.runner.num_steps_per_env=0",), "runner.num_steps_per_env: must be from 1"),
        ("train.py", ("sim.dt={[]:1}",), "sim.dt is a float (0.005), not '{[]:1}'"),
        ("train.py", ("--sim_device", "cuda:99"), "--sim_device 'cuda:99': "),
        ("train.py", ("--rl_device", "cuda:99"), "--rl_device 'cuda:99': "),
        ("train.py", ("--rl_device", "nonsense"), "--rl_device 'nonsense': no such device"),
        ("train.py", ("--task", 100_000 * "x"), "there is no task 'xxx"),
        ("twist.py", ("dance",), "action: invalid choice: 'dance'"),
        ("twist.py", ("play", "--task", "g1"), "--task: invalid choice: 'g1'"),
        ("play.py", ("--task", "g1_cmg_stu_rl", "--steps", "0"), "--steps: '0' is not a whole number from 1 to"),
        ("play.py", ("--task", "g1_cmg_stu_rl", "--command", "nan", "0", "0"), "--command: 'nan' is not a number"),
        ("train_cmg.py", ("data", "--device", "cuda:99"), "--device 'cuda:99': "),
        ("train_cmg.py", ("data", "--threads", "0"), "--threads: '0' is not a whole number from 1 to"),
        ("train_cmg.py", ("data", "--iterations", "-5"), "TrainConfig.iterations must be from 1 to"),
        ("train_cmg.py", ("data", "--iterations", "1" + 400 * "0"), "TrainConfig.iterations must be from 1 to"),
        ("train_cmg.py", ("data", "--learning-rate", "nan"), "TrainConfig.learning_rate must be from 0 to 10, got nan"),
        ("train_cmg.py", ("data", "--average-decay", "inf"), "TrainConfig.average_decay must be from 0 to 1, got inf"),
        ("train_cmg.py", ("data", "--weight-slip", "-1"), "TrainConfig.weights['slip'] must be 0 to"),
        ("evaluate_cmg.py", ("--device", "cuda:99"), "--device 'cuda:99': "),
        ("evaluate_cmg.py", ("--fps", "inf"), "--fps: 'inf' is not a number from 1 to 1000"),
        ("evaluate_cmg.py", ("--command", "nan", "0", "0"), "--command: 'nan' is not a number"),
        ("prepare_data.py", (".", "--output", "a.safetensors", "--csv-fps", "nan"), "--csv-fps: 'nan' is not a number"),
        ("import_checkpoint.py", ("a.pt", "--fps", "0"), "--fps: '0' is not a number from 1 to 1000"),
        ("import_checkpoint.py", ("a.pt", "--output", "b.pt"), "--output b.pt: the name must end in .safetensors"),
        ("average_checkpoints.py", ("a.pt", "--output", "b.pt"), "--output b.pt: the name must end in .safetensors"),
        ("export_cmg.py", ("a.txt",), "a.txt: the name must end in .onnx or .pt"),
        ("generate.py", ("--strip", "a.jpg"), "--strip a.jpg: the name must end in .png"),
        ("generate.py", ("--strip-size", "0", "9"), "--strip-size: '0' is not a whole number from 16 to"),
        ("benchmark_performance.py", ("--device", "cuda:99"), "--device 'cuda:99': "),
        ("twist.py", ("compare", "--device", "cuda:99"), "--device 'cuda:99': "),
        ("twist.py", ("compare", "--repeats", "-1"), "--repeats: '-1' is not a whole number from 1 to"),
        ("twist.py", ("check", "--device", "cuda:99"), "--device 'cuda:99': "),
        ("compare_runs.py", (100_000 * "x",), "File name too long"),
        ("serve.py", (), "is required"),
        ("serve.py", ("--command", "nan", "0", "0"), "--command: 'nan' is not a number"),
        ("serve.py", ("--command", "0", "0", "0", "--port", "1"), "no Redis at 127.0.0.1:1"),
        ("serve.py", ("--command", "0", "0", "0", "--hold"), "--hold needs --keyboard"),
        ("serve.py", ("--keyboard",), "needs a terminal"),
        ("serve.py", ("--keyboard", "--command", "0", "0", "0"), "not allowed with"),
        ("serve.py", ("--gamepad", "js0"), "no gamepad to read"),
        ("serve.py", ("--schedule", "absent.csv"), "absent.csv"),
        ("serve.py", ("--command", "0", "0", "0", "--calibration", PAGE), "is not valid JSON"),
        (
            "serve.py",
            ("--command", "0", "0", "0", "--protocol", "twist", "--follow-clock", "1"),
            "twist writes no clock",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line_and_leaves_nothing(
    run_script: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = ("--log_dir", "logs") if script == "train.py" else ()
    result = run_script(script, *arguments, *folders)
    assert result.returncode in (1, 2)
    assert message in result.stderr
    assert one_line(script, result.stderr), result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_is_one_line(run_script: Callable[..., Any], tmp_path: Path) -> None:
    for script, *arguments in (
        ("train.py", "--log_dir", tmp_path, "--rl_device"),
        ("train.py", "--log_dir", tmp_path, "--sim_device"),
        ("play.py", "--output", tmp_path, "--sim_device"),
        ("train_cmg.py", "data", "--run-dir", tmp_path / "run", "--device"),
        ("evaluate_cmg.py", "--output", tmp_path, "--device"),
        ("twist.py", "check", "--device"),
        ("twist.py", "compare", "--device"),
    ):
        result = run_script(script, *arguments, "cuda")
        option = arguments[-1]
        program = " ".join([Path(script).stem, *(word for word in arguments if word in ("check", "compare"))])
        expected = f"{program}: {option} 'cuda': torch finds no CUDA GPU here; use 'cpu'\n"
        assert (result.returncode, result.stderr) == (1, expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments", "without", "extra"),
    [
        ("train.py", ("--log_dir", "logs"), "mujoco", "mujoco"),
        ("train.py", ("--log_dir", "logs"), "rsl_rl", "train"),
        ("train.py", ("--log_dir", "logs"), "tensorboard", "train"),
        ("play.py", ("--output", "out"), "mujoco", "mujoco"),
        ("play.py", ("--shipped", "--export", "a.onnx"), "onnx", "export"),
        ("play.py", ("--shipped", "--export", "a.onnx"), "onnxruntime", "export"),
        ("train_cmg.py", ("data",), "tensorboard", "train"),
        ("export_cmg.py", ("a.onnx",), "onnxruntime", "export"),
        ("compare_runs.py", ("run",), "matplotlib", "viz"),
        ("generate.py", ("--strip", "a.png"), "PIL", "viz"),
        ("serve.py", ("--command", "0", "0", "0"), "redis", "serve"),
        ("../envs/cli/drive.py", (), "viser", "drive"),
    ],
)
def test_a_missing_package_is_one_line_before_anything_is_made(
    run: Callable[..., Any], tmp_path: Path, script: str, arguments: tuple[str, ...], without: str, extra: str
) -> None:
    result = run(script, *arguments, without=without)
    assert result.returncode == 1, result.stderr
    assert one_line(script, result.stderr), result.stderr
    assert f"pip install 'cmg_ref[{extra}]'" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sitecustomize.py"]


def test_without_what_only_draws_or_hastens_a_motion_is_generated(run: Callable[..., Any], tmp_path: Path) -> None:
    missing = "matplotlib,imageio_ffmpeg,PIL,numba,mujoco,rsl_rl,tensorboard,onnx"
    result = run("generate.py", "--duration", "0.5", without=missing)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "outputs" / "motion").iterdir()] == ["motion.npz"]
    assert "without a plot" in result.stdout and "without a video" in result.stdout


@pytest.mark.parametrize("name", ["envs", "configs"])
def test_another_package_of_the_same_name_is_said(run: Callable[..., Any], tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs" / name).mkdir(parents=True)
    (tmp_path / "theirs" / name / "__init__.py").write_text("raise RuntimeError('never imported')")
    result = run("train.py", path=(tmp_path / "theirs", ROOT))
    assert result.returncode == 1
    theirs, ours = tmp_path / "theirs" / name, ROOT / name
    assert result.stderr == (
        f"train: another package '{name}' hides that of cmg_ref: {theirs} comes before {ours} in sys.path\n"
    )


# What each script is given: enough to get past its options and begin to work. sim.py has tests of its own.
ARGUMENTS = {
    "average_checkpoints.py": ["absent.pt", "--output", "mean.safetensors"],
    "benchmark_performance.py": ["--mode", "scaling", "--save", "tables"],
    "compare_runs.py": ["absent"],
    "evaluate_cmg.py": ["--output", "report"],
    "export_cmg.py": ["step.onnx"],
    "generate.py": ["--output", "motion"],
    "import_checkpoint.py": ["absent.pt"],
    "play.py": ["--shipped", "--output", "play"],
    "prepare_data.py": ["absent", "--output", "data.safetensors"],
    "serve.py": ["--command", "0", "0", "0", "--dry-run"],
    "train.py": ["--log_dir", "logs", "--num_envs", "8"],
    "train_cmg.py": ["data.safetensors", "--run-dir", "run"],
    "twist.py": ["compare"],
}

# Sends Ctrl-C to its own process when a script has read its options and begins with its work.
INTERRUPTS = """
import signal, sys

def watch(frame, event, argument):
    if event == "return" and frame.f_code.co_name == "parse_args":
        sys.setprofile(strike)

def strike(frame, event, argument):
    if event == "call" and "/cmg_ref/" in frame.f_code.co_filename:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)

sys.setprofile(watch)
"""


def test_every_script_is_interrupted_below() -> None:
    assert {*ARGUMENTS, "sim.py"} == {path.name for path in (ROOT / "scripts").glob("*.py")}


@pytest.mark.parametrize("script", ARGUMENTS)
def test_ctrl_c_is_one_line_and_leaves_nothing(run_process: Callable[..., Any], tmp_path: Path, script: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS)
    result = run_process(script, *ARGUMENTS[script], folder=tmp_path, path=(tmp_path, ROOT))
    assert result.returncode == 128 + signal.SIGINT, result.stderr
    assert one_line(script, result.stderr) and ": interrupted" in result.stderr, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sitecustomize.py"]
