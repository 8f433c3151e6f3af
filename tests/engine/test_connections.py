"""How a client gets to a server, and what it says when it does not: TLS, users, databases, seeds, forks, interrupts."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import Client, Dict
from holdall.client.redis.verdict import ACL
from holdall.errors import AuthError, ConnectionError, Error, InvalidError, StorageError, TimeoutError
from tests import clusters
from tests.clusters import Server
from tests.processes import free_port

pytestmark = pytest.mark.slow
"""Many servers are started, one after the other."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with clusters.running("redis") as found:
        assert isinstance(found, Server)
        yield found


def of(client: Client, name: str = "kv") -> Dict[Any, Any]:
    return Dict.from_name(name, create_if_missing=True, client=client)


def test_a_seed_that_is_dead_is_passed_over(server: Server) -> None:
    with Client(f"redis://127.0.0.1:{free_port()},127.0.0.1:{free_port()},127.0.0.1:{server.port}") as client:
        of(client)["key"] = 1
        assert of(client)["key"] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_nobody_answers(host: str) -> None:
    with (
        Client(f"redis://{host}:{free_port()}", timeout=1) as client,
        pytest.raises(ConnectionError, match="no service answered"),
    ):
        of(client).get("key")


def test_a_program_of_another_kind_answers() -> None:
    import socketserver

    class Babble(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Babble) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        with Client(f"redis://127.0.0.1:{other.server_address[1]}", timeout=1) as client, pytest.raises(ConnectionError):
            of(client).get("key")
        other.shutdown()


def test_names_are_looked_up(server: Server) -> None:
    with Client(f"redis://localhost:{server.port}") as client:
        assert of(client).put("key", 1)

        async def main() -> None:
            assert await of(client).get.aio("key") == 1

        asyncio.run(main())


def test_a_database_of_a_server_is_its_own(server: Server) -> None:
    with Client(f"redis://127.0.0.1:{server.port}/1") as one, Client(f"redis://127.0.0.1:{server.port}/2") as two:
        of(one, "own")["key"] = 1
        assert of(two, "own").get("key") is None


def test_namespaces_are_apart_and_have_parts_of_their_own(server: Server) -> None:
    url = f"redis://127.0.0.1:{server.port}"
    with Client(f"{url}?namespace=a&parts=4") as a, Client(f"{url}?namespace=b") as b:
        of(a)["key"] = 1
        assert of(b).get("key") is None
    with Client(f"{url}?namespace=a") as other, pytest.raises(InvalidError, match=r"say \?parts=4"):
        of(other).get("key")
    server.call("HSET", "c:{c}layout", "format", "99", "parts", "16", "id", "x" * 16)
    with Client(f"{url}?namespace=c") as newer, pytest.raises(InvalidError, match="format"):
        of(newer).get("key")


def test_the_least_that_a_user_must_be_allowed(server: Server) -> None:
    server.call("ACL", "SETUSER", "least", "reset", "on", ">secret", *ACL.format("team").split())
    with Client(f"redis://least:secret@127.0.0.1:{server.port}?namespace=team") as client:
        d = of(client)
        d.update({number: number for number in range(100)})
        d["large"] = bytes(2_000_000)
        assert len(d) == len(list(d.items())) == 101
        assert d.pop("large") == bytes(2_000_000)
        assert d.pop_many(range(3)) == {0: 0, 1: 1, 2: 2}
        d.popitem()
        d.set_ttl(60)
        d.clear()
        with Dict.ephemeral(client=client) as short:
            short[1] = 1
        Dict.objects.delete("kv", client=client)
    with (
        Client(f"redis://least:secret@127.0.0.1:{server.port}?namespace=other") as client,
        pytest.raises(AuthError, match="may not"),
    ):
        of(client).get("key")


