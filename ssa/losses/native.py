"""Compile the C kernels once a machine and load them; without a compiler, say so once and go on.

A plain C file behind ctypes rather than ``torch.compile``: it compiles in under a second instead of
tens, is kept on disk between processes, costs nothing at import, and adds up in an order of its
own, so that a result depends neither on the number of threads nor on when it was compiled.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_LOSSES = "upsampled_losses"
#: read once: what is compiled is what a library's name and a run's record are made of
KERNEL_SOURCES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parent / "kernels").glob("*.c"))
}
#: no -ffast-math: it would change how the whole process treats denormals and NaN
_FLAGS = ("-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math")
_TUNED = (
    ("-march=native", "-fopenmp"),
    ("-march=native", "-fopenmp-simd"),
    ("-fopenmp",),
    ("-fopenmp-simd",),
    (),
)


def kernel_library(precision: str = "float", kernel: str = _LOSSES) -> ctypes.CDLL | None:
    """A kernel in that precision, or None where it cannot be built.

    ``SSA_NATIVE=0`` in the environment switches them off; ``SSA_KERNEL_CACHE`` names the folder
    that keeps them (default: ``ssa-seg-lab`` in the user's cache folder).

    Args:
        precision: ``float`` or ``double`` (slow, for tests of the losses).
        kernel: a file of ``kernels`` without its ending; the losses or ``adapted_inference``.
    """
    if os.environ.get("SSA_NATIVE", "1") == "0":
        return None
    return _build(precision, kernel)


def threads_worth(elements: int, per_thread: int) -> int:
    """How many threads ``elements`` are worth, within this process's cores; at least one.

    torch's number may exceed the cores (a container, torch.set_num_threads), and starting a thread
    costs some 70 µs.

    Args:
        elements: the amount of work.
        per_thread: the amount that repays the start of one thread.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(min(torch.get_num_threads(), cores or 1, elements // per_thread), 1)


def run_phase(library: ctypes.CDLL, task: ctypes.Structure, phase: int, threads: int) -> None:
    """Share a phase's units among ``threads`` threads (ctypes lets go of the interpreter lock).

    They are PyTorch's own where the kernel was built with OpenMP (kernels/team.c), else new ones.

    Raises:
        MemoryError: the kernel got no memory for what it works on.
    """
    if threads > 1 and hasattr(library, "ssa_run_team"):
        failed = library.ssa_run_team(ctypes.byref(task), phase, threads)
    else:
        failed = _run_with_new_threads(library, task, phase, threads)
    if failed:
        raise MemoryError("A C kernel of ssa.losses got no memory for its working band.")


def _run_with_new_threads(
    library: ctypes.CDLL, task: ctypes.Structure, phase: int, threads: int
) -> bool:
    """Whether any of them got no memory."""
    taken = ctypes.c_int64(0)
    failures: list[int] = []

    def work() -> None:
        failures.append(library.ssa_run(ctypes.byref(task), phase, ctypes.byref(taken)))

    helpers = [threading.Thread(target=work) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    return any(failures)


@functools.cache
def _build(precision: str, kernel: str) -> ctypes.CDLL | None:
    compiler = _compiler()
    if compiler is None:
        _say_once("no C compiler found (set CC, or install gcc or clang)")
        return None
    defines = ("-DREAL=double", "-DDOUBLE") if precision == "double" else ()
    reason = ""
    for tuned in _TUNED:
        command = [*compiler, *_FLAGS, *tuned, *defines]
        try:
            return _load(_compile(command, kernel))
        except (OSError, subprocess.SubprocessError) as error:
            detail = getattr(error, "stderr", None) or str(error)
            reason = detail.strip().splitlines()[0] if detail.strip() else type(error).__name__
    _say_once(f"'{shlex.join(compiler)}' failed: {reason}")
    return None


@functools.cache
def _say_once(reason: str) -> None:
    logger.warning(
        "The fused losses run in plain PyTorch, correct but slower (%s); SSA_NATIVE=0 accepts it.",
        reason,
    )


def _compiler() -> list[str] | None:
    wanted = os.environ.get("CC")
    if wanted:
        return shlex.split(wanted)
    found = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    return None if found is None else [found]


def _compile(command: list[str], kernel: str = _LOSSES) -> Path:
    """Build the library unless this machine's cache has it; safe among concurrent processes.

    A library's name ends in the digest of its bytes. What a crash or a full disk left truncated
    does not match its name, is removed and built anew (to map it would end the process).
    """
    source = KERNEL_SOURCES[kernel] + KERNEL_SOURCES["team"]
    identity = "\n".join([source, *command, platform.machine(), _processor()])
    stem = f"{kernel}-{hashlib.sha256(identity.encode()).hexdigest()[:20]}"
    for folder in _folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _user() is not None and folder.stat().st_uid != _user():
                continue  # a library that another user could have put there is not loaded
            return _whole(folder, stem) or _built(command, source, folder, stem)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and error.filename == command[0]:
                raise
            logger.debug("kernel folder %s: %s", folder, error)
    raise OSError("no folder to keep the kernel in; set SSA_KERNEL_CACHE")


def _whole(folder: Path, stem: str) -> Path | None:
    """The library in ``folder`` whose bytes are what its name says; others are removed."""
    for library in sorted(folder.glob(f"{stem}-*.so")):
        if library.stem == f"{stem}-{_digest(library)}":
            return library
        library.unlink(missing_ok=True)
    return None


def _built(command: list[str], source: str, folder: Path, stem: str) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        output = Path(work) / "library.so"
        subprocess.run(
            [*command, "-o", str(output), "-x", "c", "-", "-x", "none", "-lm"],
            input=source,
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        with output.open("rb+") as file:
            os.fsync(file.fileno())  # the bytes before the name, also through a power cut
        return output.replace(folder / f"{stem}-{_digest(output)}.so")


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()[:20]


def _user() -> int | None:
    """The user's number, None on systems without."""
    return os.getuid() if hasattr(os, "getuid") else None


def _folders() -> list[Path]:
    """Where to keep the library, the best place first: the user's cache, the temporary folder."""
    folders: list[Path] = []
    if "SSA_KERNEL_CACHE" in os.environ:
        folders.append(Path(os.environ["SSA_KERNEL_CACHE"]))
    elif os.environ.get("XDG_CACHE_HOME"):
        folders.append(Path(os.environ["XDG_CACHE_HOME"]) / "ssa-seg-lab")
    else:
        with contextlib.suppress(RuntimeError, KeyError):  # no HOME, and no such user either
            folders.append(Path.home() / ".cache" / "ssa-seg-lab")
    user = _user()
    owner = "user" if user is None else str(user)
    return [*folders, Path(tempfile.gettempdir()) / f"ssa-seg-lab-{owner}"]


def _processor() -> str:
    """What -march=native depends on: a home folder may be shared by unlike machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.ssa_run.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    library.ssa_run.restype = ctypes.c_int
    if hasattr(library, "ssa_run_team"):
        library.ssa_run_team.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        library.ssa_run_team.restype = ctypes.c_int
    library.ssa_task_size.restype = ctypes.c_int64
    library.ssa_pad.restype = ctypes.c_int64
    return library
