"""How far a class's features lie from its prototype: by hand, and of a small trained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab
from samples import make_areas, make_spec, put

from experiments.draw.draw import inspect
from experiments.draw.extract import class_distances, extract
from experiments.draw.inspection import read_inspection
from experiments.errors import CorruptRecordError
from experiments.plan.request import stored_request
from experiments.store.distances import (
    FeatureDistances,
    distances_path,
    read_distances,
    write_distances,
)
from experiments.store.store import Store
from experiments.train.trained import MissingWeightsError

HALF = 1 - np.sqrt(0.5)  # 1 − cos 45°


def test_the_mean_over_a_classes_pixels_by_hand() -> None:
    # (D, h, w): the features (1, 0), (0, 3), (1, 1) and (5, 0)
    features = torch.tensor([[[1.0, 0.0], [1.0, 5.0]], [[0.0, 3.0], [1.0, 0.0]]])
    fixed = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    label = np.array([[0, 0], [1, 255]], np.uint8).repeat(2, 0).repeat(2, 1)
    distances = class_distances(features, fixed, label)
    # class 0: 0 and 1; class 1: 45°; class 2 has no pixel, and the ignored one counts nowhere
    assert distances == pytest.approx([0.5, HALF, np.nan], nan_ok=True, abs=1e-6)


def test_of_several_prototypes_the_nearest_counts() -> None:
    features = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    fixed = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]])
    assert class_distances(features, fixed, np.array([[0, 0]], np.uint8)) == pytest.approx(
        [HALF / 2, np.nan], nan_ok=True, abs=1e-6
    )
    assert class_distances(features, fixed, np.array([[255, 1]], np.uint8)) == pytest.approx(
        [np.nan, 1.0], nan_ok=True, abs=1e-6
    )


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Store, FeatureDistances]:
    store, areas = Store(tmp_path), make_areas(0)
    put(store, make_spec(), areas)
    values = np.random.default_rng(0).random(areas.labelled.shape).astype(np.float32)
    values[0, 1] = np.nan
    return store, FeatureDistances(areas.names, values)


def test_what_is_written_is_read(stored: tuple[Store, FeatureDistances]) -> None:
    store, distances = stored
    record = store.read(make_spec().run_id)
    assert record is not None
    assert read_distances(store, record) is None
    write_distances(store, record, distances)
    kept = read_distances(store, record)
    assert kept is not None
    assert kept.names == distances.names
    np.testing.assert_array_equal(kept.values, distances.values)
    other = record.model_copy(update={"result_digest": "0" * 64})
    assert read_distances(store, other) is None, "those of an earlier record are none"


@pytest.mark.parametrize("damage", ["truncated", "no archive", "other classes"])
def test_a_damaged_file_is_named(stored: tuple[Store, FeatureDistances], damage: str) -> None:
    store, distances = stored
    record = store.read(make_spec().run_id)
    assert record is not None
    if damage == "other classes":
        distances = FeatureDistances(distances.names, distances.values[:, 1:])
    write_distances(store, record, distances)
    path = distances_path(store, record.run_id)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-60])
    if damage == "no archive":
        path.write_text("nothing")
    with pytest.raises(CorruptRecordError, match=rf"is damaged.*extract {record.run_id}"):
        read_distances(store, record)


def test_where_distances_suffice_no_weights_are_asked_for(
    stored: tuple[Store, FeatureDistances], tmp_path: Path
) -> None:
    store, distances = stored
    record = store.read(make_spec().run_id)
    assert record is not None
    call = stored_request("smoke", [0], tmp_path)
    for needs in ({"inspected": False, "measured": True}, {}):
        with pytest.raises(MissingWeightsError):
            inspect(call, record, **needs)
    write_distances(store, record, distances)
    assert not inspect(call, record, inspected=False, measured=True)
    with pytest.raises(MissingWeightsError):
        inspect(call, record, measured=True)


def test_they_are_extracted_with_the_rest_and_fit_the_kept_images(extracted: Lab) -> None:
    for classifier in ("softmax", "ssa"):
        record = extracted.record(classifier)
        areas = extracted.store.read_areas(record.run_id)
        distances = read_distances(extracted.store, record)
        inspection = read_inspection(extracted.store, record)
        assert distances is not None
        assert inspection is not None
        assert inspection.fixed_prototypes is not None
        assert distances.names == areas.names
        assert np.isnan(distances.values[areas.labelled == 0]).all()
        for image, chosen in zip(inspection.images, inspection.provenance.images):
            assert image.features is not None
            assert image.small_label is not None
            kept = torch.from_numpy(image.features).permute(2, 0, 1)
            fixed = torch.from_numpy(inspection.fixed_prototypes)
            expected = class_distances(kept, fixed, image.small_label)
            # eight bits a channel and half precision
            np.testing.assert_allclose(distances.values[chosen.index], expected, atol=0.01)


def test_what_lacks_is_measured_where_it_is_asked_for(extracted: Lab, tmp_path: Path) -> None:
    lab = extracted.copy(tmp_path / "results")
    record = lab.record("softmax")
    path = distances_path(lab.store, record.run_id)
    whole = path.read_bytes()
    path.unlink()
    assert not extract(record, lab.store, lab.data(record.spec))[1]
    assert not path.exists()
    assert extract(record, lab.store, lab.data(record.spec), measured=True)[1]
    assert path.read_bytes() == whole, "equal runs give equal files"
    assert not extract(record, lab.store, lab.data(record.spec), measured=True)[1]
