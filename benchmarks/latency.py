"""Inference latency of networks, baseline and SSA-Seg side by side.

    ./run_all.sh bench latency seaformer_l upernet_swin_t
    ./run_all.sh bench latency segnext_t --classifier cac
    ./run_all.sh bench latency yoso_r50 pem_r50 --against cgrseg_b
    python -m benchmarks.latency seaformer_l --out results/benchmarks

One image of 512×512, 150 classes, the deployed network (no teacher, no auxiliary head) from image
to logits at its output stride. Baseline and method run in turn, so that a busy machine slows both;
what is compared with the paper is the ratio, for its milliseconds are a V100's. Weights are random:
none of these networks computes less for other values.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.record import Benchmark, Clock, Figure
from experiments.declare.load import load_registry
from experiments.machine import cpu_name
from ssa.classifiers import PixelClassifier
from ssa.errors import ConfigurationError, SsaError, UnknownNameError
from ssa.models import BASELINE_CLASSIFIER, NO_CLASSIFIER, build_segmentor

#: what is held against the baseline
METHOD_CLASSIFIER = "ssa"
NUM_CLASSES = 150
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Spread(BaseModel):
    """Median and quartiles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: float
    lower_quartile: float
    upper_quartile: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        lower, median, upper = statistics.quantiles(values, n=4)
        return cls(median=median, lower_quartile=lower, upper_quartile=upper)


class Latency(BaseModel):
    """One network beside its baseline on one device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    #: the pixel classifier measured; "none" for a mask classifier
    classifier: str
    #: what it is measured against: model and classifier
    baseline: str
    #: side of the square input, pixels; classes; images at once
    size: int
    num_classes: int
    batch: int
    device: str
    dtype: str
    #: CPU threads
    threads: int
    rounds: int
    torch: str
    when: str
    #: load average of the machine before and after; above the threads, other work disturbed
    load: tuple[float, float]
    baseline_ms: Spread
    method_ms: Spread
    #: method over baseline, round by round
    ratio: Spread
    #: the paper's milliseconds (V100) and their ratio, None where it prints none
    reported_baseline_ms: float | None
    reported_method_ms: float | None
    reported_ratio: float | None


def deployed_network(
    card: Mapping[str, Any], classifier: str, *, num_classes: int, size: str = "paper"
) -> nn.Module:
    """The network as it would be shipped: no auxiliary head, the classifier's deployed form."""
    network = build_segmentor(
        card, classifier={"name": classifier}, num_classes=num_classes, size=size
    ).eval()
    network.auxiliary_head = None  # type: ignore[assignment]
    for module in network.modules():
        held = getattr(module, "classifier", None)
        if isinstance(held, PixelClassifier):
            module.classifier = held.deploy()
    return network


