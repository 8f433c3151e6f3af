"""`holdall dict …`: tables for people, JSON lines for scripts, never more of a Dict in memory than a page."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from holdall import Dict, protocol, settings
from holdall.client.client import Client
from holdall.client.connection.query import shown
from holdall.client.operations.large import Progress as Progressed
from holdall.errors import AlreadyExistsError, Error, InvalidError, NotFoundError, printable

from .storage import count

ITEMS_SHOWN = 20
_MISSING: Any = object()


def _names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Names that complete what was begun: of a service that runs, none is started for this."""
    try:
        client = Client.from_env()
        if client.is_local and not client.finds_service():
            return []
        return [each.name for each in Dict.objects.list() if each.name and each.name.startswith(begun)]
    except Error:
        return []


def _ttl(text: str) -> float | None:
    """Seconds, or 'never', which is None."""
    if text == "never":
        return None
    try:
        return settings.check_ttl(float(text))
    except (ValueError, InvalidError):
        raise click.BadParameter(f"{text!r} is neither a number of seconds, above 0, nor 'never'") from None


_name_argument = click.argument("name", shell_complete=_names)
_environment = click.option("--environment", metavar="NAME", help="Default: HOLDALL_ENVIRONMENT, or main.")
_literal = click.option("--literal", "-l", is_flag=True, help="Keys and values are Python literals, not strings.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON; what JSON has no form for, as its repr.")
_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def _of_key(command: Callable[..., None]) -> Callable[..., None]:
    """Let this command have what all have that concern one key."""
    for parameter in (_environment, _literal, click.argument("key"), _name_argument):
        command = parameter(command)
    return command


@click.group("dict", epilog="Example: holdall dict put kv key value --create")
def dict_group() -> None:
    """Make, list, read, write and delete Dicts."""


@dict_group.command(epilog="Example: holdall dict create cache --ttl 3600")
@click.argument("name")
@click.option(
    "--ttl",
    metavar="SECONDS",
    type=_ttl,
    default=protocol.TTL_SECONDS,
    show_default="7 days",
    help="Seconds an entry lives that nobody reads or writes, or 'never'.",
)
@_environment
def create(name: str, ttl: float | None, environment: str | None) -> None:
    """Make a Dict, if there is none of this name."""
    try:
        Dict.objects.create(name, ttl=ttl, environment_name=environment)
    except AlreadyExistsError:
        there = _duration(_existing(name, environment).info().ttl)
        click.echo(f"Dict {name!r} is there already, with a ttl of {there}: nothing was changed")


@dict_group.command("list", epilog="Example: holdall dict list --json | jq -r .name")
@click.option("--max", "most", type=click.IntRange(0), help="At most so many, the newest first.")
@_environment
@_json
def list_dicts(most: int | None, environment: str | None, as_json: bool) -> None:
    """List Dicts, the newest first."""
    rows = [_facts(each) for each in Dict.objects.list(max_objects=most, environment_name=environment)]
    if as_json:
        for row in rows:
            _print_json(row)
        return
    table = Table("name", "created", "by", "ttl", "entries")
    table.columns[0].no_wrap = True
    table.columns[3].justify = table.columns[4].justify = "right"
    for row in rows:
        created = f"{row['created_at'].astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(row["name"], created, Text(row["created_by"]), _duration(row["ttl"]), f"{row['entries']:,}")
    Console().print(table)


@dict_group.command(epilog="Example: holdall dict info kv")
@_name_argument
@_environment
@_json
def info(name: str, environment: str | None, as_json: bool) -> None:
    """Show what is known of a Dict."""
    facts = _facts(_existing(name, environment))
    if as_json:
        _print_json(facts)
        return
    for fact, value in {**facts, "ttl": _duration(facts["ttl"])}.items():
        click.echo(f"{fact:<10}  {value}")


@dict_group.command(epilog="Example: holdall dict ttl kv never")
@_name_argument
@click.argument("seconds", type=_ttl)
@_environment
def ttl(name: str, seconds: float | None, environment: str | None) -> None:
    """Have entries live for so many SECONDS unused, or 'never' expire.

    An entry is used by being read or written. That counts for those that are there, too; what has expired stays so.
    """
    _existing(name, environment).set_ttl(seconds)


