"""What the quick verbs leave unloaded: a list or a Tab key waits for no framework."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from samples import make_areas, put

from experiments.judge.counts import Count
from experiments.judge.tables import counter_of
from experiments.machine import PROJECT, may_have_gpu
from experiments.plan.request import stored_request

FRAMEWORKS = {"torch", "scipy", "cv2", "mmcv", "mmengine", "mmseg"}
HEAVY = FRAMEWORKS | {"numpy", "pandas"}
TAB = {
    "_RUN_ALL_SH_COMPLETE": "complete_bash",
    "COMP_CWORD": "2",
    "COMP_WORDS": "./run_all.sh plan table",
}


def loaded_packages(*arguments: str, **environment: str) -> tuple[set[str], str]:
    """The top-level packages that a call of the door imported, and what it printed."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "importtime", "-m", "experiments", *arguments],
        cwd=PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}, ended.stdout


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [(["list"], "table8"), (["--help"], "Usage"), (["why", "--help"], "Usage")],
)
def test_quick_verbs_load_no_framework(arguments: list[str], printed: str) -> None:
    packages, output = loaded_packages(*arguments)
    assert printed in output
    assert "typer" in packages  # imports were seen at all
    assert not packages & HEAVY


TABLE = """
name: pair
title: Two small rows
source: nowhere
model: segnext_t
dataset: ade20k
columns: [macs_g, miou]
rows:
  - {id: baseline, label: Baseline, classifier: {name: softmax}, reported: {miou: 40.0}}
  - {id: full, label: SSA-Seg, classifier: {name: ssa}}
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that name results with a record and a count of every row of a table."""
    folder = tmp_path_factory.mktemp("startup")
    results, registry = folder / "results", folder / "registry"
    (registry / "tables").mkdir(parents=True)
    (registry / "tables" / "pair.yaml").write_text(TABLE)
    request = stored_request("smoke", 1, results, registry=[registry])
    table = request.registry.table("pair")
    counter, card = counter_of(request), request.registry.model("segnext_t")
    count = Count(params_m=4.26, macs_g=6.1, macs_all_g=6.2, num_classes=150, size=512)
    for row in request.plan([table]).tables[0].rows:
        (cell,) = row.cells
        assert cell.spec is not None
        put(request.store, cell.spec, make_areas(0))
        path = counter.path(card, row.row, 150, 512)
        path.parent.mkdir(exist_ok=True)
        path.write_text(count.model_dump_json())
    return [
        *("--profile", "smoke", "--seeds", "1"),
        *("--results", str(results), "--registry", str(registry)),
    ]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["plan", "pair"], "2 cached"),
        (["why", "pair", "full"], "SSA-Seg"),
        (["why", "pair", "full", "gain"], "95 % interval"),
        (["why", "pair", "full", "macs_g"], "6.10"),
        (["status"], "pair"),
        (["export", "pair"], "pair-smoke.{csv,md,tex,json}"),
        (["pair"], "pair-smoke.{csv,md,tex,json}"),  # complete: there is nothing left to train
    ],
)
def test_verbs_that_train_nothing_load_no_framework(
    stored: list[str], arguments: list[str], printed: str
) -> None:
    packages, output = loaded_packages(*arguments, *stored)
    assert printed in " ".join(output.split())
    assert "numpy" in packages  # imports were seen at all
    # whoever judges needs the distributions of statistics
    judging = {"scipy"} if arguments[0] in ("why", "export", "pair") else set()
    asking = {"torch"} if arguments[0] == "pair" and may_have_gpu() else set()
    assert not packages & (FRAMEWORKS - judging - asking)


def test_mmengine_is_imported_without_what_no_run_uses() -> None:
    program = (
        "import sys\n"
        "from experiments.imports import NEEDLESS, import_mmengine\n"
        "import_mmengine()\n"
        "assert 'mmengine.runner' in sys.modules\n"
        "print([name in sys.modules for name in NEEDLESS])\n"
        "import transformers, torch.distributed.optim\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[-2] == "[False, False]"


def test_tab_loads_no_framework() -> None:
    packages, output = loaded_packages(**TAB)
    assert "table8" in output
    assert not packages & HEAVY
