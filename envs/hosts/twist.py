"""TWIST trained on references from velocity commands: tasks, training, playing, export.

TWIST itself (github.com/YanjieZe/TWIST) is used as it is: found, imported, and given two tasks more in its own
registry. Where Isaac Gym is installed everything runs on it, elsewhere on the stand-in. See docs/twist.md.
"""

from __future__ import annotations

# Isaac Gym has to be imported before torch.
from envs.simulator import BACKEND, CAPABILITIES, register_as_isaacgym  # isort: skip

import argparse
import copy
import importlib
import importlib.util
import os
import sys
import zipfile
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, Iterator, Sequence

import torch

from cmg_ref.commands.sampler import ranges_of
from cmg_ref.commands.schedule import held_within
from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, VELOCITY_CHANNELS
from cmg_ref.core.devices import checked_device
from cmg_ref.core.shorten import shortened
from cmg_ref.files.atomic_file import buffered_file
from cmg_ref.robots.urdf import read_urdf
from configs.base_config import fitted, literal
from configs.bounds import ENVIRONMENT, check_field
from configs.twist_cmg_config import G1CMGMimicCfg, G1CMGPrivCfgPPO, G1CMGStuRLCfgDAgger
from envs.hosts.twist_mimic import CMGMimic, robot_file
from envs.hosts.twist_options import STUDENT, TEACHER, TRAINING_PREFIX, read_options


class TwistError(RuntimeError):
    """TWIST cannot be used; the message says what is missing and what to do."""


# Tasks ------------------------------------------------------------------------------------------------------------


def import_twist(root: str | Path | None = None) -> Path:
    """Make TWIST importable.

    Args:
        root: Checkout of TWIST; None takes ``$TWIST_ROOT``, or the TWIST that is installed.

    Returns:
        The root of TWIST.

    Raises:
        TwistError: TWIST is not there, another legged_gym or rsl_rl is in its place, or a package that it needs is
            missing.
    """
    if root is None and os.environ.get("TWIST_ROOT"):
        root = os.environ["TWIST_ROOT"]
    if root is not None:
        folder = _checkout(Path(root).expanduser().resolve())
        for package in ("legged_gym", "rsl_rl", "pose"):
            path = str(folder / package)
            if path not in sys.path:
                sys.path.insert(0, path)
            loaded = getattr(sys.modules.get(package), "__file__", None)
            if loaded is not None and folder not in Path(loaded).resolve().parents:
                raise TwistError(f"another {package} has been imported before TWIST's: {loaded}")
    if BACKEND == "mujoco":
        register_as_isaacgym()
    if importlib.util.find_spec("torchvision") is None:  # TWIST imports it, and never uses it
        sys.modules["torchvision"] = importlib.util.module_from_spec(ModuleSpec("torchvision", None))
    try:
        importlib.import_module("legged_gym.envs.g1.g1_mimic_distill")
        return Path(str(importlib.import_module("legged_gym").__file__)).resolve().parents[2]
    except ModuleNotFoundError as error:
        if error.name == "legged_gym":
            reason = "TWIST is not installed: give --twist_root or set TWIST_ROOT to a checkout of it"
        elif error.name is not None and error.name.startswith("legged_gym."):
            reason = "the legged_gym that is installed is not TWIST's: give --twist_root or set TWIST_ROOT"
        else:
            reason = f"TWIST needs the package '{error.name}': install what its README lists"
        raise TwistError(reason) from error


def _checkout(folder: Path) -> Path:
    """The checkout of TWIST that a folder is, or lies not far inside of."""
    for candidate in (folder, *list(folder.parents)[:3]):
        if (candidate / "legged_gym" / "legged_gym" / "envs" / "g1").is_dir():
            return candidate
    raise TwistError(f"{folder} is no checkout of TWIST: it has no legged_gym/legged_gym/envs/g1")


