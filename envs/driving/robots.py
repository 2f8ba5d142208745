"""What can be driven: robots under a policy of ours or TWIST2's, or the reference motion by itself."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmg_ref.core.command_layout import HEIGHT as BASE_HEIGHT
from cmg_ref.core.command_layout import CommandLayout
from cmg_ref.core.rotations import quat_from_euler_xyz
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.robots.robot import Robot, load_g1
from envs.deployment.plain_simulation import Conditions, PlainSimulation
from envs.deployment.twist2_controller import Twist2Policy
from envs.evaluation.policy_evaluation import evaluation_config
from envs.learning.policy import Policy, PolicyError, policy_of_checkpoint
from envs.learning.training_run import find_checkpoint
from envs.playing.playback import beside, command_range, config_of_policy, make_env, playback_config
from envs.serving.motion_frame import HEIGHT, JOINT_NAMES, JOINTS, PITCH, ROLL
from envs.serving.protocol import Twist2
from envs.serving.reference import ACCELERATION, CONTROL_DT, HIGHEST, LOWEST, Reference
from envs.simulator import CAPABILITIES

SPACING = 1.5  # [m] between robots
_LONGEST = 4e4  # [s] of an episode: nobody drives for longer


class Poses(NamedTuple):
    """Robots at a moment.

    Attributes:
        root_pos: Position of the root in the world [m], (n, 3).
        root_quat: Its orientation, xyzw, (n, 4).
        dof_pos: Joint angles in the order of the robot's description [rad], (n, num_joints).
    """

    root_pos: Tensor
    root_quat: Tensor
    dof_pos: Tensor


class DrivenRobots:
    """Robots that obey commands, which the caller changes no faster than `acceleration`: none is ramped here.

    Args:
        num_robots: How many.
        layout: Channels of a command.
        lowest, highest: What commands are held within, (command_dim,).
        acceleration: Largest change of a command, (command_dim,) [a second].
        dt: Time of a control step [s].
        robot: What they are.

    Attributes:
        origin: What moves them, in words.
        can_be_pushed: Whether they are simulated.
        changes_friction: Whether the floor under them can change.
    """

    origin = "reference alone"
    can_be_pushed = changes_friction = False

    def __init__(
        self,
        num_robots: int,
        layout: CommandLayout,
        lowest: Tensor,
        highest: Tensor,
        acceleration: Tensor,
        dt: float,
        robot: Robot,
    ) -> None:
        self.num_robots, self.layout, self.dt, self.robot = num_robots, layout, dt, robot
        self.lowest, self.highest, self.acceleration = lowest, highest, acceleration

    def reset(self) -> None:
        """Stand where they began."""
        raise NotImplementedError

    def step(self, commands: Tensor) -> Tensor:
        """Let a control step pass under commands (n, command_dim).

        Returns:
            Which robots have fallen, (n,) bool: they have been stood up where they lay.
        """
        raise NotImplementedError

    def poses(self) -> Poses:
        """What the robots do."""
        raise NotImplementedError

    def reference(self) -> Poses | None:
        """What they should look like, where they are; None if there is no reference beside them."""
        return None

    def push(self, speed: float) -> None:
        """Change their velocities [m/s] at once, each in a random horizontal direction."""

    def set_friction(self, friction: float) -> None:
        """Set the coefficient between soles and floor."""

    def refresh_policy(self) -> None:
        """Take over a newer policy, if one has come; may be called while another thread steps."""


class PolicyRobots(DrivenRobots):
    """Robots under a policy of ours, in its environment: one as it is, or several that differ as in training.

    Args:
        policy: What moves them.
        num_robots: How many.
        origin: Where the policy comes from.

    Raises:
        PolicyError: It does not fit its task.
    """

    can_be_pushed = True
    changes_friction = CAPABILITIES.changes_robots

    @torch.no_grad()
    def __init__(self, policy: Policy, num_robots: int, origin: str) -> None:
        self._policy, self.origin = policy, origin
        self._calibration = policy.description.command_calibration()
        task = policy.description.task
        cfg = config_of_policy(task, policy)
        kept = getattr(self._calibration, "height", None)
        if kept is not None and not cfg.commands.ranges.further:
            cfg.commands.ranges.further = {BASE_HEIGHT: (kept.heights[0], kept.heights[-1])}
        cfg = playback_config(cfg, _LONGEST) if num_robots == 1 else evaluation_config(cfg, _LONGEST)
        cfg.commands.ramp_time = 0.0
        cfg.env.num_envs, cfg.env.env_spacing = num_robots, SPACING
        # Nobody learns here: neither rewards nor what a critic sees are worth their time.
        cfg.observations.privileged = ()
        for name in vars(cfg.rewards.scales):
            setattr(cfg.rewards.scales, name, 0.0)
        self._env = env = make_env(task, cfg, policy)
        self._origins = env.env_origins.clone()
        lowest, highest = command_range(env)
        layout = env.command_layout
        acceleration = layout.largest_changes(1.0, acceleration=cfg.commands.acceleration)
        super().__init__(num_robots, layout, lowest, highest, acceleration, env.dt, env.robot)

    @torch.no_grad()
    def reset(self) -> None:
        """As of :class:`DrivenRobots`."""
        self._env.env_origins.copy_(self._origins)
        self._env.reset()

    @torch.no_grad()
    def step(self, commands: Tensor) -> Tensor:
        """As of :class:`DrivenRobots`."""
        env = self._env
        if env.terrain is None:
            env.env_origins[:, :2] = env.root_states[:, :2]
        env.set_commands(self._calibration(commands).to(env.device))
        env.step(self._policy(env.get_observations()))
        fallen: Tensor = env.reset_buf.cpu().clone()
        return fallen

    def poses(self) -> Poses:
        """As of :class:`DrivenRobots`."""
        root, dof_pos = self._env.root_states.cpu(), self._env.in_description_order(self._env.dof_pos)
        return Poses(root[:, :3].clone(), root[:, 3:7].clone(), dof_pos.cpu().clone())

    def reference(self) -> Poses | None:
        """As of :class:`DrivenRobots`."""
        term, robots = self._env.reference, self.poses()
        if term is None:
            return None
        root = beside(robots.root_pos, robots.root_quat, term.root_pos_w.cpu(), term.root_quat_w.cpu())
        return Poses(*root, self._env.in_description_order(term.dof_pos).cpu().clone())

    def push(self, speed: float) -> None:
        """As of :class:`DrivenRobots`."""
        angle = 2.0 * math.pi * torch.rand(self.num_robots)
        self._env.push(torch.arange(self.num_robots), speed * torch.stack((angle.cos(), angle.sin()), dim=1))

    def set_friction(self, friction: float) -> None:
        """As of :class:`DrivenRobots`."""
        gym, floor = self._env.gym, self._env.cfg.terrain.static_friction
        for env, actor in zip(self._env.envs, self._env.actor_handles, strict=True):
            surfaces = gym.get_actor_rigid_shape_properties(env, actor)
            for surface in surfaces:
                surface.friction = 2.0 * friction - floor  # a contact gets the mean of both
            gym.set_actor_rigid_shape_properties(env, actor, surfaces)


class RunRobots(PolicyRobots):
    """Robots under the newest policy of a run that is being trained.

    Args:
        run: Folder of the run.
        num_robots: How many.

    Raises:
        RunError: It holds no checkpoint.
        PolicyError: Its newest checkpoint cannot be used.
    """

    def __init__(self, run: Path, num_robots: int) -> None:
        self._run, self._path = run, find_checkpoint(run)
        super().__init__(policy_of_checkpoint(self._path), num_robots, self._name())

    def refresh_policy(self) -> None:
        """As of :class:`DrivenRobots`; raises RunError or PolicyError if it cannot be used: the one before goes on."""
        path = find_checkpoint(self._run)
        if path == self._path:
            return
        self._path = path
        policy = policy_of_checkpoint(path)
        reason = self._policy.description.mismatch(policy.description)
        if reason:
            raise PolicyError(f"{path}: cannot be used here: {reason}")
        self._policy, self.origin = policy.to(self._env.device), self._name()

    def _name(self) -> str:
        return f"{self._path.name} of {self._run.resolve().name}"


class ReferenceRobots(DrivenRobots):
    """The reference motion without physics."""

    def __init__(self, num_robots: int) -> None:
        robot = load_g1()
        self._generator = CMGMotionGenerator(
            num_envs=num_robots,
            mode="realtime",
            buffer_size=8,
            control_dt=CONTROL_DT,
            interpolation_steps=0,
            joint_names=robot.joint_names,
        )
        checkpoint = self._generator.checkpoint
        self._standing = checkpoint.standing_state(robot).expand(num_robots, -1)
        self._places = torch.zeros(num_robots, 3)
        self._places[:, 1] = SPACING * torch.arange(num_robots)
        lowest, highest, layout = checkpoint.command_min, checkpoint.command_max, checkpoint.command_layout
        acceleration = layout.largest_changes(1.0)
        super().__init__(num_robots, layout, lowest, highest, acceleration, CONTROL_DT, robot)
        self.reset()

    def reset(self) -> None:
        """As of :class:`DrivenRobots`."""
        commands = self.layout.rest(self.num_robots)
        self._generator.reset(init_motion=self._standing, commands=commands, root_pose=self._places)

    def step(self, commands: Tensor) -> Tensor:
        """As of :class:`DrivenRobots`."""
        self._generator.update_commands(commands)
        self._generator.advance()
        return torch.zeros(self.num_robots, dtype=torch.bool)

    def poses(self) -> Poses:
        """As of :class:`DrivenRobots`."""
        frames = self._generator.get_frames()
        return Poses(frames.root_pos_w.clone(), frames.root_quat_w.clone(), frames.dof_pos.clone())


class Twist2Robots(DrivenRobots):
    """Robots under TWIST2's published policy, each in a plain simulation of its own.

    Args:
        path: TWIST2's ONNX file.
        num_robots: How many.

    Raises:
        ArtefactError: The file holds something else.
    """

    can_be_pushed = changes_friction = True

    def __init__(self, path: Path, num_robots: int) -> None:
        self.origin, robot = path.name, load_g1()
        self._controllers = [Twist2Policy(path, JOINT_NAMES) for _ in range(num_robots)]
        self._simulations = [
            PlainSimulation(robot.spec.asset, controller, Conditions(physics_dt=0.001), seed)
            for seed, controller in enumerate(self._controllers)
        ]
        self._references = [Reference(lowest=LOWEST, highest=HIGHEST) for _ in range(num_robots)]
        self._frames = [reference.frame() for reference in self._references]
        first = self._references[0]
        lowest, highest, acceleration = (
            torch.tensor(values, dtype=torch.float32) for values in (first.lowest, first.highest, ACCELERATION)
        )
        super().__init__(num_robots, CommandLayout(), lowest, highest, acceleration, CONTROL_DT, robot)
        self.reset()

    def reset(self) -> None:
        """As of :class:`DrivenRobots`."""
        for index in range(self.num_robots):
            self._stand(index, (0.0, SPACING * index))

    def _stand(self, index: int, place: tuple[float, float]) -> None:
        """Begin anew with a robot at x, y [m]."""
        simulation = self._simulations[index]
        self._references[index].restart()
        self._frames[index] = self._references[index].frame()
        self._controllers[index].reset()
        simulation.reset()
        simulation.root[:2] = place

    def step(self, commands: Tensor) -> Tensor:
        """As of :class:`DrivenRobots`."""
        fallen = torch.zeros(self.num_robots, dtype=torch.bool)
        for index, (command, simulation) in enumerate(zip(commands, self._simulations, strict=True)):
            self._frames[index] = self._references[index].step(command.double().numpy())
            body = Twist2.body(self._frames[index])
            simulation.step(self._controllers[index].follow(body, *simulation.measure()))
            fallen[index] = simulation.fallen
            if fallen[index]:
                x, y = simulation.root[:2]
                self._stand(index, (x, y) if math.isfinite(x + y) else (0.0, SPACING * index))
        return fallen

    def poses(self) -> Poses:
        """As of :class:`DrivenRobots`."""
        root = torch.stack([torch.from_numpy(simulation.root.copy()) for simulation in self._simulations]).float()
        joints = [torch.from_numpy(simulation.measure()[2]).float() for simulation in self._simulations]
        return Poses(root[:, :3], root[:, [4, 5, 6, 3]], torch.stack(joints))

    def reference(self) -> Poses:
        """As of :class:`DrivenRobots`."""
        robots, frames = self.poses(), torch.from_numpy(np.array(self._frames)).float()
        quat = quat_from_euler_xyz(frames[:, ROLL], frames[:, PITCH], torch.zeros(self.num_robots))
        height = frames[:, HEIGHT : HEIGHT + 1].expand(-1, 3)
        return Poses(*beside(robots.root_pos, robots.root_quat, height, quat), frames[:, JOINTS])

    def push(self, speed: float) -> None:
        """As of :class:`DrivenRobots`."""
        for simulation in self._simulations:
            simulation.conditions = dataclasses.replace(simulation.conditions, push=speed)
            simulation.push()

    def set_friction(self, friction: float) -> None:
        """As of :class:`DrivenRobots`."""
        for simulation in self._simulations:
            simulation.model.geom_friction[:, 0] = friction
