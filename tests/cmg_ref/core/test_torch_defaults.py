"""Whatever torch's defaults are when a generator is made or used, it shows the same motion."""

from __future__ import annotations

import copy
import pickle
from contextlib import contextmanager
from typing import Any, Callable, ContextManager, Iterator

import pytest
import torch

from cmg_ref import CMGMotionGenerator, ReferenceMotionTerm, ReferenceMotionTermCfg, load_checkpoint, load_g1
from cmg_ref.core.torch_defaults import with_torch_defaults
from cmg_ref.trajectories.pool import TrajectoryPoolCfg
from cmg_ref.twist.motion_lib import CMGMotionLib, CMGMotionLibCfg

pytestmark = pytest.mark.slow

JOINTS = load_g1().joint_names


@contextmanager
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def no_memory() -> Iterator[None]:
    """Tensors made without a device hold no numbers, as they would lie on the GPU with that as the default device."""
    if not hasattr(torch, "set_default_device"):
        pytest.skip("this torch has no default device")
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


SETTINGS = [double_precision, torch.inference_mode, no_memory]


def generator() -> Callable[[], torch.Tensor]:
    made = CMGMotionGenerator(
        load_checkpoint(),
        6,
        preload_duration=40,
        buffer_size=20,
        pool=TrajectoryPoolCfg(num_trajectories=8, regenerate_frames_per_step=12, batch=2),
    )
    return lambda: use_generator(made)


def realtime() -> Callable[[], torch.Tensor]:
    made = CMGMotionGenerator(load_checkpoint(), 6, mode="realtime", buffer_size=20, control_dt=0.013)
    return lambda: use_generator(made)


def pregenerated() -> Callable[[], torch.Tensor]:
    made = CMGMotionGenerator(load_checkpoint(), 6, preload_duration=30)
    return lambda: use_generator(made)


def use_generator(made: CMGMotionGenerator) -> torch.Tensor:
    made.reset([1, 2], commands=[[0.5, 0.0, 0.0], [0.0, 0.0, 0.4]])
    shown = [made.get_motion()[0], made.future(3).dof_pos[:, -1]]
    for _ in range(3):
        made.advance()
        made.update_commands([[0.7, 0.1, 0.0]], [3])
        shown += [made.get_frames().dof_pos, made.commands, made.target_commands, made.root_states]
    made.set_root_pose([[1.0, 2.0, 0.5]], [4])
    made.switch_mode("realtime")
    shown += [made.root_states, made.get_motion([0])[1]]
    return torch.cat([values.flatten() for values in shown])


def term(mode: str) -> Callable[[], Callable[[], torch.Tensor]]:
    def make() -> Callable[[], torch.Tensor]:
        cfg = ReferenceMotionTermCfg(mode=mode, preload_duration=100, future_steps=(1, 2), future_joint_steps=(1, 4))
        made = ReferenceMotionTerm(cfg, 6, 0.02, JOINTS)

        def use() -> torch.Tensor:
            made.reset()
            shown = [made.root_states]
            for step in range(12):
                made.step()
                made.set_commands([[0.7, 0.1, 0.0]], [step % 6])
                made.report_failures([2])
                made.reset([4])
                shown += [made.root_states, made.key_body_pos_w, made.future().dof_pos, made.future_dof_pos]
                shown += [made.commands, *made.initial_state([1]), made.future((3,)).dof_pos]
            made.load_state_dict(made.state_dict())
            return torch.cat([values.flatten() for values in shown])

        return use

    return make


def motion_lib(mode: str) -> Callable[[], Callable[[], torch.Tensor]]:
    def make() -> Callable[[], torch.Tensor]:
        cfg = CMGMotionLibCfg(mode=mode, num_motions=4, motion_length=0.5, lookahead=0.2, num_blocks=2)
        made = CMGMotionLib(
            cfg if mode == "live" else CMGMotionLibCfg(**{**vars(cfg), "check_commands": False}),
            4,
            0.02,
            load_g1(),
            ("torso_link",),
        )

        def use() -> torch.Tensor:
            shown = []
            for _ in range(4):
                made.step()
                if mode == "live":
                    made.set_commands([[0.4, 0.0, 0.0]], [1])
                    made.reset([2])
                    shown.append(made.elapsed_times())
                motions = made.sample_motions(3)
                shown += [*made.calc_motion_frame(motions, made.sample_time(motions))]
                shown.append(made.calc_commands(motions, torch.zeros(3, dtype=torch.float32, device="cpu")))
            return torch.cat([values.flatten() for values in shown])

        return use

    return make


MAKERS = {
    "generator with a pool": generator,
    "realtime generator": realtime,
    "pregenerating generator": pregenerated,
    "term in pool": term("pool"),
    "term in realtime": term("realtime"),
    "term pregenerating": term("pregenerated"),
    "library in pool": motion_lib("pool"),
    "live library": motion_lib("live"),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", MAKERS)
def test_defaults_change_nothing(name: str, setting: Callable[[], ContextManager[Any]]) -> None:
    """Made and used under the setting, made there and used outside, used there and outside again: all show the same."""
    make = MAKERS[name]
    plain = make()
    expected = plain(), plain(), plain()
    with setting():
        use = make()
    seen = [use()]
    with setting():
        seen.append(use())
    seen.append(use())
    for own, wanted in zip(seen, expected):
        assert own.dtype == torch.float32 and torch.equal(own, wanted)


def test_a_function_finds_defaults_and_leaves_settings_alone() -> None:
    @with_torch_defaults
    def made(fails: bool = False) -> torch.Tensor:
        if fails:
            raise RuntimeError("as asked")
        return torch.zeros(2)

    with torch.inference_mode(), double_precision(), no_memory():
        for fails in (False, True):
            if fails:
                with pytest.raises(RuntimeError, match="as asked"):
                    made(fails=True)
            else:
                zeros = made()
                assert (zeros.dtype, zeros.device.type) == (torch.float32, "cpu")
                assert not zeros.is_inference() and not zeros.requires_grad
            probe = torch.zeros(2)
            assert probe.dtype == torch.float64 and probe.device.type == "meta" and probe.is_inference()


@pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copies_are_refused_in_one_line(make_copy: Callable[[Any], Any]) -> None:
    cfg = CMGMotionLibCfg(mode="live", lookahead=0.2, commands=None)
    originals: list[Any] = [
        CMGMotionGenerator(num_envs=2, mode="realtime", buffer_size=12),
        ReferenceMotionTerm(ReferenceMotionTermCfg(mode="realtime"), 2, 0.02, JOINTS),
        CMGMotionLib(cfg, 2, 0.02, load_g1(), ("torso_link",)),
    ]
    for original in originals:
        with pytest.raises(TypeError, match=f"a {type(original).__name__} cannot be copied or pickled: make another"):
            make_copy(original)
