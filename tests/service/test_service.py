"""The service's processes: started by whoever needs them first, one service for a directory, no orphans, no lost data."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Dict, LocalService, settings
from holdall.process import child
from holdall.process.child import READY, refusal_error
from holdall.process.config import BrokerSettings, ServiceSettings, Sync
from holdall.process.listen import is_listening
from holdall.service import own
from holdall.worker.directory.opening import DataDirectory
from tests.engines import needs_leveldb
from tests.processes import WAIT_SECONDS, end_service, service_pid, until
from tests.slow import slow_but


def processes(url: str) -> dict[int, str]:
    """The brokers and workers of the service at this URL, whoever is their parent now, by process id."""
    found: dict[int, str] = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            argv = os.fsdecode(file.read_bytes()).split("\0")
            if argv[1:2] == ["-m"] and argv[2].startswith("holdall.") and url.rpartition("/")[0] + "/" in argv[3]:
                found[int(file.parent.name)] = argv[2].removeprefix("holdall.")
    return found


@contextlib.contextmanager
def running(wanted: ServiceSettings) -> Iterator[subprocess.Popen[bytes]]:
    """A service as a child of this process. Raises the error with which it refuses to start."""
    argv, pipe = child.command("holdall.service", wanted), subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=child.environment()) as service:
        assert service.stdout is not None
        line = service.stdout.readline().decode().strip()
        if line != READY:
            raise refusal_error(line)
        yield service


def holdall_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "holdall", *arguments]


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = holdall_command(*arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=child.environment(), check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def service(data: Path) -> Iterator[LocalService]:
    with LocalService(data, workers=1, sync="off") as first:
        yield first


@pytest.fixture
def users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the service of a user keeps its data who has never used it. What was started there is ended by its process id."""
    with tempfile.TemporaryDirectory(prefix="holdall-run-") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        monkeypatch.setenv("HOLDALL_DATA", str(tmp_path / "data"))
        monkeypatch.delenv("HOLDALL_URL", raising=False)
        yield tmp_path / "data"
        end_service(tmp_path / "data")


RACE = """
import holdall, holdall.client.client, holdall.service.own, multiprocessing

def claim(number):
    start.wait()
    return holdall.Dict.from_name("race", create_if_missing=True).put("key", number, skip_if_exists=True)

start = multiprocessing.Barrier(32)
with multiprocessing.get_context("fork").Pool(32) as pool:
    print(sorted(pool.map(claim, range(32), chunksize=1)))
"""


@pytest.mark.slow
def test_of_32_processes_at_once_one_starts_the_service_and_one_wins(users_data: Path, tmp_path: Path) -> None:
    with open(tmp_path / "errors", "wb") as errors:
        argv, env = [sys.executable, "-c", RACE], child.environment()
        race = subprocess.run(argv, stdout=subprocess.PIPE, stderr=errors, timeout=60, env=env, check=False)
    assert (race.stdout.decode(), (tmp_path / "errors").read_text()) == (f"{[False] * 31 + [True]}\n", "")
    workers = DataDirectory(users_data).layout().workers
    assert sorted(processes(settings.service_url(users_data)).values()) == ["broker"] + ["worker"] * workers
    assert Path(f"/proc/{service_pid(users_data)}/cmdline").read_bytes().split(b"\0")[2] == b"holdall.service"


def test_the_output_of_a_program_that_started_the_service_ends_with_the_program(users_data: Path) -> None:
    program = "import holdall; holdall.Dict.from_name('kv', create_if_missing=True)['key'] = 1"
    argv, env = [sys.executable, "-c", program], child.environment()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env) as starter:
        assert starter.wait(WAIT_SECONDS) == 0
        assert service_pid(users_data)
        assert starter.stdout is not None
        ended, _, _ = select.select([starter.stdout], [], [], 1.0)
        assert ended
        assert starter.stdout.read() == b""


