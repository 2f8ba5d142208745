"""The motion library: frames against kinematics and commands, the pool, live motions."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable

import pytest
import torch
from torch import Tensor

from cmg_ref.commands.sampler import CommandSamplerCfg
from cmg_ref.commands.strata import BALANCED_STRATA
from cmg_ref.core import rotations
from cmg_ref.evaluation.requirements import speed_tolerance
from cmg_ref.generator import CMGMotionGenerator
from cmg_ref.robots.kinematic_tree import KinematicTree, RobotError
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import load_g1
from cmg_ref.trajectories.pool import FILL_ATTEMPTS
from cmg_ref.trajectories.settings import CMGMotionGeneratorCfg
from cmg_ref.twist.motion_lib import CMGMotionLib, CMGMotionLibCfg

DT = 0.02
BODIES = ("left_ankle_roll_link", "right_ankle_roll_link", "left_knee_link", "torso_link")
WRISTS = tuple(name for name in load_g1().joint_names if "wrist" in name)
COMMANDS = CommandSamplerCfg(lin_vel_x=(-0.6, 1.5), strata={**BALANCED_STRATA, "run": 0.0}, resampling_time=(1.0, 3.0))
POOL = CMGMotionLibCfg(num_motions=8, motion_length=2.0, lookahead=1.0, num_blocks=2, commands=COMMANDS)
LIVE = CMGMotionLibCfg(mode="live", lookahead=1.0, commands=None)


@pytest.fixture(scope="module")
def pool() -> CMGMotionLib:
    return CMGMotionLib(POOL, 4, DT, load_g1(), BODIES)


def whole(lib: CMGMotionLib) -> tuple[Tensor, Tensor, int]:
    """Motion and time of every frame of a pool, and the number of frames of a motion."""
    num_frames = lib.num_frames
    motions = torch.arange(lib.num_motions()).repeat_interleave(num_frames)
    return motions, (torch.arange(num_frames) * DT).repeat(lib.num_motions()), num_frames


def without_wrists() -> KinematicTree:
    """The G1 with its wrists welded, as in TWIST's model of 23 joints."""
    robot = load_g1()
    kept = [joint for joint, name in enumerate(robot.joint_names) if name not in WRISTS]
    return KinematicTree(
        name="g1_23dof",
        body_names=robot.body_names,
        body_parents=robot.body_parents,
        body_pos=robot.body_pos,
        body_quat=robot.body_quat,
        joint_names=tuple(robot.joint_names[joint] for joint in kept),
        joint_bodies=tuple(robot.joint_bodies[joint] for joint in kept),
        joint_axes=robot.joint_axes[kept],
        joint_lower=robot.joint_lower[kept],
        joint_upper=robot.joint_upper[kept],
    )


# Frames -----------------------------------------------------------------------------------------------------------


def test_frames_have_the_shapes_of_twists_library(pool: CMGMotionLib) -> None:
    frames = pool.calc_motion_frame(torch.tensor([0, 5, 7]), torch.tensor([0.0, 1.0, 1.234]))
    shapes = [tuple(part.shape) for part in frames]
    assert shapes == [(3, 3), (3, 4), (3, 3), (3, 3), (3, 29), (3, 29), (3, 4, 3)]
    for part in frames:
        part += 1.0  # TWIST writes into what it gets; the library must not notice
    again = pool.calc_motion_frame(torch.tensor([0, 5, 7]), torch.tensor([0.0, 1.0, 1.234]))
    assert all(not torch.equal(part, other) for part, other in zip(frames, again))


def test_body_positions_are_the_kinematics_of_the_joints(pool: CMGMotionLib) -> None:
    motions, times, _ = whole(pool)
    _, quat, _, _, dof_pos, _, body_pos = pool.calc_motion_frame(motions, times)
    expected = ForwardKinematics(load_g1(), BODIES).positions(dof_pos)
    assert (body_pos - expected).abs().max() < 1e-5
    assert (quat.norm(dim=1) - 1.0).abs().max() < 1e-5


