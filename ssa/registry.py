"""A registry of named things: a collision is an error, an unknown name proposes the nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from ssa.errors import ConfigurationError, UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names to things of one kind, in the order of registration.

    Args:
        kind: what the things are, for messages ("classifier", "data set").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds a thing under ``name``.

        Raises:
            ConfigurationError: if the name is taken by another thing.
        """

        def add(thing: T) -> T:
            if name in self._things and self._things[name] is not thing:
                raise ConfigurationError(
                    f"The {self.kind} name '{name}' is already taken by {self._things[name]!r}; "
                    "choose another name."
                )
            self._things[name] = thing
            return thing

        return add

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Forget what was registered inside the block if the block fails."""
        before = dict(self._things)
        try:
            yield
        except BaseException:
            self._things = before
            raise

    def __getitem__(self, name: str) -> T:
        try:
            return self._things[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, self._things) from None

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)
