"""Task and training configurations: nested classes in the shape that users of legged_gym know, one file per task."""

from __future__ import annotations

OWNER = "cmg_ref"  # by which `cmg_ref.core.installation` knows it
