"""The benchmark measures what it says and writes it down."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.classifier import PHASES, PLAIN, Setting, run
from benchmarks.record import read


@pytest.mark.slow
def test_benchmark_writes_every_classifier_and_phase(tmp_path: Path) -> None:
    setting = Setting(
        images=2,
        channels=16,
        classes=40,
        feature_size=24,
        label_size=192,
        threads=1,
        training_rounds=4,
        inference_rounds=4,
    )
    report = run(tmp_path / "out", "cpu", classifiers=["ssa"], setting=setting)
    assert report == read(tmp_path / "out" / "classifier_cpu.json")
    rows = {(row["classifier"], row["phase"]): row for row in report.details}
    assert set(rows) == {(name, phase) for name in (PLAIN, "ssa") for phase in PHASES}
    for row in rows.values():
        assert 0 < row["lower_quartile_ms"] <= row["median_ms"] <= row["upper_quartile_ms"]
    assert all(rows[PLAIN, phase]["ratio_to_plain"] == 1 for phase in PHASES)
    # One upsampled map is 2·40·192²·4 bytes = 11 MiB; plain holds several, ssa none.
    assert rows[PLAIN, "training"]["peak_memory_mib"] > 20
    assert rows["ssa", "training"]["peak_memory_mib"] < rows[PLAIN, "training"]["peak_memory_mib"]
    ratios = {figure.name: figure.value for figure in report.figures if figure.unit == "×"}
    assert ratios["ssa, training"] == rows["ssa", "training"]["ratio_to_plain"]
