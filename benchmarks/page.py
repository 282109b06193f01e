"""docs/performance.md, made from the shipped records, and the tables of docs/reliability.md.

    ./run_all.sh bench page

Each figure with its goal, what it was measured beside and the best that can be had. A test holds
the pages to the records.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.compare import digits
from benchmarks.record import Benchmark, Figure, read_all, table_of
from experiments.files import write_atomically
from experiments.machine import PROJECT

RECORDS = PROJECT / "results" / "reference" / "benchmarks"
PAGE = PROJECT / "docs" / "performance.md"
RELIABILITY = PROJECT / "docs" / "reliability.md"
NOTES = PROJECT / "benchmarks" / "notes.md"
HEAD = """# Speed and memory

Made by `./run_all.sh bench page` from the records in `results/reference/benchmarks`; do not edit.
Ratios were measured in turn, in one run, so that a busy machine slows both sides; seconds say what
the machine is as well. `./run_all.sh bench compare results/reference/benchmarks results/benchmarks`
holds your machine's records against these.
"""


#: what is not of speed or memory stands elsewhere: docs/claims.md, docs/reliability.md
ELSEWHERE = frozenset({"coverage", "decide", "faults", "fuzz"})
#: benchmarks of several records
GROUPS = {"latency": "Inference of whole networks", "loading": "Loading images"}


def page(records: dict[str, Benchmark], notes: str) -> str:
    """The page's text: a section a benchmark."""
    groups: dict[str, list[Benchmark]] = {}
    for record in records.values():
        if record.benchmark in ELSEWHERE:
            continue
        groups.setdefault(record.benchmark, []).append(record)
    parts = [HEAD, *map(_section, groups.values()), notes.strip()]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _section(records: list[Benchmark]) -> str:
    first = records[0]
    figures = [figure for record in records for figure in record.figures]
    lines = [
        f"## {GROUPS.get(first.benchmark, first.title)}",
        "",
        *map(_origin, records),
        "",
        "| figure | beside | measured | quartiles | goal | floor |",
        "|---|---|---|---|---|---|",
        *map(_row, figures),
        "",
    ]
    return "\n".join([*lines, *_floors(figures)])


def _origin(record: Benchmark) -> str:
    """Where a record comes from, as an item of a list."""
    machine = record.machine
    commit = f"commit {machine.git_commit[:9]}" if machine.git_commit else "commit not recorded"
    return (
        f"- `{record.command}`: {machine.device}, {machine.processors} processors, torch "
        f"{machine.torch}, load {machine.load[0]:g} before and {machine.load[1]:g} after, "
        f"{machine.when[:10]}, {commit}{' with changes' if machine.git_dirty else ''}"
        f" (`{record.stem}.json`)"
    )


def _row(figure: Figure) -> str:
    quartiles = "—"
    if figure.low is not None and figure.high is not None:
        quartiles = f"{digits(figure.low)} to {digits(figure.high)}"
    bound = "at most" if figure.better == "lower" else "at least"
    goal = "—"
    if figure.goal is not None:
        goal = f"{bound} {figure.goal:g}: {'met' if figure.met else '**missed**'}"
    floor = "—" if figure.floor is None else f"{figure.floor:g}"
    beside = figure.beside or "—"
    measured = f"{digits(figure.value)} {figure.unit}"
    return f"| {figure.name} | {beside} | {measured} | {quartiles} | {goal} | {floor} |"


def _floors(figures: list[Figure]) -> Iterator[str]:
    for figure in figures:
        if figure.floor_reason:
            yield f"Floor of {figure.name}: {figure.floor_reason}.\n"


def with_table(text: str, table: str) -> str:
    """A page's text with a Markdown table in the place of the one that has its head.

    Raises:
        ValueError: the page has no such table, or several.
    """
    head = table.splitlines()[0]
    before, mark, rest = text.partition(f"{head}\n")
    if not mark or f"{head}\n" in rest:
        raise ValueError(f"the page is to have one table of the head {head}")
    lines = rest.splitlines(keepends=True)
    number = next((n for n, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return before + table.rstrip("\n") + "\n" + "".join(lines[number:])


def reliability(records: dict[str, Benchmark], text: str) -> str:
    """docs/reliability.md with the counts of the shipped records, or how to make one."""
    from benchmarks import faults, fuzz

    for maker, columns in ((faults, faults.COLUMNS), (fuzz, fuzz.COLUMNS)):
        name = maker.__name__.rsplit(".", 1)[1]
        table = maker.table(records[name]) if name in records else _unmeasured(name, columns)
        text = with_table(text, table)
    return text


def _unmeasured(name: str, columns: Sequence[str]) -> str:
    """A table that says that nobody has counted yet."""
    first = f"no record is shipped yet; `./run_all.sh bench {name}` counts"
    return table_of(columns, [[first, *["–"] * (len(columns) - 1)]])


def main(arguments: list[str] | None = None) -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(prog="./run_all.sh bench page")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.parse_args(arguments)
    notes = NOTES.read_text(encoding="utf-8") if NOTES.exists() else ""
    records = read_all(RECORDS)
    write_atomically(PAGE, page(records, notes))
    write_atomically(RELIABILITY, reliability(records, RELIABILITY.read_text(encoding="utf-8")))
    print(f"Written: {PAGE}, {RELIABILITY}")


if __name__ == "__main__":
    main()
