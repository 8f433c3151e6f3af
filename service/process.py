"""How a process of ours is started: a new interpreter, never a fork, that finds this very package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

import holdall

WORKING_DIRECTORY = "/"
"""Of every child, so that no file of the directory a user happens to be in is imported."""


def command(module: str, settings: object, *options: str) -> list[str]:
    """The command line that runs `module` with these settings."""
    return [sys.executable, "-m", module, msgspec.json.encode(settings).decode(), *options]


def environment() -> dict[str, str]:
    """The environment for it."""
    home = str(Path(holdall.__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (home, inherited)))}
