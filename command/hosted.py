"""What stands for the hosted package in a program that `holdall run` runs: the Dict is ours, and the functions run here.

1. A function's `remote` and `map` run in a process of their own, which loads the same file.
2. An Image that asks for packages is an environment made with venv, once, and kept in the user's cache; what is installed here
   is found there too, behind its own.
3. What asks for hardware, time or a schedule by an argument of App or `function` is taken, and means nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import hashlib
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import cloudpickle  # type: ignore[import-untyped]
import platformdirs

import holdall
from holdall import Dict as Dict
from holdall.errors import Error, InvalidError
from holdall.processors import usable

IMPORTED_AS = "modal"  # by programs


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"`holdall run` has App, Dict and Image of the hosted package, and no {name}")


class Image:
    """The packages that a function needs."""

    def __init__(self, packages: tuple[str, ...] = ()) -> None:
        self.packages = packages

    @classmethod
    def debian_slim(cls, python_version: str | None = None) -> Image:
        here = ".".join(map(str, sys.version_info[:2]))
        if python_version not in (None, here):
            raise InvalidError(f"an image with Python {python_version} cannot be made here: this is Python {here}")
        return cls()

    def pip_install(self, *packages: str | Iterable[str], **options: Any) -> Image:
        """These packages too, as pip names them."""
        if options:
            raise InvalidError(f"pip_install takes packages alone here, and not {', '.join(options)}")
        flat = [each for some in packages for each in ([some] if isinstance(some, str) else some)]
        return Image((*self.packages, *flat))

    def python(self) -> str:
        """The Python that has the packages; the first time, they are installed."""
        if not self.packages:
            return sys.executable
        wanted = "\n".join([sys.base_prefix, sys.version, *sorted(self.packages)])
        place = Path(platformdirs.user_cache_path("holdall")) / "images" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
        place.mkdir(parents=True, exist_ok=True)
        with open(place / "complete", "a+") as complete:  # another process may be making it
            fcntl.flock(complete, fcntl.LOCK_EX)
            if not complete.tell():
                self._make(place)
                complete.write("yes")
        self._show_ours(place)
        return str(place / "bin" / "python")

    def _make(self, place: Path) -> None:
        print(f"installing {' '.join(self.packages)} in {place}", file=sys.stderr, flush=True)
        try:
            venv.create(place, with_pip=True, symlinks=True)
            install = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*install, "--", *self.packages], check=True, stdin=subprocess.DEVNULL)
        except subprocess.CalledProcessError as error:
            raise Error(f"the packages {' '.join(self.packages)} could not be installed: {error}") from None

    @staticmethod
    def _show_ours(place: Path) -> None:
        """Have this holdall, and what it needs, be found there, wherever it is now."""
        ours = dict.fromkeys([str(Path(holdall.__path__[0]).parent), *map(sysconfig.get_path, ("purelib", "platlib"))])
        listed, text = next(place.glob("lib/python*/site-packages")) / "holdall.pth", "\n".join(ours)
        if not listed.exists() or listed.read_text(encoding="utf-8") != text:
            listed.write_text(text, encoding="utf-8")


class Function:
    """A function of an App. Called as it is, it runs here; with `remote`, elsewhere."""

    def __init__(self, function: Callable[..., Any], image: Image) -> None:
        functools.update_wrapper(self, function)
        self.local = function
        self._image = image
        self.remote: Any = functools.partial(self._remote)
        vars(self.remote)["aio"] = functools.partial(asyncio.to_thread, self._remote)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.local(*arguments, **named)

    def _remote(self, *arguments: Any, **named: Any) -> Any:
        """Run it in a process of its own. Returns what it returns, and raises what it raises."""
        file = sys.modules[self.local.__module__].__file__ or ""
        with tempfile.TemporaryDirectory(prefix="holdall-run-") as folder:
            pickled = cloudpickle.dumps((arguments, named))  # pyright: ignore[reportUnknownMemberType]
            (Path(folder) / "arguments").write_bytes(pickled)
            argv = [self._image.python(), "-m", "holdall.run", "--call", folder, f"{file}::{self.local.__name__}"]
            status = subprocess.run(argv, check=False).returncode
            result = Path(folder) / "result"
            if not result.exists():
                raise Error(f"the process of {self.local.__name__} ended with status {status}, and without a result")
            value, error = cloudpickle.loads(result.read_bytes())
        if error is not None:
            raise error
        return value

    def map(self, *iterables: Iterable[Any]) -> Iterator[Any]:
        """Run it for each item, as many at once as there are processors. Yields what they return, in the order of the items."""
        with ThreadPoolExecutor(usable()) as pool:
            yield from pool.map(self._remote, *iterables)


class App:
    """The functions and entrypoints of a program, by name."""

    def __init__(self, name: str | None = None, *, image: Image | None = None, **_resources: Any) -> None:
        self.name, self._image = name, image or Image()
        self.functions: dict[str, Function] = {}
        self.entrypoints: dict[str, Callable[..., Any]] = {}

    def function(self, *, image: Image | None = None, **_resources: Any) -> Callable[[Callable[..., Any]], Function]:
        """Have a function run in a process of its own when it is called with `remote` or `map`."""

        def of(function: Callable[..., Any]) -> Function:
            return self.functions.setdefault(function.__name__, Function(function, image or self._image))

        return of

    def local_entrypoint(self, **_options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Have a function be what `holdall run` runs, with its parameters as options."""

        def of(function: Callable[..., Any]) -> Callable[..., Any]:
            return self.entrypoints.setdefault(function.__name__, function)

        return of
