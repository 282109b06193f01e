"""t-SNE of vectors that are compared by their angle, computed once and kept."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.files import read_bounded, write_atomically

SEED = 0
#: neighbours that a point keeps near, where there are enough points for so many
PERPLEXITY = 30.0
ITERATIONS = 1000
#: points of one picture at most; more neither show more nor stay quick
MOST_POINTS = 1500
MOST_OF_POINTS = 1 << 24  # bytes of a file of points
DECIMALS = 4


def embed(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """t-SNE of N vectors on the unit sphere, where distance grows with the angle.

    The decision of SSA-Seg is a cosine, so lengths must not count. Started from the first two
    principal components, with a fixed seed and one thread: equal vectors give equal points.

    Args:
        vectors: (N, D), N ≥ 4.

    Returns:
        (N, 2), rounded to :data:`DECIMALS`.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.maximum(lengths, 1e-12)).astype(np.float64)
    with threadpool_limits(1):  # a sum over threads would come in another order each time
        points = TSNE(
            init="pca",
            perplexity=min(PERPLEXITY, (len(unit) - 1) / 3),
            max_iter=ITERATIONS,
            random_state=SEED,
        ).fit_transform(unit)
    return np.round(points.astype(np.float64), DECIMALS)


def embedded_once(
    folder: Path, key: dict[str, Any], vectors: Callable[[], NDArray[np.floating]]
) -> NDArray[np.float64]:
    """The points of :func:`embed`, kept as ``folder/tsne/<digest of key>.csv`` and read again.

    Args:
        folder: results/figures.
        key: what the vectors follow from (digests, choices); t-SNE's own settings are added.
        vectors: makes them, if there are no points yet.
    """
    settings = {"seed": SEED, "perplexity": PERPLEXITY, "iterations": ITERATIONS, **key}
    text = json.dumps(settings, sort_keys=True)
    path = folder / "tsne" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.csv"
    if path.exists():
        try:
            kept = read_bounded(path, MOST_OF_POINTS).decode()
            return np.loadtxt(io.StringIO(kept), delimiter=",", ndmin=2)
        except (OSError, ValueError):
            pass  # damaged: made anew
    points = embed(vectors())
    buffer = io.StringIO()
    np.savetxt(buffer, points, fmt=f"%.{DECIMALS}f", delimiter=",", header=text)
    write_atomically(path, buffer.getvalue())
    return points


def thinned(number: int, most: int = MOST_POINTS) -> NDArray[np.int64]:
    """Which of ``number`` points are kept: all, or ``most`` drawn with a fixed seed, in order."""
    if number <= most:
        return np.arange(number)
    return np.sort(np.random.default_rng(SEED).choice(number, most, replace=False))


def mean_cosine(vectors: NDArray[np.floating], prototype: NDArray[np.floating]) -> float:
    """Mean cosine of (N, D) vectors to one (D,) prototype."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return float((unit @ (prototype / max(float(np.linalg.norm(prototype)), 1e-12))).mean())
