"""Environments in legged_gym's shape, on Isaac Gym or its stand-in."""

from __future__ import annotations

# Isaac Gym has to be imported before torch, which every module of this package imports.
import envs.simulator  # noqa: F401
