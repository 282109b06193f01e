"""The floors of the house: imports run one way, without a circle, and tests mirror the rooms."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab import PATIENCE_S

PROJECT = Path(__file__).resolve().parents[1]
#: folders of experiments/ that hold declarative files, no code of ours
DECLARATIVE = {
    "datasets", "examples", "figures", "models", "profiles", "protocols", "tables",
}  # fmt: skip


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """``lint-imports`` on a checkout, with the contracts of its pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(program), "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_the_import_contracts_are_kept() -> None:
    said = lint(PROJECT)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("ssa/errors.py", "import experiments.errors", "analysis reads experiments"),
        ("experiments/store/lock.py", "import experiments.plan.plan", "The rooms of experiments"),
        ("ssa/losses/boundary.py", "import cv2", "Classifiers and losses need torch"),
        ("ssa/classifiers/base.py", "import ssa.models", "Classifiers and losses need torch"),
        ("experiments/declare/yaml_files.py", "import experiments.declare.load", "No circle"),
    ],
)
def test_an_import_against_the_order_is_named(
    tmp_path: Path, module: str, line: str, contract: str
) -> None:
    for package in ("analysis", "experiments", "ssa"):
        shutil.copytree(
            PROJECT / package, tmp_path / package, ignore=lambda folder, names: [
                name for name in names if (Path(folder) / name).is_file() and name[-3:] != ".py"
            ],
        )  # fmt: skip
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    path = tmp_path / module
    path.write_text(path.read_text() + f"\n\ndef later():\n    {line}\n")
    said = lint(tmp_path)
    assert said.returncode == 1, said.stdout + said.stderr
    broken = [row for row in said.stdout.splitlines() if " BROKEN" in row]
    assert any(row.startswith(contract) for row in broken), said.stdout


def test_every_room_has_its_tests() -> None:
    rooms = {path.parent.name for path in PROJECT.glob("experiments/*/__init__.py")} - DECLARATIVE
    tested = {path.parent.name for path in PROJECT.glob("tests/experiments/*/test_*.py")}
    assert rooms == tested
    rooms = {path.parent.name for path in PROJECT.glob("ssa/*/__init__.py")}
    tested = {path.parent.name for path in PROJECT.glob("tests/ssa/*/test_*.py")}
    assert rooms == tested
