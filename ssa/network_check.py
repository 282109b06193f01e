"""A network's config is data: what it names is a registered class, never code to be imported.

mmengine's registries take a name that nobody has registered for the path of a Python object, import
it and call it: ``{type: subprocess.Popen, args: …}`` in a model file, or in the record of somebody
else's run, would be executed. And it unpickles whatever ``init_cfg`` names.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

MOST_DEPTH = 32  # levels of a config; ours have 7
MOST_VALUES = 50_000  # in all; ours have 300
#: keys whose text mmengine looks up in a registry
NAMING = ("type", "constructor", "wrapper")
#: keys whose text it reads a file from, or an address
_LOADING = ("checkpoint", "pretrained", "load_from")
#: registries that a class may be named with; what these packages hold themselves cannot be called
_SCOPED = re.compile(r"(mmseg|mmdet|mmpretrain)\.[A-Za-z_]\w*")
_PLAIN = re.compile(r"[A-Za-z_]\w*")


def check_network(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` if it is data and of bounded size.

    Raises:
        ValueError: it names code, or a file to be loaded, or has no end.
    """
    return _checked(config, _check_text)


def check_size(settings: dict[str, Any]) -> dict[str, Any]:
    """``settings`` if they are of bounded size.

    Raises:
        ValueError: they have no end.
    """
    return _checked(settings, lambda _key, _text: None)


def _checked(config: dict[str, Any], check: Callable[[Any, str], None]) -> dict[str, Any]:
    rest: list[tuple[Any, int]] = [(config, 0)]
    seen = 0
    while rest:
        value, depth = rest.pop()
        seen += 1
        if depth > MOST_DEPTH or seen > MOST_VALUES:
            raise ValueError(f"settings have at most {MOST_DEPTH} levels and {MOST_VALUES} values")
        if isinstance(value, dict):
            for key, part in value.items():
                if isinstance(part, str):
                    check(key, part)
                elif isinstance(part, (dict, list, tuple)):
                    rest.append((part, depth + 1))
        elif isinstance(value, (list, tuple)):
            seen += len(value)
            rest += [(part, depth + 1) for part in value if isinstance(part, (dict, list, tuple))]
    return config


def _check_text(key: Any, text: str) -> None:
    if key in NAMING:
        check_name(text)
    elif key in _LOADING:
        raise ValueError(
            f"'{key}: {text}' would load a file; pretrained weights come by the model's `weights`"
        )


def check_name(name: str) -> str:
    """``name`` if it can only be that of a registered class.

    Raises:
        ValueError: it leads to code that nobody registered.
    """
    if not _is_name(name):
        raise ValueError(f"'{name}' names Python code, where a registered class belongs")
    return name


@lru_cache(maxsize=1024)
def _is_name(name: str) -> bool:
    if _SCOPED.fullmatch(name):
        return True
    if not _PLAIN.fullmatch(name):
        return False
    # classes begin in upper case; what does not may be mmcv's "deconv", or a module
    return name[0].isupper() or importlib.util.find_spec(name) is None
