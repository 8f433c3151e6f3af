"""`holdall run`: a program that was written for the hosted package, with `hosted` in the place of that.

Its file is loaded as a module of its own name, as the hosted package does, in each process that runs one of its functions.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import cloudpickle  # type: ignore[import-untyped]

from holdall.errors import Error, InvalidError

from . import hosted

_TYPES: dict[type, Any] = {str: str, int: int, float: float, datetime: click.DateTime()}


def run_program(target: str, arguments: list[str]) -> int:
    """Run a program's entrypoint with these arguments; its only function if it has none. Returns the exit status.

    Args:
        target: FILE, or FILE::NAME of an entrypoint or a function.
        arguments: such as "--key", "value".
    """
    name, module = _loaded(target)
    apps = _apps(module)
    entrypoints = {name: each for app in apps for name, each in app.entrypoints.items()}
    functions = {name: each for app in apps for name, each in app.functions.items()}
    usual = entrypoints or functions
    if not name and not usual:
        return 0  # loading it was all
    name = name or (next(iter(usual)) if len(usual) == 1 else "")
    function = entrypoints.get(name) or functions.get(name)
    if function is None:
        file, known = target.partition("::")[0], ", ".join(entrypoints | functions) or "none"
        raise InvalidError(f"which function of {file} is to run? Say {file}::NAME; it has {known}")
    called = _reporting(function.remote if isinstance(function, hosted.Function) else function)
    command = click.Command(name, params=_options(function), callback=called, help=inspect.getdoc(function))
    return int(command.main(arguments, prog_name=f"holdall run {target}", standalone_mode=False) or 0)


def call_function(folder: str, target: str) -> int:
    """Run one function of a program for the process that asks, with what is in its folder. Returns the exit status."""
    name, module = _loaded(target)
    arguments, named = cloudpickle.loads(Path(folder, "arguments").read_bytes())
    function = next(app.functions[name] for app in _apps(module) if name in app.functions)
    result: tuple[Any, BaseException | None]
    try:
        value = function.local(*arguments, **named)
        result = (asyncio.run(value) if inspect.iscoroutine(value) else value), None
    except Exception as error:
        error.add_note(f"in the process of {name}:\n{traceback.format_exc()}")
        result = None, error
    try:
        cloudpickle.loads(cloudpickle.dumps(result))  # pyright: ignore[reportUnknownMemberType]
    except Exception as error:
        told = repr(result[0]) if result[1] is None else "".join(traceback.format_exception(result[1]))
        result = None, Error(f"what {name} gives, or raises, cannot be passed on: {error}\n{told}")
    unfinished = Path(folder, "unfinished")
    unfinished.write_bytes(cloudpickle.dumps(result))  # pyright: ignore[reportUnknownMemberType]
    unfinished.rename(Path(folder, "result"))
    return 0


def _loaded(target: str) -> tuple[str, ModuleType]:
    """The function that was named, or an empty name, and the program's module."""
    file, _, name = target.partition("::")
    path = Path(file).resolve()
    if path.stem in sys.modules:
        raise InvalidError(f"a program cannot have the name of the module {path.stem!r}: call it otherwise than {path.name}")
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InvalidError(f"there is no Python program {file}")
    module = module_from_spec(spec)
    setattr(module, hosted.IMPORTED_AS, hosted)  # for a snippet that imports nothing
    sys.modules |= {hosted.IMPORTED_AS: hosted, path.stem: module}
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return name, module


def _apps(module: ModuleType) -> list[hosted.App]:
    return [each for each in vars(module).values() if isinstance(each, hosted.App)]


def _reporting(function: Callable[..., Any]) -> Callable[..., int]:
    """Call it, await what it gives, and show an error with the lines of the program that it came from."""

    def call(**arguments: Any) -> int:
        try:
            value = function(**arguments)
            if inspect.iscoroutine(value):
                asyncio.run(value)
        except Exception:
            traceback.print_exc()
            return 1
        return 0

    return call


def _options(function: Callable[..., Any]) -> list[click.Parameter]:
    """An option for each parameter; its type is that of the annotation, or of the default."""
    found: list[click.Parameter] = []
    for each in inspect.signature(function, eval_str=True).parameters.values():
        default: Any = None if each.default is each.empty else each.default
        implied = str if default is None else default.__class__
        kind = implied if each.annotation is each.empty else each.annotation
        flag = f"--{each.name.replace('_', '-')}"
        if kind is bool:
            found.append(click.Option([f"{flag}/--no-{flag[2:]}", each.name], default=bool(default)))
        elif kind in _TYPES:
            given: dict[str, Any] = {"required": True} if each.default is each.empty else {"default": default}
            found.append(click.Option([flag, each.name], type=_TYPES[kind], **given))
        else:
            raise InvalidError(f"{function.__name__} has a parameter {each.name!r} of a type that no option can have: {kind}")
    return found
