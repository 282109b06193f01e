"""Declarative files as they stand on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from experiments.errors import RegistryError
from experiments.files import read_bounded

#: bytes that a file may have: the largest of ours has 40,000
MOST_BYTES = 4 << 20
#: values that a file may say, with those that anchors repeat; the largest of ours says 2,000
MOST_VALUES = 200_000
MOST_MERGED = 16  # mappings that one merge key takes
MOST_DEPTH = 64  # levels of mappings and lists in each other
#: characters that nest no deeper than libyaml's composer can: it recurses in C, and tens of
#: thousands of levels overrun the stack, which no Python code outlives
_SHALLOW = 8_000


def read_yaml(path: Path) -> Any:
    """What a declarative file says.

    Raises:
        RegistryError: it cannot be read, or is not valid YAML.
    """
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8")
        _refuse_deep(text)
        return _bounded(yaml.load(text, Loader=_Loader))
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RegistryError(f"{path} is not a text in UTF-8; save it as such.") from None
    except yaml.YAMLError as error:
        raise RegistryError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except _VALUE_ERRORS as error:
        what = " ".join(str(error).split())
        raise RegistryError(
            f"{path} holds a value that cannot be read ({what}): a date that is none, a !!tag that "
            "does not fit its value, or lists in lists without end. Quote what is meant as text."
        ) from None


def _refuse_deep(text: str) -> None:
    """Look at the levels of a text by its events, which takes no recursion.

    Raises:
        ValueError: it has more than any file means.
        yaml.YAMLError: it is no YAML.
    """
    if len(text) <= _SHALLOW:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Fastest):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH + 1:
            raise ValueError(f"more than {MOST_DEPTH} levels")


def _bounded(document: Any) -> Any:
    """``document`` if it has an end: ten anchors that name each other ten times say 10¹⁰ values.

    Raises:
        ValueError: it has more values or levels than any file means.
    """
    sizes: dict[int, int] = {}
    open_: set[int] = set()

    def size(value: Any, depth: int) -> int:
        if not isinstance(value, (dict, list, tuple, set)):
            return 1
        if id(value) in sizes:
            return sizes[id(value)]
        if id(value) in open_ or depth > MOST_DEPTH:
            raise ValueError(f"more than {MOST_DEPTH} levels")
        open_.add(id(value))
        parts = value.values() if isinstance(value, dict) else value
        total = 1 + sum(size(part, depth + 1) for part in parts)
        if total > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")
        open_.remove(id(value))
        sizes[id(value)] = total
        return total

    size(document, 0)
    return document


#: of PyYAML's constructors: 2001-99-99, `!!int ''`, `!!bool x`, `!!timestamp x`, thousands of `[`
_VALUE_ERRORS = (ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)

#: libyaml's parser is ten times faster and reads the same language
_Fastest: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_MERGE = "tag:yaml.org,2002:merge"


class _Loader(_Fastest):
    """Refuses a key that stands twice in one mapping, where YAML would take the last.

    What a merge key (``<<: *other``) brings may be written anew beside it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._checked: set[int] = set()  # nodes as written; flattening them repeats merged keys

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) not in self._checked:
            self._checked.add(id(node))
            keys = [
                "<<" if k.tag == _MERGE else self.construct_object(k, True) for k, _ in node.value
            ]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{twice}' stands twice", node.start_mark
                )
            for key, value in node.value:
                if key.tag == _MERGE and _is_list(value) and len(value.value) > MOST_MERGED:
                    raise ValueError(f"a merge key of more than {MOST_MERGED} mappings")
        super().flatten_mapping(node)
        if len(node.value) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)
