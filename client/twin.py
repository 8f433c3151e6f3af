"""One operation, two ways to call it: `d.get(key)` blocks, `await d.get.aio(key)` awaits.

The signatures of `get` and `pop`, which depend on whether a default is given, are written out for type checkers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from holdall.client.connection.query import Operation
from holdall.client.operations.large import Progress

if TYPE_CHECKING:
    from .client import Client

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")
K_contra = TypeVar("K_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)
T = TypeVar("T")

_OF_HANDLES = ("awaitable", "connected", "crc", "hydration", "id", "label", "of_entry", "register", "serializer")
_OF_CLIENTS = (
    *("disconnect", "finds_service", "inherit", "is_local", "layout_id", "passes_files", "reads_only", "roster", "run"),
    *("run_awaiting", "url"),
)
INTERNAL = frozenset((*_OF_HANDLES, *_OF_CLIENTS))
"""What other parts of holdall need of these objects, and users do not."""


class Offering:
    """What users call is what completion offers."""

    __slots__ = ()

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in INTERNAL]


class Connected(Protocol):
    """What has a client."""

    def connected(self, given: Any = None) -> Client:
        """The client to use: the one a call was given, or else its owner's."""
        ...


class Bound(Offering):
    """A method of one object. To `help`, `inspect` and completion it is the function that was written."""

    __slots__ = ("_owner", "_written")

    def __init__(self, owner: Any, written: Callable[..., Any]) -> None:
        self._owner = owner
        self._written = written

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__doc__ = property(lambda bound: bound._written.__doc__)  # type: ignore[assignment]

    def __get__(self, owner: object, kind: type | None = None) -> Self:
        return self  # what can be bound is a routine to `help`

    def __getattr__(self, name: str) -> Any:
        method = MethodType(self._written, self._owner)
        return method if name == "__wrapped__" else getattr(method, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self._owner, self._written.__name__)

    def __repr__(self) -> str:
        return f"<{self._written.__qualname__} of {self._owner!r}>"


class BoundTwin(Bound, Generic[P, R]):
    """An operation of one object. Call it, or await its `aio` with the same arguments."""

    __slots__ = ()

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Carry it out on this thread."""
        operation: Operation[R] = self._written(self._owner, *args, **kwargs)
        return self._client(kwargs).run(operation)

    @property
    def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The same, as a coroutine function."""
        return MethodType(self._written.aio, self)  # type: ignore[attr-defined]

    @staticmethod
    def awaitable(operation: Callable[..., Operation[R]]) -> Callable[..., Coroutine[Any, Any, R]]:
        """The function of which `aio` is a method."""

        async def aio(twin: BoundTwin[..., R], /, *args: Any, **kwargs: Any) -> R:
            asked = operation(twin._owner, *args, **kwargs)
            return await twin._client(kwargs).run_awaiting(asked)

        return functools.update_wrapper(aio, operation, ("__module__", "__qualname__", "__doc__"))

    def _client(self, kwargs: dict[str, Any]) -> Client:
        """The one that this call was given, or its owner's; to `update`, which takes any keyword, it would be an entry."""
        code = self._written.__code__
        is_given = "client" in kwargs and "client" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return cast("Client", self._owner.connected(kwargs["client"] if is_given else None))


class Twin(Generic[P, R]):
    """A method written as an operation, callable in both ways."""

    def __init__(self, operation: Callable[Concatenate[Any, P], Operation[R]]) -> None:
        self._operation = operation
        returned = operation.__annotations__["return"]  # what a caller is given is the result
        operation.__annotations__["return"] = returned.removeprefix("Operation[").removesuffix("]")
        functools.update_wrapper(self, operation)
        vars(operation)["aio"] = BoundTwin.awaitable(operation)

    def __call__(self, owner: Any, /, *args: Any, **kwargs: Any) -> Any:
        """As a function of the object, as methods are of classes."""
        return BoundTwin[..., Any](owner, self._operation)(*args, **kwargs)

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
        async def aio(self, key: Any, default: Any = None, **more: Any) -> Any: ...  # pyright: ignore[reportIncompatibleMethodOverride]


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
        async def aio(self, key: Any, default: Any = None) -> Any: ...  # pyright: ignore[reportIncompatibleMethodOverride]


class PopTwin(Twin[..., Any], Generic[K, V]):
    """The descriptor of `pop`."""

    if TYPE_CHECKING:

        def __init__(self, operation: Callable[[Any, K, V], Operation[V]]) -> None: ...
        @overload
        def __get__(self, owner: None, kind: type) -> Self: ...
        @overload
        def __get__(self, owner: Connected, kind: type) -> BoundPop[K, V]: ...
        def __get__(self, owner: Connected | None, kind: type) -> Self | BoundPop[K, V]: ...
