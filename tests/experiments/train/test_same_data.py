"""A run whose data changed while it trained leaves no record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from samples import make_areas, make_record, make_spec

from experiments.train.same_data import SameDataStore
from ssa.datasets.base import DataError
from ssa.datasets.scenes import META, ScenesParameters, ensure

AREAS = make_areas(0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return ensure(tmp_path / "data", ScenesParameters(train=2, val=1))


def write(store: SameDataStore, data: Path) -> str:
    digest = json.loads((data / META).read_text())["content_sha256"]
    record = make_record(make_spec(dataset="scenes", dataset_digest=digest), AREAS)
    folder = store.write_spec(record.spec)
    folder.checkpoint.write_bytes(b"a state")
    store.write_record(record, AREAS.to_bytes())
    return record.run_id


def test_a_run_on_its_own_data_is_recorded(data: Path, tmp_path: Path) -> None:
    store = SameDataStore(tmp_path / "results", data)
    assert store.read(write(store, data)) is not None


@pytest.mark.parametrize("how", ["exchanged", "cut", "removed"])
def test_a_run_on_changed_data_is_not(data: Path, tmp_path: Path, how: str) -> None:
    store = SameDataStore(tmp_path / "results", data)
    first, second = sorted((data / "images" / "train").iterdir())
    if how == "removed":
        first.unlink()
    else:
        raw = second.read_bytes()
        first.write_bytes(raw if how == "exchanged" else first.read_bytes()[: len(raw) // 2])
    said = "00000" if how == "removed" else "changed while this run trained"
    with pytest.raises(DataError, match=said):
        write(store, data)
    assert store.run_ids() == []
    (folder,) = store.runs.iterdir()
    if how != "removed":
        assert not (folder / "checkpoint.pth").exists(), "the next call must not go on from it"
        assert (folder / "checkpoint.pth.other").exists()
