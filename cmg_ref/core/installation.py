"""What is installed: packages that only some programs need, and whether `envs` and `configs` are this project's own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

OWNER = "cmg_ref"
_MARK = f'OWNER = "{OWNER}"'
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
    "viser": "drive",
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


def check_own_packages() -> None:
    """Check, without importing them, that `envs` and `configs` would be the ones that came with this `cmg_ref`.

    Raises:
        InstallationError: Another package of that name is found before it, or was installed over it.
    """
    home = Path(__file__).resolve().parents[2]
    for name in ("envs", "configs"):
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise InstallationError(f"the package '{name}' of cmg_ref is missing from {home}: install cmg_ref again")
        places = [Path(place).resolve() for place in spec.submodule_search_locations or [spec.origin or ""]]
        if places != [home / name]:
            raise InstallationError(
                f"another package '{name}' hides that of cmg_ref: {places[0]} comes before {home / name} in sys.path"
            )
        if _MARK not in (home / name / "__init__.py").read_text(encoding="utf-8"):
            raise InstallationError(
                f"another package has put its '{name}' over that of cmg_ref in {home / name}: "
                "uninstall it, and install cmg_ref again"
            )
