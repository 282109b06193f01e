"""Declarative files as they stand on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from experiments.errors import RegistryError


def read_yaml(path: Path) -> Any:
    """What a declarative file says.

    Raises:
        RegistryError: it cannot be read, or is not valid YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
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
        super().flatten_mapping(node)
