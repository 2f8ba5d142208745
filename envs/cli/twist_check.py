"""Check on a machine with Isaac Gym what could only be checked on the stand-in: about a minute.

  cmg-twist check --twist_root TWIST

Every line says pass or FAIL, what was expected and what was found. docs/twist.md says what each check is about. Without
Isaac Gym the same checks run on the stand-in, which says nothing about Isaac Gym.
"""

from __future__ import annotations

from cmg_ref.core.command_line import Parser, command  # isort: skip

# Isaac Gym has to be imported before torch.
from envs.simulator import BACKEND, gymapi, gymtorch  # isort: skip

import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Tuple

import torch
from torch import Tensor

from cmg_ref.core.devices import checked_device
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1
from cmg_ref.robots.urdf import read_urdf
from cmg_ref.twist.motion_lib import CMGMotionLib, CMGMotionLibCfg
from envs.hosts import twist
from envs.hosts.twist_mimic import robot_file

ROOT = Path(__file__).resolve().parents[2]
MJCF = ROOT / "cmg_ref" / "assets" / "g1_29dof.xml"
DT = 0.002
Result = Tuple[bool, str]


class Rig:
    """One robot of TWIST's in a simulation, on a plane, driven by torques.

    Args:
        twist_root: Checkout of TWIST.
        file: The robot that its tasks load.
        device: Device of the simulation.
    """

    def __init__(self, twist_root: Path, file: Path, device: str) -> None:
        self.twist_root, self.tree = twist_root, read_urdf(file)
        self.gym, self.device = gymapi.acquire_gym(), device
        params = gymapi.SimParams()
        params.dt, params.substeps, params.up_axis = DT, 1, gymapi.UP_AXIS_Z
        params.gravity = gymapi.Vec3(0.0, 0.0, -9.81)
        on_gpu = device != "cpu"
        params.use_gpu_pipeline = params.physx.use_gpu = on_gpu
        self.sim = self.gym.create_sim((torch.device(device).index or 0) if on_gpu else 0, -1, gymapi.SIM_PHYSX, params)
        plane = gymapi.PlaneParams()
        plane.normal = gymapi.Vec3(0.0, 0.0, 1.0)
        self.gym.add_ground(self.sim, plane)
        options = gymapi.AssetOptions()
        options.default_dof_drive_mode = gymapi.DOF_MODE_EFFORT
        options.collapse_fixed_joints, options.replace_cylinder_with_capsule = False, True
        asset = self.gym.load_asset(self.sim, str(file.parent), file.name, options)
        self.body_names = list(self.gym.get_asset_rigid_body_names(asset))
        self.dof_names = list(self.gym.get_asset_dof_names(asset))
        shipped = self.gym.load_asset(self.sim, str(MJCF.parent), MJCF.name, options)
        self.shipped_dof_names = list(self.gym.get_asset_dof_names(shipped))
        env = self.gym.create_env(self.sim, gymapi.Vec3(), gymapi.Vec3(), 1)
        start = gymapi.Transform()
        start.p = gymapi.Vec3(0.0, 0.0, 1.0)
        actor = self.gym.create_actor(env, asset, start, "g1", 0, 0, 0)
        properties = self.gym.get_asset_dof_properties(asset)
        properties["armature"].fill(0.01)  # as TWIST: without it explicit torques of stiff joints diverge
        self.gym.set_actor_dof_properties(env, actor, properties)
        self.mass = sum(body.mass for body in self.gym.get_actor_rigid_body_properties(env, actor))
        self.gym.prepare_sim(self.sim)
        self.root = gymtorch.wrap_tensor(self.gym.acquire_actor_root_state_tensor(self.sim))
        self.dof = gymtorch.wrap_tensor(self.gym.acquire_dof_state_tensor(self.sim)).view(-1, 2)
        self.bodies = gymtorch.wrap_tensor(self.gym.acquire_rigid_body_state_tensor(self.sim)).view(-1, 13)
        self.contacts = gymtorch.wrap_tensor(self.gym.acquire_net_contact_force_tensor(self.sim)).view(-1, 3)
        self.actors = torch.zeros(1, dtype=torch.int32, device=device)

    def place(self, root: Tensor, dof_pos: Tensor) -> None:
        """Put the robot into a root state (13,) and joint angles (num_dof,), at rest in the joints."""
        self.root[0] = root.to(self.device)
        self.dof[:, 0] = dof_pos.to(self.device)
        self.dof[:, 1] = 0.0
        actors = gymtorch.unwrap_tensor(self.actors)
        self.gym.set_actor_root_state_tensor_indexed(self.sim, gymtorch.unwrap_tensor(self.root), actors, 1)
        self.gym.set_dof_state_tensor_indexed(self.sim, gymtorch.unwrap_tensor(self.dof), actors, 1)

    def step(self, torques: Tensor | None = None) -> None:
        """Simulate one step, with new torques (num_dof,) if they are given."""
        if torques is not None:
            efforts = torques.to(self.device).float().contiguous()
            self.gym.set_dof_actuation_force_tensor(self.sim, gymtorch.unwrap_tensor(efforts))
        self.gym.simulate(self.sim)
        self.gym.fetch_results(self.sim, True)
        for refresh in ("actor_root_state", "dof_state", "rigid_body_state", "net_contact_force"):
            getattr(self.gym, f"refresh_{refresh}_tensor")(self.sim)

    def standing(self) -> Tensor:
        """Joint angles of the shipped standing pose, (num_dof,)."""
        robot = load_g1()
        return robot.default_dof_pos[robot.joint_index(self.dof_names)].float()


