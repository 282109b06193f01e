"""What a classifier costs: training step, inference and peak memory against a plain softmax.

    python -m benchmarks.classifier --out results/benchmarks

The yardstick, ``plain``, is a 1×1 convolution whose logits go through torch's own ``interpolate``
and ``cross_entropy``. Every classifier in the registry is timed in the same run, interleaved round
by round, so that a busy machine slows all of them; a ratio is the median over the rounds of the
time divided by that round's ``plain``. Peak memory is measured in one process a classifier and
phase: the growth of the resident set (CPU) or of the allocated memory (CUDA) over inputs and
parameters.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.compare import number, words
from benchmarks.record import Benchmark, Clock, Figure
from experiments.machine import module_command
from ssa.classifiers import CLASSIFIERS, build_classifier
from ssa.classifiers.dnc_config import DncConfig
from ssa.classifiers.protoseg_config import ProtoSegConfig

PLAIN = "plain"
PHASES = ("training", "inference")


@dataclass(frozen=True)
class Setting:
    """The sizes of a measurement; the defaults are those of issue 3's targets."""

    #: B
    images: int = 4
    #: D
    channels: int = 192
    #: K
    classes: int = 150
    #: side of the feature map
    feature_size: int = 64
    #: side of the label map
    label_size: int = 512
    #: CPU threads
    threads: int = 2
    #: interleaved rounds of the training step and of inference
    training_rounds: int = 9
    inference_rounds: int = 60
    device: str = "cpu"


@dataclass(frozen=True)
class Measurement:
    """One classifier in one phase; times of one step or one forward pass of the whole batch."""

    classifier: str
    phase: str
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    #: the least disturbed round
    fastest_ms: float
    #: median over rounds of time / plain's time in the same round
    ratio_to_plain: float
    #: processor time of all threads, less sensitive to what else runs (CPU only)
    median_cpu_ms: float | None
    #: growth of memory in the phase
    peak_memory_mib: float


class PlainSoftmax(nn.Module):
    """The yardstick: torch's own operations and nothing else."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv_seg(features)

    def loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = F.interpolate(
            self(features), size=labels.shape[2:], mode="bilinear", align_corners=False
        )
        return {"ce": F.cross_entropy(logits, labels[:, 0], ignore_index=255)}


def inputs(setting: Setting) -> tuple[Tensor, Tensor]:
    """Features, and labels in blocks of 16 pixels: nearly every class is in every image, the worst
    case for dice, whose work grows with the classes present."""
    generator = torch.Generator().manual_seed(0)
    size = setting.feature_size
    features = torch.randn(setting.images, setting.channels, size, size, generator=generator)
    blocks = -(-setting.label_size // 16)
    labels = torch.randint(
        0, setting.classes, (setting.images, 1, blocks, blocks), generator=generator
    )
    labels = labels.repeat_interleave(16, 2).repeat_interleave(16, 3)
    labels = labels[:, :, : setting.label_size, : setting.label_size].contiguous()
    return features.to(setting.device), labels.to(setting.device)


def build(name: str, setting: Setting) -> nn.Module:
    torch.manual_seed(0)
    if name == PLAIN:
        return PlainSoftmax(setting.channels, setting.classes).to(setting.device)
    return build_classifier(name, setting.channels, setting.classes).to(setting.device)


def step_of(name: str, phase: str, setting: Setting) -> Callable[[], None]:
    """One training step (forward, losses, gradients of features and parameters) or one inference
    of the deployed form."""
    features, labels = inputs(setting)
    classifier = build(name, setting)
    if phase == "training":
        classifier.train()

        def train() -> None:
            classifier.zero_grad()
            leaf = features.detach().requires_grad_()
            torch.stack(list(classifier.loss(leaf, labels).values())).sum().backward()  # type: ignore[operator]

        return train
    deployed = classifier if name == PLAIN else classifier.deploy()  # type: ignore[operator]
    deployed.eval()

    def infer() -> None:
        with torch.inference_mode():
            deployed(features)

    return infer


def synchronise(setting: Setting) -> None:
    if setting.device.startswith("cuda"):
        torch.cuda.synchronize()


def time_phase(
    names: list[str], phase: str, setting: Setting
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds and processor seconds of every round, by classifier."""
    steps = {name: step_of(name, phase, setting) for name in names}
    rounds = setting.training_rounds if phase == "training" else setting.inference_rounds
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    for step in steps.values():
        step()  # builds kernels and caches
    for _ in range(rounds):
        for name, step in steps.items():
            synchronise(setting)
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            synchronise(setting)
            times[name][0].append(time.perf_counter() - wall)
            times[name][1].append(time.process_time() - cpu)
    return times


