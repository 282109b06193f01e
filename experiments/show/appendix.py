"""The appendix for an artefact evaluation: claims, requirements, minutes, commands, expectations.

Everything in it is read from the registry and from what is stored, so it cannot be older than them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.declare.figure import DEFAULT_PROFILE
from experiments.declare.registry import ExperimentRegistry
from experiments.files import write_if_changed
from experiments.judge.assemble import TableResult
from experiments.machine import PROJECT
from experiments.show.claims import show_claim
from experiments.show.export import show_gain, show_summary
from experiments.show.text import (
    PREAMBLE,
    STANDALONE,
    escape_latex,
    latex_table,
    markdown_table,
)
from experiments.store.exports import stem_of
from experiments.store.records import Record

APPENDIX = "appendix"  # as an item of `export`, and the file's name


@dataclass(frozen=True)
class Heading:
    """Begins a part."""

    text: str
    level: int  # 1: the whole, 2: a section, 3: a table of the registry


@dataclass(frozen=True)
class Commands:
    """Lines to be given to a shell."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A table with a caption; all columns but the first hold numbers."""

    label: str
    source: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Commands | Items | Grid | str  # a string is a paragraph


@dataclass(frozen=True)
class Artefact:
    """What the appendix is made of.

    Args:
        registry: what is claimed and how it is made.
        results: the tables as they are stored.
        place: the results folder, as text.
        gpu_hours: table → estimated hours under the published protocol; empty: not estimated.
        basis: on what that estimate rests.
    """

    registry: ExperimentRegistry
    results: Sequence[TableResult]
    place: str
    gpu_hours: Mapping[str, float]
    basis: str


def export_appendix(artefact: Artefact, folder: Path) -> list[Path]:
    """Write ``folder/appendix.{md,tex}`` and return the paths.

    Raises:
        StoreError: the disk is full or may not be written.
    """
    blocks = list(appendix(artefact))
    paths = []
    for end, text in ((".md", to_markdown(blocks)), (".tex", to_latex(blocks))):
        paths.append(folder / f"{APPENDIX}{end}")
        write_if_changed(paths[-1], text)
    for name, text in (("preamble.tex", PREAMBLE), ("standalone.tex", STANDALONE)):
        write_if_changed(folder / name, text)
    return paths


def appendix(artefact: Artefact) -> Iterator[Block]:
    """The appendix, part by part."""
    registry, results = artefact.registry, artefact.results
    profile = results[0].profile
    claims = sum(len(table.claims) for table in registry.tables.values())
    studies = len(registry.tables) - sum(name in registry.tables for name in registry.paper.tables)
    yield Heading("Artefact appendix", 1)
    yield (
        f"The artefact regenerates {len(registry.tables)} tables ({studies} of them studies that "
        f"the paper does not have) and {len(registry.figures)} figures from a declarative "
        f"registry, with one command each, and gives each of {claims} claims a verdict. "
        "What follows is generated: expected results are those stored in "
        f"{artefact.place}, in profile {profile}."
    )
    yield Heading("Requirements", 2)
    yield Items(tuple(_requirements(artefact, profile)))
    yield Heading("Installation and first test", 2)
    yield (
        "The first call makes the environment (one to three minutes); `doctor` says what is "
        "missing and how to mend it, `plan` what will be run and for how long. An interrupted "
        "command goes on where it stopped."
    )
    smallest = min(results, key=lambda result: len(result.table.rows))
    yield Commands(
        (
            "./run_all.sh doctor",
            f"./run_all.sh {smallest.table.name} --profile smoke     # whether everything works",
            _command("plan", smallest),
            "./run_all.sh test",
        )
    )
    yield Heading("Claims and expected results", 2)
    yield (
        "mIoU is the median of the seeds with its range, a gain the mean over pairs of seeds with "
        "its 95 % interval; the verdicts of one table hold together (docs/claims.md). A verdict is "
        f"about profile {profile} alone. Minutes are those of the stored runs, one after another, "
        "on the machine named under Requirements."
    )
    for result in results:
        yield from _of_table(result)
    if artefact.gpu_hours:
        yield Heading("The published protocol", 2)
        yield artefact.basis
        rows = tuple(
            (name, f"./run_all.sh {name} --profile paper --data-root DIR", f"{hours:,.0f}")
            for name, hours in artefact.gpu_hours.items()
        )
        caption = "Estimated GPU-hours of every table at full size."
        yield Grid("hours", "Cost", caption, ("Table", "Command", "GPU-hours"), rows)
    yield Heading("Judging a result", 2)
    yield (
        "Every table that is made beside shipped runs has a column Reference; `agrees` means "
        "within the noise between seeds. Two folders of results are compared run by run:"
    )
    yield Commands((f"./run_all.sh diff results {artefact.place}",))