def test_velocities_are_the_rates_of_positions(pool: CMGMotionLib) -> None:
    motions, times, num_frames = whole(pool)
    pos, quat, vel, ang_vel, dof_pos, dof_vel, _ = (
        part.view(pool.num_motions(), num_frames, *part.shape[1:]) for part in pool.calc_motion_frame(motions, times)
    )
    inner = slice(1, num_frames - 2)  # the last frame is at rest
    assert _rms((pos[:, 2:] - pos[:, :-2])[:, : num_frames - 3] / (2 * DT) - vel[:, inner]) < 0.05
    turning = rotations.angular_velocity(quat, DT)
    # Roll and pitch rates are those since the frame before, so the rate at a frame lies between it and the next.
    between = 0.5 * (ang_vel[:, inner] + ang_vel[:, 2 : num_frames - 1])
    assert _rms(turning[:, inner] - between) < 0.1 * _rms(ang_vel)
    rates = (dof_pos[:, 2:] - dof_pos[:, :-2])[:, : num_frames - 3] / (2 * DT)
    assert _rms(rates - dof_vel[:, inner]) < 0.1 * _rms(dof_vel)


def test_between_two_frames_the_motion_is_blended(pool: CMGMotionLib) -> None:
    motions = torch.arange(8)
    earlier, later, between = (pool.calc_motion_frame(motions, torch.full((8,), t)) for t in (1.00, 1.02, 1.005))
    for first, second, blend, part in zip(earlier, later, between, range(7)):
        if part != 1:
            assert (blend - (0.75 * first + 0.25 * second)).abs().max() < 1e-4
    between_both = rotations.quat_multiply(rotations.quat_conjugate(earlier[1]), later[1])
    turn = 0.25 * rotations.rotation_vector_from_quat(between_both)
    quarter = rotations.quat_from_axis_angle(torch.nn.functional.normalize(turn, dim=1), turn.norm(dim=1))
    slerped = rotations.quat_multiply(earlier[1], quarter)
    assert (
        rotations.rotation_vector_from_quat(rotations.quat_multiply(rotations.quat_conjugate(slerped), between[1]))
        .norm(dim=1)
        .max()
        < 1e-3
    )


def test_the_root_starts_at_the_origin_and_never_jumps(pool: CMGMotionLib) -> None:
    motions, times, num_frames = whole(pool)
    pos, quat, _, _, dof_pos, _, _ = pool.calc_motion_frame(motions, times)
    pos, dof_pos = pos.view(-1, num_frames, 3), dof_pos.view(-1, num_frames, 29)
    assert pos[:, 0, :2].abs().max() == 0.0
    assert rotations.yaw_from_quat(quat.view(-1, num_frames, 4)[:, 0]).abs().max() < 1e-6
    commands = pool.calc_commands(motions, times).view(-1, num_frames, 3)
    assert (commands.amax(dim=1) - commands.amin(dim=1)).amax(dim=1).min() > 0.1  # commands do change on the way
    assert pos.diff(dim=1).norm(dim=2).max() < 3.0 * DT
    assert dof_pos.diff(dim=1).abs().max() < 20.0 * DT


def test_beyond_its_end_a_motion_stands_still_where_it_ended(pool: CMGMotionLib) -> None:
    motions = torch.arange(8)
    end = (pool.num_frames - 1) * DT
    last = pool.calc_motion_frame(motions, torch.full((8,), end))
    later = pool.calc_motion_frame(motions, torch.full((8,), 10.0 * end))
    assert all(torch.equal(first, second) for first, second in zip(last, later))
    assert all(float(later[part].abs().max()) == 0.0 for part in (2, 3, 5))
    before = pool.calc_motion_frame(motions, torch.full((8,), -1.0))
    assert torch.equal(before[4], pool.calc_motion_frame(motions, torch.zeros(8))[4])


def test_no_episode_and_no_observation_reaches_the_end(pool: CMGMotionLib) -> None:
    begun = pool.sample_time(torch.arange(8).repeat(500))
    assert float(begun.max()) + POOL.motion_length + POOL.lookahead <= (pool.num_frames - 1) * DT
    steps = begun / DT
    assert (steps - steps.round()).abs().max() < 1e-3 and len(begun.unique()) > 80


