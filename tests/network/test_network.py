"""Processes of several hosts share a service over cables that delay, lose, are cut: nothing is lost, nothing happens twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.network.hosts import OWN, ROOT, Network, ip, network, require

pytestmark = pytest.mark.slow
LONG = bool(os.environ.get("HOLDALL_NETWORK_LONG"))
"""`make network`: cuts as long as they are said to be; else shorter ones."""
CLAIM = """
import json, sys, holdall
d = holdall.Dict.from_name("jobs", create_if_missing=True)
who, jobs = sys.argv[1], int(sys.argv[2])
mine = [job for job in range(jobs) if d.put(("claim", job), who, skip_if_exists=True)]
for job in mine:
    d["result", job] = job ** 2
d["large", who] = bytes(1_000_000)
assert len(d["large", who]) == 1_000_000
print(json.dumps(mine), flush=True)
"""
COUNT = """
import json, sys, time, holdall
client = holdall.Client(timeout=float(sys.argv[3]))
d = holdall.Dict.from_name("counts", create_if_missing=True, client=client)
who, until, done, slowest, unknown = sys.argv[1], time.time() + float(sys.argv[2]), [], 0.0, []
print("begun", flush=True)
number = 0
while time.time() < until:
    number += 1
    began = time.time()
    try:
        d[who, number] = number
        if number > 1:
            assert d.pop((who, number - 1)) == number - 1, "popped twice"
        done.append(number)
    except holdall.TimeoutError:
        unknown.append(number)
        break
    slowest = max(slowest, time.time() - began)
print(json.dumps([done, unknown, slowest, time.time()]), flush=True)
"""


def told(process: subprocess.Popen[str], seconds: float = 120) -> str:
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, out
    return out


def count(net: Network, files: list[Path], seconds: float, timeout: float) -> list[subprocess.Popen[str]]:
    """One process on each client's host that writes and pops; they have all begun."""
    running = []
    for number, (host, file) in enumerate(zip(net.clients, files, strict=True)):
        argv = f"host-{number}", str(seconds), str(timeout)
        running.append(host.python(COUNT, *argv, HOLDALL_CONNECTION=str(file)))
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "begun\n"
    return running


def test_each_job_is_claimed_once_by_processes_of_three_hosts() -> None:
    with network(3) as net:
        files = net.serve()
        jobs = 150
        running = [
            host.python(CLAIM, f"host-{number}", str(jobs), HOLDALL_CONNECTION=str(file))
            for number, (host, file) in enumerate(zip(net.clients, files, strict=True))
        ]
        claimed = [job for each in running for job in json.loads(told(each))]
        assert sorted(claimed) == list(range(jobs))


def test_nothing_is_lost_or_done_twice_while_cables_are_pulled_and_plugged() -> None:
    with network(3) as net:
        running = count(net, net.serve(), 12, 30)
        for turn in range(6):
            cable = net.cables[turn % len(net.cables)]
            time.sleep(0.7)
            cable.cut()
            time.sleep(1.0)
            cable.plug()
        for each in running:
            done, unknown, _slowest, _at = json.loads(told(each))
            assert unknown == []
            assert done == list(range(1, len(done) + 1))
            assert len(done) > 20


def test_after_a_long_cut_answers_come_soon() -> None:
    cut = 60 if LONG else 15
    with network(1, loss=0.0) as net:
        (running,) = count(net, net.serve(), cut + 8, cut + 60)
        time.sleep(2)
        net.cables[0].cut()
        time.sleep(cut)
        net.cables[0].plug()
        plugged = time.time()
        done, unknown, slowest, _at = json.loads(told(running, cut + 60))
        assert unknown == []
        assert done == list(range(1, len(done) + 1))
        print(f"after a cut of {cut} s the answer came {slowest - cut:.1f} s after its end; {time.time() - plugged:.0f}")
        assert len(done) > 100  # before, and again after


def test_a_client_whose_address_changes_goes_on() -> None:
    with network(1, loss=0.0) as net:
        (running,) = count(net, net.serve(), 20, 40)
        time.sleep(2)
        host, device = net.clients[0].name, net.cables[0].devices[1]
        ip("-n", host, "addr", "flush", "dev", device)
        ip("-n", host, "addr", "add", "10.99.1.6/24", "dev", device)
        ip("-n", net.server.name, "route", "replace", "10.99.1.0/24", "dev", net.cables[0].devices[0])
        done, unknown, slowest, _at = json.loads(told(running))
        assert unknown == []
        assert done == list(range(1, len(done) + 1))
        print(f"after the client's address had changed, the answer took {slowest:.1f} s")
        assert slowest > 0.5


