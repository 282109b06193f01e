"""Which fields of two documents differ."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from experiments.nested import ABSENT, Difference, differences, flatten

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
DOCUMENTS = st.dictionaries(
    st.text("ab", min_size=1, max_size=2),
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
    max_size=4,
)


def test_leaves_are_named_by_their_path() -> None:
    document = {"a": {"b": 1, "c": [2, {"d": None}]}, "e": {}, "f": ()}
    assert flatten(document) == {"a.b": 1, "a.c.0": 2, "a.c.1.d": None, "e": {}, "f": []}


def test_a_field_that_only_one_has_is_absent_in_the_other() -> None:
    found = differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3, "d": 4}})
    assert found == (
        Difference("a.b", 1, 3),
        Difference("a.d", ABSENT, 4),
        Difference("c", 2, ABSENT),
    )


@given(DOCUMENTS, DOCUMENTS)
def test_differences_are_the_same_from_both_sides(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    there, back = differences(first, second), differences(second, first)
    assert [(d.field, d.second, d.first) for d in back] == [
        (d.field, d.first, d.second) for d in there
    ]
    assert differences(first, first) == ()
