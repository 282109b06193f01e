"""The loading benchmark measures what it says and writes it down."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.loading import BASE, main


def test_it_compares_files_and_packed_images_with_mmsegmentation(tmp_path: Path) -> None:
    small = ["--made", "128x96", "--scale", "128", "96", "--crop", "64", "64"]
    main([*small, "--images", "16", "--rounds", "2", "--workers", "0", "--out", str(tmp_path)])
    report = json.loads((tmp_path / "loading_made.json").read_text())
    rows = {row["variant"]: row for row in report["details"]}
    assert list(rows) == [BASE, "files", "packed"]
    assert rows[BASE]["times_mmsegmentation"] == 1.0
    for row in rows.values():
        assert 0 < row["lowest"] <= row["images_per_second"] <= row["highest"]
        assert row["times_mmsegmentation"] > 0
    assert rows["packed"]["packing_s"] > 0
    assert report["setting"]["crop"] == [64, 64]
