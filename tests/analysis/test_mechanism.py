"""The figure of the mechanism, of records whose gains and distances are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from samples import make_record, make_spec

from analysis.kinds import NothingToDrawError, draw
from analysis.mechanism import PARTS
from analysis.reading import Material, read_material
from experiments.declare.load import load_registry
from experiments.draw.drawing import Drawing, DrawnRun, write_drawing
from experiments.store.areas import ImageAreas
from experiments.store.distances import FeatureDistances, distances_path, write_distances
from experiments.store.store import Store

IMAGES, CLASSES = 10, 9
PIXELS = 1000 * (1 + np.arange(CLASSES))  # of a class in an image that shows it
NAMES = tuple(f"class {k}" for k in range(CLASSES))
#: class 0 is in one image of two, the others in all
LABELLED = np.where((np.arange(IMAGES)[:, None] % 2 == 1) & (PIXELS == 1000), 0, PIXELS)
#: rises from class to class and from image to image
RISE = np.arange(CLASSES)[None] + np.linspace(0, 0.9, IMAGES)[:, None]
Floats = NDArray[np.float64]


def areas_of(iou: Floats) -> ImageAreas:
    """Runs that miss pixels and predict no wrong ones; ``iou`` (N, K) in percent."""
    right = np.rint(LABELLED * iou / 100).astype(np.int64)
    return ImageAreas(tuple(f"{i:03d}" for i in range(IMAGES)), right, right.copy(), LABELLED)


def material_of(
    folder: Path, seeds: Sequence[int] = (0, 1, 2), ours: Sequence[int] = (0, 1, 2)
) -> Material:
    """Runs whose gain grows with the distance; one seed's distance is another's plus a constant."""
    store, runs = Store(folder), []
    for label, row, chosen in (("Baseline", "baseline", seeds), ("SSA-Seg", "full", ours)):
        for seed in chosen:
            gain = 2 * RISE if row == "full" else 0 * RISE
            areas = areas_of(50 + gain)
            spec = make_spec(
                seed=seed, num_classes=CLASSES, classifier={"name": row, "overrides": {}}
            )
            scored = 100 * areas.intersection.sum(0) / areas.labelled.sum(0)
            record = make_record(spec, areas).model_copy(
                update={"class_names": NAMES, "per_class_iou": tuple(map(float, scored))}
            )
            store.write_spec(spec)
            store.write_record(record, areas.to_bytes())
            runs.append(
                DrawnRun(
                    label=label,
                    baseline=row == "baseline",
                    row=f"table8/{row}",
                    seed=seed,
                    run_id=record.run_id,
                    result_digest=record.result_digest,
                )
            )
            if row == "baseline":
                far = np.where(LABELLED > 0, RISE / 20 + 0.1 * seed, np.nan)
                write_distances(
                    store, record, FeatureDistances(areas.names, far.astype(np.float32))
                )
    figure = load_registry().figure("extra_mechanism")
    drawing = Drawing(figure=figure, profile="smoke", style="text", runs=tuple(runs), missing=())
    return read_material(write_drawing(drawing, folder))


def test_every_class_stands_where_it_was_measured(tmp_path: Path) -> None:
    drawn = draw(material_of(tmp_path))
    classes = drawn.frame[drawn.frame["class"].notna()].set_index(["seed", "class"])
    assert len(classes) == 3 * CLASSES
    even = RISE[::2].mean(0)
    mean = RISE.mean(0)
    for k, name in enumerate(NAMES):
        rise = even[k] if k == 0 else mean[k]
        share = 100 * PIXELS[k] * (1 / PIXELS.sum() + (k > 0) / PIXELS[1:].sum()) / (1 + (k > 0))
        for seed, others in ((0, 0.15), (1, 0.1), (2, 0.05)):
            point = classes.loc[(seed, name)]
            assert point["gain_points"] == pytest.approx(2 * rise, abs=0.06)  # whole pixels
            assert point["distance"] == pytest.approx(rise / 20 + others, abs=1e-6)
            assert point["frequency_percent"] == (50 if k == 0 else 100)
            assert point["size_percent"] == pytest.approx(share)


def test_the_images_of_a_class_are_parted_by_their_distance(tmp_path: Path) -> None:
    drawn = draw(material_of(tmp_path))
    fifths = drawn.frame[drawn.frame["fifth_by_distance"].notna()]
    gains = fifths.pivot_table(index="fifth_by_distance", columns="seed", values="gain_points")
    # two images of ten, 0.1 apart, of which the mean is the middle; twice that is the gain
    expected = 2 * 0.2 * (np.arange(PARTS) - (PARTS - 1) / 2)
    for seed in (0, 1, 2):
        np.testing.assert_allclose(gains[seed], expected, atol=0.06)


def test_the_headlines_are_the_correlations(tmp_path: Path) -> None:
    titles = [axes.get_title(loc="left") for axes in draw(material_of(tmp_path)).figure.axes]
    assert titles[0].startswith("over classes: ρ = +1.00 [")
    assert titles[1].startswith("over classes: ρ = +0.5")  # one class in fewer images, eight tie
    assert titles[3].startswith("within classes: ρ = +1.00 [")


def test_one_seed_is_drawn_and_decides_nothing(tmp_path: Path) -> None:
    drawn = draw(material_of(tmp_path, seeds=(0, 1), ours=(1,)))
    assert "which decides nothing" in drawn.note
    assert set(drawn.frame["seed"]) == {1}


def test_what_lacks_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NothingToDrawError, match="needs a seed that both of its rows have"):
        draw(material_of(tmp_path / "apart", seeds=(0,), ours=(1,)))
    material = material_of(tmp_path / "bare")
    store = Store(tmp_path / "bare")
    distances_path(store, material.baseline.records[1].run_id).unlink()
    with pytest.raises(NothingToDrawError, match=r"Baseline's features .*run_all.sh extra_mech"):
        draw(material)
