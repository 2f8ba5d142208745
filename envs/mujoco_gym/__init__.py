"""Stand-in for Isaac Gym on MuJoCo: the modules, names and tensor layouts of `isaacgym`, stepped by `mujoco.batch`.

What it covers is what legged_gym, TWIST and the environments here call; any other call raises an error that names it.
Import it through `envs.simulator`, which prefers the real Isaac Gym.
"""
