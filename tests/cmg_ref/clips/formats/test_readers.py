"""Readers of every clip format, with sound, broken and malicious files."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
import torch

from cmg_ref.clips.formats.readers import find_clips, read_clip
from cmg_ref.clips.formats.writers import write_npz, write_twist_pickle
from cmg_ref.clips.motion_clip import ClipError, ClipWarning, MotionClip
from cmg_ref.core.rotations import quat_from_yaw
from cmg_ref.robots.kinematics import ForwardKinematics
from cmg_ref.robots.robot import Robot, load_g1

MakeClip = Callable[..., MotionClip]


# --- Files of every format -------------------------------------------------------------------------------------------
# Each writer takes a clip and gives the file; `change` may alter the fields before they are written.

Fields = Dict[str, Any]
Change = Callable[[Fields], None]


def nothing(fields: Fields) -> None:
    pass


def csv_file(clip: MotionClip, folder: Path, change: Change = nothing) -> Path:
    fields = {"table": torch.cat([clip.root_pos, clip.root_quat, clip.dof_pos], dim=-1).numpy()}
    change(fields)
    np.savetxt(folder / "take.csv", fields["table"], delimiter=",", fmt="%.9f")
    return folder / "take.csv"


def amass_file(clip: MotionClip, folder: Path, change: Change = nothing) -> Path:
    robot = load_g1()
    joints = clip.reordered(robot).dof_pos
    position, quat = ForwardKinematics(robot, dtype=torch.float64)(joints, clip.root_pos, clip.root_quat)
    fields: Fields = {
        "fps": np.array([clip.fps], np.float32),
        "dof_names": np.array(clip.joint_names),
        "body_names": np.array(robot.body_names),
        "dof_positions": clip.dof_pos.numpy(),
        "dof_velocities": clip.velocities().numpy(),
        "body_positions": position.numpy(),
        "body_rotations": quat.roll(1, dims=-1).numpy(),
    }
    change(fields)
    np.savez(folder / "take_120_jpos.npz", **fields)
    return folder / "take_120_jpos.npz"


def twist_file(clip: MotionClip, folder: Path, change: Change = nothing, protocol: int = 4) -> Path:
    fields = {
        "fps": np.array(clip.fps),
        "root_pos": clip.root_pos.numpy(),
        "root_rot": clip.root_quat.numpy(),
        "dof_pos": clip.dof_pos.numpy(),
        "local_body_pos": None,
        "link_body_list": None,
    }
    change(fields)
    (folder / "take.pkl").write_bytes(pickle.dumps(fields, protocol=protocol))
    return folder / "take.pkl"


def mjlab_file(clip: MotionClip, folder: Path, change: Change = nothing, bodies: list[int] | None = None) -> Path:
    """A file without joint names, with the robot's bodies (and joints) in the given order."""
    robot = load_g1()
    bodies = list(range(robot.num_bodies)) if bodies is None else bodies
    joints = [robot.joint_bodies.index(body) for body in bodies if body in robot.joint_bodies]
    position, quat = ForwardKinematics(robot, dtype=torch.float64)(clip.dof_pos, clip.root_pos, clip.root_quat)
    fields: Fields = {
        "fps": np.array([clip.fps]),
        "joint_pos": clip.dof_pos[:, joints].numpy(),
        "joint_vel": clip.velocities()[:, joints].numpy(),
        "body_pos_w": position[:, bodies].float().numpy(),
        "body_quat_w": quat[:, bodies].roll(1, dims=-1).float().numpy(),
        "body_lin_vel_w": np.zeros_like(position.numpy()),
        "body_ang_vel_w": np.zeros_like(position.numpy()),
    }
    change(fields)
    np.savez(folder / "motion.npz", **fields)
    return folder / "motion.npz"


def cmg_file(clip: MotionClip, folder: Path, change: Change = nothing) -> Path:
    write_npz(clip, folder / "take.npz")
    with np.load(folder / "take.npz") as archive:
        fields = dict(archive)
    change(fields)
    np.savez(folder / "take.npz", **fields)
    return folder / "take.npz"


