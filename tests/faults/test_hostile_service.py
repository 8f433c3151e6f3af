"""A service that means harm to its clients can do no more than plant a pickle: each call ends in time, by its result or by an
error of ours, and takes no more memory than what has come.
"""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import re
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zmq
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import holdall
from holdall import Client, Dict, protocol
from holdall.blob import BLOB_BYTES_MIN, Reference
from holdall.bodies import CatalogEntry, CatalogPage, Identity, Page, PageEntry, Roster, RosterWorker, decode, encode
from holdall.command.cli import cli
from holdall.framing import FILES_MAX, Reader, pack_with_file
from holdall.protocol import OBJECT_BYTES_MAX, VERSION, Reply, Request
from holdall.slots import SLOTS, slot_range
from tests.processes import wait_for_lanes
from tests.streams import pack

TIMEOUT = 0.2
MARGIN = 4.0
"""What a call may take beyond its time on a busy machine; what hangs would take for ever."""
ENTRY = CatalogEntry("main", "kv", b"i" * 16, 0.0, "somebody")
Answer = Callable[[Request], list[Any]]


def reply(status: int, payload: bytes = b"") -> Answer:
    """One reply of this kind to each request."""
    return lambda request: [Reply(status, request.sequence, 0, payload)]


class HostileService:
    """It answers each request with what `answers` has for its opcode: replies, or lists of frames."""

    def __init__(self, folder: Path) -> None:
        self.url = f"ipc://{folder}/service.v{VERSION}"
        self.heard: list[int] = []
        self.answers: dict[int, Answer] = {}
        self.begin_again()
        self._router = zmq.Context().socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.bind(self.url)
        self._is_over = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def begin_again(self) -> None:
        """Be an honest service of one worker, with one Dict that is empty."""
        self.heard.clear()
        self.answers.clear()
        self.answers |= {
            protocol.ROSTER: reply(protocol.OK, encode(Roster(bytes(16), [RosterWorker(0, 0, SLOTS, [])]))),
            **dict.fromkeys((protocol.LOOKUP, protocol.CREATE, protocol.FIND), reply(protocol.OK, encode(ENTRY))),
            **dict.fromkeys((protocol.REGISTER, protocol.DROP, protocol.REMOVE), reply(protocol.OK)),
        }

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        self._router.close()
        self._router.context.term()

    def _serve(self) -> None:
        while not self._is_over:
            if not self._router.poll(20):
                continue
            route, head, *more = self._router.recv_multipart()
            asked = protocol.parse_request(head, *more)
            heads = decode(list[bytes], asked.value) if asked.opcode == protocol.BATCH else []
            for each in [*map(protocol.parse_request, heads)] if heads else [asked]:
                self.heard.append(each.opcode)
                for answer in self.answers.get(each.opcode, reply(protocol.MISSING))(each):
                    frames = protocol.pack_reply(answer) if isinstance(answer, Reply) else answer
                    self._router.send_multipart([route, *frames])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileService]:
    folder = tmp_path_factory.mktemp("hostile")
    hostile = HostileService(folder)
    yield hostile
    hostile.close()


@pytest.fixture
def hostile(running: HostileService) -> HostileService:
    running.begin_again()
    return running


@pytest.fixture
def d(hostile: HostileService) -> Iterator[Dict[Any, Any]]:
    with Client(hostile.url, timeout=5.0) as client:
        yield Dict.from_name("kv", client=client)


CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda d: d.get("k"),
    "[]": lambda d: d["k"],
    "put": lambda d: d.put("k", 1),
    "setdefault": lambda d: d.setdefault("k", 1),
    "pop": lambda d: d.pop("k"),
    "popitem": lambda d: d.popitem(),
    "del": lambda d: d.__delitem__("k"),
    "contains": lambda d: d.contains("k"),
    "len": len,
    "bool": bool,
    "clear": lambda d: d.clear(),
    "update": lambda d: d.update({"k": 1, "l": 2}),
    "put_many": lambda d: d.put_many({"k": 1}),
    "get_many": lambda d: d.get_many(["k", "l", "m"]),
    "pop_many": lambda d: d.pop_many(["k", "l", "m"]),
    "copy": lambda d: d.copy(),
    "keys": list,
    "items": lambda d: list(d.items()),
    "info": lambda d: d.info(),
    "set_ttl": lambda d: d.set_ttl(1),
    "put of a large value": lambda d: d.put("k", bytes(BLOB_BYTES_MIN + 1)),
    "list": lambda d: Dict.objects.list(client=d.connected()),
    "create": lambda d: Dict.objects.create("other", client=d.connected()),
    "create or find": lambda d: Dict.objects.create("other", allow_existing=True, client=d.connected()),
    "delete": lambda d: Dict.objects.delete("kv", client=d.connected()),
}