def _requirements(artefact: Artefact, profile: str) -> Iterator[str]:
    registry, records = artefact.registry, list(_records(artefact.results))
    torch = re.search(r"^torch==\S+", (PROJECT / "requirements" / "torch.txt").read_text(), re.M)
    locked = (PROJECT / "requirements" / "lock.txt").read_text().count("==")
    yield (
        f"Software: Linux, Python 3.11 or newer, {torch.group() if torch else 'torch'} and "
        f"{locked} packages at exact versions (requirements/lock.txt); a C compiler makes the "
        "losses fast. Licence: Apache-2.0."
    )
    if records:
        environments = [record.environment for record in records]
        machines = sorted({f"{e.device}, {e.threads} threads a run" for e in environments})
        memory = max(record.peak_memory_mb for record in records) / 1024
        needless = all(e.device.startswith("cpu") for e in environments)
        yield (
            f"Hardware, in profile {profile}: {'; '.join(machines)}; at most {memory:.1f} GB of "
            f"memory a run.{' No GPU is needed.' if needless else ''}"
        )
        yield (
            f"Time: {_minutes(records)} for all {len(records)} runs of profile {profile}, one "
            "after another."
        )
    from ssa.datasets import DATASETS

    rows = [row for result in artefact.results for row in result.rows]
    trained, papers = [row.dataset for row in rows], [row.paper_dataset for row in rows]
    for name in dict.fromkeys([*trained, *papers]):
        if name in DATASETS:
            yield f"Data, {DATASETS[name].title}: {DATASETS[name].obtain}"
    yield f"Networks: {len(registry.models)}, each declared in a file of experiments/models."


def _records(results: Sequence[TableResult]) -> Iterator[Record]:
    """Every run once, however many rows it stands in."""
    seen: set[str] = set()
    for result in results:
        for row in result.rows:
            for record in row.records:
                if record.run_id not in seen:
                    seen.add(record.run_id)
                    yield record


def _of_table(result: TableResult) -> Iterator[Block]:
    table = result.table
    yield Heading(f"{table.name}: {table.title}", 3)
    yield f"{table.source}."
    records = list(_records([result]))
    if records:
        yield f"{len(records)} runs, {_minutes(records)}."
    yield Commands((_command("", result),))
    if table.claims:
        yield Items(tuple(show_claim(claim) for claim in result.claims))
    if not records:
        yield f"No run of profile {result.profile} is stored."
        return
    yield Grid(
        f"{stem_of(table.name, result.profile)}-expected",
        table.source,
        f"Expected, profile {result.profile}.",
        ("Row", "mIoU, %", "Gain [95 % interval]", "Seeds"),
        tuple(
            (row.row.label, show_summary(row.miou), show_gain(row.gain), str(len(row.records)))
            for row in result.rows
        ),
    )
    if any(row.stale for row in result.rows):
        yield "Some of these runs are stale: our code has changed since they were made."


def _minutes(records: Sequence[Record]) -> str:
    seconds = sum(record.timings.total_s for record in records)
    return f"about {math.ceil(seconds / 60):,} min"


def _command(verb: str, result: TableResult) -> str:
    words = ["./run_all.sh", *([verb] if verb else []), result.table.name]
    if result.profile != DEFAULT_PROFILE:
        words += ["--profile", result.profile]
    return " ".join([*words, "--seeds", str(len(result.seeds))])


def to_markdown(blocks: Sequence[Block]) -> str:
    """The appendix as Markdown."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"{'#' * level} {text}")
            case Commands(lines):
                parts.append("\n".join(["```bash", *lines, "```"]))
            case Items(texts):
                parts.append("\n".join(f"- {text}" for text in texts))
            case Grid():
                sides = _sides(block)
                rows = [list(row) for row in block.rows]
                text = markdown_table(block.source, block.caption, block.columns, rows, sides, [])
                parts.append(text.rstrip())
            case str():
                parts.append(block)
    return "\n\n".join(parts) + "\n"


def to_latex(blocks: Sequence[Block]) -> str:
    """The appendix as LaTeX, to be read by ``\\input``; needs ``preamble.tex``."""
    parts = ["% written by ./run_all.sh export appendix; needs the packages of preamble.tex"]
    sections = {1: "section*", 2: "subsection*", 3: "subsubsection*"}
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"\\{sections[level]}{{{escape_latex(text)}}}")
            case Commands(lines):
                parts.append("\n".join(["\\begin{verbatim}", *lines, "\\end{verbatim}"]))
            case Items(texts):
                items = [f"\\item {_prose(text)}" for text in texts]
                parts.append("\n".join(["\\begin{itemize}", *items, "\\end{itemize}"]))
            case Grid():
                rows = [list(row) for row in block.rows]
                label, sides = block.label, _sides(block)
                parts.append(latex_table(label, block.caption, block.columns, rows, sides, []))
            case str():
                parts.append(_prose(block))
    # with many tables and little text LaTeX runs out of places for those that float
    return "\n\n".join(parts).replace("\\begin{table}", "\\begin{table}[htbp]") + "\\clearpage\n"


def _sides(grid: Grid) -> str:
    return "l" + "r" * (len(grid.columns) - 1)


def _prose(text: str) -> str:
    """Escaped, with `code` in the typewriter face."""
    parts = text.split("`")
    return "".join(
        f"\\texttt{{{escape_latex(part)}}}" if index % 2 else escape_latex(part)
        for index, part in enumerate(parts)
    )
