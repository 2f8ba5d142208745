"""Tasks by name: an environment, its configuration and that of its training."""

from __future__ import annotations

import copy
from argparse import Namespace
from typing import Any

# Isaac Gym has to be imported before torch.
from envs.simulator import CAPABILITIES, gymapi, gymutil  # isort: split

import torch

from configs.base_config import ConfigError, apply_overrides, class_to_dict, suggestion
from configs.bounds import check_bounds
from configs.g1_cmg_config import G1Cfg, G1CfgPPO, G1CMGCfg, G1CMGCfgPPO
from configs.g1_cmg_free_config import G1CMGFreeCfg, G1CMGFreeCfgPPO
from envs.base.legged_robot import LeggedRobot
from envs.tasks.reference_follower import ReferenceFollower


class TaskRegistry:
    """Knows tasks by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[type[LeggedRobot], Any, Any]] = {}

    def register(self, name: str, task_class: type[LeggedRobot], env_cfg: Any, train_cfg: Any) -> None:
        """Add a task, or replace one.

        Args:
            name: What it is called.
            task_class: Its environment.
            env_cfg: Configuration of the environment.
            train_cfg: Configuration of its training.
        """
        self._tasks[name] = (task_class, env_cfg, train_cfg)

    def names(self) -> list[str]:
        """Names of the tasks."""
        return sorted(self._tasks)

    def get_task_class(self, name: str) -> type[LeggedRobot]:
        """The environment of a task; raises ConfigError if there is no such task."""
        return self._task(name)[0]

    def get_cfgs(self, name: str) -> tuple[Any, Any]:
        """Copies of the configurations of a task, of its environment and of its training.

        Raises:
            ConfigError: If there is no such task.
        """
        _, env_cfg, train_cfg = self._task(name)
        env_cfg, train_cfg = copy.deepcopy(env_cfg), copy.deepcopy(train_cfg)
        env_cfg.seed = train_cfg.seed
        return env_cfg, train_cfg

    def make_env(
        self, name: str, args: Namespace | None = None, env_cfg: Any = None, **options: Any
    ) -> tuple[LeggedRobot, Any]:
        """Create an environment.

        Args:
            name: Name of a task.
            args: Command-line arguments, of which `num_envs`, `seed`, `sim_device`, `headless` and `overrides` are
                read where they are there and not None.
            env_cfg: Configuration; the task's own by default.
            **options: The same as in `args`, and stronger: `make_env("g1_cmg", num_envs=64)`.

        Returns:
            The environment and the configuration it was made with.

        Raises:
            ConfigError: If the task, a field or an option is unknown, or a value does not fit.
        """
        known = ("num_envs", "seed", "sim_device", "headless", "overrides")
        for option in options:
            if option not in known:
                raise ConfigError(f"make_env: no option '{option}'{suggestion(option, known)}")
        chosen = {key: value for key, value in vars(args or Namespace()).items() if key in known}
        chosen.update(options)
        chosen = {key: value for key, value in chosen.items() if value is not None}
        task_class = self.get_task_class(name)
        cfg = self.get_cfgs(name)[0] if env_cfg is None else env_cfg
        if "num_envs" in chosen:
            cfg.env.num_envs = int(chosen["num_envs"])
        if "seed" in chosen:
            cfg.seed = int(chosen["seed"])
        if env_cfg is None:
            apply_overrides(cfg, chosen.get("overrides", ()))
        check_bounds(cfg)
        sim_device = chosen.get("sim_device", CAPABILITIES.default_device)
        sim_params = make_sim_params(cfg, sim_device)
        env = task_class(cfg, sim_params, gymapi.SIM_PHYSX, sim_device, bool(chosen.get("headless", True)))
        return env, cfg

    def _task(self, name: str) -> tuple[type[LeggedRobot], Any, Any]:
        if name not in self._tasks:
            raise ConfigError(f"there is no task '{name}'{suggestion(name, self._tasks)}")
        return self._tasks[name]


def make_sim_params(cfg: Any, sim_device: str) -> Any:
    """Parameters of the simulation from the section `sim` of a configuration."""
    sim_params = gymapi.SimParams()
    fields = class_to_dict(cfg.sim)
    if not hasattr(sim_params, "mujoco"):
        del fields["mujoco"]
    if CAPABILITIES.on_gpu:
        on_gpu = torch.device(sim_device).type == "cuda"
        sim_params.use_gpu_pipeline = sim_params.physx.use_gpu = on_gpu
    gymutil.parse_sim_config(fields, sim_params)
    return sim_params


task_registry = TaskRegistry()
task_registry.register("g1_cmg", ReferenceFollower, G1CMGCfg(), G1CMGCfgPPO())
task_registry.register("g1_cmg_free", ReferenceFollower, G1CMGFreeCfg(), G1CMGFreeCfgPPO())
task_registry.register("g1", LeggedRobot, G1Cfg(), G1CfgPPO())