def ended(call: Callable[[Any], Any], d: Any) -> Any:
    """What a call returns or raises, which is an error of ours or what a dict raises, in its time."""
    began = time.monotonic()
    try:
        return call(d)
    except (holdall.Error, KeyError) as error:
        return error
    finally:
        assert time.monotonic() - began < TIMEOUT + MARGIN


PIECES = [
    *(b"", b"\x80", b"\x01", b"\x02", bytes(40), b"\xdd\xff\xff\xff\xff", b"\xc1", b"\x91" * 5_000, b"\xd9\x02\xff\xfe"),
    *map(encode, (0, -1, 2**63, 2**64 - 1, True, math.nan, "text", [], [None], [None] * 9, [b""], [b"\x02"], {}, {"a": 1})),
    *(b"\x01" + b"\xff" * 11, b"\x01" + b"\xff" * 30, Reference(bytes(16), 400_000, 0).pack()),
    encode(ENTRY),
    encode(Page([PageEntry(b"sk", None, b"\x80")], b"")),
    encode(Page([PageEntry(b"t\xff\xff\xff\xff", None, None), PageEntry(b"", None, None), PageEntry(b"zz", None, b"")], b"")),
    encode(CatalogPage([], True)),
]
STATUSES = (*range(4), protocol.UNKNOWN_DICT, protocol.WRONG_WORKER, protocol.UNKNOWN_BLOB, *range(32, 40), 77, 255)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_it_answers_each_call_ends_in_time_and_by_an_error_of_ours(
    hostile: HostileService, d: Dict[Any, Any], data: st.DataObject
) -> None:
    anything(hostile, d, data)


