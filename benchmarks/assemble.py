"""Seconds and memory that planning, assembling and exporting every table take with a large store.

    python -m benchmarks.assemble                      # 10,000 records, every one of them used
    python -m benchmarks.assemble --records 500 --out results/benchmarks

The records are synthetic: real specs of every row of the registry in one profile, with random areas
and a random curve, written through the real store into a temporary folder that is removed again.
Their host is named "synthetic". Nothing of them is ever put among results.

Two calls are measured, each in a process of its own, imports included. ``default`` takes the
profile's seeds, as ``./run_all.sh all`` does, and is held to the limits. ``every seed`` uses each
of the records, a hundred seeds a row, to show how the cost grows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.machine import module_command

if TYPE_CHECKING:  # a call's imports are part of what is measured
    from benchmarks.record import Benchmark, Clock

PROFILE = "quick"
LIMIT_S, LIMIT_MB = 20.0, 1000.0
HOST = "synthetic"
WRITERS = 16  # threads that fill the store
NUM_IMAGES = 64  # as the quick profile's validation split
PIXELS = 96 * 96


def make_request(results: Path, seeds: tuple[int, ...]) -> Any:
    """What ``./run_all.sh all`` would be called with."""
    from experiments.declare.load import load_registry
    from experiments.plan.request import Request
    from experiments.store.workspace import Workspace

    registry = load_registry()
    return Request(registry, registry.profile(PROFILE), seeds, Workspace(results=results), 1, "cpu")


def fill(results: Path, records: int) -> tuple[int, int]:
    """Write at least ``records`` synthetic records; returns their number and that of the seeds."""
    from experiments.plan.resolve import Blocked

    call = make_request(results, (0,))
    resolver, store = call.resolver, call.store
    specs: dict[str, Any] = {}
    for table in call.registry.tables.values():
        for row in table.rows:
            spec = resolver.resolve(table, row, 0)
            assert not isinstance(spec, Blocked), spec.reason
            specs[spec.run_id] = spec
    seeds = -(-records // len(specs))

    def write(job: tuple[int, Any, int]) -> None:
        index, spec, seed = job
        areas, raw = make_areas(index, seed, spec.num_classes)
        own = spec.model_copy(update={"seed": seed})
        store.write_record(make_record(own, areas, raw), raw)

    jobs = [(i, spec, s) for i, spec in enumerate(specs.values()) for s in range(seeds)]
    with ThreadPoolExecutor(WRITERS) as pool:  # each write waits for the disk
        list(pool.map(write, jobs))
    return len(store.run_ids()), seeds


def make_areas(index: int, seed: int, num_classes: int) -> tuple[Any, bytes]:
    """Random areas of one run: labels that all runs share, predictions of a skill of its own."""
    from experiments.store.areas import ImageAreas

    shared = np.random.default_rng([1, num_classes])
    labelled = shared.multinomial(
        PIXELS, shared.dirichlet(np.ones(num_classes)), size=NUM_IMAGES
    ).astype(np.int64)
    own = np.random.default_rng([2, index, seed])
    intersection = own.binomial(labelled, 0.5 + 0.3 * own.random())
    wrong = own.multinomial(1000, np.full(num_classes, 1 / num_classes), size=NUM_IMAGES)
    areas = ImageAreas(
        names=tuple(f"{image:05d}" for image in range(NUM_IMAGES)),
        intersection=intersection,
        predicted=intersection + wrong,
        labelled=labelled,
    )
    return areas, areas.to_bytes()


def make_record(spec: Any, areas: Any, raw: bytes) -> Any:
    """A whole record around synthetic areas."""
    from experiments.store.areas import per_class_iou, scores
    from experiments.store.provenance import code_digest, code_used
    from experiments.store.records import RECORD_VERSION, CurvePoint, Environment, Record, Timings

    final = scores(areas)
    interval, last = spec.evaluation.interval, spec.training.iterations
    digest = hashlib.sha256(raw).hexdigest()
    code = code_used([])
    return Record(
        version=RECORD_VERSION,
        run_id=spec.run_id,
        spec=spec,
        scores=final,
        per_class_iou=tuple(None if np.isnan(v) else float(v) for v in per_class_iou(areas)),
        class_names=tuple(f"class {k}" for k in range(spec.num_classes)),
        curve=tuple(
            CurvePoint(iteration=i, scores=final, losses={"ce": 1.0, "dice": 0.5, "total": 1.5})
            for i in range(interval, last + 1, interval)
        ),
        num_images=len(areas.names),
        per_image_sha256=digest,
        result_digest=digest,
        timings=Timings(train_s=20.0, evaluate_s=2.0, total_s=25.0, iteration_ms=50.0),
        peak_memory_mb=600.0,
        resumed_at=(),
        environment=Environment(
            host=HOST,
            platform=HOST,
            python=HOST,
            torch=HOST,
            packages={},
            device=HOST,
            threads=1,
            git_commit=None,
            git_dirty=None,
            code=code,  # of this process, so that looking for changes costs what it costs
            code_digest=code_digest(code),
        ),
        deviations=(HOST,),
        started="2000-01-01T00:00:00+00:00",
        finished="2000-01-01T00:00:25+00:00",
    )


def measure_here(results: Path, seeds: int, began: float) -> dict[str, Any]:
    """Plan, assemble and export every table in this process; seconds of each, peak memory."""
    from experiments.judge.tables import assembled
    from experiments.show.export import export

    call = make_request(results, tuple(range(seeds)))
    marks = {"import": time.perf_counter()}
    plan = call.plan(call.tables("all"))
    marks["plan"] = time.perf_counter()
    assert not plan.to_do, f"{len(plan.to_do)} of {len(plan.runs)} synthetic runs are not there"
    made = assembled(call, plan)
    marks["assemble"] = time.perf_counter()
    for result in made:
        assert result.complete
        export(result, results / "tables")
    marks["export"] = time.perf_counter()
    ends, starts = list(marks.values()), [began, *list(marks.values())[:-1]]
    took = {f"{name}_s": round(e - s, 2) for name, s, e in zip(marks, starts, ends)}
    return {
        "tables": len(made),
        "runs_used": len(plan.runs),
        "seeds": seeds,
        **took,
        "total_s": round(ends[-1] - began, 2),
        "processor_s": round(time.process_time(), 2),  # what a busy machine does not disturb
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def measure(results: Path, seeds: int) -> dict[str, Any]:
    """:func:`measure_here` in a fresh process."""
    words = ["--measure", str(results), "--seeds", str(seeds)]
    command = module_command("benchmarks.assemble", *words)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def describe(measured: dict[str, dict[str, Any]], records: int, clock: Clock) -> Benchmark:
    """The benchmark's record."""
    from benchmarks.record import Benchmark, Figure

    usual, every = measured["default"], measured["every seed"]
    return Benchmark(
        benchmark="assemble",
        title=f"All tables from a store of {records} records",
        command="./run_all.sh bench assemble",
        setting={"records": records, "profile": PROFILE},
        machine=clock.machine(),
        figures=(
            Figure(name="a call", value=usual["total_s"], unit="s", goal=LIMIT_S),
            Figure(name="a call, memory", value=usual["peak_memory_mb"], unit="MB", goal=LIMIT_MB),
            Figure(name="a call with every seed", value=every["total_s"], unit="s"),
        ),
        details=measured,
    )


def main() -> None:
    """Fill a store, measure, print, write ``assemble.json`` with --out; exit 1: over a limit."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--records", type=int, default=10_000, help="at least so many records")
    parser.add_argument("--out", type=Path, help="folder that assemble.json is written to")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure_here(given.measure, given.seeds, began)))
        return
    from benchmarks.record import Clock

    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="ssa-synthetic-") as folder:
        results = Path(folder) / "results"
        print(f"writing {given.records} synthetic records to {results}", file=sys.stderr)
        records, seeds = fill(results, given.records)
        # the counts of networks are kept between calls; the first call makes them
        count_all(results)
        usual = len(range(make_request(results, (0,)).profile.seeds))
        measured = {
            "default": measure(results, min(usual, seeds)),
            "every seed": measure(results, seeds),
        }
    record = describe(measured, records, clock)
    print(record.model_dump_json(indent=1))
    if given.out:
        record.write(given.out)
    sys.exit(record.exit_code)


def count_all(results: Path) -> None:
    """Count every network once, in a process of its own."""
    words = ["all", "--only", "complexity", "--results", str(results)]
    command = module_command("experiments", *words)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