def test_a_service_nobody_uses_ends_and_the_next_call_starts_it_again(users_data: Path) -> None:
    with LocalService(users_data, workers=1):
        Dict.from_name("kv", create_if_missing=True)["key"] = "value"
    with running(ServiceSettings(str(users_data), idle_seconds=1.0)) as unused:
        assert unused.wait(WAIT_SECONDS) == 0
        assert processes(settings.service_url(users_data)) == {}
    with holdall.Client() as client:
        assert Dict.from_name("kv", client=client)["key"] == "value"
    assert service_pid(users_data) != unused.pid


def test_a_service_whose_broker_was_killed_is_waited_for_and_no_second_one_started(
    users_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own.ensure_running(users_data)
    looks: list[str] = []

    def is_listening_again(asked: str) -> bool:
        looks.append(asked)
        return len(looks) > 9 and is_listening(asked)

    monkeypatch.setattr(own, "is_listening", is_listening_again)
    monkeypatch.setattr(own, "_start_detached", pytest.fail)
    assert own.ensure_running(users_data) == url
    assert len(looks) > 9


def test_many_tasks_at_once_may_make_the_first_call(service: LocalService, d: Dict[Any, Any], name: str) -> None:
    async def main() -> None:
        async with holdall.Client(service.url) as client:
            same: Dict[Any, Any] = Dict.from_name(name, client=client)
            assert await asyncio.gather(*(same.get.aio(number) for number in range(10))) == list(range(10))

    d.update({number: number for number in range(10)})
    asyncio.run(main())


@pytest.mark.parametrize("by_link", [False, True])
def test_a_second_service_on_a_directory_is_refused(d: Dict[Any, Any], data: Path, tmp_path: Path, by_link: bool) -> None:
    (tmp_path / "link").symlink_to(data)
    with pytest.raises(holdall.StorageError, match=f"in use by process {service_pid(data)} of holdall {holdall.__version__}:"):
        LocalService(tmp_path / "link" if by_link else data).start()
    assert d.put("key", 1)


@pytest.mark.parametrize("unusable", ["a file", "below a file", "in /proc", "read-only"])
def test_a_directory_that_cannot_be_used_is_a_storage_error(
    tmp_path: Path, unusable: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if unusable == "read-only" and os.getuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "file").touch()
    (tmp_path / "read-only").mkdir(mode=0o500)
    directory = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "data", "in /proc": Path("/proc/holdall")}
    with pytest.raises(holdall.StorageError, match=r"^the data directory .* cannot be .*[^\n]$"):
        LocalService(directory.get(unusable, tmp_path / "read-only")).start()
    assert capfd.readouterr() == ("", "")


def test_a_directory_whose_part_cannot_be_used_is_a_storage_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "worker-0").touch()
    with pytest.raises(holdall.StorageError, match=f"^the data directory {tmp_path} cannot be used: .*worker-0"):
        LocalService(tmp_path, workers=1).start()
    assert capfd.readouterr() == ("", "")


def test_a_directory_made_for_another_number_of_workers_is_refused(tmp_path: Path) -> None:
    DataDirectory(tmp_path).prepare(2)
    with pytest.raises(holdall.InvalidError, match="made for 2 workers"):
        LocalService(tmp_path, workers=3).start()


def test_a_live_ipc_path_is_not_stolen(d: Dict[Any, Any], service: LocalService, tmp_path: Path) -> None:
    before = processes(service.url)
    with (
        pytest.raises(holdall.ConnectionError, match=f"cannot listen at {service.url}"),
        running(ServiceSettings(str(tmp_path), listen=[service.url], workers=1)),
    ):
        pass
    with holdall.Client(service.url) as client:
        assert Dict.from_name("kv", create_if_missing=True, client=client).put("key", 1)
    assert d.put("key", 1)
    assert processes(service.url) == before


def test_a_port_in_use_is_a_connection_error_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with (
            pytest.raises(holdall.ConnectionError, match=f"cannot listen at {url}"),
            running(ServiceSettings(str(tmp_path), listen=[url], workers=1)),
        ):
            pass


