"""Environments, simulators and videos: what needs more than the library itself."""
