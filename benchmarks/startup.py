"""Seconds until the quick verbs have answered: list, --help, the Tab key, plan, why and status.

    python -m benchmarks.startup
    python -m benchmarks.startup --repeats 20 --out results/benchmarks

Each call is a process of its own, as ``run_all.sh`` starts it once the environment stands. Held to
the limit is the processor time of ``list``, which a busy machine does not disturb; wall-clock time
stands beside it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.record import Benchmark, Clock, Figure
from experiments.machine import PROJECT, module_command

LIMIT_S = 0.6
SHIPPED = ["--results", str(PROJECT / "results" / "reference")]
CALLS: dict[str, tuple[list[str], dict[str, str]]] = {
    "list": (["list"], {}),
    "--help": (["--help"], {}),
    "Tab": (
        [],
        {
            "_RUN_ALL_SH_COMPLETE": "complete_bash",
            "COMP_CWORD": "2",
            "COMP_WORDS": "./run_all.sh plan table",
        },
    ),
    # of the shipped results; what they lack is made in a first call, which is not measured
    "plan": (["plan", "table8", *SHIPPED], {}),
    "why": (["why", "table8", "full", *SHIPPED], {}),
    "status": (["status", *SHIPPED], {}),
}


def measure(arguments: list[str], environment: dict[str, str], repeats: int) -> dict[str, Any]:
    """Median and least seconds of a call, by the clock and of the processor."""
    command = module_command("experiments", *arguments)
    clock: list[float] = []
    processor: list[float] = []
    for call in range(repeats + 1):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            command,
            cwd=PROJECT,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        if not call:
            continue  # the first one reads everything from the disk
        clock.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "total_s": round(statistics.median(clock), 3),
        "least_s": round(min(clock), 3),
        "processor_s": round(statistics.median(processor), 3),
    }


def main() -> None:
    """Measure, print, write ``startup.json`` with --out; exit 1: over the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=10, help="calls of each")
    parser.add_argument("--out", type=Path, help="folder that startup.json is written to")
    given = parser.parse_args()
    clock = Clock()
    measured = {name: measure(*call, given.repeats) for name, call in CALLS.items()}
    record = Benchmark(
        benchmark="startup",
        title="Seconds until the quick verbs have answered",
        command="./run_all.sh bench startup",
        setting={"repeats": given.repeats},
        machine=clock.machine(),
        figures=tuple(_figures(measured)),
        details=measured,
    )
    print(record.model_dump_json(indent=1))
    if given.out:
        record.write(given.out)
    sys.exit(record.exit_code)


def _figures(measured: dict[str, dict[str, Any]]) -> Iterator[Figure]:
    for name, seconds in measured.items():
        goal = LIMIT_S if name == "list" else None
        yield Figure(name=f"{name}, processor", value=seconds["processor_s"], unit="s", goal=goal)
        yield Figure(name=f"{name}, wall clock", value=seconds["total_s"], unit="s")


if __name__ == "__main__":
    main()