def memory_of(name: str, phase: str, setting: Setting) -> float:
    """Peak growth in MiB during one phase, in this process; call it in one of its own."""
    torch.set_num_threads(setting.threads)
    tiny = Setting(**{**asdict(setting), "images": 1, "feature_size": 8, "label_size": 32})
    step_of(name, phase, tiny)()  # libraries, kernels, thread pools
    step = step_of(name, phase, setting)
    if setting.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    resident = _reset_peak()
    step()
    step()
    return (_peak() - resident) / 2**20


def _reset_peak() -> float:
    """Bytes resident now; on Linux the recorded peak starts again from here."""
    # Where it is refused the peak counts from the process's start, which can only overstate.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak()


def _peak() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        factor = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor


def _memory_in_a_process(name: str, phase: str, setting: Setting) -> float:
    command = module_command("benchmarks.classifier", "--memory-of", name, phase)
    output = subprocess.run(
        [*command, "--setting", json.dumps(asdict(setting))],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    ).stdout
    return float(output.splitlines()[-1])


def run(
    out_dir: str | Path,
    device: str = "cpu",
    *,
    classifiers: list[str] | None = None,
    setting: Setting | None = None,
    with_goals: bool = False,
) -> Benchmark:
    """Measure, print a table, and write ``classifier_{cpu|cuda}.json`` and ``.md``.

    Args:
        out_dir: folder for the two files.
        device: ``cpu`` or ``cuda``; it overrides the setting's.
        classifiers: names to measure beside ``plain``; None is the whole registry.
        setting: sizes and rounds.
        with_goals: also measure :func:`goals` and write them into the record (CPU only).

    Returns:
        What was written.
    """
    setting = Setting(**{**asdict(setting or Setting()), "device": device})
    names = [PLAIN, *(classifiers or CLASSIFIERS)]
    threads = torch.get_num_threads()
    torch.set_num_threads(setting.threads)
    clock = Clock(torch.cuda.get_device_name() if device.startswith("cuda") else "")
    try:
        times = {phase: time_phase(names, phase, setting) for phase in PHASES}
    finally:
        torch.set_num_threads(threads)
    rows = []
    for phase, of_phase in times.items():
        plain = of_phase[PLAIN][0]
        for name, (wall, cpu) in of_phase.items():
            lower, median, upper = statistics.quantiles(wall, n=4)
            rows.append(
                Measurement(
                    classifier=name,
                    phase=phase,
                    median_ms=1e3 * median,
                    lower_quartile_ms=1e3 * lower,
                    upper_quartile_ms=1e3 * upper,
                    fastest_ms=1e3 * min(wall),
                    ratio_to_plain=statistics.median(a / b for a, b in zip(wall, plain)),
                    median_cpu_ms=1e3 * statistics.median(cpu) if device == "cpu" else None,
                    peak_memory_mib=_memory_in_a_process(name, phase, setting),
                )
            )
    promised = goals() if with_goals and device == "cpu" else []
    kind = torch.device(device).type
    record = Benchmark(
        benchmark="classifier",
        part=kind,
        title=f"One classifier alone beside a plain softmax ({kind})",
        command="./run_all.sh bench classifier" + (" --goals" if promised else ""),
        setting=asdict(setting) | {"losses": _execution(device)},
        machine=clock.machine(),
        figures=(*promised, *_figures(rows)),
        details=[asdict(row) for row in rows],
    )
    record.write(Path(out_dir))
    show(rows, setting)
    for figure in promised:
        Console().print(f"{words(figure)}: {number(figure)} (goal {figure.goal:g})")
    return record


def _figures(rows: list[Measurement]) -> Iterator[Figure]:
    for row in rows:
        name = f"{row.classifier}, {row.phase}"
        if row.classifier != PLAIN:
            yield Figure(name=name, value=row.ratio_to_plain, unit="×", beside=PLAIN)
    for row in rows:
        name = f"{row.classifier}, {row.phase}"
        yield Figure(
            name=name,
            value=row.median_ms,
            unit="ms",
            low=row.lower_quartile_ms,
            high=row.upper_quartile_ms,
        )
        yield Figure(name=f"{name}, peak memory", value=row.peak_memory_mib, unit="MiB")


