"""`holdall`: the entry point. It only says what to install when the command line's libraries are missing."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"the command line needs the package {error.name}: pip install 'holdall[cli]'")
    from holdall.command.cli import cli

    cli(prog_name="holdall")
