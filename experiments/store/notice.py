"""What a training process has to say to whoever gave the command: its own output is the log."""

from __future__ import annotations

import contextlib
import sys

from experiments.files import read_bounded
from experiments.store.folder import RunFolder

_MOST_BYTES = 1 << 24


def tell(folder: RunFolder, sentence: str) -> None:
    """Say it in the log and leave it for the caller's console."""
    print(sentence, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError), folder.notice.open("a", encoding="utf-8") as file:
        file.write(" ".join(sentence.split()) + "\n")


def take_notices(folder: RunFolder) -> list[str]:
    """What was told since the last call, a sentence each."""
    try:
        said = read_bounded(folder.notice, _MOST_BYTES).decode(errors="replace")
        folder.notice.unlink()
    except (OSError, ValueError):
        return []
    return said.splitlines()
