"""Figures as a table, a JSON file and a plot."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Sequence

import torch

from cmg_ref.benchmark.figures import Figure
from cmg_ref.files.atomic_file import atomic_file, write_file


def machine_name(device: torch.device) -> str:
    """The device, and the software that runs on it."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = platform.processor() or platform.machine()
        cpuinfo = Path("/proc/cpuinfo")
        if cpuinfo.is_file():
            models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
            name = models[0].split(":")[1].strip() if models else name
        name = f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{name}; torch {torch.__version__}, Python {platform.python_version()}"


def markdown(figures: Sequence[Figure], title: str) -> str:
    """A table with a line per figure."""
    lines = [
        title,
        "",
        "| measure | environments | type | value | limit | ratio | must | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        limit = "" if figure.limit is None else f"{_short(figure.limit)} {figure.unit}"
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        verdict = "" if figure.meets is None else "yes" if figure.meets else "**no**"
        note = f"{verdict}; {figure.note}" if verdict and figure.note else verdict or figure.note
        value = f"{_short(figure.value)} {figure.unit}"
        lines.append(
            f"| {figure.name} | {figure.num_envs or ''} | {figure.dtype} | {value} | {limit} | {ratio} "
            f"| {_asked(figure)} | {note} |"
        )
    return "\n".join(lines) + "\n"


def save(figures: Sequence[Figure], folder: Path, title: str) -> list[Path]:
    """Write ``benchmark.json``, ``benchmark.md`` and, where matplotlib is installed, ``benchmark.png``.

    Returns:
        The files.

    Raises:
        OSError: The folder cannot be written.
    """
    files = [folder / "benchmark.json", folder / "benchmark.md"]
    write_file(files[0], json.dumps([figure.to_json() for figure in figures], indent=2) + "\n")
    write_file(files[1], markdown(figures, title))
    try:
        import matplotlib

        matplotlib.use("Agg")
    except ImportError:
        return files
    files.append(folder / "benchmark.png")
    with atomic_file(files[2]) as temporary:
        _plot(figures, temporary)
    return files


def write_into(path: Path, figures: Sequence[Figure], title: str) -> None:
    """Replace what stands in a document between ``<!-- benchmark: table -->`` and ``<!-- end of benchmark -->``.

    Raises:
        OSError: The document cannot be read or written.
        ValueError: It has no such marks.
    """
    text = path.read_text(encoding="utf-8")
    begin, end = "<!-- benchmark: table -->\n", "<!-- end of benchmark -->"
    marks = re.compile(f"{begin}.*?{end}", re.DOTALL)
    if not marks.search(text):
        raise ValueError(f"{path} has no marks {begin.strip()} and {end}")
    write_file(path, marks.sub(lambda _: f"{begin}{markdown(figures, title)}{end}", text))


def _plot(figures: Sequence[Figure], path: Path) -> None:
    """Ratio of every figure that has a limit, as a bar, with what is asked of it."""
    from matplotlib import pyplot

    shown = [figure for figure in figures if figure.ratio is not None]
    height = 0.8 + 0.3 * max(1, len(shown))
    canvas, axes = pyplot.subplots(figsize=(9.0, height), layout="constrained")
    for row, figure in enumerate(shown):
        color = {True: "tab:green", False: "tab:red", None: "tab:gray"}[figure.meets]
        assert figure.ratio is not None
        axes.barh(row, figure.ratio, color=color, height=0.7)
        for bound in (figure.at_least, figure.at_most):
            if bound is not None:
                axes.plot([bound, bound], [row - 0.45, row + 0.45], color="black", linewidth=2)
    axes.set_yticks(range(len(shown)), [f"{figure.name}, {figure.num_envs}, {figure.dtype}" for figure in shown])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("value / limit (black: what is asked for)")
    axes.grid(axis="x", alpha=0.3)
    canvas.savefig(path, dpi=110)
    pyplot.close(canvas)


def _asked(figure: Figure) -> str:
    """What is asked of a figure, in words."""
    unit = "" if figure.limit is not None else f" {figure.unit}"
    parts = []
    if figure.at_least is not None:
        parts.append(f">= {figure.at_least:.3g}{unit}")
    if figure.at_most is not None:
        parts.append(f"<= {figure.at_most:.3g}{unit}")
    return ", ".join(parts)


def _short(value: float) -> str:
    """Three digits, without an exponent for what people read."""
    return f"{value:.0f}" if abs(value) >= 100.0 else f"{value:.3g}"
