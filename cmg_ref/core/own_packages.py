"""Whether `envs` and `configs`, names that other projects use as well, are this project's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cmg_ref.core.extras import InstallationError

OWNER = "cmg_ref"
_MARK = f'OWNER = "{OWNER}"'


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
