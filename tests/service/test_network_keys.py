"""Clients of other machines come in by a key, and as far as its role goes; nobody else does."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import holdall
from holdall import Client, Dict, protocol, sockets
from holdall.bodies import encode
from holdall.connection_file import ConnectionFile, read
from holdall.errors import AuthError, ConnectionError, InvalidError
from holdall.process.child import environment
from holdall.process.config import ServiceSettings
from holdall.protocol import Reply, Request
from holdall.roles import OPCODES, OWNER, Role, may
from holdall.service.ports import keyring
from holdall.settings import service_url
from holdall.slots import part_hash, slot_range
from tests.processes import children, free_port, keyed, new_key, service_process, stopped, until

OTHER_KEYS = [each.decode() for each in zmq.curve_keypair()]


class Served:
    """A service with a port."""

    def __init__(self, data: Path, port: int) -> None:
        self.data, self.port = data, port
        self.url = f"tcp://127.0.0.1:{port}"

    def client(self, role: Role = Role.CLIENT, **more: Any) -> Client:
        return Client(connection=new_key(self.data, role), **more)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("served") / "data"
    found = Served(data, free_port())
    with service_process(ServiceSettings(str(data), listen=[found.url], workers=2, sync="off")):
        with Client(service_url(data)) as near:
            d = Dict.from_name("kv", create_if_missing=True, client=near)
            d.update({number: number for number in range(100)})
            d["large"] = bytes(2_000_000)
        yield found


def test_a_client_elsewhere_does_all_that_one_here_does(served: Served) -> None:
    with served.client() as client:
        d: Dict[Any, Any] = Dict.from_name("mine", create_if_missing=True, client=client)
        d["key"] = {"any": ["object"]}
        d["large"] = os.urandom(3_000_000)
        assert len(d["large"]) == 3_000_000
        assert d.put("key", 1, skip_if_exists=True) is False

        async def many() -> int:
            await asyncio.gather(*(d.put.aio(number, number) for number in range(500)))
            found: list[Any] = await asyncio.gather(*(d.get.aio(number) for number in range(500)))
            return sum(found)

        assert asyncio.run(many()) == 499 * 250
        assert len(list(d)) == 502
        assert client.address == served.url
        assert not client.passes_files


def test_a_reader_reads_and_changes_nothing(served: Served) -> None:
    with served.client(Role.READER) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        assert d[1] == 1
        assert len(d) == 101
        assert len(d["large"]) == 2_000_000
        assert d.get_many([1, 2, "missing"]) == {1: 1, 2: 2}
        assert sum(1 for _ in d.items()) == 101
        writes: list[Callable[[], Any]] = [
            lambda: d.put("key", 1), lambda: d.pop(1), lambda: d.update({1: 2}), lambda: d.clear(), lambda: d.popitem(),
            lambda: d.setdefault("key", 1), lambda: d.pop_many([1]), lambda: d.set_ttl(5), lambda: d.put("x", bytes(400_000)),
            lambda: Dict.from_name("new", create_if_missing=True, client=client).hydrate(),
            lambda: Dict.objects.delete("kv", client=client), lambda: Dict.ephemeral(client=client).__enter__(),
        ]  # fmt: skip
        for write in writes:
            with pytest.raises(AuthError, match="key of this client does not allow it"):
                write()
    with Client(service_url(served.data)) as near:
        assert len(Dict.from_name("kv", client=near)) == 101


def test_a_reader_reads_a_dict_of_which_a_worker_knows_nothing(served: Served) -> None:
    with Client(service_url(served.data)) as near, served.client(Role.READER) as client:
        Dict.from_name("fresh", create_if_missing=True, client=near).hydrate()
        d: Dict[Any, Any] = Dict.from_name("fresh", client=client)
        assert (d.get(1), 1 in d, len(d), list(d), d.get_many([1, 2])) == (None, False, 0, [], {})
        Dict.objects.delete("fresh", client=near)
        with pytest.raises(holdall.NotFoundError):
            d.get(1)


def test_a_readers_reads_keep_nothing_alive(served: Served) -> None:
    with Client(service_url(served.data)) as near, served.client(Role.READER) as reader, served.client() as client:
        for name, user, is_there in (("by a reader", reader, False), ("by a client", client, True)):
            name = name.replace(" ", "-")
            Dict.from_name(name, create_if_missing=True, client=near, ttl=1.5)["key"] = 1
            d: Dict[Any, Any] = Dict.from_name(name, client=user)
            until_at = time.monotonic() + 2.5
            while time.monotonic() < until_at:
                found = d.get("key")
                time.sleep(0.05)
            assert (found == 1) == is_there


def asked(dealer: Any, opcode: int, sequence: int, *, batched: bool) -> Reply:
    """The answer to a request of this opcode, which says nothing besides."""
    hash_ = part_hash(*slot_range(0, 2))
    request = Request(opcode, 0, hash_, b"session of a key", sequence, sequence, bytes(16), b"key", b"")
    if batched:
        heads = encode([bytes(protocol.pack_request(request)[0])])
        request = Request(protocol.BATCH, 0, hash_, protocol.NO_SESSION, 0, 0, protocol.NO_DICT, b"", heads)
    dealer.send_multipart(protocol.pack_request(request))
    frames = dealer.recv_multipart()
    reply = protocol.parse_reply(*frames)
    if frames[0][protocol.FLAGS_OFFSET] & protocol.BATCHED:
        from holdall.bodies import decode

        reply = protocol.parse_reply(decode(list[bytes], reply.payload)[0])
    return reply


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize("role", Role)
def test_each_opcode_is_for_the_roles_of_the_table_and_no_other(served: Served, role: Role, batched: bool) -> None:
    inner = {protocol.BATCH, protocol.ROSTER}  # the broker, or the batch itself, answers them
    with zmq.Context() as context, keyed(context.socket(zmq.DEALER), new_key(served.data, role)) as dealer:
        dealer.linger, dealer.rcvtimeo = 0, 5_000
        dealer.connect(served.url)
        for opcode in range(256):
            if opcode in inner:
                continue
            reply = asked(dealer, opcode, opcode + 1, batched=batched)
            known = opcode in OPCODES[OWNER]
            if known and not may(role, opcode):
                assert reply.status == protocol.DENIED
            elif not known:
                assert reply.status in (protocol.MALFORMED, protocol.DENIED)
            else:
                assert reply.status != protocol.DENIED
    with Client(service_url(served.data)) as near:
        assert len(Dict.from_name("kv", client=near)) == 101


def stranger(keys: ConnectionFile, **changed: str) -> dict[str, str]:
    return {"server_key": keys.server_key, "public_key": keys.public_key, "secret_key": keys.secret_key, **changed}


@pytest.mark.parametrize("wrong", ["another key", "another server's key", "no key", "PLAIN", "a removed key", "an expired key"])
def test_who_has_no_key_that_counts_is_refused_and_learns_nothing(served: Served, wrong: str, tmp_path: Path) -> None:
    expires = time.time() + 0.2 if wrong == "an expired key" else None
    keys = read(new_key(served.data, name=f"w-{os.urandom(3).hex()}", expires=expires))
    if wrong == "a removed key":
        keyring(served.data).remove(keys.name)
    if expires is not None:
        time.sleep(0.3)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger, dealer.rcvtimeo, dealer.immediate, dealer.sndtimeo = 0, 500, True, 500
        if wrong == "PLAIN":
            dealer.plain_username, dealer.plain_password = b"root", b"secret"
        elif wrong != "no key":
            dealer.curve_serverkey = (OTHER_KEYS[0] if wrong == "another server's key" else keys.server_key).encode()
            pair = OTHER_KEYS if wrong == "another key" else (keys.public_key, keys.secret_key)
            dealer.curve_publickey, dealer.curve_secretkey = (each.encode() for each in pair)
        dealer.connect(served.url)
        with pytest.raises(zmq.Again):
            asked(dealer, protocol.ROSTER, 1, batched=False)
    with served.client() as other:
        assert Dict.from_name("kv", client=other)[1] == 1


@pytest.mark.parametrize(
    "words", [b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\x05\x00hello", os.urandom(300)], ids=["HTTP", "ZMTP/1.0", "noise"]
)
def test_who_speaks_no_curve_is_cut_off(served: Served, words: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as raw:
        raw.settimeout(10)
        raw.sendall(words)
        heard = b""
        try:
            while more := raw.recv(1_000):
                heard += more
        except ConnectionResetError:
            pass
    assert len(heard) <= 64


@pytest.mark.parametrize("while_", ["idle", "calling", "uploading", "parked"])
def test_a_key_that_is_removed_ends_its_connections_at_once(served: Served, while_: str) -> None:
    file = new_key(served.data)
    others = served.client()
    told: list[BaseException] = []
    with Client(connection=file) as client, others:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        assert d[1] == 1
        assert Dict.from_name("kv", client=others)[1] == 1

        def call() -> None:
            try:
                while True:
                    d.put("huge", bytes(90_000_000)) if while_ == "uploading" else d.get(1)
            except BaseException as error:
                told.append(error)

        calling = threading.Thread(target=call)
        if while_ == "parked":
            from holdall.command.service import processes
            from holdall.worker.directory.opening import DataDirectory

            for role in ("worker 0", "worker 1"):
                os.kill(processes(DataDirectory(served.data))[role][0], signal.SIGKILL)
        if while_ != "idle":
            calling.start()
        keyring(served.data).remove(read(file).name)
        if while_ == "idle":
            with pytest.raises(AuthError, match="does not let this key in"):
                until(lambda: d.get(1) is None)
        else:
            calling.join(20)
            assert isinstance(told[0], AuthError)
        with pytest.raises(AuthError):
            d.get(1)
        d = Dict.from_name("kv", client=others)
        assert d[1] == 1
        assert len(d.pop("huge", bytes(90_000_000))) == 90_000_000  # all of it, or nothing


def test_a_key_that_is_new_comes_in_at_once_and_one_client_may_come_again(served: Served) -> None:
    file = new_key(served.data, name="comes-again")
    with Client(connection=file) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        assert d[1] == 1
        line = next(each for each in keyring(served.data).allowed() if each.name == "comes-again")
        keyring(served.data).remove("comes-again")
        with pytest.raises(AuthError):
            until(lambda: d.get(1) is None)
        allowed = served.data / "keys" / "allowed"
        allowed.write_text(allowed.read_text() + line.line)
        assert d[1] == 1
        assert asyncio.run(d.get.aio(1)) == 1


def test_a_list_of_keys_that_cannot_be_read_changes_nothing(served: Served) -> None:
    allowed = served.data / "keys" / "allowed"
    with served.client() as client:
        assert Dict.from_name("kv", client=client)[1] == 1
        before = allowed.read_text()
        try:
            for broken in ("nonsense\n", before + "client x y z\n"):
                allowed.write_text(broken)
                time.sleep(1)
                assert Dict.from_name("kv", client=client)[1] == 1
        finally:
            allowed.write_text(before)


@pytest.mark.parametrize("reason", ["no such name", "nobody listens", "another service"])
def test_why_there_is_no_connection_is_told(served: Served, reason: str, tmp_path: Path) -> None:
    keys = json.loads(new_key(served.data).read_text())
    text = {
        "no such name": "no machine of this name is known",
        "nobody listens": "nobody listens at this port",
        "another service": "not the service that this connection file is for",
    }[reason]
    if reason == "no such name":
        keys["url"] = "tcp://no-such-host.invalid:4255"
    elif reason == "nobody listens":
        keys["url"] = f"tcp://127.0.0.1:{free_port()}"
    else:
        keys["server_key"] = OTHER_KEYS[0]
    file = tmp_path / "connection"
    file.write_text(json.dumps(keys))
    file.chmod(0o600)
    with Client(connection=file, timeout=2) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        with pytest.raises(ConnectionError, match=text):
            d.get(1)
        with pytest.raises(ConnectionError, match=text):
            asyncio.run(d.get.aio(1))


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


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_a_name_leads_to_addresses_of_either_kind(address: str, tmp_path: Path) -> None:
    if len({found[0] for found in socket.getaddrinfo("localhost", 1)}) < 2:
        pytest.skip("localhost is not both 127.0.0.1 and ::1 here")
    port = free_port()
    with service_process(ServiceSettings(str(tmp_path), listen=[f"tcp://{address}:{port}"], workers=1, sync="off")):
        for _ in range(2):
            with Client(connection=new_key(tmp_path, url=f"tcp://localhost:{port}")) as client:
                d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=client)
                d[1] = 1
                assert asyncio.run(d.get.aio(1)) == 1


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0", "tcp://[::]", "tcp://localhost"])
def test_a_service_may_listen_at_all_addresses_and_at_names(listen: str, tmp_path: Path) -> None:
    port = free_port()
    with service_process(ServiceSettings(str(tmp_path), listen=[f"{listen}:{port}"], workers=1, sync="off")):
        hosts = ["127.0.0.1", "[::1]"] if listen == "tcp://[::]" else ["127.0.0.1"]
        for host in hosts:
            with Client(connection=new_key(tmp_path, url=f"tcp://{host}:{port}")) as client:
                assert Dict.from_name("kv", create_if_missing=True, client=client).len() == 0


def test_who_mends_the_list_of_keys_by_hand_is_heard(served: Served) -> None:
    """A file with another mode is refused; when its mode is mended, nothing else about it has changed."""
    allowed = served.data / "keys" / "allowed"
    file = new_key(served.data, name="by-hand")
    with Client(connection=file) as client:
        d: Dict[Any, Any] = Dict.from_name("kv", client=client)
        assert d[1] == 1
        new = allowed.with_name("new")
        new.write_text("".join(line for line in allowed.read_text().splitlines(True) if " by-hand " not in line))
        new.chmod(0o644)
        new.rename(allowed)
        time.sleep(0.8)
        assert d[1] == 1
        allowed.chmod(0o600)
        with pytest.raises(AuthError):
            until(lambda: d.get(1) is None)


def test_a_connection_that_says_nothing_ends_with_its_key(served: Served) -> None:
    file = new_key(served.data)
    with zmq.Context() as context, keyed(context.socket(zmq.DEALER), file) as dealer:
        dealer.linger = 0
        monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        dealer.connect(served.url)
        assert monitor.poll(5_000)
        monitor.recv_multipart()
        keyring(served.data).remove(read(file).name)
        assert monitor.poll(5_000)  # it was ended, came again, and was refused
        assert int.from_bytes(monitor.recv_multipart()[0][:2], "little") == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        dealer.disable_monitor()
        monitor.close(0)


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
    made = f"umask 022; {sys.executable} -m holdall keys new laptop --url tcp://h --data {tmp_path / 'data'} > {file}"
    subprocess.run(["sh", "-c", made], check=True)
    assert file.stat().st_mode & 0o777 == 0o600
    lost = made.replace("laptop --url", "lost --url").replace(str(file), "/dev/full")
    assert subprocess.run(["sh", "-c", lost], check=False, capture_output=True).returncode != 0
    assert [each.name for each in keyring(tmp_path / "data").allowed()] == ["laptop"]


def test_a_port_that_another_program_has_taken_is_taken_back_and_others_are_served_meanwhile(tmp_path: Path) -> None:
    port = free_port()
    wanted = ServiceSettings(str(tmp_path), [f"tcp://127.0.0.1:{port}"], 1, "off")
    with service_process(wanted) as service, Client(service_url(tmp_path), lanes=False) as near:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=near)
        d[1] = 1
        with stopped(service):
            os.kill(children(service)["broker"], signal.SIGKILL)
            until(lambda: not is_taken(port))
            other = socket.create_server(("127.0.0.1", port))
        with other:
            assert d[1] == 1
        with Client(connection=new_key(tmp_path)) as far:
            assert Dict.from_name("kv", client=far)[1] == 1


def is_taken(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_what_nobody_is_told_of_holds_up_nothing() -> None:
    """ZeroMQ has one thread, which waits for room where it tells what happens: there is always room."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        told = sockets.monitor(context, router, zmq.EVENT_ALL, "inproc://told")
        port = router.bind_to_random_port("tcp://127.0.0.1")
        for _ in range(1_500):  # each is several events
            socket.create_connection(("127.0.0.1", port)).close()
        with context.socket(zmq.DEALER) as dealer:
            dealer.rcvtimeo, dealer.linger = 5_000, 0
            dealer.connect(f"tcp://127.0.0.1:{port}")
            dealer.send(b"asked")
            assert router.poll(5_000)
        router.disable_monitor()
        told.close()


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


def test_what_was_said_before_a_key_was_removed_and_waits_is_not_done(tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    wanted = ServiceSettings(str(tmp_path), [url], 1, "off")
    with service_process(wanted) as service, Client(service_url(tmp_path)) as near:
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True, client=near)
        d["key"] = "before"
        file = new_key(tmp_path)
        with stopped(service):  # so that no worker is started again
            os.kill(children(service)["worker 0"], signal.SIGKILL)
            with Client(connection=file, timeout=1) as far, pytest.raises((holdall.TimeoutError, ConnectionError)):
                Dict.from_id(d.object_id, client=far)["key"] = "after"
            keyring(tmp_path).remove(read(file).name)
            time.sleep(1)
        assert d["key"] == "before"
