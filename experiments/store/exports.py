"""The files that a table was exported to: what they are called, and which seeds they tell of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from experiments.declare.figure import DEFAULT_PROFILE
from experiments.files import parsed_json, read_bounded

FOLDER = "tables"  # in a folder of results
MOST_OF_A_TABLE = 64 << 20  # bytes: some 1,000 rows with all that is said of each


def table_stem(name: str) -> str:
    """``table8`` → ``table08``; other names stay."""
    match = re.fullmatch(r"table(\d{1,2})", name)
    return f"table{int(match.group(1)):02d}" if match else name


def stem_of(table: str, profile: str) -> str:
    """``table08`` for the default profile, ``table08-camvid`` for another."""
    name = table_stem(table)
    return name if profile == DEFAULT_PROFILE else f"{name}-{profile}"


def read_table(path: Path) -> Any:
    """What an exported table's JSON says.

    Args:
        path: of the file.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        ValueError: it is no JSON, or larger than a table may be.
    """
    return parsed_json(read_bounded(path, MOST_OF_A_TABLE))


def exported_seeds(results: Path, table: str, profile: str) -> tuple[int, ...]:
    """The seeds that a table's last export was made with; none where there is no export.

    Args:
        results: folder of results.
        table: its name.
        profile: its name.
    """
    try:
        document = read_table(results / FOLDER / f"{stem_of(table, profile)}.json")
        return tuple(int(seed) for seed in document["seeds"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()