def test_fewer_joints_are_the_same_motion_by_name() -> None:
    full = CMGMotionLib(replace(POOL, motion_length=0.5), 4, DT, load_g1(), BODIES)
    tree = without_wrists()
    order = tuple(reversed(tree.joint_names))
    cfg = replace(POOL, motion_length=0.5, drop_joints=WRISTS)
    fewer = CMGMotionLib(cfg, 4, DT, tree, BODIES, joint_names=order)
    motions, times, _ = whole(full)
    columns = load_g1().joint_index(order)
    frames, other = full.calc_motion_frame(motions, times), fewer.calc_motion_frame(motions, times)
    for part in (0, 1, 2, 3, 6):  # none of the bodies hangs on a wrist
        assert torch.equal(frames[part], other[part])
    assert torch.equal(frames[4][:, columns], other[4]) and torch.equal(frames[5][:, columns], other[5])


def test_joints_that_the_cmg_does_not_move_stay_where_they_are_held() -> None:
    robot = load_g1()
    hand = KinematicTree(
        name="g1_with_finger",
        body_names=(*robot.body_names, "finger"),
        body_parents=(*robot.body_parents, robot.body_names.index("right_wrist_yaw_link")),
        body_pos=torch.cat((robot.body_pos, torch.tensor([[0.1, 0.0, 0.0]], dtype=torch.float64))),
        body_quat=torch.cat((robot.body_quat, torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64))),
        joint_names=(*robot.joint_names, "finger_joint"),
        joint_bodies=(*robot.joint_bodies, robot.num_bodies),
        joint_axes=torch.cat((robot.joint_axes, torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))),
        joint_lower=torch.cat((robot.joint_lower, torch.tensor([-1.0], dtype=torch.float64))),
        joint_upper=torch.cat((robot.joint_upper, torch.tensor([1.0], dtype=torch.float64))),
    )
    cfg = replace(POOL, num_motions=2, motion_length=0.2, num_blocks=0, held_joints={"finger_joint": 0.3})
    lib = CMGMotionLib(cfg, 4, DT, hand, BODIES)
    _, _, _, _, dof_pos, dof_vel, _ = lib.calc_motion_frame(torch.tensor([0, 1]), torch.tensor([0.1, 0.2]))
    assert dof_pos.shape == (2, 30)
    assert torch.allclose(dof_pos[:, 29], torch.tensor(0.3)) and dof_vel[:, 29].abs().max() == 0.0
    assert dof_pos[:, :29].abs().max() > 0.1


# Commands ---------------------------------------------------------------------------------------------------------


def test_the_root_moves_as_commanded() -> None:
    """Mean velocity over 2 s, seen through the interface that TWIST uses, under the commands that its tasks draw."""
    commands = replace(COMMANDS, lin_vel_x=(-0.6, 2.5), strata=BALANCED_STRATA, resampling_time=(2.0, 6.0))
    cfg = replace(POOL, num_motions=64, motion_length=10.0, num_blocks=0, commands=commands)
    lib = CMGMotionLib(cfg, 4, DT, load_g1(), BODIES)
    drawn = lib.sample_motions(2000).unique()
    assert len(drawn) == 64
    motions, times, num_frames = whole(lib)
    _, quat, vel, ang_vel, _, _, _ = lib.calc_motion_frame(motions, times)
    heading = rotations.quat_from_yaw(-rotations.yaw_from_quat(quat))
    reached = torch.cat((rotations.quat_rotate(heading, vel)[:, :2], ang_vel[:, 2:]), dim=1)
    reached = reached.view(-1, num_frames, 3)[:, :-1]  # in the last frame the motion is at rest
    asked = lib.calc_commands(motions, times).view(-1, num_frames, 3)[:, :-1]

    def within(first: int, steady: bool) -> Tensor:
        """Whether the means over 2 s, told from ``first`` frames after the beginning of windows on, are as asked."""
        windows = asked.unfold(1, first + 100, 10)  # (motions, windows, 3, frames)
        wanted = windows[..., first:].mean(dim=3)
        error = reached.unfold(1, first + 100, 10)[..., first:].mean(dim=3) - wanted
        allowed = [speed_tolerance(command) for command in wanted.flatten(0, 1).tolist()]
        met = error[..., :2].norm(dim=2) <= torch.tensor(allowed).view_as(error[..., 2]) + 1e-3
        met &= error[..., 2].abs() <= 0.15 + 1e-3
        still = (windows.amax(dim=3) - windows.amin(dim=3)).amax(dim=2) < 1e-5
        return met[still] if steady else met.flatten()

    settled = within(75, steady=True)  # from 1.5 s after a change on
    assert len(settled) > 500 and bool(settled.all())
    assert within(0, steady=False).float().mean() > 0.95  # any 2 s, those in which the command changes included