FORMATS = {"csv": csv_file, "amass": amass_file, "twist": twist_file, "mjlab": mjlab_file, "cmg": cmg_file}
DOF_FIELD = {"csv": "table", "amass": "dof_positions", "twist": "dof_pos", "mjlab": "joint_pos", "cmg": "dof_pos"}
ROOT_QUAT_FIELD = {"amass": "body_rotations", "twist": "root_rot", "mjlab": "body_quat_w", "cmg": "root_quat_xyzw"}


def breadth_first(robot: Robot) -> list[int]:
    """Isaac Lab's order, by a queue."""
    order, queue = [], [0]
    while queue:
        body = queue.pop(0)
        order.append(body)
        queue.extend(child for child, parent in enumerate(robot.body_parents) if parent == body)
    return order


@pytest.fixture
def clip(make_clip: MakeClip) -> MotionClip:
    clip = make_clip(fps=30.0, seconds=2.0)
    return dataclasses.replace(clip, root_quat=quat_from_yaw(torch.linspace(-1.0, 1.0, 61, dtype=torch.float64)))


# --- Sound files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_reads_what_was_written(clip: MotionClip, tmp_path: Path, form: str) -> None:
    file = FORMATS[form](clip, tmp_path)
    read = read_clip(file)
    assert read.fps == pytest.approx(30.0)
    assert read.joint_names == load_g1().joint_names
    assert read.source == str(file)
    for field in ("dof_pos", "root_pos", "root_quat"):
        assert (getattr(read, field) - getattr(clip, field)).abs().max() < 1e-6, field
        assert getattr(read, field).dtype == torch.float64
    assert (read.velocities() - clip.velocities()).abs().max() < 1e-4
    assert read.root_quat.norm(dim=-1).sub(1.0).abs().max() < 1e-12


def test_csv_has_the_rate_it_is_given(clip: MotionClip, tmp_path: Path) -> None:
    assert read_clip(csv_file(clip, tmp_path), fps=60.0).fps == 60.0


@pytest.mark.parametrize("form", ["amass", "cmg"])
def test_joints_are_matched_by_name(clip: MotionClip, tmp_path: Path, form: str) -> None:
    file = FORMATS[form](clip.reordered(clip.joint_names[::-1]), tmp_path)
    assert (read_clip(file).dof_pos - clip.dof_pos).abs().max() < 1e-6


@pytest.mark.parametrize("named", [False, True])
def test_isaac_lab_order_is_found_from_the_bodies(clip: MotionClip, tmp_path: Path, named: bool) -> None:
    robot = load_g1()
    bodies = breadth_first(robot)
    names = [robot.joint_names[robot.joint_bodies.index(body)] for body in bodies[1:]]
    assert names[:4] == ["left_hip_pitch_joint", "right_hip_pitch_joint", "waist_yaw_joint", "left_hip_roll_joint"]

    def name_joints(fields: Fields) -> None:
        if named:
            fields["joint_names"] = np.array(names)

    read = read_clip(mjlab_file(clip, tmp_path, name_joints, bodies))
    assert (read.dof_pos - clip.dof_pos).abs().max() < 1e-6
    assert (read.velocities() - clip.velocities()).abs().max() < 1e-6


def test_unknown_joint_order_is_an_error(clip: MotionClip, tmp_path: Path) -> None:
    def swap_legs(fields: Fields) -> None:
        fields["joint_pos"] = np.roll(fields["joint_pos"], 6, axis=1)

    with pytest.raises(ClipError, match=r"motion\.npz: field 'joint_pos': no known joint order explains 'body_pos_w'"):
        read_clip(mjlab_file(clip, tmp_path, swap_legs))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_pickles_of_any_protocol_and_numpy(clip: MotionClip, tmp_path: Path, protocol: int, core: bytes) -> None:
    def typed(fields: Fields) -> None:
        fields["fps"] = np.float64(30.0)
        fields["root_pos"] = np.asfortranarray(fields["root_pos"]).astype(">f8")

    content = twist_file(clip, tmp_path, typed, protocol).read_bytes()
    if protocol < 4:  # Later protocols write the length before the name.
        content = content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", core)
    (tmp_path / "take.pkl").write_bytes(content)
    read = read_clip(tmp_path / "take.pkl")
    assert read.fps == 30.0
    assert read.dof_pos.equal(clip.dof_pos)
    assert read.root_pos.equal(clip.root_pos)


