"""A picture of the commands that a dataset covers."""

from __future__ import annotations

from pathlib import Path

from cmg_ref.clips.dataset import MotionDataset
from cmg_ref.files.atomic_file import atomic_file

RANGES = {"vx": (-2.0, 5.0), "vy": (-2.0, 2.0), "wz": (-4.0, 4.0)}
BIN_WIDTHS = {"vx": 0.1, "vy": 0.1, "wz": 0.2}
LABELS = {"vx": "forward [m/s]", "vy": "to the left [m/s]", "wz": "yaw rate [rad/s]"}


def plot_velocity_coverage(dataset: MotionDataset, path: str | Path) -> None:
    """Draws seconds of valid frames over the command, for training and held-out clips.

    Args:
        dataset: The dataset.
        path: Image file; the suffix tells the format.

    Raises:
        ImportError: Matplotlib is missing; the message tells what to install.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the coverage picture needs matplotlib: pip install 'cmg_ref[viz]'") from error

    layout = dataset.command_layout
    forward, *others = layout.labels
    ranges = {**{channel.label: channel.range for channel in layout}, **RANGES}
    widths = {**{channel.label: 0.5 * channel.bins[0] for channel in layout}, **BIN_WIDTHS}
    names = {**{channel.label: f"{channel.label} [{channel.unit}]" for channel in layout}, **LABELS}
    figure = Figure(figsize=(5.5 * len(others), 7), layout="constrained")
    axes = figure.subplots(2, len(others), squeeze=False)
    for row, held_out in enumerate((False, True)):
        frames = dataset.valid & (dataset.frame_held_out == held_out)
        columns = dict(zip(layout.labels, dataset.commands[frames].numpy().T))
        seconds = len(columns[forward]) / dataset.fps
        for axis, other in zip(axes[row], others):
            bins = [round((ranges[name][1] - ranges[name][0]) / widths[name]) for name in (forward, other)]
            *_, image = axis.hist2d(
                columns[forward],
                columns[other],
                bins=bins,
                range=[ranges[forward], ranges[other]],
                weights=[1.0 / dataset.fps] * len(columns[forward]),
                norm=LogNorm(vmin=1.0 / dataset.fps, vmax=100.0),
            )
            axis.set_xlabel(names[forward])
            axis.set_ylabel(names[other])
            axis.set_title(f"{'held out' if held_out else 'training'}: {seconds / 60.0:.1f} min")
            figure.colorbar(image, ax=axis, label="seconds per bin")
    with atomic_file(path) as temporary:
        FigureCanvasAgg(figure).print_figure(str(temporary), dpi=100)
