"""Packages that only some commands need, and the extra of this package that brings each."""

from __future__ import annotations

import importlib.util

_EXTRAS = {
    "numba": "fast",
    "mujoco": "mujoco",
    "matplotlib": "viz",
    "imageio_ffmpeg": "viz",
    "PIL": "viz",
    "tensorboard": "train",
    "rsl_rl": "train",
    "tensordict": "train",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "redis": "serve",
}
_PACKAGES = {"PIL": "pillow", "rsl_rl": "rsl-rl-lib", "imageio_ffmpeg": "imageio-ffmpeg"}


class InstallationError(ModuleNotFoundError):
    """A package is missing, or another has taken its place; the message is one line that says what to install."""


def check_installed(*modules: str) -> None:
    """Check that modules of the extras can be imported, without importing them.

    Raises:
        InstallationError: One cannot.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise InstallationError(_needed(module), name=module)


def what_to_install(error: ImportError) -> str | None:
    """One line about the package that an import did not find; None if the error has another cause."""
    module = (error.name or "").split(".")[0]
    if isinstance(error, InstallationError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and module in _EXTRAS and error.name == module:
        return _needed(module)
    return None


def _needed(module: str) -> str:
    package = _PACKAGES.get(module, module)
    return f"needs {package}, which is not installed: pip install 'cmg_ref[{_EXTRAS[module]}]'"
