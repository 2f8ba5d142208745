"""Videos of motion clips: by MuJoCo where it can draw, otherwise by the library's own renderer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cmg_ref.clips.dataset import average_command
from cmg_ref.clips.motion_clip import MotionClip
from cmg_ref.core.command_layout import VELOCITY
from cmg_ref.core.progress import ProgressBar
from cmg_ref.core.rotations import yaw_from_quat
from cmg_ref.drawing.capsules import figures
from cmg_ref.drawing.ray_caster import Camera, Figure, SoftwareRenderer
from cmg_ref.files.atomic_file import atomic_file
from cmg_ref.robots.robot import Robot
from envs.playing.mujoco_renderer import RendererError, render_with_mujoco

if TYPE_CHECKING:
    from PIL import Image

RENDERERS = ("auto", "mujoco", "software")
VIDEO_SUFFIXES = (".mp4", ".gif")
VIDEO_FPS = 30.0  # at most; whole frames of the clip are left out to get there
GIF_FPS = 15.0
CAMERA_AZIMUTH = 140.0  # [degrees] from the robot's first heading: from the front and its right
CAMERA_SMOOTHING = 0.3  # [s] the camera follows the walk, not its sway


class VideoError(RuntimeError):
    """A video that cannot be made; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class VideoReport:
    """What was written.

    Attributes:
        path: The file.
        renderer: What drew it, e.g. "MuJoCo (egl)" or "software".
        note: Why it was not drawn by MuJoCo, empty otherwise.
        num_frames: Number of pictures.
        fps: Pictures a second.
    """

    path: Path
    renderer: str
    note: str
    num_frames: int
    fps: float


def can_write_mp4() -> bool:
    """Whether the encoder for MP4 is installed."""
    return find_spec("imageio_ffmpeg") is not None


def write_video(
    clip: MotionClip,
    path: str | Path,
    robot: Robot,
    *,
    ghost: MotionClip | None = None,
    renderer: str = "auto",
    width: int = 640,
    height: int = 480,
    camera: Camera | None = None,
    captions: bool = True,
    progress: bool = True,
) -> VideoReport:
    """Draws a clip and writes it as a video.

    Args:
        clip: The motion.
        path: A file that ends in .mp4 or .gif; it appears when it is complete.
        robot: Whose joints the clip has.
        ghost: A second motion of the same frame rate, drawn half transparent, e.g. the reference of a policy.
        renderer: "mujoco", "software", or "auto" for the first of these that works.
        width: Of the pictures [pixels], even.
        height: Of the pictures [pixels], even.
        camera: Where to look from; by default from the front and the right of the robot in its first pose.
        captions: Whether to write time, command and speed into the pictures.
        progress: Whether to show a progress bar.

    Raises:
        VideoError: An argument is wrong, something is not installed, or the renderer asked for does not work here.
        ClipError: The clip has other joints than the robot.
    """
    path = Path(path)
    _check(path, renderer, width, height, clip, ghost)
    stride = max(1, round(clip.fps / (GIF_FPS if path.suffix == ".gif" else VIDEO_FPS)))
    fps = clip.fps / stride
    frames = [[figure] for figure in figures(clip, robot)[::stride]]
    if ghost is not None:
        # The ghost is behind its robot, and stops where it ends.
        ghosts = figures(ghost, robot, ghost=True)[::stride]
        frames = [[*solid, ghosts[min(index, len(ghosts) - 1)]] for index, solid in enumerate(frames)]
    centers = _smoothed(clip.root_pos[:, :2], clip.fps).numpy()[::stride]
    if camera is None:
        heading = np.rad2deg(float(yaw_from_quat(clip.root_quat[0])))
        camera = Camera(azimuth=heading + CAMERA_AZIMUTH)
    name, note, pictures = _pictures(frames, centers, camera, renderer, width, height)
    if captions:
        pictures = _captioned(pictures, clip, stride)
    bar = ProgressBar(pictures, desc=f"video ({name})", total=len(frames), unit="frame", disable=not progress)
    with atomic_file(path) as temporary, contextlib.closing(bar):
        if path.suffix == ".gif":
            _write_gif(temporary, bar, fps)
        else:
            _write_mp4(temporary, bar, fps, (width, height))
    return VideoReport(path, name, note, len(frames), fps)


def _check(path: Path, renderer: str, width: int, height: int, clip: MotionClip, ghost: MotionClip | None) -> None:
    if path.suffix not in VIDEO_SUFFIXES:
        raise VideoError(f"{path}: a video ends in {' or '.join(VIDEO_SUFFIXES)}")
    if renderer not in RENDERERS:
        raise VideoError(f"renderer '{renderer}' is unknown, choose from {', '.join(RENDERERS)}")
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise VideoError(f"a video of {width} x {height} pixels cannot be encoded, both numbers must be even")
    if ghost is not None and ghost.fps != clip.fps:
        raise VideoError(
            f"the ghost has {ghost.fps:g} frames per second and the clip {clip.fps:g}: resample one of them"
        )
    for module, package in (("PIL", "pillow"), ("imageio_ffmpeg", "imageio-ffmpeg")):
        if find_spec(module) is None and (module == "PIL" or path.suffix == ".mp4"):
            raise VideoError(f"{path}: needs {package}: pip install 'cmg_ref[viz]'")


