"""A registry of named things: a collision is an error, an unknown name proposes the nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Generic, TypeVar

from ssa.errors import ConfigurationError, UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names to things of one kind, in the order of registration.

    Args:
        kind: what the things are, for messages ("classifier", "data set").
        announced: name → module that registers the thing; it is imported when the thing is first
            asked for, and the name is taken from the start.
    """

    def __init__(self, kind: str, announced: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._announced = dict(announced or {})
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds a thing under ``name``.

        Raises:
            ConfigurationError: if the name is taken by another thing.
        """

        def add(thing: T) -> T:
            home = getattr(thing, "__module__", None)
            if name not in self._things and self._announced.get(name, home) == home:
                self._things[name] = thing
            elif self[name] is not thing:
                raise ConfigurationError(
                    f"The {self.kind} name '{name}' is already taken by {self[name]!r}; "
                    "choose another name."
                )
            return thing

        return add

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Forget what was registered inside the block if the block fails, but what was announced.

        The module of an announced thing is imported once and would not register it again.
        """
        before = dict(self._things)
        try:
            yield
        except BaseException:
            now = self._things.items()
            self._things = before | {name: it for name, it in now if name in self._announced}
            raise

    def __getitem__(self, name: str) -> T:
        if name not in self._things and name in self._announced:
            import_module(self._announced[name])
        try:
            return self._things[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, list(self)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._things or name in self._announced

    def __iter__(self) -> Iterator[str]:
        return iter({**self._announced, **self._things})

    def __len__(self) -> int:
        return len({**self._announced, **self._things})
