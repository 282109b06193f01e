"""The numbers of this project's own pages are those of the shipped runs."""

from __future__ import annotations

from pathlib import Path

from samples import put

from experiments.ask.check import check
from experiments.machine import PROJECT
from experiments.plan.request import stored_request
from experiments.store.areas import ImageAreas

PAGES = [PROJECT / "README.md", PROJECT / "docs" / "results.md"]
REFERENCE = PROJECT / "results" / "reference"
COMMAND = "./run_all.sh check README.md docs/results.md --results results/reference"


def test_the_projects_pages_say_what_is_shipped() -> None:
    checked = check(stored_request("quick", None, REFERENCE), PAGES)
    wrong = [finding for finding in checked.findings if finding.fault != "stale"]
    assert wrong == [], f"{COMMAND} says it line by line, with --fix it rewrites the numbers"
    assert checked.agreeing > 20
    for page in {finding.path for finding in checked.findings}:
        assert "stale" in page.read_text(), f"{page.name} has stale numbers and does not say so"


def test_the_second_papers_page_says_what_is_shipped() -> None:
    folder = PROJECT / "experiments" / "examples" / "context_aware_classifier"
    request = stored_request("quick", None, REFERENCE, registry=[folder])
    checked = check(request, [folder / "README.md"])
    assert checked.findings == []
    assert checked.agreeing >= 12


def test_one_changed_record_fails_the_readme(tmp_path: Path) -> None:
    request = stored_request("quick", None, REFERENCE)
    (planned,) = request.plan([request.registry.table("table8")]).tables
    (row,) = [row for row in planned.rows if row.row.id == "full"]
    record = next(iter(row.records.values()))
    areas = request.store.read_areas(record.run_id)
    runs = tmp_path / "results" / "runs"
    runs.mkdir(parents=True)
    for own in (run.run_id for each in planned.rows for run in each.records.values()):
        if own != record.run_id:
            (runs / own).symlink_to(REFERENCE / "runs" / own)
    changed = stored_request("quick", None, tmp_path / "results")
    worse = ImageAreas(areas.names, areas.intersection // 2, areas.predicted, areas.labelled)
    put(changed.store, record.spec, worse)
    (tmp_path / "results" / "tables").symlink_to(REFERENCE / "tables")
    checked = check(changed, PAGES[:1])
    assert "differs" in {finding.fault for finding in checked.findings}
    assert checked.exit_code == 1