def _pictures(
    frames: Sequence[Sequence[Figure]], centers: np.ndarray, camera: Camera, renderer: str, width: int, height: int
) -> tuple[str, str, Iterator[np.ndarray]]:
    """Name of the renderer that works, why it is not MuJoCo, and the pictures."""
    note = ""
    if renderer != "software":
        try:
            backend, pictures = render_with_mujoco(frames, centers, camera, width, height)
            return f"MuJoCo ({backend})", "", pictures
        except RendererError as error:
            note = str(error)
            if renderer == "mujoco":
                raise VideoError(f"MuJoCo cannot draw here: {note}") from error
    software = SoftwareRenderer(width, height, camera)
    return "software", note, (software.draw(center, frame) for center, frame in zip(centers, frames, strict=True))


def _smoothed(values: torch.Tensor, fps: float) -> torch.Tensor:
    """Gaussian average over time, (num_frames, num_columns), the ends held."""
    reach = int(3.0 * CAMERA_SMOOTHING * fps)
    offsets = torch.arange(-reach, reach + 1, dtype=values.dtype) / fps
    weights = torch.exp(-0.5 * (offsets / CAMERA_SMOOTHING) ** 2)
    padded = torch.cat((values[:1].expand(reach, -1), values, values[-1:].expand(reach, -1)))
    windows = padded.unfold(0, len(weights), 1)  # (num_frames, num_columns, window)
    return windows @ (weights / weights.sum())


def _captioned(pictures: Iterable[np.ndarray], clip: MotionClip, stride: int) -> Iterator[np.ndarray]:
    """Writes time, root speed and, where there is one, command into each picture."""
    from PIL import Image, ImageDraw, ImageFont

    # Speeds sway with every step: what is shown is the average over a stride that commands are made from too.
    speed = average_command(clip, torch.ones(clip.num_frames, dtype=torch.bool))
    for index, picture in enumerate(pictures):
        frame = index * stride
        lines = [_caption("speed", speed[frame])]
        if clip.command is not None:
            lines.insert(0, _caption("command", clip.command[frame, VELOCITY]))
        lines[0].append(f"{frame / clip.fps:.2f} s")
        image = Image.fromarray(picture)
        draw = ImageDraw.Draw(image)
        size = max(8, picture.shape[0] // 34)
        for row, line in enumerate(lines):
            for column, text in zip((0.03, 0.16, 0.40, 0.60, 0.90), line, strict=False):
                place = (column * picture.shape[1], (0.8 + 1.3 * row) * size)
                draw.text(place, text, fill=(40, 48, 60), font=ImageFont.load_default(size))
        yield np.asarray(image)


def _caption(title: str, values: torch.Tensor) -> list[str]:
    vx, vy, wz = values.tolist()
    return [title, f"forward {vx:+.2f} m/s", f"left {vy:+.2f} m/s", f"turn {wz:+.2f} rad/s"]


def _write_mp4(path: Path, pictures: Iterable[np.ndarray], fps: float, size: tuple[int, int]) -> None:
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(
        str(path), size, fps=fps, codec="libx264", quality=7, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for picture in pictures:
            writer.send(np.ascontiguousarray(picture))
    finally:
        writer.close()
    if not is_whole_mp4(path):  # The encoder's end is not reported.
        raise OSError("the encoder did not finish the video")


def is_whole_mp4(path: Path) -> bool:
    """Whether the parts of a video fill the file, the index among them, which is written last."""
    content, place, names = path.read_bytes(), 0, []
    while place + 8 <= len(content):
        names.append(content[place + 4 : place + 8])
        place += max(8, int.from_bytes(content[place : place + 4], "big"))
    return place == len(content) and b"moov" in names


def _write_gif(path: Path, pictures: Iterable[np.ndarray], fps: float) -> None:
    from PIL import Image

    palette: Image.Image | None = None
    frames = []
    for picture in pictures:
        image = Image.fromarray(picture)
        # One palette for all frames: colours do not flicker, and the file is smaller. It is made from the middle of the
        # picture, or the few pixels of the robot would have to do with the colours of the floor.
        palette = palette or image.crop((0.25 * image.width, 0, 0.75 * image.width, image.height)).quantize()
        frames.append(image.quantize(palette=palette, dither=Image.Dither.NONE))
    duration = 10 * max(2, round(100.0 / fps))  # [ms] a GIF counts time in hundredths of a second
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)