def register_tasks(root: str | Path | None = None) -> Any:
    """Register teacher and student in TWIST's own task registry.

    Args:
        root: Checkout of TWIST, see :func:`import_twist`.

    Returns:
        TWIST's ``task_registry``.

    Raises:
        TwistError: See :func:`import_twist`.
    """
    found = import_twist(root)
    g1 = importlib.import_module("legged_gym.envs.g1.g1_mimic_distill")
    theirs = importlib.import_module("legged_gym.envs.g1.g1_mimic_distill_config")
    registry = importlib.import_module("legged_gym.gym_utils.task_registry").task_registry
    environment = type("G1CMGMimic", (CMGMimic, g1.G1MimicDistill), {"__module__": __name__})
    for name, cfg, train_cfg, ours in (
        (TEACHER, "G1MimicPrivCfg", "G1MimicPrivCfgPPO", G1CMGPrivCfgPPO),
        (STUDENT, "G1MimicStuRLCfg", "G1MimicStuRLCfgDAgger", G1CMGStuRLCfgDAgger),
    ):
        missing = [wanted for wanted in (cfg, train_cfg) if not hasattr(theirs, wanted)]
        if missing:
            raise TwistError(
                f"the TWIST in {found} is not one that is known here: {theirs.__name__} has no {missing[0]}"
            )
        task_cfg = overlaid(G1CMGMimicCfg, getattr(theirs, cfg))
        registry.register(name, environment, task_cfg(), overlaid(ours, getattr(theirs, train_cfg))())
    return registry


def overlaid(ours: type, theirs: type) -> type:
    """The configuration class ``theirs`` with the fields of ``ours`` in place of, or beside, its own."""
    sections = {
        name: overlaid(value, getattr(theirs, name))
        for name, value in vars(ours).items()
        if isinstance(value, type) and isinstance(getattr(theirs, name, None), type)
    }
    fields = {name: value for name, value in vars(ours).items() if not name.startswith("__")}
    return type(ours.__name__, (theirs,), {**fields, **sections, "__module__": ours.__module__})


# Training and playing -----------------------------------------------------------------------------------------------


def train(arguments: Sequence[str]) -> None:
    """Train teacher or student with TWIST's runner, as its `scripts/train.py` does.

    Args:
        arguments: a command line, see :func:`envs.hosts.twist_options.read_options`.

    Raises:
        TwistError: TWIST cannot be used, or a field does not exist.
    """
    options, args, registry = _prepare(arguments)
    env_cfg, train_cfg = registry.get_cfgs(args.task)
    _apply(env_cfg, train_cfg, options.overrides)
    args.headless = True
    if args.task == STUDENT:
        _find_policy(train_cfg.runner.teacher_proj_name, args.teacher_exptid, args.teacher_checkpoint)
    if args.resume or args.resumeid:
        _find_policy(args.proj_name, args.resumeid or args.exptid, args.checkpoint)
    log_dir = _log_dir(args.proj_name, args.exptid)
    log_dir.mkdir(parents=True, exist_ok=True)
    wandb = importlib.import_module("wandb")
    quiet = args.no_wandb or args.debug
    wandb.init(project="g1_mimic", name=args.exptid, mode="disabled" if quiet else "online", dir=str(log_dir))
    env, _ = registry.make_env(name=args.task, args=args, env_cfg=env_cfg)
    with trusted_checkpoints():
        runner, train_cfg = registry.make_alg_runner(log_root=str(log_dir), env=env, name=args.task, args=args)
    print(f"train: {log_dir}")
    runner.learn(num_learning_iterations=train_cfg.runner.max_iterations, init_at_random_ep_len=True)


