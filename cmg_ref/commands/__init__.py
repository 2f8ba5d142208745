"""Velocity commands: drawing them for training, smoothing a change, schedules from files."""
