"""Stand-in for Isaac Gym on MuJoCo: the modules, names and tensor layouts of `isaacgym`, stepped by `mujoco.batch`.

What it covers is what legged_gym, TWIST and the environments here call; any other call raises an error that names it.
`gymapi.Gym` says what MuJoCo does differently. Import it through `envs.simulator`, which prefers the real Isaac Gym.

All tensors are on the CPU. MuJoCo steps on threads of its own, as many as there are cores unless
`sim_params.physx.num_threads` or `$MUJOCO_GYM_NUM_THREADS` says less. Torch's threads go on spinning for a while after
each of their operations and take the cores from them: call `torch.set_num_threads(1)` in a process that simulates, or
start it with OMP_WAIT_POLICY=PASSIVE.
"""
