"""What is driven, and the loop that drives it, without a page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mujoco.batch")

from cmg_ref.core.command_layout import CommandLayout
from envs.cli.drive import REFERENCE, SHIPPED, robots_of, what_to_drive
from envs.deployment.exported_controller import ArtefactError
from envs.driving.robots import DrivenRobots, PolicyRobots, ReferenceRobots, RunRobots, Twist2Robots
from envs.driving.session import Session
from envs.learning.policy import Policy, PolicyError, load_policy
from envs.learning.training_run import RunError

pytestmark = pytest.mark.slow


def steps(session: Session, seconds: float) -> None:
    for _ in range(round(seconds / session.robots.dt)):
        session.step()


def place(session: Session, robot: int = 0) -> torch.Tensor:
    """X and y of a robot [m]."""
    return session.shown.poses.root_pos[robot, :2]


def gone(session: Session, since: torch.Tensor, robot: int = 0) -> float:
    return float((place(session, robot) - since).norm())


@pytest.fixture(scope="module")
def ours() -> PolicyRobots:
    return PolicyRobots(load_policy(), 1, SHIPPED)


@pytest.fixture
def walking(ours: PolicyRobots) -> Session:
    """A session of the package's policy that has just begun."""
    ours.reset()
    ours.set_friction(1.0)
    return Session(ours)


def test_a_wish_that_changes_in_every_step_is_followed_with_limited_acceleration() -> None:
    session = Session(ReferenceRobots(1))
    robots, commands = session.robots, []
    for step in range(150):
        session.want(torch.tensor([1.0 + 0.001 * step, 0.0, 0.0]))
        session.step()
        commands.append(session.shown.command)
    changes = torch.stack(commands).diff(dim=0).abs()
    assert bool((changes <= robots.acceleration * robots.dt + 1e-6).all())
    torch.testing.assert_close(commands[-1], robots.layout.complete(torch.tensor([1.149, 0.0, 0.0])))
    record = session.record()
    assert record is not None
    assert float(record.measured[-25:, 0].mean()) == pytest.approx(1.1, abs=0.15)
    session.want(torch.tensor([99.0, -99.0, 0.0]))
    torch.testing.assert_close(session.wanted[:2], torch.stack((robots.highest[0], robots.lowest[1])))


def test_the_random_schedule_stays_within_the_range_and_changes() -> None:
    session = Session(ReferenceRobots(1))
    session.random, wanted = True, set()
    for _ in range(600):
        session.step()
        assert bool((session.wanted >= session.robots.lowest).all() & (session.wanted <= session.robots.highest).all())
        wanted.add(tuple(session.wanted.tolist()))
    assert len(wanted) >= 3


def test_our_policy_walks_beside_its_reference_and_begins_again(walking: Session) -> None:
    start = place(walking)
    walking.want(torch.tensor([1.0, 0.0, 0.0]))
    steps(walking, 4.0)
    assert gone(walking, start) > 2.5 and walking.falls == 0
    record, shown = walking.record(), walking.shown
    assert record is not None and shown.reference is not None
    assert float(record.measured[-60:-20, 0].mean()) == pytest.approx(1.0, abs=0.2)
    torch.testing.assert_close(shown.reference.root_pos[:, :2], shown.poses.root_pos[:, :2])
    assert float((shown.reference.dof_pos - shown.poses.dof_pos).abs().mean()) < 0.15
    walking.reset()
    walking.step()
    assert gone(walking, start) < 0.2 and not walking.wanted[:3].any() and walking.shown.time == pytest.approx(0.02)


def test_a_push_moves_a_robot_and_a_fallen_one_stands_up_where_it_lay(walking: Session) -> None:
    steps(walking, 1.0)
    start = place(walking)
    walking.push(0.5)
    walking.step()
    assert gone(walking, start) == pytest.approx(0.01, abs=0.005)  # at once, within a step of 0.02 s
    walking.want(torch.tensor([1.5, 0.0, 0.0]))
    steps(walking, 3.0)
    before = place(walking)
    for _ in range(300):
        walking.push(0.7)  # in every step, until it falls
        walking.step()
        if walking.falls:
            break
    assert walking.falls == 1 and not walking.shown.command[:3].any()
    assert gone(walking, start) > 1.0 and gone(walking, before) < 4.0
    steps(walking, 1.0)
    assert walking.falls == 1 and float(walking.shown.poses.root_pos[0, 2]) > 0.6


def test_a_slippery_floor_lets_feet_slip(walking: Session) -> None:
    def far(friction: float) -> float:
        walking.reset()
        walking.set_friction(friction)
        walking.step()
        start = place(walking)
        walking.want(torch.tensor([2.0, 0.0, 0.0]))
        steps(walking, 2.0)
        return gone(walking, start) if walking.falls == 0 else 0.0

    assert far(1.0) > far(0.02) + 1.0


def test_several_robots_obey_and_differ() -> None:
    session = Session(PolicyRobots(load_policy(), 3, SHIPPED))
    session.want(torch.tensor([0.6, 0.0, 0.0]))
    starts = session.shown.poses.root_pos[:, :2]
    steps(session, 3.0)
    away = (session.shown.poses.root_pos[:, :2] - starts).norm(dim=1)
    assert away.shape == (3,) and bool((away > 0.8).all())
    assert not torch.equal(session.shown.poses.dof_pos[0], session.shown.poses.dof_pos[1])


