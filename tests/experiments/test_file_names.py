"""File names that are not UTF-8: refused where a record would hold them, else printed readably."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import PROJECT, environment

from experiments.files import strict_json, write_atomically, write_if_changed
from experiments.machine import module_command, printable
from experiments.store.records import Failure, now

EXAMPLE = PROJECT / "experiments" / "examples" / "bring_your_own"
ODD = os.fsdecode(b"caf\xe9")  # as Latin-1 has it


@pytest.fixture
def odd_folder(tmp_path: Path) -> Iterator[Path]:
    """The example's folder in one whose name is not UTF-8; removed, as reports cannot name it."""
    folder = tmp_path / ODD
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    shutil.copytree(EXAMPLE, folder / "mine", ignore=shutil.ignore_patterns("data", "__pycache__"))
    make = [sys.executable, str(folder / "mine" / "make_images.py")]
    subprocess.run(make, check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)


def said(code: int, *words: str, **variables: str) -> str:
    """What a command prints, which ends with this code and without a traceback."""
    ended = subprocess.run(
        module_command("experiments", *words),
        env=environment() | variables, capture_output=True, check=False,
    )  # fmt: skip
    text = (ended.stdout + ended.stderr).decode(variables.get("PYTHONIOENCODING", "utf-8"))
    assert "Traceback" not in text
    assert ended.returncode == code, text
    return text


def places(folder: Path) -> list[str]:
    return ["--registry", str(folder / "mine"), "--results", str(folder / "results")]


def test_an_image_whose_name_no_record_can_hold_is_refused(odd_folder: Path) -> None:
    shapes = odd_folder / "mine" / "data" / "shapes"
    for path in (shapes / "photos" / "val" / "030.jpg", shapes / "masks" / "val" / "030.png"):
        path.rename(path.with_name(ODD + path.suffix))
    checked = said(1, "data", "verify", "shapes", *places(odd_folder))
    assert re.search(r"problem: The name of .*caf\\xe9.*caf\\xe9\.jpg is not UTF-8", checked)
    planned = said(0, "plan", "my_ablation", "--profile", "example", *places(odd_folder))
    assert "not UTF-8" in planned
    assert "0 runs" in planned


def test_a_mask_without_its_image_is_named_readably(odd_folder: Path) -> None:
    mask = odd_folder / "mine" / "data" / "shapes" / "masks" / "val" / "030.png"
    mask.rename(mask.with_name(f"{ODD}.png"))
    assert r"caf\xe9.png" in said(1, "data", "verify", "shapes", *places(odd_folder))


def test_folders_of_any_name_train_report_and_say_why_a_run_failed(odd_folder: Path) -> None:
    run = ["my_ablation", "--profile", "example", "--seeds", "1", *places(odd_folder)]
    trained = said(0, *run, "--rows", "full")
    assert r"Written: " in trained
    assert r"caf\xe9/results/tables" in trained
    page = said(0, "report", *places(odd_folder)).strip()
    assert page.endswith(r"caf\xe9/results/report/index.html")
    assert (odd_folder / "results" / "report" / "index.html").read_text(encoding="utf-8")

    source = odd_folder / "mine" / "classifiers" / "margin_prototypes.py"
    head = "def forward(self, features: Tensor) -> Tensor:\n"
    text = source.read_text(encoding="utf-8")
    assert head in text
    source.write_text(text.replace(head, f"{head}        raise ValueError(__file__)\n"))
    failed = said(1, *run, "--rows", "no-margin")
    assert re.search(r"caf\\xe9/mine/classifiers/margin_prototypes\.py, line \d+: Val", failed)


@pytest.mark.parametrize("kind", ["tables", "classifiers", "datasets", "profiles"])
def test_a_declared_file_of_such_a_name_is_an_error_of_ours(odd_folder: Path, kind: str) -> None:
    (source,) = (odd_folder / "mine" / kind).glob("*.*")
    source.rename(source.with_name(ODD + source.suffix))
    if kind in ("tables", "profiles"):  # their name stands in the file
        assert "my_ablation" in said(0, "list", "--registry", str(odd_folder / "mine"))
    else:
        sentence = said(1, "list", "--registry", str(odd_folder / "mine"))
        assert rf"{kind}/caf\xe9{source.suffix}" in sentence


@pytest.mark.parametrize("words", [("list",), ("doctor", "--results")])
def test_a_terminal_of_few_characters_prints_lists_and_findings(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    given = [*words, str(tmp_path)] if words[-1].startswith("--") else list(words)
    for coding in ("latin-1", "ascii"):
        assert said(0, *given, PYTHONIOENCODING=coding)


def test_what_is_written_holds_such_a_name_readably(tmp_path: Path) -> None:
    text = f"é – {ODD}"
    write_atomically(tmp_path / "a.csv", text)
    write_if_changed(tmp_path / "b.md", text)
    for name in ("a.csv", "b.md"):
        assert (tmp_path / name).read_text(encoding="utf-8") == r"é – caf\xe9"
    write_atomically(tmp_path / "c.json", strict_json({"path": text}, "It", ensure_ascii=False))
    assert json.loads((tmp_path / "c.json").read_bytes())["path"] == r"é – caf\xe9"
    # where a program reads the name again, it is kept
    assert json.loads(strict_json({"path": text}, "It"))["path"] == text
    failure = Failure(run_id="x", sentence=text, traceback=text, time=now())
    assert json.loads(failure.model_dump_json())["sentence"] == printable(text) == r"é – caf\xe9"