def goals(rounds: int = 15) -> list[Figure]:
    """Inference and the losses without a compiler against their goals (docs/performance.md)."""
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for images, size, goal in ((4, 64, 4.4), (1, 64, 4.6), (1, 128, 4.6)):
                rivals = [name for name in CLASSIFIERS if name not in ("ssa", "softmax")]
                names = [PLAIN, "ssa", *(rivals if images == 4 else [])]
                setting = Setting(images=images, feature_size=size, inference_rounds=rounds)
                times = time_phase(names, "inference", setting)
                where = f"B={images}, {size}×{size}, {threads} threads"
                for name in names[1:]:
                    figure = _ratio(
                        f"inference of {name}, {where}",
                        times[name][0],
                        times[PLAIN][0],
                        beside=PLAIN,
                        goal=goal if name == "ssa" else 10.0,
                    )
                    floor = _floor(name, setting)
                    results.append(figure.model_copy(update=floor))
            results.append(_fallback_goal(threads, max(rounds // 3, 2)))
    finally:
        torch.set_num_threads(before)
    return results


def _floor(name: str, setting: Setting) -> dict[str, Any]:
    """The multiplications of a classifier's inference over those of the plain product N×D×K."""
    floors = {
        "ssa": (4.0, "four products of one size"),
        "dnc": (
            float(DncConfig().centroids_per_class),
            "one product with all centroids of all classes",
        ),
        "protoseg": (
            ProtoSegConfig().prototypes_per_class + 2 * setting.channels / setting.classes,
            "one product with all prototypes of all classes, after a projection by two D×D layers",
        ),
    }
    if name not in floors:
        return {}
    return {"floor": round(floors[name][0], 2), "floor_reason": floors[name][1]}


def _ratio(name: str, of: list[float], by: list[float], **more: Any) -> Figure:
    return Figure.of(name, [a / b for a, b in zip(of, by)], "×", **more)


def _fallback_goal(threads: int, rounds: int) -> Figure:
    """The training step of SSA-Seg in plain PyTorch against that with the C kernel."""
    step = step_of("ssa", "training", Setting())
    times: dict[str, list[float]] = {"0": [], "1": []}
    before = os.environ.get("SSA_NATIVE")
    try:
        for turn in range(rounds + 1):
            for native, taken in times.items():
                os.environ["SSA_NATIVE"] = native
                start = time.perf_counter()
                step()
                if turn:  # the first round builds kernels and caches
                    taken.append(time.perf_counter() - start)
    finally:
        os.environ.pop("SSA_NATIVE")
        if before is not None:
            os.environ["SSA_NATIVE"] = before
    name = f"training step of ssa without a compiler, {threads} threads"
    return _ratio(name, times["0"], times["1"], beside="the same with the C kernel", goal=3.0)


def _execution(device: str) -> str:
    from ssa.losses.native import kernel_library

    return "C kernel" if device == "cpu" and kernel_library() is not None else "PyTorch bands"


_COLUMNS = ("classifier", "phase", "median ms", "IQR ms", "fastest", "× plain", "peak MiB")


def _cells(row: Measurement) -> tuple[str, ...]:
    return (
        row.classifier,
        row.phase,
        f"{row.median_ms:.1f}",
        f"{row.lower_quartile_ms:.1f}–{row.upper_quartile_ms:.1f}",
        f"{row.fastest_ms:.1f}",
        f"{row.ratio_to_plain:.2f}",
        f"{row.peak_memory_mib:.0f}",
    )


def _title(setting: Setting) -> str:
    return (
        f"B={setting.images}, D={setting.channels}, K={setting.classes}, features "
        f"{setting.feature_size}², labels {setting.label_size}², {setting.device}, "
        f"{setting.threads} CPU threads"
    )


def show(rows: list[Measurement], setting: Setting) -> None:
    """The table on the terminal."""
    table = Table(title=_title(setting))
    for place, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if place < 2 else "right")
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's head."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classifier")
    parser.add_argument("--out", default="results/benchmarks")
    parser.add_argument("--device", default=None, help="cpu, cuda; default: cpu and, if any, cuda")
    parser.add_argument("--classifiers", nargs="*", choices=list(CLASSIFIERS))
    parser.add_argument("--threads", type=int, default=Setting.threads)
    parser.add_argument(
        "--goals", action="store_true", help="also measure the ratios of docs/performance.md"
    )
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        name, phase = options.memory_of
        print(memory_of(name, phase, Setting(**json.loads(options.setting))))
        return
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in [options.device] if options.device else devices:
        run(
            options.out,
            device,
            classifiers=options.classifiers,
            setting=Setting(threads=options.threads),
            with_goals=options.goals,
        )


if __name__ == "__main__":
    main()