def test_a_host_finds_no_socket_of_another_and_a_handle_starts_no_service_there() -> None:
    with network(1) as net:
        (file,) = net.serve()
        look = f"import os; print(os.listdir({str(OWN)!r}), os.listdir({str(OWN / 'run')!r}))"
        assert told(net.clients[0].python(look)) == "['run'] []\n"
        pickled = net.shared / "handle"
        make = "import sys, pickle, holdall; d = holdall.Dict.from_name('kv', create_if_missing=True); d[1] = 1; "
        make += "pickle.dump(d, open(sys.argv[1], 'wb'))"
        told(net.clients[0].python(make, str(pickled), HOLDALL_CONNECTION=str(file)))
        load = "import sys, pickle; print(pickle.load(open(sys.argv[1], 'rb'))[1])"
        assert told(net.clients[0].python(load, str(pickled), HOLDALL_CONNECTION=str(file))) == "1\n"


SRUN = """#!/bin/sh
exec ip netns exec {host} unshare --mount sh -c '
mount -t tmpfs -o mode=700 tmpfs {own} && mkdir -m 700 {own}/run && exec "$@"' sh "$@"
"""
JOB = """
import holdall, os
d = holdall.Dict.from_name("ranks", create_if_missing=True)
d[os.environ["SLURM_JOB_ID"]] = os.listdir("/mnt")
print(len(d), holdall.Client.from_env().address.startswith("tcp://"))
"""


def test_the_batch_script_of_the_readme_runs_as_written(tmp_path: Path) -> None:
    """`srun` is one that starts the program on the other host; both see one home directory, and know the name of the first."""
    script = re.search(r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert script is not None
    with network(1) as net, ExitStack() as stack:
        for host in (net.server, *net.clients):
            known = Path("/etc/netns") / host.name
            known.mkdir(parents=True)
            stack.callback(shutil.rmtree, known)
            (known / "hosts").write_text(f"127.0.0.1 localhost\n{net.cables[0].addresses[0]} {socket.gethostname()}\n")
        commands = tmp_path / "bin"
        commands.mkdir()
        (commands / "srun").write_text(SRUN.format(host=net.clients[0].name, own=OWN))
        (commands / "holdall").write_text(f'#!/bin/sh\nexec {sys.executable} -m holdall "$@"\n')
        (commands / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for each in ("srun", "holdall", "python"):
            (commands / each).chmod(0o755)
        (net.shared / "job.py").write_text(JOB)
        (net.shared / "job.sh").write_text(f"cd {net.shared}\n{script[1]}wait\n")
        variables = {
            "HOME": str(net.shared),
            "TMPDIR": str(OWN),
            "SLURM_JOB_ID": "17",
            "PATH": f"{commands}:{os.environ['PATH']}",
        }
        assert told(net.server.start("bash", str(net.shared / "job.sh"), **variables)) == "1 True\n"
        assert not list(net.shared.glob(".holdall-*"))


FILES = 150
SURVEY = f"""
import sys, holdall
from holdall.command.survey import source_files, survey
survey(holdall.Dict.from_name("survey", create_if_missing=True), int(sys.argv[1]), "a host", source_files()[:{FILES}])
"""
SUMMARY = f"""
from holdall.command.demo import _summary
from holdall.command.survey import source_files
found = _summary(source_files()[:{FILES}])
print(found.claimed_once, found.missing, found.read_as_put, sorted(found.processes), found.digest)
"""


def test_the_demo_gives_the_same_answers_on_three_hosts_while_cables_are_pulled() -> None:
    with network(3) as net:
        files = net.serve()
        running = [
            host.python(SURVEY, str(number), HOLDALL_CONNECTION=str(file))
            for number, (host, file) in enumerate(zip(net.clients, files, strict=True))
        ]
        turn = 0
        while any(each.poll() is None for each in running):
            cable = net.cables[turn % len(net.cables)]
            turn += 1
            cable.cut()
            time.sleep(0.5)
            cable.plug()
            time.sleep(0.7)
        for each in running:
            told(each)
        several = told(net.clients[0].python(SUMMARY, HOLDALL_CONNECTION=str(files[0])))
        alone = net.shared / "alone"
        one = "import holdall\nwith holdall.LocalService():\n" + "".join(
            f"    exec({program!r})\n" for program in (SURVEY, SUMMARY)
        )
        (alone).write_text(one)
        same = told(net.server.start(sys.executable, str(alone), "0"))
        assert several.split() == ["True", "[]", "True", "[0,", "1,", "2]", same.split()[-1]]


def test_every_call_is_accounted_for_while_cables_are_cut_and_processes_killed() -> None:
    """The soak's clients on three hosts: every call is judged by what the others have seen."""
    require()
    argv = [sys.executable, "-m", "tests.soak.run", "--seed", "3", "--json", "--hosts", "3", "--clients", "6", "--workers", "2"]
    size = ["--operations", "20000", "--faults", "150"] if LONG else ["--operations", "1000", "--faults", "20"]
    more = ["--stop-seconds", "2", "--late-seconds", "30"]
    run = subprocess.run([*argv, *size, *more], cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(run.stdout)
    assert report["violation"] == ""
    assert report["faults"]["cable cut"] >= 3
