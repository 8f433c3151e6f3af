"""A service as a child of a client: `python -m holdall.service SETTINGS [--detach]`.

Without `--detach` it ends when its standard input does. With it, it lives on by itself: this process forks before it has
loaded anything, the parent waits for the first line of the child, repeats it and ends.
"""

import os
import signal
import sys
from pathlib import Path


def _detach() -> None:
    """Go on in a child in a session of its own, and let this process end once the child has said a line."""
    readable, writable = os.pipe()
    if os.fork():
        os.close(writable)
        with open(readable) as report:
            line = report.readline()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # what has started this may be gone
        print(line, end="", flush=True)
        os._exit(0)
    os.close(readable)
    os.setsid()
    os.dup2(writable, 1)
    os.close(writable)


def _log_to(data: Path) -> None:
    """Let this process and its children write to a file: the standard error that they inherited is their starter's."""
    from holdall.errors import Error
    from holdall.private import open_own
    from holdall.worker.directory.opening import DataDirectory

    try:
        DataDirectory(data).make()
        log = open_own(data / "service.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except (Error, OSError):  # the service is about to say what is wrong with the directory
        log = os.open(os.devnull, os.O_WRONLY)
    os.dup2(log, 2)
    os.close(log)


def _main() -> int:
    detached = "--detach" in sys.argv
    if detached:
        _detach()

    import msgspec

    from holdall.errors import Error
    from holdall.process.child import EXIT_REFUSED, READY, refusal, tell_parent
    from holdall.process.config import ServiceSettings

    from .supervisor import run

    settings = msgspec.json.decode(sys.argv[1], type=ServiceSettings)
    if detached:
        _log_to(Path(settings.data))

    def announce(_urls: list[str]) -> None:
        tell_parent(READY)
        if detached:  # the process that waits for the end of this output has waited long enough
            os.dup2(2, 1)

    try:
        run(settings, announce, supervised=not detached)
    except Error as error:
        tell_parent(refusal(error))
        return EXIT_REFUSED
    return 0


sys.exit(_main())
