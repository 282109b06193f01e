"""Where the reference values of the tests lie: those of this folder first, then the whole set.

``golden/`` and ``spec/`` beside this file are committed, so that every comparison has a case on any
machine. A checkout that has ``shared/golden`` beside it adds the cases that are not committed.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden"
#: the whole set, which not every machine has
WHOLE = HERE.parents[2] / "shared" / "golden"
PAPER_TABLES = HERE / "spec" / "paper_tables.json"
PROTOCOL = HERE / "spec" / "protocol.json"


def golden_files(pattern: str) -> list[Path]:
    """The files of a glob pattern relative to ``golden``, each name once, ours before others."""
    files: dict[str, Path] = {}
    for root in (GOLDEN, WHOLE):
        for path in sorted(root.glob(pattern)):
            files.setdefault(path.relative_to(root).as_posix(), path)
    return list(files.values())