@dict_group.command(epilog="Example: holdall dict get kv model --output model.bin")
@_of_key
@click.option("--output", "-o", type=click.File("wb", lazy=True), help="Write it, bytes or text, to this file; '-': as it is.")
@_json
def get(name: str, key: str, output: IO[bytes] | None, literal: bool, environment: str | None, as_json: bool) -> None:
    """Print the value of a key."""
    if output is not None and as_json:
        raise click.UsageError("give either --output or --json")
    d = _existing(name, environment)
    wanted = _key(key, literal)
    with _bar() as progressed:
        value: Any = d.get(wanted, _MISSING, progress=progressed)
    if value is _MISSING:
        raise NotFoundError(f"there is no key {shown(wanted)} in {d.label}")
    if output is not None:
        content = _content(value)  # before the file is opened, which empties it
        output.write(content)
    else:
        _print(value, as_json)


@dict_group.command(epilog="Example: holdall dict pop kv key")
@_of_key
@_json
def pop(name: str, key: str, literal: bool, environment: str | None, as_json: bool) -> None:
    """Remove a key and print its value. One that cannot be printed is put back."""
    d = _existing(name, environment)
    wanted = _key(key, literal)
    value: Any = d.pop(wanted, _MISSING)
    if value is _MISSING:
        raise NotFoundError(f"there is no key {shown(wanted)} in {d.label}")
    try:
        _print(value, as_json)
    except BaseException:
        d.put(wanted, value, skip_if_exists=True)
        raise


@dict_group.command(epilog="Example: holdall dict contains kv key && echo it is there")
@_of_key
def contains(name: str, key: str, literal: bool, environment: str | None) -> None:
    """Say whether a key is there; exit status 1 if it is not."""
    found = _existing(name, environment).contains(_key(key, literal))
    click.echo("yes" if found else "no")
    sys.exit(not found)


@dict_group.command("len", epilog="Example: holdall dict len kv")
@_name_argument
@_environment
def length(name: str, environment: str | None) -> None:
    """Print the number of entries."""
    click.echo(_existing(name, environment).len())


@dict_group.command(epilog="Example: holdall dict put kv model --input model.bin --create")
@_of_key
@click.argument("value", required=False)
@click.option("--input", "-i", "file", type=click.File("rb"), help="Store the bytes of this file; '-': of standard input.")
@click.option("--skip-if-exists", is_flag=True, help="Store it only if the key is missing; exit status 1 if it is not.")
@click.option("--create", is_flag=True, help="Make the Dict if there is none of this name.")
def put(
    name: str, key: str, value: str | None, file: IO[bytes] | None, literal: bool, environment: str | None, **how: bool
) -> None:
    """Store a value: VALUE, or the bytes of a file."""
    if value is not None and file is None:
        content = _read(value, literal)
    elif file is not None and value is None:
        content = file.read(protocol.OBJECT_BYTES_MAX + 1)  # one byte more than may be is enough to be told so
    else:
        raise click.UsageError("give either a VALUE or a file with --input")
    wanted = _key(key, literal)
    d = _existing(name, environment, create=how["create"])
    with _bar() as progressed:
        stored = d.put(wanted, content, skip_if_exists=how["skip_if_exists"], progress=progressed)
    if not stored:
        raise click.ClickException(f"the key {key!r} exists")


@dict_group.command(epilog="Example: holdall dict keys kv | head")
@_name_argument
@_literal
@_environment
@_json
def keys(name: str, literal: bool, environment: str | None, as_json: bool) -> None:
    """Print all keys, a line each, in no order."""
    for key in _existing(name, environment):
        _print(key, as_json, literal)


