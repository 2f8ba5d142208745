"""The TWIST plug-in: its environment, training, student, play and export, in TWIST's own code on the stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.twist_cmg_config import G1CMGMimicCfg

SMALL = "'cmg.num_motions=8', 'cmg.num_blocks=2', 'cmg.motion_length=2.0', '--num_envs', '8', '--no_wandb'"


ENVIRONMENT = f"""
import json, torch
from envs.hosts.twist import _apply, _prepare
task = ["--twist_root", ROOT, "--task", "g1_cmg_priv_mimic", "--exptid", "x"]
options, args, registry = _prepare([*task, {SMALL}, *MORE])
args.headless = True
cfg, train_cfg = registry.get_cfgs(args.task)
_apply(cfg, train_cfg, options.overrides)
env, _ = registry.make_env(name=args.task, args=args, env_cfg=cfg)
everyone = torch.arange(env.num_envs)
"""


@pytest.fixture(scope="session")
def in_twist(run_code: Callable[..., Any], twist_copy: Path) -> Callable[..., Any]:
    """Runs code with a small environment `env` of the teacher's task, with more options if given."""

    def run(code: str, *more: str) -> Any:
        return run_code(f"ROOT, MORE = {str(twist_copy)!r}, {list(more)!r}\n" + ENVIRONMENT + code)

    return run


# Finding TWIST ----------------------------------------------------------------------------------------------------


def test_what_is_not_twist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco.batch")
    from envs.hosts.twist import TwistError, import_twist

    monkeypatch.delenv("TWIST_ROOT", raising=False)
    with pytest.raises(TwistError, match="is no checkout of TWIST"):
        import_twist(tmp_path)
    with pytest.raises(TwistError, match="give --twist_root or set TWIST_ROOT"):
        import_twist()


def test_configurations_are_laid_over_one_another() -> None:
    pytest.importorskip("mujoco.batch")
    from envs.hosts.twist import overlaid

    class Theirs:
        seed = 1

        class rewards:  # noqa: N801
            sigma = 0.2

            class scales:  # noqa: N801
                theirs_alone = 1.0
                tracking_lin_vel = 0.1

    laid: Any = overlaid(G1CMGMimicCfg, Theirs)
    assert (laid.seed, laid.rewards.sigma, laid.rewards.scales.theirs_alone) == (1, 0.2, 1.0)
    assert laid.rewards.scales.tracking_lin_vel == G1CMGMimicCfg.rewards.scales.tracking_lin_vel
    assert laid.cmg is G1CMGMimicCfg.cmg
    assert Theirs.rewards.scales.tracking_lin_vel == 0.1, "TWIST's own configuration must stay as it is"


# The environment ----------------------------------------------------------------------------------------------------


