"""How often the 95 % intervals of gains cover the truth, over a grid of what runs may be like.

    python -m benchmarks.coverage                          # minutes on one core
    python -m benchmarks.coverage --out results/benchmarks

Every draw makes paired gains whose truth is 0 and judges them with what tables call
(experiments.judge.spread). Seeds move a run's mIoU; images are drawn anew from those of shipped
runs, each of which is centred on what it scores on all of them, so that what an image does to all
runs, and what it does to each, are as they were measured. Without ``others`` nothing is borrowed.
With them six rows lend their deviation: one like the row's, like the baseline's, or 0.3 points,
which no row need resemble.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from experiments.judge.spread import half_width, image_variance, prior_of
from experiments.store.areas import ImageAreas, leave_one_out, mean_iou

Values = NDArray[np.float64]

LEAST = 0.94  # coverage at nominal 95 %
SEEDS = (2, 3, 5, 10, 20)
DEVIATIONS = ((0.3, 0.3), (1.2, 1.2), (4.0, 4.0), (4.0, 0.3), (0.3, 4.0))  # row, baseline; points
CORRELATIONS = (0.0, 0.4, 0.8)
TAILS = ("normal", "t4")
IMAGES = ("none", "scenes", "camvid")
LENDERS = ("none", "row's", "baseline's", "0.3 points")
NUM_LENDERS = 6
RUNS = 44  # of one data set whose images are drawn: both rows of the most seeds


class Pool:
    """What the choice of images does to runs.

    Args:
        areas: of different runs on the same N images.
        draws: how often N images are drawn, with replacement.
    """

    def __init__(self, areas: list[ImageAreas], draws: int, generator: np.random.Generator) -> None:
        num_images = len(areas[0].names)
        picks = generator.integers(0, num_images, size=(draws, num_images))
        self.shift = np.empty((draws, len(areas)))  # of the mIoU, points
        self.left_out = np.empty((draws, len(areas), num_images), dtype=np.float32)
        for number, run in enumerate(areas):
            union = run.union
            truth = float(mean_iou(run.intersection.sum(0), union.sum(0)))
            for draw, pick in enumerate(picks):
                one, other = run.intersection[pick], union[pick]
                self.shift[draw, number] = mean_iou(one.sum(0), other.sum(0)) - truth
                self.left_out[draw, number] = leave_one_out(one, other) - truth


def shipped(dataset: str, folder: Path) -> list[ImageAreas]:
    """Areas of shipped runs on one data set, all of the same images."""
    profile = "quick" if dataset == "scenes" else dataset
    areas = []
    for path in sorted(folder.glob(f"*-{dataset}-{profile}-*")):
        run = ImageAreas.load(path / "per_image.npz")
        if not areas or (run.names == areas[0].names and run.union.shape == areas[0].union.shape):
            areas.append(run)
    return areas[:RUNS]


def effects(
    tails: str, deviation: float, shape: tuple[int, int], generator: np.random.Generator
) -> Values:
    """What seeds do to a row, (draws, S) points."""
    if tails == "normal":
        return deviation * generator.standard_normal(shape)
    return deviation * generator.standard_t(4, shape) / np.sqrt(2.0)


def lent(
    deviation: float, rho: float, tails: str, common: Values, generator: np.random.Generator
) -> tuple[Values, Values]:
    """Variance and degrees of the prior of each draw, from rows that share the seeds' effect."""
    shape = (NUM_LENDERS, *common.shape)
    own = np.stack([effects(tails, 1.0, common.shape, generator) for _ in range(NUM_LENDERS)])
    rows = deviation * (np.sqrt(rho) * np.broadcast_to(common, shape) + np.sqrt(1 - rho) * own)
    rows = rows - rows.mean(-1, keepdims=True)  # as fit_prior takes out what the rows share
    share = 1.0 - 1.0 / NUM_LENDERS
    variances = (rows - rows.mean(0)).var(-1, ddof=1) / share
    return prior_of(variances.T, np.full(NUM_LENDERS, common.shape[1] - 1.0), share)


