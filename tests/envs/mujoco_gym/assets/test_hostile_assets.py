"""Robot files that are broken, endless or greedy: refused in one short line before anything large is allocated."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from envs.mujoco_gym.assets.asset import AssetError, load_asset

MJCF = '<mujoco>{outside}<worldbody><body name="base"><geom size="0.1"/>{inside}</body></worldbody></mujoco>'
URDF = '<robot name="r"><link name="base"/>{}</robot>'
LAUGHS = '<!DOCTYPE mujoco [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 310717\n"


def chain(length: int) -> str:
    """Links that hang on one another, each in one element of its own."""
    links = "".join(f'<link name="l{n}"/>' for n in range(length))
    joints = "".join(
        f'<joint name="j{n}" type="fixed"><parent link="{f"l{n - 1}" if n else "base"}"/><child link="l{n}"/></joint>'
        for n in range(length)
    )
    return URDF.format(links + joints)


def nested(count: int) -> str:
    bodies = "".join(f'<body name="b{n}"><geom size="0.1"/>' for n in range(count)) + "</body>" * count
    return MJCF.format(outside="", inside=bodies)


BAD_FILES = {
    "deep.xml": nested(1000),
    "laughs.xml": LAUGHS + MJCF.format(outside="", inside="&b;"),
    "encoding.xml": '<?xml version="1.0" encoding="foo"?>' + MJCF.format(outside="", inside=""),
    "texture.xml": MJCF.format(
        outside='<asset><texture name="t" type="2d" builtin="flat" width="99999" height="99999"/></asset>', inside=""
    ),
    "heights.xml": MJCF.format(
        outside='<asset><hfield name="h" nrow="99999" ncol="99999" size="1 1 1 1"/></asset>', inside=""
    ),
    "copies.xml": MJCF.format(
        outside="",
        inside='<replicate count="1000"><replicate count="1000"><replicate count="1000"><geom size="1"/></replicate>'
        "</replicate></replicate>",
    ),
    "users.xml": MJCF.format(outside='<size nuser_body="999999999"/>', inside=""),
    "names.xml": MJCF.format(outside="", inside=f'<joint type="{"x" * 300_000}"/>'),
    "device.xml": MJCF.format(outside='<include file="/dev/zero"/>', inside=""),
    "deep.urdf": chain(1000),
    "laughs.urdf": LAUGHS.replace("mujoco", "robot") + URDF.format("&b;"),
    "encoding.urdf": '<?xml version="1.0" encoding="foo"?>' + URDF.format(""),
    "names.urdf": URDF.format(f'<link name="{"x" * 300_000}"/>'),
    "empty.urdf": "",
    "empty.xml": "",
    "pointer.xml": POINTER,
    "pointer.urdf": POINTER,
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(BAD_FILES[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AssetError) as error:
        load_asset(str(tmp_path), name)
    message = str(error.value)
    assert message.startswith("/dev/zero" if name == "device.xml" else f"{tmp_path / name}: ")
    assert "\n" not in message and len(message) < 500
    assert ("git lfs pull" in message) == name.startswith("pointer")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024


@pytest.mark.parametrize("folder", ["", "meshes"])
def test_a_mesh_that_is_a_pointer_says_so(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "foot.stl").write_text(POINTER)
    shape = f'<collision><geometry><mesh filename="{folder or "."}/foot.stl"/></geometry></collision>'
    (tmp_path / "robot.urdf").write_text(f'<robot name="r"><link name="base">{shape}</link></robot>')
    mesh = f'<compiler meshdir="{folder}"/><asset><mesh name="m" file="foot.stl"/></asset>'
    (tmp_path / "robot.xml").write_text(MJCF.format(outside=mesh, inside='<geom type="mesh" mesh="m"/>'))
    for name in ("robot.urdf", "robot.xml"):
        with pytest.raises(AssetError, match=r"foot\.stl: is only Git LFS's pointer .*git lfs pull"):
            load_asset(str(tmp_path), name)


def test_a_robot_of_many_bodies_is_read(tmp_path: Path) -> None:
    (tmp_path / "robot.urdf").write_text(chain(150))
    (tmp_path / "robot.xml").write_text(nested(150))
    for name in ("robot.urdf", "robot.xml"):
        assert len(load_asset(str(tmp_path), name).body_names) == 151