def test_motions_that_miss_their_command_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []

    def judge(velocities: Tensor, commands: Tensor, dt: float) -> Tensor:
        judged.append(len(commands))
        return torch.arange(len(commands)) > 0  # the first of those that are judged misses

    monkeypatch.setattr("cmg_ref.evaluation.command_following.follows_commands", judge)
    cfg = replace(POOL, motion_length=0.2, lookahead=0.1)
    lib = CMGMotionLib(cfg, 4, DT, load_g1(), BODIES)
    assert judged == [8, *[1] * (FILL_ATTEMPTS - 1)], "those that miss are made anew a few times"
    assert set(lib.sample_motions(1000).tolist()) == set(range(1, 8))
    while (renewed := lib.step()) is None:
        pass
    assert judged[FILL_ATTEMPTS:] == [4] and renewed[0] == 0, "what misses is renewed first"
    assert 0 not in lib.sample_motions(1000).tolist()
    monkeypatch.setattr(
        "cmg_ref.evaluation.command_following.follows_commands", lambda velocities, *_: velocities[:, 0, 0] > 1e9
    )
    with pytest.raises(ValueError, match=r"8 of 8 trajectories .* missed their commands"):
        CMGMotionLib(cfg, 4, DT, load_g1(), BODIES)
    lib = CMGMotionLib(replace(cfg, check_commands=False), 4, DT, load_g1(), BODIES)
    assert len(lib.sample_motions(1000).unique()) == 8


def test_commands_change_along_straight_lines(pool: CMGMotionLib) -> None:
    motions, times, num_frames = whole(pool)
    commands = pool.calc_commands(motions, times).view(-1, num_frames, 3)
    bend = commands.diff(dim=1).diff(dim=1).abs().amax(dim=2)  # (motions, frames - 2)
    assert 0.0 < float((bend > 1e-4).float().mean()) < 0.1
    assert commands.diff(dim=1).abs().amax() <= 2.1 / (0.5 / DT) + 1e-4


# The pool ---------------------------------------------------------------------------------------------------------