def root_state(height: float, ang_vel: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Tensor:
    """An upright root at rest but for its angular velocity, (13,)."""
    return torch.tensor([0.0, 0.0, height, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, *ang_vel])


def check_order_of_bodies(rig: Rig) -> Result:
    """Bodies and joints of TWIST's URDF come in the order that our reader gives them."""
    tree = rig.tree
    same = list(tree.body_names) == rig.body_names and list(tree.joint_names) == rig.dof_names
    odd = [f"{ours} / {found}" for ours, found in zip(tree.body_names, rig.body_names) if ours != found]
    return same, f"{len(rig.body_names)} bodies, {len(rig.dof_names)} joints" + (
        f"; first odd: {odd[0]}" if odd else ""
    )


def check_order_of_joints(rig: Rig) -> Result:
    """Joints of the shipped MJCF come in the order of the file."""
    same = rig.shipped_dof_names == list(load_g1().joint_names)
    return same, f"{len(rig.shipped_dof_names)} joints, {'in' if same else 'not in'} the order of the file"


def check_kinematics(rig: Rig) -> Result:
    """Bodies are where exact kinematics put them."""
    tree = rig.tree
    kinematics = ForwardKinematics(tree, rig.body_names)
    columns = [rig.dof_names.index(name) for name in tree.joint_names]
    order = torch.tensor(columns).argsort()
    lower, upper = tree.joint_lower[order].float(), tree.joint_upper[order].float()
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for _ in range(5):
        root = root_state(5.0)
        root[3:7] = torch.nn.functional.normalize(torch.randn(4, generator=generator), dim=0)
        share = torch.rand(len(rig.dof_names), generator=generator)
        rig.place(root, lower + (upper - lower) * (0.1 + 0.8 * share))
        rig.step(torch.zeros(len(rig.dof_names)))
        seen = rig.root[0].cpu()
        expected = kinematics.positions(rig.dof[columns, 0].cpu()[None], seen[None, :3], seen[None, 3:7])[0]
        worst = max(worst, float((rig.bodies[:, :3].cpu() - expected).norm(dim=1).max()))
    return worst < 1e-3, f"within {worst:.1e} m (expected 1e-3)"


def check_root_velocity(rig: Rig) -> Result:
    """The root's velocity is that of its origin, not of its centre of mass."""
    rig.place(root_state(5.0, (0.0, 4.0, 0.0)), rig.standing())
    rig.step(torch.zeros(len(rig.dof_names)))
    before, velocity = rig.root[0, :3].clone(), rig.root[0, 7:10].clone()
    rig.step()
    moved = (rig.root[0, :3] - before) / DT
    error = float((moved - 0.5 * (velocity + rig.root[0, 7:10])).norm())
    return error < 0.05, f"differs from the rate of the position by {error:.3f} m/s at 4 rad/s (expected 0.05)"


def check_torques_persist(rig: Rig) -> Result:
    """Torques stay in force until new ones are set; TWIST's resets simulate a step without setting any."""
    knee = rig.dof_names.index("left_knee_joint")
    torques = torch.zeros(len(rig.dof_names))
    torques[knee] = 20.0
    rig.place(root_state(5.0), rig.standing())
    speeds = []
    for given in (torques, None, None):
        rig.step(given)
        speeds.append(float(rig.dof[knee, 1]))
    gains = [speeds[1] - speeds[0], speeds[2] - speeds[1]]
    persists = min(gains) > 0.5 * speeds[0]
    return persists, f"knee speed after 1, 2, 3 steps: {', '.join(f'{speed:.2f}' for speed in speeds)} rad/s"


def check_contact_forces(rig: Rig) -> Result:
    """Contact forces act on the body, upward under the feet, and bear the robot's weight."""
    target = rig.standing().to(rig.device)
    strong = torch.tensor([float("hip" in name or "knee" in name or "waist" in name) for name in rig.dof_names])
    stiffness, damping = (40.0 + 100.0 * strong).to(rig.device), (2.0 + 2.0 * strong).to(rig.device)
    rig.place(root_state(0.80), rig.standing())
    loads = []
    for step in range(250):
        rig.step(stiffness * (target - rig.dof[:, 0]) - damping * rig.dof[:, 1])
        if step >= 150:
            loads.append(float(rig.contacts[:, 2].sum()))
    load, weight = sum(loads) / len(loads), 9.81 * rig.mass
    return abs(load / weight - 1.0) < 0.2, f"{load:.0f} N under a robot of {weight:.0f} N"


def check_no_waiting(rig: Rig) -> Result:
    """Reading the motion library never makes the host wait for the GPU."""
    lacking = tuple(name for name in load_g1().joint_names if name not in rig.dof_names)
    cfg = CMGMotionLibCfg(num_motions=4, num_blocks=0, motion_length=0.5, drop_joints=lacking)
    library = CMGMotionLib(cfg, 4, 0.02, rig.tree, rig.tree.body_names[:1], rig.dof_names, rig.device)
    motions, times = torch.zeros(64, dtype=torch.long, device=rig.device), torch.rand(64, device=rig.device)
    if rig.device == "cpu":
        return True, "on a CPU there is nothing to wait for"
    torch.cuda.set_sync_debug_mode("error")
    try:
        library.calc_motion_frame(motions, times)
    except RuntimeError as error:
        return False, str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return True, "no synchronisation"


def check_training(rig: Rig) -> Result:
    """TWIST's teacher trains: two iterations with 64 environments, in a process of its own."""
    command = [sys.executable, "-m", "envs.cli.twist", "train", "--task", twist.TEACHER]
    command += ["--twist_root", str(rig.twist_root), "--exptid", "twist_check"]
    command += ["--num_envs", "64", "--max_iterations", "2"]
    command += ["--no_wandb", "--device", rig.device, "cmg.num_motions=16", "cmg.motion_length=2.0"]
    with tempfile.TemporaryFile("w+") as log:
        code = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=str(ROOT))
        log.seek(0)
        lines = log.read().splitlines()
    finished = code == 0 and not any("nan" in line.lower() for line in lines if "Mean" in line)
    return finished, "two iterations without NaN" if finished else (lines[-1] if lines else f"exit status {code}")


