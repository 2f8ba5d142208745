"""A fourth channel of the command, from clips to the environment, by settings alone."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref import CMGMotionGenerator, CommandSchedule, ReferenceMotionTerm, ReferenceMotionTermCfg
from cmg_ref.clips.dataset import MotionDataset, build_dataset
from cmg_ref.clips.formats.readers import read_clip
from cmg_ref.clips.formats.writers import write_npz
from cmg_ref.commands.sampler import CommandSampler, CommandSamplerCfg
from cmg_ref.commands.strata import BALANCED_STRATA
from cmg_ref.core.command_layout import NUM_VELOCITIES, VELOCITY, CommandLayout, told_to_stand
from cmg_ref.core.state_layout import StateLayout
from cmg_ref.evaluation.gait_evaluation import LOW_COMMANDS, LOW_HEIGHTS, evaluate_gait
from cmg_ref.evaluation.report import Evaluation, markdown_text
from cmg_ref.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from cmg_ref.network.model import CMG, CMGConfig
from cmg_ref.robots.robot import load_g1
from cmg_ref.rollout.clip_generation import generate_clips
from cmg_ref.rollout.rollout import Rollout
from cmg_ref.training.train_config import TrainConfig
from cmg_ref.training.trainer import Trainer, weights_for
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from tests.narrowed import narrowed

NAME = "base_height"
LAYOUT = CommandLayout.of_names([NAME])
TINY = TrainConfig(
    iterations=6,
    batch_size=16,
    horizon_start=6,
    horizon_end=8,
    model=CMGConfig(hidden=16, gate_hidden=8),
    mixed_precision=False,
    matched_after=0.3,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> MotionDataset:
    """What the shipped model does under a few commands, measured with the fourth channel, after a trip to a file."""
    commands = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.3, 0.0], [0.5, 0.0, 0.6], [0.8, 0.0, 0.0]])
    clips = generate_clips(load_checkpoint(), commands.unsqueeze(1).expand(-1, 400, -1))
    clips = [dataclasses.replace(clip, command=None) for clip in clips]
    path = tmp_path_factory.mktemp("data") / "data.safetensors"
    build_dataset(clips, load_g1(), held_out=[clips[-1].name], command_layout=LAYOUT).save(path)
    return MotionDataset.load(path)


@pytest.fixture(scope="module")
def checkpoint_file(dataset: MotionDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CMG trained on it for some steps."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(dataset, load_g1(), TINY, folder, torch.device("cpu"))
    for _ in range(TINY.iterations):
        trainer.train_step()
    trainer.validate()
    trainer.save()
    resumed = Trainer(dataset, load_g1(), TINY, folder, torch.device("cpu"))
    assert resumed.iteration == TINY.iterations and resumed.matched.wanted.shape[1] == LAYOUT.size
    return folder / "last.safetensors"


@pytest.fixture(scope="module")
def checkpoint(checkpoint_file: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_file)


@pytest.fixture(scope="module")
def plain() -> Checkpoint:
    """The shipped CMG as if it knew of velocities alone."""
    shipped = load_checkpoint()
    alone = shipped.command_layout.velocity_alone(shipped.initial_commands)
    states, commands = shipped.initial_states[alone], shipped.initial_commands[alone]
    natural = dataclasses.replace(shipped, initial_states=states, initial_commands=commands)
    return narrowed(natural, command_layout=CommandLayout())


@pytest.fixture(scope="module")
def deaf(plain: Checkpoint) -> Checkpoint:
    """The same with a fourth channel that it does not listen to."""
    model = CMG(plain.model.config, plain.layout, plain.fps, LAYOUT)
    model.load_state_dict(weights_for(model, plain))
    commands = LAYOUT.complete(plain.initial_commands)
    return dataclasses.replace(plain, model=model.eval().requires_grad_(False), initial_commands=commands)


def commands_of_all_kinds(num: int, layout: CommandLayout = LAYOUT) -> torch.Tensor:
    cfg = CommandSamplerCfg(strata=BALANCED_STRATA, further={NAME: (0.6, 0.8)})
    return CommandSampler(num, cfg, layout=layout).sample(num)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_who_is_told_to_stand_low_does_not_come_to_the_upright_stance(deaf: Checkpoint, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    stance = deaf.standing_state()
    rollout, free = (Rollout(deaf.model, backend=backend, stance=own) for own in (stance, None))
    states = deaf.initial_states[64:96]
    commands = LAYOUT.rest(len(states))
    commands[:, 3] = 0.6
    commands[::2, 3] = LAYOUT.rest()[3]
    drawn = (rollout.advance(states, commands) != free.advance(states, commands)).any(dim=1)
    assert drawn[::2].all() and not drawn[1::2].any()


def test_heights_are_measured_of_who_can_be_told_them(plain: Checkpoint, deaf: Checkpoint) -> None:
    evaluation = evaluate_gait(deaf, load_g1(), seconds=4.0)
    assert len(evaluation.low) == len(LOW_HEIGHTS) * len(LOW_COMMANDS)
    named = {measure.command: measure for measure in evaluation.measures() if measure.name == "height, off by"}
    for row in evaluation.low:  # it does not listen, and stays as high as it is
        assert 0.70 < row.reached_height < 0.85
        assert named[row.label].value == pytest.approx(row.reached_height - row.height)
        assert row.velocity_error < 0.1
    assert "height reached [m]" in markdown_text(Evaluation("some", {}, gait=evaluation))
    assert evaluate_gait(plain, load_g1(), seconds=4.0).low == []


def test_the_data_hold_what_is_measured(dataset: MotionDataset) -> None:
    assert dataset.command_layout == LAYOUT
    height = dataset.states[:, dataset.layout["root_height"]].squeeze(1)
    assert (dataset.commands[:, LAYOUT.column(NAME)] - height).abs().max() < 0.05
    assert dataset.commands[:, LAYOUT.column(NAME)].std() > 0.001


def test_the_checkpoint_keeps_the_layout(checkpoint: Checkpoint, dataset: MotionDataset) -> None:
    assert checkpoint.command_layout == LAYOUT and checkpoint.command_min.shape == (LAYOUT.size,)
    assert checkpoint.command_max.tolist()[NUM_VELOCITIES:] == pytest.approx(LAYOUT.highest[NUM_VELOCITIES:])


def test_a_training_keeps_the_range_of_the_heights_that_it_begins_with(
    dataset: MotionDataset, deaf: Checkpoint
) -> None:
    """Commands are scaled by it before the first layer."""
    begun = copy.deepcopy(deaf)
    begun.model.command_max[LAYOUT.column(NAME)] = 0.77
    config = dataclasses.replace(TINY, model=begun.model.config)
    trainer = Trainer(dataset, load_g1(), config, Path("nowhere"), torch.device("cpu"), initial=begun)
    assert torch.equal(trainer.model.command_max, begun.command_max)


def test_a_training_may_begin_with_a_checkpoint_that_lacks_it(
    dataset: MotionDataset, plain: Checkpoint, deaf: Checkpoint
) -> None:
    early = narrowed(plain, StateLayout.with_root(29))
    config = dataclasses.replace(TINY, model=early.model.config)
    trainer = Trainer(dataset, load_g1(), config, Path("nowhere"), torch.device("cpu"), initial=early)
    states, commands = early.initial_states[:8], early.initial_commands[:8]
    known = early.model.normalise(states, commands)
    expected = early.model.network(known)
    state, told = known.split((early.layout.size, NUM_VELOCITIES), dim=1)
    phase = torch.randn(len(states), trainer.model.layout.size - early.layout.size)
    inputs = torch.cat((state, phase, told, torch.tensor([[-1.0], [1.0]]).repeat(4, 1)), dim=1)
    outputs = trainer.model.network(inputs)[:, : expected.shape[1]]
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-4)
    without = dataclasses.replace(dataset, command_layout=CommandLayout(), commands=dataset.commands[:, VELOCITY])
    with pytest.raises(ValueError, match=r"initial checkpoint has CommandLayout"):
        Trainer(without, load_g1(), config, Path("nowhere"), torch.device("cpu"), initial=deaf)


def test_commands_of_it_are_drawn_within_their_range_and_all_else_rests() -> None:
    commands = commands_of_all_kinds(500)
    height = commands[:, LAYOUT.column(NAME)]
    assert 0.6 <= height.min() < 0.62 and 0.78 < height.max() <= 0.8
    standing = (commands[:, VELOCITY] == 0.0).all(dim=1)
    assert standing.any() and height[standing].std() > 0.03
    asked = height != LAYOUT.channels[-1].rest
    assert 0.4 < float(asked.float().mean()) < 0.6
    assert float(commands[asked, 0].max()) == 1.0 and float(commands[~asked, 0].max()) > 2.0
    resting = CommandSampler(10, CommandSamplerCfg(), layout=LAYOUT).sample(10)
    assert (resting[:, LAYOUT.column(NAME)] == LAYOUT.channels[-1].rest).all()
    with pytest.raises(ValueError, match="the reference takes no 'base_height'"):
        commands_of_all_kinds(3, CommandLayout())


@pytest.mark.parametrize("mode", ["realtime", "pregenerated", "pool"])
def test_the_network_is_told_it_in_every_mode(checkpoint: Checkpoint, mode: str) -> None:
    motions = []
    for height in (0.6, 0.8):
        pool = TrajectoryPoolCfg(num_trajectories=8, max_guard_share=1.0) if mode == "pool" else None
        kind: Any = "pregenerated" if mode == "pool" else mode
        generator = CMGMotionGenerator(checkpoint, 4, mode=kind, preload_duration=150, pool=pool, seed=1)
        commands = commands_of_all_kinds(4)
        commands[:, LAYOUT.column(NAME)] = height
        generator.reset(commands=commands)
        generator.update_commands(commands)
        for _ in range(90):  # some have far to go
            generator.advance()
        assert (generator.commands[:, LAYOUT.column(NAME)] - height).abs().max() < 1e-6
        motions.append(generator.get_motion()[0].clone())
    assert (motions[0] - motions[1]).abs().max() > 1e-4


@pytest.mark.parametrize("mode", ["realtime", "pregenerated"])
@pytest.mark.parametrize("num", [2, 40])
def test_a_channel_that_nobody_listens_to_changes_nothing(
    plain: Checkpoint, deaf: Checkpoint, mode: Any, num: int
) -> None:
    commands = commands_of_all_kinds(num)
    commands[told_to_stand(commands), NUM_VELOCITIES:] = LAYOUT.rest()[
        NUM_VELOCITIES:
    ]  # who stands low is not drawn up
    shown = []
    for checkpoint, told in ((deaf, commands), (plain, commands[:, VELOCITY])):
        generator = CMGMotionGenerator(checkpoint, num, mode=mode, preload_duration=150, seed=1)
        standing = generator.standing_states[:1].expand(num, -1)
        generator.reset(commands=told, init_motion=(standing[:, :29], standing[:, 29:58]))
        for _ in range(60):
            generator.advance()
        shown.append(torch.cat((*generator.get_motion(), generator.root_states), dim=1))
    torch.testing.assert_close(shown[0], shown[1], atol=1e-4, rtol=1e-4)


def test_velocities_alone_leave_the_other_channels_at_rest(deaf: Checkpoint) -> None:
    velocities = torch.tensor([[0.6, 0.0, 0.2], [0.0, 0.3, 0.0]])
    generator = CMGMotionGenerator(deaf, 2, mode="realtime", seed=1, interpolation_steps=0)
    term = ReferenceMotionTerm(
        ReferenceMotionTermCfg(checkpoint=deaf, mode="realtime"), 2, 0.02, deaf.joint_names, "cpu"
    )
    generator.reset(commands=velocities)
    assert torch.equal(generator.target_commands, LAYOUT.complete(velocities))
    generator.update_commands(velocities[:1].flip(1), [1])
    assert torch.equal(generator.target_commands[1], LAYOUT.complete(velocities[0].flip(0)))
    term.reset([0, 1], commands=velocities)
    assert term.commands.shape == (2, NUM_VELOCITIES)
    assert torch.equal(term.generator.target_commands, LAYOUT.complete(velocities))
    with pytest.raises(ValueError, match=r"commands must have shape \(2, 3\) or \(2, 4\)"):
        generator.update_commands(torch.zeros(2, 2))


def test_roll_outs_and_clips_take_velocities_alone(deaf: Checkpoint) -> None:
    stance, velocities = deaf.standing_state().expand(2, -1), torch.tensor([0.6, 0.0, 0.2]).expand(2, 40, 3)
    states, clips = [], []
    for commands in (velocities, LAYOUT.complete(velocities)):
        states.append(Rollout(deaf.model).generate(stance, commands))
        clips.append(generate_clips(deaf, commands)[1])
    assert torch.equal(*states)
    assert torch.equal(clips[0].dof_pos, clips[1].dof_pos)
    written = [clip.command for clip in clips]
    assert written[0] is not None and written[1] is not None
    assert torch.equal(written[0], written[1]) and written[0].shape == (40, LAYOUT.size)


@pytest.mark.parametrize("mode", ["pool", "pregenerated", "realtime"])
def test_a_term_shows_the_channels_that_are_drawn(deaf: Checkpoint, mode: Any) -> None:
    told, pool = torch.tensor([[0.4, 0.0, 0.0, 0.62]]), TrajectoryPoolCfg(num_trajectories=8)
    for further in ({}, {NAME: (0.5, 0.6)}):
        cfg = ReferenceMotionTermCfg(
            deaf, mode, pool=pool, command_sampler=CommandSamplerCfg(further=further, further_share=1.0)
        )
        term = ReferenceMotionTerm(cfg, 4, 0.02, deaf.joint_names)
        term.reset()
        assert term.commands.shape[1] == term.target_commands.shape[1] == term.command_layout.size == 3 + len(further)
        heights = term.generator.target_commands[:, 3]
        assert ((heights >= 0.5) & (heights <= 0.6)).all() if further else (heights == LAYOUT.rest()[3]).all()
        term.set_commands(told, [2])
        assert torch.equal(term.generator.target_commands[2], told[0])


def test_loops_and_kernels_say_what_torch_says(deaf: Checkpoint) -> None:
    commands = commands_of_all_kinds(48)
    states = deaf.initial_states[torch.arange(48) % len(deaf.initial_states)]
    rollout = Rollout(deaf.model)
    expected, _ = rollout.step(states, commands)
    torch.testing.assert_close(rollout.advance(states, commands), expected, atol=1e-5, rtol=1e-5)
    pytest.importorskip("triton", reason="the kernels are Triton's")
    from cmg_ref.cuda_graph.triton_frame import TritonFrame
    from cmg_ref.network.side_by_side_network import SideBySideNetwork

    network = SideBySideNetwork(deaf.model, "cpu")
    kernels = TritonFrame(rollout.model, network, rollout.standing, rollout.guard_count)
    following, guarded = torch.empty_like(states), torch.zeros(len(states), dtype=torch.bool)
    kernels.step(states, commands, following, guarded)
    torch.testing.assert_close(following, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("without_graphs")
def test_kernels_begin_and_change_motions_under_it(deaf: Checkpoint) -> None:
    pytest.importorskip("triton", reason="the kernels are Triton's")
    if torch.cuda.is_available():
        pytest.skip("test_cuda.py runs the kernels themselves where there is a GPU")
    commands, shown = commands_of_all_kinds(5), []
    commands[0, LAYOUT.column(NAME)] = 2.0  # out of its range
    for backend in ("torch", "cuda_graph"):
        generator = CMGMotionGenerator(deaf, 5, mode="realtime", buffer_size=12, seed=1, backend=backend)
        assert (generator._shown.changes is not None) == (backend == "cuda_graph")
        generator.reset([1, 4], commands=commands[:2])
        generator.update_commands(commands[2:4], [0, 4])
        generator.advance()
        generator.reset([3])
        shown.append(
            (generator.commands, generator.target_commands, generator.command_excess, generator.get_motion()[0])
        )
    assert not torch.equal(shown[0][0], LAYOUT.rest(5))
    for ours, expected in zip(*shown, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_clips_remember_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    schedule = CommandSchedule.constant(vx=0.5, height=0.7, layout=LAYOUT)
    (clip,) = generate_clips(checkpoint, schedule.sample(checkpoint.fps, 1.0).unsqueeze(0))
    write_npz(clip, tmp_path / "clip.npz")
    read = read_clip(tmp_path / "clip.npz")
    assert read.command_layout == LAYOUT and read.command is not None and clip.command is not None
    torch.testing.assert_close(read.command, clip.command.float().double())
    signs = [command[-1] for command in (read.mirrored(load_g1()).command, read.command) if command is not None]
    assert signs[0].tolist() == pytest.approx((signs[1] * torch.tensor(LAYOUT.mirror)).tolist())


def test_the_step_is_exported_with_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from cmg_ref.export import export_torchscript, read_description

    export_torchscript(checkpoint, tmp_path / "step.pt")
    assert CommandLayout.from_json(read_description(tmp_path / "step.pt")["command_layout"]) == LAYOUT
    pytest.importorskip("onnx")
    session_of = pytest.importorskip("onnxruntime").InferenceSession
    from cmg_ref.export import export_onnx

    export_onnx(checkpoint, tmp_path / "step.onnx")
    assert session_of(str(tmp_path / "step.onnx")).get_inputs()[1].shape[1] == LAYOUT.size
    assert json.dumps(read_description(tmp_path / "step.onnx"))


def test_a_reference_term_is_given_it(checkpoint: Checkpoint) -> None:
    sampler = CommandSamplerCfg(strata=BALANCED_STRATA, further={NAME: (0.6, 0.8)})
    cfg = ReferenceMotionTermCfg(checkpoint=checkpoint, mode="realtime", command_sampler=sampler)
    term = ReferenceMotionTerm(cfg, 8, 0.02, load_g1().joint_names)
    term.reset()
    for _ in range(60):
        term.step()
    assert term.commands.shape == (8, LAYOUT.size)
    assert term.target_commands[:, LAYOUT.column(NAME)].std() > 0.01
    term.report_failures(torch.arange(3))


def test_the_environment_plays_it(checkpoint_file: Path) -> None:
    pytest.importorskip("mujoco")
    from envs.evaluation.cases import command_name
    from envs.playing.playback import command_range, play, playback_config, playback_table
    from envs.tasks.task_registry import task_registry
    from envs.terms.commands import configured_layout

    cfg, _ = task_registry.get_cfgs("g1_cmg")
    cfg.reference.checkpoint = str(checkpoint_file)
    cfg.commands.ranges.further = {NAME: (0.6, 0.8)}
    cfg = playback_config(cfg, 1.0)
    env: Any = task_registry.make_env("g1_cmg", env_cfg=cfg)[0]
    assert configured_layout(cfg.commands) == env.command_layout == LAYOUT
    term = next(term for term in env.observation_layout["policy"] if term.name == "commands")
    assert (term.size, term.mirror) == (3, (1.0, -1.0, -1.0))  # the reference shows what else it is told
    assert command_range(env)[1][LAYOUT.column(NAME)] == pytest.approx(0.8)
    schedule = CommandSchedule.constant(vx=0.3, height=0.7, layout=LAYOUT)
    played = play(env, lambda seen: torch.zeros(len(seen), env.num_actions), iter(schedule.sample(50.0, 0.4)))
    assert played.robot.command_layout == LAYOUT
    assert "command vx, vy, wz, height" in playback_table(played, schedule)
    assert env.term.target_commands[0].tolist() == pytest.approx([0.3, 0.0, 0.0, 0.7])
    assert command_name((0.3, 0.0, 0.0)) == "vx 0.3"


def test_an_environment_that_does_not_name_it_leaves_it_at_rest(
    plain: Checkpoint, deaf: Checkpoint, tmp_path: Path
) -> None:
    pytest.importorskip("mujoco")
    from envs.tasks.task_registry import task_registry

    cfg, _ = task_registry.get_cfgs("g1_cmg")
    save_checkpoint(deaf, tmp_path / "deaf.safetensors")
    cfg.reference.checkpoint, cfg.env.num_envs = str(tmp_path / "deaf.safetensors"), 3
    env: Any = task_registry.make_env("g1_cmg", env_cfg=cfg)[0]
    assert env.command_layout == CommandLayout() and env.commands.shape == (3, NUM_VELOCITIES)
    assert next(term for term in env.observation_layout["policy"] if term.name == "commands").size == NUM_VELOCITIES
    env.set_commands(torch.tensor([[0.4, 0.0, 0.2]]), [1])
    env.commands[2, 1] = 0.3
    for _ in range(2):  # nobody falls as soon as that
        env.step(torch.zeros(3, env.num_actions))
    told = env.reference.generator.target_commands
    assert told[1].tolist() == pytest.approx([0.4, 0.0, 0.2, *LAYOUT.rest()[NUM_VELOCITIES:].tolist()])
    assert float(told[2, 1]) == pytest.approx(0.3)
    assert env.command_source.targets[1].tolist() == pytest.approx([0.4, 0.0, 0.2])
    save_checkpoint(plain, tmp_path / "plain.safetensors")
    cfg.reference.checkpoint, cfg.commands.ranges.further = str(tmp_path / "plain.safetensors"), {NAME: (0.6, 0.8)}
    with pytest.raises(ValueError, match=r"further, .* takes no 'base_height', only lin_vel_x"):
        task_registry.make_env("g1_cmg", env_cfg=cfg)


class Unexported:
    """What a file is made of, run as `ExportedController` runs the file, which takes a minute to make."""

    def __init__(self, policy: Any, checkpoint: Checkpoint) -> None:
        from envs.deployment.controller import Controller

        self._controller = Controller(policy, checkpoint).eval().requires_grad_(False)
        self._default = torch.tensor(policy.description.default_dof_pos)
        self._state = np.zeros((1, self._controller.state_size), np.float32)
        self._standing = self._controller.standing.numpy()
        self.command_labels = list(self._controller.command_layout.labels)

    def step(self, *measured: np.ndarray) -> np.ndarray:
        ang_vel, gravity, command, joint_pos, joint_vel = map(torch.from_numpy, measured)
        observation = torch.cat((ang_vel, gravity, command, joint_pos - self._default, joint_vel)).unsqueeze(0)
        _, state, targets = self._controller(observation, torch.from_numpy(self._state))
        self._state = state.numpy()
        return targets[0].numpy()


@pytest.mark.parametrize("named", [True, False])
def test_the_exported_controller_does_what_the_environment_does(deaf: Checkpoint, tmp_path: Path, named: bool) -> None:
    for package in ("mujoco", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    from envs.deployment.controller_export import export_controller
    from envs.deployment.exported_controller import ExportedController
    from envs.learning.policy import Policy, describe_policy
    from envs.playing.playback import play, playback_config
    from envs.tasks.task_registry import task_registry

    save_checkpoint(deaf, tmp_path / "deaf.safetensors")
    cfg, _ = task_registry.get_cfgs("g1_cmg")
    cfg.reference.checkpoint = str(tmp_path / "deaf.safetensors")
    cfg.commands.ranges.further = {NAME: (0.6, 0.8)} if named else {}
    layout = LAYOUT if named else CommandLayout()
    env: Any = task_registry.make_env("g1_cmg", env_cfg=playback_config(cfg, 2.0))[0]
    torch.manual_seed(0)
    policy = Policy(describe_policy(env, "g1_cmg"), (8,)).eval().requires_grad_(False)
    last: Any = policy.mlp[-1]
    last.weight *= 0.05  # it has learnt nothing, and shall not make the robot fall
    controller: Any = Unexported(policy, deaf)
    if named:
        export_controller(policy, tmp_path / "controller.onnx", tmp_path / "deaf.safetensors")
        controller = ExportedController(tmp_path / "controller.onnx")
    assert controller.command_labels == list(layout.labels)
    differences: list[float] = []

    def act(observations: torch.Tensor) -> torch.Tensor:
        if not differences:  # The environment begins in one of several stances, the file in one of them.
            stances = env.term.generator.standing_states
            stance = stances[int((stances[:, :29] - env.term.dof_pos).abs().sum(dim=1).argmin())]
            controller._state[0, : len(stance)] = stance.numpy() - controller._standing
        actions = policy(observations)
        measured = (env.base_ang_vel, env.projected_gravity, env.command_source.targets, env.dof_pos, env.dof_vel)
        targets = controller.step(*(value[0].numpy() for value in measured))
        limit = policy.description.action_limit
        wanted = env._joint_targets(actions.clamp(-limit, limit))[0].numpy()
        differences.append(float(abs(targets - wanted).max()))
        return actions

    events = [(0.0, 0.0, 0.0, 0.0, 0.65), (0.6, 0.3, 0.0, 0.2, 0.7)]
    schedule = CommandSchedule([event[: 1 + layout.size] for event in events], layout=layout)
    play(env, act, iter(schedule.sample(50.0, 1.0)))
    assert len(differences) >= 35 and max(differences) <= 1e-4  # it may fall after the second command