@pytest.mark.slow
@settings(max_examples=3_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_it_answers_3000_times(hostile: HostileService, d: Dict[Any, Any], data: st.DataObject) -> None:
    anything(hostile, d, data)


def anything(hostile: HostileService, d: Dict[Any, Any], data: st.DataObject) -> None:
    """One call of a service that answers the same to all, or to all but what comes first."""
    hostile.begin_again()
    d.connected().timeout = TIMEOUT
    name = data.draw(st.sampled_from([*CALLS]))
    status = data.draw(st.sampled_from(STATUSES))
    payload = data.draw(st.sampled_from(PIECES) | st.binary(max_size=60).filter(lambda each: each[:1] != b"\x80"))
    kept = data.draw(st.sampled_from([(protocol.ROSTER,), tuple(hostile.answers)]))
    answers = dict.fromkeys(range(256), reply(status, payload)) | {each: hostile.answers[each] for each in kept}
    hostile.answers |= answers
    ended(CALLS[name], d)


EMPTY: dict[str, bytes] = {
    "get": b"",
    "pop": b"",
    "setdefault": b"",
    "popitem": encode(PageEntry(b"sk", None, b"")),
    "get_many": encode([b""]),
    "pop_many": encode([b"", b"", b""]),
    "items": encode(Page([PageEntry(b"sk", None, b"")], b"")),
    "copy": encode(Page([PageEntry(b"sk", None, b"")], b"")),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_value_of_no_bytes_is_an_error_of_ours(hostile: HostileService, d: Dict[Any, Any], name: str) -> None:
    d.hydrate()
    d.connected().timeout = TIMEOUT
    opcodes = (
        protocol.GET,
        protocol.POP,
        protocol.SET_DEFAULT,
        protocol.POP_ANY,
        protocol.GET_MANY,
        protocol.POP_MANY,
        protocol.PAGE,
    )
    status = protocol.EXISTS if name == "setdefault" else protocol.OK
    hostile.answers |= dict.fromkeys(opcodes, reply(status, EMPTY[name]))
    assert isinstance(ended(CALLS[name], d), holdall.Error)


GROWING: Iterator[int] = iter(range(2**62))
ENDLESS: dict[str, tuple[tuple[int, ...], Answer]] = {
    "it never knows the Dict": (tuple(set(range(48)) - {14, 15, 19, 32, 33, 37}), reply(protocol.UNKNOWN_DICT)),
    "it is never available": (tuple(range(48)), reply(protocol.UNAVAILABLE)),
    "it has lost every blob": (tuple(range(16)), reply(protocol.UNKNOWN_BLOB)),
    "the Dict is about to be deleted for ever": (
        (32, 33),
        reply(protocol.OK, encode(CatalogEntry("main", "kv", bytes(16), 0.0, "", deleting=True))),
    ),
    "it has forgotten each creation": ((protocol.CREATE,), reply(protocol.FORGOTTEN)),
    "a page that repeats": ((protocol.PAGE,), reply(protocol.OK, encode(Page([PageEntry(b"sa", None, b"\x80")], b"sa")))),
    "a page that goes back": (
        (protocol.PAGE,),
        lambda request: reply(protocol.OK, encode(Page([], bytes([255 - len(request.value) % 200]))))(request),
    ),
    "empty pages without end": (
        (protocol.PAGE,),
        lambda request: reply(protocol.OK, encode(Page([], next(GROWING).to_bytes(8, "big") + b"1")))(request),
    ),
    "pages of names that repeat": ((protocol.LIST,), reply(protocol.OK, encode(CatalogPage([ENTRY], True)))),
    "no names and more of them": ((protocol.LIST,), reply(protocol.OK, encode(CatalogPage([], True)))),
    "names without end": (
        (protocol.LIST,),
        lambda request: reply(
            protocol.OK, encode(CatalogPage([CatalogEntry("main", f"{next(GROWING):020}", bytes(16), 0.0, "")], True))
        )(request),
    ),
    "no values": ((protocol.GET_MANY, protocol.POP_MANY), reply(protocol.OK, encode([]))),
    "answers to nothing": (tuple(range(48)), lambda request: [Reply(protocol.OK, 10**9, 0, b"")] * 500),
    "a payload that never comes": (
        tuple(range(48)),
        lambda request: [[protocol.REPLY.pack(VERSION, protocol.OK, protocol.PAYLOAD, request.sequence, 0)]],
    ),
    "frames without end": (tuple(range(48)), lambda request: [[b"x"] * 5_000]),
}
AT: dict[str, list[str]] = {
    "it never knows the Dict": ["get", "len", "update", "get_many", "keys"],
    "it is never available": ["get"],
    "it has lost every blob": ["put of a large value", "update"],
    "the Dict is about to be deleted for ever": ["create"],
    "it has forgotten each creation": ["create or find"],
    "a page that repeats": ["copy", "keys"],
    "empty pages without end": ["bool", "copy"],
    "names without end": ["list"],
    "answers to nothing": ["get", "len"],
    "a payload that never comes": ["get"],
    "frames without end": ["get"],
}


@pytest.mark.parametrize("endless", ENDLESS)
def test_what_never_ends_does_not_keep_a_call_beyond_its_time(hostile: HostileService, d: Dict[Any, Any], endless: str) -> None:
    d.hydrate()
    d.connected().timeout = TIMEOUT
    opcodes, answer = ENDLESS[endless]
    hostile.answers |= dict.fromkeys(opcodes, answer)
    of = {protocol.PAGE: ["bool", "copy", "keys"], protocol.LIST: ["list"], protocol.GET_MANY: ["get_many", "pop_many"]}
    for name in AT.get(endless, of.get(opcodes[0], [])):
        assert isinstance(ended(CALLS[name], d), holdall.Error), name


@pytest.mark.parametrize("endless", ["empty pages without end", "a payload that never comes", "answers to nothing"])
def test_a_loop_goes_on_with_other_tasks_meanwhile(hostile: HostileService, endless: str) -> None:
    async def calls() -> int:
        ticks = 0
        async with Client(hostile.url, timeout=5.0) as client:
            d: Dict[Any, Any] = Dict.from_name("kv", client=client)
            await d.hydrate.aio()
            client.timeout = TIMEOUT
            opcodes, answer = ENDLESS[endless]
            hostile.answers |= dict.fromkeys(opcodes, answer)
            call = asyncio.ensure_future(d.copy.aio())
            while not call.done():
                await asyncio.sleep(0.001)
                ticks += 1
            with pytest.raises(holdall.Error):
                await call
        return ticks

    began = time.monotonic()
    assert asyncio.run(calls()) > 3
    assert time.monotonic() - began < TIMEOUT + MARGIN


def worker(index: int, first: int, end: int, *addresses: str) -> RosterWorker:
    return RosterWorker(index, first, end, list(addresses))


HALVES = [worker(index, *slot_range(index, 2)) for index in range(2)]
ROSTERS = {
    "no workers": [],
    "half of the slots": HALVES[:1],
    "slots twice": [HALVES[0], HALVES[0]],
    "the wrong way round": HALVES[::-1],
    "overlapping slots": [worker(0, 0, 600), worker(1, 500, SLOTS)],
    "slots beyond the last": [worker(0, 0, SLOTS + 1)],
    "a negative slot": [worker(0, -5, SLOTS)],
    "10^10 slots": [worker(0, 0, 10**10)],
    "another number": [worker(7, 0, SLOTS)],
    "no slots": [worker(0, 0, 0)],
    "too many": [worker(index, index, index + 1) for index in range(SLOTS + 1)],
}


def packed(workers: list[RosterWorker]) -> bytes:
    return encode([bytes(16), workers])


@pytest.mark.parametrize("roster", ROSTERS)
def test_a_roster_in_which_not_each_slot_has_one_worker_is_refused(
    hostile: HostileService, d: Dict[Any, Any], roster: str
) -> None:
    hostile.answers[protocol.ROSTER] = reply(protocol.OK, packed(ROSTERS[roster]))
    with pytest.raises(holdall.ProtocolError, match="roster"):
        len(d)


def test_lanes_are_looked_for_beside_the_service_alone(hostile: HostileService, d: Dict[Any, Any], tmp_path: Path) -> None:
    """Else a service of another machine could have its clients call at any socket of theirs."""
    beside = hostile.url.rpartition("/")[0]
    with socket.socket(socket.AF_UNIX) as elsewhere, socket.socket(socket.AF_UNIX) as here:
        elsewhere.bind(str(tmp_path / f"worker-0.v{VERSION}"))
        here.bind(f"{beside.removeprefix('ipc://')}/agent")
        for each in (elsewhere, here):
            each.listen()
            each.settimeout(0.05)
        addresses = [
            *(f"ipc://{tmp_path}/worker-0.v{VERSION}", f"{beside}/agent", f"{beside}/../x/agent", "tcp://10.0.0.1:22", "hello"),
            *("tcp://x", "ipc://\0", f"{beside}/worker-1.v{VERSION}", "", "ipc:///" + "x" * 10_000, "inproc://x"),
        ]
        hostile.answers[protocol.ROSTER] = reply(protocol.OK, packed([worker(0, 0, SLOTS, *addresses)]))
        hostile.answers[protocol.LENGTH] = reply(protocol.OK, encode(3))
        assert len(d) == 3
        for each in (elsewhere, here):
            with pytest.raises(TimeoutError):
                each.accept()


NUMBERS = [-1, 2**53, 2**63, 2**64 - 1, 1.5, None, "3", True]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["len", "put_many"])
def test_a_number_of_entries_that_cannot_be_is_refused(hostile: HostileService, d: Any, name: str, number: object) -> None:
    hostile.answers |= dict.fromkeys((protocol.LENGTH, protocol.PUT_MANY), reply(protocol.OK, encode(number)))
    with pytest.raises(holdall.ProtocolError):
        CALLS[name](d)


SIZES = [OBJECT_BYTES_MAX + 1, 2**31, 2**63, 2**64 - 1]


@pytest.mark.parametrize("size", [*SIZES, OBJECT_BYTES_MAX])
@pytest.mark.parametrize("name", ["get", "pop", "get_many", "items", "setdefault"])
def test_memory_is_taken_for_what_has_come_and_not_for_what_is_said_to_come(
    hostile: HostileService, d: Any, name: str, size: int
) -> None:
    value = (
        Reference(bytes(16), size, 0).pack()
        if size <= OBJECT_BYTES_MAX
        else b"\x02" + bytes(16) + size.to_bytes(8, "little") + bytes(4)
    )
    hostile.answers |= {
        **dict.fromkeys((protocol.GET, protocol.POP), reply(protocol.OK, value)),
        protocol.SET_DEFAULT: reply(protocol.EXISTS, value),
        **dict.fromkeys((protocol.GET_MANY, protocol.POP_MANY), reply(protocol.OK, encode([value]))),
        protocol.PAGE: reply(protocol.OK, encode(Page([PageEntry(b"sk", None, value)]))),
        protocol.READ_CHUNK: reply(protocol.OK, b"short"),
    }
    d.hydrate()
    tracemalloc.start()
    try:
        call = CALLS[name] if name != "get_many" else lambda d: d.get_many(["k"])
        assert isinstance(ended(call, d), holdall.Error)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


ENTRIES: dict[str, list[Any]] = {
    "a name that is none": ["main", "a b", bytes(16), 0.0, ""],
    "a name with control codes": ["main", "\x1b[31m", bytes(16), 0.0, ""],
    "a name that is too long": ["main", "x" * 65, bytes(16), 0.0, ""],
    "another environment": ["\n", "kv", bytes(16), 0.0, ""],
    "an id that is too short": ["main", "kv", bytes(15), 0.0, ""],
    "an id that is too long": ["main", "kv", bytes(17), 0.0, ""],
    "made in no year": ["main", "kv", bytes(16), 1e300, ""],
    "made never": ["main", "kv", bytes(16), math.nan, ""],
    "made before all": ["main", "kv", bytes(16), -math.inf, ""],
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", ["get", "info", "list"])
def test_a_dict_that_cannot_be_is_refused(hostile: HostileService, d: Any, entry: str, name: str) -> None:
    found = reply(protocol.OK, encode(ENTRIES[entry]))
    hostile.answers |= dict.fromkeys((protocol.LOOKUP, protocol.FIND), found)
    hostile.answers[protocol.LIST] = reply(protocol.OK, encode([[ENTRIES[entry]], False]))
    with pytest.raises(holdall.ProtocolError):
        CALLS[name](d)


CODES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202etxt\u2066\r\n[link=file:///etc]x[/link]"


@pytest.mark.parametrize("command", ["list", "info kv", "get kv k", "items kv", "items kv --all"])
@pytest.mark.parametrize("of", ["sentences", "values"])
def test_what_it_says_reaches_a_terminal_without_control_codes(
    hostile: HostileService, monkeypatch: pytest.MonkeyPatch, command: str, of: str
) -> None:
    entry = encode(CatalogEntry("main", "kv", bytes(16), 0.0, CODES))
    key, value = b"s" + CODES.encode(), pickle.dumps([CODES])
    hostile.answers |= {
        **dict.fromkeys((protocol.LOOKUP, protocol.FIND), reply(protocol.OK, entry)),
        protocol.LIST: reply(protocol.OK, encode([[[*["main", "kv", bytes(16), 0.0, CODES]]], False])),
        protocol.GET: reply(protocol.OK, value),
        protocol.LENGTH: reply(protocol.OK, encode(1)),
        protocol.PAGE: reply(protocol.OK, encode(Page([PageEntry(key, None, value)]))),
        protocol.STATISTICS: reply(protocol.OK, encode({})),
    }
    if of == "sentences":
        refused = reply(protocol.STORAGE, CODES.encode() * 1_000)
        hostile.answers |= dict.fromkeys((protocol.LENGTH, protocol.GET, protocol.PAGE, protocol.LIST), refused)
    monkeypatch.setenv("HOLDALL_URL", hostile.url)
    monkeypatch.setenv("COLUMNS", "300")
    told = CliRunner().invoke(cli, ["dict", *command.split()])
    shown = told.output.replace("\n", "").replace("\t", "")
    assert shown
    assert shown.isprintable(), re.findall(r"[^ -~]", shown)
    assert "]0;owned" in shown
    assert "[link=file:///etc]" in shown or of == "sentences"
    with Client(hostile.url) as client, suppress(holdall.Error):
        assert Dict.from_name("kv", client=client).info().created_by.isprintable()


class HostileLane:
    """A lane beside the service, to which it answers a probe, and to what asks for a file with what `file` opens."""

    def __init__(self, hostile: HostileService, file: Callable[[], int]) -> None:
        self._file = file
        self.url = f"{hostile.url.rpartition('/')[0]}/worker-0.v{VERSION}"
        self.asked = 0
        with suppress(FileNotFoundError):
            os.unlink(self.url.removeprefix("ipc://"))
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.url.removeprefix("ipc://"))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, args=(hostile,))
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self, hostile: HostileService) -> None:
        with suppress(OSError):
            while True:
                connected, _ = self._listening.accept()
                with connected, suppress(OSError):
                    self._talk(connected, hostile)

    def _talk(self, connected: socket.socket, hostile: HostileService) -> None:
        rest = b""
        while data := connected.recv(1 << 20):
            rest += data
            while len(rest) >= 8:
                sizes = int.from_bytes(rest[:4], "little"), int.from_bytes(rest[4:8], "little")
                if len(rest) < 8 + sum(sizes):
                    break
                head, payload = rest[8 : 8 + sizes[0]], rest[8 + sizes[0] : 8 + sum(sizes)]
                rest = rest[8 + sum(sizes) :]
                asked = protocol.parse_request(head, *([payload] if payload else []))
                if asked.opcode == protocol.PROBE:
                    answers = [Reply(protocol.OK, asked.sequence, 0, encode(Identity(bytes(16), 0)))]
                elif asked.opcode in protocol.FILES:
                    self.asked += 1
                    self._pass(connected, protocol.pack_reply(Reply(protocol.OK, asked.sequence, 0, b"\x01")))
                    continue
                else:
                    answers = hostile.answers.get(asked.opcode, reply(protocol.MISSING))(asked)
                for each in answers:
                    connected.sendall(b"".join(pack([*map(bytes, protocol.pack_reply(each))])))

    def _pass(self, connected: socket.socket, frames: list[Any]) -> None:
        descriptor = self._file()
        socket.send_fds(connected, [pack_with_file(frames)], [descriptor])
        os.close(descriptor)


