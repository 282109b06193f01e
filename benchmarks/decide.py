"""How often `decide` is wrong about a table, and how many runs it needs beside a fixed number.

    ./run_all.sh bench decide                              # a minute on one core
    python -m benchmarks.decide --out results/benchmarks

Every simulated table has rows with a common baseline and one claim a row, that it is better. Seeds
move every row; the images, drawn once, move each gain by the same amount at every seed. A claim is
looked at after every seed from the third on, all of a table together (Holm), with the intervals
that tables call (experiments.judge.anytime). One that is decided gets no more seeds. None is given
up as futile, which would save runs and could only lower the number of verdicts.

The fixed design trains the same number of seeds for every row, looks once, and uses the intervals
of tables that are not added to (experiments.judge.spread). Its number is the smallest whose power,
the share of claims that are decided, is that of the sequential one or more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Benchmark, Clock, Figure
from experiments.judge import anytime, spread

Values = NDArray[np.float64]
Seeds = NDArray[np.int64]

ALPHA = 0.05
FIRST, MOST = 3, 30  # seeds of a row at the first look and at the last
FIXED = 120  # seeds of a fixed design, at most
NUM_IMAGES = 150
CLAIMS = (1, 6)
IMAGES = (0.0, 0.3, 1.0)  # deviation of a gain by the images, in deviations between seeds
CORRELATIONS = (0.0, 0.8)  # of two rows by their seed
GAINS = (0.75, 1.0, 1.5, 2.0, 3.0)  # in deviations between seeds of a paired gain
SHARES = (0.8, 0.9, 0.99)  # of the claims that a smaller number of seeds is to decide
ASKED = 1.5  # the gain that the goal is about


@dataclass(frozen=True)
class Setting:
    """What simulated tables are like."""

    claims: int
    gain: float  # true one of every claim, in deviations of a paired gain
    images: float = 0.0
    correlation: float = 0.0
    tables: int = 1000
    most: int = MOST


@dataclass(frozen=True)
class Tables:
    """Simulated tables.

    Args:
        gains: (T, M, S) of the pairs, in deviations between seeds.
        images: (T, M) the variance of each mean by the images, as it is estimated.
    """

    gains: Values
    images: Values

    @property
    def num_images(self) -> int:
        """N; 1: images do nothing."""
        return NUM_IMAGES if self.images.any() else 1

    def moments(self, seeds: int) -> tuple[Values, Values]:
        """(T, M) means over the first seeds, and the variances of these means."""
        first = self.gains[..., :seeds]
        return first.mean(-1), first.var(-1, ddof=1) / seeds


def draw(setting: Setting, seeds: int, generator: np.random.Generator) -> Tables:
    """Tables of one setting, with so many seeds of every row."""
    shape = (setting.tables, setting.claims, seeds)
    common = generator.standard_normal((setting.tables, 1, seeds))
    own, base = generator.standard_normal(shape), generator.standard_normal(common.shape)
    rho = setting.correlation
    rows = np.sqrt(rho) * common + np.sqrt(1 - rho) * own
    baseline = np.sqrt(rho) * common + np.sqrt(1 - rho) * base
    gains = (rows - baseline) / np.sqrt(2 * (1 - rho)) + setting.gain
    gains += setting.images * generator.standard_normal((*shape[:2], 1))
    ratio = generator.chisquare(NUM_IMAGES - 1, shape[:2]) / (NUM_IMAGES - 1)
    return Tables(gains, setting.images**2 * ratio)


def holm(away: Values, width: Callable[[Values], Values], decided: NDArray[np.bool_]) -> None:
    """Mark (T, M) claims whose interval leaves 0 out, at the level that Holm holds each against.

    The level is 0.05 over the number of claims that are not decided yet, until no more are: that
    is his procedure, by intervals instead of p-values.
    """
    for _ in range(away.shape[1]):
        left = np.maximum(away.shape[1] - decided.sum(1, keepdims=True), 1)
        more = ~decided & (away > width(ALPHA / left))
        if not more.any():
            return
        decided |= more


def sequential(tables: Tables, most: int = MOST) -> Seeds:
    """(T, M) the seeds after which each claim is decided; 0: it is not."""
    decided_at = np.zeros(tables.gains.shape[:2], dtype=np.int64)
    for seeds in range(FIRST, most + 1):
        means, variances = tables.moments(seeds)

        def width(alpha: Values, v: Values = variances, s: int = seeds) -> Values:
            return anytime.half_width(v, s, tables.images, tables.num_images, alpha)

        decided = decided_at > 0
        before = decided.copy()
        holm(np.abs(means), width, decided)
        decided_at[decided & ~before] = seeds
    return decided_at


def runs(decided_at: Seeds, most: int = MOST) -> Values:
    """(T,) runs of each table: of the claims' rows, and of the baseline while one is open."""
    seeds = np.where(decided_at > 0, decided_at, most)
    return np.asarray(seeds.sum(1) + seeds.max(1), dtype=np.float64)


