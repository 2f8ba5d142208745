"""A robot as data: joints, links, limits and masses from MJCF or URDF, its description, and its forward kinematics.

A new robot is a module here whose `SPEC` describes it, as in `g1.py`; a program may also add one by `register_robot`,
and a command line name a description in JSON (`RobotSpec.from_json`). Everything else asks the robot's checkpoint, its
task's configuration or the caller which robot it is.
"""
