"""How often intervals cover the truth and verdicts are false, over a grid of what runs may be like.

    ./run_all.sh bench coverage                            # minutes on one core
    python -m benchmarks.coverage --out results/benchmarks

Every draw makes a table's rows whose truth is known and judges them with what tables call
(experiments.judge.spread, experiments.judge.claims). Seeds move a run's mIoU; images are drawn anew
from those of shipped runs, each of which is centred on what it scores on all of them, so that what
an image does to all runs, and what it does to each, are as they were measured. Without ``others``
nothing is borrowed. With them six rows lend their deviation: one like the row's, like the
baseline's, or 0.3 points, which no row need resemble.

``gain``, ``share``, ``trend`` and ``reach`` count how often the interval holds the truth. ``best``
and ``together`` (six claims on one baseline, Holm) have the truth on the border, where a verdict is
most often false, and count how often there is none. ``within`` is the mirror image of ``best``:
with the truth on the margin the same draws decide both.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.record import Benchmark, Clock, Figure
from experiments.judge.claims import reach_interval
from experiments.judge.spread import half_width, image_variance, noise_between, prior_of
from experiments.judge.verdict import FALSE_ALARMS
from experiments.machine import PROJECT
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
POOL_DRAWS = 600
#: the worst of thousands of cells is so by chance: those below are measured anew, by so many more
DOUBTFUL, MORE = LEAST + 0.005, 16
CLAIMS = 6  # of the table whose verdicts are to hold together
SHARE = 0.5
PLACES = (0.0, 1.0, 2.0, 3.0)  # where the gains of a trend are taken
CROSSING = 0.4  # true mean share of the iterations
CURVE_DEVIATIONS = (0.01, 0.03, 0.1)  # of a crossing between seeds
EVALUATIONS = (5, 10, 20)  # of a training
RATE = 3.0  # how fast curves saturate


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    kind: str
    seeds: int
    deviations: tuple[float, ...]
    correlation: float = 0.0
    tails: str = "normal"
    images: str = "none"
    others: str = "none"
    evaluations: int = 0  # of reach


class Outcome(NamedTuple):
    """What the draws of a cell gave."""

    right: float  # share that covers the truth, or has no false verdict
    width: float  # median, of the interval; 0 where several are judged


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
    areas: list[ImageAreas] = []
    for path in sorted(folder.glob(f"*-{dataset}-{profile}-*")):
        run = ImageAreas.load(path / "per_image.npz")
        if not areas or (run.names == areas[0].names and run.union.shape == areas[0].union.shape):
            areas.append(run)
    if len(areas) < 2:
        raise SystemExit(
            f"Error: {folder} has no two runs of {profile} on {dataset} to draw images from. Name "
            "a folder that has with --runs."
        )
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


@dataclass(frozen=True)
class Contrasts:
    """Weighted sums of rows' mIoU whose truth is 0."""

    values: Values  # (C, draws), means over S seeds
    variance: Values  # (C, draws), of the means by the spread of seeds
    images: Values  # (C, draws), of the means by the choice of images
    num_seeds: int
    num_images: int
    lent: Values | None  # (C, draws)
    lent_freedom: Values | float

    def width(self, alpha: float = 0.05) -> Values:
        """(C, draws) half-widths, as tables have them."""
        arguments = (self.num_seeds, self.images, self.num_images, alpha)
        return half_width(self.variance, *arguments, self.lent, self.lent_freedom)

    def satterthwaite(self) -> Values:
        """(C, draws) half-widths by one t whose degrees are Satterthwaite's (1946)."""
        from scipy.special import stdtrit

        both = self.variance + self.images
        seeds = self.variance**2 / (self.num_seeds - 1)
        degrees = both**2 / (seeds + self.images**2 / max(self.num_images - 1, 1))
        return np.asarray(-stdtrit(degrees, 0.025) * np.sqrt(both))


