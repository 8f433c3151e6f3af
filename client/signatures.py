"""The signatures of `get` and `pop`, which depend on whether a default is given, for type checkers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from holdall.client.ask import Operation
from holdall.client.transfer import Progress
from holdall.client.twin import BoundTwin, Connected, Twin

if TYPE_CHECKING:
    from typing_extensions import Self

K = TypeVar("K")
V = TypeVar("V")
K_contra = TypeVar("K_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)
T = TypeVar("T")


class HasKeys(Protocol[K, V_co]):
    """What `dict.update` takes for a mapping."""

    def keys(self) -> Iterable[K]:
        """Its keys."""
        ...

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
