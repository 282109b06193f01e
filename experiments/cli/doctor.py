"""Is this installation whole? Each finding says what is, and how to mend what is not."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from experiments.errors import SsaError, sentence_of
from experiments.machine import cpu_count, cpu_name, git_commit
from experiments.store.workspace import Workspace

NEEDED = (
    "torch",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmsegmentation",
    "pydantic",
    "pandas",
    "scipy",
    "matplotlib",
)
RIVALS_OF_ONEDL = ("mmengine", "mmcv", "mmcv-full", "mmcv-lite", "mmsegmentation")
FREE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    says: str
    ok: bool = True
    needed: bool = True  # whether a table can be made without it


def examine(workspace: Workspace) -> list[Finding]:
    """Look at everything; takes a few seconds, trains nothing, writes nothing."""
    return [
        *_software(),
        *_machine(workspace),
        *_registry(),
        *_data(workspace),
        _tool("pdflatex", "builds the LaTeX exports; Debian: texlive-latex-recommended"),
        _tool("sbatch", "submits runs to a Slurm cluster"),
    ]


def _software() -> Iterable[Finding]:
    version = platform.python_version()
    yield Finding("python", f"{version}, {sys.executable}", sys.version_info >= (3, 11))
    for name in NEEDED:
        there = _version(name)
        mend = "not installed; delete .venv and give any command again"
        yield Finding(name, there or mend, there is not None)
    for name in RIVALS_OF_ONEDL:
        if there := _version(name):
            yield Finding(name, f"{there} shadows its onedl- continuation; uninstall it", False)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine(workspace: Workspace) -> Iterable[Finding]:
    yield Finding("processors", f"{cpu_count()} × {cpu_name()}")
    import torch

    there = torch.cuda.is_available()
    text = torch.cuda.get_device_name() if there else "none; runs train on the CPU"
    yield Finding("GPU", text, there, needed=False)
    place = workspace.results
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    hint = "" if free > FREE_GB else f"; less than {FREE_GB:.0f} GB, choose --results elsewhere"
    yield Finding("disk", f"{free:.1f} GB free at {workspace.results}{hint}", free > FREE_GB)
    commit, dirty = git_commit()
    state = f"{commit}{', with changes' if dirty else ''}" if commit else "not a git checkout"
    yield Finding("commit", state, commit is not None, needed=False)


def _registry() -> Iterable[Finding]:
    from experiments.declare.load import load_registry

    try:
        loaded = load_registry()
    except SsaError as error:
        yield Finding("registry", sentence_of(error), False)
        return
    yield Finding(
        "registry",
        f"{len(loaded.tables)} tables, {len(loaded.models)} models, "
        f"{len(loaded.profiles)} profiles",
    )


def _data(workspace: Workspace) -> Iterable[Finding]:
    from ssa.datasets import DATASETS

    for name, dataset in DATASETS.items():
        if name == "scenes":
            continue
        try:
            root = dataset.locate(workspace.data_root)
        except SsaError as error:
            yield Finding(f"data: {name}", sentence_of(error), False, needed=False)
        else:
            yield Finding(f"data: {name}", str(root))


def _tool(name: str, use: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, path or f"not here ({use})", path is not None, needed=False)


def show_findings(console: Console, findings: Iterable[Finding]) -> int:
    """Print the findings; returns 1 if something that is needed is wrong, else 0."""
    code = 0
    for finding in findings:
        wrong = not finding.ok and finding.needed
        mark = "[green]ok[/green]  " if finding.ok else ("[red]WRONG[/red]" if wrong else "–   ")
        console.print(f"{mark} {finding.what:<24} {escape(finding.says)}", soft_wrap=True)
        code |= wrong
    console.print("Something is wrong; see above." if code else "Everything needed is here.")
    return int(code)
