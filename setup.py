"""Packaging of cmg_ref; the settings of the tools (ruff, mypy, pytest) stand in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="cmg_ref",
    version="0.2.0",
    description="Reference motion of the Unitree G1 from a velocity command, for thousands of environments at once",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the cmg_ref authors",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    # Isaac Gym exists for Python 3.8 at most, so the library has to go on running there.
    python_requires=">=3.8",
    packages=find_packages(include=["cmg_ref", "cmg_ref.*", "envs", "envs.*", "configs", "configs.*"]),
    package_data={"cmg_ref": ["py.typed", "assets/*"], "envs": ["assets/*"]},
    # Beside most stands scripts/<name>.py, which runs the same without an installation.
    entry_points={
        "console_scripts": [
            "cmg-generate = envs.cli.generate:main",
            "cmg-play = envs.cli.play:main",
            "cmg-drive = envs.cli.drive:main",
            "cmg-sim = envs.cli.sim:main",
            "cmg-serve = envs.cli.serve:main",
            "cmg-train-policy = envs.cli.train_policy:main",
            "cmg-benchmark-environment = envs.cli.benchmark_environment:main",
            "cmg-average-policies = envs.cli.average_policies:main",
            "cmg-compare-runs = envs.cli.compare_runs:main",
            "cmg-prepare-data = cmg_ref.cli.prepare_data:main",
            "cmg-train = cmg_ref.cli.train:main",
            "cmg-evaluate = cmg_ref.cli.evaluate:main",
            "cmg-export = cmg_ref.cli.export:main",
            "cmg-import = cmg_ref.cli.import_checkpoint:main",
            "cmg-benchmark = cmg_ref.cli.benchmark:main",
            "cmg-twist = envs.cli.twist:main",
        ],
        # Imported by mjlab itself, where it is installed.
        "mjlab.tasks": ["cmg_ref = envs.hosts.mjlab.tasks"],
    },
    # `make test-lowest` tests the lowest versions below but those of `export`; `make test-py38` tests the library with
    # the lowest torch.
    install_requires=["torch>=1.12", "numpy>=1.23", "safetensors>=0.4", "tqdm>=4.42"],
    extras_require={
        # Compiles what lies between the matrix products on a CPU.
        "fast": ["numba>=0.58"],
        # The physics (mujoco.batch of 3.17 cannot yet tell which fields differ between worlds) and the OpenGL renderer;
        # without it videos are drawn in software. MuJoCo 4 needs Python 3.11.
        "mujoco": ["mujoco>=4.0"],
        # Plots and videos.
        "viz": ["matplotlib>=3.6", "imageio-ffmpeg>=0.4.5", "pillow>=10.1"],
        # Training curves, and the reinforcement learning of version 5, which needs torch 2.6; Isaac Gym's Python 3.8
        # has an older one.
        "train": ["tensorboard>=2.12", "rsl-rl-lib>=5.5 ; python_version >= '3.10'"],
        # Networks as ONNX files: the versions that `make test` has. The exporter of torch 2.6 fails on them.
        "export": ["torch>=2.13", "onnx>=1.23", "onnxruntime>=1.32", "onnxscript>=0.7"],
        # The motion server for TWIST and TWIST2 (with `export` for --calibrate); its tests start Debian's redis-server.
        "serve": ["redis>=5.0"],
        # Driving robots from the browser (with `export` for TWIST2's policy); its tests start Debian's chromium.
        "drive": ["viser>=1.1.1"],
        # In a virtual environment of its own, since mjlab wants an older MuJoCo than "mujoco" above; onnxruntime checks
        # what its trainings export.
        "mjlab": ["mjlab>=1.6,<1.7", "onnxruntime>=1.32"],
        # What `make test` runs. setuptools builds the wheel that a test looks into; Triton interprets its kernels.
        "dev": ["pytest", "pytest-xdist", "ruff", "mypy", "setuptools", "triton ; sys_platform == 'linux'"],
    },
)
