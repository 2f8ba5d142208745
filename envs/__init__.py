"""Environments, simulators and videos: what needs more than the library itself."""

from __future__ import annotations

from cmg_ref.core.installation import check_own_packages

OWNER = "cmg_ref"  # by which `cmg_ref.core.installation` knows it

check_own_packages()
