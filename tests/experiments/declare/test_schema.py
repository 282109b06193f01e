"""What may be declared, and what decides a run's identity."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import make_spec, make_training

from experiments.declare.metrics import METRICS
from experiments.declare.model import ModelCard
from experiments.declare.profile import Profile
from experiments.declare.run_spec import RunSpec
from experiments.declare.table import ClassifierChoice, Reported, Row, Table

ROW = {"id": "a", "label": "A", "classifier": {"name": "softmax"}}
TABLE = {"name": "t", "title": "T", "source": "S", "model": "m", "dataset": "d", "rows": [ROW]}


def table(**changes: Any) -> Table:
    return Table.model_validate(TABLE | changes)


@pytest.mark.parametrize(
    ("schema", "document"),
    [
        (Row, ROW),
        (Table, TABLE),
        (Reported, {"miou": 1.0}),
        (ClassifierChoice, {"name": "ssa"}),
        (ModelCard, {"name": "m", "title": "M", "backbone": "B", "source": "S", "segmentor": {}}),
        (RunSpec, make_spec().model_dump()),
    ],
)
def test_a_misspelt_field_is_refused_by_name(schema: Any, document: dict[str, Any]) -> None:
    schema.model_validate(document)
    with pytest.raises(ValidationError, match="iterationz"):
        schema.model_validate(document | {"iterationz": 3})


def test_a_profile_without_a_dataset_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="dataset"):
        Profile.model_validate({"name": "p", "title": "P"})


def test_declared_things_cannot_be_changed() -> None:
    spec = make_spec()
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        spec.training.optimizer.lr = 1.0


@pytest.mark.parametrize("name", ["Full", "a b", "a/b", "", "ä"])
def test_a_row_id_is_a_slug(name: str) -> None:
    with pytest.raises(ValidationError, match="row id"):
        Row.model_validate(ROW | {"id": name})


def test_inconsistent_tables_are_refused() -> None:
    with pytest.raises(ValidationError, match="'a' stands twice"):
        table(rows=[ROW, ROW])
    with pytest.raises(ValidationError, match="no row 'z'"):
        table(rows=[ROW | {"gain_over": "z"}])
    with pytest.raises(ValidationError, match="no model or no data set"):
        table(model=None)
    with pytest.raises(ValidationError, match="no model or no data set"):
        table(dataset=None)
    assert set(METRICS) >= set(table().columns)
    with pytest.raises(ValidationError, match="columns"):
        table(columns=["speed"])


def test_a_gain_is_counted_over_the_named_row_or_else_the_first() -> None:
    rows = [ROW, ROW | {"id": "b"}, ROW | {"id": "c", "gain_over": "b"}]
    made = table(rows=rows)
    assert [made.baseline_of(row).id for row in made.rows] == ["a", "a", "b"]


def test_a_batch_that_cannot_be_accumulated_is_refused() -> None:
    with pytest.raises(ValidationError, match="not a multiple of accumulation 3"):
        make_training(accumulation=3)


# --- identity -----------------------------------------------------------------------------------

#: fields whose next value cannot be guessed from their present one
OTHERWISE: dict[str, Any] = {
    "working_size": (480, 360),
    "weights": "mscan_t",
    "weights_sha256": "0" * 64,
    "training.optimizer.type": "SGD",
    "training.optimizer.momentum": 0.9,
    "training.accumulation": 4,
    "evaluation.scale": (64, 64),
    "evaluation.multiple_of": 32,
    "evaluation.mode": "slide",
}


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every value in a document that is not itself a container."""
    if isinstance(value, dict) and value:
        return [p for key in value for p in leaves(value[key], (*path, key))]
    if isinstance(value, list) and value:
        return [p for index, item in enumerate(value) for p in leaves(item, (*path, index))]
    return [path]


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value * 2 or 1
    if isinstance(value, float):
        return value / 2 or 0.25
    if isinstance(value, str):
        return value[:-1] + "q"
    if value == {}:
        return {"more": 1}
    if value == []:
        return ["more"]
    raise AssertionError(f"say in OTHERWISE how {value!r} changes")


DOCUMENT = make_spec().model_dump(mode="json")


@pytest.mark.parametrize(
    "path",
    [path for path in leaves(DOCUMENT) if path != ("deviations",)],
    ids=lambda path: ".".join(map(str, path)),
)
def test_every_field_of_a_spec_changes_its_run_id(path: tuple[str | int, ...]) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    name = ".".join(map(str, path))
    holder[path[-1]] = OTHERWISE[name] if name in OTHERWISE else another(holder[path[-1]])
    assert RunSpec.model_validate(document).run_id != make_spec().run_id


def test_the_wording_of_a_deviation_is_no_part_of_the_identity() -> None:
    """What it describes is, in the other fields; the identities of runs without any stay."""
    worded = make_spec(deviations=("crop: 512 (source: 640)", "from scratch"))
    reworded = make_spec(deviations=("crop: 512 where the source has 640",))
    assert worded.run_id == reworded.run_id == make_spec().run_id
    assert '"deviations":[]' in worded.canonical()
    assert worded.deviations != reworded.deviations, "records carry them"


def test_all_fields_were_changed() -> None:
    assert {path[0] for path in leaves(DOCUMENT)} == set(RunSpec.model_fields)


def test_a_run_id_says_what_is_run() -> None:
    pattern = r"segnext_t-softmax-scenes-smoke-s0-[0-9a-f]{12}"
    assert re.fullmatch(pattern, make_spec().run_id)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    st.floats(allow_nan=False, allow_infinity=False),
)
documents = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@given(documents, documents)
def test_canonical_text_survives_a_round_trip_and_forgets_order(
    segmentor: dict[str, Any], settings: dict[str, Any]
) -> None:
    spec = make_spec(segmentor=segmentor, dataset_settings=settings)
    again = RunSpec.model_validate_json(spec.canonical())
    assert again.canonical() == spec.canonical()
    assert again.run_id == spec.run_id
    backwards = dict(reversed(list(segmentor.items())))
    assert make_spec(segmentor=backwards, dataset_settings=settings).run_id == spec.run_id


def test_tuples_and_lists_are_the_same_run() -> None:
    one = make_spec(segmentor={"sizes": (1, 2)})
    assert one.run_id == make_spec(segmentor={"sizes": [1, 2]}).run_id