def test_who_may_not_ask_for_replicas_is_told_so(server: Server) -> None:
    server.call("ACL", "SETUSER", "least", "reset", "on", ">secret", *ACL.format("team").split(), "-wait")
    url = f"redis://least:secret@127.0.0.1:{server.port}?namespace=team&wait=1"
    with Client(url, timeout=1) as client, pytest.raises(TimeoutError, match="NOPERM"):
        of(client)["key"] = 1

    async def main() -> None:
        with Client(url, timeout=1) as client, pytest.raises(TimeoutError, match="NOPERM"):
            await of(client).put.aio("key", 1)

    asyncio.run(main())


@pytest.mark.parametrize("who", ["least:wrong@", ":wrong@", "nobody:secret@"])
def test_a_wrong_password_is_told_at_once(server: Server, who: str) -> None:
    server.call("ACL", "SETUSER", "least", "reset", "on", ">secret", *ACL.format("team").split())
    with (
        Client(f"redis://{who}127.0.0.1:{server.port}") as client,
        pytest.raises(AuthError, match=r"WRONGPASS|AUTH") as refused,
    ):
        of(client).get("key")
    assert "wrong" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_server_that_wants_a_password_is_told_apart() -> None:
    with clusters.running("redis", "--requirepass", "secret") as closed:
        url = clusters.url_of(closed)
        with Client(url) as client, pytest.raises(AuthError, match="NOAUTH"):
            of(client).get("key")
        with Client(url.replace("//", "//:secret@")) as client:
            assert of(client).put("key", 1)

        async def main() -> None:
            with Client(url) as client, pytest.raises(AuthError, match="NOAUTH"):
                await of(client).get.aio("key")

        asyncio.run(main())


def test_a_server_without_scripts_is_refused_with_a_sentence() -> None:
    with (
        clusters.running("redis", "--rename-command", "EVALSHA", "") as lacking,
        Client(clusters.url_of(lacking)) as client,
        pytest.raises(InvalidError, match="lacks a command"),
    ):
        of(client).get("key")


