"""Counts of networks are looked up where they are kept, then where they are shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.declare.load import load_registry
from experiments.judge.counts import Count, Counter
from experiments.store.workspace import REFERENCE

SHIPPED = sorted((REFERENCE / "complexity").glob("*.json"))
COUNT = Count(params_m=1.0, macs_g=2.0, macs_all_g=3.0, num_classes=150, size=512)


def test_a_shipped_count_is_taken_unless_another_is_kept(tmp_path: Path) -> None:
    registry = load_registry()
    kept, shipped = tmp_path / "kept", tmp_path / "shipped"
    counter = Counter(registry, kept, shipped)
    table = registry.table("table8")
    row = table.rows[0]
    assert counter.known(table, row) is None
    path = counter.path(registry.model("seaformer_l"), row, 150, 512)
    shipped.mkdir()
    (shipped / path.name).write_text(COUNT.model_dump_json())
    assert counter.count(table, row) == COUNT
    assert not kept.exists(), "nothing was counted"
    kept.mkdir()
    path.write_text(COUNT.model_copy(update={"macs_g": 4.0}).model_dump_json())
    assert counter.count(table, row).macs_g == 4.0
    path.write_text("{")
    assert counter.count(table, row) == COUNT
    assert Counter(registry, kept).known(table, row) is None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_shipped_is_whole(path: Path) -> None:
    count = Count.model_validate_json(path.read_text())
    num_classes, size = map(int, path.stem.split("-")[-3:-1])
    assert (count.num_classes, count.size) == (num_classes, size)
