"""Under the parallel libraries: the handle passed as an argument, made inside, inherited."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

import holdall
from holdall import Dict
from tests.slow import slow_but

joblib: Any = pytest.importorskip("joblib")

TASKS = 40


def passed(d: Dict[Any, Any], task: int) -> bool:
    """Claim a task and say who did it."""
    d["done", task] = os.getpid()
    return d.put(("claim", task % (TASKS // 2)), task, skip_if_exists=True)


def made_inside(name: str, task: int) -> bool:
    return passed(Dict.from_name(name), task)


def check_done(d: Dict[Any, Any], claimed: list[bool]) -> None:
    assert sum(claimed) == TASKS // 2
    assert sorted(d.get_many(("done", task) for task in range(TASKS))) == [("done", task) for task in range(TASKS)]
    assert os.getpid() not in d.values()


@pytest.mark.parametrize("method", slow_but(["fork", "spawn"], ["fork", "spawn", "forkserver"]))
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_concurrent_futures(d: Dict[Any, Any], name: str, method: str) -> None:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        claimed = list(pool.map(passed, [d] * (TASKS // 2), range(TASKS // 2)))
        claimed += pool.map(made_inside, [name] * (TASKS // 2), range(TASKS // 2, TASKS))
    check_done(d, claimed)


def test_joblib(d: Dict[Any, Any]) -> None:
    claimed = joblib.Parallel(n_jobs=2)(joblib.delayed(passed)(d, task) for task in range(TASKS))
    check_done(d, claimed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # its own
def test_dask(d: Dict[Any, Any]) -> None:
    distributed: Any = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, protocol="tcp://") as cluster,
        distributed.Client(cluster) as client,
    ):
        claimed = client.gather(client.map(lambda task: passed(d, task), range(TASKS)))
    check_done(d, claimed)


def test_many_tasks_of_asyncio(d: Dict[Any, Any]) -> None:
    async def job(task: int) -> bool:
        await d.put.aio(("done", task), -1)
        return await d.put.aio(("claim", task % (TASKS // 2)), task, skip_if_exists=True)

    async def main() -> list[bool]:
        return await asyncio.gather(*(job(task) for task in range(TASKS)))

    check_done(d, asyncio.run(main()))


def test_ranks_of_a_launcher_share_one_url(d: Dict[Any, Any], service: holdall.LocalService) -> None:
    program = f"""
import holdall, os
rank = int(os.environ["RANK"])
d = holdall.Dict.from_name({d.name!r})
for task in range(rank, {TASKS}, 4):
    d["done", task] = rank
    d.put(("claim", task % {TASKS // 2}), task, skip_if_exists=True)
d["arrived", rank] = True
"""
    ranks = [
        subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "RANK": str(rank), "HOLDALL_URL": service.url})
        for rank in range(4)
    ]
    assert [rank.wait(60) for rank in ranks] == [0] * 4
    check_done(d, [True] * sum(d.contains(("claim", task)) for task in range(TASKS)))
    assert all(d["arrived", rank] for rank in range(4))


def test_a_handle_that_travels_uses_the_service_configured_there(d: Dict[Any, Any], service: holdall.LocalService) -> None:
    d["key"] = "value"
    with holdall.Client(service.url) as client:
        sent = pickle.dumps(Dict.from_name(str(d.name), client=client))
    program = f"import pickle; print(pickle.loads({sent!r})['key'])"
    here = {key: value for key, value in os.environ.items() if key != "HOLDALL_URL"}
    alone = subprocess.run([sys.executable, "-c", program], env=here, capture_output=True, text=True, check=False)
    assert alone.stdout == "value\n"  # by the address that travelled with it
    elsewhere = {**here, "HOLDALL_URL": "ipc:///run/elsewhere"}
    program = f"import holdall, pickle; d = pickle.loads({sent!r}); print(d.connected().address)"
    configured = subprocess.run([sys.executable, "-c", program], env=elsewhere, capture_output=True, text=True, check=False)
    assert configured.stdout == "ipc:///run/elsewhere\n"
