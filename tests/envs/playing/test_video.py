from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.drawing.capsules import figures
from cmg_ref.drawing.ray_caster import Camera, SoftwareRenderer
from cmg_ref.robots.robot import load_g1
from envs.playing import mujoco_renderer
from envs.playing.mujoco_renderer import RendererError, render_with_mujoco
from envs.playing.video import VideoError, can_write_mp4, write_video

pytestmark = pytest.mark.slow

image_module = pytest.importorskip("PIL.Image")
needs_mp4 = pytest.mark.skipif(not can_write_mp4(), reason="imageio-ffmpeg is not installed")


@pytest.fixture()
def walk(swinging_clip: MotionClip) -> MotionClip:
    return swinging_clip


def read_mp4(path: Path) -> tuple[dict[str, object], np.ndarray]:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    reader = imageio_ffmpeg.read_frames(str(path))
    properties = next(reader)
    width, height = properties["size"]
    return properties, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


@needs_mp4
def test_mp4_holds_every_frame_at_the_right_rate(walk: MotionClip, tmp_path: Path) -> None:
    report = write_video(
        walk.slice(0, 20),
        tmp_path / "a.mp4",
        load_g1(),
        renderer="software",
        width=320,
        height=240,
        captions=False,
        progress=False,
    )
    assert (report.renderer, report.note, report.num_frames, report.fps) == ("software", "", 20, 30.0)
    properties, frames = read_mp4(report.path)
    assert frames.shape == (20, 240, 320, 3)
    assert properties["fps"] == pytest.approx(30.0)
    # What comes out of the encoder is what was drawn, but for its losses.
    drawn = SoftwareRenderer(320, 240, Camera()).draw((0.0, 0.0), [])
    assert np.abs(frames[0].astype(int)[:40] - drawn[:40]).mean() < 6.0
    changes = np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert changes.min() > 0.1, "some frame is a copy of the one before"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


@needs_mp4
def test_high_rates_are_thinned_out(walk: MotionClip, tmp_path: Path) -> None:
    clip = walk.slice(0, 16).resample(120.0)
    report = write_video(clip, tmp_path / "a.mp4", load_g1(), renderer="software", width=64, height=48, progress=False)
    assert report.fps == pytest.approx(30.0)
    assert report.num_frames == 16


def test_gif_plays_in_real_time(walk: MotionClip, tmp_path: Path) -> None:
    report = write_video(
        walk, tmp_path / "a.gif", load_g1(), renderer="software", width=160, height=120, progress=False
    )
    with image_module.open(report.path) as gif:
        durations = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            durations.append(gif.info["duration"])
        assert gif.size == (160, 120)
    assert sum(durations) / 1000.0 == pytest.approx(walk.num_frames / walk.fps, rel=0.1)


def test_the_robot_stays_in_the_picture(walk: MotionClip, tmp_path: Path) -> None:
    """Far from where it started too: the camera follows."""
    far = walk.slice(0, 12)
    far.root_pos = far.root_pos + torch.tensor([40.0, -25.0, 0.0])
    write_video(
        far, tmp_path / "a.gif", load_g1(), renderer="software", width=160, height=120, captions=False, progress=False
    )
    with image_module.open(tmp_path / "a.gif") as gif:
        for frame in range(gif.n_frames):
            gif.seek(frame)
            picture = np.asarray(gif.convert("RGB")).astype(int)
            orange = picture[..., 0] > picture[..., 2] + 60
            rows, columns = np.nonzero(orange)
            assert len(rows) > 30
            assert abs(columns.mean() - 80.0) < 25.0


