"""mmengine's config, printed by Python instead of by yapf."""

from __future__ import annotations

from pprint import pformat
from typing import Any

from mmengine.config import Config


class PlainConfig(Config):
    """A config whose text is made once and in milliseconds.

    mmengine formats it with yapf each time that it is printed, logged or kept in a checkpoint: a
    quarter of a second each, eleven times a run. The text reads back with ``Config.fromfile``.
    """

    @property
    def pretty_text(self) -> str:
        """``name = value`` a line, values as Python literals."""
        text = self.__dict__.get("_plain_text")
        if text is None:
            text = plain_text(self.to_dict())
            self.__dict__["_plain_text"] = text
        return str(text)


def plain_text(settings: dict[str, Any]) -> str:
    """Settings as a Python file, a name a statement."""
    lines = [
        f"{name} = {pformat(value, width=100, sort_dicts=False)}"
        for name, value in settings.items()
    ]
    return "\n".join(lines) + "\n"
