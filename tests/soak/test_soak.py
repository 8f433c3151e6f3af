"""A short run on real processes: every kind of fault once, every call judged. `make soak` runs it for longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.faults import CUT, FULL_DISK, SHARES

ROOT = Path(__file__).parents[2]
SHORT = ["--operations", "500", "--faults", "10", "--clients", "4", "--workers", "2", "--stop-seconds", "0.5"]
PATIENT = ["--late-seconds", "30"]
"""Other tests run at the same time: here a call that takes long does not fail."""


@pytest.mark.slow  # every kind of fault has its outage
@pytest.mark.parametrize("lanes", ["--lanes", "--no-lanes"])
def test_real_processes_keep_every_promise_under_faults_of_every_kind(lanes: str) -> None:
    argv = [sys.executable, "-m", "tests.soak.run", "--seed", "1", "--json", lanes, *SHORT, *PATIENT]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(run.stdout)
    assert report["violation"] == ""
    assert run.returncode == 0
    assert set(SHARES) - set(report["faults"]) <= {FULL_DISK, CUT}  # where no small disk may be mounted, or no cables are
    assert sum(report["faults"].values()) >= 10
    assert report["operations"] >= 500
    assert report["generations"] >= 1
