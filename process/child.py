"""What a broker's and a worker's process have in common: how it is started, how it says that it is ready, how it ends.

A child is a new interpreter, never a fork, that finds this very package. It ends when its standard input does: the kernel
closes that when the parent dies, however it dies. It leaves SIGINT to its parent (a terminal sends it to both). It writes one
line to its standard output: READY, or why it cannot start. One that was started by hand is not `supervised`: SIGINT ends it.
"""

from __future__ import annotations

import gc
import os
import re
import resource
import signal
import site
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import holdall
from holdall import errors
from holdall.errors import Error

from . import logs
from .admission import raise_descriptor_limit
from .config import BrokerSettings, WorkerSettings
from .slices import ask_for_short_slices

WORKING_DIRECTORY = "/"
"""Of every child, so that no file of the directory a user happens to be in is imported."""
INHERITED = re.compile(
    "PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|TZ|TMPDIR|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|VIRTUAL_ENV|(LC|XDG|HOLDALL|COVERAGE)_.*|"
    "PYTHON(HOME|PATH|USERBASE|NOUSERSITE|PLATLIBDIR|DONTWRITEBYTECODE|PYCACHEPREFIX)"
)
"""The variables that a child inherits: those by which programs, this package and the user's directories are found, and ours."""
READY = "ready"
STUCK = "stuck: "
"""What a broker says of a worker, by its name, that does not answer: its parent replaces it."""
EXIT_REFUSED = 3
"""Exit status of a process that cannot start as things are; starting it again would not help."""
EXIT_IDLE = 4
"""Exit status of a broker that was not used for its idle time."""
EXIT_LOST = 5
"""Exit status of a broker whose sockets were removed."""
EXIT_GONE = 6
"""Exit status of a worker whose part of the data directory is no longer what it has locked."""


def command(module: str, settings: object, *options: str) -> list[str]:
    """The command line that runs `module` with these settings."""
    return [sys.executable, "-m", module, msgspec.json.encode(settings).decode(), *options]


def environment() -> dict[str, str]:
    """The environment of a child. PYTHONPATH leads to this package where Python does not look for it after its own library."""
    kept = {name: value for name, value in os.environ.items() if INHERITED.fullmatch(name)}
    home = str(Path(holdall.__file__).resolve().parent.parent)
    is_installed = home in map(os.path.realpath, (*site.getsitepackages(), site.getusersitepackages()))
    path = [*([] if is_installed else [home]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path)} if path else kept


def be_private() -> None:
    """Leave others nothing of this process: not the files it makes, nor, if it crashes, its memory."""
    os.umask(0o077)
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0 if most == 0 else 1, most))  # 1: a program that takes cores gets none either


def _noted(_number: int, _frame: object) -> None:
    """A signal whose only effect is a byte in the wake-up pipe."""


class Child:
    """This process, as its loop sees it: what to watch for the end, and where to say that it is ready."""

    def __init__(self, *, supervised: bool) -> None:
        self._supervised = supervised
        self._signalled, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, _noted)
        signal.signal(signal.SIGINT, signal.SIG_IGN if supervised else _noted)
        self.watched = [self._signalled, *([sys.stdin.fileno()] if supervised else [])]
        """Descriptors, any of which becomes readable when this process is to end."""

    def ready(self) -> None:
        """Say that requests can come."""
        gc.freeze()  # no collection looks through the modules again: those at its end are most of the time it takes
        self.say(READY)
        ask_for_short_slices()

    def say(self, line: str) -> None:
        if self._supervised:
            tell_parent(line)


def run(settings: BrokerSettings | WorkerSettings, main: Callable[[Any, Child], int | None], *, supervised: bool) -> int:
    """Run `main(settings, child)` as this process. Returns its exit status; by hand, raises why it cannot start."""
    raise_descriptor_limit()
    be_private()
    child = Child(supervised=supervised)
    try:
        logs.begin(settings.process)
        return main(settings, child) or 0
    except Error as error:
        if not supervised:
            raise
        tell_parent(refusal(error))
        return EXIT_REFUSED


def tell_parent(line: str) -> None:
    """Write a line to standard output, which the parent reads."""
    try:
        os.write(sys.stdout.fileno(), f"{line}\n".encode())  # print would try again, and complain, at the end
    except BrokenPipeError:  # it is gone, and so is the other end of standard input: this process ends anyway
        pass


def refusal(error: Error) -> str:
    """The line that says why a process cannot start."""
    return msgspec.json.encode([type(error).__name__, str(error)]).decode()


def refusal_error(line: str | bytes) -> Error:
    """The error in such a line; of a line that is none, an error that shows it."""
    try:
        name, text = msgspec.json.decode(line, type=tuple[str, str])
        kind = getattr(errors, name)
        return kind(text) if issubclass(kind, Error) else Error(text)
    except (msgspec.MsgspecError, AttributeError, TypeError):
        return errors.StorageError(f"a process of the service ended before it was ready: {line!r}")


def run_supervised(kind: type[BrokerSettings | WorkerSettings], main: Callable[[Any, Child], int | None]) -> None:
    """Run `main` with the settings that the parent gave as JSON in the only argument, and exit."""
    sys.exit(run(msgspec.json.decode(sys.argv[1], type=kind), main, supervised=True))
