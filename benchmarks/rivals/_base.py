"""The adapter class, and what rivals return."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol

Key = Any
Loop = Callable[[], None]
MESSAGE = "OBJECT_LOCKED"
LOOP_KEY = "vm-1"


class Held(Protocol):
    """What a rival returns for a set of keys that it holds."""

    def release(self) -> object:
        """Gives all keys back."""


class Lockable(Protocol):
    """One key in the shape of a `threading.Lock`."""

    def acquire(self) -> object:
        """Takes the key, waiting as long as it takes."""

    def release(self) -> object:
        """Gives it back."""


class MissingRivalError(ImportError):
    """A rival that a benchmark needs is not installed."""


def rival_module(name: str, distribution: str) -> Any:
    """Returns: the module of a rival.

    Raises:
        MissingRivalError: Its distribution is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingRivalError(
            f"{distribution} is not installed, and a benchmark without its rivals says nothing: "
            f"python -m pip install {distribution}"
        ) from error


class Rival:
    """One way to lock.

    Attributes:
        name: What tables and plots call it.
        has_shared: It knows shared and exclusive.
        has_try: It can refuse instead of waiting.
        is_atomic: It takes a set of keys all together or not at all.
        is_one_lock: Its loops use one lock object, `LOOP_KEY`'s, whatever the key: its best case.
    """

    name: ClassVar[str]
    has_shared: ClassVar[bool] = False
    has_try: ClassVar[bool] = True
    is_atomic: ClassVar[bool] = False
    is_one_lock: ClassVar[bool] = False

    def hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held:
        """Takes all keys, waiting as long as it takes."""
        raise NotImplementedError

    def try_hold(self, exclusive: Iterable[Key] = (), shared: Iterable[Key] = ()) -> Held | None:
        """Takes all keys now, or none and returns None."""
        raise NotImplementedError

    def lock(self, key: Key) -> Lockable:
        """Returns: something for the calling thread, to take `key` exclusively with."""
        raise NotImplementedError

    def loop(self, operation: str, items: Sequence[Any]) -> Loop:
        """Returns: a function that does `operation` once for each of `items`."""
        maker: Callable[[Sequence[Any]], Loop] = getattr(self, f"loop_{operation}")
        return maker(items)