def test_twist_pickle_without_wrists(clip: MotionClip, tmp_path: Path) -> None:
    robot = load_g1()
    wrists = ["wrist" in name for name in robot.joint_names]

    def drop_wrists(fields: Fields) -> None:
        fields["dof_pos"] = fields["dof_pos"][:, ~np.array(wrists)]

    read = read_clip(twist_file(clip, tmp_path, drop_wrists))
    assert read.dof_pos[:, torch.tensor(wrists)].abs().max() == 0.0
    assert read.dof_pos[:, ~torch.tensor(wrists)].equal(clip.dof_pos[:, ~torch.tensor(wrists)])


def test_all_real_clips_are_read(motion_folder: Path) -> None:
    files = find_clips([motion_folder])
    assert len(files) >= 26
    for file in files:
        clip = read_clip(file)
        assert clip.joint_names == load_g1().joint_names
        assert clip.num_frames > 100
        assert clip.fps == pytest.approx(30.0, abs=0.3)
        assert clip.duration == pytest.approx((clip.num_frames - 1) / clip.fps)


def test_amass_rate_is_that_of_the_field_not_of_the_name(motion_folder: Path) -> None:
    file = motion_folder / "amass_g1" / "cmu_06_01_poses_120_jpos.npz"
    clip = read_clip(file)
    assert clip.fps == 30.0
    with np.load(file) as archive:
        pelvis = list(archive["body_names"]).index("pelvis")
        speed = np.linalg.norm(archive["body_linear_velocities"][:, pelvis, :2], axis=-1).mean()
    # At a wrong rate, or with another body as root, the speed would not be the file's own.
    assert clip.root_lin_vel_h()[:, :2].norm(dim=-1).mean().item() == pytest.approx(speed, rel=0.05)


