"""A second paper on the same engine: its registry folder, without any table of ours."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from lab import PROJECT, Lab, finished

from experiments.declare.load import load_registry
from experiments.errors import RegistryError

FOLDER = PROJECT / "experiments" / "examples" / "context_aware_classifier"


def test_its_items_stand_in_place_of_ours() -> None:
    own, other = load_registry(), load_registry([FOLDER])
    assert other.paper.name == "CAC"
    assert set(other.tables) == set(other.paper.tables) == {"swin_ade20k"}
    assert set(other.figures) == set(other.paper.figures) == {"swin_curves"}
    assert other.models == own.models
    assert set(own.profiles) - set(other.profiles) == {"paper"}
    assert {"table8", "study_controls"} <= set(load_registry().tables)


def test_a_folder_beside_a_paper_adds_to_its_tables(tmp_path: Path) -> None:
    mine = (FOLDER / "tables" / "swin_ade20k.yaml").read_text(encoding="utf-8")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "mine.yaml").write_text(mine.replace("name: swin_ade20k", "name: mine"))
    assert set(load_registry([FOLDER, tmp_path]).tables) == {"swin_ade20k", "mine"}


def test_two_papers_at_once_are_refused(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "paper.yaml", tmp_path / "paper.yaml")
    with pytest.raises(RegistryError, match="both declare a paper; name one of the folders"):
        load_registry([FOLDER, tmp_path])


def test_a_mistake_in_the_papers_file_is_named(tmp_path: Path) -> None:
    text = (FOLDER / "paper.yaml").read_text(encoding="utf-8")
    path = tmp_path / "paper.yaml"
    path.write_text(text.replace("figures: [swin_curves]", "figures: [swin_ade20k]"))
    with pytest.raises(RegistryError, match="'swin_ade20k' stands twice") as caught:
        load_registry([tmp_path])
    assert str(path) in str(caught.value)


@pytest.mark.slow
def test_its_table_is_run_judged_exported_drawn_and_reported(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "results", FOLDER)
    ran = lab.call("swin_ade20k", "--rows", "swin-t-*", "--seeds", "1")
    assert ran.returncode == 0, ran.stderr
    assert "improves small and large networks" in ran.stdout
    table = json.loads((lab.results / "tables" / "swin_ade20k-smoke.json").read_text())
    measured = [row["row"] for row in table["rows"] if row["miou_percent"] is not None]
    assert measured == ["swin-t-softmax", "swin-t-cac"]
    assert table["rows"][1]["reported_miou_percent"] == 46.91
    assert "CAC" in (lab.results / "tables" / "swin_ade20k-smoke.tex").read_text()
    unknown = lab.call("table8")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("Error: Unknown item or verb 'table8'.")
    drawn = lab.call("swin_curves")
    assert drawn.returncode == 0, drawn.stderr
    reported = finished(
        [
            *(sys.executable, "-m", "analysis.report", "--results", str(lab.results)),
            *("--registry", str(FOLDER)),
        ]
    )
    assert reported.returncode == 0, reported.stderr
    page = (lab.results / "report" / "index.html").read_text(encoding="utf-8")
    assert "<title>CAC: state of the reproduction</title>" in page
    assert "swin_ade20k" in page
    assert not re.search(r"SSA-Seg(?!-lab)|Table 8", page)