def drawn(
    cell: Cell, weights: Values, pool: Pool | None, draws: int, generator: np.random.Generator
) -> Contrasts:
    """Contrasts of rows whose true mIoU are equal.

    Args:
        cell: of one deviation a row.
        weights: (C, R) of R rows.
        pool: of the images; None: they add nothing.
        draws: tables.
        generator: of the randomness.
    """
    shape, rho, count = (draws, cell.seeds), cell.correlation, weights.shape[1]
    common = effects(cell.tails, 1.0, shape, generator)
    own = np.stack([effects(cell.tails, 1.0, shape, generator) for _ in range(count)])
    rows = np.sqrt(rho) * common + np.sqrt(1 - rho) * own
    rows *= np.array(cell.deviations)[:, None, None]
    images, num_images = np.zeros((len(weights), draws)), 1
    if pool is not None:
        there = pool.shift.shape[1]
        needed = count * cell.seeds
        runs = np.concatenate([generator.permutation(there) for _ in range(-(-needed // there))])
        runs = runs[:needed].reshape(count, cell.seeds)
        at = generator.integers(0, len(pool.shift), size=draws)
        rows = rows + pool.shift[at][:, runs].transpose(1, 0, 2)
        num_images = pool.left_out.shape[-1]
        for number, contrast in enumerate(weights):
            used = np.flatnonzero(contrast)
            left_out = sum(contrast[row] * pool.left_out[:, runs[row]] for row in used)
            images[number] = image_variance(np.asarray(left_out))[at]
    values = np.einsum("cr,rds->cds", weights, rows)
    borrowed, freedom = None, np.float64(1.0)
    if cell.others != "none":
        deviations = {"row's": cell.deviations[0], "baseline's": cell.deviations[1]}
        variance, freedom = lent(
            deviations.get(cell.others, 0.3), rho, cell.tails, common, generator
        )
        borrowed = np.square(weights).sum(1)[:, None] * variance / cell.seeds
    spread = values.var(-1, ddof=1) / cell.seeds
    return Contrasts(values.mean(-1), spread, images, cell.seeds, num_images, borrowed, freedom)


def weights_of(kind: str) -> Values:
    """(C, R) weights of a kind's contrasts; the first row is the claim's, the second its baseline.

    That of ``share`` is part - SHARE x whole of a row, its control and its baseline; that of
    ``trend`` is the slope through the gains of four rows over their baselines.
    """
    if kind == "gain":
        return np.array([[1.0, -1.0]])
    if kind == "share":
        return np.array([[1.0 - SHARE, -1.0, SHARE]])
    if kind == "trend":
        away = np.array(PLACES) - np.mean(PLACES)
        slope = away / (away**2).sum()
        return np.stack([slope, -slope], 1).reshape(1, -1)
    num_others = CLAIMS if kind == "together" else 3
    others = -np.eye(num_others)
    return np.concatenate([np.ones((num_others, 1)), others], 1)


def judged(cell: Cell, pool: Pool | None, draws: int, generator: np.random.Generator) -> Outcome:
    """How often a cell's interval or verdict is right."""
    if cell.kind == "reach":
        return _reached(cell, draws, generator)
    weights = weights_of(cell.kind)
    contrasts = drawn(cell, weights, pool, draws, generator)
    if len(weights) == 1:
        width = contrasts.width()[0]
        right = np.abs(contrasts.values[0]) <= width
        return Outcome(float(right.mean()), float(2 * np.median(width)))
    # as experiments.judge.claims has it: all intervals beyond the border, or one beyond the other
    # way when widened for their number; Holm decides none of m iff none of them is at 0.05 / m
    wide = contrasts.width(0.05 / len(weights))
    if cell.kind == "together":
        false = (np.abs(contrasts.values) > wide).any(0)
    else:
        false = (contrasts.values > contrasts.width()).all(0)
        false |= (contrasts.values <= -wide).any(0)
    return Outcome(float(1 - false.mean()), 0.0)


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
    """Share of the draws whose interval of a gain covers it, and its median width."""
    cell = Cell("gain", seeds, deviations, rho, tails, others=lender)
    return judged(cell, pool, draws, generator)


def _reached(cell: Cell, draws: int, generator: np.random.Generator) -> Outcome:
    """Curves 1 - exp(-RATE t), scaled to reach the baseline's final mIoU at a seed's crossing."""
    shape = (draws, cell.seeds)
    crossing = CROSSING + effects(cell.tails, cell.deviations[0], shape, generator)
    crossing = np.maximum(crossing, 1e-3)
    at = np.arange(1, cell.evaluations + 1) / cell.evaluations
    curve = (1 - np.exp(-RATE * at)) / (1 - np.exp(-RATE * crossing[..., None]))
    first = np.where((curve >= 1).any(-1), (curve >= 1).argmax(-1), cell.evaluations)
    padded = np.concatenate([np.zeros((*shape, 1)), curve, np.full((*shape, 1), np.inf)], -1)
    ends = np.concatenate([[0.0], at, [np.inf]])
    before, after = (np.take_along_axis(padded, first[..., None] + k, -1)[..., 0] for k in (0, 1))
    low, high = ends[first], ends[first + 1]
    with np.errstate(invalid="ignore"):
        between = np.where(first == 0, high, high - (after - 1) / (after - before) * (high - low))
    interval = np.array([reach_interval(*seeds, 0.05) for seeds in zip(low, high, between)])
    right = (interval[:, 0] <= CROSSING) & (interval[:, 1] >= CROSSING)
    return Outcome(float(right.mean()), float(np.median(interval[:, 1] - interval[:, 0])))


def grid(images: Sequence[str] = IMAGES) -> Iterator[Cell]:
    """Every cell."""
    common = (SEEDS, DEVIATIONS, CORRELATIONS, TAILS, images)
    for *place, lender in itertools.product(*common, LENDERS):
        yield Cell("gain", *place, lender)
    for kind in ("share", "trend"):
        count = weights_of(kind).shape[1]
        for seeds, (row, baseline), *place in itertools.product(*common):
            deviations = (row, *(baseline for _ in range(count - 1)))
            yield Cell(kind, seeds, deviations, *place)
    for kind in ("best", "together"):
        count = weights_of(kind).shape[1]
        for *place, lender in itertools.product(*common, ("none", "row's")):
            seeds, (row, baseline), *more = place
            yield Cell(kind, seeds, (row, *(baseline,) * (count - 1)), *more, lender)
    for seeds, deviation, tails, number in itertools.product(
        SEEDS, CURVE_DEVIATIONS, TAILS, EVALUATIONS
    ):
        yield Cell("reach", seeds, (deviation,), tails=tails, evaluations=number)


def measure(draws: int, folder: Path, seed: int = 0) -> list[tuple[Cell, Outcome]]:
    """Every cell with what its draws gave."""
    generator = np.random.default_rng(seed)
    pools: dict[str, Pool | None] = {"none": None}
    for dataset in IMAGES[1:]:
        pools[dataset] = Pool(shipped(dataset, folder), min(draws, POOL_DRAWS), generator)
    bar = tqdm(list(grid()), desc="coverage", unit="cell", disable=not sys.stderr.isatty())
    cells = [(cell, judged(cell, pools[cell.images], draws, generator)) for cell in bar]
    return measured_again(cells, draws, folder, seed + 1)


def measured_again(
    cells: list[tuple[Cell, Outcome]], draws: int, folder: Path, seed: int
) -> list[tuple[Cell, Outcome]]:
    """The cells, those that are in doubt from draws of their own, MORE times as many."""
    generator = np.random.default_rng(seed)
    pools: dict[str, Pool | None] = {"none": None}
    for dataset in IMAGES[1:]:
        few = min(draws, POOL_DRAWS) * MORE // 4
        pools[dataset] = Pool(shipped(dataset, folder), few, generator)
    final = []
    for cell, outcome in tqdm(cells, desc="again", disable=not sys.stderr.isatty()):
        if outcome.right < DOUBTFUL:
            outcome = judged(cell, pools[cell.images], draws * MORE, generator)
        final.append((cell, outcome))
    return final


def rules(draws: int, folder: Path, seed: int = 0) -> dict[str, dict[str, float]]:
    """The two ways to add the variances of seeds and images, over gains that borrow nothing."""
    generator = np.random.default_rng(seed)
    pools = {each: Pool(shipped(each, folder), POOL_DRAWS, generator) for each in IMAGES[1:]}
    cells = [cell for cell in grid(IMAGES[1:]) if cell.kind == "gain" and cell.others == "none"]
    right: dict[str, list[float]] = {"squares": [], "satterthwaite": []}
    widths: dict[str, list[float]] = {"squares": [], "satterthwaite": []}
    for cell in cells:
        gains = drawn(cell, weights_of("gain"), pools[cell.images], draws, generator)
        both = {"squares": gains.width()[0], "satterthwaite": gains.satterthwaite()[0]}
        for name, width in both.items():
            right[name].append(float((np.abs(gains.values[0]) <= width).mean()))
            widths[name].append(float(np.median(width)))
    narrower = float(np.median(np.divide(widths["satterthwaite"], widths["squares"])))
    return {
        name: {"worst": round(min(values), 4), "cells_below": sum(v < LEAST for v in values)}
        for name, values in right.items()
    } | {"cells": {"count": len(cells), "median_width_ratio": round(narrower, 4)}}


def disagreements(draws: int, seed: int = 0) -> dict[tuple[int, int], float]:
    """Share of comparisons of two correct installations that differ, by their seeds.

    Six rows deviate by 0.6 to 2.4 points, and both installations alike.
    """
    generator = np.random.default_rng(seed)
    shares = {}
    for seeds in ((1, 3), (2, 2), (3, 3), (3, 8)):
        differ = 0
        for _ in range(draws):
            deviations = 1.2 * 2 ** generator.uniform(-1, 1, NUM_LENDERS)
            ours, theirs = (
                [list(generator.normal(0, deviation, number)) for deviation in deviations]
                for number in seeds
            )
            noise = noise_between(ours[0], theirs[0], [*ours[1:], *theirs[1:]], FALSE_ALARMS)
            differ += noise is not None and abs(np.mean(ours[0]) - np.mean(theirs[0])) > noise
        shares[seeds] = differ / draws
    return shares


#: what a line of the table counts → its cells' kind and whether they borrow
LINES: dict[str, tuple[str, bool]] = {
    "gain, nothing borrowed": ("gain", False),
    "gain, borrowing": ("gain", True),
    "share": ("share", False),
    "trend": ("trend", False),
    "reach": ("reach", False),
    "best and within, nothing borrowed": ("best", False),
    "best and within, borrowing": ("best", True),
    f"{CLAIMS} claims together (Holm), nothing borrowed": ("together", False),
    f"{CLAIMS} claims together (Holm), borrowing": ("together", True),
}


def figures(cells: Sequence[tuple[Cell, Outcome]]) -> Iterator[Figure]:
    """The worst cell of each line and number of seeds."""
    for line, (kind, borrows) in LINES.items():
        for seeds in SEEDS:
            own = [
                outcome.right
                for cell, outcome in cells
                if (cell.kind, cell.seeds, cell.others != "none") == (kind, seeds, borrows)
            ]
            name = f"{line}: {seeds} seeds"
            percent = round(100 * min(own), 2)
            yield Figure(name=name, value=percent, unit="%", better="higher", goal=100 * LEAST)


def table(record: Benchmark) -> str:
    """The worst cells as Markdown: kind by seeds."""
    values = {figure.name: figure.value for figure in record.figures}
    head = ["worst cell", *(f"{seeds} seeds" for seeds in SEEDS)]
    lines = [head, ["---"] + ["---:"] * len(SEEDS)]
    for line in LINES:
        cells = (f"{values[f'{line}: {seeds} seeds']:.1f} %" for seeds in SEEDS)
        lines.append([line, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def describe(draws: int, folder: Path, clock: Clock) -> Benchmark:
    """Measure and make the record."""
    return record_of(measure(draws, folder), draws, folder, clock)


def record_of(
    cells: list[tuple[Cell, Outcome]], draws: int, folder: Path, clock: Clock
) -> Benchmark:
    """The record of what was measured, with what takes seconds."""
    differ = [
        Figure(
            name=f"correct installations that differ: {ours} and {theirs} seeds",
            value=round(100 * share, 2),
            unit="%",
            goal=1.0,
        )
        for (ours, theirs), share in disagreements(4 * draws).items()
    ]
    details: dict[str, Any] = {
        "rules": rules(draws, folder),
        "cells": [
            {key: value for key, value in asdict(cell).items() if value not in (0, "none")}
            | {"right": round(outcome.right, 4), "median_width": round(outcome.width, 3)}
            for cell, outcome in cells
        ],
    }
    return Benchmark(
        benchmark="coverage",
        title="How often 95 % intervals hold the truth and verdicts are not false, worst cells",
        command="./run_all.sh bench coverage",
        setting={
            "draws_a_cell": draws,
            "of_doubtful_cells": draws * MORE,
            "cells": len(cells),
        },
        machine=clock.machine(),
        figures=(*figures(cells), *differ),
        details=details,
    )


def main() -> None:
    """Measure, print the worst cells, write ``coverage.json`` with --out; exit 1: below LEAST."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--draws", type=int, default=4000, help="simulated tables a cell")
    parser.add_argument(
        "--runs", type=Path, default=PROJECT / "results" / "reference" / "runs", help="shipped runs"
    )
    parser.add_argument("--out", type=Path, help="folder that coverage.json is written to")
    given = parser.parse_args()
    record = describe(given.draws, given.runs, Clock())
    print(table(record))
    if given.out:
        record.write(given.out)
    # the worst of many cells is off by chance, by four standard errors at most
    noise = 400 * (LEAST * (1 - LEAST) / given.draws) ** 0.5
    missed = (f for f in record.figures if f.better == "higher" and f.value < 100 * LEAST - noise)
    sys.exit(int(any(missed)))


if __name__ == "__main__":
    main()