CHECKS: list[Callable[[Rig], Result]] = [
    check_order_of_bodies,
    check_order_of_joints,
    check_kinematics,
    check_root_velocity,
    check_torques_persist,
    check_contact_forces,
    check_no_waiting,
    check_training,
]


@command(twist.TwistError, ValueError, OSError)
def main() -> None:
    """Run all checks; the exit status is 1 if any fails."""
    parser = Parser(__doc__)
    parser.add_argument("--twist_root", help="checkout of TWIST (default: $TWIST_ROOT, or TWIST as installed)")
    parser.add_argument("--device", help="default: cuda:0 with Isaac Gym and a GPU, else cpu")
    arguments = parser.parse_args()
    on_gpu = BACKEND == "isaacgym" and torch.cuda.is_available()
    device = str(checked_device(arguments.device or ("cuda:0" if on_gpu else "cpu"), "--device"))
    registry = twist.register_tasks(arguments.twist_root)
    root = twist.import_twist(arguments.twist_root)
    file = Path(robot_file(registry.get_cfgs(twist.TEACHER)[0])).resolve()
    read_urdf(file)
    rig = Rig(root, file, device)
    where = "Isaac Gym" if BACKEND == "isaacgym" else "the stand-in: this says nothing about Isaac Gym"
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {rig.device}, {where}")
    failed = 0
    for check in CHECKS:
        passed, found = check(rig)
        failed += not passed
        print(f"{'pass' if passed else 'FAIL'}  {check.__doc__}\n      {found}", flush=True)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} passed")
    sys.exit(int(failed > 0))
