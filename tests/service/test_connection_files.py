"""A connection file is all that a process elsewhere needs, and nobody but its user sees what is in it."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

import holdall
from holdall import Client, Dict
from holdall.connection_file import read
from holdall.errors import AuthError, ConnectionError, InvalidError
from holdall.process.child import environment
from holdall.process.config import ServiceSettings
from holdall.roles import Role
from holdall.service.ports import keyring
from tests.processes import free_port, new_key, service_process, until
from tests.service.conftest import Served

OTHER_KEYS = [each.decode() for each in zmq.curve_keypair()]


def test_what_is_secret_is_in_no_repr_pickle_error_or_argument(served: Served, tmp_path: Path) -> None:
    file = new_key(served.data)
    keys = read(file)
    with Client(connection=file) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        assert d[1] == 1
        shown = [repr(keys), str(keys), repr(client), repr(d), repr(vars(client)), pickle.dumps(d).decode("latin-1")]
        keyring(served.data).remove(keys.name)
        with pytest.raises(AuthError) as refused:
            until(lambda: d.get(1) is None)
        shown.append(str(refused.value))
    told = "".join(
        Path(f"/proc/{pid}/cmdline").read_text()
        for pid in os.listdir("/proc")
        if pid.isdigit() and os.access(f"/proc/{pid}/cmdline", os.R_OK) and _is_ours(pid)
    )
    assert keys.secret_key not in "".join(shown) + told


def _is_ours(pid: str) -> bool:
    try:
        return "holdall" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "is open to others": lambda file: file.chmod(0o644),
    "is a link": lambda file: file.symlink_to(file.rename(f"{file}.real")),
    "is no JSON": lambda file: file.write_text("secret p@ss"),
    "lacks a key": lambda file: file.write_text('{"url": "tcp://h:1", "secret_key": "p@ss"}'),
}


@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_connection_file_that_is_none_is_refused_without_showing_it(served: Served, bad: str) -> None:
    file = new_key(served.data)
    BAD_FILES[bad](file)
    with pytest.raises((AuthError, InvalidError), match=str(file)) as refused:
        Client(connection=file)
    assert "p@ss" not in str(refused.value)


def test_which_service_is_chosen(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file, other = new_key(served.data), "ipc:///somewhere/else"
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    monkeypatch.setenv("HOLDALL_CONNECTION", str(file))
    assert Client().address == Client(served.url).address == Client.from_env().address == served.url
    assert Client(other).address == other  # an argument wins
    with pytest.raises(InvalidError, match=f"is for {served.url}"):
        Client("tcp://127.0.0.1:1")
    monkeypatch.setenv("HOLDALL_URL", served.url)
    assert Client().address == served.url
    monkeypatch.setenv("HOLDALL_URL", other)
    with pytest.raises(InvalidError, match="give one of the two"):
        Client()


def test_ranks_wait_for_the_file_and_no_longer_than_is_said(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "late.connection"
    with Client(connection=late) as client, Client(connection=late) as awaiting:
        writing = threading.Timer(0.5, lambda: new_key(served.data).rename(late))
        writing.start()
        assert Dict.from_name("kv", client=client)[1] == 1
        writing.join()
        late.rename(tmp_path / "kept")
        writing = threading.Timer(0.5, lambda: (tmp_path / "kept").rename(late))
        writing.start()
        assert asyncio.run(Dict.from_name("kv", client=awaiting).get.aio(1)) == 1
    monkeypatch.setenv("HOLDALL_CONNECTION_WAIT", "0.3")
    with Client(connection=tmp_path / "never") as client, pytest.raises(ConnectionError, match=r"none came within 0\.3 s"):
        Dict.from_name("kv", client=client).len()


PICKLED = """
import pickle, sys
d = pickle.load(open(sys.argv[1], "rb"))
print(d.get(1), d)
"""


def unpickled(d: Dict[Any, Any], tmp_path: Path, **variables: str) -> str:
    file = tmp_path / "handle"
    file.write_bytes(pickle.dumps(d))
    kept = {name: value for name, value in environment().items() if not name.startswith("HOLDALL_")}
    done = subprocess.run(
        [sys.executable, "-c", PICKLED, str(file)], env={**kept, **variables}, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_a_handle_finds_its_service_elsewhere_by_a_key_of_the_process_there(served: Served, tmp_path: Path) -> None:
    with served.client() as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        assert d[1] == 1
        assert unpickled(d, tmp_path, HOLDALL_CONNECTION=str(new_key(served.data))).startswith("1 ")
        assert "AuthError" in unpickled(d, tmp_path, HOLDALL_DATA=str(tmp_path / "none"))
        assert not (tmp_path / "none").exists()


def test_a_handle_of_a_service_of_another_machine_starts_none_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from holdall.worker.directory import place

    monkeypatch.setenv("HOLDALL_DATA", str(tmp_path / "there"))
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True)
    here = {"HOLDALL_DATA": str(tmp_path / "here"), "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}
    d[1] = 1
    try:
        assert "is not the one that this handle of Dict 'kv' is of" in unpickled(d, tmp_path, **here)  # another directory
        assert unpickled(d, tmp_path, **{**here, "HOLDALL_DATA": str(tmp_path / "there")}).startswith("1 ")
        monkeypatch.setattr(place, "machine", lambda: "another machine")
        for each in (d, Dict.from_name("kv", create_if_missing=True)):
            each.connected()
            assert "on another machine" in unpickled(each, tmp_path, **{**here, "HOLDALL_DATA": str(tmp_path / "new")})
        assert not (tmp_path / "new").exists()
    finally:
        from tests.processes import end_service

        end_service(tmp_path / "there")
        end_service(tmp_path / "here")


def test_a_service_makes_a_connection_file_for_its_time(tmp_path: Path) -> None:
    with holdall.LocalService(tmp_path / "data", listen="tcp://127.0.0.1:0", temporary_keys=True) as service:
        assert service.connection_file is not None
        file = Path(service.connection_file)
        assert file.stat().st_mode & 0o777 == 0o600
        with Client(connection=file) as client:
            Dict.from_name("kv", create_if_missing=True, client=client)["key"] = 1
        assert not (tmp_path / "data" / "keys").exists()
    assert not file.exists()
    assert not file.parent.exists()


@pytest.mark.slow
def test_keys_are_made_listed_and_removed_by_commands(tmp_path: Path) -> None:
    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "holdall", "keys", *arguments, "--data", str(tmp_path)]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    assert "--url tcp://HOST:PORT" in ran("new", "laptop").stderr
    made = json.loads(ran("new", "laptop", "--url", "tcp://host").stdout)
    assert (made["url"], made["role"], made["name"]) == ("tcp://host:4255", "client", "laptop")
    reader = json.loads(ran("new", "dash", "--role", "reader", "--url", "tcp://[::1]:99", "--days", "1").stdout)
    assert reader["role"] == "reader"
    assert made["server_key"] == reader["server_key"]
    listed = [json.loads(line) for line in ran("list", "--json").stdout.splitlines()]
    assert [(each["name"], each["role"], each["key"]) for each in listed] == [
        ("laptop", "client", made["public_key"]),
        ("dash", "reader", reader["public_key"]),
    ]
    assert made["secret_key"] not in (tmp_path / "keys" / "allowed").read_text()
    assert {oct(file.stat().st_mode & 0o777) for file in (tmp_path / "keys").iterdir()} == {"0o600"}
    assert "there is a key 'laptop' already" in ran("new", "laptop", "--url", "tcp://host").stderr
    assert ran("remove", "laptop").returncode == 0
    assert "there is no key 'laptop'" in ran("remove", "laptop").stderr
    assert ran("new", "a b", "--url", "tcp://host").returncode == 1


def test_backups_and_restores_have_no_keys(served: Served, tmp_path: Path) -> None:
    secret = (served.data / "keys" / "server.key").read_text().split()
    with served.client(Role.ADMIN) as admin, served.client() as client:
        for user, works in ((client, False), (admin, True)):
            argv = [sys.executable, "-m", "holdall", "backup", str(tmp_path / "backup")]
            file = new_key(served.data, Role.ADMIN if works else Role.CLIENT)
            done = subprocess.run(
                argv,
                env={**os.environ, "HOLDALL_CONNECTION": str(file), "HOLDALL_URL": ""},
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode == 0) == works, done.stderr
            assert user.address == served.url
    assert not any(each.encode() in (tmp_path / "backup").read_bytes() for each in secret)


def test_a_client_whose_file_has_a_new_key_comes_in_again(served: Served) -> None:
    file = new_key(served.data)
    with Client(connection=file) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        assert d[1] == 1
        keyring(served.data).remove(read(file).name)
        with pytest.raises(AuthError):
            until(lambda: d.get(1) is None)
        new_key(served.data).rename(file)
        assert d[1] == 1
        assert asyncio.run(d.get.aio(1)) == 1


def test_a_key_is_in_no_pickle_and_no_table(served: Served) -> None:
    from rich.pretty import pretty_repr

    keys = read(new_key(served.data))
    with pytest.raises(TypeError, match="pass the path"):
        pickle.dumps(keys)
    assert keys.secret_key not in pretty_repr(keys)


def test_a_service_that_was_killed_leaves_no_key_to_the_next_one(tmp_path: Path) -> None:
    file, url = tmp_path / "connection", f"tcp://127.0.0.1:{free_port()}"
    wanted = ServiceSettings(str(tmp_path / "data"), [url], 1, "off", write_connection=str(file))
    with pytest.raises(AssertionError), service_process(wanted) as pid:
        os.kill(pid, signal.SIGKILL)
    old = read(file)
    with service_process(ServiceSettings(str(tmp_path / "data"), [url], 1, "off", lock_seconds=10)):
        assert keyring(tmp_path / "data").allowed() == []
        with Client(connection=file, timeout=5) as client, pytest.raises(AuthError):
            Dict.from_name("kv", client=client).len()
    assert read(file) == old  # it is nobody's any more, and was not this one's to remove


def test_a_start_that_fails_removes_nobodys_file(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("precious")
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        argv = [sys.executable, "-m", "holdall", "serve", "--data", str(tmp_path / "data"), "--listen", url]
        done = subprocess.run([*argv, "--write-connection", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot listen at" in done.stderr
    assert file.read_text() == "precious"


def test_a_connection_file_from_a_shell_is_its_users_alone(tmp_path: Path) -> None:
    file = tmp_path / "laptop.holdall"
    argv = f"{sys.executable} -m holdall keys new laptop --url tcp://h --data {tmp_path / 'data'} > {file}"
    spied = tmp_path / "spied"
    made = f"umask 022; {{ exec 5<{file}; {argv[: argv.index(' > ')]}; cat <&5 > {spied}; }} > {file}"
    subprocess.run(["sh", "-c", made], check=True)
    assert file.stat().st_mode & 0o777 == 0o600
    assert read(file).name == "laptop"
    assert spied.read_text() == ""  # whoever had opened it before
    lost = argv.replace("laptop --url", "lost --url").replace(str(file), "/dev/full")
    assert subprocess.run(["sh", "-c", lost], check=False, capture_output=True).returncode != 0
    assert [each.name for each in keyring(tmp_path / "data").allowed()] == ["laptop"]


@pytest.mark.slow
def test_a_service_that_was_started_again_with_other_keys_is_found_by_the_same_client(tmp_path: Path) -> None:
    file, url = tmp_path / "connection", f"tcp://127.0.0.1:{free_port()}"
    wanted = ServiceSettings(str(tmp_path / "data"), [url], 1, "off", write_connection=str(file), temporary_keys=True)
    with Client(connection=file, timeout=3) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
        with service_process(wanted):
            d[1] = 1
        with pytest.raises((ConnectionError, TimeoutError, holdall.TimeoutError)):
            d.get(1)
        with service_process(wanted):
            for _ in range(3):  # the first call may find out that the key is another one
                try:
                    assert d[1] == 1
                    break
                except (ConnectionError, holdall.TimeoutError, AuthError):
                    continue
            assert d[1] == 1
            assert asyncio.run(d.get.aio(1)) == 1


def test_names_of_a_services_own_keys_are_its_own(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "holdall", "keys", "new", "service-mine", "--url", "tcp://h", "--data", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "that a service makes for its own time" in done.stderr


def test_a_file_that_comes_later_is_for_the_url_that_was_given(served: Served, tmp_path: Path) -> None:
    file, keys = tmp_path / "later", read(new_key(served.data))
    with Client("tcp://127.0.0.1:1", connection=file) as client:
        keys.write(file)
        with pytest.raises(InvalidError, match=re.escape(f"is for {served.url}, and not for tcp://127.0.0.1:1")):
            Dict.from_name("kv", client=client).get(1)


@pytest.mark.parametrize("first", [False, True])
def test_a_file_is_for_the_data_of_one_service(served: Served, tmp_path: Path, first: bool) -> None:
    file = new_key(served.data)
    keys = read(file)
    with Client(connection=file) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        if first:
            assert d[1] == 1
        msgspec.structs.replace(keys, layout="00" * 16, name="another").write(file)
        if first:  # what it says is not for this client
            client.disconnect()
            assert d[1] == 1
    with Client(connection=file) as client, pytest.raises(ConnectionError, match="other data"):
        Dict.from_name("kv", client=client).get(1)


def test_a_task_that_waits_for_a_file_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        with Client(connection=tmp_path / "never") as client:
            call = asyncio.create_task(Dict.from_name("kv", client=client).get.aio(1))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert call.cancelled()

    before = threading.active_count()
    asyncio.run(main())
    assert threading.active_count() <= before  # those of an earlier test may have ended


def test_a_handle_takes_no_path_along_while_its_file_is_awaited(tmp_path: Path) -> None:
    with Client(connection=tmp_path / "never") as client:
        assert str(tmp_path).encode() not in pickle.dumps(Dict.from_name("kv", client=client))


@pytest.mark.parametrize(
    "forged",
    [
        {"url": "tcp://\x1b[2Jx@127.0.0.1:4255"},
        {"url": "tcp://127.0.0.1:4255?\x9b"},
        {"url": "tcp://127.0.0.1:4255#\x1b"},
        {"name": "\x1b[2J"},
        {"secret_key": "\x1b" * 40},
    ],
)
def test_a_forged_connection_file_writes_nothing_of_its_own(served: Served, forged: dict[str, str]) -> None:
    file = new_key(served.data)
    msgspec.structs.replace(read(file), **forged).write(file)
    with pytest.raises(InvalidError, match="is no connection file") as refused:
        Client(connection=file)
    locals_ = [list(frame.f_locals.values()) for frame, _line in list(traceback.walk_tb(refused.value.__traceback__))[1:]]
    shown = [str(refused.value), *(repr(each) for frame in locals_ for each in frame if not isinstance(each, Client))]
    assert not any("\x1b" in each or "server_key" in each for each in shown)
