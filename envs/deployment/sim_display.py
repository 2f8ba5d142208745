"""Shows a plain simulation in MuJoCo's window, or draws a video of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco

from envs.deployment.exported_controller import ArtefactError
from envs.deployment.plain_simulation import PlainSimulation

WIDTH, HEIGHT, FPS = 640, 480, 25


class Window:
    """MuJoCo's viewer, in real time; a context that gives what is to be called after each control step."""

    def __init__(self, simulation: PlainSimulation) -> None:
        self._simulation = simulation

    def __enter__(self) -> Callable[[PlainSimulation], None]:
        import mujoco.viewer

        self._viewer = mujoco.viewer.launch_passive(self._simulation.model, self._simulation.data)
        self._next = time.monotonic()
        return self._show

    def _show(self, simulation: PlainSimulation) -> None:
        if not self._viewer.is_running():
            raise KeyboardInterrupt
        self._viewer.sync()
        self._next += simulation.controller.control_dt
        time.sleep(max(0.0, self._next - time.monotonic()))

    def __exit__(self, *_: object) -> None:
        self._viewer.close()


class Video:
    """An MP4 file; a context that gives what is to be called after each control step.

    Raises:
        ArtefactError: There is no OpenGL (EGL or OSMesa), or the package imageio-ffmpeg is missing.
    """

    def __init__(self, simulation: PlainSimulation, path: Path) -> None:
        self._path, self._every = path, max(1, round(1.0 / (FPS * simulation.controller.control_dt)))
        try:
            import imageio_ffmpeg

            self._renderer = mujoco.Renderer(simulation.model, HEIGHT, WIDTH)
        except ImportError as error:
            raise ArtefactError(f"a video needs the package imageio-ffmpeg ({error})") from error
        except Exception as error:  # whatever the OpenGL library throws
            raise ArtefactError(f"a video needs OpenGL: set MUJOCO_GL to egl or osmesa ({error})") from error
        self._camera = mujoco.MjvCamera()
        self._camera.distance, self._camera.elevation, self._camera.azimuth = 3.0, -15.0, 135.0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer: Any = imageio_ffmpeg.write_frames(str(path), (WIDTH, HEIGHT), fps=FPS)
        self._steps = 0

    def __enter__(self) -> Callable[[PlainSimulation], None]:
        self._writer.send(None)
        return self._show

    def _show(self, simulation: PlainSimulation) -> None:
        self._steps += 1
        if self._steps % self._every == 0:
            self._camera.lookat[:] = simulation.data.qpos[:3]
            self._renderer.update_scene(simulation.data, self._camera)
            self._writer.send(self._renderer.render().tobytes())

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        self._renderer.close()
        print(f"wrote {self._path}")
