"""What is kept of a run for figures: the run's own, whole, and made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab, assert_clear

from experiments.draw.extract import NUM_IMAGES, extract, focus_class
from experiments.draw.inspection import (
    InspectionError,
    RunInspection,
    inspection_path,
    load_inspection,
    quantise,
    read_inspection,
    write_inspection,
)
from experiments.draw.regions import RegionAreas
from experiments.files import write_atomically
from experiments.store.areas import ImageAreas
from experiments.store.records import Record, seal, unseal
from experiments.train.trained import MissingWeightsError, load_trained

CLASSIFIERS = ("softmax", "ssa")
MEGABYTE = 1 << 20


def inspection(lab: Lab, classifier: str) -> RunInspection:
    found = read_inspection(lab.store, lab.record(classifier))
    assert found is not None
    return found


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_network_decides_as_when_it_was_scored(extracted: Lab, classifier: str) -> None:
    record, found = extracted.record(classifier), inspection(extracted, classifier)
    assert found.provenance.differing_pixels == 0
    assert found.provenance.miou_percent == record.scores.miou
    areas: ImageAreas = extracted.store.read_areas(record.run_id)
    for regions in (found.rings, found.objects.areas):
        assert regions.intersection.sum(0).tolist() == areas.intersection.sum(0).tolist()
        assert regions.predicted.sum(0).tolist() == areas.predicted.sum(0).tolist()
        assert regions.labelled.sum(0).tolist() == areas.labelled.sum(0).tolist()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_masks_are_those_of_the_images_that_were_counted(
    extracted: Lab, classifier: str
) -> None:
    areas = extracted.store.read_areas(extracted.record(classifier).run_id)
    for image, chosen in zip(
        inspection(extracted, classifier).images,
        inspection(extracted, classifier).provenance.images,
    ):
        assert areas.names[chosen.index] == image.name
        right = image.prediction[(image.prediction == image.label)]
        counts = np.bincount(right, minlength=areas.intersection.shape[1])
        assert counts.tolist() == areas.intersection[chosen.index].tolist()


def test_images_are_chosen_by_their_labels_so_that_all_runs_have_the_same(extracted: Lab) -> None:
    softmax, ssa = (inspection(extracted, name) for name in CLASSIFIERS)
    assert softmax.provenance.images == ssa.provenance.images
    assert len(softmax.images) == NUM_IMAGES
    for one, other in zip(softmax.images, ssa.images):
        assert (one.image == other.image).all()
        assert (one.label == other.label).all()
        assert one.cam is not None
        assert 0 <= one.cam.min() <= one.cam.max() <= 1


def test_prototypes_decide_the_kept_features_as_the_network_does(extracted: Lab) -> None:
    """Eight bits a channel and half precision change hardly any decision."""
    record = extracted.record("ssa")
    model = load_trained(record, extracted.store)
    classifier = model.decode_head.classifier
    agree, pixels = 0, 0
    for image in inspection(extracted, "ssa").images:
        assert image.features is not None
        assert image.embedded_features is not None
        assert image.adapted_prototypes is not None
        features = torch.from_numpy(image.features).permute(2, 0, 1)[None]
        with torch.no_grad():
            expected = classifier(features)[0].argmax(0).numpy()
        embedded = image.embedded_features / np.linalg.norm(
            image.embedded_features, axis=-1, keepdims=True
        )
        prototypes = image.adapted_prototypes / np.linalg.norm(
            image.adapted_prototypes, axis=-1, keepdims=True
        )
        agree += int(((embedded @ prototypes.T).argmax(-1) == expected).sum())
        pixels += expected.size
    assert agree > 0.97 * pixels


def test_relations_are_shares_and_a_fixed_classifier_has_none(extracted: Lab) -> None:
    softmax, ssa = (inspection(extracted, name) for name in CLASSIFIERS)
    assert softmax.student_relation is None
    assert softmax.images[0].adapted_prototypes is None
    assert softmax.images[0].embedded_features is None
    for matrix in (ssa.student_relation, ssa.teacher_relation):
        assert matrix is not None
        assert matrix.shape == (16, 16)
        assert np.allclose(matrix.sum(1), 1, atol=1e-4)
        assert (matrix.argmax(1) == np.arange(16)).all()


def test_files_are_small(extracted: Lab) -> None:
    sizes = [
        inspection_path(extracted.store, run_id).stat().st_size
        for run_id in extracted.store.run_ids()
    ]
    assert max(sizes) < MEGABYTE


def test_it_is_made_once(extracted: Lab) -> None:
    record = extracted.record("ssa")
    path = inspection_path(extracted.store, record.run_id)
    before = path.stat().st_mtime_ns
    _, made = extract(record, extracted.store, extracted.data(record.spec))
    assert not made
    assert path.stat().st_mtime_ns == before


def test_the_command_says_nothing_but_what_it_did(extracted: Lab, tmp_path: Path) -> None:
    lab = extracted.copy(tmp_path / "results")
    record = lab.record("ssa")
    inspection_path(lab.store, record.run_id).unlink()
    said = lab.call("extract", record.run_id)
    assert said.returncode == 0
    assert said.stdout == f"{record.run_id}: extracted\n"


def test_pictures_are_left_out_and_put_back_on_request(extracted: Lab, tmp_path: Path) -> None:
    lab = extracted.copy(tmp_path / "results")
    record, before = lab.record("ssa"), inspection(lab, "ssa")
    assert_clear(lab.call("extract", record.run_id, "--without-pictures"), 0, "extracted")
    bare = inspection(lab, "ssa")
    assert before.pictured
    assert not bare.pictured
    with np.load(inspection_path(lab.store, record.run_id)) as arrays:
        shapes = [arrays[name].shape for name in arrays.files]
    assert not any(len(shape) == 3 and shape[-1] == 3 for shape in shapes), "nothing like a picture"
    assert (bare.images[0].prediction == before.images[0].prediction).all()
    # asked for neither, it stays as it is, also where it is made anew
    assert_clear(lab.call("extract", record.run_id), 0, "already extracted")
    assert not inspection(lab, "ssa").pictured
    assert_clear(lab.call("extract", record.run_id, "--pictures"), 0, "extracted")
    assert inspection(lab, "ssa").images[0].image is not None
    again = load_inspection(inspection_path(lab.store, record.run_id)).provenance.arrays_sha256
    assert again == before.provenance.arrays_sha256
    # nor do they come back where a record that was made anew is extracted
    write_inspection(lab.store, bare)
    changed = change_record(lab, record, result_digest="0" * 64)
    found, made = extract(changed, lab.store, lab.data(changed.spec))
    assert made
    assert not found.pictured


@pytest.fixture
def spoilt(extracted: Lab, tmp_path: Path) -> Lab:
    return extracted.copy(tmp_path / "results")


def change_record(lab: Lab, record: Record, **fields: object) -> Record:
    path = lab.store.folder(record.run_id).record
    document = unseal(path.read_text()) | fields
    write_atomically(path, seal(document))
    changed = lab.store.read(record.run_id)
    assert changed is not None
    return changed


def test_a_changed_record_makes_it_stale_and_it_is_made_anew(spoilt: Lab) -> None:
    record = change_record(spoilt, spoilt.record("ssa"), result_digest="0" * 64)
    with pytest.raises(InspectionError, match=r"earlier record.*extract seaformer|segnext"):
        read_inspection(spoilt.store, record)
    again, made = extract(record, spoilt.store, spoilt.data(record.spec))
    assert made
    assert again.provenance.result_digest == "0" * 64
    assert not extract(record, spoilt.store, spoilt.data(record.spec))[1]


@pytest.mark.parametrize("damage", ["truncated", "another byte", "no archive", "another version"])
def test_a_damaged_file_is_named_and_made_anew(
    spoilt: Lab, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = spoilt.record("softmax")
    path = inspection_path(spoilt.store, record.run_id)
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "another byte":
        path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:])
    elif damage == "no archive":
        path.write_text("nothing")
    else:
        monkeypatch.setattr("experiments.draw.inspection.INSPECTION_VERSION", 99)
    with pytest.raises(InspectionError) as caught:
        load_inspection(path)
    assert str(path) in str(caught.value)
    assert f"`./run_all.sh extract {record.run_id}` makes it anew" in str(caught.value)
    if damage != "another version":
        assert extract(record, spoilt.store, spoilt.data(record.spec))[1]
        assert path.read_bytes() == whole, "equal runs give equal files"


def test_weights_of_another_network_are_refused(spoilt: Lab) -> None:
    record = spoilt.record("softmax")
    folder = spoilt.store.folder(record.run_id)
    inspection_path(spoilt.store, record.run_id).unlink()
    state = torch.load(folder.weights, weights_only=True)
    torch.save({name: value.flip(0) for name, value in state.items()}, folder.weights)
    with pytest.raises(InspectionError, match="not those of the record"):
        extract(record, spoilt.store, spoilt.data(record.spec))
    assert not inspection_path(spoilt.store, record.run_id).exists()


def test_without_weights_what_is_there_is_read_and_the_rest_is_said(spoilt: Lab) -> None:
    softmax, ssa = (spoilt.record(name) for name in CLASSIFIERS)
    for record in (softmax, ssa):
        spoilt.store.folder(record.run_id).weights.unlink()
    inspection_path(spoilt.store, ssa.run_id).unlink()
    said = spoilt.call("extract", "pair")
    assert_clear(said, 3, "already extracted", "records are shipped without weights")
    with pytest.raises(MissingWeightsError, match=r"is not there.*give the command that made it"):
        extract(ssa, spoilt.store, spoilt.data(ssa.spec))


def test_the_focus_is_a_class_that_can_be_seen_and_is_otherwise_rare() -> None:
    label = np.zeros((30, 30), dtype=np.uint8)
    label[:10] = 1  # a third of the image, frequent
    label[20:, :10] = 2  # a ninth, rare
    label[0, :3] = 3  # rarest, but hardly seen
    label[15] = 255
    assert focus_class(label, np.array([9000, 8000, 700, 5])) == 2
    assert focus_class(label, np.array([9000, 100, 700, 5])) == 1
    tiny = np.full((30, 30), 255, dtype=np.uint8)
    tiny[0, :2], tiny[0, 2] = 1, 2
    assert focus_class(tiny, np.array([1, 50, 1, 1])) == 1


def test_eight_bits_are_near_enough() -> None:
    features = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    features[..., 2] = 0
    codes, scale = quantise(features)
    assert np.abs(codes * scale - features).max() <= scale.max() / 2 * 1.0001
    assert (codes[..., 2] == 0).all()


def test_areas_add_up() -> None:
    ones = RegionAreas(*(np.ones((2, 3), dtype=np.int64) for _ in range(3)))
    assert (ones + ones).union.tolist() == [[2, 2, 2]] * 2
    assert (RegionAreas.zeros(2, 3) + ones).within().labelled.tolist() == [[1] * 3, [2] * 3]
