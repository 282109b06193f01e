"""Which classes gain, and in which images: the gain against distance, frequency and size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from analysis.boundary import nan_mean
from analysis.kinds import Drawn, NothingToDrawError
from analysis.reading import Material
from analysis.style import BLUE, GREY, OTHERS, draw_spread, new_figure
from experiments.declare.claims import ClassProperty
from experiments.judge.class_trends import (
    FEWEST_IMAGES,
    ClassTrend,
    PairedAreas,
    over_classes,
    over_images,
)
from experiments.judge.comparability import comparable_seeds
from experiments.judge.statistics import shared_seeds

#: equal parts of a class's images, by the distance in each
PARTS = 5
_LABELS: dict[ClassProperty, str] = {
    "distance": "distance from the prototype in {}, 1 − cos",
    "frequency": "images that show the class, %",
    "size": "size in such an image, % of it",
}
_PERCENT: dict[ClassProperty, float] = {"distance": 1.0, "frequency": 100.0, "size": 100.0}

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Mechanism:
    """The numbers behind the figure; S seeds, K classes."""

    runs: PairedAreas
    seeds: tuple[int, ...]
    gains: Values  # (S, K) percent points; NaN where no image shows a class
    places: dict[ClassProperty, Values]  # (S, K), as drawn
    trends: dict[ClassProperty, ClassTrend | None]  # over the classes
    within: dict[ClassProperty, ClassTrend | None]  # from image to image of one class
    parts: Values  # (S, PARTS) gain over the class's own mean, nearest images first


def mechanism_of(material: Material) -> Mechanism:
    """The gains of a figure's line over its baseline and what they are set against.

    Raises:
        NothingToDrawError: the runs share no seed, cannot be compared, or have no distances.
    """
    name, base = material.drawing.figure.name, material.baseline
    line = material.others[0] if material.others else base
    own, plain = ({r.spec.seed: r for r in each.records} for each in (line, base))
    if line is base or not (seeds := shared_seeds(own, plain)):
        raise NothingToDrawError(f"{name} needs a seed that both of its rows have.")
    if reason := comparable_seeds(own, plain, lambda run: _names(material, run)):
        raise NothingToDrawError(f"{name}: the two rows cannot be compared: {reason}.")
    distances = [material.distances(plain[seed]) for seed in seeds]
    measured = [d for d in distances if d is not None and np.isfinite(d.values).any()]
    if len(measured) < len(seeds):
        raise NothingToDrawError(
            f"{name}: the distances of {base.label}'s features are not extracted, or it has no "
            f"prototypes in their space; `./run_all.sh {name}` measures them where weights and "
            "data are at hand."
        )
    ours, theirs = ([material.areas(side[seed]) for seed in seeds] for side in (own, plain))
    runs = PairedAreas(ours, theirs, measured)
    once = np.ones((1, runs.num_images))
    gains = runs.class_gains(once)[0]
    return Mechanism(
        runs=runs,
        seeds=tuple(seeds),
        gains=gains,
        places={
            by: np.broadcast_to(_PERCENT[by] * runs.of_classes(by, once)[0], gains.shape)
            for by in _LABELS
        },
        trends={by: over_classes(runs, by, sequential=material.sequential) for by in _LABELS},
        within={
            by: over_images(runs, by, sequential=material.sequential) for by in ("distance", "size")
        },
        parts=gain_by_part(runs),
    )


def _names(material: Material, run_id: str) -> tuple[str, ...]:
    records = (record for line in material.lines for record in line.records)
    return material.areas(next(r for r in records if r.run_id == run_id)).names


def gain_by_part(runs: PairedAreas, parts: int = PARTS) -> Values:
    """(S, parts) gain in the nearest to the farthest images of a class, over the class's mean.

    The images of each class that :data:`FEWEST_IMAGES` show are parted by the distance in them;
    every mask counts alike.
    """
    gains, distance = runs.image_gains(), runs.of_images("distance")
    means = np.full((runs.num_seeds, parts), np.nan)
    for seed, (gain, far) in enumerate(zip(gains, np.broadcast_to(distance, gains.shape))):
        known = ~(np.isnan(gain) | np.isnan(far))
        by_part: list[list[Values]] = [[] for _ in range(parts)]
        for k in np.flatnonzero(known.sum(0) >= FEWEST_IMAGES):
            own = gain[known[:, k], k]
            order = np.argsort(far[known[:, k], k], kind="stable")
            for part, images in enumerate(np.array_split(order, parts)):
                by_part[part].append(own[images] - own.mean())
        if all(by_part):
            means[seed] = [np.concatenate(each).mean() for each in by_part]
    return means


def draw(material: Material) -> Drawn:
    """Three panels with a point a class, and one with a class's images by their distance."""
    mechanism = mechanism_of(material)
    style = material.drawing.style
    figure = new_figure(style, 4.3 if style == "text" else 7.6)
    panels = figure.subplots(*((2, 2) if style == "text" else (4, 1))).ravel()
    label, base = material.others[0].label, material.baseline.label
    for by, axes in zip(_LABELS, panels):
        _draw_classes(axes, mechanism, by, material.baseline.records[0].class_names)
        axes.set_xlabel(_LABELS[by].format(base))
        axes.set_ylabel(f"gain of {label} in IoU, points")
        axes.set_title(_headline("over classes", mechanism.trends[by]), loc="left")
    last = panels[-1]
    last.axhline(0, color=GREY, linewidth=0.6)
    draw_spread(last, np.arange(1, PARTS + 1), mechanism.parts, OTHERS[0], label)
    last.set_xticks(range(1, PARTS + 1), ["nearest", *[""] * (PARTS - 2), "farthest"])
    last.set_xlabel(f"the class's images, in fifths by their distance in {base}")
    last.set_ylabel("gain over the class's mean, points")
    last.set_title(_headline("within classes", mechanism.within["distance"]), loc="left")
    return Drawn(figure, mechanism_frame(material, mechanism), _note(material, mechanism))