def write_checkpoint(path: Path, policy: Policy) -> None:
    """What a training leaves, as far as a policy is read from it."""
    actor = policy.state_dict()
    actor["obs_normalizer._mean"] = actor.pop("mean").unsqueeze(0)
    actor["obs_normalizer._std"] = actor.pop("scale").unsqueeze(0) - 1e-2
    empty = ("actor_state_dict", "critic_state_dict", "optimizer_state_dict", "environment", "infos", "evaluations")
    state: dict[str, Any] = {name: {} for name in empty}
    state.update(warm_up_left=0, torch_rng=None, total_steps=0, total_time=0.0, best_score=0.0, iter=1)
    state.update(description=asdict(policy.description), activation=policy.activation, policy=actor)
    torch.save(state, path)


def test_the_newest_checkpoint_of_a_run_is_taken_over_while_it_is_driven(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(RunError, match="holds no run"):
        robots_of(run)
    write_checkpoint(run / "model_1.pt", load_policy())
    robots = robots_of(tmp_path)(1)  # of the runs in a folder, the newest
    assert isinstance(robots, RunRobots) and robots.origin == "model_1.pt of run"
    session = Session(robots)
    steps(session, 0.2)
    session.want(torch.tensor([0.6, 0.0, 0.0]))
    other = load_policy()
    for parameter in other.parameters():
        parameter.zero_()
    write_checkpoint(run / "model_2.pt", other)
    robots.refresh_policy()
    assert robots.origin == "model_2.pt of run"
    (run / "model_3.pt").write_bytes(b"half of it")
    with pytest.raises(PolicyError, match=r"model_3\.pt"):
        robots.refresh_policy()
    assert robots.origin == "model_2.pt of run"
    steps(session, 8.0)
    assert session.falls > 0  # without corrections nobody walks for long


def test_twist2s_policy_walks_turns_and_is_pushed(twist2_folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    session = Session(robots_of(twist2_folder / "twist2_1017_20k.onnx")(2))
    assert isinstance(session.robots, Twist2Robots)
    start = place(session, 1)
    session.want(torch.tensor([0.8, 0.0, 0.0]))
    steps(session, 4.0)
    assert gone(session, start, 1) > 1.5 and session.falls == 0
    reference = session.shown.reference
    assert reference is not None
    assert float((reference.dof_pos - session.shown.poses.dof_pos).abs().mean()) < 0.2
    session.push(4.0)
    steps(session, 2.0)
    assert session.falls > 0
    session.reset()
    session.step()
    assert gone(session, start, 1) < 0.1
    session.set_friction(0.5)
    session.step()


@pytest.fixture
def running() -> Iterator[Session]:
    """A session whose loop runs in real time."""
    session = Session(ReferenceRobots(1))
    loop = threading.Thread(target=session.run)
    loop.start()
    yield session
    session.end()
    loop.join()


def test_robots_are_exchanged_while_the_loop_runs(running: Session, ours: PolicyRobots) -> None:
    ours.reset()
    running.drive(ours)
    assert running.robots is ours
    running.drive(ReferenceRobots(2))
    assert running.robots.num_robots == 2


class Standing(DrivenRobots):
    """Robots that stand at the height they are told: their command has a channel more than the velocity."""

    def __init__(self) -> None:
        still = ReferenceRobots(1)
        layout = CommandLayout.of_names(["base_height"])
        low, high = torch.tensor(layout.lowest), torch.tensor(layout.highest)
        super().__init__(1, layout, low, high, high - low, 0.02, still.robot)
        self._poses = still.poses()

    def reset(self) -> None:
        pass

    def step(self, commands: torch.Tensor) -> torch.Tensor:
        root_pos = torch.cat((self._poses.root_pos[:, :2], commands[:, 3:]), dim=1)
        self._poses = self._poses._replace(root_pos=root_pos)
        return torch.zeros(1, dtype=torch.bool)

    def poses(self) -> Any:
        return self._poses


def test_the_shipped_policy_is_driven_to_a_height() -> None:
    robots = PolicyRobots(load_policy(), 1, SHIPPED)
    assert robots.layout.names[3:] == ("base_height",)
    assert (float(robots.lowest[3]), float(robots.highest[3])) == pytest.approx((0.6, 0.75))
    session = Session(robots)
    session.want(torch.tensor([0.0, 0.0, 0.0, 0.62]))
    steps(session, 6.0)
    assert float(session.shown.poses.root_pos[0, 2]) == pytest.approx(0.62, abs=0.02)


def test_a_further_channel_is_driven_and_measured_and_has_a_slider(running: Session) -> None:
    viser = pytest.importorskip("viser", reason="not installed: pip install 'cmg_ref[drive]'")
    from envs.driving.page import Page

    server = viser.ViserServer(host="127.0.0.1", port=8120, verbose=False)
    try:
        page = Page(server, running, {REFERENCE: ReferenceRobots, "standing": lambda _: Standing()})
        page.choose("standing")
        assert [slider.label for slider in page.sliders] == ["vx [m/s]", "vy [m/s]", "wz [rad/s]", "height [m]"]
        page.sliders[3].value = 0.6
        torch.testing.assert_close(running.wanted, torch.tensor([0.0, 0.0, 0.0, 0.6]))
        while running.shown.time < 2.0:
            time.sleep(0.02)
        record = running.record()
        assert record is not None and float(record.measured[-1, 3]) == pytest.approx(0.6, abs=0.02)
        page.stop()
        assert page.sliders[3].value == 0.75
    finally:
        server.stop()


def test_what_cannot_be_driven_is_one_line(tmp_path: Path) -> None:
    for name, error in (("absent", FileNotFoundError), ("a.safetensors", PolicyError), ("a.pt", PolicyError)):
        if name != "absent":
            (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(error) as caught:
            what_to_drive([tmp_path / name])
        assert name in str(caught.value) and "\n" not in str(caught.value)
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(ArtefactError, match=r"a\.onnx"):
        what_to_drive([tmp_path / "a.onnx"])[str(tmp_path / "a.onnx")](1)