def test_the_reference_fills_all_that_twist_uses(in_twist: Callable[..., Any]) -> None:
    answer = in_twist("""
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.urdf import read_urdf
from pathlib import Path
tree = read_urdf(cfg.asset.file)
feet = [env.body_names[index] for index in env.feet_indices]
names = cfg.motion.key_bodies + feet
indices = [env.body_names.index(name) for name in names]
kinematics = ForwardKinematics(tree, names)
columns = [env.dof_names.index(name) for name in tree.joint_names]
worst = dict(bodies=0.0, commands=0.0, jump=0.0, seen=0.0)
before = None
sums = {name: 0.0 for name in env.episode_sums}
for step in range(60):
    observations, privileged, rewards, dones, _ = env.step(0.1 * torch.randn(env.num_envs, env.num_actions))
    assert torch.isfinite(observations).all() and torch.isfinite(rewards).all()
    going = ~dones.bool()
    expected = kinematics.positions(env._ref_dof_pos[:, columns], env._ref_root_pos, env._ref_root_rot)
    error = (env._ref_body_pos[:, indices] - expected).abs()[going]
    worst["bodies"] = max(worst["bodies"], error.max().item() if len(error) else 0.0)
    now = env._motion_lib.calc_commands(env._motion_ids, env._get_motion_times())
    worst["commands"] = max(worst["commands"], (env.commands[:, :3] - now).abs().max().item())
    if before is not None and going.any():
        worst["jump"] = max(worst["jump"], (env._ref_root_pos - before)[going].norm(dim=1).max().item())
    before = env._ref_root_pos.clone()
    before[dones.bool()] += env.episode_init_origin[dones.bool()] * torch.tensor([1.0, 1.0, 0.0])
    for name, total in env.episode_sums.items():
        sums[name] += total.abs().sum().item()
ahead = env._motion_lib.calc_motion_frame(env._motion_ids, env._get_motion_times() + 95 * env.dt)
single = observations[:, : cfg.env.n_priv_mimic_obs].view(env.num_envs, 20, -1)
worst["seen"] = (single[:, -1, 8 : 8 + 23] - ahead[4]).abs()[~dones.bool()].max().item()
theirs = registry.get_cfgs("g1_priv_mimic")[0].env
# Some that it has inherited from legged_gym's quadrupeds use what its humanoids never set.
owners = {name: next(kind.__name__ for kind in type(env).__mro__ if name in vars(kind)) for name in dir(env)
          if name.startswith("_reward_")}
rewards = {name: getattr(env, name)() for name, owner in owners.items() if owner != "LeggedRobot"}
odd = [name for name, value in rewards.items() if not torch.isfinite(torch.as_tensor(value)).all()]
print(json.dumps({
    "rewards": len(rewards), "odd": odd, "worst": worst, "sums": sums, "dt": env.dt, "length": env.max_episode_length,
    "observations": [observations.shape[1], privileged.shape[1]],
    "theirs": [theirs.num_observations, theirs.num_privileged_obs],
    "change": env.commands[:, :3].abs().max().item(),
    "file": Path(cfg.asset.file).name, "motions": env._motion_lib.num_motions(),
}))
""")
    worst = answer["worst"]
    assert answer["file"] == "g1_custom_collision_with_fixed_hand.urdf" and answer["dt"] == pytest.approx(0.02)
    assert answer["observations"] == answer["theirs"], "observations have the sizes of TWIST's own task"
    assert answer["rewards"] > 25 and answer["odd"] == [], "every reward of TWIST's humanoids works"
    assert worst["bodies"] < 1e-4 and worst["commands"] < 1e-6 and worst["seen"] < 1e-5
    assert worst["jump"] < 3.0 * answer["dt"] + 1e-3
    assert answer["length"] == 100 and answer["motions"] == 8 and answer["change"] > 0.1
    # Penalties that need a stumble or a torque at its limit may rest in 60 steps; nothing that tracks may.
    tracking = {name: total for name, total in answer["sums"].items() if name.startswith("tracking_")}
    assert {"tracking_lin_vel", "tracking_ang_vel", "tracking_keybody_pos", "tracking_root_pose"} <= set(tracking)
    assert all(total > 0.0 for total in tracking.values())


def test_a_residual_action_of_zero_follows_the_reference_better_than_the_default_pose(
    in_twist: Callable[..., Any],
) -> None:
    code = """
error = []
for step in range(40):
    env.step(torch.zeros(env.num_envs, env.num_actions))
    error.append((env.dof_pos - env._ref_dof_pos).abs().mean().item())
print(json.dumps(sum(error) / len(error)))
"""
    plain, residual = in_twist(code), in_twist(code, "control.residual_action=True")
    assert residual < 0.6 * plain


def test_live_commands_are_set_or_written_and_followed(in_twist: Callable[..., Any]) -> None:
    answer = in_twist(
        """
env.set_commands(torch.tensor([[0.8, 0.0, 0.0]]).repeat(env.num_envs, 1))
shown = []
for step in range(60):
    env.step(torch.zeros(env.num_envs, env.num_actions))
    shown.append(env.commands[:, 0].clone())
    library = env._motion_lib
    assert torch.equal(env.commands[:, :3], library.calc_commands(everyone, library.elapsed_times()))
shown = torch.stack(shown)
env.commands[:, 2] = 0.4
env.step(torch.zeros(env.num_envs, env.num_actions))
print(json.dumps({
    "soon": shown[5].min().item(), "nearest": (shown - 0.8).abs().min().item(), "most": shown.max().item(),
    "target": env._motion_lib.target_commands[0].tolist(),
}))
""",
        "cmg.mode=live",
        "cmg.motion_length=100.0",
    )
    # Where an episode begins anew, the ramp begins at what its first state was doing, which may be a bit more.
    assert answer["soon"] < 0.3 and answer["nearest"] < 1e-4 and answer["most"] < 1.5
    assert answer["target"] == pytest.approx([0.8, 0.0, 0.4], abs=1e-5)


# Training -----------------------------------------------------------------------------------------------------------