def timer(device: torch.device) -> Callable[[Callable[[], object]], float]:
    """A function that runs something once and gives the milliseconds that the device took."""
    if device.type != "cuda":

        def on_cpu(step: Callable[[], object]) -> float:
            start = time.perf_counter()
            step()
            return 1e3 * (time.perf_counter() - start)

        return on_cpu

    def on_gpu(step: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    return on_gpu


@torch.inference_mode()
def measure(
    card: Mapping[str, Any],
    *,
    classifier: str = METHOD_CLASSIFIER,
    against: Mapping[str, Any] | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    size: int = 512,
    batch: int = 1,
    warmup: int = 3,
    rounds: int = 20,
    model_size: str = "paper",
    num_classes: int = NUM_CLASSES,
) -> Latency:
    """Time baseline and method in turn.

    Args:
        card: a model file's content.
        classifier: the pixel classifier to measure; a mask classifier has none.
        against: the model file of the baseline; None: the same network with softmax.
        device: ``cpu``, ``cuda``, ``cuda:1``, ….
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        size: side of the square input, pixels.
        batch: images at once.
        warmup: untimed rounds.
        rounds: timed rounds, at least 2.
        model_size: the paper's network, or a smaller one of the card.
        num_classes: K.

    Raises:
        ConfigurationError: too few rounds, no such device or dtype, or a mask classifier without
            ``against``.
    """
    if rounds < 2:
        raise ConfigurationError(f"{rounds} rounds have no quartiles; give at least 2.")
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError("This machine shows no CUDA device; give --device cpu.")
    if against is None and _own(card, classifier) == NO_CLASSIFIER:
        raise ConfigurationError(
            f"{card['name']} is a mask classifier and has no softmax form to be measured against; "
            "name another network with --against MODEL."
        )
    where = torch.device(device)
    base = against or card
    sides = [(base, _own(base, BASELINE_CLASSIFIER)), (card, _own(card, classifier))]
    networks = [
        deployed_network(side, name, num_classes=num_classes, size=model_size).to(
            where, DTYPES[dtype]
        )
        for side, name in sides
    ]
    image = torch.randn(batch, 3, size, size, device=where, dtype=DTYPES[dtype])
    clock = timer(where)
    before = os.getloadavg()[0]
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(warmup + rounds):
        # every other round the other way round: neither always follows the other's caches
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for index in order:
            taken = clock(partial(networks[index], image, mode="tensor"))
            if number >= warmup:
                times[index].append(taken)
    reported = [reported_latency(str(side["name"]), name) for side, name in sides]
    return Latency(
        model=str(card["name"]),
        classifier=sides[1][1],
        baseline=f"{base['name']} {sides[0][1]}",
        size=size,
        num_classes=num_classes,
        batch=batch,
        device=device_name(where),
        dtype=dtype,
        threads=torch.get_num_threads(),
        rounds=rounds,
        torch=torch.__version__,
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        load=(before, os.getloadavg()[0]),
        baseline_ms=Spread.of(times[0]),
        method_ms=Spread.of(times[1]),
        ratio=Spread.of([method / baseline for baseline, method in zip(*times, strict=True)]),
        reported_baseline_ms=reported[0],
        reported_method_ms=reported[1],
        reported_ratio=reported[1] / reported[0] if reported[0] and reported[1] else None,
    )


def _own(card: Mapping[str, Any], classifier: str) -> str:
    """``classifier``, or none for a mask classifier."""
    return classifier if card.get("pixel_classifier", True) else NO_CLASSIFIER


def reported_latency(model: str, classifier: str) -> float | None:
    """The paper's milliseconds for a model with a classifier, None where it prints none."""
    rows = (row for table in load_registry().tables.values() for row in table.rows)
    printed = (
        row.reported.latency_ms
        for row in rows
        if row.model == model and row.classifier.name == classifier
    )
    return next((value for value in printed if value is not None), None)


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def show(results: Sequence[Latency]) -> None:
    """The table on the terminal."""
    first = results[0]
    table = Table(
        title=f"{first.size}×{first.size}, batch {first.batch}, {first.dtype}, {first.device}"
    )
    for column in ("model", "against", "its ms", "ms", "ratio", "quartiles", "paper's ratio"):
        table.add_column(column, justify="left" if column in ("model", "against") else "right")
    for one in results:
        table.add_row(
            f"{one.model} {one.classifier}",
            one.baseline,
            f"{one.baseline_ms.median:.1f}",
            f"{one.method_ms.median:.1f}",
            f"{one.ratio.median:.3f}",
            f"{one.ratio.lower_quartile:.3f}–{one.ratio.upper_quartile:.3f}",
            "—" if one.reported_ratio is None else f"{one.reported_ratio:.3f}",
        )
    Console().print(table)


def _measured(options: argparse.Namespace) -> Iterable[Latency]:
    registry = load_registry()
    against = registry.model(options.against).model_dump() if options.against else None
    for name in options.models:
        yield measure(
            registry.model(name).model_dump(),
            classifier=options.classifier,
            against=against,
            device=options.device,
            dtype=options.dtype,
            size=options.size,
            batch=options.batch,
            warmup=options.warmup,
            rounds=options.rounds,
        )


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's head."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names of model files")
    parser.add_argument("--out", default="results/benchmarks")
    parser.add_argument("--classifier", default=METHOD_CLASSIFIER, help="to be measured")
    parser.add_argument("--against", metavar="MODEL", help="baseline; default: with softmax")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default)
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--size", type=int, default=512, help="side of the input, pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    where = torch.device(options.device)
    clock = Clock(device_name(where) if where.type == "cuda" and torch.cuda.is_available() else "")
    try:
        results = list(_measured(options))
    except SsaError as error:
        raise SystemExit(f"Error: {error}") from None
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        _record(result, torch.device(options.device).type, clock).write(folder)
    show(results)


def _record(result: Latency, kind: str, clock: Clock) -> Benchmark:
    name = result.model
    if result.classifier not in (METHOD_CLASSIFIER, NO_CLASSIFIER):
        name += f"_{result.classifier}"
    method = f"{result.model} {result.classifier}"
    return Benchmark(
        benchmark="latency",
        part=f"{name}_{kind}_{result.dtype}",
        title=f"Inference of {method} beside {result.baseline}",
        command=f"./run_all.sh bench latency {result.model}",
        setting=result.model_dump(
            include={"size", "num_classes", "batch", "dtype", "threads", "rounds"}
        ),
        machine=clock.machine(),
        figures=(
            _figure(method, result.ratio, "×", beside=result.baseline),
            _figure(method, result.method_ms, "ms"),
            _figure(result.baseline, result.baseline_ms, "ms"),
        ),
        details=result.model_dump(),
    )


def _figure(name: str, spread: Spread, unit: str, beside: str = "") -> Figure:
    return Figure(
        name=name,
        value=spread.median,
        unit=unit,
        beside=beside,
        low=spread.lower_quartile,
        high=spread.upper_quartile,
    )


if __name__ == "__main__":
    main()