def test_a_policy_that_loses_entries_is_warned_of() -> None:
    with (
        clusters.running("redis", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as losing,
        Client(clusters.url_of(losing)) as client,
        pytest.warns(UserWarning, match="allkeys-lru"),
    ):
        of(client).get("key")


def test_a_full_server_is_a_storage_error_and_loses_nothing() -> None:
    with clusters.running("redis", "--maxmemory", "20mb") as small, Client(clusters.url_of(small)) as client:
        d = of(client)
        kept = 0
        while _is_stored(d, kept):
            kept += 1
        assert d.get_many(range(kept)) == {number: bytes(100_000) for number in range(kept)}
        d.clear()
        d["key"] = 1
        assert len(d) == 1


def _is_stored(d: Dict[Any, Any], number: int) -> bool:
    try:
        d[number] = bytes(100_000)
    except StorageError as error:
        assert "no room" in str(error)  # noqa: PT017 - it is stored as a rule
        return False
    assert number < 1_000
    return True


def _certify(folder: Path) -> None:
    """A certificate authority of one's own, a server of it, and a client."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    for who in ("server", "stranger"):
        made = [*argv, "-out", str(folder / f"{who}.pem"), "-keyout", str(folder / f"{who}.key")]
        subprocess.run(made, check=True, capture_output=True)


def test_tls_with_a_certificate_authority_of_ones_own(tmp_path: Path) -> None:
    _certify(tmp_path)
    pem, key, port = tmp_path / "server.pem", tmp_path / "server.key", free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(pem), "--tls-key-file", str(key), "--tls-ca-cert-file", str(pem)]
    with clusters.running("redis", *options):
        url = f"rediss://localhost:{port}?ca={pem}"
        with Client(f"{url}&cert={pem}&key={key}") as client:
            d = of(client)
            d["large"] = os.urandom(3_000_000)
            assert len(d["large"]) == 3_000_000

            async def main() -> None:
                await asyncio.gather(*(d.put.aio(number, bytes(50_000)) for number in range(100)))
                assert len(await d.get_many.aio(range(100))) == 100

            asyncio.run(main())
        with (
            Client(f"rediss://localhost:{port}?ca={pem}", timeout=2) as client,
            pytest.raises(Error),
        ):  # it shows no certificate
            of(client).get("key")
        refused = [
            f"rediss://localhost:{port}?cert={pem}&key={key}",
            f"rediss://127.0.0.1:{port}?ca={pem}&cert={pem}&key={key}",
        ]
        for wrong in refused:  # an unknown authority; another name
            with Client(wrong, timeout=2) as client, pytest.raises(ConnectionError, match="certificate"):
                of(client).get("key")
        with Client(f"redis://localhost:{port}", timeout=2) as client, pytest.raises(ConnectionError):
            of(client).get("key")
    with pytest.raises(InvalidError, match="certificates"):
        Client(f"rediss://localhost:{port}?ca={tmp_path / 'none.pem'}")


def _in_child(d: Dict[Any, Any], number: int, answers: Any) -> None:
    answers.put([d[key] for key in range(number, number + 50)])


def test_a_forked_child_has_connections_of_its_own(server: Server) -> None:
    context = multiprocessing.get_context("fork")
    with Client(f"redis://127.0.0.1:{server.port}") as client:
        d = of(client)
        d.update({number: number for number in range(200)})
        answers = context.Queue()
        children = [context.Process(target=_in_child, args=(d, number, answers)) for number in range(4)]
        for child in children:
            child.start()
        for _ in range(500):
            assert d[7] == 7
        assert sorted(answers.get(timeout=20) for _ in children) == [[*range(n, n + 50)] for n in range(4)]
        for child in children:
            child.join()


class Interrupted(BaseException):
    """What a signal handler raises."""


def _interrupt(_number: int, _frame: object) -> None:
    raise Interrupted


def test_after_an_interrupt_no_call_gets_anothers_answer(server: Server) -> None:
    with Client(f"redis://127.0.0.1:{server.port}") as client:
        d = of(client)
        d.update({number: number for number in range(1_000)})
        before = signal.signal(signal.SIGALRM, _interrupt)
        interrupts, until, number = 0, time.monotonic() + 5, 0
        try:
            while time.monotonic() < until:
                number = (number + 1) % 1_000
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + (number % 97) / 50_000)
                    while True:
                        assert d[number] == number
                        assert d.get_many(range(number, number + 20 if number < 980 else 1_000)).get(number) == number
                except Interrupted:  # the clock rings once
                    interrupts += 1
                assert d[number] == number
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert interrupts > 50


def test_cancelled_tasks_leave_the_others_their_answers(server: Server) -> None:
    async def main() -> None:
        with Client(f"redis://127.0.0.1:{server.port}") as client:
            d = of(client)
            await d.update.aio({number: number for number in range(1_000)})
            for round_ in range(30):
                tasks = [asyncio.create_task(d.get.aio(number)) for number in range(200)]
                for _ in range(round_ % 4):
                    await asyncio.sleep(0)
                for task in tasks[::3]:
                    task.cancel()
                answers = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) or each == number for number, each in enumerate(answers))

    asyncio.run(main())


def test_connections_that_are_cut_are_made_again_and_nothing_happens_twice(server: Server) -> None:
    with Client(f"redis://127.0.0.1:{server.port}") as client:
        d = of(client, "queue")
        d.update({number: number for number in range(2_000)})
        popped: list[Any] = []

        def cut() -> None:
            while len(popped) < 2_000:
                server.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                time.sleep(0.02)

        cutting = threading.Thread(target=cut, daemon=True)
        cutting.start()
        popped += [d.popitem()[0] for _ in range(2_000)]
        cutting.join(20)
        assert sorted(popped) == [*range(2_000)]


def test_scripts_that_a_server_has_forgotten_are_brought_again(server: Server) -> None:
    with Client(f"redis://127.0.0.1:{server.port}") as client:
        d = of(client)
        for number in range(100):
            server.call("SCRIPT", "FLUSH") if number % 10 == 0 else None
            d[number] = number
            assert d.pop(number) == number