@pytest.mark.parametrize(
    ("sync", "ended_by", "status"),
    [
        ("always", signal.SIGKILL, -signal.SIGKILL),
        pytest.param("interval", signal.SIGTERM, 0, marks=pytest.mark.slow),
        ("off", None, 0),
    ],
    ids=["SIGKILL", "SIGTERM", "the end of its input"],
)
def test_a_service_that_ends_leaves_no_process_behind_and_loses_nothing(
    tmp_path: Path, sync: Sync, ended_by: signal.Signals | None, status: int
) -> None:
    url = settings.service_url(tmp_path)
    wanted = ServiceSettings(str(tmp_path), workers=1, sync=sync)
    stored: dict[Any, Any] = {**{number: number for number in range(1000)}, "large": bytes(1_000_000)}
    with running(wanted) as first, holdall.Client(url) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        d.update(stored)
        assert sorted(processes(url).values()) == ["broker", "worker"]
        if ended_by is None:
            assert first.stdin is not None
            first.stdin.close()
        else:
            first.send_signal(ended_by)
        assert first.wait(WAIT_SECONDS) == status
        until(lambda: not processes(url))
    with running(wanted), holdall.Client(url) as client:
        assert dict(Dict[Any, Any].from_name("kv", client=client)) == stored


def test_a_process_whose_service_is_gone_ends_in_silence(tmp_path: Path) -> None:
    readable, writable = os.pipe()
    os.close(readable)  # nobody hears that it is ready
    argv = child.command("holdall.broker", BrokerSettings([f"ipc://{tmp_path}/front"], f"ipc://{tmp_path}/back"))
    with open(writable, "wb") as output:
        broker = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            env=child.environment(),
            timeout=WAIT_SECONDS,
            check=False,
        )
    assert (broker.returncode, broker.stderr) == (0, b"")


@pytest.fixture
def without_plyvel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['plyvel'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("HOLDALL_ENGINE", raising=False)


@pytest.mark.usefixtures("without_plyvel")
def test_without_plyvel_a_new_directory_is_kept_in_sqlite_and_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for said in ("", "leveldb"):
        monkeypatch.setenv("HOLDALL_ENGINE", said)
        with LocalService(tmp_path / "data", workers=1) as service, holdall.Client(service.url) as client:
            d: Dict[str, int] = Dict.from_name("kv", create_if_missing=True, client=client)
            d["key"] = d.get("key", 0) + 1
    assert DataDirectory(tmp_path / "data").layout().engine == "sqlite"
    monkeypatch.delenv("PYTHONPATH")
    with LocalService(tmp_path / "data", workers=1) as service, holdall.Client(service.url) as client:
        assert Dict[str, int].from_name("kv", client=client)["key"] == 2


@pytest.mark.parametrize("is_new", [True, pytest.param(False, marks=needs_leveldb)])
@pytest.mark.usefixtures("without_plyvel")
def test_without_plyvel_a_directory_in_leveldb_is_refused_and_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    monkeypatch.setenv("HOLDALL_ENGINE", "leveldb")
    if not is_new:
        DataDirectory(tmp_path / "data").make()
        DataDirectory(tmp_path / "data").prepare(1)
        monkeypatch.delenv("HOLDALL_ENGINE")
    for _ in range(2):
        with pytest.raises(holdall.StorageError, match="kept in leveldb, which needs the package plyvel: pip install plyvel"):
            LocalService(tmp_path / "data").start()
    assert (tmp_path / "data" / "layout.json").exists() is not is_new


def test_an_engine_that_there_is_none_of_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDALL_ENGINE", "rocksdb")
    with pytest.raises(holdall.InvalidError, match="HOLDALL_ENGINE must be one of leveldb, sqlite, not 'rocksdb'"):
        LocalService(tmp_path / "data").start()


def test_without_any_engine_a_service_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['plyvel'] = sys.modules['sqlite3'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(holdall.StorageError, match="kept in sqlite, which needs a Python with the module sqlite3"):
        LocalService(tmp_path / "data").start()


@pytest.mark.parametrize("ended_by", slow_but([signal.SIGINT], [signal.SIGINT, signal.SIGTERM]))
def test_serve_announces_itself_and_stops_when_told(tmp_path: Path, ended_by: signal.Signals) -> None:
    url, extra = settings.service_url(tmp_path), f"ipc://{os.environ['XDG_RUNTIME_DIR']}/extra"
    command = holdall_command("serve", "--data", str(tmp_path), "--workers", "1", "--listen", extra)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=child.environment()) as serve:
        try:
            assert serve.stderr is not None
            assert serve.stderr.readline() == f"serving {tmp_path} at {url} and {extra}\n"
            for address in (url, extra):
                with holdall.Client(address) as client:
                    Dict.from_name("kv", create_if_missing=True, client=client)[address] = 1
            serve.send_signal(ended_by)
            assert serve.communicate(timeout=WAIT_SECONDS)[1] == "stopped\n"
        finally:
            serve.kill()
    assert serve.returncode == 0
    assert processes(url) == {}


def test_log_lines_are_json_objects_where_that_is_asked_for(tmp_path: Path) -> None:
    command = holdall_command("serve", "--data", str(tmp_path), "--workers", "1", "--log", "json")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=child.environment()) as serve:
        try:
            assert serve.stderr is not None
            assert serve.stderr.readline().startswith("serving ")
            [worker] = [pid for pid, name in processes(settings.service_url(tmp_path)).items() if name == "worker"]
            os.kill(worker, signal.SIGKILL)
            line = json.loads(serve.stderr.readline())
        finally:
            serve.terminate()
            serve.communicate(timeout=WAIT_SECONDS)
    assert (line["level"], line["process"], line["pid"]) == ("warning", "service", serve.pid)
    assert line["message"] == "worker 0 ended with status -9; it is started again"


