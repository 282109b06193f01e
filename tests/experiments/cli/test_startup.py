"""What the quick verbs leave unloaded: a list or a Tab key waits for no framework."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from experiments.machine import PROJECT

HEAVY = {"torch", "numpy", "pandas", "scipy", "cv2", "mmcv", "mmengine", "mmseg"}
TAB = {
    "_RUN_ALL_SH_COMPLETE": "complete_bash",
    "COMP_CWORD": "2",
    "COMP_WORDS": "./run_all.sh plan table",
}


def loaded_packages(*arguments: str, **environment: str) -> tuple[set[str], str]:
    """The top-level packages that a call of the door imported, and what it printed."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "importtime", "-m", "experiments", *arguments],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}, ended.stdout


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [(["list"], "table8"), (["--help"], "Usage"), (["why", "--help"], "Usage")],
)
def test_quick_verbs_load_no_framework(arguments: list[str], printed: str) -> None:
    packages, output = loaded_packages(*arguments)
    assert printed in output
    assert "typer" in packages  # imports were seen at all
    assert not packages & HEAVY


def test_tab_loads_no_framework() -> None:
    packages, output = loaded_packages(**TAB)
    assert "table8" in output
    assert not packages & HEAVY
