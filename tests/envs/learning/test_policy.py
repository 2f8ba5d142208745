"""Policy files: what they say of themselves, what is refused, and their ONNX form."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("mujoco.batch")

from envs.deployment.policy_export import METADATA_KEY, export_policy
from envs.learning.policy import (
    SHIPPED_POLICY,
    Policy,
    PolicyDescription,
    PolicyError,
    average_policies,
    describe_policy,
    load_policy,
    save_policy,
)
from envs.tasks.task_registry import task_registry

HIDDEN = (16, 8)


@pytest.fixture(scope="module")
def description() -> PolicyDescription:
    env_cfg, _ = task_registry.get_cfgs("g1")
    return describe_policy(task_registry.make_env("g1", env_cfg=env_cfg, num_envs=1)[0], "g1")


@pytest.fixture()
def policy(description: PolicyDescription) -> Policy:
    torch.manual_seed(0)
    policy = Policy(description, HIDDEN)
    policy.mean.normal_()
    policy.scale.uniform_(0.5, 2.0)
    return policy.eval().requires_grad_(False)


def test_the_description_is_that_of_the_environment(description: PolicyDescription) -> None:
    assert description.task == "g1" and len(description.joint_names) == 29
    assert description.stiffness[description.joint_names.index("left_knee_joint")] == 150.0
    assert description.control_dt == pytest.approx(0.02)
    assert ("base_ang_vel", 3, 0.25) in description.observations
    assert description.reference == "" and "default_dof_pos" in description.action_meaning
    assert description.config["control"]["stiffness"]["knee"] == 150.0


def test_a_saved_policy_comes_back(policy: Policy, tmp_path: Path) -> None:
    save_policy(policy, tmp_path / "policy.safetensors")
    again = load_policy(tmp_path / "policy.safetensors")
    assert again.description == PolicyDescription.from_json(
        json.loads(json.dumps(dataclasses.asdict(policy.description)))
    )
    assert again.description.mismatch(policy.description) == ""
    observations = torch.randn(5, policy.description.num_observations)
    assert torch.equal(again(observations), policy(observations))


def test_what_a_policy_has_to_be_told_is_the_command_unless_it_says_otherwise(policy: Policy) -> None:
    commands = torch.tensor([[0.7, -0.2, 0.3]])
    assert torch.equal(policy.description.command_calibration()(commands), commands)
    nodes: dict[str, object] = {name: [0.0, 1.0] for name in ("lin_vel_x", "lin_vel_y", "ang_vel_yaw")}
    fields = {**nodes, "offsets": [[0.0] * 3] + [[0.1, 0.0, -0.1]] * 7}
    calibrated = dataclasses.replace(policy.description, calibration=fields)
    offset = calibrated.command_calibration()(torch.ones(1, 3)) - 1.0
    torch.testing.assert_close(offset, torch.tensor([[0.1, 0.0, -0.1]]))
    broken = dataclasses.replace(policy.description, calibration={**fields, "offsets": []})
    with pytest.raises(PolicyError, match="its calibration cannot be used"):
        broken.command_calibration()


def test_observations_are_normalised(policy: Policy) -> None:
    inside = torch.randn(3, policy.description.num_observations)
    assert torch.allclose(policy(policy.mean + policy.scale * inside), policy.mlp(inside), atol=1e-5)


def test_an_actor_of_other_sizes_is_refused(policy: Policy) -> None:
    state = {f"mlp.{name}": value for name, value in policy.mlp.state_dict().items()}
    state["mlp.0.weight"] = state["mlp.0.weight"][:, 1:]
    with pytest.raises(PolicyError, match="observations"):
        Policy.from_actor_state(state, policy.description)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joint_names": ("wheel",) * 29}, "another robot: it lacks .*left_hip_pitch_joint.*it has wheel"),
        ({"observations": (("commands", 3, 2.0),)}, r"commands \(3 times 2\) where the task has"),
        ({"control_dt": 0.01}, "every 0.01 s, the task every 0.02 s"),
        ({"action_meaning": "torques"}, "mean something else"),
        ({"action_scale": (1.0,) * 29}, "action_scale of .* is 1 rad"),
    ],
)
def test_a_mismatch_is_named(description: PolicyDescription, change: dict[str, object], message: str) -> None:
    assert description.mismatch(description) == ""
    with pytest.raises(PolicyError, match=message):
        raise PolicyError(dataclasses.replace(description, **change).mismatch(description))  # type: ignore[arg-type]


def test_bad_files_are_refused(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no such policy file"):
        load_policy(tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(PolicyError, match="truncated, damaged or not a policy"):
        load_policy(tmp_path / "bad.safetensors")
    from cmg_ref.network.checkpoint import SHIPPED_CHECKPOINT

    with pytest.raises(PolicyError, match="holds no policy"):
        load_policy(SHIPPED_CHECKPOINT)


def test_the_exported_policy_describes_itself(policy: Policy, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert export_policy(policy, tmp_path / "policy.onnx") <= 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx"), providers=["CPUExecutionProvider"])
    observations = policy.mean + policy.scale * torch.randn(7, policy.description.num_observations)
    (actions,) = session.run(["actions"], {"observations": observations.numpy()})
    assert actions.shape == (7, 29)
    torch.testing.assert_close(torch.from_numpy(actions), policy(observations), rtol=0.0, atol=1e-5)
    entries = session.get_modelmeta().custom_metadata_map
    assert PolicyDescription.from_json(json.loads(entries[METADATA_KEY])).mismatch(policy.description) == ""
    assert json.loads(entries["joint_names"]) == list(policy.description.joint_names)
    for name in ("stiffness", "damping", "default_dof_pos", "action_scale", "observations"):
        assert json.loads(entries[name])
    # One file: the weights are inside.
    assert [path.name for path in tmp_path.iterdir()] == ["policy.onnx"]


def test_an_export_that_differs_is_not_kept(policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("envs.deployment.policy_export.TOLERANCE", -1.0)
    with pytest.raises(PolicyError, match="differs by"):
        export_policy(policy, tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not SHIPPED_POLICY.is_file(), reason="no policy is shipped yet")
def test_the_shipped_policy_fits_its_task() -> None:
    policy = load_policy()
    env_cfg, _ = task_registry.get_cfgs(policy.description.task)
    env, _ = task_registry.make_env(policy.description.task, env_cfg=env_cfg, num_envs=1)
    here = describe_policy(env, policy.description.task)
    assert policy.description.mismatch(here) == ""
    assert policy.description.reference == here.reference, "it was trained with another reference"
    assert SHIPPED_POLICY.with_suffix(".md").is_file(), "it has no card"


def test_policies_are_averaged(tmp_path: Path) -> None:
    policy = load_policy()
    other = copy.deepcopy(policy)
    for tensor in (*other.parameters(), other.mean):
        tensor.add_(2.0)
    mean = average_policies([policy, other])
    assert mean.description == policy.description
    for own, first, second in zip(mean.parameters(), policy.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own, 0.5 * (first + second))
    torch.testing.assert_close(mean.mean, policy.mean + 1.0)
    torch.testing.assert_close(mean.scale, policy.scale)


def test_policies_that_differ_are_not_averaged() -> None:
    policy = load_policy()
    wider = Policy(policy.description, (32, 16), policy.activation)
    with pytest.raises(PolicyError, match="their networks are of different sizes"):
        average_policies([policy, wider])
    slower = Policy(dataclasses.replace(policy.description, control_dt=0.04), policy.hidden_dims, policy.activation)
    with pytest.raises(PolicyError, match=r"acts every 0\.02 s, the task every 0\.04 s"):
        average_policies([policy, slower])
    with pytest.raises(PolicyError, match="no policy to average"):
        average_policies([])
