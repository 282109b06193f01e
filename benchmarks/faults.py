"""The fault campaign: what kills, full disks, damage and company leave of a small table.

    ./run_all.sh bench faults                               # every fault, some 55 tables
    ./run_all.sh bench faults --tries 2 --only kill --only "full disk: record"

Each try disturbs a table of two rows as it is trained by a call of its own, gives the same command
again, and compares: nothing finished is *lost*, no number is *wrong*, and it *survived* where also
what was said is a sentence and the table comes out byte for byte as undisturbed. Which moments,
bytes and images are hit follows from the seed, but for how far a call is at a moment. Tries are
kept in faults.rows.jsonl beside the record to be: the same command goes on after them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from benchmarks import disturbed
from benchmarks.disturbed import Campaign, Try, UntriedError
from benchmarks.kept_rows import KeptRows
from benchmarks.record import Benchmark, Clock, Figure, table_of

#: tries whose story is kept in the record, a fault; of those that did not survive, always
KEPT = 20
#: of the table, after the fault: as a row of the record names its counts
COLUMNS = ("fault", "tried", "survived", "lost", "wrong")


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    title: str
    #: how often it is tried; None: at every place, a quick one
    tries: int | None
    one: Callable[[Campaign, Random], Try] | None = None
    many: Callable[[Campaign, Random, int | None], Iterator[Try]] | None = None

    def each(
        self, campaign: Campaign, seed: str, tries: int | None, kept: KeptRows
    ) -> Iterator[Try]:
        """Every try, from random numbers of its own; one of an earlier call's is not tried again.

        Raises:
            UntriedError: it cannot be brought about here.
        """
        if self.many is not None:
            yield from self.many(campaign, Random(seed), tries)
            return
        assert self.one is not None
        assert self.tries is not None
        for number in range(self.tries if tries is None else min(tries, self.tries)):
            name = f"{seed} {number}"
            if (earlier := kept.of(name)) is not None:
                yield Try(**earlier | {"problems": tuple(earlier["problems"])})
                continue
            try:
                outcome = self.one(campaign, Random(name))
            except (AssertionError, subprocess.TimeoutExpired) as error:  # waited in vain
                outcome = Try(f"try {number}", (f"{type(error).__name__}: {error}"[:300],))
            kept.add(name, asdict(outcome))
            yield outcome


FAULTS = {
    "kill": Fault("SIGKILL at a random moment, of all processes or one", 20, disturbed.kill),
    "sigterm": Fault("SIGTERM at a random moment", 4, disturbed.sigterm),
    "full disk: checkpoint": Fault(
        "a disk full at a checkpoint", 3, disturbed.full_at_a_checkpoint
    ),
    "full disk: record": Fault("a disk full at a record", 3, disturbed.full_at_a_record),
    "full disk: export": Fault("a disk full at an export", 3, disturbed.full_at_an_export),
    "cut": Fault("record, areas, checkpoint, index cut at every length", None, many=disturbed.cut),
    "flip": Fault("bits flipped in record, areas, checkpoint", None, many=disturbed.flip),
    "damaged result": Fault(
        "a record or its areas damaged before a call", 2, disturbed.damaged_result
    ),
    "damaged checkpoint": Fault(
        "a checkpoint damaged between two calls", 2, disturbed.damaged_checkpoint
    ),
    "clock": Fault(
        "the clock set back during a call, files of the future", 3, disturbed.clock_set_back
    ),
    "folder": Fault("a run's folder deleted while it trains", 3, disturbed.folder_deleted),
    "nan": Fault("a loss that is no number", 2, disturbed.not_a_number),
    "image": Fault("an image unreadable or exchanged in training", 5, disturbed.image_unreadable),
    "memory": Fault("memory exhausted in training", 2, disturbed.memory_exhausted),
    "callers": Fault("three callers on one folder", 2, disturbed.three_callers),
    "versions": Fault("two versions of the project on one folder", 2, disturbed.two_versions),
}


def tried(
    name: str, campaign: Campaign, seed: int, tries: int | None, kept: KeptRows | None = None
) -> dict[str, Any]:
    """One fault's row of the record."""
    kept = kept or KeptRows(None, "faults", {})
    fault, began = FAULTS[name], time.perf_counter()
    row: dict[str, Any] = {"fault": name, "title": fault.title}
    outcomes: list[Try] = []
    untried = ""
    try:
        for outcome in fault.each(campaign, f"{seed} {name}", tries, kept):
            outcomes.append(outcome)
            if fault.one is not None or not outcome.survived:
                _tell(name, outcome)
    except UntriedError as reason:
        untried = str(reason)
        print(f"{name}: not tried: {reason}", file=sys.stderr)
    told = [each for each in outcomes if not each.survived]
    if fault.one is not None:
        told = outcomes
    row |= {
        "tried": len(outcomes),
        "survived": sum(each.survived for each in outcomes),
        "lost": sum(each.lost for each in outcomes),
        "wrong": sum(each.wrong for each in outcomes),
        "not_tried": untried,
        "seconds": round(time.perf_counter() - began, 1),
        "tries": [{"note": each.note, "problems": list(each.problems)} for each in told[:KEPT]],
    }
    return row


