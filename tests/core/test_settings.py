"""Settings: arguments, environment variables, defaults, and the limits of each."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdall import Client, settings
from holdall.errors import AuthError, InvalidError
from holdall.process.admission import closed_url

IPC_PATH_BYTES_MAX = 107
"""Of a path that Linux takes for a Unix socket: 108 with the NUL at its end."""

TCP = {
    "tcp://localhost": "tcp://localhost:4255",
    "tcp://localhost:1": "tcp://localhost:1",
    "tcp://localhost:65535": "tcp://localhost:65535",
    "tcp://localhost/": "tcp://localhost:4255",
    "tcp://10.0.0.7:4255": "tcp://10.0.0.7:4255",
    "tcp://node-1.cluster:99": "tcp://node-1.cluster:99",
    "TCP://Node:99": "tcp://node:99",
    "tcp://[::1]": "tcp://[::1]:4255",
    "tcp://[fe80::1]:99": "tcp://[fe80::1]:99",
}
IPC = ["ipc:///run/service", "ipc:///a", "ipc:///with space/and#hash/and?mark/é", "ipc:///" + "x" * (IPC_PATH_BYTES_MAX - 1)]
NO_URLS = [
    *("", "localhost", "localhost:4255", "/run/service", "http://localhost", "inproc://x", "tcp:localhost", "://", "tcp//h:1"),
    *("tcp://", "tcp://:4255", "tcp://host:0", "tcp://host:-1", "tcp://host:65536", "tcp://host:port", "tcp://host/path"),
    *("tcp://[::1", "tcp://::1:4255", "ipc://", "ipc:///", "ipc://host/path", "ipc://relative"),
    *("ipc:///" + "x" * IPC_PATH_BYTES_MAX, "ipc:///" + "é" * (IPC_PATH_BYTES_MAX // 2 + 1)),
]


@pytest.mark.parametrize(("value", "expected"), TCP.items())
def test_a_tcp_url_is_completed(value: str, expected: str) -> None:
    assert settings.url(value) == expected
    assert settings.url(expected) == expected


@pytest.mark.parametrize("value", IPC)
def test_an_ipc_url_stays_as_it_is(value: str) -> None:
    assert settings.url(value) == value


@pytest.mark.parametrize("value", NO_URLS)
def test_what_is_no_url_is_an_invalid_error_that_shows_it_and_says_what_to_use(value: str) -> None:
    for check in (settings.url,) if value.endswith(":0") else (settings.url, settings.listen_url):
        with pytest.raises(InvalidError, match=r"Invalid URL.*use tcp://HOST:PORT or ipc:///PATH, not ") as caught:
            check(value)
        assert str(caught.value).endswith(repr(value))


@given(st.text() | st.text().map("tcp://".__add__) | st.text().map("ipc:///".__add__))
def test_arbitrary_text_is_a_url_or_an_invalid_error(value: str) -> None:
    try:
        checked = settings.url(value)
    except InvalidError:
        return
    assert settings.url(checked) == checked


UNUSABLE = ["IPC:///run/service", " ipc:///run/service", "ipc:///run/ser\nvice"]


@pytest.mark.parametrize("value", UNUSABLE)
def test_an_ipc_url_is_what_zeromq_understands_or_refused(value: str) -> None:
    try:
        checked = settings.url(value)
    except InvalidError:
        return
    assert checked == "ipc:///run/service"


@pytest.mark.parametrize("host", ["*", "a b", "é", "a\x00b"])
def test_a_host_that_zeromq_cannot_take_is_an_invalid_error(host: str) -> None:
    with pytest.raises(InvalidError, match="Invalid URL"):
        settings.url(f"tcp://{host}:4255")


@pytest.mark.parametrize("mark", "?#")
def test_the_limit_of_a_path_counts_all_of_it(mark: str) -> None:
    with pytest.raises(InvalidError, match="more than 107 bytes"):
        settings.url("ipc:///run/x" + mark + "x" * IPC_PATH_BYTES_MAX)


PORTS = [
    *("tcp://localhost", "tcp://LOCALHOST:99", "tcp://127.0.0.1", "tcp://127.1.2.3", "tcp://[::1]:99", "tcp://0.0.0.0"),
    *("tcp://[::]", "tcp://10.0.0.7", "tcp://host", "tcp://eth0:99", "tcp://127.1", "tcp://[::ffff:127.0.0.1]"),
]


@pytest.mark.parametrize("value", PORTS)
def test_what_is_reached_over_a_network_takes_a_key(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDALL_CONNECTION", raising=False)
    with pytest.raises(AuthError, match=r"takes a key: set HOLDALL_CONNECTION .*holdall keys new") as caught:
        Client(value)
    assert settings.url(value) in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"), [*TCP.items(), ("tcp://host:0", "tcp://host:0"), ("tcp://[::1]:0", "tcp://[::1]:0")]
)
def test_a_service_may_listen_at_any_port(value: str, expected: str) -> None:
    assert settings.listen_url(value) == expected


@pytest.mark.parametrize("value", ["tcp://host:1:0", "tcp://host:4255:0", "tcp://:0", "tcp://::0", "ipc://:0"])
def test_a_port_too_many_is_none(value: str) -> None:
    with pytest.raises(InvalidError):
        settings.listen_url(value)


@pytest.mark.parametrize("name", ["a", "A-z_0.9", ".", "-", "x" * 64])
def test_a_name_is_a_name(name: str) -> None:
    assert settings.check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "a\n", "é", "ａ", "a\x00", None, 5, b"bytes", ["a"]])
def test_what_is_no_name_is_an_invalid_error_that_shows_it(name: object) -> None:
    with pytest.raises(InvalidError, match=r"Invalid Dict name .*1 to 64 characters") as caught:
        settings.check_name(name)
    assert repr(name) in str(caught.value)


def test_the_environment_is_the_argument_else_the_variable_else_main(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDALL_ENVIRONMENT", raising=False)
    assert settings.environment() == "main"
    assert settings.environment("mine") == "mine"
    monkeypatch.setenv("HOLDALL_ENVIRONMENT", "theirs")
    assert settings.environment() == "theirs"
    assert settings.environment("mine") == "mine"
    monkeypatch.setenv("HOLDALL_ENVIRONMENT", "")
    assert settings.environment() == "main"


@pytest.mark.parametrize("argument", [None, "no/name"])
def test_a_wrong_environment_is_an_invalid_error(monkeypatch: pytest.MonkeyPatch, argument: str | None) -> None:
    monkeypatch.setenv("HOLDALL_ENVIRONMENT", "no/name")
    with pytest.raises(InvalidError, match="Invalid environment name 'no/name'"):
        settings.environment(argument)


def test_the_data_directory_is_the_variables_real_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    for value in (str(tmp_path / "real"), str(tmp_path / "link"), "link", "./real/../link/"):
        monkeypatch.setenv("HOLDALL_DATA", value)
        assert settings.data_directory() == (tmp_path / "real").resolve()


@pytest.mark.parametrize("unset", [True, False])
def test_the_data_directory_is_this_users_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unset: bool) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOLDALL_DATA", "")
    if unset:
        monkeypatch.delenv("HOLDALL_DATA")
    data = settings.data_directory()
    assert data.is_relative_to(tmp_path.resolve())
    assert data.name == "holdall"
    assert list(tmp_path.iterdir()) == []


def test_a_service_is_found_by_whatever_path_its_data_directory_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    urls = {settings.service_url(Path(path)) for path in (tmp_path / "data", "link", "data", "data/../link")}
    assert len(urls) == 1
    assert settings.service_url(tmp_path / "other") not in urls


def test_a_services_url_is_short_and_in_this_users_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    url = settings.service_url(Path("/" + "long/" * 100))
    assert url.startswith("ipc:///run/user/7/holdall/")
    assert url.endswith("/service.v4")
    assert len(urlsplit(url).path) < IPC_PATH_BYTES_MAX / 2


def test_a_services_url_does_not_change_from_process_to_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert settings.service_url(Path("/nowhere/data")) == "ipc:///run/user/7/holdall/47716abeada9/service.v4"


@pytest.mark.parametrize("length", [IPC_PATH_BYTES_MAX - 50, IPC_PATH_BYTES_MAX, 200])
def test_sockets_have_short_names_whatever_the_runtime_directory(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/" + "x" * length)
    for name in ("service", "workers", "worker-1023"):
        path = closed_url(settings.socket_url(Path("/nowhere/data"), name)).removeprefix("ipc://")
        assert len(path) <= IPC_PATH_BYTES_MAX
        assert path.startswith(f"/tmp/holdall-{os.getuid()}/" if length >= IPC_PATH_BYTES_MAX else "/")


def test_without_a_runtime_directory_there_is_one_all_the_same_and_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    directory = settings.runtime_directory(Path("/nowhere/data"))
    assert directory.is_absolute()
    assert str(os.getuid()) in str(directory)
