"""The names that users import from `cmg_ref`, which loads this module, and torch, when the first is asked for."""

from __future__ import annotations

from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.formats.writers import write_npz, write_twist_pickle
from cmg_ref.clips.motion_clip import ClipError, MotionClip
from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg, CommandSmoother
from cmg_ref.commands.schedule import CommandSchedule, ScheduleError
from cmg_ref.commands.strata import BALANCED_STRATA
from cmg_ref.core.sharding import Shard
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.network.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from cmg_ref.network.model import CMG
from cmg_ref.reference_motion_term import ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot, RobotError, load_g1
from cmg_ref.robots.urdf import read_urdf
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg
from cmg_ref.twist.motion_lib import CMGMotionLib, CMGMotionLibCfg

__all__ = [
    "BALANCED_STRATA",
    "CMG",
    "CMGMotionGenerator",
    "CMGMotionGeneratorCfg",
    "CMGMotionLib",
    "CMGMotionLibCfg",
    "Checkpoint",
    "CheckpointError",
    "ClipError",
    "CommandSampler",
    "CommandSamplerCfg",
    "CommandSchedule",
    "CommandSmoother",
    "ForwardKinematics",
    "MotionClip",
    "ReferenceMotionTerm",
    "ReferenceMotionTermCfg",
    "Robot",
    "RobotError",
    "ScheduleError",
    "Shard",
    "generate_clips",
    "load_checkpoint",
    "load_g1",
    "read_clip",
    "read_urdf",
    "save_checkpoint",
    "write_npz",
    "write_twist_pickle",
]
