"""The appendix of an artefact evaluation: all of the registry, as it is stored."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from experiments.cli.app import expand
from experiments.cli.verbs import write_appendix
from experiments.machine import PROJECT
from experiments.plan.request import Request, stored_request
from experiments.show.appendix import Artefact, appendix, to_markdown


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, Path]:
    """Written into an empty results folder: what is expected are the shipped runs."""
    results = tmp_path_factory.mktemp("appendix") / "results"
    request = stored_request("quick", 3, results)
    write_appendix(request, Console(quiet=True))
    return request, results / "tables"


def test_every_claim_stands_there_with_its_verdict_and_command(made: tuple[Request, Path]) -> None:
    request, folder = made
    text = (folder / "appendix.md").read_text()
    assert "stored in results/reference" in text
    for table in request.tables("all"):
        part = text.split(f"### {table.name}: ")[1].split("\n### ")[0]
        assert f"./run_all.sh {table.name} --seeds 3" in part
        for claim in table.claims:
            assert re.search(
                rf"{re.escape(claim.text)} \({re.escape(claim.where)}\): "
                r"(holds|does not hold|undecided)",
                part,
            ), claim.id
        assert re.search(r"^\d+ runs, about \d+ min\.$", part, re.MULTILINE), table.name
    for words in ("torch==", "No GPU is needed", "GPU-hours", "Python 3.11"):
        assert words in text


def test_its_commands_are_known(made: tuple[Request, Path]) -> None:
    text = (made[1] / "appendix.md").read_text()
    commands = re.findall(r"^\./run_all\.sh ([^#\n]+)", text, re.MULTILINE)
    assert len(commands) > 15
    for words in {command.split()[0] for command in commands} - {"test"}:
        expand([words])


def test_it_compiles(made: tuple[Request, Path]) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: apt-get install texlive-latex-recommended")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-jobname", "appendix",
               r"\def\tablefile{appendix}\input{standalone}"]  # fmt: skip
    ended = subprocess.run(command, cwd=made[1], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:]


def test_another_claim_makes_another_appendix(made: tuple[Request, Path]) -> None:
    request, _ = made
    table = request.registry.table("table12")
    result = _empty(request, "table12")
    before = to_markdown(list(appendix(Artefact(request.registry, [result], "here", {}, ""))))
    claim = table.claims[0].model_copy(update={"text": "Pigs fly"})
    told = replace(result, claims=(replace(result.claims[0], claim=claim), *result.claims[1:]))
    after = to_markdown(list(appendix(Artefact(request.registry, [told], "here", {}, ""))))
    assert "Pigs fly" in after
    assert "Pigs fly" not in before
    assert "No run of profile quick is stored." in before


def _empty(request: Request, name: str):  # type: ignore[no-untyped-def]
    from experiments.judge.assemble import assemble

    (planned,) = request.plan([request.registry.table(name)]).tables
    return assemble(planned, request.store, None)


def test_it_is_generated_alike(made: tuple[Request, Path], tmp_path: Path) -> None:
    assert PROJECT.as_posix() not in (made[1] / "appendix.md").read_text()
