"""What a person at a prompt sees: help, signatures, completion, reprs, and errors without noise."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import pydoc
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import holdall
from holdall import Client, Dict

METHODS: dict[str, Callable[[Any], Any]] = {
    "get": lambda d: d.get,
    "update": lambda d: d.update,
    "keys": lambda d: d.keys,
    "get.aio": lambda d: d.get.aio,
    "len.aio": lambda d: d.len.aio,
    "Dict.pop": lambda _: Dict.pop,
    "Dict.items": lambda d: type(d).items,
    "objects.create": lambda _: Dict.objects.create,
    "objects.delete.aio": lambda _: Dict.objects.delete.aio,
}
TEXTS = {
    "get": ("get(key: 'K', default:", "-> 'Union[V, None]'", "The value of a key, or `default`"),
    "update": ("update(other:", "-> 'None'", "At most 10,000 entries"),
    "keys": ("keys() -> 'Keys'", "The keys, as a view"),
    "get.aio": ("async aio(key: 'K', default:", "-> 'Union[V, None]'", "The value of a key, or `default`"),
    "len.aio": ("async aio() -> 'int'", "The number of entries"),
    "Dict.pop": ("pop(self, key: 'K',", "-> 'V'", "Remove a key and return its value"),
    "Dict.items": ("items(self: 'Handle') -> 'Items'", "The pairs of key and value"),
    "objects.create": ("create(name: 'str', *, allow_existing", "-> 'None'", "Make a Dict."),
    "objects.delete.aio": ("async aio(name: 'str', *, allow_missing", "Delete a Dict and all that is in it."),
}


@pytest.mark.parametrize("method", METHODS)
def test_help_shows_a_methods_own_signature_and_text(d: Dict[Any, Any], method: str) -> None:
    seen = METHODS[method](d)
    text = pydoc.render_doc(seen, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    for shown in TEXTS[method]:
        assert shown in text
    assert "Operation" not in text
    assert inspect.isroutine(seen)
    assert str(inspect.signature(seen)) in TEXTS[method][0] + text
    assert inspect.getdoc(seen)


def test_a_method_may_be_called_as_a_function_of_its_class(d: Dict[Any, Any]) -> None:
    assert Dict.put(d, "a", 1) is True
    assert list(map(Dict.get, [d, d], ["a", "b"])) == [1, None]
    assert list(type(d).keys(d)) == ["a"]
    assert [pickle.loads(pickle.dumps(each))("a") for each in (d.get, d.contains)] == [1, True]
    assert asyncio.run(pickle.loads(pickle.dumps(d.get.aio))("a")) == 1
    assert sorted(pickle.loads(pickle.dumps(d.items))()) == [("a", 1)]


def test_completion_offers_what_users_call_and_nothing_else(d: Dict[Any, Any], service: holdall.LocalService) -> None:
    assert {name for name in dir(holdall) if not name.startswith("__")} == set(holdall.__all__)
    with Client(service.url) as client:
        assert [name for name in dir(client) if name[0] != "_"] == ["address", "close", "from_env", "is_closed", "timeout"]
    assert [name for name in dir(Dict.objects) if name[0] != "_"] == ["create", "delete", "list"]
    assert [name for name in dir(d.get) if name[0] != "_"] == ["aio"]
    assert [name for name in dir(d.keys) if name[0] != "_"] == ["aio"]
    d.update({"a": 1, ("b", 2): 3})
    assert set(d._ipython_key_completions_()) == {"a", ("b", 2)}


def test_a_repr_says_which_one_it_is_and_asks_no_service(name: str) -> None:
    with Client("ipc:///tmp/nobody-listens-here") as elsewhere:
        assert repr(Dict.from_name("kv", client=elsewhere)) == "<holdall.Dict 'kv' at ipc:///tmp/nobody-listens-here>"
        assert "Dict 'kv' at ipc:///tmp/nobody" in repr(Dict.from_name("kv", client=elsewhere).get)
        assert "di-" in repr(Dict.ephemeral(client=elsewhere))
        assert "at ipc:///tmp/nobody" in repr(Dict.ephemeral(client=elsewhere))
    assert repr(Dict.from_name("kv", environment_name="other")) == "<holdall.Dict 'kv' of environment 'other'>"
    assert repr(Dict.from_name("kv").keys) == "<Dict.keys of <holdall.Dict 'kv'>>"


FIRST_CALLS: dict[str, Callable[[Dict[Any, Any]], Any]] = {
    "blocking": lambda d: d["key"],
    "awaiting": lambda d: asyncio.run(d.get.aio("key")),
    "iterating": lambda d: list(d),
}
UNREACHABLE = {
    "a data directory that is a file": {"HOLDALL_DATA": __file__},
    "no place for a data directory": {"HOLDALL_DATA": "/proc/nowhere"},
    "a socket where nobody listens": {"HOLDALL_URL": "ipc:///tmp/nobody-listens-here"},
    "no URL": {"HOLDALL_URL": "nowhere"},
}


@pytest.mark.parametrize("call", FIRST_CALLS.values(), ids=FIRST_CALLS)
@pytest.mark.parametrize("settings", UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_first_call_that_fails_tells_of_one_error(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], call: Callable[[Dict[Any, Any]], Any]
) -> None:
    monkeypatch.delenv("HOLDALL_URL", raising=False)
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("holdall.client.client.CONTACT_SECONDS", 0.1)
    with pytest.raises(holdall.Error) as raised:
        call(Dict.from_name("kv"))
    error: BaseException | None = raised.value
    while error is not None and not error.__suppress_context__:
        assert error is raised.value, "another error is shown beside it"
        error = error.__context__


async def iterated(d: Dict[Any, Any]) -> None:
    async for _ in d.keys.aio():
        pass


async def in_a_block(_: Dict[Any, Any]) -> None:
    async with Dict.ephemeral():
        pass


AWAITED: dict[str, Callable[[Dict[Any, Any]], Coroutine[Any, Any, Any]]] = {
    "put": lambda d: d.put.aio("key", 1),
    "hydrate": lambda d: d.hydrate.aio(),
    "list": lambda _: Dict.objects.list.aio(),
    "iteration": iterated,
    "ephemeral": in_a_block,
}


@pytest.mark.parametrize("awaited", AWAITED.values(), ids=AWAITED)
def test_a_call_that_no_loop_of_asyncio_drives_is_refused_with_the_way_out(d: Dict[Any, Any], awaited: Any) -> None:
    """As under trio and curio, which drive coroutines by `send` themselves."""
    with pytest.raises(holdall.InvalidError, match=r"event loop of asyncio.*trio\.to_thread.*curio\.run_in_thread"):
        awaited(d).send(None)
    assert len(d) == 0


def test_trio_itself_is_refused_and_its_threads_may_call(d: Dict[Any, Any]) -> None:
    trio = pytest.importorskip("trio", reason="is not installed")

    async def main() -> Any:
        with pytest.raises(holdall.InvalidError, match=r"trio\.to_thread\.run_sync"):
            await d.put.aio("key", 1)
        await trio.to_thread.run_sync(d.put, "key", 2)
        return await trio.to_thread.run_sync(d.get, "key")

    assert trio.run(main) == 2


LATE = """
import holdall, holdall.client.client, holdall.disk
client, file = holdall.Client(), holdall.disk.DiskFile("/dev/null")
holdall.Dict.from_name("late", create_if_missing=True, client=client)["key"] = 1
for module in (holdall.client.client, holdall.disk):
    for name in ("os", "sys"):
        setattr(module, name, None)  # as it may be at the end of an interpreter
del client, file
"""


def test_what_goes_after_its_module_does_so_quietly(service: holdall.LocalService) -> None:
    ran = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", LATE], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