def fixed_power(tables: Tables, seeds: int, *, borrowing: bool) -> float:
    """Share of the claims that so many seeds of every row decide.

    Args:
        tables: with at least as many seeds.
        seeds: of every row.
        borrowing: whether each claim is lent the deviation of the other claims' gains.
    """
    means, variances = tables.moments(seeds)
    lent: dict[str, Any] = {}
    if borrowing:
        others = variances.sum(1, keepdims=True) - variances
        number = variances.shape[1] - 1
        freedom = np.full_like(variances, number * (seeds - 1.0))
        lent = {"lent": others / number, "lent_freedom": freedom}

    def width(alpha: Values) -> Values:
        shared = (variances, seeds, tables.images, tables.num_images, alpha)
        return spread.half_width(*shared, **lent)

    decided = np.zeros(means.shape, dtype=bool)
    holm(np.abs(means), width, decided)
    return float(decided.mean())


def fixed_seeds(tables: Tables, power: float, *, borrowing: bool = False) -> int | None:
    """The fewest seeds of a fixed design with that power; None: more than FIXED."""
    low, high = 1, tables.gains.shape[2]
    if fixed_power(tables, high, borrowing=borrowing) < power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = fixed_power(tables, middle, borrowing=borrowing) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def false_verdicts(setting: Setting, generator: np.random.Generator) -> float:
    """Share of tables, whose claims are all without truth, that get a verdict at any time."""
    decided_at = sequential(draw(setting, setting.most, generator), setting.most)
    return float((decided_at > 0).any(1).mean())


@dataclass(frozen=True)
class Effort:
    """What a gain takes."""

    claims: int
    gain: float
    power: float  # share of the claims that are decided within MOST seeds
    mean_runs: float  # of a table
    mean_seeds: float  # of a claim that is decided
    fixed_seeds: int | None  # of the same power; None: more than FIXED
    fixed_runs: int | None
    fixed_borrowing: int | None = None  # seeds, if rows lend each other their deviation
    most: int = MOST  # seeds of a row, at most


def capped(
    setting: Setting, share: float, generator: np.random.Generator, *, borrowing: bool
) -> Effort:
    """:func:`effort` with no more seeds than decide a share of the claims, for a power below 1."""
    decided_at = sequential(draw(setting, setting.most, generator), setting.most)
    seeds = np.where(decided_at > 0, decided_at, setting.most + 1)
    most = int(np.quantile(seeds, share, method="higher"))
    return effort(replace(setting, most=min(most, setting.most)), generator, borrowing=borrowing)