def fifo(folder: Path) -> int:
    os.mkfifo(folder / "fifo")
    return os.open(folder / "fifo", os.O_RDWR)


def file_of(folder: Path, size: int) -> int:
    (folder / "file").write_bytes(bytes(size))
    return os.open(folder / "file", os.O_RDWR)


SIZE = BLOB_BYTES_MIN + 1
FILES: dict[str, Callable[[Path], int]] = {
    "a FIFO": fifo,
    "a pipe": lambda folder: os.pipe()[0],
    "a device": lambda folder: os.open("/dev/zero", os.O_RDWR),
    "a terminal": lambda folder: os.openpty()[1],
    "a directory": lambda folder: os.open(folder, os.O_RDONLY),
    "a socket": lambda folder: socket.socketpair()[0].detach(),
    "too small a file": lambda folder: file_of(folder, SIZE - 1),
    "too large a file": lambda folder: file_of(folder, SIZE + 1),
    "a file that may be read alone": lambda folder: os.open("/dev/null", os.O_RDONLY),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_only_a_file_of_the_right_size_is_written_or_read(hostile: HostileService, tmp_path: Path, what: str) -> None:
    descriptor = FILES[what](tmp_path)
    lane = HostileLane(hostile, lambda: os.dup(descriptor))
    taken: list[int] = []
    hostile.answers |= {
        protocol.ROSTER: reply(protocol.OK, packed([worker(0, 0, SLOTS, lane.url)])),
        protocol.GET: reply(protocol.OK, Reference(bytes(16), SIZE, 0).pack()),
        protocol.READ_CHUNK: reply(protocol.STORAGE, b"by chunks"),
        protocol.WRITE_CHUNK: lambda request: taken.append(len(request.value)) or reply(protocol.OK)(request),  # type: ignore[func-returns-value]
        protocol.SEAL: reply(protocol.OK),
        protocol.LENGTH: reply(protocol.OK, encode(0)),
        protocol.PUT: reply(protocol.OK),
    }
    try:
        with Client(hostile.url, timeout=2.0) as client:
            d: Dict[Any, Any] = Dict.from_name("kv", client=client)
            wait_for_lanes(d)
            with pytest.raises(holdall.StorageError, match="by chunks"):
                d["k"]
            assert d.put("k", bytes(SIZE))
            assert lane.asked == 2
            assert sum(taken) >= SIZE
    finally:
        lane.close()
        os.close(descriptor)
    if "file" in what and "alone" not in what:
        assert (tmp_path / "file").stat().st_size in (SIZE - 1, SIZE + 1)


def test_descriptors_without_messages_end_a_lane() -> None:
    here, there = socket.socketpair()
    with here, there:
        reader = Reader(here)
        reader.expect_files()
        for _ in range(FILES_MAX * 2):
            null = os.open("/dev/null", os.O_RDONLY)
            socket.send_fds(there, [b"\0"], [null])
            os.close(null)
        with pytest.raises(holdall.ProtocolError, match="descriptors"):  # noqa: PT012
            for _ in range(FILES_MAX * 2):
                reader.receive()
