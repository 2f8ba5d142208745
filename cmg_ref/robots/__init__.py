"""A robot as data: joints, links, limits and masses, read from MJCF or URDF, and its forward kinematics."""
