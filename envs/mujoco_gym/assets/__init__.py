"""Robots from URDF and MJCF files, as trees of links for MuJoCo."""
