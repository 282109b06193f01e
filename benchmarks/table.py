"""Seconds that a table takes here and at another commit of this checkout, in turn.

    ./run_all.sh bench table --before COMMIT                  # table8, quick, three seeds
    ./run_all.sh bench table --before COMMIT --item table3 --seeds 1

Both sides train every run of the table anew, on the same packages and into empty folders. They take
turns seed by seed, so that a busy machine slows both, and what each measured of each run is kept:
the faster side must find the same numbers but for the noise of seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.record import Benchmark, Clock, Figure
from experiments.machine import PROJECT

GOAL = 1.4
_START = "import runpy; runpy.run_module('experiments', run_name='__main__', alter_sys=True)"


@dataclass
class Side:
    """One checkout and what was measured there."""

    name: str
    checkout: Path
    results: Path
    clock_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    def train(self, item: str, profile: str, seeds: int) -> None:
        """Make what the first ``seeds`` seeds of the table still lack.

        Raises:
            SystemExit: the call failed.
        """
        words = [item, "--profile", profile, "--seeds", str(seeds), "--results", str(self.results)]
        start = self.checkout / "experiments" / "start.py"
        command = [sys.executable, "-W", "ignore"]
        # older commits have no start.py
        command += [str(start), "experiments"] if start.exists() else ["-c", _START]
        environment = os.environ | {"PYTHONPATH": str(self.checkout)}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(
            [*command, *words],
            cwd=self.checkout,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise SystemExit(f"Error: {self.name}: {done.stderr.strip()[-500:]}")
        self.clock_s.append(time.perf_counter() - began)
        self.processor_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    def scores(self) -> dict[str, list[float]]:
        """The mIoU of each row's runs, in percent; a row is a run's settings but for the seed."""
        rows: dict[str, dict[int, float]] = {}
        for path in sorted((self.results / "runs").glob("*/record.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            spec = record["spec"]
            classifier = {"model": spec["model"], **spec["classifier"]}
            name = json.dumps(classifier, sort_keys=True)
            rows.setdefault(name, {})[spec["seed"]] = record["scores"]["miou"]
        return {name: [runs[seed] for seed in sorted(runs)] for name, runs in rows.items()}


def measure(before: Side, after: Side, item: str, profile: str, seeds: int) -> None:
    """Train both sides in turn, a seed at a time; which of them begins alternates."""
    for seed in range(seeds):
        sides = (before, after) if seed % 2 == 0 else (after, before)
        for side in sides:
            side.train(item, profile, seed + 1)
            print(f"seed {seed} {side.name}: {side.clock_s[-1]:.0f} s", file=sys.stderr)


def describe(before: Side, after: Side, given: argparse.Namespace, clock: Clock) -> Benchmark:
    """The benchmark's record."""
    scores = {side.name: list(side.scores().values()) for side in (before, after)}
    medians = [sorted(map(statistics.median, rows)) for rows in scores.values()]
    mean = [statistics.fmean(median) for median in medians]
    num_runs = sum(map(len, scores[after.name]))
    here = f"{given.item}, {num_runs} runs"
    return Benchmark(
        benchmark="table",
        part=f"{given.item}_{given.profile}",
        title=f"{given.item} in the {given.profile} profile beside an older commit",
        command=f"./run_all.sh bench table --item {given.item} --before {given.before}",
        setting={
            "item": given.item,
            "profile": given.profile,
            "seeds": given.seeds,
            "before": given.before,
        },
        machine=clock.machine(),
        figures=(
            Figure(
                name=f"{here}, speed",
                value=sum(before.clock_s) / sum(after.clock_s),
                unit="×",
                beside=before.name,
                better="higher",
                goal=GOAL,
            ),
            Figure(name=f"{here}, wall clock", value=sum(after.clock_s), unit="s"),
            Figure(name=f"{before.name}, wall clock", value=sum(before.clock_s), unit="s"),
            Figure(name=f"{here}, processor", value=sum(after.processor_s), unit="s"),
            Figure(name=f"{before.name}, processor", value=sum(before.processor_s), unit="s"),
            Figure(name=f"{here}, mean of the rows' medians", value=mean[1], unit="mIoU"),
            Figure(name=f"{before.name}, mean of the rows' medians", value=mean[0], unit="mIoU"),
        ),
        details={
            "clock_s": {side.name: side.clock_s for side in (before, after)},
            "miou": {side.name: side.scores() for side in (before, after)},
        },
    )


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's head. Exit 1: the goal is missed."""
    parser = argparse.ArgumentParser(prog="./run_all.sh bench table")
    parser.add_argument("--before", required=True, metavar="COMMIT", help="of this checkout")
    parser.add_argument("--item", default="table8", help="a table")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    given = parser.parse_args(arguments)
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="ssa-table-") as folder:
        older = Path(folder) / "before"
        worktree(older, given.before)
        try:
            before = Side(f"commit {given.before}", older, Path(folder) / "results-before")
            after = Side("here", PROJECT, Path(folder) / "results-here")
            measure(before, after, given.item, given.profile, given.seeds)
            record = describe(before, after, given, clock)
        finally:
            git("worktree", "remove", "--force", str(older))
    print(record.model_dump_json(indent=1, include={"figures"}))
    print(f"Written: {record.write(given.out)}")
    sys.exit(record.exit_code)


def worktree(folder: Path, commit: str) -> None:
    """Check ``commit`` out into ``folder``.

    Raises:
        SystemExit: this is no git checkout or has no such commit.
    """
    done = git("worktree", "add", "--detach", str(folder), commit)
    if done.returncode != 0:
        raise SystemExit(
            f"Error: cannot check out {commit}: {done.stderr.strip()[-300:]} The benchmark needs a "
            "clone with its history (git fetch --unshallow)."
        )


def git(*words: str) -> subprocess.CompletedProcess[str]:
    """Git in this checkout."""
    command: list[Any] = ["git", "-C", PROJECT, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
