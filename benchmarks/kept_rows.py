"""The rows of a benchmark of hours, kept one by one: the same command goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from experiments.files import parsed_json, read_bounded
from experiments.machine import git_commit

MOST_BYTES = 64 << 20


class KeptRows:
    """What calls of one benchmark with equal settings have finished, of one commit of the code.

    Args:
        folder: of the record; None: nothing is kept.
        benchmark: its name.
        setting: what the rows follow from.
    """

    def __init__(self, folder: Path | None, benchmark: str, setting: dict[str, Any]) -> None:
        commit, dirty = git_commit()
        self._key = {"commit": commit, "setting": setting}
        # edited code is nobody's commit: its rows may be of several versions
        known = folder is not None and commit is not None and not dirty
        self._path = folder / f"{benchmark}.rows.jsonl" if folder is not None and known else None
        self._rows: dict[str, dict[str, Any]] = {}
        try:
            lines = read_bounded(self._path, MOST_BYTES).splitlines() if self._path else []
        except (OSError, ValueError):
            lines = []
        for line in lines:
            with contextlib.suppress(ValueError, LookupError, TypeError):  # cut as it was written
                document = parsed_json(line)
                if document["key"] == self._key:
                    self._rows[document["name"]] = document["row"]

    def of(self, name: str) -> dict[str, Any] | None:
        """The row of a name; None: it is to be made."""
        return self._rows.get(name)

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep a row that is finished."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": self._key, "name": name, "row": row}) + "\n")

    def end(self) -> None:
        """Forget the rows: they stand in the record."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
