"""What tests share: where the real motion clips lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def motion_folder() -> Path:
    """Folder of real clips: `$CMG_MOTION_FOLDER`, else `../shared/motion` beside the repository; skips without it."""
    folder = Path(os.environ.get("CMG_MOTION_FOLDER", Path(__file__).parents[2] / "shared" / "motion"))
    if not folder.is_dir():
        pytest.skip(f"no motion clips in {folder} (set CMG_MOTION_FOLDER)")
    return folder
