"""The machine, and the versions of what was measured."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which

import psutil

from holdall.bench.results import Machine, Report

_OURS = ("holdall", "pyzmq", "plyvel")
_THEIRS = ("redis", "hiredis", "diskcache", "pymemcache", "nats-py", "aetcd", "distributed", "ray")
PACKAGES = (*_OURS, *_THEIRS)
PROGRAMS = ("redis-server", "memcached", "nats-server", "etcd")


def machine() -> Machine:
    """This one."""
    return Machine(
        _cpu(),
        psutil.cpu_count() or 1,
        round(psutil.virtual_memory().total / 1024**3, 1),
        f"{platform.system()} {platform.release()}",
        _file_system(Path(tempfile.gettempdir())),
        f"{platform.python_implementation()} {platform.python_version()}",
        _versions(),
    )


def report() -> Report:
    """An empty one, of here and now."""
    return Report(machine(), datetime.now(UTC).isoformat(" ", "minutes"))


def _cpu() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _file_system(place: Path) -> str:
    """Of what kind it is: on tmpfs an fsync is free."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if place.resolve().is_relative_to(mount.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    for program in PROGRAMS:
        if which(program):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            found[program] = (said.stdout or said.stderr).strip().splitlines()[0]
    return found
