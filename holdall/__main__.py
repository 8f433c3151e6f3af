"""The command line: `holdall`, and `python -m holdall`."""

import signal
from importlib import import_module


def main() -> None:
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while all of it is loaded ends in silence
    command = import_module("holdall.command.cli").cli  # by name: nothing in this folder depends on the command line
    signal.signal(signal.SIGINT, heard)
    command(prog_name="holdall")


if __name__ == "__main__":
    main()