def effort(setting: Setting, generator: np.random.Generator, *, borrowing: bool = False) -> Effort:
    """Runs until claims are decided, and those of a fixed design of the same power."""
    tables = draw(setting, max(FIXED, setting.most), generator)
    decided_at = sequential(tables, setting.most)
    power = float((decided_at > 0).mean())
    seeds = fixed_seeds(tables, power)
    decided = decided_at[decided_at > 0]
    return Effort(
        claims=setting.claims,
        gain=setting.gain,
        power=power,
        mean_runs=float(runs(decided_at, setting.most).mean()),
        mean_seeds=float(decided.mean()) if decided.size else 0.0,
        fixed_seeds=seeds,
        fixed_runs=None if seeds is None else seeds * (setting.claims + 1),
        fixed_borrowing=fixed_seeds(tables, power, borrowing=True) if borrowing else None,
        most=setting.most,
    )


def figures(false: list[tuple[Setting, float]], efforts: list[Effort]) -> Iterator[Figure]:
    """The numbers with goals."""
    for claims in CLAIMS:
        worst = max(rate for setting, rate in false if setting.claims == claims)
        yield Figure(
            name=f"tables of {claims} untrue claims with a verdict, looked at after each of "
            f"{FIRST} to {MOST} seeds; worst setting",
            value=100 * worst,
            unit="%",
            goal=100 * ALPHA,
        )
    for each in efforts:
        if each.gain == ASKED and each.fixed_runs:
            yield Figure(
                name=f"runs, gains of {ASKED:g} deviations, {each.claims} claims",
                value=each.mean_runs / each.fixed_runs,
                unit="×",
                beside=f"a fixed {each.fixed_seeds} seeds, which have the same power",
                goal=1.0,
            )


def describe(tables: int, seed: int, clock: Clock) -> Benchmark:
    """Measure everything."""
    generator = np.random.default_rng(seed)
    false = []
    for claims in CLAIMS:
        for images in IMAGES:
            for rho in CORRELATIONS:
                setting = Setting(claims, 0.0, images, rho, tables)
                false.append((setting, false_verdicts(setting, generator)))
    efforts = [
        effort(
            Setting(claims, gain, tables=tables), generator, borrowing=claims > 1 and gain == ASKED
        )
        for claims in CLAIMS
        for gain in GAINS
    ]
    shares = [
        capped(Setting(claims, ASKED, tables=tables), share, generator, borrowing=claims > 1)
        for claims in CLAIMS
        for share in SHARES
    ]
    return Benchmark(
        benchmark="decide",
        title="Verdicts while seeds are added: false ones under the null, runs under a gain",
        command="./run_all.sh bench decide",
        setting={
            "tables": tables,
            "seed": seed,
            "alpha": ALPHA,
            "seeds": [FIRST, MOST],
            "expected_variance_of_gains": anytime.EXPECTED,
            "images_share": anytime.IMAGES_SHARE,
        },
        machine=clock.machine(),
        figures=tuple(figures(false, efforts)),
        details={
            "false_verdicts": [
                {**asdict(setting), "share": round(rate, 4)} for setting, rate in false
            ],
            "efforts": [asdict(each) for each in efforts],
            "capped": [asdict(each) for each in shares],
        },
    )


def main() -> None:
    """Measure, print, write ``decide.json`` with --out; exit 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--tables", type=int, default=1000, help="simulated tables a setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder that decide.json is written to")
    given = parser.parse_args()
    record = describe(given.tables, given.seed, Clock())
    for figure in record.figures:
        print(f"{figure.name}: {figure.value:.3g} {figure.unit} (goal {figure.goal:g})")
    for each in (*record.details["efforts"], *record.details["capped"]):
        print(each)
    if given.out:
        print(record.write(given.out))
    # the rate of false verdicts is itself off by chance
    noise = 300 * (ALPHA * (1 - ALPHA) / given.tables) ** 0.5
    missed = [
        f for f in record.figures if f.goal and f.value > f.goal + (noise if f.unit == "%" else 0)
    ]
    sys.exit(int(bool(missed)))


if __name__ == "__main__":
    main()
