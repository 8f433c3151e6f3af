"""One operation, two ways to call it: `d.get(key)` blocks, `await d.get.aio(key)` awaits.

The signatures of `get` and `pop`, which depend on whether a default is given, are written out for type checkers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from holdall.client.connection.query import Operation
from holdall.client.operations.large import Progress

if TYPE_CHECKING:
    from typing_extensions import Self

    from .client import Client

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")
K_contra = TypeVar("K_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)
T = TypeVar("T")


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
        self.__wrapped__ = operation

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Carry it out on this thread."""
        operation = self.__wrapped__(self._owner, *args, **kwargs)
        return self._owner.connected(self._given(kwargs) if kwargs else None).run(operation)

    async def aio(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        operation = self.__wrapped__(self._owner, *args, **kwargs)
        return await self._owner.connected(self._given(kwargs) if kwargs else None).run_awaiting(operation)

    def _given(self, kwargs: dict[str, Any]) -> Any:
        """The client that this call was given; to `update`, which takes any keyword, it would be an entry."""
        if "client" not in kwargs:
            return None
        code = self.__wrapped__.__code__
        return kwargs["client"] if "client" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] else None

    def __getattr__(self, name: str) -> Any:
        if name != "__signature__":
            raise AttributeError(f"{self!r} has no attribute {name!r}")
        import inspect  # for people at a prompt

        _self, *parameters = (of_operation := inspect.signature(self.__wrapped__)).parameters.values()
        of_result = re.fullmatch(r"Operation\[(.*)\]", str(of_operation.return_annotation))
        return inspect.Signature(parameters, return_annotation=of_result[1] if of_result else of_operation.return_annotation)

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


class HasKeys(Protocol[K, V_co]):
    """What `dict.update` takes for a mapping."""

    def keys(self) -> Iterable[K]: ...

    def __getitem__(self, key: K, /) -> V_co: ...


class GetOperation(Protocol[K_contra, V]):
    """`get` as it is written."""

    def __call__(
        self, owner: Any, /, key: K_contra, default: V | None = None, *, progress: Progress | None = None
    ) -> Operation[V | None]: ...


class BoundGet(BoundTwin[..., Any], Generic[K, V]):
    """`get` of one Dict."""

    if TYPE_CHECKING:

        @overload
        def __call__(self, key: K, *, progress: Progress | None = None) -> V | None: ...
        @overload
        def __call__(self, key: K, default: V, *, progress: Progress | None = None) -> V: ...
        @overload
        def __call__(self, key: K, default: T, *, progress: Progress | None = None) -> V | T: ...
        def __call__(self, key: Any, default: Any = None, *, progress: Progress | None = None) -> Any: ...

        @overload
        async def aio(self, key: K, *, progress: Progress | None = None) -> V | None: ...
        @overload
        async def aio(self, key: K, default: V, *, progress: Progress | None = None) -> V: ...
        @overload
        async def aio(self, key: K, default: T, *, progress: Progress | None = None) -> V | T: ...
        async def aio(self, key: Any, default: Any = None, *, progress: Progress | None = None) -> Any: ...


class GetTwin(Twin[..., Any], Generic[K, V]):
    """The descriptor of `get`."""

    if TYPE_CHECKING:

        def __init__(self, operation: GetOperation[K, V]) -> None: ...
        @overload
        def __get__(self, owner: None, kind: type) -> Self: ...
        @overload
        def __get__(self, owner: Connected, kind: type) -> BoundGet[K, V]: ...
        def __get__(self, owner: Connected | None, kind: type) -> Self | BoundGet[K, V]: ...


class BoundPop(BoundTwin[..., Any], Generic[K, V]):
    """`pop` of one Dict."""

    if TYPE_CHECKING:

        @overload
        def __call__(self, key: K) -> V: ...
        @overload
        def __call__(self, key: K, default: V) -> V: ...
        @overload
        def __call__(self, key: K, default: T) -> V | T: ...
        def __call__(self, key: Any, default: Any = None) -> Any: ...

        @overload
        async def aio(self, key: K) -> V: ...
        @overload
        async def aio(self, key: K, default: V) -> V: ...
        @overload
        async def aio(self, key: K, default: T) -> V | T: ...
        async def aio(self, key: Any, default: Any = None) -> Any: ...


class PopTwin(Twin[..., Any], Generic[K, V]):
    """The descriptor of `pop`."""

    if TYPE_CHECKING:

        def __init__(self, operation: Callable[[Any, K, V], Operation[V]]) -> None: ...
        @overload
        def __get__(self, owner: None, kind: type) -> Self: ...
        @overload
        def __get__(self, owner: Connected, kind: type) -> BoundPop[K, V]: ...
        def __get__(self, owner: Connected | None, kind: type) -> Self | BoundPop[K, V]: ...