def _draw_classes(
    axes: Axes, mechanism: Mechanism, by: ClassProperty, class_names: tuple[str, ...]
) -> None:
    """A point a class at the means over the seeds, a line from the lowest to the highest seed."""
    import seaborn  # half a second that other figures need not wait for

    gains, places = _over_seeds(mechanism.gains), _over_seeds(mechanism.places[by])
    known = np.flatnonzero(np.isfinite(gains) & np.isfinite(places))
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.vlines(
        places[known],
        mechanism.gains[:, known].min(0),
        mechanism.gains[:, known].max(0),
        color="0.75",
        linewidth=0.7,
    )
    seaborn.scatterplot(
        x=places[known], y=gains[known], color=BLUE, s=12, linewidth=0, ax=axes, zorder=2
    )
    if by == "size":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08, y=0.08)
    middle = np.median(places[known]) if known.size else 0.0
    for k in dict.fromkeys((known[gains[known].argmax()], known[gains[known].argmin()])):
        left = places[k] > middle
        axes.annotate(
            class_names[k],
            (places[k], gains[k]),
            xytext=(-3 if left else 3, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=5.5,
        )


def _over_seeds(values: Values) -> Values:
    return nan_mean(values.T)


def _headline(what: str, trend: ClassTrend | None) -> str:
    return f"{what}: {_numbers(trend)}"


def _numbers(trend: ClassTrend | None) -> str:
    """``ρ = +0.41 [0.10, 0.66]``, or that there is none."""
    if trend is None:
        return "too few vary for a correlation"
    low, high = trend.interval
    return f"ρ = {trend.value:+.2f} [{low:.2f}, {high:.2f}]".replace("-", "−")


def _note(material: Material, mechanism: Mechanism) -> str:
    base, seeds = material.baseline.label, len(mechanism.seeds)
    sizes = _numbers(mechanism.within["size"])
    alone = "; one seed: images and classes only, which decides nothing" if seeds == 1 else ""
    ranges = " grey lines reach from the lowest to the highest seed," if seeds > 1 else ""
    crossed = " by the other seeds" if seeds > 1 else ""
    return (
        "Upper row and lower left: a point is a class,"
        f"{ranges} and the classes that gain and lose most are named. The distance is 1 − cos "
        f"between a class's features and its fixed prototype in {base}, measured{crossed}, the "
        "mean over its pixels and images. Lower right: the images of each class in fifths by that "
        f"distance, gain over the class's own mean; every class that at least {FEWEST_IMAGES} "
        "images show. ρ is Spearman's correlation, the mean over the seeds, with its 95 % interval "
        "over seeds and images, and over classes where they are its points (docs/claims.md)"
        f"{alone}. Within classes by size: {sizes}. The table study_mechanism has the verdicts."
    )


def mechanism_frame(material: Material, mechanism: Mechanism) -> pd.DataFrame:
    """One line a seed and class, then one a seed and fifth of the classes' images."""
    shared = {"dataset": material.baseline.dataset, "label": material.others[0].label}
    names = material.baseline.records[0].class_names
    classes = [
        {
            **shared,
            "seed": seed,
            "class": name,
            "gain_points": mechanism.gains[row, k],
            "distance": mechanism.places["distance"][row, k],
            "frequency_percent": mechanism.places["frequency"][row, k],
            "size_percent": mechanism.places["size"][row, k],
        }
        for row, seed in enumerate(mechanism.seeds)
        for k, name in enumerate(names)
        if np.isfinite(mechanism.gains[row, k])
    ]
    fifths = [
        {**shared, "seed": seed, "fifth_by_distance": part, "gain_points": gain}
        for seed, gains in zip(mechanism.seeds, mechanism.parts)
        for part, gain in enumerate(gains, start=1)
    ]
    return pd.DataFrame([*classes, *fifths])