def play(arguments: Sequence[str]) -> dict[str, float]:
    """Play a policy under a command set from outside, and export a student's for the robot.

    Args:
        arguments: As in :func:`train`.

    Returns:
        What is printed: mean velocities commanded and reached, falls, and the length of the play.

    Raises:
        TwistError: TWIST cannot be used, or there is no policy.
    """
    options, args, registry = _prepare(arguments, playing=True)
    env_cfg, train_cfg = registry.get_cfgs(args.task)
    _set_play_cfg(env_cfg)
    _apply(env_cfg, train_cfg, options.overrides)
    file = _find_policy(args.proj_name, args.exptid, args.checkpoint)
    if options.export and args.task != STUDENT:
        raise TwistError(f"--export is for {STUDENT}: a teacher observes what a robot cannot measure")
    args.num_envs = args.num_envs or 1
    args.eval_student = True  # a student needs its teacher only to learn
    train_cfg.runner.resume = True
    env, _ = registry.make_env(name=args.task, args=args, env_cfg=env_cfg)
    with trusted_checkpoints():
        runner, _ = registry.make_alg_runner(log_root=str(file.parent), env=env, name=args.task, args=args)
    if options.export:
        print(f"play: exported {export_jit(runner, env.num_obs, file)}")
    policy, normalizer = runner.get_inference_policy(env.device), runner.get_normalizer(env.device)
    layout, ranges = env._motion_lib.command_layout, ranges_of(env.cfg.commands.ranges)
    lowest, highest = torch.tensor([ranges.get(one.name, one.range) for one in layout]).unbind(dim=1)
    command, held = held_within(layout.complete(torch.tensor([options.command])), lowest, highest, layout)
    for line in held:
        print(f"play: {line}")
    commands = command.to(env.device).repeat(env.num_envs, 1)
    if env.cfg.cmg.mode == "live":
        env.set_commands(commands)
    totals = torch.zeros(2 * NUM_VELOCITIES, device=env.device)
    falls = torch.zeros((), device=env.device)
    observations = env.get_observations()
    with torch.inference_mode():
        for _ in range(options.steps):
            actions = policy(normalizer.normalize(observations), hist_encoding=True)
            observations, _, _, dones, _ = env.step(actions)
            falls += (dones.bool() & ~env.time_out_buf).sum()
            reached = torch.cat((env.base_lin_vel[:, :2], env.base_ang_vel[:, 2:]), dim=1)
            totals += torch.cat((env.commands[:, VELOCITY], reached), dim=1).mean(dim=0)
    names = [f"{one.label}_{kind}" for kind in ("command", "reached") for one in VELOCITY_CHANNELS]
    result = {name: float(total) / options.steps for name, total in zip(names, totals)}
    result.update(falls=float(falls), seconds=options.steps * env.dt)
    print("play: " + ", ".join(f"{name} {value:.3f}" for name, value in result.items()))
    return result


class _Exported(torch.nn.Module):
    """A student as the robot runs it: observations (n, num_observations) in, actions (n, num_actions) out."""

    def __init__(self, runner: Any) -> None:
        super().__init__()
        self.normalizer = copy.deepcopy(runner.normalizer)
        self.actor = copy.deepcopy(runner.alg.actor_critic.actor)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        if self.normalizer is not None:
            observations = self.normalizer.normalize(observations)
        return self.actor(observations)


def export_jit(runner: Any, num_observations: int, checkpoint: Path) -> Path:
    """Write a student's policy as TorchScript, as TWIST's own exporter does, for robots of any number of joints.

    Args:
        runner: TWIST's runner, with the policy loaded.
        num_observations: Size of an observation.
        checkpoint: `model_<iteration>.pt`, the file that the policy was loaded from.

    Returns:
        The file, in the folder `traced` beside the checkpoint.
    """
    policy = _Exported(runner).to("cpu").eval()
    file = checkpoint.parent / "traced" / f"{checkpoint.parent.name}-{checkpoint.stem.split('_')[-1]}-jit.pt"
    with torch.no_grad(), buffered_file(file) as buffer:
        torch.jit.save(torch.jit.trace(policy, torch.ones(2, num_observations)), buffer)
    return file


@contextmanager
def trusted_checkpoints() -> Iterator[None]:
    """Let `torch.load` read TWIST's checkpoints, which hold its normaliser as an object, and nothing else.

    From 2.6 on torch refuses files that name classes unless they are listed; before, it never asked.
    """
    if not hasattr(torch.serialization, "safe_globals"):
        yield
        return
    normalizer = importlib.import_module("rsl_rl.utils.normalizer").Normalizer
    with torch.serialization.safe_globals([normalizer, set]):
        yield


