"""The commands. Errors are one line on standard error; exit status 0: done, 1: it failed, 2: it was called wrongly."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, cast

import click
from rich.console import Console

import holdall
from holdall import settings
from holdall.bench.cli import bench_group
from holdall.errors import Error, printable
from holdall.process import logs
from holdall.process.config import BrokerSettings, ServiceSettings, Sync, WorkerSettings

from .copying import copy
from .dicts import dict_group
from .keys import keys_group
from .service import status, stop
from .storage import backup, check, data_option, restore

_sync = click.option(
    "--sync",
    type=click.Choice(["always", "interval", "off"]),
    default="always",
    show_default=True,
    help="When a write survives a power cut: before it is answered, within a second, or whenever.",
)


class _Group(click.Group):
    """Turns our own errors into one line and exit status 1; `help COMMAND` is `COMMAND --help`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly
        except (Error, OSError) as error:
            click.echo(f"holdall: {printable(str(error))}", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Example: holdall help dict put")
@click.version_option(holdall.__version__, message=f"%(prog)s, version %(version)s, from {Path(holdall.__file__).parent}")
def cli() -> None:
    """A dict that every process of a parallel job can reach."""


for each in (dict_group, keys_group, bench_group, status, stop, check, backup, restore, copy):
    cli.add_command(each)


@cli.command(epilog="Example: holdall serve --data /var/lib/me/kv --sync interval")
@data_option
@click.option(
    "--listen", metavar="URL", multiple=True, help="Listen here too, perhaps several times: tcp://HOST:PORT, ipc:///PATH."
)
@click.option(
    "--write-connection", metavar="FILE", type=click.Path(dir_okay=False), help="Make a connection file; it goes at the end."
)
@click.option("--temporary-keys", is_flag=True, help="Keys for this run alone.")
@click.option("--workers", type=click.IntRange(1), help="How many, in a new data directory.  [default: half the CPUs, 2 to 4]")
@_sync
@click.option("--adopt", is_flag=True, help="Use this directory from now on, though it is a copy or was moved to another disk.")
@click.option("--log", type=click.Choice(logs.FORMATS), help="What log lines are.  [default: HOLDALL_LOG, or text]")
@click.option("--log-level", type=click.Choice(logs.LEVELS), help="[default: HOLDALL_LOG_LEVEL, or warning]")
def serve(
    data: Path,
    listen: tuple[str, ...],
    write_connection: str | None,
    temporary_keys: bool,
    workers: int | None,
    sync: str,
    adopt: bool,
    log: str | None,
    log_level: str | None,
) -> None:
    """Run broker and workers until Ctrl-C or SIGTERM.

    At a port only those come in who have a key: see `holdall keys`.
    """
    from holdall.service.supervisor import notify_systemd, run

    urls = [settings.listen_url(each) for each in listen]
    os.environ.update({name: value for name, value in (("HOLDALL_LOG", log), ("HOLDALL_LOG_LEVEL", log_level)) if value})
    console = Console(stderr=True)
    file = os.path.abspath(write_connection) if write_connection else None
    more: dict[str, Any] = {"adopt": adopt, "write_connection": file, "temporary_keys": temporary_keys}
    wanted = ServiceSettings(str(data.resolve()), urls, workers, cast(Sync, sync), **more)

    def announce(urls: list[str]) -> None:
        console.print(f"serving {data.resolve()} at {' and '.join(urls)}", soft_wrap=True, highlight=False)
        notify_systemd("READY=1")

    run(wanted, announce, supervised=False)
    console.print("stopped")


@cli.command(epilog="Example: holdall broker --listen ipc:///run/kv/service --workers-listen ipc:///run/kv/workers")
@click.option("--listen", metavar="URL", required=True, help="Where clients connect.")
@click.option("--workers-listen", metavar="URL", required=True, help="Where workers connect.")
def broker(listen: str, workers_listen: str) -> None:
    """Run a broker alone, for workers that are started by hand."""
    from holdall.broker.loop import serve
    from holdall.process.child import run

    wanted = BrokerSettings([settings.ipc_url(listen)], settings.ipc_url(workers_listen))
    sys.exit(run(wanted, serve, supervised=False))


@cli.command(epilog="Example: holdall worker --index 0 --broker ipc:///run/kv/workers --address ipc:///run/kv/worker-0")
@data_option
@click.option("--index", type=click.IntRange(0), required=True, help="Which worker of the data directory.")
@click.option("--broker", metavar="URL", required=True, help="The broker's URL for workers.")
@click.option("--address", metavar="URL", required=True, help="Where this worker listens for clients.")
@_sync
def worker(data: Path, index: int, broker: str, address: str, sync: str) -> None:
    """Run one worker alone, on a directory that a service has made."""
    from holdall.process.child import run
    from holdall.worker.serve import serve

    wanted = WorkerSettings(str(data), index, settings.ipc_url(broker), settings.ipc_url(address), cast(Sync, sync))
    sys.exit(run(wanted, serve, supervised=False))


@cli.command(epilog="Example: holdall demo --files 100")
@click.option("--processes", type=click.IntRange(1), default=4, show_default=True, help="In the pool; half are forked.")
@click.option("--files", type=click.IntRange(1), help="Only so many files; all by default.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def demo(processes: int, files: int | None, as_json: bool) -> None:
    """Run a parallel job on one Dict: what Python's library uses."""
    from .demo import run_demo

    sys.exit(run_demo(processes, files, as_json))


@cli.command("run", context_settings={"allow_interspersed_args": False}, epilog="Example: holdall run program.py --key here")
@click.option("--call", metavar="FOLDER", hidden=True)
@click.argument("target", metavar="FILE[::NAME]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_command(call: str | None, target: str, arguments: tuple[str, ...]) -> None:
    """Run a program that was written for a hosted dict."""
    from .program import call_function, run_program

    sys.exit(call_function(call, target) if call else run_program(target, list(arguments)))
