"""Environments in legged_gym's shape, on Isaac Gym or its stand-in."""