TRAIN = f"""
import json
from envs.hosts.twist import TwistError, play, train
root = ["--twist_root", ROOT]
small = [{SMALL}, "--max_iterations", "2"]
teacher = [*root, "--task", "g1_cmg_priv_mimic", "--exptid", "teacher"]
student = [*root, "--task", "g1_cmg_stu_rl", "--exptid", "student"]
train([*teacher, *small])
train([*student, *small, "--teacher_exptid", "teacher"])
short = ["--num_envs", "4", "--steps", "60", "--no_wandb"]
played = [play([*teacher, *short]), play([*student, *short, "--command", "0.5", "0", "0", "--export"])]
problems = []
for task, more in ((teacher, ["--export"]), (teacher[:-1] + ["nobody"], []), (teacher, ["cmg.nothing=1"])):
    try:
        play([*task, *short, *more])
    except TwistError as error:
        problems.append(str(error))
import argparse, importlib.util, os, torch
from pathlib import Path
from envs.hosts.twist import trusted_checkpoints
gym = Path(ROOT) / "legged_gym"
traced = gym / "logs" / "g1_cmg_stu_rl" / "student" / "traced" / "student-0-jit.pt"
exported = torch.jit.load(str(traced))
traced.unlink()
# TWIST's own exporter, which takes its paths from the folder it lies in.
os.chdir(gym / "legged_gym" / "scripts")
spec = importlib.util.spec_from_file_location("theirs", "save_jit_stu_rlbc.py")
theirs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(theirs)
with trusted_checkpoints():
    theirs.play(argparse.Namespace(proj_name="g1_cmg_stu_rl", exptid="student", checkpoint=-1, robot="g1"))
observations = torch.randn(3, 11 * (8 + 23 + 3 + 2 + 3 * 23), generator=torch.Generator().manual_seed(0))
actions, expected = exported(observations), torch.jit.load(str(traced))(observations)
print(json.dumps({{"played": played, "actions": list(actions.shape), "finite": bool(torch.isfinite(actions).all()),
    "same": bool(torch.equal(actions, expected)), "problems": problems}}))
"""


def test_teacher_and_student_train_play_and_export(run_code: Callable[..., Any], twist_copy: Path) -> None:
    answer = run_code(f"ROOT = {str(twist_copy)!r}\n" + TRAIN)
    assert answer["actions"] == [3, 23] and answer["finite"]
    assert answer["same"], "the exported policy is the one that TWIST's own exporter writes"
    for result in answer["played"]:
        assert result["seconds"] == pytest.approx(1.2)
        assert all(torch.isfinite(torch.tensor(value)) for value in result.values())
    assert answer["played"][1]["vx_command"] > 0.1
    wanted = ("a teacher observes", "holds no model_", "no field 'cmg.nothing'")
    assert all(text in problem for text, problem in zip(wanted, answer["problems"], strict=True))


# Clips ------------------------------------------------------------------------------------------------------------


def test_written_clips_load_in_twists_own_library(
    run_code: Callable[..., Any], twist_copy: Path, tmp_path: Path
) -> None:
    from cmg_ref.clips.formats.writers import write_twist_pickle
    from cmg_ref.network.checkpoint import load_checkpoint
    from cmg_ref.robots.robot import load_g1
    from cmg_ref.rollout.clip_generation import generate_clips

    commands = torch.tensor([0.8, 0.0, 0.0]).repeat(1, 150, 1)
    clip = generate_clips(load_checkpoint(), commands)[0]
    write_twist_pickle(clip, tmp_path / "walk.pkl", load_g1(), wrists=False)
    answer = run_code(
        f"""
import json, sys, torch
from envs.hosts.twist import import_twist
import_twist({str(twist_copy)!r})
from pose.utils.motion_lib_pkl import MotionLib
from legged_gym.envs.g1.g1_mimic_distill import g1_body_from_38_to_52
library = MotionLib({str(tmp_path / "walk.pkl")!r}, "cpu")
# The same question that TWIST's motion server asks.
times = torch.arange(0.0, 2.9, 0.02)
frames = library.calc_motion_frame(torch.zeros(len(times), dtype=torch.int), times)
pos, rot, vel, ang_vel, dof_pos, dof_vel, body_pos = frames
print(json.dumps({{
    "motions": library.num_motions(), "length": library.get_total_length(), "joints": dof_pos.shape[1],
    "bodies": list(body_pos.shape[1:]), "spread": g1_body_from_38_to_52(body_pos).shape[1],
    "speed": vel[100:, 0].mean().item(), "key": library.get_key_body_idx(["head_mocap", "left_rubber_hand"]),
}}))
"""
    )
    assert answer["motions"] == 1 and answer["length"] == pytest.approx(149 / clip.fps, abs=1e-3)
    assert answer["joints"] == 23 and answer["bodies"] == [38, 3] and answer["spread"] == 52
    assert answer["key"] == [20, 29], "the places that TWIST's clips have them in"
    assert answer["speed"] == pytest.approx(0.8, abs=0.15)
