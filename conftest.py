"""What all tests share: one private service, isolated from the user's own, and the names that examples use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
from hypothesis import settings

import holdall
from holdall import processors
from tests import clusters
from tests.processes import end_service

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

collect_ignore = ["tests/types", "tests/fuzz/guided.py"]
"""For type checkers, which read it and run nothing; and for atheris, which is not among what the tests need."""


@pytest.hookimpl(optionalhook=True)  # without xdist there is no such hook
def pytest_xdist_auto_num_workers() -> int:
    """Two for each processor: tests on real processes wait as much as they compute."""
    return 2 * processors.usable()


@pytest.fixture(scope="session", autouse=True)
def _isolated() -> Iterator[None]:
    """Nothing here touches the user's own service; one that a test starts is ended by its process id."""
    with tempfile.TemporaryDirectory(prefix="holdall-test-") as directory:
        home = Path(directory)
        settings = {"HOLDALL_DATA": str(home / "data"), "XDG_RUNTIME_DIR": str(home / "run")}
        (home / "run").mkdir(mode=0o700)
        os.environ.update(settings)
        os.environ.pop("HOLDALL_URL", None)
        yield
        end_service(home / "data")


class Service(Protocol):
    """Where the Dicts of the tests are."""

    @property
    def url(self) -> str: ...


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A private service that all tests share, or a server of another engine; the default one while they run."""
    if not clusters.ENGINE:
        with holdall.LocalService(workers=2, sync="off") as running:
            yield running
        return
    with clusters.running(clusters.ENGINE) as server:
        os.environ["HOLDALL_URL"] = url = clusters.url_of(server)
        yield SimpleNamespace(url=url)
        os.environ.pop("HOLDALL_URL")


@pytest.fixture
def name(request: pytest.FixtureRequest, service: Service) -> Iterator[str]:
    """The name of a Dict that is this test's own."""
    own = request.node.name.translate(str.maketrans("[]/:, <>'\"()=", "-------------"))[:40]
    yield own
    holdall.Dict.objects.delete(own, allow_missing=True)


@pytest.fixture
def d(name: str) -> holdall.Dict[Any, Any]:
    """An empty Dict of this test's own."""
    return holdall.Dict.from_name(name, create_if_missing=True).hydrate()


@pytest.fixture(autouse=True)
def _examples(request: pytest.FixtureRequest) -> None:
    """What the examples in docstrings start from: the public names, and a service without Dicts."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("service")
        for each in holdall.Dict.objects.list():
            holdall.Dict.objects.delete(each.name, allow_missing=True)
        request.node.dtest.globs.update({name: getattr(holdall, name) for name in holdall.__all__})