@dict_group.command(epilog="Example: holdall dict items kv --all --json | jq -c .")
@_name_argument
@click.argument("most", metavar="[N]", type=click.IntRange(0), default=ITEMS_SHOWN)
@click.option("--all", "everything", is_flag=True, help="All of them, a line each.")
@_environment
@_json
def items(name: str, most: int, everything: bool, environment: str | None, as_json: bool) -> None:
    """Print N entries, 20 by default; with --json [key, value] each."""
    d = _existing(name, environment)
    found: Iterator[tuple[Any, Any]] = iter(d.items()) if everything else islice(iter(d.items()), most)
    if as_json:
        for pair in found:
            _print_json(pair)
    elif everything:
        for key, value in found:
            click.echo(f"{printable(repr(key))}\t{printable(repr(value))}")
    else:
        table = Table("key", "value")
        for key, value in found:
            table.add_row(Text(shown(key)), Text(shown(value)))
        Console().print(table)
    if not everything and (more := d.len() - most) > 0:
        click.echo(f"and {more:,} more: holdall dict items {name} N, or --all", err=as_json)


@dict_group.command(epilog="Example: holdall dict clear kv --yes")
@_name_argument
@_yes
@_environment
def clear(name: str, yes: bool, environment: str | None) -> None:
    """Remove all entries of a Dict."""
    d = _existing(name, environment)
    if not yes:
        click.confirm(f"Remove all {count(d.len(), 'entry')} of Dict {name!r}?", abort=True)
    d.clear()


@dict_group.command(epilog="Example: holdall dict delete kv --yes")
@_name_argument
@click.option("--allow-missing", is_flag=True, help="Do nothing if there is none of this name.")
@_yes
@_environment
def delete(name: str, allow_missing: bool, yes: bool, environment: str | None) -> None:
    """Delete a Dict and all that is in it."""
    if not yes:
        click.confirm(f"Delete Dict {name!r} and all that is in it?", abort=True)
    Dict.objects.delete(name, allow_missing=allow_missing, environment_name=environment)


@contextmanager
def _bar() -> Generator[Progressed, None, None]:
    """What shows people how far the value is, if it is a large one."""
    console, columns = Console(stderr=True), (DownloadColumn(), BarColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", visible=False)
        yield lambda done, total: bars.update(bar, completed=done, total=total, visible=True)


def _content(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace")
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise InvalidError(f"only bytes and strings can be written to a file, the value is {shown(value)}") from None


def _facts(d: Dict[Any, Any]) -> dict[str, Any]:
    info = d.info()
    made = {"created_at": info.created_at, "created_by": info.created_by}
    return {"name": d.name, "id": d.object_id, **made, "ttl": info.ttl, "entries": d.len()}


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _existing(name: str, environment: str | None, *, create: bool = False) -> Dict[Any, Any]:
    d: Dict[Any, Any] = Dict.from_name(name, environment_name=environment, create_if_missing=create)
    try:
        return d.hydrate()
    except NotFoundError:
        there = f"--environment {environment} {name}" if environment else name
        raise NotFoundError(
            f"there is no {d.label} at {d.connected().address}: correct the name, or make it: holdall dict create {there}"
        ) from None


def _read(text: str, literal: bool) -> Any:
    if not literal:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise InvalidError(f"{text!r} is no Python literal; a string needs quotes of its own with --literal") from None


def _key(text: str, literal: bool) -> Any:
    key = _read(text, literal)
    try:
        hash(key)
    except TypeError as error:
        raise InvalidError(f"{text} cannot be a key: {error}") from None
    return key


def _print(value: object, as_json: bool, literal: bool = False) -> None:
    """Print a value: a string as it is, unless it is to be a `literal`."""
    if as_json:
        _print_json(value)
    else:
        text = value if isinstance(value, str) and not literal else printable(repr(value))
        click.echo(printable(text, "\n\t") if sys.stdout.isatty() else _content(text))


def _print_json(value: object) -> None:
    """Print a value; one that JSON has no form for, a part of it, or a key, as its repr."""
    try:
        text = json.dumps(value, default=_as_json, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # a key of a mapping, NaN, a huge int, a value that holds itself
        text = json.dumps(_as_json(value))
    click.echo(text)


def _as_json(value: Any) -> str:
    try:
        return str(value.isoformat()) if hasattr(value, "isoformat") else repr(value)
    except Exception:  # a user's own code may raise anything
        return shown(value)
