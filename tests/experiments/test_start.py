"""What lies in the working directory, and what the terminal can print, changes no command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from experiments.machine import PROJECT, module_command, search_path


def test_a_working_directory_shadows_neither_ours_nor_pythons(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    for name in ("experiments/__init__.py", "random.py", "errors.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    environment = os.environ | {"PYTHONPATH": search_path()}
    environment.pop("PYTHONSAFEPATH", None)
    for given in (environment, {k: v for k, v in environment.items() if k != "PYTHONPATH"}):
        done = subprocess.run(
            module_command("experiments", "list"),
            cwd=tmp_path, env=given, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        assert "table8" in done.stdout


def test_an_empty_entry_of_pythonpath_is_not_handed_on() -> None:
    code = "from experiments.machine import search_path; print(search_path())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": f"{PROJECT}{os.pathsep}{os.pathsep}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "" not in done.stdout.strip().split(os.pathsep)


def test_a_terminal_without_our_characters_prints_the_rest(tmp_path: Path) -> None:
    command = module_command("experiments", "complexity", "table–8", "--registry", str(tmp_path))
    done = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False
    )
    assert b"Traceback" not in done.stderr
    assert b"table?8" in done.stderr


def test_line_ends_stay_where_a_shell_reads_them() -> None:
    names = ["run_all.sh", ".ci/run", "experiments/start.py", "ssa/x.c"]
    done = subprocess.run(
        ["git", "-C", str(PROJECT), "check-attr", "eol", "--", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        assert [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines()] == ["lf"] * 4
