"""Programs that were written for the hosted dict run here unchanged: the snippets of its guide, and what other programs do."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from rich.text import Text

import holdall
from holdall import Dict
from holdall.command import hosted
from holdall.command.program import run_program
from tests.examples import pictures

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = {
    "key_value.py": "4c5fb7557b17fbded828c026b739b5c9a0f89508bacf32e52b9f78e4000b74fc",
    "anywhere.py": "7c4c2e43c1087dae362d7da92d3eb2f2da59585ebe4df6bab0d44751dc660308",
    "asynchronous.py": "79cc399f2e4721444f6eaefd61c6a495dcd329411a815a2247bdb9e72c963347",
    "modules.py": "6498099ef8d016e1dd98cf367a6d4aa2d6bee90c8acf29cc98fb6209363296db",
}
"""The SHA-256 of each, as it is in the guide."""
PROGRAM = r"""
import os
import modal

app = modal.App("example")

class Failed(Exception):
    pass

class Point:
    def __init__(self, x):
        self.x = x

@app.function(cpu=2, timeout=5)
def square(x: int, process: int = 0):
    assert os.getpid() != process
    if x < 0:
        raise Failed(x)
    return Point(x * x)

@app.function()
async def double(x: int = 4):
    print(f"doubles {x}\n", end="", flush=True)
    return x * 2

@app.function()
def die():
    os._exit(7)

@app.local_entrypoint()
async def main(x: int = 3, loud: bool = False):
    point = square.remote(x, os.getpid())
    print(isinstance(point, Point), point.x, loud)
    print(list(double.map(range(3))), await double.remote.aio(21), square.local(1).x)
    try:
        square.remote(-1)
    except Failed as error:
        print(repr(error), "raise Failed" in error.__notes__[0])
    die.remote()

@app.local_entrypoint()
def other():
    print("the other")
"""


ODD = """
import modal

app = modal.App()

class Odd(Exception):
    def __init__(self, *, why):
        super().__init__(why)

@app.function()
def odd():
    raise Odd(why="it is odd")

@app.function()
def lock():
    import threading
    return threading.Lock()

@app.local_entrypoint()
def main():
    for each in odd, lock:
        try:
            each.remote()
        except Exception as error:
            print(type(error).__name__, "cannot be passed on" in str(error), "it is odd" in str(error))
"""


def run(*arguments: str, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    argv = [str(python), "-m", "holdall.run", *arguments]
    return subprocess.run(argv, cwd=ROOT, text=True, capture_output=True, check=False)


def printed(*arguments: str, python: str | Path = sys.executable) -> str:
    done = run(*arguments, python=python)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def program(tmp_path: Path, service: holdall.LocalService) -> str:
    path = tmp_path / "a_program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.mark.parametrize("name", SNIPPETS)
def test_the_snippets_are_those_of_the_guide(name: str) -> None:
    assert hashlib.sha256((ROOT / "examples" / "hosted" / name).read_bytes()).hexdigest() == SNIPPETS[name]


def test_the_snippets_print_what_the_guide_says(service: holdall.LocalService) -> None:
    for each in ("kv", "my-dict", "async-dict"):
        Dict.objects.delete(each, allow_missing=True)
    assert printed("examples/hosted/key_value.py") == "cloud: dictionary\n"
    assert printed("examples/hosted/key_value.py", "--key", "ground", "--value", "vocabulary") == "ground: vocabulary\n"
    assert printed("examples/hosted/key_value.py", "--no-put") == "cloud: dictionary\n"
    assert printed("examples/hosted/anywhere.py") == ""
    assert Dict.from_name("my-dict")["key"] == "value"
    assert printed("examples/hosted/asynchronous.py") == ""
    assert dict(Dict.from_name("async-dict")) == {"key": "value"}


@pytest.mark.slow  # packages are installed from PyPI
def test_modules_are_values_and_missing_where_their_library_is(tmp_path: Path, service: holdall.LocalService) -> None:
    venv.create(tmp_path / "fresh", with_pip=True, symlinks=True)
    python = tmp_path / "fresh" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", ROOT], check=True)
    assert subprocess.run([python, "-c", "import numpy"], check=False, capture_output=True).returncode == 1
    modal, its_dict = printed("examples/hosted/modules.py", python=python).splitlines()
    assert modal.startswith("<module 'holdall.command.hosted' from ")
    assert its_dict == "<class 'holdall.client.dict.Dict'>"
    reading = "import holdall; holdall.Dict.from_name('funky-dict')['numpy']"
    failed = subprocess.run([python, "-c", reading], text=True, check=False, capture_output=True)
    assert "DeserializationError: the value of 'numpy' in Dict 'funky-dict'" in failed.stderr
    assert "No module named 'numpy'" in failed.stderr
    said = re.sub("from '.*/holdall/", "from '…/holdall/", modal), its_dict, f'\n[bold]$ python -c "{reading}"[/bold]'
    pictures.terminal(
        "hosted/picture.svg", "holdall run examples/hosted/modules.py", *said, Text(failed.stderr.splitlines()[-1])
    )


@pytest.mark.slow
def test_functions_run_in_processes_of_their_own(program: str) -> None:
    done = run(f"{program}::main", "--x", "5", "--loud")
    lines = done.stdout.splitlines()
    assert [each for each in lines if "doubles" not in each] == ["True 25 True", "[0, 2, 4] 42 1", "Failed(-1) True"]
    assert sorted(each for each in lines if "doubles" in each) == ["doubles 0", "doubles 1", "doubles 2", "doubles 21"]
    assert done.stderr.splitlines()[-1].endswith("the process of die ended with status 7, and without a result")
    assert done.returncode == 1


@pytest.mark.slow
def test_one_of_several_functions_is_named(program: str) -> None:
    assert printed(f"{program}::other") == "the other\n"
    assert printed(f"{program}::double", "--x", "8") == "doubles 8\n"
    for arguments, status, said in (
        ([program], 1, "it has main, other, square, double, die"),
        ([f"{program}::nothing"], 1, "which function"),
        ([f"{program}::square"], 2, "Missing option '--x'"),
        ([f"{program}::main", "--x", "y"], 2, "'y' is not a valid integer"),
        (["nowhere.py"], 1, "there is no Python program nowhere.py"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (status, "", False)
        assert said in done.stderr


def test_a_program_cannot_take_the_name_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").touch()
    with pytest.raises(holdall.InvalidError, match="json"):
        run_program(str(tmp_path / "json.py"), [])


def test_what_the_hosted_package_has_besides_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="no Queue"):
        hosted.Queue  # noqa: B018
    with pytest.raises(holdall.InvalidError, match=r"Python 2\.7"):
        hosted.Image.debian_slim("2.7")


@pytest.mark.slow
def test_packages_that_cannot_be_installed_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(holdall.Error, match="no-such-package could not be installed"):
        hosted.Image.debian_slim().pip_install("no-such-package").python()
    with pytest.raises(holdall.InvalidError, match="index_url"):
        hosted.Image().pip_install("numpy", index_url="http://elsewhere")


def test_what_cannot_be_passed_on_is_told_with_the_lines_it_came_from(tmp_path: Path, service: holdall.LocalService) -> None:
    (tmp_path / "odd_program.py").write_text(ODD)
    done = run(f"{tmp_path / 'odd_program.py'}::main")
    assert done.stdout.splitlines() == ["Error True True", "Error True False"]
