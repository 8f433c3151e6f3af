"""Whatever a client stores, no process of the service unpickles it: here each of them would end at the attempt."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdall import Dict, LocalService
from tests.processes import process_ids

GUARD = """
import _pickle, os, pathlib, pickle, sys

def end(*_arguments, **_keywords):
    os.write(2, b"a process of the service unpickles\\n")
    os._exit(66)

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cloudpickle", "dill"):
            end()

for module in pickle, _pickle:
    for name in "load", "loads", "Unpickler", "_load", "_loads", "_Unpickler":
        if hasattr(module, name):
            setattr(module, name, end)
sys.meta_path.insert(0, Watch())
pathlib.Path(os.environ["HOLDALL_GUARDED"], str(os.getpid())).touch()
"""


class Bomb:
    """Leaves a file, named by the process, where it is unpickled. All of one directory are one key."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __reduce__(self) -> tuple[Any, ...]:
        program = f"__import__('pathlib').Path({str(self.directory)!r}, str(__import__('os').getpid())).touch()"
        return eval, (program,)


class BombKey(Bomb):
    """The same as a key: a client reads one of its type, and finds that it is one."""

    def __reduce__(self) -> tuple[Any, ...]:
        _eval, (program,) = super().__reduce__()
        again = f"__import__('sys').modules[{__name__!r}].BombKey(__import__('pathlib').Path({str(self.directory)!r}))"
        return eval, (f"({program}, {again})[1]",)


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Processes that are started now cannot unpickle. In this directory each says that it is one of them."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "guarded").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("HOLDALL_GUARDED", str(tmp_path / "guarded"))
    return tmp_path / "guarded"


@contextlib.contextmanager
def guarded_service(data: Path, guarded: Path) -> Iterator[None]:
    """A service whose processes are all guarded, and are the same at the end."""
    with LocalService(data, workers=1, sync="off"):
        before = process_ids(data)
        assert len(before) == 3
        assert {file.name for file in guarded.iterdir()} >= set(before)
        yield
        assert process_ids(data) == before


def test_a_service_never_unpickles_keys_or_values(tmp_path: Path, guarded: Path) -> None:
    data, blown = tmp_path / "data", tmp_path / "blown"
    blown.mkdir()
    with guarded_service(data, guarded):
        d: Dict[Any, Any] = Dict.from_name("kv", create_if_missing=True)
        large = [Bomb(blown), bytes(100_000)]
        assert d.put(BombKey(blown), Bomb(blown))
        assert not d.put(BombKey(blown), "another", skip_if_exists=True)
        d.update([(("in a tuple", BombKey(blown)), large), ("plain", Bomb(blown)), (True, Bomb(blown)), (1, large)])
        assert d.get(BombKey(blown), "missing") is None  # what the bomb leaves behind in us
        assert d.contains(BombKey(blown))
        assert len(d) == 4
        assert len(list(d.keys())) == len(list(d.values())) == len(list(d.items())) == 4
        d["plain"] = large
        assert d.pop("plain")[1] == bytes(100_000)
        d["deleted"] = large
        del d["deleted"]
        assert d.put_many({"many": Bomb(blown), ("many", BombKey(blown)): large}) == 2
        assert set(d.get_many(["many", BombKey(blown), "missing"]).values()) == {None}
        assert len(d.pop_many(["many", ("many", BombKey(blown))])) == 2
        assert d.setdefault(BombKey(blown), "default") is None
        assert d.setdefault(("default", BombKey(blown)), large) is large
        assert d.info().name == "kv"
        with Dict.ephemeral() as other:
            other[BombKey(blown)] = large
            assert other.popitem()[1][1] == bytes(100_000)
    with guarded_service(data, guarded):
        d = Dict.from_name("kv")
        assert len(d) == 4
        assert d.pop(BombKey(blown), "missing") is None
        assert len(list(d.items())) == 3
        d.popitem()
        d.clear()
        assert d.copy() == {}
        Dict.objects.delete("kv")
    assert [file.name for file in blown.iterdir()] == [str(os.getpid())]