def test_ghost_is_drawn_beside(walk: MotionClip, tmp_path: Path) -> None:
    short = walk.slice(0, 6)
    ghost = walk.slice(0, 4)
    ghost.root_pos = ghost.root_pos + torch.tensor([0.5, 0.5, 0.0])
    options: dict[str, Any] = {
        "renderer": "software",
        "width": 160,
        "height": 120,
        "captions": False,
        "progress": False,
    }
    write_video(short, tmp_path / "alone.gif", load_g1(), **options)
    write_video(short, tmp_path / "both.gif", load_g1(), ghost=ghost, **options)
    with image_module.open(tmp_path / "alone.gif") as alone, image_module.open(tmp_path / "both.gif") as both:
        assert alone.n_frames == both.n_frames
        green = [np.asarray(gif.convert("RGB")).astype(int) for gif in (alone, both)]
    counts = [(picture[..., 1] > picture[..., (0, 2)].max(axis=-1) + 15).sum() for picture in green]
    assert counts[0] == 0
    assert counts[1] > 50


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.avi", {}, "ends in .mp4 or .gif"),
        ("a.gif", {"renderer": "vulkan"}, "renderer 'vulkan' is unknown"),
        ("a.gif", {"width": 641}, "must be even"),
        ("a.gif", {"width": 0}, "must be even"),
    ],
)
def test_wrong_arguments_are_named(
    walk: MotionClip, tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(VideoError, match=message):
        write_video(walk, tmp_path / name, load_g1(), progress=False, **options)
    assert not list(tmp_path.iterdir())


def test_ghost_of_another_rate_is_refused(walk: MotionClip, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="resample"):
        write_video(walk, tmp_path / "a.gif", load_g1(), ghost=walk.resample(50.0), progress=False)


def test_nothing_is_left_when_drawing_fails(walk: MotionClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = SoftwareRenderer.draw
    drawn = []

    def fail_at_the_third(self: SoftwareRenderer, *arguments: Any) -> np.ndarray:
        drawn.append(1)
        if len(drawn) == 3:
            raise MemoryError("no memory left")
        return draw(self, *arguments)

    monkeypatch.setattr(SoftwareRenderer, "draw", fail_at_the_third)
    for name in ("a.gif", *(["a.mp4"] if can_write_mp4() else [])):
        drawn.clear()
        with pytest.raises(MemoryError):
            write_video(walk, tmp_path / name, load_g1(), renderer="software", width=64, height=48, progress=False)
        assert not list(tmp_path.iterdir())


def test_without_opengl_it_is_drawn_anyway_and_said(
    walk: MotionClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.setenv("MUJOCO_GL", "no_such_backend")
    short = walk.slice(0, 4)
    report = write_video(short, tmp_path / "a.gif", load_g1(), width=64, height=48, progress=False)
    assert report.renderer == "software"
    assert "no_such_backend" in report.note
    assert "\n" not in report.note
    with pytest.raises(VideoError, match="MuJoCo cannot draw here"):
        write_video(short, tmp_path / "b.gif", load_g1(), renderer="mujoco", width=64, height=48, progress=False)


def test_without_mujoco_it_is_drawn_anyway_and_said(
    walk: MotionClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mujoco_renderer, "find_spec", lambda name: None)
    report = write_video(walk.slice(0, 4), tmp_path / "a.gif", load_g1(), width=64, height=48, progress=False)
    assert report.renderer == "software"
    assert "MuJoCo is not installed" in report.note


def test_a_worker_that_dies_is_an_error_not_a_crash(walk: MotionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco")
    # As a driver would: the process is gone, with a signal, before the first picture.
    monkeypatch.setattr(mujoco_renderer.sys, "executable", "/bin/false")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    frames = [[figure] for figure in figures(walk.slice(0, 4), load_g1())]
    with pytest.raises(RendererError, match="ended with code 1"):
        render_with_mujoco(frames, np.zeros((4, 2)), Camera(), 64, 48)


def test_mujoco_and_software_draw_the_same_scene(walk: MotionClip) -> None:
    frames = [[figure] for figure in figures(walk.slice(0, 3), load_g1())]
    centers = walk.root_pos[:3, :2].numpy()
    camera = Camera(azimuth=180.0)
    try:
        _, pictures = render_with_mujoco(frames, centers, camera, 320, 240)
    except RendererError as error:
        pytest.skip(str(error))
    software = SoftwareRenderer(320, 240, camera)
    pairs = [
        (ours, software.draw(center, frame)) for ours, center, frame in zip(pictures, centers, frames, strict=True)
    ]
    assert len(pairs) == 3
    for pair in pairs:
        for warm, cold in ((0, 2), (2, 0)):  # the orange limbs, then the blue ones
            masks = [picture[..., warm] > 1.6 * picture[..., cold].astype(float) + 10.0 for picture in pair]
            overlap = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
            assert overlap > 0.8