def covered(
    seeds: int,
    deviations: tuple[float, float],
    rho: float,
    tails: str,
    lender: str,
    pool: Pool | None,
    draws: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Share of the draws whose interval covers the gain, which is 0, and its median width."""
    shape = (draws, seeds)
    common = effects(tails, 1.0, shape, generator)
    row, baseline = (
        d * (np.sqrt(rho) * common + np.sqrt(1 - rho) * effects(tails, 1.0, shape, generator))
        for d in deviations
    )
    gains, images, num_images = row - baseline, np.zeros(draws), 1
    if pool is not None:
        runs = generator.permutation(pool.shift.shape[1])[: 2 * seeds]
        ours, theirs = runs[:seeds], runs[seeds:]
        at = generator.integers(0, len(pool.shift), size=draws)
        every = image_variance(pool.left_out[:, ours] - pool.left_out[:, theirs])
        gains = gains + pool.shift[at][:, ours] - pool.shift[at][:, theirs]
        images, num_images = every[at], pool.left_out.shape[-1]
    borrowed: tuple[Values, Values] | tuple[None, float] = (None, 1.0)
    if lender != "none":
        deviation = {"row's": deviations[0], "baseline's": deviations[1]}.get(lender, 0.3)
        variance, freedom = lent(deviation, rho, tails, common, generator)
        borrowed = (2.0 * variance / seeds, freedom)
    width = half_width(
        gains.var(1, ddof=1) / seeds, seeds, images, num_images, 0.05, borrowed[0], borrowed[1]
    )
    return float(np.mean(np.abs(gains.mean(1)) <= width)), float(2 * np.median(width))


def grid(images: tuple[str, ...] = IMAGES) -> Iterator[tuple[Any, ...]]:
    """Every cell: images, seeds, deviations, correlation, tails, lenders."""
    yield from itertools.product(images, SEEDS, DEVIATIONS, CORRELATIONS, TAILS, LENDERS)


def measure(draws: int, folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """One entry a cell of the grid."""
    generator = np.random.default_rng(seed)
    pools: dict[str, Pool | None] = {"none": None}
    for dataset in IMAGES[1:]:
        pools[dataset] = Pool(shipped(dataset, folder), min(draws, 600), generator)
    cells = []
    bar = tqdm(list(grid()), desc="coverage", unit="cell", disable=not sys.stderr.isatty())
    for images, seeds, deviations, rho, tails, lender in bar:
        cover, width = covered(
            seeds, deviations, rho, tails, lender, pools[images], draws, generator
        )
        cells.append(
            {
                "images": images,
                "seeds": seeds,
                "deviations": list(deviations),
                "correlation": rho,
                "tails": tails,
                "others": lender,
                "coverage": round(cover, 4),
                "median_width": round(width, 3),
            }
        )
    return cells


def worst(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Seeds → without and with others → the cell that covers least."""
    table: dict[str, Any] = {}
    for seeds in SEEDS:
        own = [cell for cell in cells if cell["seeds"] == seeds]
        table[str(seeds)] = {
            "alone": min((c for c in own if c["others"] == "none"), key=lambda c: c["coverage"]),
            "borrowing": min(
                (c for c in own if c["others"] != "none"), key=lambda c: c["coverage"]
            ),
        }
    return table


def describe(cells: list[dict[str, Any]], draws: int, took: float) -> dict[str, Any]:
    """The benchmark's record."""
    import platform

    from experiments.machine import cpu_count, cpu_name, git_commit

    commit, dirty = git_commit()
    return {
        "benchmark": "coverage",
        "nominal": 0.95,
        "least": LEAST,
        "draws_a_cell": draws,
        "took_s": round(took, 1),
        "device": cpu_name(),
        "processors": cpu_count(),
        "python": platform.python_version(),
        "git_commit": commit,
        "git_dirty": dirty,
        "load": list(os.getloadavg()),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "worst": worst(cells),
        "cells": cells,
    }


def main() -> None:
    """Measure, print the worst cells, write ``coverage.json`` with --out; exit 1: below LEAST."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--draws", type=int, default=4000, help="simulated tables a cell")
    parser.add_argument("--runs", type=Path, default=Path("results/reference/runs"))
    parser.add_argument("--out", type=Path, help="folder that coverage.json is written to")
    given = parser.parse_args()
    began = time.perf_counter()
    cells = measure(given.draws, given.runs)
    document = describe(cells, given.draws, time.perf_counter() - began)
    print(json.dumps(document["worst"], indent=1))
    if given.out:
        from experiments.files import write_atomically

        write_atomically(given.out / "coverage.json", json.dumps(document, indent=1) + "\n")
    # the worst of many cells is off by chance, by four standard errors at most
    noise = 4 * (LEAST * (1 - LEAST) / given.draws) ** 0.5
    sys.exit(int(min(cell["coverage"] for cell in cells) < LEAST - noise))


if __name__ == "__main__":
    main()
