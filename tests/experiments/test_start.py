"""What lies in the working directory, and what the terminal can print, changes no command."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from lab import write_registry

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


def test_line_ends_stay_where_a_shell_reads_them(tmp_path: Path) -> None:
    """A clone by a git that writes CRLF where it may."""
    here = ["git", "-C", str(PROJECT)]
    if shutil.which("git") is None or subprocess.run([*here, "rev-parse", "HEAD"]).returncode:
        pytest.skip("not in a git checkout")
    small = tmp_path / "small"  # the project's attributes on files of the kinds that it has
    small.mkdir()
    names = ("run_all.sh", "experiments/start.py", "experiments/tables/table08.yaml", ".ci/run")
    for name in (".gitattributes", *names):
        (small / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, small / name)
    (small / "notes").write_text("nobody says of what kind\n")
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(small), *words], check=True)
    clone = ["git", "-c", "core.autocrlf=true", "clone", "-q", str(small), str(tmp_path / "clone")]
    subprocess.run(clone, check=True)
    for name in names:
        assert b"\r" not in (tmp_path / "clone" / name).read_bytes(), name
    assert b"\r\n" in (tmp_path / "clone" / "notes").read_bytes(), "this git writes no CRLF"
    bash = ["bash", "-n", str(tmp_path / "clone" / "run_all.sh")]
    subprocess.run(bash, check=True)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A working directory whose files would take the place of ours, Python's and torch's."""
    text = "import sys; sys.stderr.write('shadowed ' + __file__); sys.exit(9)\n"
    for name in ("experiments", "ssa", "analysis", "benchmarks", "torch", "mmseg", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    for name in ("random", "errors", "yaml", "json", "statistics", "resource"):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def clean() -> dict[str, str]:
    """As a user's shell has it."""
    given = {"PYTHONPATH", "PYTHONSAFEPATH"}
    return {k: v for k, v in os.environ.items() if k not in given} | {"OMP_NUM_THREADS": "1"}


def test_training_begun_in_such_a_directory_is_ours(hostile: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write_registry(mine)
    words = ["pair", "--rows", "baseline", "--seeds", "1", "--profile", "smoke"]
    command = module_command("experiments", *words, "--registry", "mine", "--results", "made")
    ended = subprocess.run(
        command, cwd=hostile, env=clean(), capture_output=True, text=True, check=False
    )
    assert "shadowed" not in ended.stderr + ended.stdout
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert len(list((hostile / "made" / "runs").glob("*/record.json"))) == 1


@pytest.mark.parametrize("module", ["assemble", "classifier", "latency", "loading", "startup"])
def test_a_benchmark_begun_in_such_a_directory_is_ours(hostile: Path, module: str) -> None:
    command = module_command(f"benchmarks.{module}", "--help")
    ended = subprocess.run(
        command, cwd=hostile, env=clean(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "usage" in ended.stdout


def test_no_module_of_ours_is_started_by_m() -> None:
    """``python -m`` would look into the working directory first."""
    for package in ("experiments", "analysis", "benchmarks", "ssa"):
        for path in (PROJECT / package).rglob("*.py"):
            assert '"-m", "' not in path.read_text(encoding="utf-8"), path


def test_a_notebooks_kernel_looks_nowhere_but_where_it_is_told(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = pytest.importorskip("nbformat.v4")
    from analysis import execution
    from analysis.notebook import Chosen

    monkeypatch.chdir(hostile)
    monkeypatch.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}")
    cell = formats.new_code_cell("import experiments, random, json; print(experiments.__file__)")
    book, chosen = formats.new_notebook(cells=[cell]), Chosen(hostile / "made", "smoke")
    with tempfile.TemporaryDirectory(prefix="ssa-") as runtime:  # a socket's path is short
        executed = asyncio.run(execution.execute(book, chosen, Path(runtime)))
    assert str(PROJECT / "experiments") in executed.cells[0].outputs[0]["text"]
