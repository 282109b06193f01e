"""docs/reliability.md shows the counts of the shipped campaign and of the shipped fuzz."""

from __future__ import annotations

import pytest

from benchmarks.page import RECORDS, RELIABILITY, reliability, with_table
from benchmarks.record import read_all


def test_the_page_has_the_shipped_counts_or_says_that_there_are_none() -> None:
    """After a change of records: ./run_all.sh bench page."""
    records = read_all(RECORDS)
    text = RELIABILITY.read_text(encoding="utf-8")
    assert reliability(records, text) == text
    for name in {"faults", "fuzz"} & set(records):
        assert all(figure.met is not False for figure in records[name].figures)


@pytest.mark.parametrize("name", ["faults", "fuzz"])
def test_without_a_record_the_page_shows_no_count(name: str) -> None:
    text = reliability({}, RELIABILITY.read_text(encoding="utf-8"))
    assert f"| no record is shipped yet; `./run_all.sh bench {name}` counts | – |" in text


def test_a_table_takes_the_place_of_that_with_its_head() -> None:
    page = "Before.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nAfter.\n"
    new = "| a | b |\n| --- | --- |\n| 5 | 6 |\n"
    replaced = with_table(page, new)
    assert replaced == f"Before.\n\n{new}\nAfter.\n"
    assert with_table(replaced, new) == replaced
    for wrong in ("no table\n", page + page):
        with pytest.raises(ValueError, match="one table of the head"):
            with_table(wrong, new)
