"""Serve motion frames to the low level of TWIST or TWIST2; `--help` says how."""

from __future__ import annotations

from envs.cli.serve import main

if __name__ == "__main__":
    main()