def _prepare(arguments: Sequence[str], playing: bool = False) -> tuple[argparse.Namespace, argparse.Namespace, Any]:
    """Our options, TWIST's, and its registry with our tasks."""
    options, rest = read_options(arguments, playing)
    registry = register_tasks(options.twist_root)
    if not torch.cuda.is_available() and "--device" not in rest:
        rest += ["--device", "cpu"]
    if "--proj_name" not in rest:
        rest += ["--proj_name", options.task]
    if not CAPABILITIES.large_ground and not {"--rows", "--cols"} & set(rest):
        rest += ["--rows", "4", "--cols", "4"]  # TWIST's ground is flat; 400 tiles of it cost gigabytes
    previous, sys.argv = sys.argv, ["twist", *rest]
    try:
        args = importlib.import_module("legged_gym.gym_utils").get_args()
    finally:
        sys.argv = previous
    for option in ("sim_device", "rl_device"):
        if getattr(args, option, None) is not None:
            checked_device(getattr(args, option), f"--{option}")
    if not args.exptid:
        raise TwistError("--exptid is missing: the name of the run")
    args.headless = args.headless or not CAPABILITIES.has_viewer
    if args.sim_device == "cpu":
        torch.set_num_threads(1)  # threads of torch that wait for work would take the cores from the physics
    return options, args, registry


def _log_dir(project: str, run: str) -> Path:
    """Where TWIST keeps a run."""
    return Path(importlib.import_module("legged_gym").LEGGED_GYM_ROOT_DIR) / "logs" / project / run


def _find_policy(project: str, run: str, iteration: int) -> Path:
    """The checkpoint of a run that TWIST will load: that of an iteration, or the last for -1."""
    folder = _log_dir(project, run)
    files = sorted(folder.glob("model_*.pt"), key=lambda file: (len(file.name), file.name))
    if iteration != -1:
        files = [file for file in files if file.name == f"model_{iteration}.pt"]
    if not files:
        raise TwistError(f"there is no policy: {folder} holds no model_{'*' if iteration == -1 else iteration}.pt")
    if not zipfile.is_zipfile(str(files[-1])):  # TWIST writes in place: a kill leaves half a file.
        raise TwistError(f"{files[-1]}: cut off, or no checkpoint; choose another with --checkpoint, or move it away")
    return files[-1]


def _set_play_cfg(env_cfg: Any) -> None:
    """Commands from outside, no disturbance, as TWIST's `scripts/play.py` plays."""
    env_cfg.cmg.mode = "live"
    env_cfg.cmg.motion_length = env_cfg.env.episode_length_s = 3600.0
    env_cfg.env.rand_reset = False
    env_cfg.noise.add_noise = False
    env_cfg.domain_rand.push_robots = False
    env_cfg.domain_rand.push_end_effector = False
    env_cfg.domain_rand.randomize_base_mass = False
    env_cfg.domain_rand.randomize_base_com = False
    env_cfg.domain_rand.action_delay = False
    env_cfg.motion.motion_curriculum = False


def _apply(env_cfg: Any, train_cfg: Any, overrides: Sequence[str]) -> None:
    """Set fields written as `section.field=value`, those of the training begin with `train.`; check the robot."""
    for text in overrides:
        path, _, written = text.partition("=")
        target, name = (
            (train_cfg, path[len(TRAINING_PREFIX) :]) if path.startswith(TRAINING_PREFIX) else (env_cfg, path)
        )
        *sections, field = name.split(".")
        for section in sections:
            target = getattr(target, section, None)
        is_reward = sections == ["rewards", "scales"]  # any reward that TWIST has may be switched on
        if target is None or not (is_reward or hasattr(target, field)):
            raise TwistError(f"{shortened(text)}: the configuration has no field {shortened(path)}")
        value = literal(written)
        if value is not None:  # which TWIST's own fields do not say whether they may be
            value = fitted(value, getattr(target, field, 0.0), path)
        check_field(path, value, () if path.startswith(TRAINING_PREFIX) else ENVIRONMENT)
        setattr(target, field, value)
    _check_robot(env_cfg)


def _check_robot(env_cfg: Any) -> None:
    """Raise a TwistError, or a RobotError, where the robot's file and the configuration do not fit together."""
    file = robot_file(env_cfg)
    if not Path(file).is_file():
        raise TwistError(f"the robot's file is missing: {file} (asset.file)")
    num_joints = read_urdf(file).num_joints
    armature, weights = getattr(env_cfg.asset, "dof_armature", None), getattr(env_cfg.env, "dof_err_w", None)
    counts = {
        "env.num_actions": env_cfg.env.num_actions,
        "asset.dof_armature": num_joints if armature is None else len(armature),
        "env.dof_err_w": num_joints if weights is None else len(weights),
    }
    for field, count in counts.items():
        if count != num_joints:
            raise TwistError(f"{file} has {num_joints} joints, but {field} is for {count}")
