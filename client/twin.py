"""One operation, two ways to call it: `d.get(key)` blocks, `await d.get.aio(key)` awaits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from holdall.client.ask import Operation

if TYPE_CHECKING:
    from typing_extensions import Self

    from holdall.client.client import Client

P = ParamSpec("P")
R = TypeVar("R")


class Connected(Protocol):
    """What has a client."""

    def connected(self, given: Any = None) -> Client:
        """The client to use: the one a call was given, or else its owner's."""
        ...


class BoundTwin(Generic[P, R]):
    """An operation of one object. Call it, or await its `aio` with the same arguments."""

    __slots__ = ("__wrapped__", "_owner")

    def __init__(self, owner: Connected, operation: Callable[..., Operation[R]]) -> None:
        self._owner = owner
        self.__wrapped__ = operation  # `help` and `inspect.signature` look here

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Carry it out on this thread."""
        operation = self.__wrapped__(self._owner, *args, **kwargs)
        return self._owner.connected(self._given(kwargs) if kwargs else None).run(operation)

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, awaitable."""
        operation = self.__wrapped__(self._owner, *args, **kwargs)
        client = self._owner.connected(self._given(kwargs) if kwargs else None)
        deadline = monotonic() + client.timeout
        line = client.line_here() or await client.new_line_here()
        return await line.run(operation, client.timeout, deadline)

    def _given(self, kwargs: dict[str, Any]) -> Any:
        """The client that this call was given; to `update`, which takes any keyword, it would be an entry."""
        if "client" not in kwargs:
            return None
        code = self.__wrapped__.__code__
        return kwargs["client"] if "client" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] else None

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, self.__wrapped__.__name__)

    def __repr__(self) -> str:
        return f"<{self.__wrapped__.__qualname__} of {self._owner!r}>"


class Twin(Generic[P, R]):
    """A method written as an operation, callable in both ways."""

    def __init__(self, operation: Callable[Concatenate[Any, P], Operation[R]]) -> None:
        self._operation = operation
        functools.update_wrapper(self, operation)  # type: ignore[arg-type]

    @overload
    def __get__(self, owner: None, kind: type) -> Self: ...
    @overload
    def __get__(self, owner: Connected, kind: type) -> BoundTwin[P, R]: ...
    def __get__(self, owner: Connected | None, kind: type) -> Self | BoundTwin[P, R]:
        return self if owner is None else BoundTwin(owner, self._operation)


def twin(operation: Callable[Concatenate[Any, P], Operation[R]]) -> Twin[P, R]:
    """Make this operation a method that can be called in both ways."""
    return Twin(operation)
