"""A private service for as long as a block lasts, and the default one inside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from holdall import settings
from holdall.process import child
from holdall.process.child import READY, refusal_error
from holdall.process.config import ServiceSettings, Sync

from .client import close_default


class LocalService:
    """A private service for as long as a `with` block lasts, and the default one inside it.

    `directory` is its data directory (a temporary one by default, removed at the end), `workers` the number of its
    workers (as the directory was made; a new one: half the CPUs, 2 to 4), `sync` when writes are durable ("always",
    "interval" or "off"). Processes started inside the block use it too: it sets HOLDALL_URL. With `listen`, a URL such as
    "tcp://0.0.0.0:0", it serves other machines as well: those who have a key, or, with `temporary_keys`, its
    `connection_file`, which is made at `write_connection` if that is given. Raises InvalidError or StorageError if it
    cannot start.

    >>> import holdall
    >>> with holdall.LocalService():
    ...     d = holdall.Dict.from_name("kv", create_if_missing=True)
    ...     d["key"] = "value"
    ...     d["key"]
    'value'
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        workers: int | None = None,
        sync: Sync = "always",
        listen: str | None = None,
        temporary_keys: bool = False,
        write_connection: str | os.PathLike[str] | None = None,
    ) -> None:
        self._directory = directory
        self._workers = workers
        self._sync: Sync = sync
        self._listen = [] if listen is None else [settings.listen_url(listen)]
        self._temporary_keys = temporary_keys
        self._file = None if write_connection is None else os.path.abspath(write_connection)
        self._temporary: str | None = None
        self._scratch: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0  # of the process that started it
        self._outer: dict[str, str | None] = {}
        self.url = ""
        """Where it listens."""

    def start(self) -> None:
        """Start it, as `with` does, but without making it the default one.

        Raises:
            InvalidError: it cannot be opened with so many workers.
            StorageError: the directory cannot be used.

        >>> service = LocalService()
        >>> service.start()
        >>> service.stop()
        """
        self._pid = os.getpid()
        data = settings.data_path(self._directory or self._make_temporary())
        if self._temporary_keys and self._file is None:
            self._scratch = tempfile.mkdtemp(prefix="holdall-keys-")
        wanted = ServiceSettings(
            str(data), self._listen, self._workers, self._sync,
            write_connection=self.connection_file, temporary_keys=self._temporary_keys,
        )  # fmt: skip
        self._process = subprocess.Popen(
            child.command("holdall.service", wanted),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=child.WORKING_DIRECTORY,
            env=child.environment(),
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode().strip()
        if line != READY:
            self.stop()
            raise refusal_error(line)
        self.url = settings.service_url(data)

    @property
    def connection_file(self) -> str | None:
        """The path of the file by which processes elsewhere reach it, if it makes one, while it runs.

        >>> with LocalService(listen="tcp://127.0.0.1:0", temporary_keys=True) as service:
        ...     with Client(connection=service.connection_file) as client:
        ...         client.address.startswith("tcp://127.0.0.1:")
        True
        """
        return self._file or (self._scratch and os.path.join(self._scratch, "connection"))

    def stop(self) -> None:
        """End it, as the end of the block does; a temporary directory is removed. In a forked child nothing happens.

        >>> LocalService().stop()  # it does not run: nothing happens
        """
        if self._pid not in (0, os.getpid()):
            return
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process.wait()
            self._process = None
        for folder in filter(None, (self._temporary, self._scratch)):
            shutil.rmtree(folder, ignore_errors=True)
        self._temporary = self._scratch = None

    def __repr__(self) -> str:
        if self._process is None:
            return "<holdall.LocalService, which does not run>"
        return f"<holdall.LocalService at {self.url}, data in {self._temporary or self._directory}>"

    def __enter__(self) -> LocalService:
        self.start()
        self._outer = {name: os.environ.pop(name, None) for name in ("HOLDALL_URL", "HOLDALL_CONNECTION")}
        os.environ["HOLDALL_URL"] = self.url
        return self

    def __exit__(self, *error: object) -> None:
        close_default(self.url)
        os.environ.pop("HOLDALL_URL", None)
        os.environ.update({name: value for name, value in self._outer.items() if value is not None})
        self.stop()

    def _make_temporary(self) -> str:
        self._temporary = tempfile.mkdtemp(prefix="holdall-")
        return self._temporary
