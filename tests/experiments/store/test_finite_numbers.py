"""No NaN reaches a record or an export, and one that did is damaged, not everybody's end."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from samples import make_areas, make_record, make_spec, put

from experiments.errors import CorruptRecordError, StoreError
from experiments.files import strict_json
from experiments.plan.plan import look_up
from experiments.store.records import Record, seal, unseal
from experiments.store.store import Store

AREAS = make_areas(0)


def with_nan(record: Record) -> str:
    """The record's text as it was sealed before: JSON with a bare NaN in it."""
    document = record.model_dump(mode="json")
    document["scores"]["miou"] = float("nan")
    body = json.dumps(document, sort_keys=True, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({"sha256": digest})[:-1] + "," + body[1:]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_not_written(value: float) -> None:
    for write in (seal, lambda document: strict_json(document, "table08.json")):
        with pytest.raises(StoreError, match="is not written: it holds a number that is not fini"):
            write({"scores": {"miou": value}})


def test_a_record_without_a_labelled_pixel_is_refused_when_written(tmp_path: Path) -> None:
    store, record = Store(tmp_path), make_record(make_spec(), AREAS)
    hollow = record.scores.model_copy(update={"miou": float("nan")})
    with pytest.raises(StoreError, match="without a labelled pixel"):
        store.write_record(record.model_copy(update={"scores": hollow}), AREAS.to_bytes())
    assert store.run_ids() == []


def test_a_stored_nan_is_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = put(store, make_spec(), AREAS)
    text = with_nan(record)
    store.folder(record.run_id).record.write_text(text)
    with pytest.raises(ValueError, match="it holds NaN"):
        unseal(text)
    with pytest.raises(CorruptRecordError, match="it holds NaN, where a number belongs"):
        store.read(record.run_id)
    assert look_up(record.spec, store).state == "damaged"
