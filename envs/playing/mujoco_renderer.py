"""Draws figures by MuJoCo's OpenGL renderer, in a process of its own.

Off-screen OpenGL needs EGL or OSMesa, a machine may have neither, and a driver that fails may take its process along.
So a worker (`python -m envs.playing.mujoco_renderer`) gets all poses through its standard input and hands back the
pictures through its standard output; if it fails, the parent is told why and goes on.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cmg_ref.drawing.ray_caster import Camera, Figure

FRAME_TIMEOUT = 60.0  # [s] a worker that takes longer for a picture hangs


class RendererError(RuntimeError):
    """MuJoCo cannot draw on this machine; the message is one line that says why."""


def backends() -> list[str]:
    """Values of MUJOCO_GL that are worth trying, the user's own choice alone if there is one."""
    chosen = os.environ.get("MUJOCO_GL")
    if chosen:
        return [chosen]
    return ["egl", "osmesa"] if sys.platform.startswith("linux") else [""]


def render_with_mujoco(
    figures: Sequence[Sequence[Figure]], centers: np.ndarray, camera: Camera, width: int, height: int
) -> tuple[str, Iterator[np.ndarray]]:
    """Draws all frames with the first OpenGL that works.

    Args:
        figures: the figures of each frame, the same ones in all frames.
        centers: x and y of the point that the camera follows, (num_frames, 2) [m].
        camera: where to look from.
        width: of the pictures [pixels].
        height: of the pictures [pixels].

    Returns:
        The name of the OpenGL, and the RGB pictures, (height, width, 3) uint8, one a frame.

    Raises:
        RendererError: MuJoCo is not installed, or none of its OpenGL backends works.
    """
    if find_spec("mujoco") is None:
        raise RendererError("MuJoCo is not installed (pip install 'cmg_ref[mujoco]')")
    job = io.BytesIO()
    np.savez(
        job,
        start=np.array([np.concatenate([figure.start for figure in frame]) for frame in figures]),
        end=np.array([np.concatenate([figure.end for figure in frame]) for frame in figures]),
        radius=np.concatenate([figure.radius for figure in figures[0]]),
        color=np.concatenate([figure.color for figure in figures[0]]),
        opacity=np.concatenate([np.full(len(figure.radius), figure.opacity) for figure in figures[0]]),
        centers=centers,
        camera=(camera.azimuth, camera.elevation, camera.distance, camera.height, camera.field_of_view),
        size=(width, height),
    )
    reasons = []
    for backend in backends():
        frames = _run_worker(job.getvalue(), backend, len(figures), (height, width, 3))
        try:
            first = next(frames)
        except RendererError as error:
            reasons.append(f"{backend or 'OpenGL'}: {error}")
            continue
        return backend or "OpenGL", _chain(first, frames)
    hint = " (on Debian: apt install libosmesa6)" if sys.platform.startswith("linux") else ""
    raise RendererError(f"no OpenGL off screen: {'; '.join(reasons)}{hint}")


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _run_worker(job: bytes, backend: str, num_frames: int, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Pictures of a worker as they come.

    Raises:
        RendererError: with the last line that the worker wrote before it ended.
    """
    environment = {**os.environ, **({"MUJOCO_GL": backend} if backend else {})}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "envs.playing.mujoco_renderer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            # The worker may end before it has read everything: why, its error output tells.
            try:
                process.stdin.write(job)
                process.stdin.close()
            except BrokenPipeError:
                pass
            for _ in range(num_frames):
                watchdog = threading.Timer(FRAME_TIMEOUT, process.kill)
                watchdog.start()
                picture = process.stdout.read(int(np.prod(shape)))
                watchdog.cancel()
                if len(picture) < np.prod(shape):
                    process.wait()
                    errors.seek(0)
                    lines = errors.read().decode(errors="replace").strip().splitlines()
                    raise RendererError(lines[-1] if lines else f"ended with code {process.returncode}")
                yield np.frombuffer(picture, dtype=np.uint8).reshape(shape)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


# --- The worker ------------------------------------------------------------------------------------------------------

SCENE = """
<mujoco>
  <visual>
    <global offwidth="{width}" offheight="{height}" fovy="{field_of_view}"/>
    <quality shadowsize="2048" offsamples="4"/>
    <map fogstart="2.5" fogend="12" shadowclip="1.5"/>
    <headlight ambient="0.40 0.40 0.41" diffuse="0.18 0.18 0.18" specular="0 0 0"/>
    <rgba fog="0.90 0.93 0.96 1" haze="0.90 0.93 0.96 1"/>
  </visual>
  <statistic extent="1.5" center="0 0 0.7"/>
  <asset>
    <texture type="skybox" builtin="gradient" rgb1="0.90 0.93 0.96" rgb2="0.50 0.62 0.76" width="256" height="1536"/>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.76 0.80 0.86" rgb2="0.90 0.93 0.97"
      width="256" height="256"/>
    <material name="floor" texture="floor" texuniform="true" texrepeat="2 2" specular="0.1"/>
    <material name="shell" specular="0.5" shininess="0.6"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 0.05" material="floor"/>
    <body name="lamp" mocap="true">
      <light directional="true" castshadow="true" pos="{light}" dir="{shine}"
        diffuse="0.48 0.48 0.47" specular="0.25 0.25 0.25" ambient="0 0 0"/>
    </body>
{shapes}
  </worldbody>
</mujoco>
"""


def _scene(job: dict[str, np.ndarray]) -> str:
    """MJCF of floor, light and one movable body for every capsule."""
    azimuth, _, _, _, field_of_view = job["camera"]
    turn = np.deg2rad(azimuth)
    # Over the camera's left shoulder.
    light = 1.6 * np.array((-np.cos(turn) - 0.9 * np.sin(turn), -np.sin(turn) + 0.9 * np.cos(turn), 1.5))
    half_length = 0.5 * np.linalg.norm(job["end"][0] - job["start"][0], axis=-1)
    # Where parts of a ghost overlap, MuJoCo draws one through the other: each has to be thinner.
    opacities = np.where(job["opacity"] < 1.0, 0.5 * job["opacity"], 1.0)
    shapes = [
        f'<body mocap="true"><geom type="capsule" size="{radius:.6g} {max(half, 1e-5):.6g}" material="shell" '
        f'rgba="{color[0]:.4g} {color[1]:.4g} {color[2]:.4g} {opacity:.4g}" contype="0" conaffinity="0"/></body>'
        for radius, half, color, opacity in zip(job["radius"], half_length, job["color"], opacities, strict=True)
    ]
    return SCENE.format(
        width=job["size"][0],
        height=job["size"][1],
        field_of_view=field_of_view,
        light=" ".join(f"{value:.4g}" for value in light),
        shine=" ".join(f"{-value:.4g}" for value in light),
        shapes="\n".join(shapes),
    )


def quat_wxyz_from_z_axis(axis: np.ndarray) -> np.ndarray:
    """The smallest turn of (0, 0, 1) into each axis, MuJoCo's wxyz, (..., 3) -> (..., 4)."""
    length = np.linalg.norm(axis, axis=-1, keepdims=True)
    axis = np.where(length > 1e-9, axis / np.maximum(length, 1e-9), (0.0, 0.0, 1.0))
    # Half way between the two axes; straight down, any horizontal axis will do.
    w = 1.0 + axis[..., 2:]
    quat = np.concatenate((w, -axis[..., 1:2], axis[..., :1], np.zeros_like(w)), axis=-1)
    quat = np.where(w > 1e-6, quat, (0.0, 1.0, 0.0, 0.0))
    return quat / np.linalg.norm(quat, axis=-1, keepdims=True)


def _work() -> None:
    """Reads a job from standard input, writes its pictures to standard output."""
    pictures = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a driver prints must not get among the pictures
    import mujoco

    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as archive:
        job = dict(archive)
    width, height = (int(value) for value in job["size"])
    model = mujoco.MjModel.from_xml_string(_scene(job))
    data = mujoco.MjData(model)
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.distance = job["camera"][:3]
    positions = 0.5 * (job["start"] + job["end"])  # (num_frames, num_shapes, 3)
    quats = quat_wxyz_from_z_axis(job["end"] - job["start"])
    with mujoco.Renderer(model, height, width) as renderer:
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = True
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        for position, quat, center in zip(positions, quats, job["centers"], strict=True):
            data.mocap_pos[0, :2] = center
            data.mocap_pos[1:] = position
            data.mocap_quat[1:] = quat
            camera.lookat[:] = (*center, job["camera"][3])
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            pictures.write(renderer.render().tobytes())
            pictures.flush()


if __name__ == "__main__":
    _work()
