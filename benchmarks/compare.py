"""Two folders of benchmark records side by side.

    ./run_all.sh bench compare results/reference/benchmarks results/benchmarks
    ./run_all.sh bench compare A B --only classifier

Ratios are compared between any two machines; seconds and memory only where processor and number of
processors are the same, for else they say what the machines are and not what the code is.
Exit code: 0; 1 where B misses a goal that A meets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.record import Benchmark, Figure, read, read_all


@dataclass(frozen=True)
class Pair:
    """One figure in two records."""

    #: name of the two records
    record: str
    before: Figure
    after: Figure
    #: whether the two numbers may be held against each other
    comparable: bool

    @property
    def change(self) -> float | None:
        """After over before."""
        return (
            self.after.value / self.before.value if self.comparable and self.before.value else None
        )

    @property
    def lost(self) -> bool:
        """Whether a goal that was met is met no more."""
        return self.before.met is True and self.after.met is False


def pairs(before: dict[str, Benchmark], after: dict[str, Benchmark]) -> Iterator[Pair]:
    """The figures that both sides have, in the order of ``before``."""
    for name, old in before.items():
        if name not in after:
            continue
        new = after[name]
        alike = (old.machine.device, old.machine.processors) == (
            new.machine.device,
            new.machine.processors,
        )
        figures = {(figure.name, figure.unit, figure.beside): figure for figure in new.figures}
        for figure in old.figures:
            other = figures.get((figure.name, figure.unit, figure.beside))
            if other is not None:
                yield Pair(name, figure, other, figure.unit == "×" or alike)


def show(found: list[Pair]) -> None:
    """Print the table."""
    table = Table()
    for column in ("record", "figure", "A", "B", "B / A", "goal"):
        table.add_column(column, justify="left" if column in ("record", "figure") else "right")
    for pair in found:
        goal = pair.after.goal
        table.add_row(
            escape(pair.record),
            escape(words(pair.after)),
            number(pair.before),
            number(pair.after),
            "other machine" if pair.change is None else f"{pair.change:.2f}",
            "—" if goal is None else f"{goal:g} {'met' if pair.after.met else 'missed'}",
        )
    Console().print(table)


def words(figure: Figure) -> str:
    """What was measured, and beside what."""
    return f"{figure.name}, beside {figure.beside}" if figure.beside else figure.name


def number(figure: Figure) -> str:
    """Value, unit and quartiles."""
    spread = ""
    if figure.low is not None and figure.high is not None:
        spread = f" [{digits(figure.low)}, {digits(figure.high)}]"
    return f"{digits(figure.value)} {figure.unit}{spread}"


def digits(value: float) -> str:
    """Three digits, and all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _records(path: Path) -> dict[str, Benchmark]:
    if path.is_file():
        record = read(path)
        return {record.stem: record}
    return read_all(path)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's head."""
    parser = argparse.ArgumentParser(prog="./run_all.sh bench compare")
    parser.add_argument("before", type=Path, metavar="A", help="folder or file")
    parser.add_argument("after", type=Path, metavar="B", help="folder or file")
    parser.add_argument("--only", help="records whose names begin so")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)  # nothing is written
    given = parser.parse_args(arguments)
    try:
        before, after = _records(given.before), _records(given.after)
    except (OSError, ValueError) as error:
        raise SystemExit(f"Error: {error}") from None
    compared = [p for p in pairs(before, after) if p.record.startswith(given.only or "")]
    if not compared:
        raise SystemExit(
            f"Error: {given.before} and {given.after} have no figure in common. Measure with "
            "`./run_all.sh bench NAME`, which writes results/benchmarks/."
        )
    show(compared)
    lost = [pair for pair in compared if pair.lost]
    for pair in lost:
        print(f"{pair.record}: {words(pair.after)} misses its goal of {pair.after.goal:g} now.")
    sys.exit(int(bool(lost)))


if __name__ == "__main__":
    main()
