"""Clients of other machines come in by a key, and as far as its role goes; nobody else does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

import holdall
from holdall import Client, Dict, protocol, sockets
from holdall.bodies import encode
from holdall.connection_file import ConnectionFile, read
from holdall.errors import AuthError, ConnectionError
from holdall.process.config import ServiceSettings
from holdall.protocol import Reply, Request
from holdall.roles import OPCODES, OWNER, Role, may
from holdall.service.ports import keyring
from holdall.settings import service_url
from holdall.slots import part_hash, slot_range
from tests.processes import children, free_port, keyed, new_key, service_process, stopped, until
from tests.service.conftest import Served

OTHER_KEYS = [each.decode() for each in zmq.curve_keypair()]


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
            if batched and opcode in protocol.LARGE_ANSWERS:
                assert reply.status == protocol.MALFORMED
            elif known and not may(role, opcode):
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


def test_a_key_whose_role_was_changed_comes_in_anew(served: Served) -> None:
    """What it had asked for by its old role, and waits, is not done."""
    allowed = served.data / "keys" / "allowed"
    with zmq.Context() as context, keyed(context.socket(zmq.DEALER), new_key(served.data, name="changing")) as dealer:
        dealer.linger, dealer.rcvtimeo = 0, 5_000
        with dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            dealer.connect(served.url)
            assert asked(dealer, protocol.CLEAR, 1, batched=False).status != protocol.DENIED
            new = allowed.with_name("new")
            new.touch(0o600)
            new.write_text(allowed.read_text().replace("client changing ", "reader changing "))
            new.rename(allowed)
            assert monitor.poll(10_000)
        assert asked(dealer, protocol.CLEAR, 2, batched=False).status == protocol.DENIED


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


@pytest.mark.parametrize("name", [b"own", b"x" * 255, b"\0" + b"y" * 20])
def test_who_takes_a_name_of_its_own_is_cut_off(served: Served, name: bytes) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        keyed(dealer, new_key(served.data, Role.READER)).linger = 0
        dealer.routing_id = name
        with dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            dealer.connect(served.url)
            dealer.send_multipart(protocol.pack_request(Request(protocol.PROBE, 0, 0, bytes(16), 1, 1, bytes(16), b"", b"")))
            assert monitor.poll(10_000)
            assert not dealer.poll(0)
    with served.client() as client:
        assert Dict[Any, Any].from_name("kv", client=client)[1] == 1