def _tell(name: str, outcome: Try) -> None:
    word = "survived" if outcome.survived else "NOT SURVIVED"
    why = "".join(f"; {problem}" for problem in outcome.problems)
    numbers = (
        f" ({outcome.lost} lost, {outcome.wrong} wrong)" if outcome.lost + outcome.wrong else ""
    )
    print(f"{name}: {outcome.note}: {word}{numbers}{why}", file=sys.stderr, flush=True)


def figures(rows: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """The counts of each fault with their goals."""
    for row in rows:
        title, count = row["title"], float(row["tried"])
        yield Figure(name=f"{title}: tried", value=count, unit="tries", better="higher", goal=1.0)
        yield Figure(
            name=f"{title}: survived",
            value=row["survived"],
            unit="tries",
            better="higher",
            goal=count,
        )
        yield Figure(name=f"{title}: lost", value=row["lost"], unit="results", goal=0.0)
        yield Figure(name=f"{title}: wrong", value=row["wrong"], unit="numbers", goal=0.0)


def table(record: Benchmark) -> str:
    """Tried, survived, lost and wrong of each fault, as Markdown."""
    rows = []
    for row in record.details:
        counts = [row[key] for key in COLUMNS[1:]]
        rows.append([row["title"], *(f"{count:,}" if row["tried"] else "–" for count in counts)])
    return table_of(COLUMNS, rows)


def describe(
    names: Sequence[str],
    campaign: Campaign,
    seed: int,
    tries: int | None,
    clock: Clock,
    out: Path | None = None,
) -> Benchmark:
    """Try every named fault and make the record; what an earlier call has tried stays tried."""
    kept, rows = KeptRows(out, "faults", {"seed": seed}), []
    for name in names:
        whole = f"{name}, {'all' if tries is None else tries}"
        row = kept.of(whole)
        if row is None:
            row = tried(name, campaign, seed, tries, kept)
            kept.add(whole, row)
        rows.append(row)
    words = "" if tries is None else f" --tries {tries}"
    return Benchmark(
        benchmark="faults",
        part="" if len(names) == len(FAULTS) else "-".join(_plain(name) for name in names),
        title="What faults leave of a small table",
        command=f"./run_all.sh bench faults{words}",
        setting={"seed": seed, "tries": tries, "call_s": round(campaign.duration_s, 1)},
        machine=clock.machine(),
        figures=tuple(figures(rows)),
        details=rows,
    )


def _plain(name: str) -> str:
    return name.replace(": ", "_").replace(" ", "_")


def main(arguments: list[str] | None = None) -> None:
    """Run the campaign, print and write its counts; exit 1: something was not survived."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh bench faults", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument(
        "--only", action="append", choices=FAULTS, metavar="FAULT", help=", ".join(FAULTS)
    )
    parser.add_argument("--tries", type=int, help="of each fault, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder that faults.json is written to")
    given = parser.parse_args(arguments)
    clock, names = Clock(), given.only or list(FAULTS)
    print(f"seed {given.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="ssa-faults-", ignore_cleanup_errors=True) as folder:
        campaign = Campaign.made(Path(folder))
        print(f"undisturbed: {campaign.duration_s:.1f} s", file=sys.stderr)
        record = describe(names, campaign, given.seed, given.tries, clock, given.out)
    print(table(record), end="")
    if given.out:
        print(record.write(given.out))
        if not record.part:  # else the whole campaign takes them up
            KeptRows(given.out, "faults", {"seed": given.seed}).end()
    sys.exit(record.exit_code)


if __name__ == "__main__":
    main()
