"""What happens once in a process: an import, and the start of a private service.

An import is that of a client's own install: of the base dependencies and nothing else. In an environment for developers
`import msgspec` finds typing_extensions and loads them too, and the editable install's finder has loaded half of what `import
zmq` needs before the clock runs: there the same two imports took 55 and 20 ms, and 35 and 30 as a client has them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import holdall

_PACKAGES = ("holdall", "cloudpickle", "isal", "msgspec", "platformdirs", "zmq")
"""What setup.cfg installs for a client."""
_TIMED = """
import sys
sys.path.append({folder!r})
from time import perf_counter as now
started = now()
{statement}
print((now() - started) * 1000)
"""


@contextmanager
def client_install() -> Generator[Path, None, None]:
    """A folder that has what a client's own install has."""
    with TemporaryDirectory(prefix="holdall-install-") as name:
        folder = Path(name)
        for package in _PACKAGES:
            spec = find_spec(package)
            assert spec is not None
            assert spec.submodule_search_locations is not None
            [place] = map(Path, spec.submodule_search_locations)
            (folder / package).symlink_to(place.resolve())
            for libraries in place.parent.glob("*.libs"):  # a wheel's own, which it looks for beside itself
                if not (folder / libraries.name).exists():
                    (folder / libraries.name).symlink_to(libraries)
        yield folder


def import_milliseconds(statement: str, folder: Path) -> float:
    """How long this statement takes in a new interpreter that finds what is in this folder."""
    command = [sys.executable, "-I", "-S", "-c", _TIMED.format(folder=str(folder), statement=statement)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def start_milliseconds() -> float:
    """From nothing to the first answer of a private service."""
    started = perf_counter()
    service = holdall.LocalService()
    service.start()
    try:
        with holdall.Client(service.url) as client:
            d: holdall.Dict[str, int] = holdall.Dict.from_name("first", create_if_missing=True, client=client)
            d["key"] = 1
            return (perf_counter() - started) * 1000
    finally:
        service.stop()
