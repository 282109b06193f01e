"""Where the checkout is, which commit, which processors, what a terminal can print."""

from __future__ import annotations

import codecs
import io
import os
import platform
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
START = PROJECT / "experiments" / "start.py"


def module_command(module: str, *words: str) -> list[str]:
    """The command that runs a module of ours, whatever lies in the working directory."""
    return [sys.executable, "-W", "ignore", str(START), module, *words]


def search_path() -> str:
    """PYTHONPATH of a process of ours: the checkout, then what the user set.

    An empty entry would be the working directory, whose files would shadow Python's own.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(PROJECT), *filter(None, given)])


def printable(text: object) -> str:
    r"""The text with what is not UTF-8 in names of files as ``\xe9``, so that any file holds it."""
    return str(text).encode("utf-8", PRINTED).decode("utf-8")


def print_what_can_be_printed() -> None:
    r"""Let no character end a program: what a stream cannot print is ``?``, a byte ``\xe9``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PRINTED)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    # Python reads a byte that is not UTF-8 as the character U+DC00 plus the byte
    bytes_of_names = range(0xDC80, 0xDD00)
    words = (rf"\x{ord(c) - 0xDC00:02x}" if ord(c) in bytes_of_names else "?" for c in characters)
    return "".join(words), error.end


#: the name under which ``str.encode`` knows it
PRINTED = "ssa.printed"
codecs.register_error(PRINTED, _replaced)


def git_commit(folder: Path = PROJECT) -> tuple[str | None, bool | None]:
    """Commit of the checkout and whether tracked files differ from it; (None, None) outside one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, dirty


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


#: how the files begin by which a system lends a GPU: NVIDIA's, WSL's, AMD's
GPU_FILES = ("nvidia", "nvhost", "nvgpu", "nvmap", "dxg", "kfd")


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether torch, whose import takes a second, could see a GPU here; True where nobody knows."""
    if not sys.platform.startswith("linux"):
        return True
    try:
        return any(path.name.startswith(GPU_FILES) for path in devices.iterdir())
    except OSError:
        return True


def num_devices(device: str) -> int:
    """GPUs that torch sees where ``device`` is cuda; 1 on a CPU."""
    if device != "cuda":
        return 1
    import torch

    return torch.cuda.device_count()
