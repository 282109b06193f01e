"""What a benchmark of hours has measured, kept bit by bit: the same command goes on after it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

from experiments.files import parsed_json, read_bounded
from experiments.machine import PROJECT

MOST_BYTES = 64 << 20
PACKAGES = ("analysis", "benchmarks", "experiments", "ssa")


def code() -> str | None:
    """What git calls the packages as they are; None: they are edited, or this is no checkout."""

    def said(*words: str) -> str:
        command = ["git", "-C", str(PROJECT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        if said("status", "--porcelain", "--", *PACKAGES):
            return None
        return " ".join(said("rev-parse", *(f"HEAD:{name}" for name in PACKAGES)).split())
    except (OSError, subprocess.SubprocessError):
        return None


class KeptRows:
    """What calls of one benchmark with equal settings have finished, with the same code.

    Args:
        folder: of the record; None: nothing is kept.
        benchmark: its name.
        setting: what the rows follow from.
    """

    def __init__(self, folder: Path | None, benchmark: str, setting: dict[str, Any]) -> None:
        now = code() if folder is not None else None
        self._key = {"code": now, "setting": setting}
        self._path = folder / f"{benchmark}.rows.jsonl" if folder is not None and now else None
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
