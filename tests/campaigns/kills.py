"""Kill the scripts that write files while they write, and start them again; `make kill-test` does it a hundred times.

Every victim is the real script, in a process of its own that is forked after the libraries have been imported. It is
killed with SIGKILL a random moment after it has begun a random one of its files. Then whatever lies at its place must
be whole, and the script, started again, must end well and leave nothing unfinished.

  python tests/campaigns/kills.py --kills 100
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import runpy
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

# One thread each: victims are forked. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from tqdm import tqdm

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.clips.formats.readers import find_clips, read_clip
from cmg_ref.clips.formats.writers import write_npz
from cmg_ref.network.checkpoint import load_checkpoint
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.training.training_state import read_saved_config
from envs.learning.policy import load_policy, policy_of_checkpoint, read_checkpoint
from envs.learning.training_run import checkpoints, find_run
from envs.playing.video import is_whole_mp4

ROOT = Path(__file__).resolve().parents[2]
# What the scripts import as they go, so that no victim spends time on it.
PRELOADED = (
    "cmg_ref.drawing.coverage_plot",
    "cmg_ref.drawing.plots",
    "envs.learning.rsl_rl_runner",
    "envs.playing.video",
    "torch.utils.tensorboard",
)
LATEST = 0.02  # [s] after a file was begun until the kill
PATIENCE = 120.0  # [s] that a script may take
NEVER = 100_000  # iterations that no victim reaches


class CampaignError(AssertionError):
    """Something was lost, half-written or left behind."""


@dataclass
class Tally:
    """What has been done to one script.

    Attributes:
        kills: Victims.
        amid: Those of them that left an unfinished file.
        resumes: Starts after a kill that ended well and left nothing unfinished.
        files: Whole files found at their places after kills.
    """

    script: str
    kills: int = 0
    amid: int = 0
    resumes: int = 0
    files: int = 0
    errors: list[str] = field(default_factory=list)


class Victim:
    """One script with a folder to write to.

    Args:
        folder: The folder, empty.
    """

    script = ""
    files_begun = 3  # the most files that are begun before a kill

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make what the script needs."""

    def arguments(self, last: bool) -> list[object]:
        """Command line of a victim, or of the start after it, which must come to its end."""
        raise NotImplementedError

    def check(self) -> int:
        """Read all that is there as its readers do; returns the number of files. Raises what the readers raise."""
        raise NotImplementedError

    def run(self, arguments: list[object]) -> int:
        """Run the script to its end; returns its exit code."""
        return wait(self.start(arguments))

    def log(self) -> str:
        """The end of what the script has printed."""
        return self.folder.with_suffix(".log").read_text()[-2000:]

    def start(self, arguments: list[object]) -> int:
        """Fork a process that is the script; returns its number."""
        process = os.fork()
        if process > 0:
            return process
        code = 1
        try:
            log = os.open(str(self.folder.with_suffix(".log")), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            # tqdm's own lock is shared with all forked processes, and stays locked if one is killed that holds it.
            tqdm.set_lock(threading.RLock())
            path = str(ROOT / "scripts" / self.script)
            sys.argv = [path, *map(str, arguments)]
            runpy.run_path(path, run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            print(stop.code, flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def unfinished(self) -> set[str]:
        """Names of unfinished files."""
        found: set[str] = set()
        for folder, names, _ in os.walk(str(self.folder)):
            found.update(os.path.join(folder, name) for name in names if ".unfinished-" in name)
        return found


class Training(Victim):
    """train.py, which goes on with one run again and again."""

    script = "train.py"
    files_begun = 6
    settings = (
        *("train.runner.num_steps_per_env=4", "train.runner.save_interval=1", "reference.mode=realtime"),
        *("train.runner.evaluation_interval=0", "train.policy.normalizer_warmup_steps=8"),
        *("train.policy.actor_hidden_dims=(256,128)", "train.algorithm.num_learning_epochs=1"),
    )

    def prepare(self) -> None:
        arguments = ["--log_dir", self.folder, "--num_envs", 4, "--max_iterations", 1, *self.settings]
        if self.run(arguments) != 0:
            raise CampaignError("the first training failed")

    def arguments(self, last: bool) -> list[object]:
        reached = max(checkpoints(find_run(self.folder)))
        return ["--log_dir", self.folder, "--resume", "--max_iterations", reached + 1 if last else NEVER]

    def check(self) -> int:
        run = find_run(self.folder)
        json.loads((run / "config.json").read_text())
        files = list(checkpoints(run).values())
        for path in files:
            policy_of_checkpoint(path)
            if read_checkpoint(path)["iter"] != int(path.stem.split("_")[1]):
                raise CampaignError(f"{path.name}: is of another iteration")
        for path in run.glob("*.safetensors"):
            load_policy(path)
        return len(files) + 1


class GeneratorTraining(Victim):
    """train_cmg.py, which goes on with one run again and again."""

    script = "train_cmg.py"
    files_begun = 6

    def prepare(self) -> None:
        clips = write_clips(self.folder.with_suffix(".clips"))
        data = self.folder.with_suffix(".safetensors")
        if Preparation(self.folder).run([clips, "--output", data, "--held-out", "0"]) != 0:
            raise CampaignError("the dataset could not be made")
        options = ["--batch-size", 8, "--horizon-end", 8, "--hidden", 64, "--save-every", 1]
        options += ["--validate-every", 3, "--iterations", 1]
        if self.run([data, "--run-dir", self.folder, "--device", "cpu", *options]) != 0:
            raise CampaignError("the first training failed")

    def arguments(self, last: bool) -> list[object]:
        saved = read_saved_config(self.folder)
        if saved is None:
            raise CampaignError("the training state is gone")
        data = self.folder.with_suffix(".safetensors")
        iterations = saved[1] + 1 if last else NEVER
        return [data, "--run-dir", self.folder, "--device", "cpu", "--resume", "--iterations", iterations]

    def check(self) -> int:
        if read_saved_config(self.folder) is None:
            raise CampaignError("the training state is gone")
        json.loads((self.folder / "config.json").read_text())
        files = list(self.folder.glob("*.safetensors"))
        for path in files:
            load_checkpoint(path)
        return len(files) + 2


class Preparation(Victim):
    """prepare_data.py, which writes into the folder that it reads."""

    script = "prepare_data.py"
    files_begun = 2

    def prepare(self) -> None:
        write_clips(self.folder)
        if self.run(self.arguments(last=True)) != 0:
            raise CampaignError("the first dataset could not be made")
        self.whole = MotionDataset.load(self.folder / "dataset.safetensors")

    def arguments(self, last: bool) -> list[object]:
        return [self.folder, "--output", self.folder / "dataset.safetensors", "--held-out", "0"]

    def check(self) -> int:
        dataset = MotionDataset.load(self.folder / "dataset.safetensors")
        if not torch.equal(dataset.states, self.whole.states) or dataset.clip_names != self.whole.clip_names:
            raise CampaignError("the dataset is another one")
        return len(find_clips([self.folder])) + 1 + len(whole_pictures(self.folder))


class Generation(Victim):
    """generate.py: a motion, a plot and a video, in turn into a new folder and over the files of the last time."""

    script = "generate.py"
    files_begun = 3

    def arguments(self, last: bool) -> list[object]:
        return ["--vx", 0.5, "--duration", 0.6, "--output", self.folder, "--renderer", "software"]

    def check(self) -> int:
        motions = [read_clip(path) for path in find_clips([self.folder])] if any(self.folder.glob("*.npz")) else []
        files = len(motions) + len(whole_pictures(self.folder))
        for path in self.folder.glob("*.mp4"):
            if not is_whole_mp4(path):
                raise CampaignError(f"{path.name}: is cut off")
            files += 1
        return files


def write_clips(folder: Path) -> Path:
    """Two generated motions of a few seconds."""
    checkpoint = load_checkpoint()
    commands = torch.tensor([[0.6, 0.0, 0.0], [0.4, 0.0, 0.5]]).unsqueeze(1).repeat(1, round(5.0 * checkpoint.fps), 1)
    for number, clip in enumerate(generate_clips(checkpoint, commands)):
        write_npz(clip, folder / f"{number}.npz")
    return folder


def whole_pictures(folder: Path) -> list[Path]:
    """Pictures of a folder; raises an OSError if one is cut off."""
    from PIL import Image

    files = [path for path in folder.iterdir() if path.suffix in (".png", ".gif")]
    for path in files:
        with Image.open(path) as image:
            image.load()
    return files


def wait(process: int) -> int:
    """Wait for a process; returns its exit code, negative for a signal. One that takes too long is killed."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise CampaignError(f"a script took more than {PATIENCE:g} s")


def kill(victim: Victim, chance: random.Random) -> bool:
    """Start a victim and kill it; returns whether it was killed before its end."""
    process = victim.start(victim.arguments(last=False))
    files, delay = chance.randint(1, victim.files_begun), chance.uniform(0.0, LATEST)
    begun: set[str] = set()
    end = time.monotonic() + PATIENCE
    while len(begun) < files and time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended and status:
            raise CampaignError(f"{victim.script}: failed by itself: {victim.log()}")
        if ended:
            return False
        begun |= victim.unfinished()
        time.sleep(0.0002)
    time.sleep(delay)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if len(begun) < files:
        raise CampaignError(f"{victim.script}: wrote nothing for {PATIENCE:g} s")
    return os.WIFSIGNALED(status)


def campaign(kind: type[Victim], kills: int, seed: int, folder: Path) -> Tally:
    """Kill and resume one script a number of times."""
    torch.set_num_threads(1)
    tally, chance = Tally(kind.script), random.Random(f"{seed} {kind.script}")
    victim = kind(folder / kind.script.replace(".", "_"))
    victim.folder.mkdir()
    victim.prepare()
    while tally.kills < kills and len(tally.errors) < 5:
        if not kill(victim, chance):
            continue
        tally.kills += 1
        tally.amid += bool(victim.unfinished())
        try:
            tally.files += victim.check()
            code = victim.run(victim.arguments(last=True))
            if code != 0:
                raise CampaignError(f"exit code {code}: {victim.log()}")
            if victim.unfinished():
                raise CampaignError(f"left over: {', '.join(sorted(victim.unfinished()))}")
            victim.check()
            tally.resumes += 1
        except (AssertionError, OSError, ValueError) as error:
            tally.errors.append(f"{kind.script}, kill {tally.kills}: {error}")
    return tally


def main() -> None:
    """Do it to all four scripts, two at a time, and end with a summary in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of all scripts together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    arguments = parser.parse_args()
    started = time.monotonic()
    for module in PRELOADED:
        importlib.import_module(module)
    kinds = (Training, GeneratorTraining, Preparation, Generation)
    shares = [arguments.kills // len(kinds) + (place < arguments.kills % len(kinds)) for place in range(len(kinds))]
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        jobs = [(kind, share, arguments.seed, Path(folder)) for kind, share in zip(kinds, shares, strict=True)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            tallies = pool.starmap(campaign, jobs, chunksize=1)
    for tally in tallies:
        print(f"{tally.script:16} {tally.kills:3} kills, {tally.amid:3} amid a file, {tally.resumes:3} resumes")
    errors = [error for tally in tallies for error in tally.errors]
    kills, amid, resumes, files = (
        sum(getattr(tally, name) for tally in tallies) for name in ("kills", "amid", "resumes", "files")
    )
    print("\n".join(errors), end="\n" if errors else "")
    print(
        f"{kills} kills ({amid} amid the writing of a file), {files} files read afterwards, {resumes} resumes, "
        f"{len(errors)} failures, {time.monotonic() - started:.0f} s, seed {arguments.seed}"
    )
    sys.exit(bool(errors) or resumes < arguments.kills)


if __name__ == "__main__":
    main()