def test_folder_is_searched_and_files_are_taken(clip: MotionClip, tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    first, second = csv_file(clip, tmp_path / "deep" / "deeper"), twist_file(clip, tmp_path)
    (tmp_path / "notes.txt").write_text("no clip")
    (tmp_path / ".take.4711.npz").write_text("half written")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "take.csv").write_text("not ours")
    with pytest.warns(ClipWarning, match=r"not read, since no clips: notes\.txt$"):
        assert find_clips([tmp_path]) == [first, second]
    assert find_clips([second]) == [second]
    assert find_clips([second, first.parent, second]) == [second, first]
    with pytest.raises(ClipError, match="nowhere: no such file or folder"):
        find_clips([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipError, match=r"empty: no clip"):
        find_clips([tmp_path / "empty"])


# --- Broken files ----------------------------------------------------------------------------------------------------


def assert_one_line_error(file: Path, *parts: str) -> None:
    with pytest.raises(ClipError) as error:
        read_clip(file)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("form", FORMATS)
def test_truncated_file(clip: MotionClip, tmp_path: Path, form: str, share: float) -> None:
    file = FORMATS[form](clip, tmp_path)
    content = file.read_bytes()
    # A text that ends within its very last number cannot be told from a whole one: cut at least that number.
    file.write_bytes(content[: min(int(len(content) * share), len(content) - 20)])
    assert_one_line_error(file)


@pytest.mark.parametrize("form", FORMATS)
def test_garbage(tmp_path: Path, clip: MotionClip, form: str) -> None:
    file = FORMATS[form](clip, tmp_path)
    file.write_bytes(np.random.default_rng(0).bytes(5000))
    assert_one_line_error(file)


@pytest.mark.parametrize("value", [np.nan, np.inf, 123.0])
@pytest.mark.parametrize("form", FORMATS)
def test_number_that_is_none(clip: MotionClip, tmp_path: Path, form: str, value: float) -> None:
    def spoil(fields: Fields) -> None:
        fields[DOF_FIELD[form]][17, -1] = value

    column = clip.dof_pos.shape[1] - 1
    named_by_file = np.isfinite(value) or form == "csv"  # The other formats tell it of the file's own field.
    column_name = "(right_wrist_yaw_joint)" if named_by_file else f"'{DOF_FIELD[form]}', row 17, column {column}"
    assert_one_line_error(FORMATS[form](clip, tmp_path, spoil), "row 17", column_name)


@pytest.mark.parametrize("form", ROOT_QUAT_FIELD)
def test_quaternions_in_the_other_order(clip: MotionClip, tmp_path: Path, form: str) -> None:
    def turn(fields: Fields) -> None:
        step = 1 if form in ("twist", "cmg") else -1
        fields[ROOT_QUAT_FIELD[form]] = np.roll(fields[ROOT_QUAT_FIELD[form]], step, axis=-1)

    file = FORMATS[form](clip, tmp_path, turn)
    if form == "cmg":  # Its field says what it is.
        assert_one_line_error(file, "field 'root_quat_xyzw', row 0: not upright; are the quaternions wxyz, not xyzw?")
        return
    with pytest.warns(ClipWarning, match="wxyz, not xyzw" if form == "twist" else "xyzw, not wxyz"):
        read = read_clip(file)
    assert (read.root_quat - clip.root_quat).abs().max() < 1e-6


@pytest.mark.parametrize("form", ROOT_QUAT_FIELD)
def test_quaternion_that_is_no_rotation(clip: MotionClip, tmp_path: Path, form: str) -> None:
    def stretch(fields: Fields) -> None:
        fields[ROOT_QUAT_FIELD[form]][4] *= 1.5

    file = FORMATS[form](clip, tmp_path, stretch)
    assert_one_line_error(file, f"'{ROOT_QUAT_FIELD[form]}', row 4", "is not a unit quaternion")


@pytest.mark.parametrize("form", ["amass", "cmg"])
def test_joint_of_another_robot(clip: MotionClip, tmp_path: Path, form: str) -> None:
    def rename(fields: Fields) -> None:
        names = "dof_names" if form == "amass" else "joint_names"
        fields[names] = np.array([name.replace("left_knee", "left_wheel") for name in fields[names]])

    assert_one_line_error(FORMATS[form](clip, tmp_path, rename), "missing left_knee_joint; unknown left_wheel_joint")


@pytest.mark.parametrize("form", ["amass", "twist", "mjlab", "cmg"])
def test_missing_field(clip: MotionClip, tmp_path: Path, form: str) -> None:
    file = FORMATS[form](clip, tmp_path, lambda fields: fields.pop("fps"))
    assert_one_line_error(file, "field 'fps' is missing")


@pytest.mark.parametrize("form", ["amass", "twist", "mjlab", "cmg"])
def test_rate_that_is_none(clip: MotionClip, tmp_path: Path, form: str) -> None:
    file = FORMATS[form](clip, tmp_path, lambda fields: fields.update(fps=np.array(0.0)))
    assert_one_line_error(file, "field 'fps': 0.0 is not a frame rate")


@pytest.mark.parametrize("form", FORMATS)
def test_too_few_joints(clip: MotionClip, tmp_path: Path, form: str) -> None:
    def drop(fields: Fields) -> None:
        fields[DOF_FIELD[form]] = fields[DOF_FIELD[form]][:, :-1]

    assert_one_line_error(FORMATS[form](clip, tmp_path, drop))


@pytest.mark.parametrize("form", ["amass", "twist", "mjlab", "cmg"])
def test_field_of_other_length(clip: MotionClip, tmp_path: Path, form: str) -> None:
    def drop(fields: Fields) -> None:
        fields[ROOT_QUAT_FIELD[form]] = fields[ROOT_QUAT_FIELD[form]][:-1]

    assert_one_line_error(FORMATS[form](clip, tmp_path, drop), f"field '{ROOT_QUAT_FIELD[form]}': shape (60,")


def test_csv_problem_names_row_and_column(clip: MotionClip, tmp_path: Path) -> None:
    file = csv_file(clip, tmp_path)
    lines = file.read_text().splitlines()
    cells = lines[12].split(",")
    file.write_text("\n".join([*lines[:12], ",".join(["=1+1", *cells[1:]]), *lines[13:]]))
    assert_one_line_error(file, "field 'root_x', row 12: '=1+1' is not a number")
    file.write_text("\n".join([*lines[:12], ",".join(cells[:-1]), *lines[13:]]))
    assert_one_line_error(file, "row 12: 35 columns, needs 36")


def test_content_under_another_name(clip: MotionClip, tmp_path: Path) -> None:
    npz = cmg_file(clip, tmp_path)
    mislabelled = npz.rename(tmp_path / "take.csv")
    assert (read_clip(mislabelled).dof_pos - clip.dof_pos).abs().max() < 1e-6
    text = csv_file(clip, tmp_path).rename(tmp_path / "take.npz")
    assert_one_line_error(text, "not an npz")
    unknown = text.rename(tmp_path / "take.bvh")
    assert_one_line_error(unknown, "unknown format")
    np.savez(tmp_path / "other.npz", poses=np.zeros(3))
    assert_one_line_error(tmp_path / "other.npz", "unknown npz with the fields poses")
    assert_one_line_error(tmp_path / "none.npz", "cannot be read (No such file or directory)")


# --- Files that want to run code -------------------------------------------------------------------------------------


class Command:
    """Pickles as a call of `os.system`."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["instead", "beside", "inside"])
def test_pickle_with_code_runs_nothing(clip: MotionClip, tmp_path: Path, protocol: int, place: str) -> None:
    trace = tmp_path / "trace"
    command = Command(f"touch {trace}")
    file = twist_file(clip, tmp_path, lambda fields: fields.update(note=[command]), protocol)
    if place != "inside":
        content = command if place == "instead" else {"fps": 30.0, "root_pos": command}
        file.write_bytes(pickle.dumps(content, protocol=protocol))
    assert_one_line_error(file, f"refused to load '{os.system.__module__}.system'")
    assert not trace.exists()
    pickle.loads(file.read_bytes())  # The file does what it is thought to do.
    assert trace.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(V1+1\ntR.",
        b"cbuiltins\ngetattr\n(cnumpy\nndarray\nVtofile\ntR.",
        b"cnumpy\nload\n(V/etc/passwd\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(V/etc/passwd\ntR.",
        b"c__main__\nanything\n.",
    ],
)
def test_pickle_may_not_name_other_functions(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "take.pkl").write_bytes(b"\x80\x02" + program)
    assert_one_line_error(tmp_path / "take.pkl", "refused to load '")


@pytest.mark.parametrize(
    "program",
    [
        # numpy.ndarray((1,), "O", eight bytes) makes any address a Python object.
        b"cnumpy\nndarray\n((K\x01tVO\ncbuiltins\nbytearray\n(c_codecs\nencode\n(VAAAAAAAA\nVlatin1\ntRtRtR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(VO\ntRc_codecs\nencode\n(VAAAAAAAA\nVlatin1\ntRtR.",
        b"cnumpy.core.numeric\n_frombuffer\n(c_codecs\nencode\n(VAAAAAAAA\nVlatin1\ntRcnumpy\ndtype\n(VO\ntR(K\x01tVC\ntR.",
    ],
)
def test_pickle_may_not_make_arrays_of_objects(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "take.pkl").write_bytes(b"\x80\x02" + program)
    assert_one_line_error(tmp_path / "take.pkl", "holds array of objects, needs a dictionary")


@pytest.mark.parametrize("form", ["amass", "mjlab", "cmg"])
def test_npz_with_code_runs_nothing(clip: MotionClip, tmp_path: Path, form: str) -> None:
    trace = tmp_path / "trace"
    note = np.array([Command(f"touch {trace}")], dtype=object)
    file = FORMATS[form](clip, tmp_path, lambda fields: fields.update(note=note))
    assert read_clip(file).num_frames == clip.num_frames  # The note is not needed.
    file = FORMATS[form](clip, tmp_path, lambda fields: fields.update(fps=note))
    assert_one_line_error(file, "field 'fps': holds pickled objects")
    assert not trace.exists()
    np.load(file, allow_pickle=True)["fps"]  # The file does what it is thought to do.
    assert trace.exists()


def test_a_written_twist_pickle_is_read(clip: MotionClip, tmp_path: Path) -> None:
    write_twist_pickle(clip, tmp_path / "take.pkl", load_g1())
    assert read_clip(tmp_path / "take.pkl").dof_pos.equal(clip.dof_pos)
