"""What a training process has to say to whoever gave the command: its own output is the log."""

from __future__ import annotations

import contextlib
import sys

from experiments.store.folder import RunFolder


def tell(folder: RunFolder, sentence: str) -> None:
    """Say it in the log and leave it for the caller's console."""
    print(sentence, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError), folder.notice.open("a", encoding="utf-8") as file:
        file.write(" ".join(sentence.split()) + "\n")


def take_notices(folder: RunFolder) -> list[str]:
    """What was told since the last call, a sentence each."""
    try:
        said = folder.notice.read_text(encoding="utf-8", errors="replace")
        folder.notice.unlink()
    except OSError:
        return []
    return said.splitlines()
