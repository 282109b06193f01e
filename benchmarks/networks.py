"""A training step of whole networks: SSA-Seg, the same network with softmax, mmsegmentation's head.

    ./run_all.sh bench networks                        # every network of Table 1
    ./run_all.sh bench networks seaformer_l segnext_t --rounds 7

Two images of 512×512 with 150 classes, forward and backward, no optimiser. The three take turns in
one process; what counts is the ratio of neighbours. mmsegmentation's own head is the network's
decode head with its ``conv_seg`` and its cross-entropy at full size.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from benchmarks.compare import number, words
from benchmarks.record import Benchmark, Clock, Figure
from experiments.declare.load import load_registry
from ssa.errors import SsaError
from ssa.models import BASELINE_CLASSIFIER, build_segmentor

NUM_CLASSES = 150
GOAL = 1.10
SSA, SOFTMAX, MMSEGMENTATION = "ssa", "softmax", "mmsegmentation's head"


def variants(card: Mapping[str, Any], size: str, num_classes: int) -> dict[str, nn.Module]:
    """The networks to be compared, in training mode, with equal trunks."""
    networks: dict[str, nn.Module] = {}
    for name in (SSA, BASELINE_CLASSIFIER):
        torch.manual_seed(0)
        networks[name] = build_segmentor(
            card, classifier={"name": name}, num_classes=num_classes, size=size
        )
    plain = copy.deepcopy(networks[BASELINE_CLASSIFIER])
    _unwrap(plain, num_classes)
    networks[MMSEGMENTATION] = plain
    return {name: network.train() for name, network in networks.items()}


def _unwrap(network: Any, num_classes: int) -> None:
    """Give a network its decode head back as mmsegmentation trains it: convolution and loss."""
    cascade = isinstance(network.decode_head, nn.ModuleList)
    wrapped = network.decode_head[-1] if cascade else network.decode_head
    head, classifier = wrapped.decode_head, wrapped.classifier
    head.conv_seg = nn.Conv2d(classifier.channels, num_classes, kernel_size=1)
    if head.dropout_ratio > 0:
        head.dropout = nn.Dropout2d(head.dropout_ratio)
    if cascade:
        network.decode_head[-1] = head
    else:
        network.decode_head = head


def step(network: nn.Module, images: torch.Tensor, samples: list[SegDataSample]) -> float:
    """Seconds of one forward and backward pass."""
    network.zero_grad(set_to_none=True)
    began = time.perf_counter()
    losses = network(images, samples, mode="loss")
    total = torch.stack(
        [value.sum() for name, value in losses.items() if "loss" in name or value.requires_grad]
    ).sum()
    total.backward()
    return time.perf_counter() - began


def measure(
    card: Mapping[str, Any],
    *,
    rounds: int,
    size: int,
    batch: int,
    model_size: str = "paper",
    num_classes: int = NUM_CLASSES,
) -> dict[str, list[float]]:
    """Seconds of a training step, each variant in each round; the order alternates."""
    networks = variants(card, model_size, num_classes)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, size, size, generator=generator)
    place = {"img_shape": (size, size), "ori_shape": (size, size), "pad_shape": (size, size)}
    samples = []
    for _ in range(batch):
        sample = SegDataSample(metainfo=place)
        blocks = torch.randint(0, num_classes, (1, size // 32, size // 32), generator=generator)
        label = blocks.repeat_interleave(32, 1).repeat_interleave(32, 2)
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(rounds + 1):
        order = list(networks) if turn % 2 else list(reversed(networks))
        for name in order:
            taken = step(networks[name], images, samples)
            if turn:  # the first one fills caches
                seconds[name].append(taken)
    return seconds


def figures(model: str, seconds: Mapping[str, Sequence[float]]) -> Iterator[Figure]:
    """Ratios and milliseconds of one network."""

    def ratio(over: str, beside: str, **more: Any) -> Figure:
        rounds = [a / b for a, b in zip(seconds[over], seconds[beside], strict=True)]
        return Figure.of(f"{model} {over}", rounds, "×", beside=f"{model} {beside}", **more)

    yield ratio(SSA, SOFTMAX, goal=GOAL)
    yield ratio(SSA, MMSEGMENTATION)
    for name, rounds in seconds.items():
        yield Figure.of(f"{model} {name}", [1e3 * value for value in rounds], "ms")


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the module's head. Exit 1: a goal is missed."""
    registry = load_registry()
    rows = registry.table("table1").rows
    known = list(dict.fromkeys(row.model for row in rows if row.model))
    parser = argparse.ArgumentParser(prog="./run_all.sh bench networks")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: those of Table 1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=512, help="side of the images, pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--model-size", default="paper", help="paper, or a smaller one of the card")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    given = parser.parse_args(arguments)
    clock, measured = Clock(), {}
    try:
        for name in given.models or known:
            card = registry.model(name).model_dump()
            measured[name] = measure(
                card,
                rounds=given.rounds,
                size=given.size,
                batch=given.batch,
                model_size=given.model_size,
            )
            for figure in figures(name, measured[name]):
                print(f"{words(figure)}: {number(figure)}", flush=True)
    except SsaError as error:
        raise SystemExit(f"Error: {error}") from None
    record = Benchmark(
        benchmark="networks",
        part="cpu",
        title="A training step of whole networks",
        command="./run_all.sh bench networks",
        setting={
            "size": given.size,
            "batch": given.batch,
            "num_classes": NUM_CLASSES,
            "rounds": given.rounds,
            "model_size": given.model_size,
            "threads": torch.get_num_threads(),
        },
        machine=clock.machine(),
        figures=tuple(f for name, seconds in measured.items() for f in figures(name, seconds)),
        details=measured,
    )
    print(f"Written: {record.write(given.out)}")
    sys.exit(record.exit_code)


if __name__ == "__main__":
    main()
