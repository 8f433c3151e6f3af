"""The programs of docs/jobs.md run as they are written; a launcher that is not installed is simulated by what it sets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from holdall.process.child import environment

MPI, DASK = re.findall(
    r"```python\n# job\.py\n(.*?)```", (Path(__file__).parents[2] / "docs" / "jobs.md").read_text(), re.DOTALL
)


def started(program: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    (folder / "job.py").write_text(program)
    kept = {name: value for name, value in environment().items() if not name.startswith("HOLDALL_")}
    own = {"HOLDALL_DATA": str(folder / "none"), "XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}
    argv = [sys.executable, str(folder / "job.py")]
    return subprocess.Popen(argv, env={**kept, **own, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def told(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return out


@pytest.mark.parametrize("prefix", ["OMPI_COMM_WORLD", "PMI"])
def test_ranks_of_mpi_share_what_rank_0_serves(tmp_path: Path, prefix: str) -> None:
    file = tmp_path / "connection"
    shared = {"HOLDALL_CONNECTION": str(file), f"{prefix}_SIZE": "4"}
    ranks = [started(MPI, tmp_path, **shared, **{f"{prefix}_RANK": str(rank)}) for rank in (3, 2, 1, 0)]
    for each in ranks:
        assert told(each) == ""
    assert not file.exists()
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_tasks_of_dask_share_what_its_client_serves(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    assert told(started(DASK, tmp_path)).endswith("True\n")
