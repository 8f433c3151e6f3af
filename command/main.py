"""`holdall`: the entry point. It only says what to install when the command line's libraries are missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line."""
    for package in ("click", "rich"):
        if find_spec(package) is None:
            sys.exit(f"the command line needs the package {package}: pip install 'holdall[cli]'")
    from holdall.command.cli import cli

    cli(prog_name="holdall")
