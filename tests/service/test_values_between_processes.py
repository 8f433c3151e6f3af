"""Values between processes that were started differently, as the document of the hosted dict promises them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import holdall
from holdall import Dict

WRITER = """
import collections, dataclasses, enum, json, sys
import numpy
import holdall

d = holdall.Dict.from_name(sys.argv[1])

@dataclasses.dataclass
class Point:
    x: int
    def double(self):
        return Point(self.x * factor)

class Colour(enum.Enum):
    RED = 1

factor = 2
d["lambda"] = lambda x: x + factor
d["instance"] = Point(3)
d["class"] = Point
d["enum"] = Colour.RED
d["module"] = json
d["holdall"] = holdall
d["array"] = numpy.arange(200_000).reshape(100, 2000)
d["generator function"] = (lambda: (yield 1))
d["handle"] = d
d[d] = d
d["only there"] = __import__("only_there").Thing()
"""


@pytest.fixture
def written(d: Dict[Any, Any], name: str, tmp_path: Path) -> Dict[Any, Any]:
    """A Dict that a script filled, with a library that this process does not have."""
    (tmp_path / "only_there.py").write_text("class Thing:\n    pass\n")
    (tmp_path / "writer.py").write_text(WRITER)
    subprocess.run([sys.executable, tmp_path / "writer.py", name], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    return d


def test_what_a_script_wrote_can_be_used_here(written: Dict[Any, Any]) -> None:
    d = written
    assert d["lambda"](1) == 3
    assert d["instance"].double().x == 6
    assert d["class"](5).x == 5
    assert d["enum"].name == "RED"
    assert d["module"].loads("[1]") == [1]
    assert d["holdall"].Dict is Dict
    assert d["array"][99, 1999] == 199_999
    assert next(d["generator function"]()) == 1
    assert d["handle"] == d
    assert d[d]["holdall"].Dict is Dict


def test_a_library_that_is_missing_here_is_a_deserialization_error(written: Dict[Any, Any], name: str) -> None:
    with pytest.raises(holdall.DeserializationError, match=f"'only there'.*{name}.*only_there"):
        written["only there"]
    with pytest.raises(holdall.DeserializationError, match="only_there"):
        written.pop("only there")
    assert "only there" in written  # it was put back


def test_what_this_process_wrote_can_be_used_in_a_script(d: Dict[Any, Any], name: str) -> None:
    offset = 40
    d["closure"] = lambda x: x + offset
    program = f"import holdall; print(holdall.Dict.from_name({name!r})['closure'](2))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "42\n"


def test_live_resources_cannot_be_stored(d: Dict[Any, Any], tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file, pytest.raises(holdall.SerializationError, match="'file'"):
        d["file"] = file
    assert len(d) == 0