def test_motions_are_drawn_by_their_difficulty(pool: CMGMotionLib) -> None:
    difficulty = torch.tensor([0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    counts = torch.bincount(pool.sample_motions(4000, motion_difficulty=difficulty), minlength=8)
    assert counts[[0, 3, 4, 5, 6, 7]].sum() == 0
    assert 2.5 < float(counts[2] / counts[1]) < 3.6
    assert torch.bincount(pool.sample_motions(4000), minlength=8).min() > 300


def test_lengths_and_names(pool: CMGMotionLib) -> None:
    assert pool.num_motions() == len(pool.get_motion_names()) == 8
    assert pool.get_total_length() == pytest.approx(16.0)
    assert float(pool.get_motion_length(3)) == pytest.approx(2.0)
    assert pool.get_motion_length(torch.tensor([1, 1])).tolist() == [2.0, 2.0]
    assert pool.get_key_body_idx(["torso_link", "left_ankle_roll_link"]) == [3, 0]


def test_motions_are_renewed_only_when_nobody_can_be_in_them() -> None:
    lib = CMGMotionLib(replace(POOL, motion_length=0.5, lookahead=0.2), 4, DT, load_g1(), BODIES)
    motions, times, num_frames = whole(lib)
    begun = torch.full((8,), -1000)  # step at which each was last drawn
    before = lib.calc_motion_frame(motions, times)[4].view(8, num_frames, 29)
    renewals = []
    for step in range(400):
        drawn = lib.sample_motions(3)
        begun[drawn] = step
        renewed = lib.step()
        after = lib.calc_motion_frame(motions, times)[4].view_as(before)
        in_use = step - begun <= 25  # an episode of half a second
        assert torch.equal(after[in_use], before[in_use])
        if renewed is not None:
            renewals.append(renewed.tolist())
            others = torch.tensor([number for number in range(8) if number not in renewals[-1]])
            assert torch.equal(after[others], before[others])
            before = after
    assert len(renewals) >= 4 and {number for renewed in renewals for number in renewed} == set(range(8))
    assert max(len(renewed) for renewed in renewals) <= 4


def test_a_motion_that_is_begun_without_being_drawn_is_kept_too() -> None:
    lib = CMGMotionLib(replace(POOL, motion_length=0.3, lookahead=0.1), 4, DT, load_g1(), BODIES)
    lib.sample_motions(200)
    chosen = [5]
    before = lib.calc_motion_frame(chosen, [0.2])[4]
    for step in range(150):
        if step % 10 == 0:
            lib.sample_time(chosen)
        renewed = lib.step()
        assert renewed is None or 5 not in renewed.tolist()
        assert torch.equal(lib.calc_motion_frame(chosen, [0.2])[4], before)


def test_a_motion_that_is_being_made_is_not_drawn() -> None:
    lib = CMGMotionLib(replace(POOL, motion_length=0.3, lookahead=0.1), 4, DT, load_g1(), BODIES)
    lib.sample_motions(200)
    lib.step()
    left = set(lib.sample_motions(200).tolist())
    assert len(left) == 4
    while (renewed := lib.step()) is None:
        assert set(lib.sample_motions(50).tolist()) <= left
    assert set(renewed.tolist()) == set(range(8)) - left
    assert set(renewed.tolist()) <= set(lib.sample_motions(400).tolist())


def test_a_pool_without_renewal_stays_as_it_is() -> None:
    lib = CMGMotionLib(replace(POOL, num_motions=2, motion_length=0.2, num_blocks=0), 4, DT, load_g1(), BODIES)
    motions, times, _ = whole(lib)
    before = lib.calc_motion_frame(motions, times)
    assert all(lib.step() is None for _ in range(200))
    assert all(torch.equal(part, other) for part, other in zip(before, lib.calc_motion_frame(motions, times)))


# Live motions -----------------------------------------------------------------------------------------------------


def now(lib: CMGMotionLib, ahead: float = 0.0) -> tuple[Tensor, ...]:
    motions = torch.arange(lib.num_motions())
    return lib.calc_motion_frame(motions, lib.elapsed_times() + ahead)


def test_what_lies_ahead_comes_true_while_the_command_stays() -> None:
    lib = CMGMotionLib(LIVE, 3, DT, load_g1(), BODIES)
    lib.set_commands(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [-0.5, 0.0, 0.0]]))
    for _ in range(120):
        lib.step()
    coming = [now(lib, ahead) for ahead in (0.1, 0.5, 1.0)]
    for step in range(1, 51):
        lib.step()
        if step in (5, 25, 50):
            shown = now(lib)
            expected = coming[(5, 25, 50).index(step)]
            assert all((part - other).abs().max() < 1e-4 for part, other in zip(shown, expected))
    assert torch.allclose(lib.calc_commands(torch.arange(3), lib.elapsed_times()), lib.target_commands)