def test_a_log_format_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDALL_LOG", "xml")
    done = ran("serve", "--data", str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "holdall: HOLDALL_LOG must be one of text, json, not 'xml'\n")


@pytest.mark.parametrize("wrong", ["nonsense", "serve --workers 0"])
def test_a_command_that_is_called_wrongly_exits_with_2(wrong: str) -> None:
    done = ran(*wrong.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: holdall" in done.stderr


FAILING = [
    "serve --data {data}",
    "serve --data {new} --listen tcp://no.such.host.invalid:0",
    "serve --data {new} --write-connection {new}.file",
    "broker --listen {url} --workers-listen ipc://{new}",
]


@pytest.mark.parametrize("failing", FAILING)
def test_a_command_that_fails_says_why_in_one_line_and_exits_with_1(
    service: LocalService, data: Path, tmp_path: Path, failing: str
) -> None:
    done = ran(*failing.format(data=data, url=service.url, new=tmp_path / "new").split())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("holdall: ")
    assert done.stderr.count("\n") == 1


def test_serve_tells_systemd_when_it_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        argv = [sys.executable, "-m", "holdall", "serve", "--data", str(tmp_path / "data"), "--workers", "1"]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, env={**os.environ, **child.environment()}) as serving:
            try:
                assert systemd.recv(100) == b"READY=1"
                with holdall.Client(settings.service_url(tmp_path / "data")) as client:
                    assert Dict.from_name("kv", create_if_missing=True, client=client).len() == 0
            finally:
                serving.terminate()
                serving.communicate(timeout=WAIT_SECONDS)
        assert serving.returncode == 0


@pytest.mark.parametrize("is_killed", [False, True], ids=["nothing killed", "a worker killed"])
def test_a_private_service_leaves_nothing_behind(is_killed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="holdall-run-") as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        with LocalService() as service:
            Dict.from_name("kv", create_if_missing=True).len()
            assert service.url.startswith(f"ipc://{runtime}/")
            if is_killed:
                os.kill(next(pid for pid, role in processes(service.url).items() if "worker" in role), signal.SIGKILL)
        assert os.listdir(runtime) == []
