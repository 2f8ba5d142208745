"""What every task has: a simulation, a device, the buffers that a runner reads, and a viewer if one is wanted."""

from __future__ import annotations

from typing import Any

import torch

from cmg_ref.trajectories.argument_checks import checked_whole
from cmg_ref.trajectories.memory import check_room
from envs.simulator import CAPABILITIES, gymapi, gymutil

LEAST_BYTES = 40_000  # that an environment with a robot takes, most of it in the simulator; the G1 alone takes 42,000


class BaseTask:
    """Vectorised environment that simulates on a device.

    Derived classes set `num_envs`, `num_obs`, `num_privileged_obs` and `num_actions`, build the simulation in
    `create_sim` and implement `reset_idx` and `step`.

    Args:
        cfg: Configuration of the task.
        sim_params: Parameters of the simulation.
        physics_engine: `gymapi.SIM_PHYSX`.
        sim_device: Device such as `cpu` or `cuda:0`.
        headless: Whether to go without a viewer.

    Attributes:
        obs_buf: Observations of the actor, (num_envs, num_obs).
        privileged_obs_buf: Observations of the critic, (num_envs, num_privileged_obs).
        rew_buf: Rewards of the last step, (num_envs,).
        reset_buf: Whether the last step ended an episode, (num_envs,) bool.
        time_out_buf: Whether it ended for lack of time, (num_envs,) bool.
        episode_length_buf: Steps since the episode began, (num_envs,) int64.
        extras: What the last step tells besides: `episode`, `time_outs`, `observations`.

    Raises:
        ValueError: If the simulator cannot run on the device, or there is no environment to make.
        MemoryError: If there is not as much memory as so many environments take at least.
    """

    sim: Any
    num_envs: int
    num_obs: int
    num_privileged_obs: int
    num_actions: int
    obs_buf: torch.Tensor
    privileged_obs_buf: torch.Tensor

    def __init__(self, cfg: Any, sim_params: Any, physics_engine: Any, sim_device: str, headless: bool) -> None:
        self.cfg, self.sim_params, self.physics_engine = cfg, sim_params, physics_engine
        self.sim_device, self.headless = sim_device, headless
        device_type, self.sim_device_id = gymutil.parse_device_str(sim_device)
        if device_type != "cpu" and not CAPABILITIES.on_gpu:
            raise ValueError(f"sim_device '{sim_device}': MuJoCo simulates on the CPU; use sim_device='cpu'")
        # Isaac Gym hands out tensors of the GPU only with its GPU pipeline.
        self.device = sim_device if device_type == "cuda" and sim_params.use_gpu_pipeline else "cpu"
        self.num_envs = checked_whole(cfg.env.num_envs, "env.num_envs", 1)
        # Whatever runs on the GPU, the simulation is described in the memory of the CPU.
        check_room(self.num_envs * LEAST_BYTES, torch.device("cpu"), f"env.num_envs={self.num_envs}: environments")
        self.gym = gymapi.acquire_gym()
        self.extras: dict[str, Any] = {}
        self.rew_buf = torch.zeros(self.num_envs, device=self.device)
        self.reset_buf = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        self.time_out_buf = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        self.episode_length_buf = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        self.create_sim()
        self.gym.prepare_sim(self.sim)
        self.viewer = None
        if not headless:
            self.viewer = self.gym.create_viewer(self.sim, gymapi.CameraProperties())
            camera, target = (gymapi.Vec3(*place) for place in (cfg.viewer.pos, cfg.viewer.lookat))
            self.gym.viewer_camera_look_at(self.viewer, None, camera, target)

    def create_sim(self) -> None:
        """Build the simulation `self.sim` and everything in it."""
        raise NotImplementedError

    def reset_idx(self, env_ids: torch.Tensor) -> None:
        """Begin new episodes in environments (n,)."""
        raise NotImplementedError

    def step(
        self, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Apply actions (num_envs, num_actions) for a control step."""
        raise NotImplementedError

    def get_observations(self) -> torch.Tensor:
        """Observations of the actor, (num_envs, num_obs)."""
        return self.obs_buf

    def get_privileged_observations(self) -> torch.Tensor:
        """Observations of the critic, (num_envs, num_privileged_obs)."""
        return self.privileged_obs_buf

    def render(self) -> None:
        """Draw the viewer's next picture, if there is a viewer."""
        if self.viewer is None:
            return
        if self.gym.query_viewer_has_closed(self.viewer):
            raise SystemExit("the viewer was closed")
        if self.device != "cpu":
            self.gym.fetch_results(self.sim, True)
        self.gym.step_graphics(self.sim)
        self.gym.draw_viewer(self.viewer, self.sim, True)
        self.gym.sync_frame_time(self.sim)