@pytest.mark.parametrize("control_dt", [0.015, 0.03])
def test_a_live_motion_at_another_rate_is_the_generators(control_dt: float) -> None:
    """TWIST asks at its own times; the frames lie on those of the CMG."""
    lib = CMGMotionLib(LIVE, 3, control_dt, load_g1(), BODIES)
    cfg = CMGMotionGeneratorCfg(3, "realtime", control_dt=control_dt, seed=LIVE.seed + 1)
    generator = CMGMotionGenerator(cfg=cfg)
    commands = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [-0.5, 0.0, 0.0]])
    generator.reset(commands=torch.zeros(3, 3))  # as the library does when it is made
    lib.reset(commands=commands)
    generator.reset(commands=commands)
    for step in range(100):
        if step == 40:
            lib.set_commands(-commands[:1], [0])
            generator.update_commands(-commands[:1], [0])
        shown, expected = now(lib), generator.get_frames()
        assert (shown[0] - expected.root_pos_w).abs().max() < 1e-4
        # Between two frames it goes straight, the generator in a curve.
        assert (shown[4] - expected.dof_pos).abs().max() < 3e-2
        lib.step()
        generator.advance()


def test_a_new_command_leaves_the_present_as_it_is_and_other_environments_alone() -> None:
    lib, twin = (CMGMotionLib(LIVE, 3, DT, load_g1(), BODIES) for _ in range(2))
    for _ in range(60):
        lib.step()
        twin.step()
    present = now(lib)
    lib.set_commands(torch.tensor([[1.2, 0.0, 0.0]]), torch.tensor([1]))
    after = now(lib)
    assert all(torch.allclose(present[part], after[part], atol=1e-6) for part in (0, 1, 4, 5, 6))
    # The root's velocity is told with the help of the next frame, which bends towards the new command already.
    assert all((present[part] - after[part]).abs().max() < 0.05 for part in (2, 3))
    track = [now(lib)[0][1]]
    for _ in range(250):
        lib.step()
        twin.step()
        assert all(torch.equal(part[[0, 2]], other[[0, 2]]) for part, other in zip(now(lib), now(twin)))
        track.append(now(lib)[0][1])
    path = torch.stack(track)
    assert path.diff(dim=0).norm(dim=1).max() < 2.0 * DT
    assert float((path[-1] - path[-101])[:2].norm()) / 2.0 == pytest.approx(1.2, abs=0.1)


def test_a_reset_begins_at_the_origin_under_the_given_command() -> None:
    lib = CMGMotionLib(LIVE, 3, DT, load_g1(), BODIES)
    lib.set_commands(torch.tensor([[1.0, 0.0, 0.0]]).repeat(3, 1))
    for _ in range(150):
        lib.step()
    lib.reset(torch.tensor([0]), torch.tensor([[0.0, 0.0, 0.0]]))
    pos = now(lib)[0]
    assert pos[0, :2].abs().max() == 0.0 and pos[1:, 0].min() > 0.5
    assert lib.elapsed_times().tolist() == pytest.approx([0.0, 3.0, 3.0])
    assert lib.elapsed_times(torch.tensor([1])).tolist() == pytest.approx([3.0])


def test_live_commands_are_drawn_anew_where_the_configuration_says_so() -> None:
    lib = CMGMotionLib(replace(LIVE, commands=COMMANDS), 4, DT, load_g1(), BODIES)
    seen = []
    for _ in range(160):
        lib.step()
        seen.append(lib.target_commands.clone())
    changes = (torch.stack(seen).diff(dim=0).abs().amax(dim=2) > 0).sum(dim=0)
    assert changes.min() >= 1 and changes.max() <= 3


# Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (replace(POOL, mode="offline"), "mode must be one of pool, live"),
        (replace(POOL, commands=None), "commands must be given"),
        (replace(POOL, num_motions=0), "num_motions must be at least 1"),
        (replace(POOL, num_blocks=1), "num_blocks must not be 1"),
        (replace(POOL, num_blocks=9), "num_blocks must lie in 0 to num_motions = 8, got 9"),
        (replace(POOL, motion_length=0.0), "motion_length must be positive"),
        (replace(POOL, lookahead=float("nan")), "lookahead must be positive"),
        (replace(POOL, ramp_time=-1.0), "ramp_time must not be negative"),
        (replace(POOL, held_joints={"left_finger": 0.0}), "held_joints names 'left_finger'"),
        (replace(POOL, drop_joints=("tail",)), "tail"),
    ],
)
def test_an_impossible_configuration_is_refused(cfg: CMGMotionLibCfg, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CMGMotionLib(cfg, 4, DT, load_g1(), BODIES)


def test_joints_and_bodies_that_do_not_fit_are_named() -> None:
    tree = without_wrists()
    with pytest.raises(RobotError, match="'left_wrist_roll_joint' of the CMG; name it in drop_joints"):
        CMGMotionLib(POOL, 4, DT, tree, BODIES)
    with pytest.raises(RobotError, match="'finger'; give the angle at which it stays in held_joints"):
        CMGMotionLib(POOL, 4, DT, load_g1(), BODIES, joint_names=(*load_g1().joint_names, "finger"))
    with pytest.raises(RobotError, match="differ by left_knee_joint"):
        names = [name for name in load_g1().joint_names if name != "left_knee_joint"]
        cfg = replace(POOL, drop_joints=("left_knee_joint",))
        CMGMotionLib(cfg, 4, DT, load_g1(), BODIES, joint_names=names)
    with pytest.raises(RobotError, match="no body 'left_paw'"):
        CMGMotionLib(POOL, 4, DT, load_g1(), ("left_paw",))


def test_a_pool_takes_no_commands_and_knows_only_its_bodies(pool: CMGMotionLib) -> None:
    with pytest.raises(ValueError, match="mode='live'"):
        pool.set_commands(torch.zeros(4, 3))
    with pytest.raises(RobotError, match="'pelvis'; name it in body_names"):
        pool.get_key_body_idx(["pelvis"])


def _rms(values: Tensor) -> float:
    return float(values.pow(2).mean().sqrt())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lib: lib.calc_motion_frame([8], [0.0]), "motion_ids must lie in 0 to 7, got 8"),
        (lambda lib: lib.calc_motion_frame([-1], [0.0]), "motion_ids must lie in 0 to 7, got -1"),
        (lambda lib: lib.calc_motion_frame([0.5], [0.0]), "motion_ids must be whole numbers"),
        (lambda lib: lib.calc_motion_frame([0, 1], [0.0]), r"motion_times must have shape \(2,\)"),
        (lambda lib: lib.calc_motion_frame([0], [float("nan")]), "motion_times holds NaN"),
        (lambda lib: lib.calc_commands([9], [0.0]), "motion_ids must lie in"),
        (lambda lib: lib.get_motion_length(8), "motion_ids must lie in"),
        (lambda lib: lib.sample_time([8]), "motion_ids must lie in"),
        (lambda lib: lib.sample_motions(2, [1.0]), r"motion_difficulty must have shape \(8,\)"),
    ],
)
def test_motions_and_times_that_are_not_there_are_named(
    pool: CMGMotionLib, call: Callable[[CMGMotionLib], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(pool)


def test_a_live_library_takes_lists_and_says_what_does_not_fit() -> None:
    lib = CMGMotionLib(LIVE, 4, DT, load_g1(), BODIES)
    lib.reset([1], commands=[[0.5, 0.0, 0.0]])
    lib.set_commands([[99, 0, 0]], torch.tensor([0, 0, 1, 0], dtype=torch.uint8))
    held = lib.target_commands
    assert float(held[1, 0]) == 0.5 and 2.0 < float(held[2, 0]) < 4.0
    for env_ids, message in (([4], "lie in 0 to 3"), ([1, 1], "more than once"), ([1.5], "whole numbers")):
        with pytest.raises(ValueError, match=f"env_ids .*{message}"):
            lib.reset(env_ids)
        with pytest.raises(ValueError, match=f"env_ids .*{message}"):
            lib.elapsed_times(env_ids)
    with pytest.raises(ValueError, match="commands holds NaN"):
        lib.set_commands([[0.0, float("nan"), 0.0]], [0])
    assert torch.equal(lib.target_commands, held)
