"""`holdall copy`: Dicts from one service to another."""

from __future__ import annotations

import json

import click
from msgspec import to_builtins
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from holdall import Client, settings
from holdall.client.copying import Copied
from holdall.client.copying import copy as run

from .storage import count


@click.command("copy", epilog="Example: holdall copy tcp://old:4255 redis://h1:6379,h2:6379 kv")
@click.argument("source", metavar="FROM_URL")
@click.argument("target", metavar="TO_URL")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--environment", metavar="NAME", help="Default: HOLDALL_ENVIRONMENT, or main.")
@click.option(
    "--from-connection", type=click.Path(dir_okay=False), help="The connection file for FROM_URL, if that takes a key."
)
@click.option("--to-connection", type=click.Path(dir_okay=False), help="The same for TO_URL.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def copy(
    source: str,
    target: str,
    names: tuple[str, ...],
    environment: str | None,
    from_connection: str | None,
    to_connection: str | None,
    as_json: bool,
) -> None:
    """Copy Dicts to another service, or a cluster.

    All of an environment, or those of these names; in the end they are compared. Ids and times to live stay; an entry counts
    as used when it is copied. Stop writing first: what is written meanwhile may be missed, which the comparison tells.
    Interrupted, the same command goes on where it stopped.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        Client(source, connection=from_connection) as here,
        Client(target, connection=to_connection) as there,
        Progress(*columns, console=Console(stderr=True), transient=True, disable=as_json) as progress,
    ):
        task = progress.add_task("", total=None)

        def show(done: Copied) -> None:
            size = f"{count(done.entries, 'entry')}, {done.bytes / 2**20:,.1f} MiB, {done.checked:,} checked"
            progress.update(task, description=f"{done.name}: {size}")

        done = run(here, there, settings.environment(environment), names, show)
    if as_json:
        click.echo(json.dumps(to_builtins(done)))
    else:
        click.echo(
            f"{count(done.dicts, 'Dict')}, {count(done.entries, 'entry')}, {done.bytes / 2**20:,.1f} MiB copied and checked"
        )
