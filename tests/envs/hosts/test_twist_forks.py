"""The plug-in on a TWIST of 29 joints with its robot elsewhere, and what is said where something is missing."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = [
    *("cmg.num_motions=8", "cmg.num_blocks=2", "cmg.motion_length=2.0"),
    *("--num_envs", "8", "--max_iterations", "1", "--no_wandb"),
]
WRISTS = "".join(
    f"'{side}_wrist_{axis}_joint': 0.0, " for side in ("left", "right") for axis in ("roll", "pitch", "yaw")
)
# What a fork for the robot of 29 joints changes in TWIST's configuration.
CHANGES = {
    "num_actions = 23": "num_actions = 29",
    "8 + 23": "8 + 29",
    "0.8, 0.8, 0.8, 1.0, # Left Arm": "0.8, 0.8, 0.8, 1.0, 0.5, 0.5, 0.5,",
    "0.8, 0.8, 0.8, 1.0, # Right Arm": "0.8, 0.8, 0.8, 1.0, 0.5, 0.5, 0.5,",
    "[0.0103] * 3 + [0.003597] * 8": "[0.0103] * 3 + [0.003597] * 14",
    "[0.4] * 3 + [0.5] * 8": "[0.4] * 3 + [0.5] * 14",
    "'right_elbow_joint': 1.2,": f"'right_elbow_joint': 1.2, {WRISTS}",
    "'elbow': 40,": "'elbow': 40, 'wrist': 20,",
    "'elbow': 5,": "'elbow': 5, 'wrist': 1,",
    '"head_mocap"': '"head_link"',
    # No f-string: legged_gym fills the folder in itself.
    "file = f'{LEGGED_GYM_ROOT_DIR}/../assets/g1/g1_custom_collision_with_fixed_hand.urdf'": (
        "file = '{LEGGED_GYM_ROOT_DIR}/../resources/robots/g1.urdf'"
    ),
}


@pytest.fixture(scope="module")
def fork(twist_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of TWIST for the robot of 29 joints, whose file lies in another folder."""
    folder = tmp_path_factory.mktemp("fork")
    for package in ("legged_gym", "rsl_rl", "pose"):
        shutil.copytree(twist_copy / package, folder / package, ignore=shutil.ignore_patterns("logs", "__pycache__"))
    config = folder / "legged_gym" / "legged_gym" / "envs" / "g1" / "g1_mimic_distill_config.py"
    text = config.read_text(encoding="utf-8")
    for old, new in CHANGES.items():
        if old not in text:
            pytest.skip(f"this TWIST's configuration has no '{old}' to change")
        text = text.replace(old, new)
    config.write_text(text, encoding="utf-8")
    tree = ElementTree.parse(str(twist_copy / "assets" / "g1" / "g1_29dof_rev_1_0.urdf"))
    for link in tree.getroot().findall("link"):  # the copy has no meshes
        for shape in link.findall("collision"):
            if shape.find("geometry/mesh") is not None:
                link.remove(shape)
    (folder / "resources" / "robots").mkdir(parents=True)
    tree.write(str(folder / "resources" / "robots" / "g1.urdf"))
    return folder


TRAIN = """
import json, torch
from pathlib import Path
from envs.hosts.twist import play, train
root = ["--twist_root", str(Path(ROOT) / "legged_gym" / "legged_gym")]  # a folder inside of the checkout
teacher = [*root, "--task", "g1_cmg_priv_mimic", "--exptid", "teacher"]
student = [*root, "--task", "g1_cmg_stu_rl", "--exptid", "student"]
train([*teacher, *SMALL])
train([*student, *SMALL, "--teacher_exptid", "teacher"])
played = play([*student, "--num_envs", "2", "--steps", "20", "--no_wandb", "--export"])
file = Path(ROOT) / "legged_gym" / "logs" / "g1_cmg_stu_rl" / "student" / "traced" / "student-0-jit.pt"
actions = torch.jit.load(str(file))(torch.zeros(3, 11 * (8 + 29 + 3 + 2 + 3 * 29)))
print(json.dumps({"actions": list(actions.shape), "finite": bool(torch.isfinite(actions).all()), **played}))
"""


def test_a_fork_with_wrists_trains_plays_and_exports(run_code: Callable[..., Any], fork: Path) -> None:
    answer = run_code(f"ROOT, SMALL = {str(fork)!r}, {SMALL!r}\n" + TRAIN)
    assert answer["actions"] == [3, 29] and answer["finite"] and answer["seconds"] == pytest.approx(0.4)


REFUSED = """
import json, sys
from cmg_ref.core.command_line import command
from envs.hosts.twist import TwistError, play, train
said = []
for name, arguments in CASES:
    given = ["--twist_root", ROOT, "--num_envs", "2", "--no_wandb", *arguments]
    try:
        sys.argv[0] = name
        command(TwistError, ValueError, OSError)(lambda: {"train": train, "play": play}[name](given))()
    except SystemExit as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_what_is_missing_is_said_in_one_line(run_code: Callable[..., Any], twist_copy: Path) -> None:
    teacher, student = (["--task", task, "--exptid", "x"] for task in ("g1_cmg_priv_mimic", "g1_cmg_stu_rl"))
    hands = twist_copy / "assets" / "g1" / "g1_custom_collision_with_revolute_hand.urdf"
    (twist_copy / "legged_gym" / "logs").mkdir(exist_ok=True)
    (twist_copy / "legged_gym" / "logs" / "barred").write_text("")
    cut = twist_copy / "legged_gym" / "logs" / "g1_cmg_priv_mimic" / "cut"
    cut.mkdir(parents=True)
    (cut / "model_7.pt").write_bytes(b"PK half of a file")
    cases = [
        ("train", [*teacher, "cmg.checkpoint=/nowhere.safetensors"], "/nowhere.safetensors: no such checkpoint file"),
        ("train", [*teacher, "cmg.drop_joints=[]"], "no joint 'left_wrist_roll_joint' of the CMG; name it in drop_"),
        ("train", [*teacher, "motion.key_bodies=['paw']"], "has no body 'paw'"),
        ("train", [*teacher, "asset.file=/nowhere.urdf"], "the robot's file is missing: /nowhere.urdf"),
        ("train", [*teacher, f"asset.file={hands}"], "has 37 joints, but env.num_actions is for 23"),
        ("train", [*teacher, "cmg.num_blocks=1"], "num_blocks must not be 1"),
        ("train", [*teacher, "--proj_name", "barred"], "barred"),
        ("train", [*student, "--teacher_exptid", "nobody"], "g1_cmg_priv_mimic/nobody holds no model_*.pt"),
        ("play", [*teacher, "--checkpoint", "3"], "g1_cmg_priv_mimic/x holds no model_3.pt"),
        ("play", [*teacher, "sim.dt=0"], "sim.dt: must be from 1e-05 to 0.1, got 0.0"),
        ("play", [*teacher, "sim.dt={[]:1}"], "sim.dt is a float (0.002), not '{[]:1}'"),
        ("play", [*teacher[:3], "cut"], "cut/model_7.pt: cut off, or no checkpoint"),
        ("play", teacher[:2], "--exptid is missing"),
    ]
    given = [(name, arguments) for name, arguments, _ in cases]
    said = run_code(f"ROOT, CASES = {str(twist_copy)!r}, {given!r}\n" + REFUSED)
    for (name, arguments, expected), text in zip(cases, said, strict=True):
        assert expected in text and text.startswith(f"{name}: ") and "\n" not in text, (arguments, text)
